"""Tasks: what each output of a model is trained on, with its losses, weights and metrics."""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    JRCLoss,
    L2Loss,
    ListNetLoss,
    RankNetLoss,
    RegressionCompatibleRankingLoss,
    SoftmaxCrossEntropyLoss,
    check_min_weights,
)
from trainer.config import ConfigError, is_multi_task, task_towers
from trainer.metrics.requests import (
    BINARY,
    MULTICLASS,
    REGRESSION,
    check_train_metrics,
    parse_requests,
)
from trainer.protos.pipeline_pb2 import (
    EasyRecConfig,
    JRCContrast,
    LossConfig,
    MetricConfig,
    TrainMetricConfig,
)

SESSION_LOSSES = ("jrc_loss", "list_net_loss", "rank_net_loss", "rcr_loss")
BINARY_LOSSES = ("binary_cross_entropy", "binary_focal_loss", *SESSION_LOSSES)


@dataclass(frozen=True)
class Task:
    """One label to predict.

    Weight of a row: sample weight * (in_space_weight if label[indicator] > 0 else
    out_space_weight), normalised to a mean of one over the global batch, times `weight`, and per
    loss times the loss's own `weight`.
    """

    name: str
    label: str
    num_class: int
    losses: tuple[LossConfig, ...]
    weight: float = 1.0
    sample_weight: str | None = None
    space_indicator: str | None = None
    in_space_weight: float = 1.0
    out_space_weight: float = 1.0
    pareto_min_weight: float = 0.0
    metrics: tuple[MetricConfig, ...] = ()
    train_metrics: tuple[TrainMetricConfig, ...] = ()
    label_inputs: tuple[str, ...] = ()  # labels that the model reads as inputs

    @property
    def is_binary(self) -> bool:
        """Whether the label must be 0 or 1 (and calibration and ranking can be measured)."""
        names = [loss.WhichOneof("loss") for loss in self.losses]
        return any(name in BINARY_LOSSES for name in names) or (
            self.num_class == 2 and "softmax_cross_entropy" in names
        )

    @property
    def is_regression(self) -> bool:
        """Whether the label is a real number."""
        return any(loss.WhichOneof("loss") == "l2_loss" for loss in self.losses)

    @property
    def label_kind(self) -> str:
        """What metrics can be taken of the label, as in trainer/metrics/requests.py."""
        if self.is_regression:
            return REGRESSION
        return BINARY if self.is_binary else MULTICLASS

    @property
    def grouping_keys(self) -> list[str]:
        """The columns by which some metric groups rows."""
        return parse_requests(self.metrics, self.label_kind, self.name).columns

    @property
    def session_names(self) -> set[str]:
        """The session columns that the task's losses name."""
        kinds = [(loss, loss.WhichOneof("loss")) for loss in self.losses]
        return {getattr(loss, kind).session_name for loss, kind in kinds if kind in SESSION_LOSSES}

    def prediction(self, logits: Tensor) -> Tensor:
        """What the metrics compare with the label, from logits [B, num_class].

        The probability of a positive label [B], of each class [B, num_class], or the real number
        predicted [B].
        """
        if self.is_regression:
            return logits[:, 0]
        if not self.is_binary:
            return logits.softmax(dim=1)
        return (logits[:, 0] if self.num_class == 1 else logits[:, 1] - logits[:, 0]).sigmoid()


def parse_tasks(config: EasyRecConfig) -> list[Task]:
    """The tasks of a model. Raises ConfigError for losses, labels and weights that do not fit."""
    labels = list(config.data_config.label_fields)
    if not labels:
        raise ConfigError("data_config.label_fields must name the label columns, but is empty")
    towers = task_towers(config)
    if towers:
        domain = config.model_config.pepnet.domain_input_name
        inputs = (domain,) if domain else ()
        tasks = [replace(_tower_task(tower), label_inputs=inputs) for tower in towers]
    elif not is_multi_task(config):
        model, weights = config.model_config, config.data_config.sample_weight_fields
        tasks = [
            Task(
                name=labels[0],
                label=labels[0],
                num_class=model.num_class,
                losses=tuple(model.losses),
                sample_weight=weights[0] if weights else None,
                metrics=tuple(model.metrics),
                train_metrics=tuple(model.train_metrics),
            )
        ]
    else:
        raise ConfigError("model_config: a multi-task model must have task_towers, but has none")
    for task in tasks:
        _check_task(task, labels, list(config.data_config.sample_weight_fields))
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ConfigError(f"tower_name must be unique, but got: {', '.join(names)}")
    if config.model_config.use_pareto_loss_weight:  # without it the minima have no effect
        try:
            check_min_weights([task.pareto_min_weight for task in tasks])
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return tasks


def _tower_task(tower: Any) -> Task:
    return Task(
        name=tower.tower_name,
        label=tower.label_name,
        num_class=tower.num_class,
        losses=_tower_losses(tower),
        weight=tower.weight,
        sample_weight=tower.sample_weight_name or None,
        space_indicator=tower.task_space_indicator_label or None,
        in_space_weight=tower.in_task_space_weight,
        out_space_weight=tower.out_task_space_weight,
        pareto_min_weight=tower.pareto_min_loss_weight,
        metrics=tuple(tower.metrics),
        train_metrics=tuple(tower.train_metrics),
    )


