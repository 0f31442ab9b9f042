"""Cases that are measured in turns: all are started, then each runs a window while the others rest.

A machine's speed drifts, so figures that are to be compared must be taken next to each other. The
ranks of a case are processes of this one, which wait for a line on standard input, run a window and
answer with a line of JSON. Between its turns a case is stopped (SIGSTOP): what it does ahead, as
reading, it does in its own time.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
_MARK = "@answer "


# ------------------------------------------------------------------ in a rank


def wait_for_turn() -> None:
    """Returns when this case may run; ends the process when nobody is left to ask for more."""
    if not sys.stdin.readline():
        os._exit(1)


def tell(result: Any) -> None:
    """The turn is over."""
    print(_MARK + json.dumps(result), flush=True)


# ------------------------------------------------------------------ in the benchmark


class Case:
    """The ranks of one case: `python -m MODULE ARGUMENTS` each, one thread a rank.

    Args:
        log: where their standard error goes.
        settings: further environment variables.
    """

    def __init__(
        self,
        module: str,
        arguments: list[str],
        ranks: int,
        device: str,
        log: Path,
        settings: dict[str, str],
    ) -> None:
        self.log = log
        environment = os.environ | settings
        environment |= {
            "OMP_NUM_THREADS": "1",
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self.processes = []
        with log.open("w") as errors:
            for rank in range(ranks):
                process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    cwd=ROOT,
                    env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
                self.processes.append(process)

    def answer(self) -> Any:
        """Wait for all ranks; what rank 0 tells. Afterwards they are stopped."""
        answers = [self._answer_of(process) for process in self.processes]
        self._signal(signal.SIGSTOP)
        return answers[0]

    def turn(self) -> Any:
        """Let all ranks run until they answer; what rank 0 tells."""
        self._signal(signal.SIGCONT)
        for process in self.processes:
            _pipe(process.stdin).write("go\n")
            _pipe(process.stdin).flush()
        return self.answer()

    def kill(self) -> None:
        """End all ranks."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _answer_of(self, process: subprocess.Popen[str]) -> Any:
        for line in _pipe(process.stdout):
            if line.startswith(_MARK):
                return json.loads(line.removeprefix(_MARK))
        raise RuntimeError(f"a rank ended, with:\n{self.log.read_text()[-4000:]}")

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            os.killpg(process.pid, number)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
