"""The one training run: open data, build, train, checkpoint, evaluate, report.

config, datasets -> SessionLoader -> Objective (sharded) -> checkpoints, metrics, report
"""

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
from google.protobuf import text_format
from torch.utils.tensorboard import SummaryWriter

from trainer.accumulation import group_step
from trainer.batch import SessionBatch
from trainer.checkpoint import (
    TrainState,
    list_checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from trainer.checks import check_config, check_data, check_paths
from trainer.config import ConfigError
from trainer.encode import ColumnSpec
from trainer.evaluate import Evaluation, evaluate_dataset, evaluates_averages
from trainer.features import used_features
from trainer.loader import SessionLoader
from trainer.metrics.training import TrainMetrics
from trainer.objective import LossMeter, Outputs
from trainer.parallel import build_parallel, mixed_seed
from trainer.plan import Place
from trainer.precision import allow_tf32
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.reader import SessionDataset
from trainer.report import write_file, write_report
from trainer.tasks import Task, parse_tasks


@dataclass
class LogEntry:
    """What happened since the last entry: mean losses over all rows, rows per second."""

    step: int
    epoch: float
    rows_per_second: float
    losses: dict[str, float]
    pareto_weights: dict[str, float] | None  # per task, of this step's batch
    train_metrics: dict[str, float] = field(default_factory=dict)  # per task/metric


class Trainer:
    """Trains a config on the ranks of the default process group.

    Args:
        continue_train: go on from the newest checkpoint of model_dir, if there is one.
        on_changed_data: what to do then if the data is not the checkpoint's: "error", or
            "fresh_epoch" to count epochs anew on it, with the checkpoint's model and optimizer.

    Raises (in the constructor, before any work): ConfigError, DataError, DatasetError.
    """

    def __init__(
        self,
        config: EasyRecConfig,
        device: torch.device,
        continue_train: bool = False,
        on_changed_data: str = "error",
    ) -> None:
        check_config(config)
        check_paths(config)
        # What is trained, on what.
        self.config, self.device = config, device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.model_dir = Path(config.model_dir)
        self.tasks: list[Task] = parse_tasks(config)
        self.spec = ColumnSpec(tuple(used_features(config)), tuple(self.tasks))
        checkpoint = _checkpoint_to_continue(self.model_dir, continue_train)

        # Data.
        self.train_data = self._open(config.train_input_path)
        self.eval_data = self._open(config.eval_input_path) if config.eval_input_path else None
        self.state = TrainState(
            global_step=0,
            epoch=0,
            place=Place(),
            seed=config.train_config.seed,
            global_batch_rows=config.data_config.batch_size * self.world_size,
            num_lanes=self.world_size,
            shuffle=config.data_config.shuffle,
            drop_remainder=config.data_config.drop_remainder,
            dataset_fingerprint=self.train_data.fingerprint,
        )
        self.history: list[LogEntry] = []
        if checkpoint is not None:
            saved, history = read_state(checkpoint)
            self.history = [LogEntry(**entry) for entry in history]
            self.state = _continued(saved, self.state, self.train_data.path, on_changed_data)

        # Model and optimizers; all in place of the checkpoint's where there is one.
        allow_tf32(config.train_config)
        self.model, self.optimizer = build_parallel(config, self.tasks, device)
        if checkpoint is not None:
            load_checkpoint(checkpoint, self.model, self.optimizer)
            self.say(f"continuing from {checkpoint} (step {self.state.global_step})")
        self.loader = self._loader()
        self._describe()

        # What one sees.
        self.losses, self.train_metrics = LossMeter(), TrainMetrics(self.tasks)
        self.all_finite = torch.ones((), dtype=torch.bool, device=device)
        self.writer: SummaryWriter | None = None

    # -------------------------------------------------------------- set-up

    def _open(self, path: str) -> SessionDataset:
        dataset = SessionDataset.open(path)
        check_data(self.config, dataset)
        return dataset

    def _loader(self) -> SessionLoader:
        """The loader of the training data, by the state of training."""
        data, state = self.config.data_config, self.state
        return SessionLoader(
            self.train_data,
            self.spec,
            batch_size=state.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            num_lanes=state.num_lanes,
            shuffle=state.shuffle,
            seed=state.seed,
            drop_remainder=state.drop_remainder,
            num_workers=data.num_workers,
            pin_memory=data.pin_memory and self.device.type == "cuda",
        )

    def _describe(self) -> None:
        data, state = self.train_data, self.state
        self.say(
            f"training on {data.num_rows:,} rows of {data.num_sessions:,} sessions, about "
            f"{-(-data.num_rows // state.global_batch_rows):,} steps an epoch, "
            f"{self.world_size} ranks, {self.device.type}"
        )
        if data.max_session_rows > state.batch_size:
            self.say(
                f"the longest session has {data.max_session_rows:,} rows; a session longer than "
                f"batch_size = {state.batch_size} is a batch of its own on its rank"
            )

    def say(self, line: str) -> None:
        """Print a line once, from rank 0."""
        if self.rank == 0:
            print(line, flush=True)

    # -------------------------------------------------------------- training

    def train_and_evaluate(self) -> Evaluation | None:
        """Train to the end, save, evaluate on the evaluation data, write the report."""
        started = time.monotonic()
        if self.rank == 0:
            self.model_dir.mkdir(parents=True, exist_ok=True)
            write_file(self.model_dir / "pipeline.config", text_format.MessageToString(self.config))
            if self.config.train_config.use_tensorboard:
                self.writer = SummaryWriter(str(self.model_dir / "tensorboard"))
        dist.barrier()
        self.train()
        checkpoint = self.save()
        evaluation = self.evaluate()
        if self.rank == 0:
            report = write_report(self, evaluation, time.monotonic() - started)
            self.say(f"checkpoint: {checkpoint}\nreport:     {report}")
        if self.writer:
            self.writer.close()
        dist.barrier()  # a rank that ends early must not take rank 0's report with it
        return evaluation

    def train(self) -> None:
        """Run the steps that are left: to num_epochs or num_steps, whichever comes first."""
        config = self.config.train_config
        max_epochs = config.num_epochs if config.HasField("num_epochs") else math.inf
        max_steps = config.num_steps if config.HasField("num_steps") else math.inf
        self.model.train()
        clock, rows, save_is_due = time.monotonic(), 0, False
        while self.state.epoch < max_epochs and self.state.global_step < max_steps:
            for batch in self.loader.batches(self.state.epoch, self.state.place):
                outputs = self.train_step(batch)
                rows += batch.global_rows
                self.losses.update(outputs)
                epoch, place = batch.cursor.after()
                self.state = replace(
                    self.state, global_step=self.state.global_step + 1, epoch=epoch, place=place
                )
                done = self.state.global_step
                if _is_due(done, config.log_step_count_steps):
                    self._log(batch, outputs, rows / (time.monotonic() - clock))
                    clock, rows = time.monotonic(), 0
                save_is_due |= _is_due(done, config.save_checkpoints_steps)
                if not group_step(batch.cursor, config.gradient_accumulation_steps).is_last:
                    continue  # a checkpoint holds no gradients
                if save_is_due:
                    self.save()
                    save_is_due = False
                if done >= max_steps:
                    break

    def train_step(self, batch: SessionBatch) -> Outputs:
        """One step on a global batch: forward, backward (which updates the tables), update."""
        # Dropout depends on the place in the plan alone, so resuming repeats it.
        cursor = batch.cursor
        torch.manual_seed(mixed_seed(self.state.seed, cursor.epoch, cursor.step, self.rank))
        group = group_step(cursor, self.config.train_config.gradient_accumulation_steps)
        self.optimizer.start(self.state.global_step, cursor.epoch)
        if group.is_first:
            self.optimizer.zero_grad()
        batch = batch.to(self.device, non_blocking=True)
        loss, outputs = self.model(batch)
        self._check_loss(loss.detach())
        self.train_metrics.update(batch, outputs.predictions)
        self.optimizer.backward(loss / group.steps)
        if group.is_last:
            self.optimizer.step(group)
        return outputs

    def _check_loss(self, loss: torch.Tensor) -> None:
        """Stop before a loss that is not finite reaches the tables, which backward moves."""
        self.all_finite &= torch.isfinite(loss)
        if self.device.type == "cpu":  # elsewhere a look at each step would stop the device
            self._check_finite()

    def _check_finite(self) -> None:
        if not self.all_finite.item():
            raise FloatingPointError(
                f"the loss must be finite, but is not, in step {self.state.global_step + 1} or "
                f"since the last log or checkpoint before it; lower the learning rates"
            )

    def save(self) -> Path:
        """Write a checkpoint of this step."""
        self._check_finite()
        keep = self.config.train_config.keep_checkpoint_max
        history = [asdict(entry) for entry in self.history]
        return save_checkpoint(
            self.model_dir, self.model, self.optimizer, self.state, history, keep
        )

    def evaluate(self) -> Evaluation | None:
        """Exact metrics on the evaluation data; None without any."""
        if self.eval_data is None:
            return None
        with self.optimizer.averaged() if evaluates_averages(self.config) else nullcontext():
            evaluation = evaluate_dataset(
                self.config, self.eval_data, self.model, self.tasks, self.device
            )
        if self.writer:
            for task, metrics in evaluation.metrics.items():
                for name, value in metrics.items():
                    self.writer.add_scalar(f"eval/{task}/{name}", value, self.state.global_step)
        return evaluation

    def _log(self, batch: SessionBatch, outputs: Outputs, rows_per_second: float) -> None:
        """Print and record a step; all ranks take part in the mean of the losses."""
        self._check_finite()
        cursor, weights = batch.cursor, outputs.pareto_weights
        names = [task.name for task in self.tasks]
        entry = LogEntry(
            step=self.state.global_step,
            epoch=cursor.epoch + cursor.next_place.rows / self.train_data.num_rows,
            rows_per_second=rows_per_second,
            losses=self.losses.compute(),
            pareto_weights=None
            if weights is None
            else dict(zip(names, weights.tolist(), strict=True)),
            train_metrics=self.train_metrics.compute(),
        )
        self.history.append(entry)
        pareto = {f"{task} weight": weight for task, weight in (entry.pareto_weights or {}).items()}
        shown = entry.losses | entry.train_metrics | pareto
        values = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        self.say(
            f"step {entry.step:>7,}  epoch {entry.epoch:6.2f}  "
            f"{rows_per_second:>9,.0f} rows/s  {values}"
        )
        if self.writer:
            self.writer.add_scalar("rows_per_second", rows_per_second, entry.step)
            for name, value in entry.losses.items():
                self.writer.add_scalar(f"loss/{name}", value, entry.step)
            for name, value in entry.train_metrics.items():
                self.writer.add_scalar(f"train/{name}", value, entry.step)
            for task, weight in (entry.pareto_weights or {}).items():
                self.writer.add_scalar(f"pareto_weight/{task}", weight, entry.step)


def _is_due(step: int, every: int) -> bool:
    """Whether something is due at a step; 0 is never."""
    return every > 0 and step % every == 0


def _checkpoint_to_continue(model_dir: Path, continue_train: bool) -> Path | None:
    """The newest checkpoint, if training shall go on from it. Raises where it must not be mixed."""
    checkpoints = list_checkpoints(model_dir)
    if checkpoints and not continue_train:
        raise ConfigError(
            f"model_dir must hold no checkpoint of another run, but {model_dir} has "
            f"{checkpoints[-1].name}; give --continue_train to go on from it, or another model_dir"
        )
    return checkpoints[-1] if checkpoints else None


def _continued(saved: TrainState, fresh: TrainState, path: str, on_changed_data: str) -> TrainState:
    """The state to go on with: the checkpoint's, or a fresh epoch where the data is another.

    A checkpoint's place in the plan only holds for the data and the batches it came from.
    """
    if saved.dataset_fingerprint != fresh.dataset_fingerprint and on_changed_data == "fresh_epoch":
        return replace(fresh, global_step=saved.global_step)
    for name, cure in (
        (
            "dataset_fingerprint",
            "train on the same dataset, start an epoch on this one with "
            "--on_changed_data=fresh_epoch, or start anew in another --model_dir",
        ),
        ("seed", "set train_config.seed as it was"),
        ("batch_size", "set data_config.batch_size as it was"),
        ("shuffle", "set data_config.shuffle as it was"),
        ("drop_remainder", "set data_config.drop_remainder as it was"),
    ):
        before, now = getattr(saved, name), getattr(fresh, name)
        if before != now:
            raise ConfigError(
                f"cannot continue on {path}: {name} must be as in the checkpoint, {before}, "
                f"but is: {now}; {cure}"
            )
    return saved
