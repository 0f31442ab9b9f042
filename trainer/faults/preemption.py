"""An orderly end on SIGTERM: ranks agree on the step after which they save and stop.

Clusters send SIGTERM some seconds before they take a machine away. torchrun passes it on to its
ranks; one rank that gets it is enough.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist


class StopRequest:
    """Whether this process has got SIGTERM while it listened."""

    def __init__(self) -> None:
        self.is_made = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM makes the request in here; before and after it ends the process, as always.

        Call it from the main thread.
        """
        before = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "is_made", True))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


class Agreement:
    """Whether any rank wishes something, known to all ranks one step later.

    That step late nobody waits: the answer has arrived while the step ran.
    """

    def __init__(self) -> None:
        self._asked: tuple[Any, torch.Tensor] | None = None

    def exchange(self, *wishes: bool) -> tuple[bool, ...]:
        """Send this rank's wishes; returns which ones any rank sent in the call before this one."""
        answer = self.close() or (False,) * len(wishes)
        flags = torch.tensor(wishes, dtype=torch.uint8)
        self._asked = dist.all_reduce(flags, dist.ReduceOp.MAX, async_op=True), flags
        return answer

    def close(self) -> tuple[bool, ...] | None:
        """The answer to the last exchange, if there was one."""
        if self._asked is None:
            return None
        (work, flags), self._asked = self._asked, None
        work.wait()
        return tuple(flags.bool().tolist())
