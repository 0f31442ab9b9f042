"""What a rank reads: its shares of the global batches, window by window, each block once."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from trainer.data.batch import Cursor
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.plan import EpochPlan, Int64Array, Place, Sessions, ranges
from trainer.data.reader import SessionDataset
from trainer.data.rows import Rows

# Calls a function with the items of some lists, maybe several at a time; results in their order.
Map = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class Share:
    """A rank's part of a global batch, whose last session is in window `last_window`."""

    sessions: Sessions
    global_rows: int
    cursor: Cursor
    last_window: int


@dataclass(frozen=True)
class Part:
    """What a window holds of a share; `is_end` if no more follows.

    rows: in pieces, block by block; views of what was read of the window.
    numbers, num_rows: of each session, int64 [S]; numbers are unique over the dataset.
    """

    rows: list[Rows]
    numbers: Int64Array
    num_rows: Int64Array
    is_end: bool

    def copied(self) -> "Part":
        """The same in memory of its own."""
        return replace(self, rows=[Rows.concat(self.rows)] if self.rows else [])


@dataclass(frozen=True)
class WindowReader:
    """Reads a rank's shares of an epoch's global batches."""

    dataset: SessionDataset
    spec: ColumnSpec
    plan: EpochPlan
    rank: int
    world_size: int

    def shares(self, start: Place) -> Generator[Share, None, None]:
        """This rank's share of every global batch from a place on."""
        for batch in self.plan.batches(start):
            yield Share(
                sessions=batch.share(self.rank, self.world_size),
                global_rows=batch.num_rows,
                cursor=Cursor(self.plan.epoch, batch.start, batch.end, batch.is_last),
                last_window=int(batch.sessions.slot.max()) // self.plan.window_blocks,
            )

    def windows(
        self, first: int, shares: Iterable[Share], map_blocks: Map
    ) -> Generator[list[tuple[Share, Part]], None, None]:
        """Window after window, from the first on, with the shares that touch it.

        A share whose sessions lie in two windows is in both.
        """
        window, waiting = first, []
        for share in shares:
            waiting.append(share)
            while window < share.last_window:
                yield self._read(window, waiting, map_blocks)
                window += 1
                waiting = [each for each in waiting if window <= each.last_window]
        if waiting:
            yield self._read(window, waiting, map_blocks)

    def _read(self, window: int, shares: list[Share], map_blocks: Map) -> list[tuple[Share, Part]]:
        edges = np.array([window, window + 1]) * self.plan.window_blocks
        found = [s.sessions[slice(*s.sessions.slot.searchsorted(edges))] for s in shares]
        # All sessions to read, int64 [S] each, share after share.
        share = np.repeat(np.arange(len(shares)), [len(sessions) for sessions in found])
        slot = np.concatenate([sessions.slot for sessions in found])
        number = np.concatenate([sessions.number for sessions in found])
        num_rows = np.concatenate([sessions.num_rows for sessions in found])

        slots = np.unique(slot)
        of_slot = [np.flatnonzero(slot == each) for each in slots]
        blocks = self.plan.block_of_slot[slots].tolist()
        rows: list[list[Rows]] = [[] for _ in shares]
        read = map_blocks(self._read_block, blocks, [number[each] for each in of_slot])
        for block, chosen, rows_of_block in zip(blocks, of_slot, read, strict=True):
            per_share = np.bincount(share[chosen], num_rows[chosen], len(shares)).astype(np.int64)
            pieces = rows_of_block.split(per_share)
            for place in per_share.nonzero()[0]:
                rows[place].append(pieces[place])
            number[chosen] = self.dataset.session_numbers(block, number[chosen])
        cuts = pairwise(np.cumsum([0, *map(len, found)]))
        return [
            (each, Part(pieces, number[a:b], num_rows[a:b], is_end=each.last_window == window))
            for each, pieces, (a, b) in zip(shares, rows, cuts, strict=True)
        ]

    def _read_block(self, block: int, number: Int64Array) -> Rows:
        """Some sessions of a block in the order given."""
        table, first_row, num_rows = self.dataset.read_block(block, self.spec.columns)
        rows = ranges(first_row[number], num_rows[number]).astype(np.int32)
        return encode_rows(table, self.spec, torch.from_numpy(rows))
