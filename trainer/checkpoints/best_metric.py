"""By which metric a checkpoint is the best: train_config's, or export_config's.

TorchEasyRec names metrics and losses by their field in the config, with the tower's name behind it
in a multi-task model: `auc`, `auc_ctr`, `jrc_loss_ctr`. Here they are `click/auc`, `ctr/auc`.
"""

from typing import Any

from trainer.config import ConfigError, did_you_mean, is_multi_task
from trainer.metrics.requests import BINARY
from trainer.metrics.task_metrics import multiclass_auc, short_name
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task, parse_tasks


def best_metric(config: pb.EasyRecConfig) -> tuple[str, bool]:
    """`task/metric`, or empty for none, and whether a larger one is better.

    Raises:
        ConfigError: both parts of the config name one, or export_config one that it does not ask
            for.
    """
    train, export = config.train_config, config.export_config
    if export.exporter_type not in ("latest", "best"):
        raise ConfigError(
            f"export_config.exporter_type must be latest or best, but got: `{export.exporter_type}`"
        )
    if export.exporter_type == "latest":
        return train.best_checkpoint_metric, train.best_checkpoint_larger_is_better
    if train.best_checkpoint_metric:
        raise ConfigError(
            "only one of train_config.best_checkpoint_metric and export_config.exporter_type: best "
            "can be set, but both are; remove one"
        )
    known: dict[str, str] = {}
    for task in parse_tasks(config):
        behind = f"_{task.name}" if is_multi_task(config) else ""
        names = [
            (metric.WhichOneof("metric") or "", _name(metric, task)) for metric in task.metrics
        ]
        names += [(kind, kind) for kind in (loss.WhichOneof("loss") or "" for loss in task.losses)]
        known |= {theirs + behind: f"{task.name}/{ours}" for theirs, ours in names}
    metric = export.best_exporter_metric
    if metric not in known:
        raise ConfigError(
            f"export_config.best_exporter_metric must be a metric or loss of the config, but got: "
            f"`{metric}`; {did_you_mean(metric, known)}There are: {', '.join(known)}"
        )
    return known[metric], export.metric_larger_is_better


def _name(metric: pb.MetricConfig, task: Task) -> str:
    """A metric's name in an evaluation."""
    kind = metric.WhichOneof("metric") or ""
    options: Any = getattr(metric, kind)
    if kind == "accuracy" and task.label_kind != BINARY:
        return "accuracy" if options.top_k == 1 else f"accuracy@{options.top_k}"
    names = {
        "accuracy": lambda: short_name(f"accuracy@{options.threshold:g}"),
        "multiclass_auc": lambda: multiclass_auc(options.average),
        "mean_absolute_error": lambda: "mae",
        "mean_squared_error": lambda: "mse",
        "grouped_auc": lambda: f"gauc_unweighted[{options.grouping_key}]",
        "grouped_xauc": lambda: f"xauc[{options.grouping_key}]",
        "calibration_error": lambda: short_name(f"ece@{options.num_bins}"),
        "field_calibration_error": lambda: f"field_rce[{options.field_name}]",
        "ndcg": lambda: f"ndcg@{options.top_k}",
        "recall_at_k": lambda: f"recall@{options.top_k}",
    }
    return names[kind]() if kind in names else kind
