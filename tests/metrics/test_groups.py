"""GAUC and XAUC within groups, and what is left of them when rows are too many."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.metrics.loops import looped_mean, pairwise_auc, pairwise_xauc
from trainer.metrics import Ranks, gauc
from trainer.metrics.group_rows import GroupRows
from trainer.metrics.groups import grouped_auc, grouped_xauc, mean_over_groups

ALONE = Ranks.alone()


def kept(
    score,
    target,
    group,
    max_rows: int = 1 << 20,
    rows_per_update: int = 1_000,
    by_label: bool = True,
) -> GroupRows:
    rows = GroupRows(by_label=by_label, max_rows=max_rows)
    number = np.arange(len(score))
    for start in range(0, len(score), rows_per_update):
        some = slice(start, start + rows_per_update)
        rows.update(score[some], target[some], group[some], number[some])
    return rows


def auc_or_nan(score, label) -> float:
    return float(roc_auc_score(label, score)) if 0 < sum(label) < len(label) else math.nan


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-2, 2)), min_size=1, max_size=25
    )
)
def test_xauc_of_groups_equals_the_loops(rows):
    score, target, group = (np.array(column) for column in zip(*rows, strict=True))
    found = grouped_xauc(kept(score, target, group, by_label=False), ALONE)
    actual = (found.weighted, found.unweighted, found.coverage, found.group_coverage)
    expected = looped_mean(pairwise_xauc, score.tolist(), target.tolist(), group.tolist())
    assert actual == pytest.approx(expected, nan_ok=True)


def test_gauc_of_few_rows_is_exact_whatever_the_batches():
    rng = np.random.default_rng(0)
    score, group = rng.random(3_001), rng.integers(0, 200, 3_001) * 10**15
    label = rng.random(3_001) < 0.3
    found = grouped_auc(kept(score, label, group, rows_per_update=70), ALONE)
    assert found == gauc(score, label, group)
    assert found.stderr == 0.0
    areas = looped_mean(pairwise_auc, score, label, group)
    assert found.weighted == pytest.approx(areas[0])


def test_of_too_many_rows_whole_groups_are_kept_with_their_standard_error():
    rng = np.random.default_rng(1)
    group = rng.integers(0, 20_000, 200_000)
    skill = rng.random(20_000)[group]  # groups differ in how well they are ranked
    label = rng.random(200_000) < 0.3
    score = rng.random(200_000) + label * skill
    exact = gauc(score, label, group)

    rows = kept(score, label, group, max_rows=30_000)
    groups = rows.rows().group
    assert len(groups) <= 30_000
    for each in np.unique(groups)[:50]:
        assert (groups == each).sum() == (group == each).sum()
    found = grouped_auc(rows, ALONE)
    assert 0 < found.stderr < 0.01
    assert abs(found.weighted - exact.weighted) < 4 * found.stderr
    assert found.coverage == pytest.approx(exact.coverage, abs=0.02)


def test_the_standard_error_is_that_of_many_samples():
    rng = np.random.default_rng(2)
    errors, stated = [], []
    for _ in range(100):
        group = rng.integers(0, 2**62, 1_500).repeat(6)  # other groups: another sample
        label = rng.random(9_000) < 0.4
        score = rng.random(9_000) + 0.5 * label
        found = grouped_auc(kept(score, label, group, max_rows=2_500), ALONE)
        errors.append(found.weighted - gauc(score, label, group).weighted)
        stated.append(found.stderr)
    assert np.mean(stated) == pytest.approx(np.std(errors), rel=0.3)


@pytest.mark.parametrize("num_groups", [1, 2, 3, 10, 26])
@pytest.mark.parametrize("rows_per_update", [500, 6_000])
def test_of_few_groups_each_is_measured_on_some_of_its_rows(num_groups, rows_per_update):
    rng = np.random.default_rng(num_groups)
    group = np.minimum(rng.geometric(0.3, 6_000) - 1, num_groups - 1)  # of very unequal sizes
    label = rng.random(6_000) < 0.1
    score = (rng.normal(size=6_000) + label * (1 + group % 3)).round(1)  # with ties
    rows = kept(score, label, group, max_rows=1_000, rows_per_update=rows_per_update)
    assert len(rows.rows().score) <= 1_000
    found = grouped_auc(rows, ALONE)
    exact = looped_mean(auc_or_nan, score, label, group)
    assert 0 < found.stderr < 0.05
    assert abs(found.weighted - exact[0]) < 3 * found.stderr
    assert found.unweighted == pytest.approx(exact[1], abs=0.1)
    assert (found.coverage, found.group_coverage) == exact[2:]  # every row is counted


@pytest.mark.parametrize("num_groups", [1, 3, 10])
def test_xauc_of_few_groups_is_within_its_error(num_groups):
    rng = np.random.default_rng(num_groups)
    group, target = rng.integers(0, num_groups, 800), rng.normal(size=800)
    score = target + (1 + group % 3) * rng.normal(size=800)
    found = grouped_xauc(kept(score, target, group, max_rows=300, by_label=False), ALONE)
    exact = looped_mean(pairwise_xauc, score, target, group)
    assert 0 < found.stderr < 0.1
    assert abs(found.weighted - exact[0]) < 3 * found.stderr
    assert (found.coverage, found.group_coverage) == (1.0, 1.0)


def test_the_error_of_few_groups_is_no_more_than_stated():
    rng = np.random.default_rng(3)
    errors, stated = [], []
    for _ in range(100):
        group, label = rng.integers(0, 3, 3_000), rng.random(3_000) < 0.3
        score = rng.normal(size=3_000) + label
        found = grouped_auc(kept(score, label, group, max_rows=500), ALONE)
        errors.append(found.weighted - gauc(score, label, group).weighted)
        stated.append(found.stderr)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 10  # without bias
    assert 0.3 * np.mean(stated) < np.std(errors) < np.mean(stated)


def test_rows_that_are_all_in_order_are_not_said_to_be_exact():
    label = np.arange(5_000) % 2
    found = grouped_auc(kept(label + 0.0, label, label * 0, max_rows=100), ALONE)
    assert found.weighted == 1.0
    assert found.stderr > 0


def test_the_error_of_one_group_of_many_is_not_known():
    found = mean_over_groups(np.array([0.7]), np.array([3]), ALONE, has_all=False)
    assert found.weighted == pytest.approx(0.7)
    assert math.isnan(found.stderr)


def test_no_rows_have_no_mean():
    for metric in (grouped_auc, grouped_xauc):
        found = metric(GroupRows(by_label=True), ALONE)
        assert math.isnan(found.weighted)
        assert found.coverage == found.group_coverage == 0.0
