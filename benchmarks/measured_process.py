"""Run a process to its end and measure it: seconds, CPU seconds, peak memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """A finished process: wall, measured and CPU seconds, and its peak memory.

    CPU seconds are of the process and its children, start included; they hold on a busy machine.
    """

    wall_seconds: float
    seconds: float
    cpu_seconds: float
    peak_rss_mib: float
    output: str


def measure(command: Sequence[Any], **env: str) -> Run:
    """Run a process to its end; raises RuntimeError when it fails."""
    start, cpu_start = time.monotonic(), _children_cpu_seconds()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, **env},
    )
    peaks: list[float] = []
    watcher = threading.Thread(target=_watch_memory, args=(process, peaks))
    watcher.start()
    output, _ = process.communicate()
    wall = time.monotonic() - start
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed with {process.returncode}: {output[-2000:]}")
    cpu = _children_cpu_seconds() - cpu_start
    return Run(wall, wall, cpu, max(peaks, default=0.0), output)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _watch_memory(process: subprocess.Popen, peaks: list[float]) -> None:
    """Add the peak resident MiB of the process: spark-submit becomes the driver's JVM by exec."""
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        except (OSError, IndexError):
            pass
        time.sleep(0.2)
