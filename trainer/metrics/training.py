"""Metrics of the last training steps: `train_metrics` of a config.

The state is a few sums on the device, and no step waits for the device: ranks and the host look at
them only when a value is asked for. After each decay_step steps the sums of these steps join those
before, which then weigh decay_rate:

    sums = decay_rate * sums + (1 - decay_rate) * sums of the last decay_step steps

Shapes: `B` rows of a batch, `C` classes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.batch import SessionBatch
from trainer.metrics.pairs import Blocks, area_per_group
from trainer.metrics.ranks import Ranks
from trainer.protos.pipeline_pb2 import TrainMetricConfig
from trainer.tasks import Task

# AUC counts runs of scores of equal width in the log-odds as one score: 0.006 each.
AUC_BINS, MAX_LOG_ODDS = 4096, 12.0

# From a task's predictions and labels, and the batch, the sums of a batch: [n], float64.
SumsOf = Callable[[Tensor, Tensor, SessionBatch], Tensor]


class TrainMetrics:
    """The train_metrics of all tasks.

    Args:
        tasks: as parsed from the config.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._metrics = [
            (task, DecayedMetric(config)) for task in tasks for config in task.train_metrics
        ]

    def update(
        self, batch: SessionBatch, predictions: dict[str, Tensor], counts: Tensor | bool = True
    ) -> None:
        """Add a batch, on the device of its predictions (see Outputs.predictions).

        One that does not count (bool []) adds nothing but a step.
        """
        for task, metric in self._metrics:
            metric.update(predictions[task.name], batch.labels[task.label], batch, counts)

    def compute(self) -> dict[str, float]:
        """Values by `task/metric`, over all ranks: a collective call. NaN where not defined."""
        ranks = Ranks.of()
        return {name: metric.compute(ranks) for name, metric in self._named()}

    def state(self) -> dict[str, Any]:
        """Numbers for a checkpoint, of all ranks: a collective call."""
        ranks = Ranks.of()
        return {name: metric.state(ranks) for name, metric in self._named()}

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave, on any number of ranks; metrics that are new start anew."""
        ranks = Ranks.of()
        for name, metric in self._named():
            if name in state:
                metric.load_state(state[name], ranks, device)

    def _named(self) -> Iterator[tuple[str, "DecayedMetric"]]:
        for task, metric in self._metrics:
            yield f"{task.name}/{metric.name}", metric


class DecayedMetric:
    """One metric: its sums of the last steps, and those of the steps before, decayed."""

    def __init__(self, config: TrainMetricConfig) -> None:
        kind = config.WhichOneof("metric") or ""
        self.name, self._sums_of, self._value_of = _METRICS[kind](getattr(config, kind))
        self._rate, self._every = config.decay_rate, config.decay_step
        self._recent: Tensor | None = None
        self._decayed: Tensor | None = None
        self._steps = 0

    @torch.no_grad()
    def update(
        self,
        prediction: Tensor,
        label: Tensor,
        batch: SessionBatch,
        counts: Tensor | bool = True,
    ) -> None:
        """Add a batch: predictions [B] or [B, C], labels [B]; nothing where it does not count."""
        sums = self._sums_of(prediction, label, batch) * counts
        recent = sums if self._recent is None else self._recent + sums
        self._steps += 1
        if self._steps % self._every:
            self._recent = recent
            return
        before = recent if self._decayed is None else self._decayed
        self._decayed, self._recent = self._rate * before + (1 - self._rate) * recent, None

    def compute(self, ranks: Ranks) -> float:
        """The value over all ranks; before the first decay_step steps, of those so far."""
        sums = self._decayed if self._decayed is not None else self._recent
        if sums is None:
            return math.nan
        return self._value_of(ranks.sum(sums.cpu().numpy()))

    def state(self, ranks: Ranks) -> dict[str, Any]:
        """Steps so far, and the sums over all ranks."""
        state: dict[str, Any] = {"steps": self._steps}
        for name, sums in (("recent", self._recent), ("decayed", self._decayed)):
            state[name] = None if sums is None else ranks.sum(sums.cpu().numpy()).tolist()
        return state

    def load_state(self, state: dict[str, Any], ranks: Ranks, device: torch.device) -> None:
        """Restore; the first rank takes the sums of all."""
        self._steps = state["steps"]
        sums = [
            None if values is None else torch.tensor(values, dtype=torch.float64, device=device)
            for values in (state["recent"], state["decayed"])
        ]
        if ranks.rank > 0:
            sums = [None if each is None else torch.zeros_like(each) for each in sums]
        self._recent, self._decayed = sums


def _ratio(sums: np.ndarray) -> float:
    """Of the sums [2] of a numerator and a denominator."""
    return float(sums[0] / sums[1]) if sums[1] else math.nan


def _mean(values: Tensor) -> Tensor:
    """Sum and number of values, float64 [2]."""
    values = values.double()
    return torch.stack([values.sum(), torch.ones_like(values).sum()])


def _auc(_: Any) -> tuple[str, SumsOf, Callable[[np.ndarray], float]]:
    def sums_of(prediction: Tensor, label: Tensor, _: SessionBatch) -> Tensor:
        log_odds = prediction.double().clamp(1e-7, 1 - 1e-7).logit()
        place = ((log_odds / MAX_LOG_ODDS + 1) * (AUC_BINS / 2)).long().clamp(0, AUC_BINS - 1)
        counts = torch.zeros(2 * AUC_BINS, dtype=torch.float64, device=prediction.device)
        ones = torch.ones_like(log_odds)
        return counts.index_add_(0, place + AUC_BINS * (label == 1), ones)

    def value_of(sums: np.ndarray) -> float:
        negatives, positives = sums.reshape(2, AUC_BINS)
        of = Blocks(negatives + positives, positives, np.zeros(1, dtype=np.int64))
        return float(area_per_group(of)[0])

    return "auc", sums_of, value_of


def _absolute_error(_: Any) -> tuple[str, SumsOf, Callable[[np.ndarray], float]]:
    return "mae", lambda prediction, label, _: _mean((prediction - label).abs()), _ratio


def _squared_error(_: Any) -> tuple[str, SumsOf, Callable[[np.ndarray], float]]:
    return "mse", lambda prediction, label, _: _mean((prediction - label).square()), _ratio


def _accuracy(options: Any) -> tuple[str, SumsOf, Callable[[np.ndarray], float]]:
    def sums_of(prediction: Tensor, label: Tensor, _: SessionBatch) -> Tensor:
        if prediction.dim() == 1:
            return _mean((prediction > options.threshold) == (label == 1))
        top_k = min(options.top_k, prediction.shape[1])
        return _mean((prediction.topk(top_k).indices == label[:, None]).any(dim=1))

    return "accuracy", sums_of, _ratio


def _recall_at_k(options: Any) -> tuple[str, SumsOf, Callable[[np.ndarray], float]]:
    def sums_of(prediction: Tensor, label: Tensor, batch: SessionBatch) -> Tensor:
        offsets = batch.session_offsets.to(prediction.device)
        number = torch.arange(len(offsets) - 1, device=prediction.device)
        session = number.repeat_interleave(offsets.diff(), output_size=len(label))
        order = prediction.argsort(descending=True, stable=True)
        order = order[session[order].argsort(stable=True)]  # by session, then by score
        rank = torch.arange(len(label), device=prediction.device) - offsets[session[order]]
        positives = (label[order] == 1).double()
        return torch.stack([(positives * (rank < options.top_k)).sum(), positives.sum()])

    return f"recall@{options.top_k}", sums_of, _ratio


def _xauc(_: Any) -> tuple[str, SumsOf, Callable[[np.ndarray], float]]:
    """Of the pairs of rows half a batch apart: as many pairs as rows, few of one session."""

    def sums_of(prediction: Tensor, label: Tensor, _: SessionBatch) -> Tensor:
        half = len(label) // 2
        order = (prediction - prediction.roll(half)) * (label - label.roll(half))
        return _mean(order > 0) * bool(half)

    return "xauc", sums_of, _ratio


_METRICS = {
    "auc": _auc,
    "mean_absolute_error": _absolute_error,
    "mean_squared_error": _squared_error,
    "accuracy": _accuracy,
    "recall_at_k": _recall_at_k,
    "xauc": _xauc,
}
