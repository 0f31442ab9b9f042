"""The one training run: open data, build, train, checkpoint, evaluate, report.

config, datasets -> SessionLoader -> Objective (sharded) -> checkpoints, metrics, report
"""

import json
import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from google.protobuf import text_format
from torch import Tensor
from torch.profiler import profile

from trainer.accumulation import GroupStep, group_step
from trainer.checkpoints.best_metric import best_metric
from trainer.checkpoints.checkpoint import (
    CONFIG_FILE,
    HASHED_FILE,
    HISTORY_FILE,
    LOG_ENTRY_FILE,
    PLAN_FILE,
    TRAIN_METRICS_FILE,
    TrainState,
    read_document,
    read_state,
    step_of,
)
from trainer.checkpoints.loader import (
    checkpoint_tensors,
    load_checkpoint,
    load_for_fine_tuning,
    read_param_map,
)
from trainer.checkpoints.resume import (
    allow_restart,
    checkpoint_to_continue,
    continued_state,
    find_checkpoint,
)
from trainer.checkpoints.retention import Retention
from trainer.checkpoints.save_schedule import SaveSchedule, is_multiple
from trainer.checkpoints.writer import CheckpointWriter
from trainer.checks.compatibility import without_effect
from trainer.checks.config import check_config, check_data, check_paths
from trainer.checks.hashing import check_hashes_of, check_same_hashes, hashed_kinds
from trainer.data.batch import SessionBatch
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.data.features import Hashed, IdFeature
from trainer.data.loader import SessionLoader
from trainer.data.memory import keep_freed_activations
from trainer.data.plan import Place
from trainer.data.reader import SessionDataset
from trainer.evaluate import Evaluation, evaluate_dataset, evaluates_averages
from trainer.faults.nonfinite import NonFiniteGuard
from trainer.faults.preemption import Agreement, StopRequest
from trainer.models.embeddings import EmbeddingTables
from trainer.objective import Outputs
from trainer.optim.precision import allow_tf32
from trainer.parallel import build_parallel, describe_sharding, mixed_seed
from trainer.pipeline import SparseDistPipeline
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.reporting.profiling import profiled_steps
from trainer.reporting.progress import LogEntry, Progress
from trainer.reporting.recorder import Recorder
from trainer.reporting.report import write_file, write_report
from trainer.tasks import Task, parse_tasks


