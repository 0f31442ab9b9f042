"""What a run says of its progress: a line per log entry, and a bar where somebody looks on."""

import math
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


@dataclass
class LogEntry:
    """What happened since the last entry: mean losses over all rows, rows per second.

    Attributes:
        epoch: epochs done, with the share of the one that runs.
        pareto_weights: per task, of this step's batch.
        train_metrics: per task/metric, of the last steps.
        learning_rates: of this step, per part of the model.
        data_wait_share: of the time, waiting for the loader; mean over the ranks.
        gradient_norm: L2 norm of the dense gradients of the last step, before clipping.
        skipped_batches: left out, as their loss was not finite.
    """

    step: int
    epoch: float
    rows_per_second: float
    losses: dict[str, float]
    pareto_weights: dict[str, float] | None
    train_metrics: dict[str, float] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
    data_wait_share: float = 0.0
    gradient_norm: float | None = None
    skipped_batches: int = 0


class Stopwatch:
    """Counts rows, and the seconds that a loop waits for its batches, between two log entries."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._since = time.monotonic()
        self.rows, self._waited = 0, 0.0

    def timed(self, batches: Generator[T, None, None]) -> Generator[T, None, None]:
        """The same batches; time in which none is ready counts as waiting."""
        with closing(batches):
            while True:
                asked = time.monotonic()
                batch = next(batches, None)
                self._waited += time.monotonic() - asked
                if batch is None:
                    return
                yield batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in here takes no time."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - started

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._since

    @property
    def wait_share(self) -> float:
        """Of the seconds, from 0 to 1."""
        return self._waited / max(self.seconds, 1e-9)


class Progress:
    """Says lines on standard output, with a bar beneath them on a terminal.

    Args:
        is_said: False makes it silent, on all ranks but one.
        max_epochs, max_steps: where training ends; infinite where it does not.
    """

    def __init__(self, is_said: bool, max_epochs: float, max_steps: float) -> None:
        self._is_said = is_said
        self._max_epochs, self._max_steps = max_epochs, max_steps
        self._bar: tqdm | None = None
        self._last: tuple[float, float] | None = None  # seconds and share at the last estimate

    def start(self, epoch: float, step: int) -> None:
        """Training begins at a place."""
        self._last = time.monotonic(), self.share(epoch, step)
        if self._is_said and sys.stdout.isatty():
            form = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}]"
            self._bar = tqdm(total=100, bar_format=form, file=sys.stdout, dynamic_ncols=True)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.close()
        self._bar = None

    def say(self, line: str) -> None:
        """Print a line."""
        if self._bar:
            self._bar.write(line)
        elif self._is_said:
            print(line, flush=True)

    def share(self, epoch: float, step: int) -> float:
        """How much of training is done, from 0 to 1."""
        return min(max(epoch / self._max_epochs, step / self._max_steps), 1.0)

    def step(self, epoch: float, step: int) -> None:
        """A step is done: move the bar."""
        if self._bar:
            self._bar.set_description_str(f"step {step:,}  epoch {epoch:.2f}", refresh=False)
            self._bar.update(100 * self.share(epoch, step) - self._bar.n)

    def say_entry(self, entry: LogEntry) -> None:
        """Print a log entry, with the time that is left at the speed since the last one."""
        epochs = "" if math.isinf(self._max_epochs) else f"/{self._max_epochs:g}"
        weights = {f"{task} weight": value for task, value in (entry.pareto_weights or {}).items()}
        rates = {f"lr {part}": value for part, value in entry.learning_rates.items()}
        values = entry.losses | entry.train_metrics | weights
        parts = [
            f"step {entry.step:>7,}",
            f"epoch {entry.epoch:6.2f}{epochs}",
            f"{entry.rows_per_second:>9,.0f} samples/s",
            f"ETA {self._time_left(entry)}",
            *(f"{name} {value:.4f}" for name, value in values.items()),
            *(f"{name} {value:.3g}" for name, value in rates.items()),
        ]
        if entry.data_wait_share >= 0.01:
            parts.append(f"waiting for data {entry.data_wait_share:.0%}")
        if entry.skipped_batches:
            parts.append(f"{entry.skipped_batches} batches left out (loss not finite)")
        self.say("  ".join(parts))

    def _time_left(self, entry: LogEntry) -> str:
        now, share = time.monotonic(), self.share(entry.epoch, entry.step)
        before, share_before = self._last or (now, share)
        self._last = now, share
        if share <= share_before:
            return "?"
        return str(timedelta(seconds=round((1 - share) * (now - before) / (share - share_before))))
