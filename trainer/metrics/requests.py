"""What a config's `metrics { ... }` ask of a task, beside what is always computed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.config import ConfigError
from trainer.protos import pipeline_pb2 as pb

DEFAULT_BINS = 15
BINARY, MULTICLASS, REGRESSION = "two classes", "several classes", "a real number"

# The kinds of label that a metric is for.
_KINDS = {
    "auc": (BINARY,),
    "grouped_auc": (BINARY,),
    "normalized_entropy": (BINARY,),
    "calibration_error": (BINARY,),
    "field_calibration_error": (BINARY,),
    "ndcg": (BINARY,),
    "mrr": (BINARY,),
    "recall_at_k": (BINARY,),
    "accuracy": (BINARY, MULTICLASS),
    "multiclass_auc": (BINARY, MULTICLASS),
    "mean_absolute_error": (REGRESSION,),
    "mean_squared_error": (REGRESSION,),
    "xauc": (REGRESSION,),
    "grouped_xauc": (REGRESSION,),
}


@dataclass
class Requests:
    """Options of the metrics of one task.

    group_by: columns of grouped_auc and grouped_xauc.
    fields: per column of field-RCE, its epsilon.
    bins: each number of bins of the calibration errors.
    ndcg_at, recall_at, top_k: each k.
    thresholds: of the accuracy of two classes.
    averages: of multiclass_auc, macro or weighted.
    """

    group_by: list[str] = field(default_factory=list)
    fields: dict[str, float] = field(default_factory=dict)
    bins: list[int] = field(default_factory=lambda: [DEFAULT_BINS])
    eta: float = 1e-12
    ndcg_at: list[int] = field(default_factory=list)
    recall_at: list[int] = field(default_factory=list)
    mrr: bool = False
    thresholds: list[float] = field(default_factory=list)
    top_k: list[int] = field(default_factory=list)
    averages: list[str] = field(default_factory=list)
    xauc: bool = False

    @property
    def columns(self) -> list[str]:
        """Every column that some metric groups rows by, once."""
        return list(dict.fromkeys([*self.group_by, *self.fields]))


def parse_requests(metrics: Sequence[pb.MetricConfig], label_kind: str, where: str) -> Requests:
    """The options of a task's metrics.

    Args:
        label_kind: BINARY, MULTICLASS or REGRESSION.
        where: the task, for messages.

    Raises:
        ConfigError: a metric is empty, is not for this kind of label, or has a faulty option.
    """
    asked = Requests()
    for metric in metrics:
        kind = metric.WhichOneof("metric")
        if kind is None:
            raise ConfigError(f"{where}: each `metrics` must name a metric, but one is empty")
        check_kind(kind, label_kind, f"{where}: metrics")
        _add(asked, kind, getattr(metric, kind), f"{where}: {kind}")
    return asked


def check_train_metrics(
    metrics: Sequence[pb.TrainMetricConfig], label_kind: str, where: str
) -> None:
    """Raises ConfigError as parse_requests does, for a faulty decay, and for two of one name."""
    names: set[str] = set()
    for metric in metrics:
        kind = metric.WhichOneof("metric")
        if kind is None:
            raise ConfigError(f"{where}: each `train_metrics` must name a metric, but one is empty")
        check_kind(kind, label_kind, f"{where}: train_metrics")
        _add(Requests(), kind, getattr(metric, kind), f"{where}: train_metrics: {kind}")
        if not 0 <= metric.decay_rate < 1:
            raise ConfigError(
                f"{where}: train_metrics.decay_rate must be in [0, 1), got: {metric.decay_rate:g}"
            )
        if not metric.decay_step:
            raise ConfigError(f"{where}: train_metrics.decay_step must be positive, but got: 0")
        name = f"{kind} of top_k {metric.recall_at_k.top_k}" if kind == "recall_at_k" else kind
        if name in names:
            raise ConfigError(
                f"{where}: train_metrics must have each metric once, as its name stands in the log "
                f"without options, but got twice: {name}; leave one out"
            )
        names.add(name)


def check_kind(kind: str, label_kind: str, where: str) -> None:
    """Raises ConfigError if a metric is not for that kind of label."""
    if label_kind not in _KINDS[kind]:
        fitting = ", ".join(name for name, kinds in _KINDS.items() if label_kind in kinds)
        raise ConfigError(
            f"{where}: {kind} needs a loss for {' or '.join(_KINDS[kind])}, but the task's label "
            f"is {label_kind}; there are: {fitting}"
        )


def _add(asked: Requests, kind: str, options: object, where: str) -> None:
    def positive(name: str) -> int:
        value = getattr(options, name)
        if value < 1:
            raise ConfigError(f"{where}.{name} must be positive, but got: {value}")
        return value

    def column(name: str) -> str:
        value = getattr(options, name)
        if not value:
            raise ConfigError(f"{where}.{name} must name a column, but is missing")
        return value

    if kind in ("grouped_auc", "grouped_xauc"):
        asked.group_by.append(column("grouping_key"))
    elif kind == "xauc":
        asked.xauc = True
    elif kind == "mrr":
        asked.mrr = True
    elif kind == "ndcg":
        asked.ndcg_at.append(positive("top_k"))
    elif kind == "recall_at_k":
        asked.recall_at.append(positive("top_k"))
    elif kind == "calibration_error":
        asked.bins.append(positive("num_bins"))
    elif isinstance(options, pb.NormalizedEntropy):
        asked.eta = options.eta
        if not 0 < asked.eta < 0.5:
            raise ConfigError(f"{where}.eta must be in (0, 0.5), but got: {asked.eta:g}")
    elif isinstance(options, pb.FieldCalibrationError):
        asked.fields[column("field_name")] = options.epsilon
        if not options.epsilon > 0:
            raise ConfigError(f"{where}.epsilon must be positive, but got: {options.epsilon:g}")
    elif isinstance(options, pb.Accuracy):
        asked.top_k.append(positive("top_k"))
        asked.thresholds.append(options.threshold)
        if not 0 <= options.threshold <= 1:
            raise ConfigError(f"{where}.threshold must be in [0, 1], got: {options.threshold:g}")
    elif isinstance(options, pb.MulticlassAUC):
        asked.averages.append(options.average)
        if options.average not in ("macro", "weighted"):
            raise ConfigError(
                f"{where}.average must be macro or weighted, but got: `{options.average}`"
            )
