"""Bootstrap intervals of the differences of two models."""

import numpy as np
import pytest

from trainer.compare import METRICS, WeightedMetrics, compare
from trainer.metrics import binary_metrics


def click_rows(num_sessions: int, seed: int):
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(num_sessions), rng.integers(1, 8, num_sessions))
    prob = rng.beta(1.0, 3.0, len(session))
    return prob, (rng.random(len(prob)) < prob).astype(np.int64), session


def test_metrics_with_weights_are_those_of_repeated_sessions():
    prob, label, session = click_rows(40, 0)
    weights = np.random.default_rng(1).poisson(1.0, 40)
    rows = [(i, copy) for i, s in enumerate(session) for copy in range(weights[s])]
    chosen = np.array([i for i, _ in rows])
    repeated = session[chosen] * 100 + np.array([copy for _, copy in rows])  # each copy a session
    expected = binary_metrics(prob[chosen], label[chosen], repeated)
    found = WeightedMetrics(prob, label, session).of_weights(weights)
    for name in METRICS[:-1]:
        assert found[name] == pytest.approx(expected[name])
    alone = WeightedMetrics(prob, label, session).of_weights(np.ones(40, dtype=np.int64))
    assert alone["ece_equal_mass"] == pytest.approx(
        binary_metrics(prob, label, session)["ece_equal_mass"], abs=0.02
    )


def test_a_model_equals_itself():
    prob, label, session = click_rows(100, 2)
    for name, found in compare(prob, prob, label, session, replicates=20).items():
        assert (found.value, found.low, found.high, found.is_sure) == (0, 0, 0, False), name


def test_a_worse_model_is_seen_to_be_worse():
    prob, label, session = click_rows(3_000, 3)
    noisy = np.clip(prob * np.random.default_rng(4).uniform(0.2, 1.8, len(prob)), 0.0, 1.0)
    found = compare(prob, noisy, label, session, replicates=100)
    assert found["auc"].high < 0 and found["gauc"].high < 0 and found["logloss"].low > 0
    assert all(found[name].low <= found[name].value <= found[name].high for name in METRICS)


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    held = 0
    for seed in range(60):
        prob, label, session = click_rows(150, 100 + seed)
        noise = np.random.default_rng(seed).normal(0.0, 0.05, len(prob))
        other = np.clip(prob + noise, 0.01, 0.99)
        found = compare(prob, other, label, session, replicates=100, seed=seed)
        # E[log-loss difference] is known: the labels are drawn from prob.
        truth = np.mean(prob * np.log(prob / other) + (1 - prob) * np.log((1 - prob) / (1 - other)))
        held += found["logloss"].low <= truth <= found["logloss"].high
    assert 50 <= held <= 60
