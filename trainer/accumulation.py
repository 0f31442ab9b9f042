"""Gradient accumulation: several global batches for one step of the dense optimizer.

With `gradient_accumulation_steps: 3` an epoch of 8 global batches has three groups; the last is
what is left, so that a group never crosses the end of an epoch:

    step of the epoch   0 1 2 | 3 4 5 | 6 7
    size                3       3       2

Each batch's loss counts 1 / size, so the dense gradient is the mean over the group. Tables are
updated in each backward pass, as fused optimizers do, by the gradient of that share of the loss.
Checkpoints are written, and training stops, only at the end of a group.
"""

from typing import NamedTuple

from trainer.batch import Cursor


class Place(NamedTuple):
    """Where a batch stands in its group."""

    size: int  # batches of the group
    is_first: bool
    is_last: bool


def place_in_group(cursor: Cursor, steps: int) -> Place:
    """The place of a batch, with `gradient_accumulation_steps` of `steps` (0 and 1: no groups)."""
    steps = max(steps, 1)
    number = cursor.step % steps
    size = min(steps, cursor.num_steps - (cursor.step - number))
    return Place(size, is_first=number == 0, is_last=number == size - 1)
