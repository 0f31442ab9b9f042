"""SessionLoader: an epoch of one rank's SessionBatches, read ahead in the background.

    plan -> shares of this rank -> windows -> blocks read and encoded -> batches

A window's blocks are read by worker threads while the next window is planned and the batches of the
window before are consumed, so about two windows of this rank's rows are in memory.
"""

import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import torch

from trainer.data.background import in_background
from trainer.data.batch import Cursor, SessionBatch
from trainer.data.collate import collate_features
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.memory import keep_freed_memory
from trainer.data.plan import EpochPlan, Int64Array, Place
from trainer.data.reader import WINDOW_ROWS, SessionDataset
from trainer.data.rows import Rows
from trainer.data.session_features import session_features
from trainer.data.window import Part, Share, WindowReader

BATCHES_AHEAD = 4
WINDOWS_AHEAD = 1


class SessionLoader:
    """Batches of whole sessions for one rank; every rank takes the same number of steps.

    Args:
        dataset: an open session dataset.
        spec: what to read of each row.
        batch_size: the most rows of a rank's batch (a longer session is a batch of its own) in a
            world of `num_lanes`.
        num_lanes: ranks when training began, which fix the global batches; default: world_size.
        shuffle: shuffle sessions, seeded per epoch.
        drop_remainder: leave out an epoch's last global batch if it is not full.
        num_workers: threads that read blocks, at most one per core; 0 reads in the caller's thread.
        pin_memory: put batches in page-locked memory (CUDA).
        prepare: what else is done with each batch where it is read.
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
        num_workers: int = 1,
        pin_memory: bool = False,
        prepare: Callable[[SessionBatch], SessionBatch] | None = None,
    ) -> None:
        self.dataset, self.spec = dataset, spec
        self.batch_size, self.num_lanes = batch_size, num_lanes or world_size
        self.rank, self.world_size = rank, world_size
        self.shuffle, self.seed = shuffle, seed
        self.drop_remainder = drop_remainder
        self.num_workers = min(num_workers, os.cpu_count() or 1)
        self.pin_memory, self.prepare = pin_memory, prepare
        keep_freed_memory()
        self._empty = encode_rows(dataset.empty_table(spec.columns), spec)

    def plan(self, epoch: int) -> EpochPlan:
        """The plan of an epoch, the same on every rank."""
        return EpochPlan(
            num_blocks=len(self.dataset.blocks),
            lengths_of_block=self.dataset.lengths_of_block,
            lane_rows=self.batch_size,
            num_lanes=self.num_lanes,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            window_blocks=self.dataset.window_blocks,
            drop_remainder=self.drop_remainder,
        )

    def batches(
        self, epoch: int = 0, start: Place | None = None
    ) -> Generator[SessionBatch, None, None]:
        """This rank's batches of an epoch, from a place on (see Cursor.after)."""
        if self.num_workers == 0:
            return self._batches(self._windows(epoch, start))
        windows = in_background(self._windows(epoch, start), WINDOWS_AHEAD, "session-windows")
        return in_background(self._batches(windows), BATCHES_AHEAD, "session-batches")

    def _windows(
        self, epoch: int, start: Place | None
    ) -> Generator[list[tuple[Share, Part]], None, None]:
        reader = WindowReader(self.dataset, self.spec, self.plan(epoch), self.rank, self.world_size)
        if self.drop_remainder and not any(True for _ in reader.plan.batches(start)):
            raise ValueError(
                f"{self.dataset.path}: there must be at least one global batch, but drop_remainder "
                f"leaves none; lower batch_size ({self.batch_size}) or set drop_remainder: false"
            )
        start = start or Place()
        if self.num_workers == 0:
            yield from reader.windows(start.window, reader.shares(start), map)
            return
        ahead = WINDOW_ROWS // reader.plan.full_rows + 1  # about a window is planned ahead
        shares = in_background(reader.shares(start), ahead, "session-plan")
        with ThreadPoolExecutor(self.num_workers, "session-blocks") as pool, closing(shares):
            yield from reader.windows(start.window, shares, pool.map)

    def _batches(
        self, windows: Generator[list[tuple[Share, Part]], None, None]
    ) -> Generator[SessionBatch, None, None]:
        begun: list[Part] = []  # of the batch that reaches into the next window
        with closing(windows):
            for window in windows:
                while window:  # emptied, so that no more is held than what is to come
                    share, part = window.pop(0)
                    begun.append(part)
                    if part.is_end:
                        batch = self._to_batch(share, begun)
                        part, begun = None, []
                        yield batch.pin_memory() if self.pin_memory else batch
                begun, part = [each.copied() for each in begun], None

    def _to_batch(self, share: Share, parts: list[Part]) -> SessionBatch:
        rows = Rows.concat([piece for part in parts for piece in part.rows] or [self._empty])
        batch = to_batch(
            rows,
            self.spec,
            lengths=np.concatenate([part.num_rows for part in parts]),
            sessions=np.concatenate([part.numbers for part in parts]),
            global_rows=share.global_rows,
            cursor=share.cursor,
        )
        return batch if self.prepare is None else self.prepare(batch)


def to_batch(
    rows: Rows,
    spec: ColumnSpec,
    *,
    lengths: Int64Array,
    sessions: Int64Array,
    global_rows: int,
    cursor: Cursor,
) -> SessionBatch:
    """Encoded rows as a batch of sessions of those lengths and numbers, int64 [S] each."""
    columns: dict[str, Any] = {"labels": {}, "weights": {}, "groups": {}}
    for (kind, name), values in zip(spec.column_keys, rows.columns, strict=True):
        columns[kind][name] = torch.from_numpy(values)
    features = collate_features(rows, spec.features)
    session_offsets = np.concatenate([[0], np.cumsum(lengths)])
    return SessionBatch(
        **features,
        **columns,
        session_features=session_features(features["ids"], session_offsets),
        session_offsets=torch.from_numpy(session_offsets),
        sessions=torch.from_numpy(sessions),
        global_rows=global_rows,
        cursor=cursor,
    )
