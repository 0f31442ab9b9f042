"""One job at a time in a model_dir: a second one would delete what the first one writes.

The lock is the kernel's (flock) and goes with the process that has it, however that ends.
"""

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist

from trainer.config import ConfigError

LOCK_FILE = ".lock"
WAIT_SECONDS = 10.0  # for the attempt before, which torchrun has just ended
POLL_SECONDS = 0.2


class ModelDirLock:
    """The lock of a model folder, which rank 0's process takes for the rest of its life.

    Args:
        model_dir: may not be there yet; then there is nothing to take.
    """

    def __init__(self, model_dir: str) -> None:
        self._model_dir = Path(model_dir) if model_dir else None
        self._is_taken = False

    def take(self, make_folder: bool = False, wait_seconds: float = WAIT_SECONDS) -> None:
        """Take the lock, unless this object has it; on a file system without locks say so.

        Raises:
            ConfigError: another process has the lock, and keeps it for `wait_seconds`.
        """
        if self._is_taken or self._model_dir is None or dist.get_rank():
            return
        if make_folder:
            self._model_dir.mkdir(parents=True, exist_ok=True)
        if not self._model_dir.is_dir():
            return
        self._is_taken = True
        path = self._model_dir / LOCK_FILE
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # open for the rest of the process
        deadline = time.monotonic() + wait_seconds
        while not self._is_locked(lock):
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"model_dir must be of one job at a time, but another one trains in "
                    f"{self._model_dir}{_holder(lock)}; wait for its end, or choose another "
                    f"model_dir. If none runs, as after the loss of a machine, delete {path}"
                )
            time.sleep(POLL_SECONDS)
        with suppress(OSError):  # no room: the name is for people alone
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def _is_locked(self, lock: int) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            print(
                f"warning: the file system of {self._model_dir} has no locks ({error.strerror}): "
                f"nothing keeps another job from writing there; do not start one",
                flush=True,
            )
        return True


def _holder(lock: int) -> str:
    name = os.pread(lock, 200, 0).decode(errors="replace")
    return f" ({name})" if name else ""
