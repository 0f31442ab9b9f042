"""Counting pairs of rows in the right order, per group, in integers.

Shapes: `N` rows, `G` groups, `K` blocks (runs of equal score in a group).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Blocks:
    """Rows sorted by group and ascending score, as blocks of equal score.

    group      0    0    0    0  | 1    1
    score     .1   .3   .3   .7  | .2   .2
    rows       1    2         1  | 2            [K]
    positives  0    1         1  | 0            [K]
    first      0                   3            [G], the first block of each group
    """

    rows: Int64Array
    positives: Int64Array
    first: Int64Array

    @property
    def negatives(self) -> Int64Array:
        """Rows that are not positive, [K]."""
        return self.rows - self.positives

    @property
    def group_rows(self) -> Int64Array:
        """Rows of each group, [G]."""
        return self.per_group(self.rows)

    @property
    def group_positives(self) -> Int64Array:
        """Positives of each group, [G]."""
        return self.per_group(self.positives)

    def per_group(self, values: NDArray) -> NDArray:
        """Sums over the blocks of each group, [K] -> [G]."""
        return np.add.reduceat(values, self.first) if len(self.first) else values[:0]

    def before(self, values: NDArray) -> NDArray:
        """Sums over the blocks of the same group with lower scores, [K] -> [K]."""
        before = np.cumsum(values) - values
        return before - self.of_group(before[self.first])

    def of_group(self, values: NDArray) -> NDArray:
        """Each block's group's value, [G] -> [K]."""
        return np.repeat(values, np.diff(self.first, append=len(self.rows)))


def blocks(score: NDArray, is_positive: NDArray[np.bool_], group: NDArray | None = None) -> Blocks:
    """Blocks of rows in any order; without `group` all rows are one group."""
    order = np.argsort(score) if group is None else np.lexsort((score, group))
    score, is_positive = score[order], is_positive[order]
    if not score.size:
        return Blocks(*(np.empty(0, dtype=np.int64) for _ in range(3)))
    new_group = np.zeros(score.size, dtype=bool)
    if group is not None:
        group = group[order]
        new_group[1:] = group[1:] != group[:-1]
    new_group[0] = True
    new_block = new_group.copy()
    new_block[1:] |= score[1:] != score[:-1]
    starts = np.flatnonzero(new_block)
    return Blocks(
        rows=np.diff(starts, append=score.size),
        positives=np.add.reduceat(is_positive.astype(np.int64), starts),
        first=np.searchsorted(starts, np.flatnonzero(new_group)),
    )


def area_per_group(of: Blocks) -> Float64Array:
    """AUC of each group [G], ties one half; NaN where a class is absent.

    Exact up to three thousand million rows: wins are counted twice over, in integers.
    """
    negatives = of.negatives
    # 2U = sum over blocks of positives * (2 * negatives below + negatives tied)
    doubled_wins = of.per_group(of.positives * (2 * of.before(negatives) + negatives))
    pairs = of.group_positives * of.per_group(negatives)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, doubled_wins / (2.0 * pairs), math.nan)


def concordant_pairs(score: NDArray, target: NDArray, group: Int64Array) -> Int64Array:
    """Pairs of a group whose higher target has the higher score, strictly: [number of groups].

    Args:
        score, target: [N].
        group: [N], 0 ... number of groups - 1.

    Rows of each group in ascending order of target; among equal targets in descending order of
    score, so that they do not count. What is left is to count the pairs whose scores ascend: at the
    highest bit in which the ranks of two scores differ, the earlier has 0 and the later has 1.
    """
    num_groups = int(group.max()) + 1 if group.size else 0
    order = np.lexsort((-score, target, group))
    rank = np.unique(score, return_inverse=True)[1][order]  # [N]
    group = group[order]
    counts = np.zeros(num_groups, dtype=np.int64)
    bucket = group.astype(np.int64)  # rows whose group and higher bits of the rank are equal
    for bit in reversed(range(int(rank.max(initial=0)).bit_length())):
        is_one = (rank >> bit) & 1
        starts = np.flatnonzero(np.concatenate(([True], bucket[1:] != bucket[:-1])))
        zeros = np.cumsum(1 - is_one)
        before_bucket = np.repeat(
            zeros[starts] - (1 - is_one[starts]), np.diff(starts, append=len(zeros))
        )
        np.add.at(counts, group[starts], np.add.reduceat(is_one * (zeros - before_bucket), starts))
        bucket = bucket * 2 + is_one
        order = np.argsort(bucket, kind="stable")
        rank, group, bucket = rank[order], group[order], bucket[order]
        bucket = np.cumsum(np.concatenate(([0], bucket[1:] != bucket[:-1])))  # dense: no overflow
    return counts
