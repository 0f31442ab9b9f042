"""Gradient accumulation: several global batches for one step of the dense optimizer.

With `gradient_accumulation_steps: 3` an epoch of 8 global batches has three groups; the last is
what is left, so that a group never crosses the end of an epoch:

    step of the epoch   0 1 2 | 3 4 5 | 6 7

Each batch's loss counts a third. Tables move in each backward pass by the gradient of that, as
fused optimizers do. Dense gradients add up to the mean over the group; those of a group that is
shorter, or of which a batch was left out, are scaled to its mean. Checkpoints are written, and
training stops, only at the end of a group.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.data.batch import Cursor


class GroupStep(NamedTuple):
    """Where a batch stands in its group."""

    steps: int  # batches of a whole group
    number: int  # of the batch in its group, from 0
    is_last: bool

    @property
    def is_first(self) -> bool:
        """Whether gradients start anew."""
        return self.number == 0


def group_step(cursor: Cursor, steps: int) -> GroupStep:
    """A batch's place in its group, with `gradient_accumulation_steps` (0 is 1: no groups)."""
    steps = max(steps, 1)
    next_epoch, _ = cursor.after()
    number = cursor.step % steps
    return GroupStep(steps, number, number == steps - 1 or next_epoch > cursor.epoch)


def scale_to_mean(
    parameters: Iterable[nn.Parameter], group: GroupStep, left_out: Tensor | int = 0
) -> None:
    """Make the gradients of a group the mean over its batches.

    Args:
        group: its last step.
        left_out: batches without a gradient, a number that may lie on the device: nobody looks.
    """
    if group.steps > 1:
        batches = torch.as_tensor(group.number + 1 - left_out)
        scale = group.steps / batches.clamp(min=1)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
