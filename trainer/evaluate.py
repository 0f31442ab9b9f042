"""Evaluation: exact metrics of each binary task over a whole session dataset."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.batch import SessionBatch
from trainer.collectives import all_reduce_sum
from trainer.metrics import MetricAccumulator
from trainer.objective import LossMeter
from trainer.tasks import Task

CALIBRATION_BINS = 48
MAX_LOGIT = 12.0


@dataclass
class Evaluation:
    """Metrics per task, and per task a reliability table [bins, 3]: rows, sum p, sum y."""

    metrics: dict[str, dict[str, float]]
    reliability: dict[str, list[list[float]]]


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[SessionBatch], tasks: list[Task], device: torch.device
) -> Evaluation:
    """Score every batch with all ranks; every rank returns the metrics of all rows."""
    binary = [task for task in tasks if task.is_binary]
    metrics = {task.name: MetricAccumulator(task.name) for task in binary}
    by_key = {(t.name, key): MetricAccumulator(t.name) for t in binary for key in t.grouping_keys}
    tables = {task.name: torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64) for task in binary}
    losses = LossMeter()
    was_training = model.training
    model.eval()
    for batch in batches:
        _, outputs = model(batch.to(device, non_blocking=True))
        losses.update(outputs)
        for task in binary:
            scores, labels = outputs.probabilities[task.name].cpu(), batch.labels[task.label]
            metrics[task.name].update(scores, labels, batch.session_of_row())
            for key in task.grouping_keys:
                by_key[task.name, key].update(scores, labels, batch.groups[key])
            _add_reliability(tables[task.name], scores, labels)
    model.train(was_training)
    result = {task.name: metrics[task.name].compute() for task in binary}
    for (task_name, key), accumulator in by_key.items():
        result[task_name][f"gauc[{key}]"] = accumulator.compute()["gauc"]
    for table in tables.values():
        all_reduce_sum(table)
    for name, value in losses.compute().items():
        task_name, loss_name = name.rsplit("/", 1)
        result.setdefault(task_name, {})[loss_name] = value
    return Evaluation(result, {name: table.tolist() for name, table in tables.items()})


def _add_reliability(table: Tensor, probabilities: Tensor, labels: Tensor) -> None:
    """Bins of equal width in the log-odds: small probabilities keep their resolution."""
    logit = probabilities.double().clamp(1e-12, 1 - 1e-12).logit()
    place = (logit + MAX_LOGIT) / (2 * MAX_LOGIT) * CALIBRATION_BINS
    bins = place.long().clamp(0, CALIBRATION_BINS - 1)
    rows = torch.stack([torch.ones_like(logit), probabilities.double(), labels.double()], dim=1)
    table.index_add_(0, bins, rows)
