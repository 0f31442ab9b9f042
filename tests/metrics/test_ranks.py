"""Two gloo ranks give the metrics of one process, on both ranks, however the rows are shared."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import json, sys
import numpy as np
import torch
import torch.distributed as dist
from trainer.metrics import BinaryMetrics, MulticlassMetrics, Ranks, RegressionMetrics
from trainer.metrics.group_rows import GroupRows
from trainer.metrics.groups import grouped_auc, grouped_xauc
from trainer.metrics.requests import Requests

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
rng = np.random.default_rng(0)
session = np.sort(rng.integers(0, 60, 400))
user = rng.integers(0, 30, 400) * 10**14
score = rng.random((400, 3)) / 3
label = rng.integers(0, 3, 400)
asked = Requests(group_by=["user"], fields={"user": 0.01}, ndcg_at=[3], recall_at=[2], mrr=True,
                 thresholds=[0.5], averages=["macro"], xauc=True, top_k=[1, 2])
KINDS = {
    "binary": (lambda: BinaryMetrics("click", asked), score[:, 0], label == 0),
    "coarse": (lambda: BinaryMetrics("click", asked, max_scores=50), score[:, 0], label == 0),
    "multiclass": (lambda: MulticlassMetrics("kind", 3, asked), score, label),
    "regression": (lambda: RegressionMetrics("stay", asked), score[:, 1], score[:, 2]),
}
edge = int(np.searchsorted(session, 20))
SHARES = {"uneven": (0, edge, 400), "second empty": (0, 400, 400), "first empty": (0, 0, 400)}

def added(metrics, first, last):
    for some in np.split(np.arange(400), np.flatnonzero(np.diff(session)) + 1):
        if first <= some[0] < last:
            metrics.update(own[some], truth[some], session[some], {"user": user[some]})
    return metrics

answers = {}
for kind, (build, own, truth) in KINDS.items():
    whole = added(build(), 0, 400)
    answers[kind] = whole.compute(Ranks.alone())
    if kind == "binary":
        answers["plots"] = whole.plots(Ranks.alone())
    for name, cuts in SHARES.items():
        metrics = added(build(), cuts[rank], cuts[rank + 1])
        answers[f"{kind}, {name}"] = metrics.compute(Ranks.of())
        if kind == "binary":
            answers[f"plots, {name}"] = metrics.plots(Ranks.of())
    answers[f"{kind}, nothing"] = build().compute(Ranks.of())["rows"]

few = np.arange(400) // 200 * 7
for kind, metric in {"auc": grouped_auc, "xauc": grouped_xauc}.items():
    own = slice(*[(0, 330), (330, 400)][rank])  # the first rank has a part of either group
    thinned, whole = (GroupRows(by_label=kind == "auc", max_rows=n) for n in (100, 1_000))
    for each in (thinned, whole):
        each.update(score[own, 0], label[own] == 0, few[own], np.arange(400)[own])
        found = metric(each, Ranks.of())
        answers.setdefault(f"few groups, {kind}", []).append(
            [found.weighted, found.stderr, found.coverage, found.group_coverage])

bad = BinaryMetrics("click")
bad.update(np.array([[0.5, np.nan][rank]]), np.zeros(1), np.zeros(1, dtype=np.int64))
try:
    bad.compute(Ranks.of())
except ValueError as error:
    answers["error"] = str(error)
group = [dist.new_group([r]) for r in range(2)][rank]
alone = BinaryMetrics()
alone.update(np.full(rank + 1, 0.5), np.zeros(rank + 1), np.arange(rank + 1))
answers["own group"] = alone.compute(Ranks.of(group))["rows"]
json.dump(answers, open(f"{folder}/answers{rank}.json", "w"))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> list[dict]:
    """What each of two ranks computed."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    return [json.loads((folder / f"answers{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("share", ["uneven", "second empty", "first empty"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_two_ranks_give_the_metrics_of_one(answers, kind, share):
    for answer in answers:
        assert answer[f"{kind}, {share}"] == pytest.approx(answer[kind], rel=1e-12)
    first, second = (json.dumps(answer[f"{kind}, {share}"]) for answer in answers)
    assert first == second  # the same bits
    assert all(answer[f"{kind}, nothing"] == 0 for answer in answers)


@pytest.mark.parametrize("share", ["uneven", "second empty", "first empty"])
def test_two_ranks_give_the_plots_of_one(answers, share):
    one, two, other = answers[0]["plots"], *(answer[f"plots, {share}"] for answer in answers)
    assert json.dumps(two) == json.dumps(other)  # the same bits
    assert len(one["fields"]["user"]["largest"]) == 15
    assert numbers(two) == pytest.approx(numbers(one), rel=1e-9)


def numbers(value) -> list[float]:
    """All of a structure, in its order; missing ones are -1."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [-1.0 if math.isnan(value) else float(value)]


def test_coarse_areas_of_two_ranks_are_within_their_bound(answers):
    exact = answers[0]["binary"]["auc"]
    for name in ("coarse", "coarse, uneven", "coarse, second empty"):
        found = answers[0][name]
        assert abs(found["auc"] - exact) <= found["auc_error_bound"]
        assert 0 < found["auc_error_bound"] < 0.2


@pytest.mark.parametrize("kind", ["auc", "xauc"])
def test_few_groups_of_two_ranks_are_measured_on_some_rows_of_both(answers, kind):
    for answer in answers:
        (found, stderr, *coverage), (exact, none, *_) = answer[f"few groups, {kind}"]
        assert abs(found - exact) < 3 * stderr
        assert 0 < stderr < 0.2
        assert (none, coverage) == (0.0, [1.0, 1.0])
    assert answers[0] == {**answers[1], "own group": answers[0]["own group"]}


def test_bad_scores_of_one_rank_are_an_error_on_both(answers):
    for answer in answers:
        assert "scores of task 'click' must not be NaN, but 1 of 2 are" in answer["error"]


def test_a_group_of_ranks_counts_its_own_rows(answers):
    assert [answer["own group"] for answer in answers] == [1.0, 2.0]