def _tower_losses(tower: Any) -> tuple[LossConfig, ...]:
    """The tower's `losses`, and the losses that stand in the tower itself."""
    kinds = [field.name for field in LossConfig.DESCRIPTOR.oneofs_by_name["loss"].fields]
    inside = [LossConfig(**{kind: getattr(tower, kind)}) for kind in kinds if tower.HasField(kind)]
    return (*tower.losses, *inside)


def _check_task(task: Task, labels: list[str], weights: list[str]) -> None:
    where = f"task `{task.name}`"
    if not task.name:
        raise ConfigError("task_towers.tower_name must be set, but is missing")
    for name, field in (
        (task.label, "label_name"),
        (task.space_indicator, "task_space_indicator_label"),
    ):
        if name is not None and name not in labels:
            raise ConfigError(
                f"{where}: {field} must be one of data_config.label_fields "
                f"({', '.join(labels)}), but got: `{name}`"
            )
    if task.sample_weight is not None and task.sample_weight not in weights:
        raise ConfigError(
            f"{where}: sample_weight_name must be one of data_config.sample_weight_fields "
            f"({', '.join(weights) or 'none'}), but got: `{task.sample_weight}`"
        )
    for name, value in (
        ("weight", task.weight),
        ("in_task_space_weight", task.in_space_weight),
        ("out_task_space_weight", task.out_space_weight),
        *(("losses.weight", loss.weight) for loss in task.losses),
    ):
        if not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"{where}: {name} must be a finite number >= 0, but got: {value:g}")
    if not task.losses:
        raise ConfigError(f"{where}: losses must name at least one loss, but is empty")
    for loss in task.losses:
        _check_loss(task, loss, where)
    if task.is_regression and task.is_binary:
        raise ConfigError(f"{where}: l2_loss cannot stand beside a loss for classes")
    parse_requests(task.metrics, task.label_kind, where)
    check_train_metrics(task.train_metrics, task.label_kind, where)


def _check_loss(task: Task, loss: LossConfig, where: str) -> None:
    kind = loss.WhichOneof("loss")
    allowed = {
        "binary_cross_entropy": (task.num_class in (1, 2), "1 or 2"),
        "binary_focal_loss": (task.num_class == 1, "1"),
        "softmax_cross_entropy": (task.num_class > 1, "above 1"),
        "l2_loss": (task.num_class == 1, "1"),
        "jrc_loss": (task.num_class == 2, "2"),
        "list_net_loss": (task.num_class in (1, 2), "1 or 2"),
        "rank_net_loss": (task.num_class in (1, 2), "1 or 2"),
        "rcr_loss": (task.num_class in (1, 2), "1 or 2"),
    }
    if kind is None:
        raise ConfigError(f"{where}: each `losses` must name a loss, but one is empty")
    fits, rule = allowed[kind]
    if not fits:
        raise ConfigError(
            f"{where}: num_class must be {rule} with {kind}, but got: {task.num_class}"
        )
    if kind in SESSION_LOSSES:
        message = getattr(loss, kind)
        if not message.session_name:
            raise ConfigError(f"{where}: {kind} needs a session_name, the dataset's session column")
        if message.exclude_out_of_task_space and task.space_indicator is None:
            raise ConfigError(
                f"{where}: {kind}.exclude_out_of_task_space needs a task_space_indicator_label, "
                f"but the task has none; set one, or remove exclude_out_of_task_space"
            )
    try:
        build_loss(loss)
    except ValueError as error:
        raise ConfigError(f"{where}: {kind}: {error}") from None


def build_loss(config: LossConfig) -> nn.Module:
    """The loss module of a LossConfig, giving the sum of the weighted losses of rows."""
    kind = config.WhichOneof("loss")
    if kind == "binary_cross_entropy":
        smoothing = config.binary_cross_entropy.label_smoothing
        return BinaryCrossEntropyLoss(label_smoothing=smoothing, reduction="sum")
    if kind == "binary_focal_loss":
        focal = config.binary_focal_loss
        return BinaryFocalLoss(gamma=focal.gamma, alpha=focal.alpha, reduction="sum")
    if kind == "softmax_cross_entropy":
        smoothing = config.softmax_cross_entropy.label_smoothing
        return SoftmaxCrossEntropyLoss(label_smoothing=smoothing, reduction="sum")
    if kind == "l2_loss":
        return L2Loss(reduction="sum")
    if kind == "jrc_loss":
        jrc = config.jrc_loss
        contrast, smoothing = JRCContrast.Name(jrc.contrast).lower(), jrc.label_smoothing
        return JRCLoss(jrc.alpha, "sum", contrast, label_smoothing=smoothing)
    if kind == "list_net_loss":
        return ListNetLoss(reduction="sum")
    if kind == "rank_net_loss":
        return RankNetLoss(reduction="sum")
    if kind == "rcr_loss":
        return RegressionCompatibleRankingLoss(alpha=config.rcr_loss.alpha, reduction="sum")
    raise ConfigError(f"losses: unknown loss `{kind}`")
