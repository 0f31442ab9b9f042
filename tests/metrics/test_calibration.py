"""Calibration metrics against loops."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import log_loss

from trainer.metrics.calibration import (
    CalibrationSums,
    FieldSums,
    calibration_error,
    normalized_entropy,
)
from trainer.metrics.intervals import wilson_interval


def click_rows(num_rows: int, seed: int):
    rng = np.random.default_rng(seed)
    prob = rng.beta(1.0, 5.0, num_rows)
    return prob, rng.random(num_rows) < np.sqrt(prob) * 0.6, rng.integers(0, 9, num_rows)


def looped_ece(prob, label, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        mine = [i for i, p in enumerate(prob) if min(int(p * bins), bins - 1) == number]
        if mine:
            gap = abs(float(np.mean(prob[mine]) - np.mean(label[mine])))
            total += len(mine) / len(prob) * gap
    return total


def test_sums_give_each_metric_whatever_the_batches():
    prob, label, _ = click_rows(1_003, 0)
    sums = CalibrationSums((15, 4))
    for some in np.array_split(np.arange(1_003), 7):
        sums.update(prob[some], label[some])
    found = sums.metrics(eta=1e-12)
    base = np.full(1_003, label.mean())
    assert found["logloss"] == pytest.approx(log_loss(label, prob), rel=1e-12)
    expected = log_loss(label, prob) / log_loss(label, base)
    assert found["normalized_entropy"] == pytest.approx(expected, rel=1e-12)
    assert found["pcoc"] == pytest.approx(prob.sum() / label.sum(), rel=1e-12)
    for bins in (15, 4):
        assert found[f"ece@{bins}"] == pytest.approx(looped_ece(prob, label, bins), rel=1e-9)
    assert sums.log_odds.sum(axis=0) == pytest.approx([1_003, prob.sum(), label.sum()])


def test_sure_predictions_lie_in_the_last_bins():
    sums = CalibrationSums((10,))
    sums.update(np.array([0.0, 1.0]), np.array([False, True]))
    assert sums.equal_width[10][[0, 9], 0].tolist() == [1, 1]
    assert sums.log_odds[[0, -1], 0].tolist() == [1, 1]
    assert calibration_error(sums.equal_width[10]) == 0.0


def test_normalized_entropy_of_the_mean_label_is_one():
    label = np.array([True, False, False, False])
    assert normalized_entropy(log_loss(label, np.full(4, 0.25)), 1, 4) == pytest.approx(1.0)
    for positives in (0, 4):  # one class: nothing to predict
        assert math.isnan(normalized_entropy(0.1, positives, 4))


def test_a_perfect_model_has_no_calibration_error():
    assert calibration_error(np.array([[4, 1.0, 1], [2, 2.0, 2]])) == 0.0
    assert math.isnan(calibration_error(np.zeros((3, 3))))


def looped_field_rce(prob, label, value, epsilon: float) -> float:
    total = 0.0
    for each in set(value.tolist()):
        mine = value == each
        error = abs((label[mine] - prob[mine]).sum())
        total += mine.sum() * error / (label[mine] + epsilon).sum()
    return total / len(prob)


def test_field_rce_equals_the_loop():
    prob, label, value = click_rows(997, 1)
    fields = FieldSums()
    for some in np.array_split(np.arange(997), 5):
        fields.update(prob[some], label[some], value[some] * 10**17)
    found = fields.field_rce(0.01)
    assert found.weighted == pytest.approx(looped_field_rce(prob, label, value, 0.01))
    assert found.stderr == 0.0
    assert math.isnan(FieldSums().field_rce(0.01).weighted)


def test_of_too_many_values_a_random_part_is_kept_with_its_standard_error():
    rng = np.random.default_rng(2)
    value = rng.integers(0, 4_000, 100_000)
    prob = rng.random(100_000) * 0.5
    label = rng.random(100_000) < prob * (0.5 + (value % 7) / 7)
    fields = FieldSums(max_values=1_000)
    for some in np.array_split(np.arange(100_000), 50):
        fields.update(prob[some], label[some], value[some])
    assert len(fields.sums()[0]) <= 1_000
    found = fields.field_rce(0.01)
    exact = looped_field_rce(prob, label, value, 0.01)
    assert 0 < found.stderr < 0.2
    assert abs(found.weighted - exact) < 4 * found.stderr


def test_largest_values_are_those_with_most_rows_and_their_sums():
    prob, label, value = click_rows(997, 5)
    fields = FieldSums()
    for some in np.array_split(np.arange(997), 4):
        fields.update(prob[some], label[some], value[some])
    found = fields.largest(4)
    counts = sorted(np.bincount(value).tolist(), reverse=True)
    assert [rows for _, rows, _, _ in found] == counts[:4]
    for key, rows, positives, predicted in found:
        mine = value == key
        assert (rows, positives) == (mine.sum(), label[mine].sum())
        assert predicted == pytest.approx(prob[mine].sum())
    assert len(fields.largest(100)) == 9


@pytest.mark.parametrize(("positives", "rows"), [(0, 1), (1, 1), (0, 40), (3, 10), (999, 10_000)])
def test_wilson_interval_is_scipys(positives, rows):
    expected = binomtest(positives, rows).proportion_ci(method="wilson")
    low, high = wilson_interval([positives], [rows])
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-12)
