"""One rank's failure ends all ranks: each hears of it through the store and ends within seconds.

Without it the others wait in a collective, for as long as its timeout, for a rank that is gone. A
rank that SIGTERM ends takes the others along in the same way, without a failure.
"""

import os
import sys
import threading
import time
from typing import Any, NoReturn

import torch.distributed as dist

POLL_SECONDS = 0.5
SECONDS_TO_SPREAD = 1.0  # the failed rank ends after this, the others later: it is seen to be first
_COUNT, _MESSAGE = "sessionwise/failures", "sessionwise/failure"
_STOPS, _STATUS = "sessionwise/stops", "sessionwise/stop"


class FailureWatch:
    """A thread that ends this process with status 1 when another rank has failed.

    Args:
        store: of all ranks; the watch makes its own connection to it.
        rank: of this process.
    """

    def __init__(self, store: dist.Store, rank: int) -> None:
        connection: Any = store  # PyTorch's type hints lack `clone`
        self._store, self._rank = connection.clone(), rank
        self._is_done = threading.Event()
        self._ending = threading.Lock()
        threading.Thread(target=self._watch, name="failure-watch", daemon=True).start()

    def stop(self) -> None:
        """The work is done: from now on ranks may end when they like."""
        self._is_done.set()

    def fail(self, message: str, details: str = "") -> NoReturn:
        """Tell all ranks, and end this process; `details` are for its own output.

        A rank that fails because another one did, or was stopped, ends as that one.
        """
        self.stop()
        try:
            self._end_if_stopped()
            is_first = self._store.add(_COUNT, 1) == 1
            if is_first:
                self._store.set(_MESSAGE, f"rank {self._rank} failed: {message}")
        except RuntimeError:  # the store is gone with the rank that kept it
            is_first = True
        if is_first:
            self._end(f"{details}error on rank {self._rank}: {message}", SECONDS_TO_SPREAD)
        self._end_after_other()

    def end_all(self, message: str, status: int) -> None:
        """End all ranks with a status, not as a failure; the first one that says so says why.

        Returns only where this process ends already, by itself or as a failure.
        """
        if self._is_done.is_set() or self._ending.locked():
            return
        try:
            if self._store.check([_MESSAGE]):  # as torchrun signals the others then
                self._end_after_other()
            is_first = self._store.add(_STOPS, 1) == 1
            self._store.set(_STATUS, str(status))
        except RuntimeError:  # the store is gone
            is_first = True
        if is_first:
            print(message, flush=True)
        self._end("", SECONDS_TO_SPREAD, status)

    def _watch(self) -> None:
        while not self._is_done.wait(POLL_SECONDS):
            try:
                self._end_if_stopped()
                failed = self._store.check([_MESSAGE])
            except RuntimeError as error:
                if not self._is_done.is_set():
                    self._end(f"rank {self._rank} ends, as the store is gone: {error}", 0)
                return
            if failed:
                self._end_after_other()

    def _end_if_stopped(self) -> None:
        if self._store.check([_STATUS]):
            self._end("", SECONDS_TO_SPREAD, int(self._store.get(_STATUS)))

    def _end_after_other(self) -> NoReturn:
        reason = self._store.get(_MESSAGE).decode()
        self._end(f"rank {self._rank} ends, as {reason}", 2 * SECONDS_TO_SPREAD)

    def _end(self, text: str, seconds: float, status: int = 1) -> NoReturn:
        with self._ending:  # never given back: one thread ends the process
            if text:
                print(text, file=sys.stderr, flush=True)
            time.sleep(seconds)
            os._exit(status)
