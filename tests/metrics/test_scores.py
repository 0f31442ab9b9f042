"""AUC and bins of equal mass from counts per score, exact and coarse."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.metrics.scores import ScoreCounts


def click_rows(num_rows: int, seed: int, dtype: type[np.floating] = np.float32):
    rng = np.random.default_rng(seed)
    score = rng.beta(0.5, 4.0, num_rows).astype(dtype)
    return score, rng.random(num_rows) < score


def counted(score, label, max_scores: int, rows_per_update: int) -> ScoreCounts:
    counts = ScoreCounts(max_scores)
    for start in range(0, len(score), rows_per_update):
        some = slice(start, start + rows_per_update)
        counts.update(score[some], label[some])
    return counts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows_per_update", [1, 7, 5_000])
def test_few_scores_are_exact(rows_per_update, dtype):
    score, label = click_rows(2_003, 0, dtype)
    counts = counted(score, label, 4_096, rows_per_update)
    area, bound = counts.auc()
    assert area == pytest.approx(roc_auc_score(label, score), abs=1e-13)
    assert bound == 0.0


@pytest.mark.parametrize("max_scores", [2, 16, 256, 4_096])
def test_many_scores_are_within_the_stated_bound_in_constant_memory(max_scores):
    score, label = click_rows(30_000, 1)
    counts = counted(score, label, max_scores, 1_000)
    area, bound = counts.auc()
    assert abs(area - roc_auc_score(label, score)) <= bound
    assert len(counts.sums()[0]) <= max_scores
    assert counts.sums()[1][0].sum() == 30_000
    assert bound < 8 / max_scores  # a bound that says nothing would be of no use


def test_coarse_ties_count_one_half():
    """Two scores that became one run: the area is in the middle, the bound covers both ends."""
    counts = counted(np.array([0.5, 0.5000001]), np.array([False, True]), 1, 2)
    assert counts.auc() == (0.5, 0.5)


def test_one_class_and_no_rows_have_no_area():
    for label in (True, False):
        area, bound = counted(np.array([0.1, 0.9]), np.array([label, label]), 8, 2).auc()
        assert math.isnan(area)
        assert bound == 0.0
    assert math.isnan(ScoreCounts().auc()[0])
    assert ScoreCounts().equal_mass_bins(3).tolist() == [[0, 0, 0]] * 3


def test_negative_zero_is_zero():
    counts = counted(np.array([-0.0, 0.0]), np.array([True, False]), 8, 2)
    assert counts.auc() == (0.5, 0.0)


def test_bins_of_equal_mass_hold_equal_rows_in_order_of_score():
    score, label = click_rows(1_000, 2, np.float64)
    table = counted(score, label, 4_096, 300).equal_mass_bins(10)
    order = np.argsort(score)
    for row, some in zip(table, np.split(order, 10), strict=True):
        assert row == pytest.approx([100, score[some].sum(), label[some].sum()])


def test_rows_of_one_score_stay_in_one_bin():
    score = np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.9, 0.9])
    table = counted(score, score > 0.5, 8, 8).equal_mass_bins(2)
    assert table[:, 0].tolist() == [6, 2]  # the five of 0.2 lie around the first half's end
    assert table[:, 2].tolist() == [0, 2]
