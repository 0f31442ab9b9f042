"""SessionLoader: an epoch of one rank's SessionBatches, read ahead in the background."""

import queue
import threading
from collections.abc import Generator, Iterator

import numpy as np
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from trainer.batch import Cursor, SessionBatch
from trainer.encode import ColumnSpec, Rows, encode_rows
from trainer.plan import EpochPlan, plan_epoch
from trainer.reader import SessionDataset

BATCHES_AHEAD = 4


class SessionLoader:
    """Batches of whole sessions for one rank; every rank takes the same number of steps.

    Args:
        dataset: an open session dataset.
        spec: what to read of each row.
        batch_size: the most rows of a rank's batch (a longer session is a batch of its own).
        num_lanes: lanes of a global batch; the world size when training began (see plan.py).
        shuffle: shuffle sessions, seeded per epoch.
        drop_remainder: leave out an epoch's last global batch unless all its lanes are full.
        read_ahead: read in a background thread.
        pin_memory: put batches in page-locked memory (CUDA).
    """

    def __init__(
        self,
        dataset: SessionDataset,
        spec: ColumnSpec,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_lanes: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_remainder: bool = False,
        read_ahead: bool = True,
        pin_memory: bool = False,
    ) -> None:
        self.dataset, self.spec = dataset, spec
        self.batch_size, self.num_lanes = batch_size, num_lanes or world_size
        self.rank, self.world_size = rank, world_size
        self.shuffle, self.seed = shuffle, seed
        self.drop_remainder = drop_remainder
        self.read_ahead, self.pin_memory = read_ahead, pin_memory
        self._planned: tuple[int, EpochPlan] | None = None

    def plan(self, epoch: int) -> EpochPlan:
        """The plan of an epoch, the same on every rank; the newest one is kept."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, self._plan(epoch))
        return self._planned[1]

    def _plan(self, epoch: int) -> EpochPlan:
        return plan_epoch(
            self.dataset.index.num_rows.astype(np.int64),
            self.dataset.block,
            lane_rows=self.batch_size,
            num_lanes=self.num_lanes,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            drop_remainder=self.drop_remainder,
        )

    def batches(self, epoch: int = 0, first_step: int = 0) -> Generator[SessionBatch, None, None]:
        """This rank's batches of an epoch, from `first_step` on."""
        plan = self.plan(epoch)
        if plan.num_steps == 0:
            raise ValueError(
                f"{self.dataset.path}: there must be at least one global batch, but drop_remainder "
                f"leaves none; lower batch_size ({self.batch_size}) or set drop_remainder: false"
            )
        assert first_step < plan.num_steps, f"step {first_step} of {plan.num_steps}"
        batches = self._batches(plan, epoch, first_step)
        return _in_background(batches) if self.read_ahead else batches

    def _batches(
        self, plan: EpochPlan, epoch: int, first_step: int
    ) -> Generator[SessionBatch, None, None]:
        chunks = (
            encode_rows(table, self.spec)
            for table in self.dataset.read_windows(
                plan, self.rank, self.world_size, self.spec.columns, first_step
            )
        )
        cutter = _Cutter(chunks, self.spec)
        first, last = plan.share(self.rank, self.world_size)
        for step in range(first_step, plan.num_steps):
            sessions = plan.order[first[step] : last[step]]
            lengths = self.dataset.index.num_rows[sessions].astype(np.int64)
            rows = cutter.next_rows(int(lengths.sum()))
            cursor = Cursor(epoch, step, plan.num_steps)
            batch = _to_batch(rows, sessions, lengths, int(plan.rows[step]), cursor)
            yield batch.pin_memory() if self.pin_memory else batch


class _Cutter:
    """Cuts a stream of encoded chunks into pieces of given numbers of rows."""

    def __init__(self, chunks: Iterator[Rows], spec: ColumnSpec) -> None:
        self._chunks = chunks
        self._chunk = empty_rows(spec)
        self._at = 0

    def next_rows(self, num_rows: int) -> list[Rows]:
        """The next `num_rows` rows, in one or more parts (one part without rows for none)."""
        parts = []
        while num_rows > 0:
            if self._at == self._chunk.num_rows:
                self._chunk, self._at = next(self._chunks), 0
            take = min(num_rows, self._chunk.num_rows - self._at)
            parts.append(self._chunk.slice(self._at, self._at + take))
            self._at += take
            num_rows -= take
        return parts or [self._chunk.slice(self._at, self._at)]


def empty_rows(spec: ColumnSpec) -> Rows:
    """No rows, with the columns of `spec`."""
    no_ids = torch.empty(0, dtype=torch.int64)
    labels = {
        task.label: torch.empty(0, dtype=torch.float32 if task.is_regression else torch.int64)
        for task in spec.tasks
    }
    labels |= {name: torch.empty(0) for name in spec.indicator_labels}
    return Rows(
        num_rows=0,
        ids={feature.name: (no_ids, None) for feature in spec.id_features},
        dense=torch.empty(0, sum(feature.dim for feature in spec.raw_features)),
        labels=labels,
        weights={name: torch.empty(0) for name in spec.weight_columns},
        groups={name: no_ids for name in spec.group_columns},
    )


def _to_batch(
    parts: list[Rows], sessions: np.ndarray, lengths: np.ndarray, global_rows: int, cursor: Cursor
) -> SessionBatch:
    def cat(tensors: list[Tensor]) -> Tensor:
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    keys = list(parts[0].ids)
    values, value_counts = [], []
    for key in keys:
        for part in parts:
            ids, offsets = part.ids[key]
            values.append(ids)
            value_counts.append(torch.ones_like(ids) if offsets is None else offsets.diff())
    none = torch.empty(0, dtype=torch.int64)
    return SessionBatch(
        ids=KeyedJaggedTensor(
            keys=keys,
            values=torch.cat(values) if keys else none,
            lengths=torch.cat(value_counts) if keys else none,
            stride=sum(part.num_rows for part in parts),
        ),
        dense=cat([part.dense for part in parts]),
        labels={key: cat([part.labels[key] for part in parts]) for key in parts[0].labels},
        weights={key: cat([part.weights[key] for part in parts]) for key in parts[0].weights},
        groups={key: cat([part.groups[key] for part in parts]) for key in parts[0].groups},
        session_offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        sessions=torch.from_numpy(sessions.astype(np.int64)),
        global_rows=global_rows,
        cursor=cursor,
    )


def _in_background(batches: Iterator[SessionBatch]) -> Generator[SessionBatch, None, None]:
    """The same batches, made by a thread that keeps a few ready; its errors are raised here."""
    ready: queue.Queue[SessionBatch | BaseException | None] = queue.Queue(BATCHES_AHEAD)
    stopped = threading.Event()

    def put(item: SessionBatch | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # whatever it is, it ends the training: raised again below
            put(error)

    thread = threading.Thread(target=work, name="session-loader", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
