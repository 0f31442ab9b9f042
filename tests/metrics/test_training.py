"""train_metrics: decayed sums of the last steps."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.metrics.loops import rows_by_group
from trainer.config import ConfigError, parse_config
from trainer.metrics import Ranks
from trainer.metrics.requests import BINARY, REGRESSION, check_train_metrics
from trainer.metrics.training import DecayedMetric

ALONE, CPU = Ranks.alone(), torch.device("cpu")


def metric(text: str) -> DecayedMetric:
    config = parse_config(f"model_config {{ train_metrics {{ {text} }} }}")
    return DecayedMetric(config.model_config.train_metrics[0])


class Batch:
    """As much of a SessionBatch as metrics look at."""

    def __init__(self, session):
        starts = np.flatnonzero(np.diff(session, prepend=-1))
        self.session_offsets = torch.tensor([*starts, len(session)])


def steps(num_steps: int, rows: int, seed: int):
    rng = np.random.default_rng(seed)
    for _ in range(num_steps):
        score = rng.random(rows, dtype=np.float32)
        label = (rng.random(rows) < score).astype(np.float32)
        yield score, label, np.sort(rng.integers(0, rows // 5, rows))


def add(of: DecayedMetric, score, label, session) -> None:
    batch: Any = Batch(session)
    of.update(torch.from_numpy(score), torch.from_numpy(label), batch)


def test_auc_of_the_first_steps_is_that_of_their_rows():
    auc = metric("auc {}")
    assert math.isnan(auc.compute(ALONE))
    rows = list(steps(3, 500, 0))
    for row in rows:
        add(auc, *row)
    score, label = (np.concatenate([row[i] for row in rows]) for i in range(2))
    assert auc.compute(ALONE) == pytest.approx(roc_auc_score(label, score), abs=1e-3)


@pytest.mark.parametrize("text", ["mean_absolute_error {}", "mean_squared_error {}"])
def test_errors_decay_every_decay_step(text):
    error = metric(f"{text} decay_rate: 0.75 decay_step: 2")
    square = "squared" in text
    expected, recent = None, np.empty(0)
    for number, (score, label, session) in enumerate(steps(5, 40, 1), start=1):
        add(error, score, label, session)
        gaps = np.abs(score - label) ** (2 if square else 1)
        recent = gaps if number % 2 else np.concatenate([recent, gaps])
        if number % 2 == 0:
            new = recent.mean()
            expected = new if expected is None else 0.75 * expected + 0.25 * new
            assert error.compute(ALONE) == pytest.approx(expected, rel=1e-6)
    assert error.compute(ALONE) == pytest.approx(expected, rel=1e-6)  # the fifth step waits


def test_a_metric_goes_on_from_the_sums_of_all_ranks():
    whole, stopped, first, second = (metric("auc {} decay_step: 2") for _ in range(4))
    rows = list(steps(5, 40, 1))
    for row in rows:
        add(whole, *row)
    for row in rows[:3]:
        add(stopped, *row)
    state = json.loads(json.dumps(stopped.state(ALONE)))
    for rank, resumed in enumerate((first, second)):
        resumed.load_state(state, Ranks(None, rank, 2, CPU), CPU)
    for row in rows[3:]:
        add(first, *row)
    assert first.compute(ALONE) == whole.compute(ALONE)
    assert math.isnan(second.compute(ALONE))  # the first rank has it all


def test_recall_is_within_sessions():
    recall = metric("recall_at_k { top_k: 2 }")
    score, label, session = next(iter(steps(1, 60, 2)))
    add(recall, score, label, session)
    hits = 0
    for mine in rows_by_group(session.tolist()).values():
        best = sorted(mine, key=lambda i: -score[i])[:2]
        hits += sum(label[i] for i in best)
    assert recall.compute(ALONE) == pytest.approx(hits / label.sum())


def test_accuracy_of_two_and_of_more_classes():
    accuracy = metric("accuracy { threshold: 0.3 }")
    score, label, session = next(iter(steps(1, 60, 3)))
    add(accuracy, score, label, session)
    assert accuracy.compute(ALONE) == pytest.approx(((score > 0.3) == (label == 1)).mean())

    top_two = metric("accuracy { top_k: 2 }")
    rng = np.random.default_rng(4)
    score, label = rng.random((60, 5)), rng.integers(0, 5, 60)
    add(top_two, score, label, session)
    right = [y in np.argsort(p)[-2:] for p, y in zip(score, label, strict=True)]
    assert top_two.compute(ALONE) == pytest.approx(np.mean(right))


def test_xauc_is_near_that_of_all_pairs():
    xauc = metric("xauc {}")
    rng = np.random.default_rng(5)
    score, label = rng.normal(size=(2, 20_000))
    add(xauc, score, label, np.zeros(20_000, dtype=np.int64))
    assert xauc.compute(ALONE) == pytest.approx(0.5, abs=0.02)
    add(perfect := metric("xauc {}"), label, label, np.zeros(20_000, dtype=np.int64))
    assert perfect.compute(ALONE) == 1.0
    add(single := metric("xauc {}"), label[:1], label[:1], np.zeros(1, dtype=np.int64))
    assert math.isnan(single.compute(ALONE))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", BINARY, "each `train_metrics` must name a metric, but one is empty"),
        ("xauc {}", BINARY, "train_metrics: xauc needs a loss for a real number"),
        ("auc {}", REGRESSION, "train_metrics: auc needs a loss for two classes"),
        ("auc {} decay_rate: 1", BINARY, "decay_rate must be in [0, 1), got: 1"),
        ("auc {} decay_step: 0", BINARY, "decay_step must be positive, but got: 0"),
        ("recall_at_k { top_k: 0 }", BINARY, "top_k must be positive"),
    ],
)
def test_message(text, kind, message):
    config = parse_config(f"model_config {{ train_metrics {{ {text} }} }}")
    with pytest.raises(ConfigError) as caught:
        check_train_metrics(config.model_config.train_metrics, kind, "task `click`")
    assert message in str(caught.value)
