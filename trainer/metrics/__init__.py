"""Metrics of predictions over the rows of all ranks, in constant memory: docs/metrics.md.

    arrays        metrics of arrays in memory
    task_metrics  metrics of one task over batches, by the kind of its label
    training      metrics of the last steps, while training

and what these are made of:

    pairs, scores, sessions, groups   counting pairs; of all rows, in sessions, in other groups
    session_lengths, intervals        GAUC by the length of sessions; how sure a rate is
    calibration                       LogLoss, normalised entropy, PCOC, ECE, field-RCE
    keyed_sums, sampling, ranks       constant memory, and many ranks
    requests, checks                  what a config asks for, what rows must be

What the rows do not define is NaN, not an error: AUC of one class, GAUC without a group of both
classes (its coverage is 0), PCOC without positives, everything but counts and coverage of no rows.
"""

from trainer.metrics.arrays import auc, binary_metrics, gauc, log_loss, pcoc
from trainer.metrics.ranks import Ranks
from trainer.metrics.task_metrics import (
    BinaryMetrics,
    MulticlassMetrics,
    RegressionMetrics,
    TaskMetrics,
)

__all__ = [
    "BinaryMetrics",
    "MulticlassMetrics",
    "Ranks",
    "RegressionMetrics",
    "TaskMetrics",
    "auc",
    "binary_metrics",
    "gauc",
    "log_loss",
    "pcoc",
]
