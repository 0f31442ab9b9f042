"""Which checkpoints stay: the newest, and the best by a metric."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoints.checkpoint import (
    BEST_FILE,
    Metrics,
    list_checkpoints,
    read_metrics,
    step_of,
)
from trainer.config import ConfigError, did_you_mean
from trainer.reporting.report import write_file


@dataclass(frozen=True)
class Retention:
    """What `train_config` says of keeping checkpoints.

    keep: the newest so many stay; 0: all. metric: `task/name` of an evaluation, or empty: the best
    checkpoint by it stays too, and best_checkpoint.json names it.
    """

    keep: int
    metric: str = ""
    larger_is_better: bool = True

    def best(self, model_dir: Path) -> tuple[Path, float] | None:
        """The best checkpoint and its metric; the oldest of equals; None without any metric."""
        values = {path: self.value(read_metrics(path)) for path in list_checkpoints(model_dir)}
        known = [(path, value) for path, value in values.items() if value is not None]
        sign = 1 if self.larger_is_better else -1
        return max(known, key=lambda pair: sign * pair[1], default=None)

    def value(self, metrics: Metrics) -> float | None:
        """The metric's value among those of an evaluation, if it is there and defined."""
        task, _, name = self.metric.partition("/")
        value = metrics.get(task, {}).get(name)
        return value if value is not None and value == value else None  # NaN: one class alone

    def check(self, metrics: Metrics) -> None:
        """Raise ConfigError if an evaluation has no such metric."""
        known = [f"{task}/{name}" for task, of_task in metrics.items() for name in of_task]
        if self.metric and self.metric not in known:
            raise ConfigError(
                f"train_config.best_checkpoint_metric must be a metric of the evaluation, but got: "
                f"`{self.metric}`; {did_you_mean(self.metric, known)}There are: {', '.join(known)}"
            )

    def prune(self, model_dir: Path, say: Callable[[str], None]) -> None:
        """Name the best checkpoint and delete what is to go, each at one stroke.

        What cannot be written or deleted is said: it is no reason to end training.
        """
        best = self.best(model_dir) if self.metric else None
        if best:
            content = {"checkpoint": best[0].name, "step": step_of(best[0])}
            content |= {"metric": self.metric, "value": best[1]}
            with failure_told(f"{model_dir / BEST_FILE} could not be written", say):
                write_file(model_dir / BEST_FILE, json.dumps(content, indent=2))
        for old in list_checkpoints(model_dir)[: -self.keep] if self.keep else ():
            if not best or old != best[0]:
                with failure_told(f"{old} could not be deleted", say):
                    shutil.rmtree(old.rename(old.with_name(f".{old.name}.tmp")))


@contextmanager
def failure_told(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say what the file system refuses in here, and go on (NFS keeps files that are open)."""
    try:
        yield
    except OSError as error:
        say(f"warning: {what}: {error}; training goes on")
