"""Metrics within the groups of any column, whose rows may lie on all ranks.

Rows are kept until the end and then sent to the rank that owns their group. Of too many rows some
are kept (see GroupRows): the results are then those of a random sample, and come with their
standard error; that of all rows is 0.

Shapes: `N` rows, `G` groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.group_rows import GroupRows, Rows
from trainer.metrics.pairs import (
    Float64Array,
    Int64Array,
    area_per_group,
    blocks,
    concordant_pairs,
)
from trainer.metrics.ranks import Ranks


@dataclass(frozen=True)
class GroupMean:
    """A mean over groups, weighted by rows and not, and the share of rows and groups that count.

    stderr: standard error of `weighted`, or the most that it may be: 0 where all rows were seen,
        NaN where it is not known.
    """

    weighted: float
    unweighted: float
    coverage: float
    group_coverage: float
    stderr: float = 0.0


def grouped_auc(rows: GroupRows, ranks: Ranks) -> GroupMean:
    """GAUC over the groups of all ranks. A collective call."""
    mine = rows.over_ranks(ranks)
    is_positive = mine.target == 1
    of = blocks(mine.score, is_positive, mine.group)
    value = area_per_group(of)
    counts = [_rows_of_groups(mine, chosen) for chosen in (is_positive, ~is_positive)]
    # Pairs of which no two share a row: as many as the smaller class that was thinned has rows.
    pairs = [np.where(kept < count, kept, math.inf) for kept, count in counts]
    variance = share_variance(value, np.minimum(*pairs))
    group_rows = counts[0][1] + counts[1][1]
    has_all = not ranks.max(rows.level)
    return mean_over_groups(value, group_rows, ranks, has_all=has_all, variance=variance)


def grouped_xauc(rows: GroupRows, ranks: Ranks) -> GroupMean:
    """XAUC within each group of two or more rows, averaged as GAUC is. A collective call."""
    mine = rows.over_ranks(ranks)
    number = np.unique(mine.group, return_inverse=True)[1]
    value = xauc(mine.score, mine.target, number)
    kept, count = _rows_of_groups(mine, np.ones(len(mine.group), dtype=bool))
    variance = share_variance(value, np.where(kept < count, kept // 2, math.inf))
    has_all = not ranks.max(rows.level)
    return mean_over_groups(value, count, ranks, has_all=has_all, variance=variance)


def _rows_of_groups(rows: Rows, chosen: NDArray[np.bool_]) -> tuple[Int64Array, Int64Array]:
    """Of the chosen rows of each group in ascending order, [G]: those kept, and all there were."""
    groups, number = np.unique(rows.group, return_inverse=True)
    kept = np.bincount(number[chosen], minlength=len(groups))
    count = np.bincount(number[chosen], rows.weight[chosen], len(groups))
    return kept, count.astype(np.int64)


def share_variance(value: Float64Array, pairs: Float64Array) -> Float64Array:
    """The most that the variance of a share of pairs of rows may be, [G]: of sampled rows.

    A mean over all pairs varies no more than one over `pairs` pairs of which no two share a row
    (Hoeffding 1963, section 5), so at most value * (1 - value) / pairs. Half a pair is added to
    either side: that all pairs seen are right does not mean that all are.

    Args:
        pairs: [G]; infinite where all rows were seen.
    """
    is_part = np.isfinite(pairs)
    pairs = np.where(is_part, np.maximum(pairs, 1), 1.0)
    share = (value * pairs + 0.5) / (pairs + 1)
    return np.where(is_part, share * (1 - share) / pairs, 0.0)


def xauc(score: NDArray, target: NDArray, group: NDArray) -> Float64Array:
    """Share of a group's pairs of rows that are in the right order, strictly; NaN of one row.

    Args:
        score, target: [N].
        group: [N], 0 ... G - 1.
    """
    rows = np.bincount(group)
    pairs = rows * (rows - 1) / 2
    return concordant_pairs(score, target, group) / np.where(pairs > 0, pairs, math.nan)


def mean_over_groups(
    value: Float64Array,
    group_rows: NDArray,
    ranks: Ranks,
    *,
    has_all: bool,
    variance: Float64Array | None = None,
) -> GroupMean:
    """Means of each group's value [G], where it is not NaN, with and without its rows as weight.

    Args:
        has_all: whether these are all groups, not a random part of them.
        variance: of each value [G]; default: none.
    """
    used = ~np.isnan(value)
    variance = np.zeros(used.sum()) if variance is None else variance[used]
    value, rows = value[used], group_rows[used].astype(np.float64)
    counts = [group_rows.sum(), len(group_rows), rows.sum(), len(rows)]
    sums = ranks.sum(np.array([*counts, np.dot(rows, value), value.sum()], dtype=np.float64))
    all_rows, all_groups, used_rows, used_groups, weighted, unweighted = sums.tolist()
    if not used_groups:
        return GroupMean(math.nan, math.nan, 0.0, 0.0, 0.0 if has_all else math.nan)
    mean = weighted / used_rows
    # of a ratio of sums over sampled groups: sqrt(sum((rows * (value - mean))^2)) / sum(rows)
    squares = np.square(rows) * (variance if has_all else np.square(value - mean))
    total = float(ranks.sum(np.array([squares.sum()]))[0])
    if not has_all:  # of one group nothing is known of how much groups differ
        total *= used_groups / (used_groups - 1) if used_groups > 1 else math.nan
    return GroupMean(
        weighted=mean,
        unweighted=unweighted / used_groups,
        coverage=used_rows / all_rows,
        group_coverage=used_groups / all_groups,
        stderr=math.sqrt(total) / used_rows,
    )
