"""Calibration: whether events happen as often as predicted, over all rows, bins and field values.

Shapes: `N` rows of an update, `B` bins, `V` values of a field.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.groups import GroupMean, mean_over_groups
from trainer.metrics.keyed_sums import KeyedSums
from trainer.metrics.ranks import Ranks
from trainer.metrics.sampling import is_sampled
from trainer.metrics.scores import bin_table

# float32 sigmoids reach exactly 0 and 1; a sure and wrong row then costs -log(1e-7) = 16.1.
PROBABILITY_CLIP = 1e-7
MAX_FIELD_VALUES = 1 << 20
LOG_ODDS_BINS, MAX_LOG_ODDS = 48, 12.0


class CalibrationSums:
    """Sums over rows, and tables [B, 3] of rows, sum of p and sum of y per bin of p.

    Args:
        bins: each B of equal-width bins of [0, 1].
    """

    def __init__(self, bins: tuple[int, ...]) -> None:
        self.totals = np.zeros(4)  # rows, positives, sum of p, sum of cross-entropy
        self.equal_width = {num_bins: np.zeros((num_bins, 3)) for num_bins in bins}
        # Of equal width in the log-odds: small probabilities keep their resolution.
        self.log_odds = np.zeros((LOG_ODDS_BINS, 3))

    def update(self, prob: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> None:
        """Add rows, [N] each."""
        ones, label = np.ones(len(prob)), is_positive.astype(np.float64)
        cross_entropy = row_log_loss(prob, is_positive)
        self.totals += [len(prob), label.sum(), prob.sum(), cross_entropy.sum()]
        for num_bins, table in self.equal_width.items():
            place = np.minimum(prob * num_bins, num_bins - 1).astype(np.int64)
            table += bin_table(place, num_bins, ones, prob, label)
        clipped = np.clip(prob, 1e-12, 1 - 1e-12)
        place = (np.log(clipped / (1 - clipped)) / MAX_LOG_ODDS + 1) * (LOG_ODDS_BINS / 2)
        place = np.clip(place, 0, LOG_ODDS_BINS - 1).astype(np.int64)
        self.log_odds += bin_table(place, LOG_ODDS_BINS, ones, prob, label)

    def over_ranks(self, ranks: Ranks) -> "CalibrationSums":
        """The sums of all ranks. A collective call."""
        total = CalibrationSums(())
        total.totals, total.log_odds = ranks.sum(self.totals), ranks.sum(self.log_odds)
        total.equal_width = {bins: ranks.sum(table) for bins, table in self.equal_width.items()}
        return total

    def metrics(self, eta: float) -> dict[str, float]:
        """LogLoss, normalised entropy, PCOC and ECE by name; what is not defined is NaN."""
        rows, positives, predicted, cross_entropy = self.totals.tolist()
        logloss = cross_entropy / rows if rows else math.nan
        found = {
            "logloss": logloss,
            "normalized_entropy": normalized_entropy(logloss, positives, rows, eta),
            "pcoc": predicted / positives if positives else math.nan,
        }
        return found | {
            f"ece@{bins}": calibration_error(table) for bins, table in self.equal_width.items()
        }


def row_log_loss(prob: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """-log of the probability of what happened, in nats, [N]; p clipped to [1e-7, 1 - 1e-7]."""
    prob = np.clip(prob, PROBABILITY_CLIP, 1.0 - PROBABILITY_CLIP)
    return -np.log(np.where(is_positive, prob, 1.0 - prob))


def normalized_entropy(logloss: float, positives: float, rows: float, eta: float = 1e-12) -> float:
    """LogLoss over that of always predicting the mean label (He et al., ADKDD 2014).

    NaN where all labels are equal: nothing is then left to predict.

    Args:
        eta: the mean label is kept this far from 0 and 1.
    """
    if not 0 < positives < rows:
        return math.nan
    rate = min(max(positives / rows, eta), 1 - eta)
    return logloss / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def calibration_error(table: NDArray[np.float64]) -> float:
    """ECE: mean over rows of |mean p - mean y| of the row's bin (Naeini et al., AAAI 2015).

    table: [B, 3] of rows, sum of p, sum of y.
    """
    rows = table[:, 0].sum()
    return float(np.abs(table[:, 1] - table[:, 2]).sum() / rows) if rows else math.nan


class FieldSums(KeyedSums):
    """Rows, sum of y and sum of p per value of a field, of all values or of a random part.

    Args:
        max_values: values kept at most; of more, a random part is.
    """

    def __init__(self, max_values: int = MAX_FIELD_VALUES) -> None:
        super().__init__(max_values, (np.int64, np.int64, np.float64))

    def update(self, prob: NDArray, is_positive: NDArray[np.bool_], value: NDArray) -> None:
        """Add rows, [N] each; `value` is int64."""
        ones = np.ones(len(prob), dtype=np.int64)
        self.add(value, [ones, is_positive.astype(np.int64), prob])

    def reduced(
        self, keys: NDArray, columns: list[NDArray], level: int, to_level: int
    ) -> tuple[NDArray, list[NDArray]]:
        """Half of the values at each level."""
        kept = is_sampled(keys, to_level)
        return keys[kept], [column[kept] for column in columns]

    def empty(self) -> "FieldSums":
        """The same without a row."""
        return FieldSums(self.max_keys)

    def over_ranks(self, ranks: Ranks) -> "FieldSums":
        """The sums of all ranks, the same on each. A collective call."""
        total = self.empty()
        self.add_ranks(ranks, total)
        return total

    def field_rce(self, epsilon: float) -> GroupMean:
        """Field-RCE: mean over rows of |sum of y - p| / sum of (y + epsilon) of the row's value
        (Pan et al., WWW 2020, doi:10.1145/3366423.3380154).
        """
        _, (rows, positives, predicted) = self.sums()
        error = np.abs(positives - predicted) / (positives + epsilon * rows)
        return mean_over_groups(error, rows, Ranks.alone(), has_all=not self.level)

    def largest(self, count: int) -> list[list[float]]:
        """[key, rows, sum of y, sum of p] of the values with most rows, these first."""
        keys, columns = self.sums()
        order = np.lexsort((keys, -columns[0]))[:count]
        chosen = [column[order].tolist() for column in [keys, *columns]]
        return [list(row) for row in zip(*chosen, strict=True)]
