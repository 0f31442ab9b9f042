"""Rows of groups that may lie on all ranks, in constant memory: too many rows are made fewer.

Many groups: those of some groups are kept, chosen by a hash of the group, with all their rows. Few
groups: all groups are kept, of each some rows chosen by a hash of the row, and the number of those
left out. Hashes ascend alike on every rank, so what ranks keep adds up to a sample of all rows.

Shapes: `N` rows, `G` groups.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.pairs import Int64Array
from trainer.metrics.ranks import Ranks
from trainer.metrics.sampling import hash64, is_sampled

MAX_GROUP_ROWS = 1 << 22  # 32 bytes each
NO_CAP = 1 << 62


class Rows(NamedTuple):
    """Columns [N].

    score: float64. target: float32. group: int64.
    place: int32; decides which rows of a group are kept: the least.
    weight: int64, the rows that this one stands for: itself, and those left out.
    """

    score: NDArray
    target: NDArray
    group: NDArray
    place: NDArray
    weight: NDArray

    def take(self, chosen: NDArray) -> "Rows":
        """Some of them."""
        return Rows(*(column[chosen] for column in self))


class GroupRows:
    """Scores and targets of rows by group.

    Args:
        by_label: targets are labels of two classes, each of which is thinned by itself, so that no
            group loses its few positives.
        max_rows: rows kept at most on a rank, 64 or more.

    Attributes:
        level: one in 2^level groups is kept.
        cap: rows kept at most of each group, or of each class of it.
    """

    def __init__(self, *, by_label: bool, max_rows: int = MAX_GROUP_ROWS) -> None:
        self.by_label, self.max_rows = by_label, max_rows
        self.level, self.cap = 0, NO_CAP
        self._chunks: list[Rows] = []
        self._num_rows = 0

    def update(self, score: NDArray, target: NDArray, group: NDArray, number: NDArray) -> None:
        """Add rows, [N] each; `group` and `number`, a row's own over all ranks, are int64."""
        place = (hash64(number) >> np.uint64(33)).astype(np.int32)
        ones = np.ones(len(score), np.int64)
        rows = Rows(score.astype(np.float64), target.astype(np.float32), group, place, ones)
        rows = rows.take(is_sampled(group, self.level))
        self._chunks.append(rows)
        self._num_rows += len(rows.score)
        while self._num_rows > self.max_rows:
            self._thin()

    def rows(self) -> Rows:
        """What is kept, at most `cap` rows of each group or class."""
        self._keep(self._capped(self._taken(), self.cap))
        return self._chunks[0]

    def over_ranks(self, ranks: Ranks) -> Rows:
        """The rows of all ranks of the groups that are this rank's. A collective call."""
        level, cap = ranks.max(self.level), -ranks.max(-self.cap)
        rows = self.rows()
        rows = rows.take(is_sampled(rows.group, level))
        rows = self._capped(rows, cap)
        while cap > 1 and _rows_to_owners(rows, ranks).max() > 2 * self.max_rows:
            cap = min(cap, self.max_rows) // 2  # a large group has rows on many ranks
            rows = self._capped(rows, cap)
        owner = _owner(rows, ranks)
        return self._capped(Rows(*ranks.exchange(list(rows), owner)), cap)

    def sampled_over_ranks(self, ranks: Ranks, max_rows: int) -> Rows:
        """The rows of all ranks, at most max_rows of them, on every rank. A collective call."""
        self._raise_to(ranks.max(self.level))
        while ranks.sum(np.array([self._num_rows]))[0] > max_rows:
            self._raise_to(self.level + 1)
        return _joined([Rows(*part) for part in ranks.each(list(self.rows()))])

    def _thin(self) -> None:
        """Leave out half of the groups; or of few groups, rows of those that have most."""
        groups = np.concatenate([chunk.group for chunk in self._chunks])
        if len(np.unique(groups)) > 2 * math.isqrt(self.max_rows):
            self._raise_to(self.level + 1)
            return
        rows = self._taken()
        order, starts = self._strata(rows)
        sizes = np.diff(starts, append=len(order))
        self.cap = min(self.cap, int(sizes.max()))
        while np.minimum(sizes, self.cap).sum() > self.max_rows // 2:
            self.cap //= 2
        self._keep(_first_of_strata(rows, order, starts, self.cap))

    def _raise_to(self, level: int) -> None:
        self.level = level
        self._keep(_joined([chunk.take(is_sampled(chunk.group, level)) for chunk in self._chunks]))

    def _taken(self) -> Rows:
        """All rows, which are here no longer, so that they are in memory once."""
        rows, self._chunks = _joined(self._chunks), []
        return rows

    def _keep(self, rows: Rows) -> None:
        self._chunks, self._num_rows = [rows], len(rows.score)

    def _capped(self, rows: Rows, cap: int) -> Rows:
        return rows if cap == NO_CAP else _first_of_strata(rows, *self._strata(rows), cap)

    def _strata(self, rows: Rows) -> tuple[Int64Array, Int64Array]:
        """Rows by stratum, a group or a class of it, and place, [N]; where each stratum starts."""
        number = np.unique(rows.group, return_inverse=True)[1]
        if self.by_label:
            number = 2 * number + (rows.target == 1)
        key = number << 31 | rows.place
        order = np.argsort(key)
        return order, np.flatnonzero(np.diff(key[order] >> 31, prepend=-1))


def _first_of_strata(rows: Rows, order: Int64Array, starts: Int64Array, cap: int) -> Rows:
    """The first `cap` rows of each stratum; its first row stands for those left out, too."""
    if not len(starts):
        return rows
    sizes = np.diff(starts, append=len(order))
    kept = np.arange(len(order)) - np.repeat(starts, sizes) < cap
    rows.weight[order[starts]] += np.add.reduceat(np.where(kept, 0, rows.weight[order]), starts)
    return rows.take(order[kept])


def _joined(chunks: list[Rows]) -> Rows:
    """A copy of all rows."""
    if not chunks:
        return Rows(*(np.empty(0, type_) for type_ in ("f8", "f4", "i8", "i4", "i8")))
    return Rows(*(np.concatenate(each) for each in zip(*chunks, strict=True)))


def _owner(rows: Rows, ranks: Ranks) -> Int64Array:
    """The rank of each row's group, [N]."""
    return (hash64(rows.group) % np.uint64(ranks.size)).astype(np.int64)


def _rows_to_owners(rows: Rows, ranks: Ranks) -> Int64Array:
    """How many rows of all ranks each rank owns, [R]. A collective call."""
    return ranks.sum(np.bincount(_owner(rows, ranks), minlength=ranks.size))
