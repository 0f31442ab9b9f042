"""Metrics of arrays against plain loops and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from tests.metrics.loops import looped_mean, pairwise_auc
from trainer.metrics import auc, binary_metrics, gauc, log_loss, pcoc

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
    actual = (grouped.weighted, grouped.unweighted, grouped.coverage, grouped.group_coverage)
    expected = looped_mean(pairwise_auc, scores, labels, groups)
    assert actual == pytest.approx(expected, nan_ok=True)


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


GOOD = np.array([0.5, 0.5])

MESSAGES = {
    "nan": (
        lambda: auc([math.nan, 0.5], [0, 1]),
        "scores must not be NaN, but 1 of 2 are; look for",
    ),
    "nan with task": (
        lambda: binary_metrics([math.nan, 0.5], [0, 1], [0, 0], "buy"),
        "scores of task 'buy' must not be NaN, but 1 of 2 are",
    ),
    "logits": (
        lambda: log_loss([-3.0, 0.5], [0, 1]),
        "probabilities must be in [0, 1], but 1 of 2 are not; apply a sigmoid",
    ),
    "labels": (
        lambda: pcoc(GOOD, [0, 2]),
        "labels must be 0 or 1, but 1 of 2 are not; correct the label column",
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
}


@pytest.mark.parametrize(("call", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_message(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below, literally
        call()
    assert message in str(caught.value)
