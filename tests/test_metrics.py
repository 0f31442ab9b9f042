"""Metrics against plain loops and scikit-learn, on one process and over two gloo ranks."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from trainer.metrics import (
    METRIC_NAMES,
    MetricAccumulator,
    auc,
    binary_metrics,
    gauc,
    log_loss,
    pcoc,
)

ROOT = Path(__file__).resolve().parents[1]


def pairwise_auc(scores, labels) -> float:
    """Share of (positive, negative) pairs in the right order; a tie counts one half."""
    positives = [s for s, y in zip(scores, labels, strict=True) if y == 1]
    negatives = [s for s, y in zip(scores, labels, strict=True) if y == 0]
    if not positives or not negatives:
        return math.nan
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def looped_gauc(scores, labels, groups) -> tuple[float, float, float]:
    """Weighted, unweighted, coverage: group by group."""
    areas, rows = [], []
    for group in sorted(set(groups)):
        mine = [i for i, g in enumerate(groups) if g == group]
        area = pairwise_auc([scores[i] for i in mine], [labels[i] for i in mine])
        if not math.isnan(area):
            areas.append(area)
            rows.append(len(mine))
    if not areas:
        return math.nan, math.nan, 0.0
    weighted = sum(a * r for a, r in zip(areas, rows, strict=True)) / sum(rows)
    return weighted, sum(areas) / len(areas), sum(rows) / len(scores)


rows_strategy = st.lists(
    # Few distinct scores: heavy ties. Few groups: some of one class.
    st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(-3, 3)),
    max_size=30,
)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(rows=rows_strategy)
def test_auc_and_gauc_equal_the_loops(rows):
    scores = [row[0] / 4 for row in rows]
    labels, groups = [row[1] for row in rows], [row[2] for row in rows]
    assert auc(scores, labels) == pytest.approx(pairwise_auc(scores, labels), nan_ok=True)
    grouped = gauc(scores, labels, groups)
    actual = (grouped.weighted, grouped.unweighted, grouped.coverage)
    assert actual == pytest.approx(looped_gauc(scores, labels, groups), nan_ok=True)


@pytest.mark.parametrize("levels", [2, 7, 10**6], ids=lambda levels: f"{levels} levels")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auc_equals_sklearn(dtype, levels):
    rng = np.random.default_rng(levels)
    scores = (rng.integers(0, levels, 20_001) / levels).astype(dtype)
    labels = (rng.random(20_001) < 0.1 + 0.3 * scores).astype(np.int64)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-13)


def test_gauc_of_many_groups_equals_sklearn_per_group():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 6_000) * 10**15
    scores = rng.integers(0, 50, 6_000) / 50
    labels = (rng.random(6_000) < 0.2).astype(bool)
    areas, rows = [], []
    for group in np.unique(groups):
        mine = groups == group
        if 0 < labels[mine].sum() < mine.sum():
            areas.append(roc_auc_score(labels[mine], scores[mine]))
            rows.append(mine.sum())
    grouped = gauc(scores, labels, groups)
    assert grouped.weighted == pytest.approx(np.average(areas, weights=rows), abs=1e-13)
    assert grouped.unweighted == pytest.approx(np.mean(areas), abs=1e-13)
    assert grouped.coverage == pytest.approx(sum(rows) / 6_000)


def test_log_loss_and_pcoc():
    rng = np.random.default_rng(1)
    probs = rng.uniform(0.01, 0.99, 1_001).astype(np.float32)
    labels = (rng.random(1_001) < probs).astype(np.float32)
    expected = sklearn_log_loss(labels, probs.astype(np.float64))
    assert log_loss(probs, labels) == pytest.approx(expected, rel=1e-12)
    assert pcoc(probs, labels) == pytest.approx(probs.sum(dtype=np.float64) / labels.sum())


def test_sure_and_wrong_is_clipped():
    assert log_loss([0.0, 1.0], [1, 0]) == pytest.approx(-math.log(1e-7))
    assert log_loss([0.0, 1.0], [0, 1]) == pytest.approx(1e-7, rel=1e-6)


def test_undefined_metrics_are_nan():
    one_class = binary_metrics([0.2, 0.4], [0, 0], [1, 1])
    for name in ("auc", "gauc", "gauc_unweighted", "pcoc"):
        assert math.isnan(one_class[name])
    assert one_class["gauc_coverage"] == 0.0
    assert one_class["logloss"] == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    nothing = binary_metrics([], [], [])
    assert nothing["rows"] == nothing["positives"] == nothing["gauc_coverage"] == 0.0
    assert all(math.isnan(nothing[name]) for name in ("auc", "gauc", "logloss", "pcoc"))
    assert tuple(nothing) == METRIC_NAMES


def make_rows(num_rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(num_rows, generator=generator)
    labels = (torch.rand(num_rows, generator=generator) < 0.3).float()
    return probs, labels, torch.randint(0, 40, (num_rows,), generator=generator)


def test_accumulator_equals_one_call_over_all_rows():
    probs, labels, groups = make_rows(503, 0)
    accumulator = MetricAccumulator("click")
    for batch in torch.arange(503).split(100):
        buffer = probs[batch].clone()
        accumulator.update(buffer, labels[batch], groups[batch])
        buffer.zero_()  # a reader may reuse its memory
    expected = binary_metrics(probs.numpy(), labels.numpy(), groups.numpy())
    assert accumulator.compute() == expected
    assert accumulator.compute() == expected  # computing does not consume
    accumulator.reset()
    assert accumulator.compute()["rows"] == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_accumulator_takes_any_float_type(dtype):
    probs, labels, groups = make_rows(50, 1)
    accumulator = MetricAccumulator()
    accumulator.update(probs.to(dtype).requires_grad_(), labels.bool(), groups)
    expected = binary_metrics(probs.to(dtype).double().numpy(), labels.numpy(), groups.numpy())
    assert accumulator.compute() == expected


WORKER = """
import json, sys
import torch
import torch.distributed as dist
import trainer.metrics
from trainer.metrics import MetricAccumulator

