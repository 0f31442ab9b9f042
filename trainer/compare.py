"""Two models on the same rows: the differences of their metrics, and how sure these are.

Rows of a session hang together, so whole sessions are drawn anew: each counts Poisson(1) times in a
replicate (the bootstrap of Efron 1979 for many rows, Chamandy et al. 2012). Both models are
measured on the same draws, and an interval holds the middle 95 % of the differences.

Shapes: `N` rows, `S` sessions, `R` replicates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.calibration import row_log_loss
from trainer.metrics.pairs import Blocks, Float64Array, Int64Array, area_per_group, blocks

METRICS = ("auc", "gauc", "gauc_unweighted", "logloss", "pcoc", "ece_equal_mass")
BINS = 15


@dataclass(frozen=True)
class Difference:
    """A metric of two models; `low` to `high` holds 95 % of the differences b - a."""

    a: float
    b: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """How much more b has."""
        return self.b - self.a

    @property
    def is_sure(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.low > 0 or self.high < 0


class WeightedMetrics:
    """The metrics of one model's predictions for any weights of the sessions.

    Args:
        prob: probabilities [N].
        label: 0 or 1, [N].
        session: the row's session, [N]: 0 ... S - 1.
    """

    def __init__(self, prob: Float64Array, label: NDArray, session: Int64Array) -> None:
        is_positive = label == 1
        of = blocks(prob, is_positive, session)
        area = area_per_group(of)
        mixed = ~np.isnan(area)
        # Sums per session [S]: all metrics but AUC and ECE are ratios of weighted sums of these.
        self.mixed, self.mixed_rows = mixed.astype(float), np.where(mixed, of.group_rows, 0.0)
        self.area, self.weighted_area = np.nan_to_num(area), np.nan_to_num(area * of.group_rows)
        self.rows, self.positives = of.group_rows, of.group_positives
        self.predicted = np.bincount(session, prob)
        self.cross_entropy = np.bincount(session, row_log_loss(prob, is_positive))
        # Rows by ascending score [N], for AUC and for bins of equal mass.
        order = np.argsort(prob, kind="stable")
        self.session, self.is_positive = session[order], is_positive[order]
        self.starts = np.flatnonzero(np.diff(prob[order], prepend=-1.0))
        self.gap = prob[order] - self.is_positive
        self.bin_starts = np.unique(np.arange(BINS) * len(prob) // BINS)

    def of_weights(self, weights: NDArray) -> dict[str, float]:
        """Metrics by name, each session counted as often as `weights` [S] says."""
        rows = weights @ self.rows
        of_row = weights[self.session]
        gaps = np.add.reduceat(of_row * self.gap, self.bin_starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (
                self._auc(of_row),
                (weights @ self.weighted_area) / (weights @ self.mixed_rows),
                (weights @ self.area) / (weights @ self.mixed),
                (weights @ self.cross_entropy) / rows,
                (weights @ self.predicted) / (weights @ self.positives),
                np.abs(gaps).sum() / rows,
            )
        return dict(zip(METRICS, map(float, values), strict=True))

    def _auc(self, of_row: NDArray) -> float:
        rows = np.add.reduceat(of_row, self.starts)
        positives = np.add.reduceat(of_row * self.is_positive, self.starts)
        return area_per_group(Blocks(rows, positives, np.zeros(1, dtype=np.int64)))[0]


def compare(
    a: Float64Array,
    b: Float64Array,
    label: NDArray,
    session: NDArray,
    *,
    replicates: int = 400,
    seed: int = 0,
) -> dict[str, Difference]:
    """The differences of two models by metric, with 95 % bootstrap intervals over sessions.

    Args:
        a, b: probabilities [N] of both models for the same rows.
        label: 0 or 1, [N].
        session: [N], any numbers.
    """
    number = np.unique(session, return_inverse=True)[1]
    models = [WeightedMetrics(np.asarray(each, np.float64), label, number) for each in (a, b)]
    num_sessions = int(number.max()) + 1
    random = np.random.default_rng(seed)
    drawn = np.empty((replicates, len(METRICS)))
    for row in drawn:
        weights = random.poisson(1.0, num_sessions)
        first, second = (model.of_weights(weights) for model in models)
        row[:] = [second[name] - first[name] for name in METRICS]
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    first, second = (model.of_weights(np.ones(num_sessions, dtype=np.int64)) for model in models)
    return {
        name: Difference(first[name], second[name], float(low[i]), float(high[i]))
        for i, name in enumerate(METRICS)
    }
