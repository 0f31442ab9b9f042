"""An orderly end on SIGTERM: while they train, ranks agree on a step, save after it and stop.

Clusters send SIGTERM some seconds before they take a machine away. torchrun passes it on to its
ranks; one rank that gets it is enough.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist


class StopRequest:
    """What SIGTERM does to this process: it ends it with a message, or waits for training to look.

    Args:
        message: of an end before training begins.

    Attributes:
        is_made: whether SIGTERM has come.
        end: called with the message, in a thread; ends the process.
    """

    def __init__(self, message: str = "") -> None:
        self.is_made = False
        self.end: Callable[[str], object] = lambda message: None
        self._message: str | None = message
        self._lock = threading.Lock()

    def listen(self) -> None:
        """Take SIGTERM from now on. Call it from the main thread.

        A thread reads what signals write: Python's own handlers wait for the main thread, which
        may be in a collective for minutes.
        """
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._read, args=(read,), name="sigterm", daemon=True).start()

    def hold(self) -> None:
        """From now on SIGTERM ends nothing: who trains looks at `is_made`."""
        with self._lock:
            self._message = None

    def release(self, message: str) -> None:
        """From now on SIGTERM ends the process with this message; at once, if it has come."""
        with self._lock:
            self._message = message
            is_made = self.is_made
        if is_made:
            self.end(message)

    def _read(self, signals: int) -> None:
        while number := os.read(signals, 1):
            if number[0] == signal.SIGTERM:
                with self._lock:
                    self.is_made, message = True, self._message
                if message is not None:
                    self.end(message)


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
        is_alone = dist.get_world_size() == 1
        work = None if is_alone else dist.all_reduce(flags, dist.ReduceOp.MAX, async_op=True)
        self._asked = work, flags
        return answer

    def close(self) -> tuple[bool, ...] | None:
        """The answer to the last exchange, if there was one."""
        if self._asked is None:
            return None
        (work, flags), self._asked = self._asked, None
        if work is not None:
            work.wait()
        return tuple(flags.bool().tolist())
