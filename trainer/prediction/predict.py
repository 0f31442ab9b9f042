"""Prediction: the scores of a checkpoint for the rows of Parquet files, by all ranks.

    parts of the input -> each rank its parts, batch by batch -> a file per part -> one rename

B rows of a batch, C classes, R ranks.
"""

import hashlib
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.checkpoints.checkpoint import STATE_FILE
from trainer.checkpoints.restore import Run, restore
from trainer.checks.features import check_features, no_column
from trainer.checks.hashing import check_hashes_of
from trainer.config import ConfigError, did_you_mean, task_towers
from trainer.data.background import in_background
from trainer.data.batch import Cursor, SessionBatch
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.feature_config import used_features
from trainer.data.loader import to_batch
from trainer.data.plan import Place
from trainer.evaluate import evaluates_averages
from trainer.metrics import Ranks
from trainer.models import build_model
from trainer.prediction.input import InputPart, PredictInput
from trainer.prediction.output import PartWriter, PredictOutput
from trainer.prediction.scores import TaskScores
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import Task, parse_tasks

ALL_COLUMNS = "ALL_COLUMNS"
BATCHES_AHEAD = 4
_CURSOR = Cursor(epoch=0, place=Place(), next_place=Place(), is_last=False)


class Predictor:
    """Scores the rows of an input with the ranks of the default process group.

    Args:
        run: config and checkpoint.
        reserved: columns of the input to keep; ALL_COLUMNS alone keeps all of them.
        chosen: scores to write; empty for all. See TaskScores for their names.
        batch_size: rows of a rank's batch; 0 for the config's.

    Raises:
        ConfigError: the input has not the columns that are needed, or the names are wrong.
    """

    def __init__(
        self,
        run: Run,
        source: PredictInput,
        reserved: list[str],
        chosen: list[str],
        batch_size: int,
        device: torch.device,
    ) -> None:
        config = run.config
        data = config.data_config
        self.run, self.source, self.device = run, source, device
        self.batch_size = batch_size or data.eval_batch_size or data.batch_size
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.tasks = parse_tasks(config)
        self.scores = task_scores(config, self.tasks)
        with torch.device("meta"):  # no memory is taken
            label_inputs = build_model(config, self.tasks).label_inputs
        self.spec = ColumnSpec(tuple(used_features(config)), (), label_inputs)
        names = source.schema.names
        self.reserved = names if reserved == [ALL_COLUMNS] else reserved
        _check_known("reserved_columns", self.reserved, names)
        known = [name for task in self.scores for name in task.columns]
        self.chosen = chosen or known
        _check_known("output_columns", self.chosen, known)
        twice = set(self.reserved) & set(self.chosen)
        if twice:
            raise ConfigError(
                f"columns must be unique, but both the input and the scores have: "
                f"{', '.join(sorted(twice))}; leave them out of --reserved_columns"
            )
        where = source.files[0].split(" ")[0]
        check_features(used_features(config), source.spark_types, where)
        check_hashes_of(run.checkpoint, used_features(config), source.spark_types, where)
        for label in label_inputs:
            if label not in names:
                raise no_column(label, "label that the model reads", source.spark_types, where)

    def job(self) -> dict[str, Any]:
        """What the output depends on."""
        state = (self.run.checkpoint / STATE_FILE).read_bytes()
        config, scoring = self.run.config, EasyRecConfig()
        scoring.feature_configs.extend(config.feature_configs)
        scoring.model_config.CopyFrom(config.model_config)
        for name in ("fg_mode", "fg_encoded_multival_sep"):
            setattr(scoring.data_config, name, getattr(config.data_config, name))
        scoring.train_config.mixed_precision = config.train_config.mixed_precision
        return {
            "checkpoint": str(self.run.checkpoint.absolute()),
            "checkpoint_sha256": hashlib.sha256(state).hexdigest(),
            "config_sha256": hashlib.sha256(str(scoring).encode()).hexdigest(),
            "uses_averages": evaluates_averages(config),
            "files": self.source.files,
            "reserved_columns": self.reserved,
            "output_columns": self.chosen,
        }

    def predict(self, output: PredictOutput) -> int:
        """Score and write every part that is not there yet; returns the rows scored.

        Every rank makes as many forward passes as the one with most batches: tables lie on all
        ranks.
        """
        averages = evaluates_averages(self.run.config)
        model, averaged = restore(self.run, self.tasks, self.device, averages=averages)
        todo = [part for part in self.source.parts if not output.has(part.output_name)]
        todo.sort(key=lambda part: -part.num_rows)  # so that parts of one round are about as long
        dist.barrier()  # all have looked before any writes
        with averaged, torch.no_grad():
            for first in range(0, len(todo), self.world_size):
                together = todo[first : first + self.world_size]
                mine = together[self.rank] if self.rank < len(together) else None
                batch_rows = mine.batch_rows(self.batch_size) if mine else []
                steps = Ranks.of().max(len(batch_rows))
                self._predict_part(model, mine, batch_rows, steps, output)
        return sum(part.num_rows for part in todo)

    def _predict_part(
        self,
        model: Any,
        part: InputPart | None,
        batch_rows: list[int],
        steps: int,
        output: PredictOutput,
    ) -> None:
        """This rank's part, or none, in so many forward passes."""
        writer = PartWriter(output, part.output_name) if part else None
        made = self._batches(part, batch_rows, steps)
        batches = in_background(made, BATCHES_AHEAD, "predict-batches")
        row = 0
        for kept, batch in batches:
            logits = model.module.predict(batch.to(self.device, non_blocking=True))
            if writer is None or part is None or not kept.num_rows:
                continue
            scores: dict[str, pa.Array] = {}
            for task in self.scores:
                of_task = logits[task.name].cpu()
                _check_finite(of_task, task.name, part, row)
                scores |= {name: _array(each) for name, each in task.of(of_task).items()}
            for name in self.chosen:
                kept = kept.append_column(name, scores[name])
            writer.write(kept)
            row += kept.num_rows
        if writer:
            writer.close()

    def _batches(
        self, part: InputPart | None, batch_rows: list[int], steps: int
    ) -> Generator[tuple[pa.Table, SessionBatch], None, None]:
        """Kept columns and batch of each step; without rows once the part is at its end."""
        columns = list(dict.fromkeys(self.spec.columns + self.reserved))
        empty = self.source.schema.empty_table().select(columns)
        tables: Iterator[pa.Table] = part.read(columns, batch_rows) if part else iter(())
        for _ in range(steps):
            table = next(tables, empty)
            yield table.select(self.reserved), self._to_batch(table)

    def _to_batch(self, table: pa.Table) -> SessionBatch:
        """Rows as a batch; each counts as a session, as no loss is computed."""
        rows = encode_rows(table, self.spec)
        count = rows.num_rows
        ones, numbers = np.ones(count, dtype=np.int64), np.arange(count)
        return to_batch(
            rows, self.spec, lengths=ones, sessions=numbers, global_rows=count, cursor=_CURSOR
        )


def task_scores(config: EasyRecConfig, tasks: list[Task]) -> list[TaskScores]:
    """The scores of each task; in a multi-task model the task's name stands in theirs."""
    return [
        TaskScores(
            name=task.name,
            num_class=task.num_class,
            is_regression=task.is_regression,
            suffix=f"_{task.name}" if task_towers(config) else "",
        )
        for task in tasks
    ]


def _array(values: Tensor) -> pa.Array:
    """float32 [B, C] as lists of C; [B] as numbers."""
    flat = pa.array(values.reshape(-1).numpy())
    if values.dim() == 1:
        return flat
    rows, width = values.shape
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * width, flat)


def _check_finite(logits: Tensor, task: str, part: InputPart, first_row: int) -> None:
    wrong = (~logits.isfinite()).any(dim=1)
    if bool(wrong.any()):
        row = first_row + int(wrong.nonzero()[0])
        raise DataError(
            f"scores of task `{task}` must be finite, but {int(wrong.sum())} of a batch are "
            f"not, the first in row {part.start + row} of {part.file}; look for a diverged model "
            f"or for features out of all bounds"
        )


def _check_known(flag: str, names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{flag}: there is no `{name}`; {did_you_mean(name, known)}"
                f"There are: {', '.join(known)}"
            )
