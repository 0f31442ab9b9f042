"""Rows and positives per score: AUC and equal-mass calibration of any number of rows.

Memory is constant: at most `MAX_SCORES` different scores are told apart. While there are no more,
all is exact. Beyond, neighbouring scores are counted as one, and the most that this can have moved
the AUC is known.

Shapes: `N` rows of an update, `K` different scores.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.keyed_sums import KeyedSums
from trainer.metrics.pairs import Blocks, area_per_group
from trainer.metrics.ranks import Ranks

# 2^20 scores take 32 MiB, and while rows are sorted in thrice that.
MAX_SCORES = 1 << 20


class ScoreCounts(KeyedSums):
    """Rows, positives and the sum of the scores, per score in [0, 1].

    A score's key is its float64 bits, which ascend as the numbers do, without the lowest `level`.

    Args:
        max_scores: scores told apart at most.
    """

    def __init__(self, max_scores: int = MAX_SCORES) -> None:
        super().__init__(max_scores, (np.int64, np.int64, np.float64))

    def update(self, score: NDArray, is_positive: NDArray[np.bool_]) -> None:
        """Add rows: scores [N] in [0, 1] and whether each is positive [N]."""
        score = score.astype(np.float64) + 0.0  # -0.0 becomes 0.0
        ones = np.ones(len(score), dtype=np.int64)
        self.add(score.view(np.int64), [ones, is_positive.astype(np.int64), score])

    def reduced(
        self, keys: NDArray, columns: list[NDArray], level: int, to_level: int
    ) -> tuple[NDArray, list[NDArray]]:
        """Without the lowest bits."""
        return keys >> (to_level - level), columns

    def empty(self) -> "ScoreCounts":
        """The same without a row."""
        return ScoreCounts(self.max_keys)

    def over_ranks(self, ranks: Ranks) -> "ScoreCounts":
        """The counts of all ranks, the same on each. A collective call."""
        total = self.empty()
        self.add_ranks(ranks, total)
        return total

    def auc(self) -> tuple[float, float]:
        """AUC, ties one half, and the most by which it may be off: 0 while it is exact."""
        _, (rows, positives, _) = self.sums()
        of = Blocks(rows, positives, np.zeros(min(len(rows), 1), dtype=np.int64))
        pairs = int(positives.sum()) * int(of.negatives.sum())
        if not pairs:
            return math.nan, 0.0
        # A pair within a run of scores counts one half, and may be worth 0 or 1.
        in_runs = int(np.dot(positives, of.negatives)) if self.level else 0
        return float(area_per_group(of)[0]), in_runs / (2 * pairs)

    def equal_mass_bins(self, num_bins: int) -> NDArray[np.float64]:
        """[num_bins, 3] of rows, sum of scores, positives: as equal in rows as ties allow.

        Rows of one score stay together, in the bin in which the middle one of them lies.
        """
        _, (rows, positives, score_sums) = self.sums()
        middle = np.cumsum(rows) - rows / 2
        place = np.minimum(middle * num_bins / max(rows.sum(), 1), num_bins - 1).astype(np.int64)
        return bin_table(place, num_bins, rows, score_sums, positives)


def bin_table(place: NDArray, num_bins: int, *columns: NDArray) -> NDArray[np.float64]:
    """Sums of columns per bin, [num_bins, columns]."""
    sums = [np.bincount(place, each, num_bins) for each in columns]
    return np.stack(sums, axis=1).astype(np.float64)
