"""How far an epoch's order is from a full shuffle, by the window's size.

    python -m benchmarks.shuffle_quality

1,000 blocks of 1,000 sessions of 10 rows; global batches of 65,536 rows, so of 6,554 sessions:

    together   share of neighbours in stored order that are in the same global batch
    blocks     blocks of which a global batch has sessions
    drift      standard deviation over batches of the mean stored place of a batch's sessions, where
               the data set is of length 1: what a batch shows of a trend over time
"""

import numpy as np
from numpy.typing import NDArray

from trainer.data.plan import EpochPlan

NUM_BLOCKS, BLOCK_SESSIONS, BATCH_SESSIONS = 1000, 1000, 6554
NUM_SESSIONS = NUM_BLOCKS * BLOCK_SESSIONS


def epoch_order(window_blocks: int) -> NDArray[np.int64]:
    """Stored numbers of the sessions in the order of an epoch."""
    plan = EpochPlan(
        num_blocks=NUM_BLOCKS,
        lengths_of_block=lambda block: np.full(BLOCK_SESSIONS, 10),
        lane_rows=8192,
        num_lanes=8,
        shuffle=True,
        window_blocks=window_blocks,
    )
    windows = [plan.window(window) for window in range(plan.num_windows)]
    numbers = [plan.block_of_slot[w.slot] * BLOCK_SESSIONS + w.number for w in windows]
    return np.concatenate(numbers)


def quality(order: NDArray[np.int64]) -> str:
    """A row of the table."""
    batch = np.empty(NUM_SESSIONS, dtype=np.int64)
    batch[order] = np.arange(NUM_SESSIONS) // BATCH_SESSIONS
    together = np.mean(batch[1:] == batch[:-1])
    whole = order[: NUM_SESSIONS // BATCH_SESSIONS * BATCH_SESSIONS].reshape(-1, BATCH_SESSIONS)
    blocks = np.mean([len(np.unique(row // BLOCK_SESSIONS)) for row in whole])
    drift = (whole.mean(axis=1) / NUM_SESSIONS).std()
    return f"together {together:.4f}  blocks {blocks:5.1f}  drift {drift:.4f}"


if __name__ == "__main__":
    print(f"stored order   {quality(np.arange(NUM_SESSIONS))}")
    for size in (8, 16, 32, 64):
        print(f"window of {size:3d}  {quality(epoch_order(size))}")
    print(f"full shuffle   {quality(np.random.default_rng(0).permutation(NUM_SESSIONS))}")
