"""Metrics within the groups of any column, whose rows may lie on all ranks.

Rows are kept until the end and then sent to the rank that owns their group. Memory is constant: of
more than `MAX_GROUP_ROWS` rows on a rank only those of some groups, chosen by a hash of the group,
are kept, the same groups on every rank. The results are then those of a random sample of the
groups, and come with their standard error; that of all groups is 0.

Shapes: `N` rows, `G` groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.pairs import Float64Array, area_per_group, blocks, concordant_pairs
from trainer.metrics.ranks import Ranks
from trainer.metrics.sampling import hash64, is_sampled

MAX_GROUP_ROWS = 1 << 22  # 20 bytes each
MAX_LEVEL = 40  # one group of more rows than that is kept whole


@dataclass(frozen=True)
class GroupMean:
    """A mean over groups, weighted by rows and not, and the share of rows and groups that count.

    stderr: standard error of `weighted` (0 where all groups were seen).
    """

    weighted: float
    unweighted: float
    coverage: float
    group_coverage: float
    stderr: float = 0.0


class GroupRows:
    """Scores and targets of rows by group, of all groups or of a random part of them.

    Args:
        max_rows: rows kept at most on a rank; a single larger group is kept whole.
    """

    def __init__(self, max_rows: int = MAX_GROUP_ROWS) -> None:
        self.max_rows, self.level = max_rows, 0
        self._chunks: list[list[NDArray]] = []
        self._num_rows = 0

    def update(self, score: NDArray, target: NDArray, group: NDArray) -> None:
        """Add rows, [N] each; `group` is int64."""
        kept = is_sampled(group, self.level)
        columns = score.astype(np.float64), target.astype(np.float32), group
        self._chunks.append([column[kept] for column in columns])
        self._num_rows += int(kept.sum())
        while self._num_rows > self.max_rows and self.level < MAX_LEVEL:
            self._raise_to(self.level + 1)

    def columns(self) -> list[NDArray]:
        """Score, target and group of the rows, [N] each."""
        if not self._chunks:
            return [np.empty(0), np.empty(0, np.float32), np.empty(0, np.int64)]
        return [np.concatenate(each) for each in zip(*self._chunks, strict=True)]

    def over_ranks(self, ranks: Ranks) -> "GroupRows":
        """This rank's groups with the rows of all ranks. A collective call."""
        self._raise_to(ranks.max(self.level))
        columns = self.columns()
        owner = (hash64(columns[2]) % np.uint64(ranks.size)).astype(np.int64)
        whole = GroupRows(self.max_rows)
        whole.level = self.level
        whole._chunks = [ranks.exchange(columns, owner)]
        return whole

    def of_all_ranks(self, ranks: Ranks, max_rows: int) -> list[NDArray]:
        """Score, target and group of the rows of all ranks, at most max_rows: on every rank."""
        self._raise_to(ranks.max(self.level))
        while ranks.sum(np.array([self._num_rows]))[0] > max_rows and self.level < MAX_LEVEL:
            self._raise_to(self.level + 1)
        parts = list(ranks.each(self.columns()))
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _raise_to(self, level: int) -> None:
        if level > self.level:
            columns = self.columns()
            kept = is_sampled(columns[2], level)
            self.level, self._num_rows = level, int(kept.sum())
            self._chunks = [[column[kept] for column in columns]]


def grouped_auc(rows: GroupRows, ranks: Ranks) -> GroupMean:
    """GAUC over the groups of all ranks. A collective call."""
    mine = rows.over_ranks(ranks)
    score, label, group = mine.columns()
    of = blocks(score, label == 1, group)
    return mean_over_groups(area_per_group(of), of.group_rows, ranks, has_all=not mine.level)


def grouped_xauc(rows: GroupRows, ranks: Ranks) -> GroupMean:
    """XAUC within each group of two or more rows, averaged as GAUC is. A collective call."""
    mine = rows.over_ranks(ranks)
    score, target, group = mine.columns()
    _, number, group_rows = np.unique(group, return_inverse=True, return_counts=True)
    value = xauc(score, target, number)
    return mean_over_groups(value, group_rows, ranks, has_all=not mine.level)


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
    value: Float64Array, group_rows: NDArray, ranks: Ranks, *, has_all: bool
) -> GroupMean:
    """Means of each group's value [G], where it is not NaN, with and without its rows as weight."""
    used = ~np.isnan(value)
    value, rows = value[used], group_rows[used].astype(np.float64)
    counts = [group_rows.sum(), len(group_rows), rows.sum(), len(rows)]
    sums = ranks.sum(np.array([*counts, np.dot(rows, value), value.sum()], dtype=np.float64))
    all_rows, all_groups, used_rows, used_groups, weighted, unweighted = sums.tolist()
    if not used_groups:
        return GroupMean(math.nan, math.nan, 0.0, 0.0)
    mean, stderr = weighted / used_rows, 0.0
    if not has_all:
        # of a ratio of sums over sampled groups: sqrt(sum((rows * (value - mean))^2)) / sum(rows)
        squares = float(ranks.sum(np.array([np.square(rows * (value - mean)).sum()]))[0])
        stderr = math.sqrt(squares * used_groups / max(used_groups - 1, 1)) / used_rows
    return GroupMean(
        weighted=mean,
        unweighted=unweighted / used_groups,
        coverage=used_rows / all_rows,
        group_coverage=used_groups / all_groups,
        stderr=stderr,
    )
