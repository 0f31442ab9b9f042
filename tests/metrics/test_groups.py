"""GAUC and XAUC within groups, and what is left of them when rows are too many."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.loops import looped_mean, pairwise_auc, pairwise_xauc
from trainer.metrics import Ranks, gauc
from trainer.metrics.groups import GroupRows, grouped_auc, grouped_xauc

ALONE = Ranks.alone()


def kept(score, target, group, max_rows: int = 1 << 20, rows_per_update: int = 1_000) -> GroupRows:
    rows = GroupRows(max_rows)
    for start in range(0, len(score), rows_per_update):
        some = slice(start, start + rows_per_update)
        rows.update(score[some], target[some], group[some])
    return rows


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-2, 2)), min_size=1, max_size=25
    )
)
def test_xauc_of_groups_equals_the_loops(rows):
    score, target, group = (np.array(column) for column in zip(*rows, strict=True))
    found = grouped_xauc(kept(score, target, group), ALONE)
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
    sampled, _, groups = rows.columns()
    assert len(sampled) <= 30_000
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


def test_one_group_alone_is_kept_whole():
    rows = kept(np.arange(50.0), np.arange(50), np.zeros(50, dtype=np.int64), max_rows=10)
    assert len(rows.columns()[0]) in (0, 50)


def test_no_rows_have_no_mean():
    for metric in (grouped_auc, grouped_xauc):
        found = metric(GroupRows(), ALONE)
        assert math.isnan(found.weighted)
        assert found.coverage == found.group_coverage == 0.0
