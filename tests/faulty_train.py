"""launch/train.py with faults, as the tests in test_faults.py and test_checkpoints.py ask for them.

The environment variable FAULTS holds a JSON list, each of an attempt (TORCHELASTIC_RESTART_COUNT):
{"attempt": 0, "rank": 1, "at": "write" | "rename", "step": 8} of the checkpoint of a step, or
{"attempt": 0, "rank": 0, "at": "disk_full" | "nan", "step": 6, "until": 9} while these steps run:
no room for files (from step 0: from the start), or a loss that is NaN; or
{"attempt": 0, "rank": 0, "at": "SIGKILL" | "SIGTERM", "in": "build_parallel"}: the signal, in a
function of trainer/trainer.py, which takes 5 seconds more then.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import trainer.trainer as trainer_module
from launch.train import main
from trainer.checkpoints import writer as checkpoint_writer
from trainer.faults.nonfinite import NonFiniteGuard
from trainer.trainer import Trainer

STEP_SECONDS = float(os.environ.get("STEP_SECONDS", "0"))
RANK = int(os.environ.get("RANK", "0"))
ATTEMPT = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
FULL_DISK_BYTES = 512
LASTING = ("disk_full", "nan")


def faults(at: str) -> list[dict[str, Any]]:
    """This process's faults of a kind."""
    mine = [f for f in json.loads(os.environ.get("FAULTS", "[]")) if f["rank"] == RANK]
    return [f for f in mine if f["at"] == at and f["attempt"] == ATTEMPT]


def die() -> None:
    """As if by the kernel's hand."""
    os.kill(os.getpid(), signal.SIGKILL)


class DyingWriter(checkpoint_writer._FileWriter):
    """Dies with its file half written."""

    def write_data(self, plan, planner):
        done = super().write_data(plan, planner)
        if any(f".model.ckpt-{f['step']}.tmp" in str(self.path) for f in faults("write")):
            for file in Path(self.path).glob(f"__{RANK}_*"):
                os.truncate(file, file.stat().st_size // 2)
            die()
        return done


rename = Path.rename


def dying_rename(self: Path, target: Any) -> Path:
    """Dies with all written, but not under its name."""
    if any(Path(target).name == f"model.ckpt-{f['step']}" for f in faults("rename")):
        die()
    return rename(self, target)


forward = Trainer._forward  # once a step, whether or not ids travel ahead
admit = NonFiniteGuard.admit
now: set[str] = set()  # the faults of this step


def slow_step(self, batch):
    """Steps that take a while, with the faults that they have."""
    time.sleep(STEP_SECONDS)
    step = self.state.global_step + 1
    begin(step)
    return forward(self, batch)


def begin(step: int) -> None:
    """Make the faults of a step."""
    now.clear()
    now.update(at for at in LASTING for f in faults(at) if f["step"] <= step < f["until"])
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = FULL_DISK_BYTES if "disk_full" in now else most
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))


def admit_nan(self, loss, outputs, batch):
    """The guard, which may meet NaN."""
    return admit(self, loss * float("nan") if "nan" in now else loss, outputs, batch)


def with_signals(name: str) -> Any:
    """A function of trainer/trainer.py, in which signals come."""
    function = getattr(trainer_module, name)

    def signalled(*args: Any, **kwargs: Any) -> Any:
        for number in (signal.SIGKILL, signal.SIGTERM):
            if any(f["in"] == name for f in faults(number.name)):
                os.kill(os.getpid(), number)
                time.sleep(5)
        return function(*args, **kwargs)

    return signalled


if __name__ == "__main__":
    checkpoint_writer._FileWriter = DyingWriter
    Path.rename = dying_rename
    Trainer._forward = slow_step
    NonFiniteGuard.admit = admit_nan
    for name in ("build_parallel", "evaluate_dataset", "write_report"):
        setattr(trainer_module, name, with_signals(name))
    begin(0)
    status = main()
    os.write(1, f"rank {RANK} ends with status {status}\n".encode())
    sys.stdout.flush()
    os._exit(status)
