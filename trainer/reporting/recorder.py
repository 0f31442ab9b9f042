"""What one sees of a run: log entries, on standard output, in TensorBoard and in the history."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.collectives import mean_over_ranks
from trainer.data.batch import SessionBatch
from trainer.faults.nonfinite import NonFiniteGuard
from trainer.metrics.training import TrainMetrics
from trainer.objective import LossMeter, Outputs
from trainer.optim.train_optimizer import TrainOptimizer
from trainer.protos.pipeline_pb2 import TrainConfig
from trainer.reporting.progress import LogEntry, Progress, Stopwatch
from trainer.reporting.summaries import Summaries
from trainer.tasks import Task


class Recorder:
    """Collects what happens between two log entries; nothing of it looks at the device before.

    Args:
        config: `log_step_count_steps`, and what TensorBoard shows.
        train_rows: of an epoch.
        progress: says the entries.
        history: entries of the run so far.
    """

    def __init__(
        self,
        config: TrainConfig,
        tasks: list[Task],
        train_rows: int,
        progress: Progress,
        history: list[LogEntry],
    ) -> None:
        self._config, self._progress, self._train_rows = config, progress, train_rows
        self._task_names = [task.name for task in tasks]
        self.history = history
        self.summaries: Summaries | None = None
        self.stopwatch, self._losses = Stopwatch(), LossMeter()
        self.train_metrics = TrainMetrics(tasks)
        self._skipped = 0

    def start_tensorboard(self, model_dir: Path, step: int) -> None:
        """Write summaries from a step on, where the config wants them; on rank 0."""
        if self._config.use_tensorboard:
            names = tuple(self._config.tensorboard_summaries)
            self.summaries = Summaries(model_dir, names, step, self._progress.say)

    def add(self, batch: SessionBatch, outputs: Outputs, step: int) -> None:
        """A step is done."""
        self._losses.update(outputs)
        self.stopwatch.rows += batch.global_rows
        self._progress.step(self._epochs_done(batch), step)

    @property
    def skipped_batches(self) -> int:
        """Left out in the whole run."""
        return self._skipped + sum(entry.skipped_batches for entry in self.history)

    def look(self, guard: NonFiniteGuard) -> None:
        """Count batches left out; raises FloatingPointError as the guard does."""
        self._skipped += guard.look()

    def log(
        self,
        step: int,
        batch: SessionBatch,
        outputs: Outputs,
        model: nn.Module,
        optimizer: TrainOptimizer,
    ) -> None:
        """Say and record what happened since the last entry; all ranks together."""
        weights = outputs.pareto_weights
        entry = LogEntry(
            step=step,
            epoch=self._epochs_done(batch),
            rows_per_second=self.stopwatch.rows / self.stopwatch.seconds,
            losses=self._losses.compute(),
            pareto_weights=None
            if weights is None
            else dict(zip(self._task_names, weights.tolist(), strict=True)),
            train_metrics=self.train_metrics.compute(),
            learning_rates=optimizer.learning_rates(),
            data_wait_share=mean_over_ranks(self.stopwatch.wait_share),
            gradient_norm=optimizer.gradient_norm().item(),
            skipped_batches=self._skipped,
        )
        self._skipped = 0
        self.history.append(entry)
        self._progress.say_entry(entry)
        if self.summaries:
            self.summaries.add_entry(entry, model)
        self.stopwatch.restart()

    def state(self) -> dict[str, Any]:
        """What the next log entry has of the steps so far, for a checkpoint: a collective call."""
        return {"losses": self._losses.state(), "skipped_batches": self._skipped}

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave, on any number of ranks."""
        self._losses.load_state(state["losses"], device)
        self._skipped = state["skipped_batches"]

    def _epochs_done(self, batch: SessionBatch) -> float:
        return batch.cursor.epoch + batch.cursor.next_place.rows / self._train_rows

    def close(self) -> None:
        """Write what is left."""
        if self.summaries:
            self.summaries.close()
