"""Evaluation: the metrics of each task over a whole session dataset."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from trainer.data.batch import SessionBatch
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.data.loader import SessionLoader
from trainer.data.reader import SessionDataset
from trainer.metrics import (
    BinaryMetrics,
    MulticlassMetrics,
    Ranks,
    RegressionMetrics,
    TaskMetrics,
)
from trainer.metrics.checks import InputCounts
from trainer.metrics.requests import parse_requests
from trainer.objective import LossMeter
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import Task


@dataclass
class Evaluation:
    """Metrics per task, and per task of two classes what plots need (BinaryMetrics.plots)."""

    metrics: dict[str, dict[str, float]]
    plots: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Scores:
    """Probabilities and labels of a task, and the number of each row's session: [N] each."""

    label_name: str
    prob: np.ndarray
    label: np.ndarray
    session: np.ndarray


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[SessionBatch],
    tasks: list[Task],
    device: torch.device,
    session_columns: tuple[str, ...] = (),
) -> Evaluation:
    """Score every batch with all ranks; every rank returns the metrics of all rows.

    Args:
        session_columns: the columns that make up a session; see BinaryMetrics.

    Raises:
        ValueError: on every rank, for scores that are NaN on any.
    """
    metrics = {task.name: task_metrics(task, session_columns) for task in tasks}
    losses = LossMeter()
    was_training = model.training
    model.eval()
    for batch in batches:
        _, outputs = model(batch.to(device, non_blocking=True))
        losses.update(outputs)
        sessions = batch.session_of_row().numpy()
        groups = {name: values.numpy() for name, values in batch.groups.items()}
        for task in tasks:
            score = outputs.predictions[task.name].cpu().numpy()
            metrics[task.name].update(score, batch.labels[task.label].numpy(), sessions, groups)
    model.train(was_training)
    ranks = Ranks.of()
    result = {name: each.compute(ranks) for name, each in metrics.items()}
    for name, value in losses.compute().items():
        task_name, loss_name = name.rsplit("/", 1)
        result[task_name][loss_name] = value
    binary = {name: each for name, each in metrics.items() if isinstance(each, BinaryMetrics)}
    return Evaluation(result, {name: each.plots(ranks) for name, each in binary.items()})


def evaluate_dataset(
    config: EasyRecConfig,
    dataset: SessionDataset,
    model: nn.Module,
    tasks: list[Task],
    device: torch.device,
) -> Evaluation:
    """The metrics of a model on a dataset, or on as many global batches of it as the config says.

    Ranks share out the reading: batches are read in shuffled order, which metrics of all rows do
    not depend on. Some global batches alone are those of the stored order.
    """
    limit = config.eval_config.num_steps or None
    shuffle = dist.get_world_size() > 1 and limit is None
    loader = evaluation_loader(config, dataset, tasks, device, shuffle=shuffle)
    batches = itertools.islice(loader.batches(), limit)
    return evaluate(model, batches, tasks, device, dataset.session_columns)


def evaluation_loader(
    config: EasyRecConfig,
    dataset: SessionDataset,
    tasks: list[Task],
    device: torch.device,
    *,
    shuffle: bool,
) -> SessionLoader:
    """This rank's batches of a dataset, each row once."""
    data = config.data_config
    return SessionLoader(
        dataset,
        ColumnSpec(tuple(used_features(config)), tuple(tasks)),
        batch_size=data.eval_batch_size or data.batch_size,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        shuffle=shuffle,
        num_workers=data.num_workers,
        pin_memory=data.pin_memory and device.type == "cuda",
    )


@torch.no_grad()
def collect_scores(
    config: EasyRecConfig,
    dataset: SessionDataset,
    model: Any,
    tasks: list[Task],
    device: torch.device,
) -> dict[str, Scores]:
    """The scores of each binary task for all rows: on every rank, sessions in stored order.

    Raises:
        ValueError: on every rank, for scores that are NaN on any.
    """
    binary = [task for task in tasks if task.is_binary]
    found: list[list[np.ndarray]] = []
    model.eval()
    for batch in evaluation_loader(config, dataset, tasks, device, shuffle=False).batches():
        logits = model.module.predict(batch.to(device, non_blocking=True))
        columns = [batch.session_of_row().numpy()]
        for task in binary:
            columns.append(task.prediction(logits[task.name]).cpu().numpy())
            columns.append(batch.labels[task.label].numpy())
        found.append(columns)
    own = [np.concatenate(column) for column in zip(*found, strict=True)]
    ranks = Ranks.of()
    for task, prob, label in zip(binary, own[1::2], own[2::2], strict=True):
        counts = InputCounts(task.name)
        counts.add(prob, label)
        counts.check(ranks)
    parts = list(ranks.each(own))
    session, *columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(session, kind="stable")
    by_task = zip(binary, columns[::2], columns[1::2], strict=True)
    return {
        task.name: Scores(task.label, prob[order], label[order], session[order])
        for task, prob, label in by_task
    }


def evaluates_averages(config: EasyRecConfig) -> bool:
    """Whether the dense parameters' moving averages are evaluated: where there are any."""
    if config.eval_config.HasField("use_dense_ema"):
        return config.eval_config.use_dense_ema
    return config.train_config.dense_optimizer.HasField("ema")


def exports_averages(config: EasyRecConfig) -> bool:
    """Whether the averages are exported: where they are evaluated, if the config says no other."""
    if config.export_config.HasField("use_dense_ema"):
        return config.export_config.use_dense_ema
    return evaluates_averages(config)


def task_metrics(task: Task, session_columns: tuple[str, ...] = ()) -> TaskMetrics:
    """The metrics of a task: those that are always computed, and those of its config."""
    asked = parse_requests(task.metrics, task.label_kind, task.name)
    if task.is_regression:
        return RegressionMetrics(task.name, asked)
    if not task.is_binary:
        return MulticlassMetrics(task.name, task.num_class, asked)
    return BinaryMetrics(task.name, asked, session_columns)
