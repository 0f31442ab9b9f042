"""When a checkpoint is due: every so many epochs, or steps where these are not set; and minutes."""

import time
from collections.abc import Callable

from trainer.data.batch import Cursor
from trainer.protos.pipeline_pb2 import TrainConfig


class SaveSchedule:
    """Collects reasons to save; a reason holds until a checkpoint is written.

    Args:
        clock: seconds that go on evenly.
    """

    def __init__(self, config: TrainConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._epochs = config.save_checkpoints_epochs
        self._steps = 0 if self._epochs else config.save_checkpoints_steps
        self._seconds = config.save_checkpoints_minutes * 60
        self._clock, self._since = clock, clock()
        self.is_due = self._has_said = self._has_just_saved = False

    def is_time(self) -> bool:
        """Whether the minutes are over by this rank's clock; said once, for all ranks to hear."""
        if self._has_said or not self._seconds > 0:
            return False
        self._has_said = self._clock() - self._since >= self._seconds
        return self._has_said

    def note_step(self, step: int, cursor: Cursor, is_time: bool) -> None:
        """A step is done; `is_time` is what the ranks said one step before.

        Right after a checkpoint that is what they said before it: its minutes have begun anew.
        """
        is_time &= not self._has_just_saved
        self._has_just_saved = False
        epoch, _ = cursor.after()
        ends_epoch = epoch > cursor.epoch
        self.is_due |= is_multiple(step, self._steps) or is_time
        self.is_due |= ends_epoch and is_multiple(epoch, self._epochs)

    def note_saved(self) -> None:
        """A checkpoint is written, or on its way."""
        self.is_due = self._has_said = False
        self._has_just_saved = True
        self._since = self._clock()


def is_multiple(number: int, every: int) -> bool:
    """Whether something is due at a number; with `every` 0 it never is."""
    return every > 0 and number % every == 0
