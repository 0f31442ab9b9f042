"""A trace of some steps, for chrome://tracing or Perfetto."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

# Steps: the first ones are slow in their own way, one warms the profiler up, then it records.
FIRST, WARM_UP, RECORDED = 10, 1, 5


@contextmanager
def profiled_steps(folder: Path, rank: int, say: Callable[[str], None]) -> Iterator[profile]:
    """A profiler, whose `step` is called after each step; writes `rankN.trace.json` into a folder.

    Args:
        say: prints a line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rank{rank}.trace.json"
    path.unlink(missing_ok=True)
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    steps = schedule(skip_first=FIRST, wait=0, warmup=WARM_UP, active=RECORDED, repeat=1)
    with profile(
        activities=activities,
        schedule=steps,
        on_trace_ready=lambda done: done.export_chrome_trace(str(path)),
    ) as profiler:
        yield profiler
    if path.exists():
        say(f"profile: {path}, of steps {FIRST + WARM_UP + 1} on; open it in ui.perfetto.dev")
    else:
        say(f"no profile: training ended before its step {FIRST + WARM_UP + 1}")