rank, folder = int(sys.argv[1]), sys.argv[2]
trainer.metrics._ROWS_PER_GATHER = 37  # several rounds, the last one uneven
dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
answers = {}
for name, share in json.load(open(f"{folder}/shares.json")).items():
    accumulator = MetricAccumulator("click")
    probs, labels, groups = torch.load(f"{folder}/rows.pt")
    start, end = share[rank]
    for some in torch.arange(start, end).split(50):
        accumulator.update(probs[some], labels[some], groups[some])
    answers[name] = accumulator.compute()
bad = MetricAccumulator("click")
value = float("nan") if rank == 1 else 0.5
bad.update(torch.tensor([value]), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
try:
    bad.compute()
except ValueError as error:
    answers["error"] = str(error)
alone = MetricAccumulator()
group = [dist.new_group([r]) for r in range(2)][rank]
alone.update(torch.full((rank + 1,), 0.5), torch.zeros(rank + 1), torch.arange(rank + 1))
answers["own group"] = alone.compute(group)["rows"]
json.dump(answers, open(f"{folder}/answers{rank}.json", "w"))
dist.destroy_process_group()
"""


def test_two_ranks_return_the_answer_of_one_process(tmp_path):
    probs, labels, groups = make_rows(211, 2)
    shares = {
        "uneven": [(0, 30), (30, 211)],
        "second empty": [(0, 211), (211, 211)],
        "first empty": [(0, 0), (0, 211)],
        "both empty": [(0, 0), (0, 0)],
    }
    torch.save((probs, labels, groups), tmp_path / "rows.pt")
    (tmp_path / "shares.json").write_text(json.dumps(shares))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    answers = [json.loads((tmp_path / f"answers{rank}.json").read_text()) for rank in range(2)]
    expected = binary_metrics(probs.numpy(), labels.numpy(), groups.numpy())
    nothing = binary_metrics([], [], [])
    for answer in answers:
        for name in ("uneven", "second empty", "first empty"):
            # Equal rows in another order: sums may round differently in the last place.
            assert answer[name] == pytest.approx(expected, rel=1e-13)
        assert answer["both empty"] == pytest.approx(nothing, nan_ok=True)
        assert "scores of task 'click' must not be NaN, but 1 of 2 are" in answer["error"]
    for name in shares:
        assert json.dumps(answers[0][name]) == json.dumps(answers[1][name])  # the same bits
    assert [answer["own group"] for answer in answers] == [1.0, 2.0]


GOOD = np.array([0.5, 0.5])
ZEROS = torch.zeros(2)
IDS = torch.zeros(2, dtype=torch.int64)


def computed(probs: torch.Tensor, labels: torch.Tensor) -> None:
    accumulator = MetricAccumulator("click")
    accumulator.update(probs, labels, IDS)
    accumulator.compute()


MESSAGES = {
    "nan": (
        lambda: auc([math.nan, 0.5], [0, 1]),
        "scores must not be NaN, but 1 of 2 are; look for",
    ),
    "nan with task": (
        lambda: binary_metrics([math.nan, 0.5], [0, 1], [0, 0], "buy"),
        "scores of task 'buy' must not be NaN, but 1 of 2 are",
    ),
    "nan accumulated": (
        lambda: computed(torch.tensor([math.nan, 0.5]), ZEROS),
        "scores of task 'click' must not be NaN, but 1 of 2 are",
    ),
    "logits": (
        lambda: log_loss([-3.0, 0.5], [0, 1]),
        "probabilities must be in [0, 1], but 1 of 2 are not; apply a sigmoid",
    ),
    "logits accumulated": (
        lambda: computed(torch.tensor([3.0, 0.5]), ZEROS),
        "probabilities of task 'click' must be in [0, 1], but 1 of 2 are not",
    ),
    "labels": (
        lambda: pcoc(GOOD, [0, 2]),
        "labels must be 0 or 1, but 1 of 2 are not; binarise the label column",
    ),
    "labels accumulated": (
        lambda: computed(ZEROS, torch.tensor([0.5, math.nan])),
        "labels of task 'click' must be 0 or 1, but 2 of 2 are not",
    ),
    "score shape": (
        lambda: auc(np.zeros((2, 1)), [0, 1]),
        "scores must have shape (N,), but got (2, 1); select one column",
    ),
    "label shape": (
        lambda: auc(GOOD, [0]),
        "labels must have the shape of the scores, (2,), but got (1,); pass one value per row",
    ),
    "group shape": (
        lambda: gauc(GOOD, [0, 1], [0]),
        "groups must have the shape of the scores, (2,), but got (1,)",
    ),
    "batch shape": (
        lambda: MetricAccumulator("click").update(ZEROS[:, None], ZEROS, IDS),
        "probs and labels of task 'click' must both have shape (B,), but got (2, 1) and (2,)",
    ),
    "batch groups": (
        lambda: MetricAccumulator("click").update(ZEROS, ZEROS, IDS[:1]),
        "probs and groups of task 'click' must both have shape (B,), but got (2,) and (1,)",
    ),
    "group type": (
        lambda: MetricAccumulator("click").update(ZEROS, ZEROS, IDS.int()),
        "groups of task 'click' must be int64, but got torch.int32; pass groups.long()",
    ),
}


@pytest.mark.parametrize(("call", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_message(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below, literally
        call()
    assert message in str(caught.value)


def test_a_million_rows_take_seconds():
    rng = np.random.default_rng(3)
    probs = rng.random(1_000_000).astype(np.float32)
    labels = rng.random(1_000_000) < 0.1
    metrics = binary_metrics(probs, labels, rng.integers(0, 100_000, 1_000_000))
    assert metrics["gauc"] == pytest.approx(0.5, abs=0.01)
