"""The plan of an epoch: which sessions make up each global batch, and each rank's share of it.

Pure functions of integers and arrays. A *lane* is a run of whole sessions of at most
`lane_rows` rows; a global batch is `num_lanes` lanes, one after the other in the stream:

    stream   |s7 s2 s9|s4 s1|s8|s3 s0 s5|s6|      sessions in the epoch's order
    lanes     0        1     0  1        0
    global   |---- step 0 --|- step 1 --|...

The global batches depend on (index, seed, epoch, lane_rows, num_lanes) alone. A world of any size
that divides num_lanes reads the very same global batches: rank r of R takes lanes
[r * num_lanes / R, (r + 1) * num_lanes / R) of each step.

S sessions, K steps, L lanes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class EpochPlan:
    """The sessions of an epoch in stream order, cut into steps and lanes.

    order: int64[S], session numbers in stream order.
    bounds: int64[K, L + 1]; lane l of step k is order[bounds[k, l] : bounds[k, l + 1]].
    window_starts: int64[W], positions in `order` at which the reader's windows start.
    rows: int64[K], rows of each global batch.
    num_oversized: sessions longer than a lane; each is a lane of its own.
    """

    order: Int64Array
    bounds: Int64Array
    window_starts: Int64Array
    rows: Int64Array
    num_oversized: int

    @property
    def num_steps(self) -> int:
        """Global batches in the epoch."""
        return len(self.bounds)

    def share(self, rank: int, world_size: int) -> tuple[Int64Array, Int64Array]:
        """First and last-plus-one position in `order` of a rank's rows, int64[K] each."""
        num_lanes = self.bounds.shape[1] - 1
        if num_lanes % world_size:
            raise ValueError(
                f"world size must divide the {num_lanes} lanes of the plan, but got: {world_size}; "
                f"resume on a number of ranks that divides {num_lanes}"
            )
        lanes = num_lanes // world_size
        return self.bounds[:, rank * lanes], self.bounds[:, (rank + 1) * lanes]


def plan_epoch(
    num_rows: Int64Array,
    block_of_session: Int64Array,
    *,
    lane_rows: int,
    num_lanes: int,
    shuffle: bool,
    seed: int = 0,
    epoch: int = 0,
    window_blocks: int = 8,
    drop_remainder: bool = False,
) -> EpochPlan:
    """Plan one epoch.

    Args:
        num_rows: int64[S], rows of each session.
        block_of_session: int64[S], nondecreasing; the unit of reading that holds each session.
        lane_rows: the most rows of a lane.
        num_lanes: lanes of a global batch.
        shuffle: permute blocks globally and sessions within windows of `window_blocks` blocks.
        drop_remainder: leave out the last global batch unless all its lanes are full.
    """
    order, window_starts = _stream_order(
        block_of_session, window_blocks, np.random.PCG64([seed, epoch]) if shuffle else None
    )
    starts = np.concatenate([[0], np.cumsum(num_rows[order])])  # [S + 1] first row of each session
    cuts = _next_fit(starts, 0, lane_rows)
    full, tail = divmod(len(cuts) - 1, num_lanes)
    steps = [cuts[k * num_lanes : (k + 1) * num_lanes + 1] for k in range(full)]
    if drop_remainder:
        last_lane_is_full = starts[-1] - starts[cuts[-2]] >= lane_rows
        steps = steps if tail or last_lane_is_full else steps[:-1]
    elif tail:
        steps.append(_spread(starts, cuts[full * num_lanes], lane_rows, num_lanes))
    bounds = np.array(steps, dtype=np.int64).reshape(-1, num_lanes + 1)
    return EpochPlan(
        order=order,
        bounds=bounds,
        window_starts=window_starts,
        rows=starts[bounds[:, -1]] - starts[bounds[:, 0]],
        num_oversized=int((num_rows > lane_rows).sum()),
    )


def _stream_order(
    block_of_session: Int64Array, window_blocks: int, random: np.random.PCG64 | None
) -> tuple[Int64Array, Int64Array]:
    """Session numbers in stream order and the positions at which windows start.

    Raw 64-bit draws sorted: NumPy fixes the bits of a bit generator over its versions, but not
    what `shuffle` makes of them.
    """
    num_sessions = len(block_of_session)
    num_blocks = int(block_of_session[-1]) + 1 if num_sessions else 0
    if random is None:
        window = block_of_session // window_blocks
        order = np.arange(num_sessions, dtype=np.int64)
    else:
        place_of_block = np.argsort(np.argsort(random.random_raw(num_blocks), kind="stable"))
        window = place_of_block[block_of_session] // window_blocks
        order = np.lexsort((random.random_raw(num_sessions), window))
        window = window[order]
    starts = np.flatnonzero(np.diff(window, prepend=-1))
    return order.astype(np.int64), starts.astype(np.int64)


def _next_fit(starts: Int64Array, first: int, lane_rows: int) -> list[int]:
    """Positions [first, ..., S] that cut the stream into lanes, each as long as fits."""
    cuts = [first]
    while cuts[-1] < len(starts) - 1:
        at = cuts[-1]
        fits = int(np.searchsorted(starts, starts[at] + lane_rows, side="right")) - 1
        cuts.append(max(fits, at + 1))  # a session longer than a lane is a lane of its own
    return cuts


def _spread(starts: Int64Array, first: int, lane_rows: int, num_lanes: int) -> list[int]:
    """Cut the rest of the stream into num_lanes lanes whose longest is as short as possible.

    Lanes at the end may be empty, when there are fewer sessions than lanes.
    """
    low, high = 1, lane_rows
    while low < high:
        middle = (low + high) // 2
        if len(_next_fit(starts, first, middle)) - 1 <= num_lanes:
            high = middle
        else:
            low = middle + 1
    cuts = _next_fit(starts, first, low)
    return cuts + [len(starts) - 1] * (num_lanes + 1 - len(cuts))
