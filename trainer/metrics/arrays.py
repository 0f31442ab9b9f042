"""Metrics of whole arrays in memory, for scripts and tests: exact whatever the number of rows.

Shapes: `N` rows.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.metrics.calibration import row_log_loss
from trainer.metrics.checks import InputCounts, check_same_shape
from trainer.metrics.groups import GroupMean, mean_over_groups
from trainer.metrics.pairs import area_per_group, blocks
from trainer.metrics.ranks import Ranks
from trainer.metrics.task_metrics import BinaryMetrics


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve of `scores` [N] for `labels` [N] of 0 and 1; NaN of one class.

    Raises:
        ValueError: on NaN scores, labels other than 0 and 1, or shapes that differ.
    """
    areas = area_per_group(blocks(*_checked(scores, labels, unit=False)))
    return float(areas[0]) if areas.size else math.nan


def gauc(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> GroupMean:
    """AUC within `groups` [N] (integers, any order), averaged with and without rows as weight.

    Raises:
        ValueError: on NaN scores, labels other than 0 and 1, or shapes that differ.
    """
    score, is_positive = _checked(scores, labels, unit=False)
    group = np.asarray(groups)
    check_same_shape("groups", group, score)
    of = blocks(score, is_positive, group)
    return mean_over_groups(area_per_group(of), of.group_rows, Ranks.alone(), has_all=True)


def log_loss(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean cross-entropy in nats, in float64; NaN of no rows.

    Probabilities are first clipped to [1e-7, 1 - 1e-7] (`PROBABILITY_CLIP`).

    Raises:
        ValueError: on values outside [0, 1], labels other than 0 and 1, or shapes that differ.
    """
    prob, is_positive = _checked(probs, labels)
    return float(row_log_loss(prob, is_positive).mean()) if prob.size else math.nan


def pcoc(probs: ArrayLike, labels: ArrayLike) -> float:
    """Predicted clicks over clicks, sum(p) / sum(y): 1 when calibrated; NaN without positives.

    Raises:
        ValueError: on values outside [0, 1], labels other than 0 and 1, or shapes that differ.
    """
    prob, is_positive = _checked(probs, labels)
    clicks = int(is_positive.sum())
    return float(prob.sum()) / clicks if clicks else math.nan


def binary_metrics(
    probs: ArrayLike, labels: ArrayLike, groups: ArrayLike, task: str = ""
) -> dict[str, float]:
    """What BinaryMetrics always computes, of `probs`, `labels` and `groups` (sessions), each [N].

    Raises:
        ValueError: on values outside [0, 1], labels other than 0 and 1, or shapes that differ.
    """
    prob, label, group = np.asarray(probs, np.float64), np.asarray(labels), np.asarray(groups)
    check_same_shape("labels", label, prob)
    check_same_shape("groups", group, prob)
    metrics = BinaryMetrics(task)
    metrics.update(prob, label, group)
    return metrics.compute(Ranks.alone())


def _checked(
    scores: ArrayLike, labels: ArrayLike, *, unit: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores in float64 and labels as bool, or a ValueError."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if score.ndim != 1:
        raise ValueError(
            f"scores must have shape (N,), but got {score.shape}; select one column per task"
        )
    check_same_shape("labels", label, score)
    counts = InputCounts(unit_scores=unit)
    counts.add(score, label)
    counts.check(Ranks.alone())
    return score, label == 1
