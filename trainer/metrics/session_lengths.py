"""GAUC by the length of the sessions: sums per bucket of 1, 2-3, 4-7, ... rows.

Shapes: `S` sessions of an update, `B` buckets.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.groups import GroupMean
from trainer.metrics.intervals import Z_95
from trainer.metrics.pairs import Float64Array, Int64Array
from trainer.metrics.ranks import Ranks
from trainer.metrics.scores import bin_table

BUCKETS = 32
# Of all sessions: sessions, rows. Of those of both classes: sessions, rows n, areas a, and sums of
# n a, n^2, n^2 a, n^2 a^2, from which the standard error of the weighted mean follows.
COLUMNS = 9


class SessionLengthSums:
    """What GAUC needs of the sessions of each bucket."""

    def __init__(self) -> None:
        self._sums = np.zeros((BUCKETS, COLUMNS))

    def update(self, rows: Int64Array, area: Float64Array) -> None:
        """Add sessions: their rows and AUC, NaN of one class, [S] each."""
        bucket = np.frexp(rows)[1] - 1  # floor(log2(rows))
        mixed = ~np.isnan(area)
        a, n = np.nan_to_num(area), np.where(mixed, rows, 0).astype(np.float64)
        columns = [np.ones(len(rows)), rows, mixed, n, a, n * a, n * n, n * n * a, n * n * a * a]
        self._sums += bin_table(np.minimum(bucket, BUCKETS - 1), BUCKETS, *columns)

    def over_ranks(self, ranks: Ranks) -> "SessionLengthSums":
        """The sums of all ranks. A collective call."""
        total = SessionLengthSums()
        total._sums = ranks.sum(self._sums)
        return total

    def gauc(self) -> GroupMean:
        """GAUC over all sessions."""
        return _mean(self._sums.sum(axis=0))

    def table(self) -> list[dict[str, float]]:
        """A row per bucket that has sessions: the rows of its sessions (`from`, `to`), GAUC, its
        95 % interval (`low`, `high`; NaN of fewer than two sessions of both classes), and counts.
        """
        found = []
        for bucket in np.flatnonzero(self._sums[:, 0]).tolist():
            sums = self._sums[bucket]
            mean = _mean(sums)
            half = Z_95 * _stderr(sums)
            found.append(
                {
                    "from": 1 << bucket,
                    "to": (2 << bucket) - 1,
                    "sessions": int(sums[0]),
                    "rows": int(sums[1]),
                    "mixed_sessions": int(sums[2]),
                    "gauc": mean.weighted,
                    "low": max(mean.weighted - half, 0.0) if half == half else math.nan,
                    "high": min(mean.weighted + half, 1.0) if half == half else math.nan,
                }
            )
        return found


def _mean(sums: NDArray[np.float64]) -> GroupMean:
    sessions, rows, mixed, n, a, na = sums[:6].tolist()
    if not mixed:
        return GroupMean(math.nan, math.nan, 0.0, 0.0)
    return GroupMean(na / n, a / mixed, n / rows, mixed / sessions)


def _stderr(sums: NDArray[np.float64]) -> float:
    """Of the mean weighted by rows, a ratio of sums over sessions (see groups.mean_over_groups)."""
    _, _, mixed, n, _, na, nn, nna, nnaa = sums.tolist()
    if mixed < 2:
        return math.nan
    mean = na / n
    squares = nnaa - 2 * mean * nna + mean * mean * nn  # sum of (n (a - mean))^2
    return math.sqrt(max(squares, 0.0) * mixed / (mixed - 1)) / n
