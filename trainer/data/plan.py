"""The plan of an epoch: which sessions make up each global batch, and each rank's share of it.

Pure functions of integers and arrays; the world size appears in `share_bounds` alone.

    blocks     b0 b1 b2 b3 b4 b5         units of reading (row groups), in stored order
    slots      b4 b0 | b5 b2 | b1 b3     the epoch's order of blocks, cut into windows
    stream     s7 s2 s9 s4 s1 | s8 s3    the sessions of each window in random order, in which those
                                         of each block are spread evenly
    batches    |--- 0 --|---- 1 ---|     runs of the stream, each cut where it is full
    in a batch  s2 s7 s9                 in the order of blocks: a rank's share is in few of them

A batch is full when `num_lanes` ranks could not take one more session at `lane_rows` rows each. So
the batches depend on (session lengths, seed, epoch, lane_rows, num_lanes) alone, and ranks of any
number cut each of them into shares at session boundaries, the longest share as short as possible.

No more than some windows of sessions are in memory, and each batch knows the `Place` at which the
next one starts: planning can go on from there without what came before.

S sessions, R ranks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]
LengthsOfBlock = Callable[[int], NDArray[np.integer]]
_LOW_WORD = 2**32 - 1


@dataclass(frozen=True)
class Place:
    """Where a global batch starts: after `rows` rows of the epoch, at a session of a window."""

    step: int = 0
    window: int = 0
    session: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Sessions:
    """Some sessions, int64 [S] each: slot of their block, number in the block, rows."""

    slot: Int64Array
    number: Int64Array
    num_rows: Int64Array

    def __len__(self) -> int:
        return len(self.slot)

    def __getitem__(self, chosen: slice | Int64Array) -> "Sessions":
        return Sessions(self.slot[chosen], self.number[chosen], self.num_rows[chosen])


@dataclass(frozen=True)
class GlobalBatch:
    """One step: its sessions, where it starts, and where the next batch does.

    Sessions are in the order in which ranks share them: by the place of their block in its window.
    So a rank takes the same few blocks of a window at all its steps, and at the windows' edges too.
    """

    sessions: Sessions
    start: Place
    end: Place
    is_last: bool

    @property
    def num_rows(self) -> int:
        """Rows over all ranks."""
        return self.end.rows - self.start.rows

    def share(self, rank: int, world_size: int) -> Sessions:
        """The sessions of a rank, by slot; none for the last ranks where there are too few."""
        bounds = share_bounds(self.sessions.num_rows, world_size)
        share = self.sessions[bounds[rank] : bounds[rank + 1]]
        return share[_sorted_by(share.slot)]


@dataclass(frozen=True)
class EpochPlan:
    """The global batches of one epoch.

    Attributes:
        num_blocks: blocks of the dataset; a block may be without a session.
        lengths_of_block: rows of each session that starts in a block, in stored order.
        lane_rows: most rows of each of the `num_lanes` shares into which a batch must fit.
        shuffle: permute blocks, and sessions within each window of `window_blocks` blocks.
        drop_remainder: leave out a last batch of fewer than lane_rows * num_lanes rows.
    """

    num_blocks: int
    lengths_of_block: LengthsOfBlock
    lane_rows: int
    num_lanes: int
    shuffle: bool
    seed: int = 0
    epoch: int = 0
    window_blocks: int = 8
    drop_remainder: bool = False

    @property
    def full_rows(self) -> int:
        """Rows of a global batch without any gap."""
        return self.lane_rows * self.num_lanes

    @property
    def num_windows(self) -> int:
        """Windows of the epoch; the last one may have fewer blocks."""
        return -(-self.num_blocks // self.window_blocks)

    @cached_property
    def block_of_slot(self) -> Int64Array:
        """The epoch's order of blocks, int64 [num_blocks]."""
        if not self.shuffle:
            return np.arange(self.num_blocks, dtype=np.int64)
        return _shuffled(self.num_blocks, self.seed, self.epoch, 0)[0]

    def window(self, window: int) -> Sessions:
        """The sessions of a window in stream order: each block's spread evenly, at random."""
        first = window * self.window_blocks
        slots = np.arange(first, min(first + self.window_blocks, self.num_blocks))
        parts, places = [], []
        for slot, block in zip(slots, self.block_of_slot[slots].tolist(), strict=True):
            lengths = self.lengths_of_block(block)
            number = np.arange(len(lengths))
            if self.shuffle:
                number, place = _shuffled(len(lengths), self.seed, self.epoch, 1 + block)
                places.append(place)
            rows = lengths[number].astype(np.int64)
            parts.append(Sessions(np.full(len(lengths), slot), number, rows))
        sessions = _concat(parts)
        return sessions[np.concatenate(places).argsort(kind="stable")] if places else sessions

    def deal_order(self, sessions: Sessions) -> Int64Array:
        """The order in which ranks share sessions of the stream: see GlobalBatch."""
        if not self.shuffle:
            return np.arange(len(sessions))
        window, place = np.divmod(sessions.slot, self.window_blocks)
        last_blocks = self.num_blocks - (self.num_windows - 1) * self.window_blocks
        in_last = window == self.num_windows - 1
        return _sorted_by(np.where(in_last, place * self.window_blocks // last_blocks, place))

    def batches(self, start: Place | None = None) -> Iterator[GlobalBatch]:
        """The global batches from a place on; the last of the epoch says so."""
        held: GlobalBatch | None = None  # until it is known whether another one follows
        for batch in self._cut(start or Place()):
            if batch.is_last and self.drop_remainder and batch.num_rows < self.full_rows:
                break
            if held is not None:
                yield held
            held = batch
        if held is not None:
            yield replace(held, is_last=True)

    def place_of(self, step: int) -> Place:
        """Where a step starts, found by planning all steps before it."""
        if step == 0:
            return Place()
        for batch in self._cut(Place()):
            if batch.end.step == step:
                return batch.end
        raise ValueError(f"the epoch has fewer than {step} global batches")

    def _cut(self, place: Place) -> Iterator[GlobalBatch]:
        stream = _Stream(self, place)
        while len(ahead := stream.peek()):
            sessions = ahead[: batch_size(ahead, self)]
            rows = place.rows + int(sessions.num_rows.sum())
            end = replace(stream.skip(len(sessions)), step=place.step + 1, rows=rows)
            in_order = sessions[self.deal_order(sessions)]
            yield GlobalBatch(in_order, place, end, is_last=stream.is_at_end)
            place = end


class _Stream:
    """The sessions of an epoch from a place on; windows are planned when they are needed."""

    def __init__(self, plan: EpochPlan, place: Place) -> None:
        self._plan = plan
        self._next_window = place.window
        none = np.empty(0, dtype=np.int64)
        self._sessions, self._first = Sessions(none, none, none), 0
        self._in_window = none  # [S] place of each session in its window's order
        self._ends = none  # [S] rows up to and with each session, lane_rows for a longer one
        self._load()
        self.skip(place.session)

    @property
    def is_at_end(self) -> bool:
        """Whether no session is left."""
        return self._first == len(self._sessions)

    def peek(self) -> Sessions:
        """The next sessions: all that may be in the next batch; none at the end."""
        full_rows = self._plan.full_rows
        while self._ends[-1:].sum() - self._start() < full_rows and self._load():
            pass
        stop = np.searchsorted(self._ends, self._start() + full_rows, side="right")
        return self._sessions[self._first : int(stop)]

    def skip(self, count: int) -> Place:
        """Leave out the next sessions; returns window and place in it of what follows."""
        self._first += count
        while self.is_at_end and self._load():
            pass
        if self.is_at_end:
            return Place(window=self._plan.num_windows)
        window = int(self._sessions.slot[self._first]) // self._plan.window_blocks
        return Place(window=window, session=int(self._in_window[self._first]))

    def _start(self) -> int:
        return int(self._ends[self._first - 1]) if self._first else 0

    def _load(self) -> bool:
        """Put the next window behind what is left; False at the end of the epoch."""
        if self._next_window >= self._plan.num_windows:
            return False
        left, window = self._sessions[self._first :], self._plan.window(self._next_window)
        self._next_window += 1
        self._in_window = np.append(self._in_window[self._first :], np.arange(len(window)))
        self._sessions = _concat([left, window])
        self._first = 0
        self._ends = np.cumsum(np.minimum(self._sessions.num_rows, self._plan.lane_rows))
        return True


def batch_size(sessions: Sessions, plan: EpochPlan) -> int:
    """How many sessions, from the first on, fit `num_lanes` shares of at most `lane_rows` rows.

    A session longer than lane_rows is a share of its own. The sessions given must be no more than
    lane_rows * num_lanes rows, each counted as at most lane_rows.
    """
    if plan.num_lanes == 1:
        return len(sessions)
    capped = np.minimum(sessions.num_rows, plan.lane_rows)
    ends = np.cumsum(capped)  # [S]

    def rows_left_over(size: int) -> int:
        starts = _starts(capped[plan.deal_order(sessions[:size])])
        return int(starts[-1] - starts[next_fit(starts, plan.lane_rows, plan.num_lanes)[-1]])

    fits = too_many = len(sessions)
    while left_over := rows_left_over(fits):  # take them off the end, and look again
        too_many = fits
        rows = ends[fits - 1] - left_over
        fits = min(int(np.searchsorted(ends, rows, side="right")), fits - 1)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (fits, middle) if rows_left_over(middle) else (middle, too_many)
    return fits


def share_bounds(num_rows: Int64Array, world_size: int) -> list[int]:
    """Cut sessions into contiguous shares, the longest as short as possible; int [R + 1].

    A session longer than the others' longest share is a share of its own. Shares at the end may be
    empty.
    """
    if world_size == 1:
        return [0, len(num_rows)]
    starts = _starts(num_rows)
    low, high = 1, max(int(starts[-1]), 1)
    while low < high:
        middle = (low + high) // 2
        if next_fit(starts, middle, world_size)[-1] == len(num_rows):
            high = middle
        else:
            low = middle + 1
    cuts = next_fit(starts, low, world_size)
    return cuts + [len(num_rows)] * (world_size + 1 - len(cuts))


def next_fit(starts: Int64Array, max_rows: int, max_runs: int) -> list[int]:
    """Cut the first sessions into at most max_runs runs, each as long as fits max_rows rows.

    starts: int64 [S + 1], the first row of each session, and the number of rows.
    Returns 0 and the end of each run; the last one is S if the runs hold all sessions.
    """
    cuts = [0]
    while cuts[-1] < len(starts) - 1 and len(cuts) <= max_runs:
        at = cuts[-1]
        fits = int(starts.searchsorted(starts[at] + max_rows, side="right")) - 1
        cuts.append(max(fits, at + 1))  # a session longer than max_rows is a run of its own
    return cuts


def ranges(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> Int64Array:
    """[start, ..., start + length - 1] of each pair, one after the other."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)


def _concat(parts: list[Sessions]) -> Sessions:
    return Sessions(
        np.concatenate([part.slot for part in parts]),
        np.concatenate([part.number for part in parts]),
        np.concatenate([part.num_rows for part in parts]),
    )


def _sorted_by(slot: Int64Array) -> Int64Array:
    """The order by slot, and in a slot as it was."""
    if not len(slot):
        return slot
    offset = slot - slot.min()  # mostly of 8 or 16 bits, which NumPy sorts by radix
    return np.argsort(offset.astype(np.min_scalar_type(offset.max())), kind="stable")


def _starts(num_rows: Int64Array) -> Int64Array:
    return np.concatenate([[0], np.cumsum(num_rows)])


def _shuffled(count: int, seed: int, epoch: int, stream: int) -> tuple[Int64Array, NDArray]:
    """A permutation of [0, count), and places for its items in [0, 1): the i-th in i/count on.

    Both depend on the arguments alone. Raw 64-bit draws sorted: NumPy fixes the bits of a bit
    generator over its versions, but not what `shuffle` makes of them. The low bits of each draw
    give way to its number, which breaks ties and is what is left after sorting.
    """
    words = [seed & _LOW_WORD, seed >> 32, epoch, stream]
    draws = np.random.PCG64(np.random.SeedSequence(words)).random_raw((2, count))
    number_bits = np.uint64((1 << max(count - 1, 1).bit_length()) - 1)
    keys = (draws[0] & ~number_bits) | np.arange(count, dtype=np.uint64)
    keys.sort()
    places = (np.arange(count) + draws[1] * 2.0**-64) / max(count, 1)
    return (keys & number_bits).astype(np.int64), places