class Trainer:
    """Trains a config on the ranks of the default process group.

    Args:
        continue_train: go on from the newest checkpoint of model_dir, if there is one.
        on_changed_data: what to do then if the data is not the checkpoint's: "error", or
            "fresh_epoch" to count epochs anew on it, with the checkpoint's model and optimizer.
        stop: what SIGTERM asks for.

    Raises (in the constructor, before any work): ConfigError, DataError, DatasetError.
    """

    def __init__(
        self,
        config: EasyRecConfig,
        device: torch.device,
        continue_train: bool = False,
        on_changed_data: str = "error",
        stop: StopRequest | None = None,
    ) -> None:
        check_config(config)
        check_paths(config)
        # What is trained, on what, and until when.
        self.config, self.device = config, device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.model_dir = Path(config.model_dir)
        self.tasks: list[Task] = parse_tasks(config)
        self.spec = ColumnSpec(tuple(used_features(config)), tuple(self.tasks))
        train = config.train_config
        self.max_epochs = train.num_epochs or math.inf
        self.max_steps = train.num_steps or math.inf
        self.progress = Progress(self.rank == 0, self.max_epochs, self.max_steps)
        self.say = self.progress.say
        checkpoint = checkpoint_to_continue(self.model_dir, continue_train, self.say)

        # Data.
        self.train_data = self._open(config.train_input_path)
        self.eval_data = self._open(config.eval_input_path) if config.eval_input_path else None
        self.hashed = self._check_hashes(checkpoint)
        self.state = TrainState(
            global_step=0,
            epoch=0,
            place=Place(),
            seed=train.seed,
            global_batch_rows=config.data_config.batch_size * self.world_size,
            num_lanes=self.world_size,
            shuffle=config.data_config.shuffle,
            drop_remainder=config.data_config.drop_remainder,
            dataset_fingerprint=self.train_data.fingerprint,
        )
        history: list[LogEntry] = []
        if checkpoint is not None:
            saved, entries = read_state(checkpoint)
            history = [LogEntry(**entry) for entry in entries]
            self.state = continued_state(saved, self.state, self.train_data.path, on_changed_data)

        # Model and optimizers, from a checkpoint where there is one.
        allow_tf32(train)
        keep_freed_activations()
        self.model, self.optimizer = build_parallel(config, self.tasks, device)
        self._load(checkpoint)
        self.pipeline = self._pipeline()
        self.loader = self._loader()
        self._describe()

        # Faults: what the loss must be, when to save, who asks to stop.
        self.guard = NonFiniteGuard(
            self.model,
            self.optimizer.parameters,
            self.optimizer.kernels,
            self.optimizer.replicated.params.values(),
            self.train_data,
            skip=train.skip_nonfinite_batches,
            looks=device.type == "cpu",
        )
        self.schedule, self.agreement = SaveSchedule(train), Agreement()
        self.stop = stop or StopRequest()
        self.is_at_group_end, self.group_has_gradients, self.should_stop = True, False, False
        self.group_left_out: Tensor | int = 0  # batches, as their loss was not finite
        self.retention = Retention(train.keep_checkpoint_max, *best_metric(config))
        self.checkpoints = CheckpointWriter(
            self.model_dir, checkpoint and step_of(checkpoint), self.retention, self.say
        )

        # What one sees.
        self.recorder = Recorder(
            train, self.tasks, self.train_data.num_rows, self.progress, history
        )
        if checkpoint is not None:
            sums = read_document(checkpoint, TRAIN_METRICS_FILE)
            self.recorder.train_metrics.load_state(sums, device)
            if entry := read_document(checkpoint, LOG_ENTRY_FILE):
                self.recorder.load_state(entry, device)
        self.evaluation: tuple[int, Evaluation | None] = (-1, None)  # the last one, and its step

    # -------------------------------------------------------------- set-up

    def _open(self, path: str) -> SessionDataset:
        dataset = SessionDataset.open(path)
        check_data(self.config, dataset)
        return dataset

    def _check_hashes(self, checkpoint: Path | None) -> dict[str, str]:
        """What the hashed columns of the training data hold; all else must agree with it."""
        features, data = self.spec.features, self.train_data
        found = hashed_kinds(features, data.types)
        if checkpoint is not None:
            check_hashes_of(checkpoint, features, data.types, data.path)
        if self.eval_data is not None:
            evaluated = self.eval_data
            check_same_hashes(features, evaluated.types, evaluated.path, found, data.path)
        return found

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
            prepare=None if self.device.type == "cuda" else self._tables.with_asked,
        )

    @property
    def _tables(self) -> EmbeddingTables:
        objective: Any = self.model.module
        return objective.model.tables

    def _pipeline(self) -> SparseDistPipeline | None:
        """What runs ahead of the steps; None trains one batch after the other."""
        train = self.config.train_config
        is_chosen = train.HasField("pipeline_sparse_dist")
        is_default = self.device.type == "cuda" or self.world_size > 1
        if not (train.pipeline_sparse_dist if is_chosen else is_default):
            return None
        return SparseDistPipeline(self._tables, self._forward, self._backward, self.device)

    def _describe(self) -> None:
        data, state = self.train_data, self.state
        self.say(
            f"training on {data.num_rows:,} rows of {data.num_sessions:,} sessions, about "
            f"{-(-data.num_rows // state.global_batch_rows):,} steps an epoch, "
            f"{self.world_size} ranks, {self.device.type}"
        )
        idle = without_effect(self.config, self.tasks)
        if idle:
            self.say(f"warning: accepted without effect (docs/config.md): {', '.join(idle)}")
        if data.max_session_rows > state.batch_size:
            self.say(
                f"the longest session has {data.max_session_rows:,} rows; a session longer than "
                f"batch_size = {state.batch_size} is a batch of its own on its rank"
            )

    def _load(self, checkpoint: Path | None) -> None:
        """Go on from a checkpoint, or start from another run's where the config names one."""
        train = self.config.train_config
        hashed = {
            lookup.table
            for lookup in self._tables.lookups
            if isinstance(lookup.feature, IdFeature) and isinstance(lookup.feature.coding, Hashed)
        }
        if checkpoint is not None:
            report = load_checkpoint(checkpoint, self.model, self.optimizer, hashed)
            self.say(f"continuing from {checkpoint} (step {self.state.global_step})")
        elif train.fine_tune_checkpoint:
            source = find_checkpoint(train.fine_tune_checkpoint, self.say)
            data = self.train_data
            check_hashes_of(source, self.spec.features, data.types, data.path)
            names = train.fine_tune_ckpt_param_map
            report = load_for_fine_tuning(
                source, self.model, read_param_map(names) if names else {}, hashed
            )
            self.say(f"fine-tuning from {source}: {len(report.loaded)} tensors loaded")
        else:
            return
        for line in report.lines():
            self.say(line)

    # -------------------------------------------------------------- training

    def train_and_evaluate(self) -> Evaluation | None:
        """Train to the end, save, evaluate on the evaluation data, write the report.

        On SIGTERM while it trains: go to the end of the step, save, return None; `should_stop`
        tells of it. What SIGTERM does before and after that, `stop` knows.
        """
        started = time.monotonic()
        if self.rank == 0:
            self._start_model_dir()
        dist.barrier()
        self.stop.hold()
        was_stopped = self.train()
        checkpoint = self.save(evaluated=not was_stopped)
        self.checkpoints.close()
        evaluation = None
        if was_stopped:
            self.say(
                f"stopped by SIGTERM after step {self.state.global_step:,}; checkpoint: "
                f"{checkpoint}; go on with --continue_train"
            )
        else:
            self.stop.release(
                f"stopped by SIGTERM after the last step; checkpoint: {checkpoint}; evaluate it "
                f"and write the report with --continue_train"
            )
            evaluation = self.evaluate()
            if self.rank == 0:
                report = write_report(self, evaluation, time.monotonic() - started)
                self.say(f"checkpoint: {checkpoint}\nreport:     {report}")
        self.recorder.close()
        dist.barrier()  # a rank that ends early must not take rank 0's report with it
        self.stop.hold()
        if self.rank == 0 and not was_stopped:
            allow_restart(self.model_dir, False)  # last: until here a restart ends what is left
        return evaluation

    def _start_model_dir(self) -> None:
        self.model_dir.mkdir(parents=True, exist_ok=True)
        write_file(self.model_dir / CONFIG_FILE, text_format.MessageToString(self.config))
        allow_restart(self.model_dir, True)
        self.recorder.start_tensorboard(self.model_dir, self.state.global_step)

    def train(self) -> bool:
        """Run the steps that are left; returns whether SIGTERM ended it before.

        Training ends with num_epochs or num_steps, whichever comes first.
        """
        self.model.train()
        self.progress.start(self.state.epoch, self.state.global_step)
        self.recorder.stopwatch.restart()
        folder = self.model_dir / "profile"
        is_profiling = self.config.train_config.is_profiling
        try:
            profiling = profiled_steps(folder, self.rank, self.say)
            with profiling if is_profiling else nullcontext() as profiler:
                while not self._is_at_end() and not self.should_stop:
                    self._train_epoch(profiler)
        finally:
            self.progress.stop()
        self.agreement.close()
        return self.should_stop

    def _train_epoch(self, profiler: profile | None) -> None:
        """Run what is left of an epoch, or of training."""
        read = self.loader.batches(self.state.epoch, self.state.place)
        with closing(self.recorder.stopwatch.timed(read)) as batches:
            for batch, outputs in self.steps(batches):
                self._advance(batch, outputs)
                if profiler:
                    profiler.step()
                if self.is_at_group_end and (self.should_stop or self._is_at_end()):
                    break
        if self.pipeline:
            self.pipeline.stop()

    def steps(
        self, batches: Generator[SessionBatch, None, None]
    ) -> Iterator[tuple[SessionBatch, Outputs]]:
        """Train on each batch; the next begins when it is asked for."""
        if self.pipeline:
            yield from self.pipeline.steps(batches)
        else:
            for batch in batches:
                yield batch, self.train_step(batch)

    def _is_at_end(self) -> bool:
        return self.state.epoch >= self.max_epochs or (
            self.state.global_step >= self.max_steps and self.is_at_group_end
        )

    def _advance(self, batch: SessionBatch, outputs: Outputs) -> None:
        """What is due after a step."""
        epoch, place = batch.cursor.after()
        step = self.state.global_step + 1
        self.state = replace(self.state, global_step=step, epoch=epoch, place=place)
        self.recorder.add(batch, outputs, step)
        if is_multiple(step, self.config.train_config.log_step_count_steps):
            self.recorder.look(self.guard)
            self.recorder.log(step, batch, outputs, self.model, self.optimizer)
        wishes = self.stop.is_made, self.rank == 0 and self.schedule.is_time()
        stop, is_time = self.agreement.exchange(*wishes)
        self.schedule.note_step(step, batch.cursor, is_time)
        self.checkpoints.check()
        if self._is_at_end():
            return  # with a checkpoint of its own
        self.should_stop |= stop
        if self.schedule.is_due and self.is_at_group_end and not self.should_stop:
            self.save()  # at the end of a group: a checkpoint holds no gradients

    def train_step(self, batch: SessionBatch) -> Outputs:
        """One step on a global batch: forward, backward (which updates the tables), update."""
        on_device = batch.to(self.device, non_blocking=True)
        loss, outputs = self._forward(on_device)
        self._backward(on_device, loss)
        return outputs

    def _forward(self, batch: SessionBatch) -> tuple[Tensor | None, Outputs]:
        """The loss of a batch on the device; None leaves the batch out."""
        # Dropout depends on the place in the plan alone, so resuming repeats it.
        cursor = batch.cursor
        seed = mixed_seed(self.state.seed, cursor.epoch, cursor.step, self.rank)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed asks for all kinds of devices
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        self.optimizer.start(self.state.global_step, cursor.epoch)
        if self._group(batch).is_first:
            self.optimizer.zero_grad()
            self.group_has_gradients, self.group_left_out = False, 0
        self.guard.before_step()
        loss, outputs = self.model(batch)
        loss = self.guard.admit(loss, outputs, batch)
        self.group_left_out = self.group_left_out + ~self.guard.is_finite
        if loss is not None:
            self.recorder.train_metrics.update(batch, outputs.predictions, self.guard.is_finite)
        return loss, outputs

    def _backward(self, batch: SessionBatch, loss: Tensor | None) -> None:
        """Move the tables and, at the end of a group, the dense parameters."""
        group = self._group(batch)
        if loss is not None:
            self.optimizer.backward(loss / group.steps)
            self.guard.after_backward()
            self.optimizer.move_replicated()
            self.group_has_gradients = True
        self.is_at_group_end = group.is_last
        if group.is_last and self.group_has_gradients:
            self.optimizer.step(group, self.group_left_out)

    def _group(self, batch: SessionBatch) -> GroupStep:
        return group_step(batch.cursor, self.config.train_config.gradient_accumulation_steps)

    def save(self, evaluated: bool = True) -> Path:
        """Begin to write a checkpoint of this step; `evaluated` if the config asks for that.

        Raises FloatingPointError on all ranks where parameters or optimizer state are not finite.
        """
        self.recorder.look(self.guard)
        tensors = checkpoint_tensors(self.model, self.optimizer)
        buffers = {f"model.{name}" for name, _ in self.model.named_buffers()}
        self.checkpoints.check_finite(tensors, buffers, self.state.global_step)
        config = self.config.train_config
        evaluation = None
        if evaluated and (config.evaluate_checkpoints or self.retention.metric):
            evaluation = self.evaluate()
            assert evaluation is not None  # check_paths
            self.retention.check(evaluation.metrics)
        self.schedule.note_saved()
        return self.checkpoints.save(
            tensors,
            self.state,
            {
                CONFIG_FILE: text_format.MessageToString(self.config),
                PLAN_FILE: describe_sharding(self.model),
                HISTORY_FILE: json.dumps([asdict(entry) for entry in self.recorder.history]),
                LOG_ENTRY_FILE: json.dumps(self.recorder.state()),
                TRAIN_METRICS_FILE: json.dumps(self.recorder.train_metrics.state()),
                HASHED_FILE: json.dumps(self.hashed),
            },
            evaluation.metrics if evaluation else None,
        )

    # -------------------------------------------------------------- what one sees

    def evaluate(self) -> Evaluation | None:
        """Exact metrics on the evaluation data after this step; None without any."""
        step, evaluation = self.evaluation
        if self.eval_data is None or step == self.state.global_step:
            return evaluation
        averages = evaluates_averages(self.config)
        average = self.optimizer.averaged() if averages else nullcontext()
        aside = self.pipeline.set_aside() if self.pipeline else nullcontext()
        with average, aside, self.recorder.stopwatch.paused():
            evaluation = evaluate_dataset(
                self.config, self.eval_data, self.model, self.tasks, self.device
            )
        self.evaluation = self.state.global_step, evaluation
        if self.recorder.summaries:
            self.recorder.summaries.add_metrics(evaluation.metrics, self.state.global_step)
        return evaluation
