"""What TensorBoard shows of a run; computed at log entries alone, by rank 0."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from trainer.checkpoints.checkpoint import Metrics
from trainer.reporting.progress import LogEntry

NAMES = (
    "loss",
    "learning_rate",
    "global_gradient_norm",
    "gradient_norm",
    "gradient",
    "parameter",
)
DEFAULT_NAMES = NAMES[:3]


class Summaries:
    """Writes log entries and metrics to model_dir/tensorboard.

    A disk without room costs the summaries, not the training: it is said once.

    Args:
        names: what to write besides throughput, waiting, task weights and metrics: of NAMES.
        step: what an interrupted run wrote of later steps is hidden.
        say: prints a line.
    """

    def __init__(
        self, model_dir: Path, names: tuple[str, ...], step: int, say: Callable[[str], None]
    ) -> None:
        self._names, self._say = names or DEFAULT_NAMES, say
        self._folder, self._is_broken = model_dir / "tensorboard", False
        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def add_entry(self, entry: LogEntry, model: nn.Module) -> None:
        """A log entry, and what the model's dense parameters and gradients are now."""
        with self._writing():
            for name, value in self._scalars(entry).items():
                self._writer.add_scalar(name, value, entry.step)
            for name, parameter, gradient in _dense_gradients(model):
                if "gradient_norm" in self._names:
                    self._writer.add_scalar(f"gradient_norm/{name}", gradient.norm(), entry.step)
                if "gradient" in self._names:
                    self._writer.add_histogram(f"gradient/{name}", gradient, entry.step)
                if "parameter" in self._names:
                    self._writer.add_histogram(f"parameter/{name}", parameter, entry.step)

    def add_metrics(self, metrics: Metrics, step: int) -> None:
        """Metrics of an evaluation after a step."""
        with self._writing():
            for task, of_task in metrics.items():
                for name, value in of_task.items():
                    self._writer.add_scalar(f"eval/{task}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        with self._writing():
            self._writer.close()

    def _scalars(self, entry: LogEntry) -> dict[str, float]:
        values = {"samples_per_second": entry.rows_per_second, "epoch": entry.epoch}
        values["data_wait_share"] = entry.data_wait_share
        values["skipped_batches"] = entry.skipped_batches
        values |= {f"pareto_weight/{k}": v for k, v in (entry.pareto_weights or {}).items()}
        values |= {f"train/{name}": value for name, value in entry.train_metrics.items()}
        if "loss" in self._names:
            values |= {f"loss/{name}": value for name, value in entry.losses.items()}
        if "learning_rate" in self._names:
            values |= {f"learning_rate/{k}": v for k, v in entry.learning_rates.items()}
        if "global_gradient_norm" in self._names and entry.gradient_norm is not None:
            values["global_gradient_norm"] = entry.gradient_norm
        return values

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._is_broken:
                self._say(f"warning: {self._folder} could not be written: {error}")
            self._is_broken = True


def _dense_gradients(model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, value and last gradient of each dense parameter; tables have none to show."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            yield name, parameter.detach(), parameter.grad.detach()
