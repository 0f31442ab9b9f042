"""Speed and memory of the losses, forward and backward, over batch sizes and session lengths.

    python benchmarks/bench_losses.py [--max-rows 1048576] [--seconds 0.5] [--threads 1]

First a gate: every provider gives the loss and the gradient of the float64 definition. Then, for
each batch, p20, p50 and p80 of the time and the peak memory of

    kernel         our fused kernel (CUDA alone), loss and gradient
    kernel forward its single launch, without the scaling of backward
    eager          its eager twin, sessions by offsets
    eager ids      the same with unsorted session ids
    compiled       torch.compile of the eager twin
    scatter        `scatter_jrc.py`: torch.unique and scatter, as other systems do it
    bce            torch's binary cross-entropy with logits: one logit, no sessions

On CUDA times are those of the device alone (a captured graph, replayed; "events" where a provider
stops for the host and cannot be captured), and bandwidth is compared with that of a device copy.
Writes benchmarks/results/losses-DEVICE.csv and a plot beside it. Needs torch, Triton, matplotlib.
"""

import argparse
import csv
import ctypes
import datetime
import functools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import cpu_name
from benchmarks.scatter_jrc import scatter_jrc
from losses import JRCLoss

ROWS = (1_024, 4_096, 8_192, 65_536, 1_048_576, 4_194_304, 16_777_216)
SESSIONS = ("mean 3", "mean 10", "mean 100", "skewed")
RESULTS = Path(__file__).parent / "results"
GATE_ROWS = 4_096
REPLAYS = 20  # of a captured graph between two events


@dataclass
class Batch:
    """One batch; `logit` is what binary cross-entropy sees."""

    logits: Tensor  # [B, 2]
    logit: Tensor  # [B]
    labels: Tensor  # [B] int64
    offsets: Tensor  # [S + 1]
    ids: Tensor  # [B], sessions in random order


Step = Callable[[], tuple[Tensor, Tensor]]


def make_batch(num_rows: int, sessions: str, device: torch.device, dtype: torch.dtype) -> Batch:
    """Geometric session lengths, or Pareto ones ("skewed": half of all rows in few sessions)."""
    random = np.random.default_rng(0)
    if sessions == "skewed":
        lengths = np.minimum(1 + random.pareto(1.0, num_rows // 2), num_rows // 4).astype(np.int64)
    else:
        lengths = random.geometric(1 / int(sessions.split()[1]), num_rows)
    ends = np.cumsum(lengths)
    ends = np.append(ends[ends < num_rows], num_rows)
    offsets = torch.from_numpy(np.concatenate([[0], ends]))
    names = torch.from_numpy(random.permutation(len(ends)))
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(num_rows, 2, generator=generator, dtype=torch.float32)
    labels = (torch.rand(num_rows, generator=generator) < 0.3).long()
    return Batch(
        logits=logits.to(device, dtype).requires_grad_(),
        logit=logits[:, 1].to(device, dtype).requires_grad_(),
        labels=labels.to(device),
        offsets=offsets.to(device),
        ids=names.repeat_interleave(offsets.diff()).to(device),
    )


def _with_grad(loss: Callable[[], Tensor], logits: Tensor) -> Step:
    def step() -> tuple[Tensor, Tensor]:
        value = loss()
        return value, torch.autograd.grad(value, logits)[0]

    return step


def make_providers(batch: Batch, with_compile: bool) -> dict[str, Step]:
    """What is measured, by name; each call is one forward and backward."""
    eager = JRCLoss(implementation="eager")
    by_offsets = functools.partial(eager, batch.logits, batch.labels, session_offsets=batch.offsets)
    by_ids = functools.partial(eager, batch.logits, batch.labels, session_ids=batch.ids)
    scatter = functools.partial(scatter_jrc, batch.logits, batch.labels, batch.ids)
    target = batch.labels.to(batch.logit.dtype)
    bce = functools.partial(F.binary_cross_entropy_with_logits, batch.logit, target)
    found = {
        "eager": _with_grad(by_offsets, batch.logits),
        "eager ids": _with_grad(by_ids, batch.logits),
        "scatter": _with_grad(scatter, batch.logits),
        "bce": _with_grad(bce, batch.logit),
    }
    if with_compile:
        compiled = torch.compile(eager, fullgraph=True, dynamic=True)
        call = functools.partial(
            compiled, batch.logits, batch.labels, session_offsets=batch.offsets
        )
        found["compiled"] = _with_grad(call, batch.logits)
    if batch.logits.is_cuda:
        kernel = JRCLoss(implementation="triton")
        fused = functools.partial(kernel, batch.logits, batch.labels, session_offsets=batch.offsets)
        found["kernel"] = _with_grad(fused, batch.logits)
        found["kernel forward"] = lambda: (fused(), batch.logits)
    return found


def check_providers(device: torch.device, dtype: torch.dtype, with_compile: bool) -> None:
    """The gate: every provider equals the definition in float64, or nothing is measured."""
    for sessions in SESSIONS:
        batch = make_batch(GATE_ROWS, sessions, device, dtype)
        exact = batch.logits.detach().double().cpu().requires_grad_()
        loss = JRCLoss(implementation="eager")(
            exact, batch.labels.cpu(), session_offsets=batch.offsets.cpu()
        )
        (grad,) = torch.autograd.grad(loss, exact)
        for name, step in make_providers(batch, with_compile).items():
            if name == "bce":
                continue
            value, gradient = step()
            torch.testing.assert_close(value.double().cpu(), loss, rtol=1e-5, atol=1e-5)
            if name != "kernel forward":
                scaled = gradient.double().cpu() * GATE_ROWS
                torch.testing.assert_close(scaled, grad * GATE_ROWS, rtol=1e-2, atol=1e-4)


def measure(step: Step, device: torch.device, seconds: float) -> tuple[list[float], float, str]:
    """Times of single steps in ms, peak memory in MiB above what was held before, and the clock."""
    step()
    if device.type == "cuda":
        return _measure_cuda(step, seconds)
    peak = _peak_rss_mib(step)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < until and len(times) < 1000):
        started = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - started))
    return times, peak, "cpu"


def _peak_rss_mib(step: Step) -> float:
    """Linux forgets the peak of resident memory when 5 is written to clear_refs."""

    def rss(field: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(field)[1].split()[0])

    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier steps freed would hide what this needs
    Path("/proc/self/clear_refs").write_text("5")
    before = rss("VmRSS:")
    step()
    return (rss("VmHWM:") - before) / 1024


def _measure_cuda(step: Step, seconds: float) -> tuple[list[float], float, str]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    clock, repeats, run = "graph", REPLAYS, _captured(step)
    if run is None:
        clock, repeats, run = "events", 1, step
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < until and len(times) < 200):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / repeats)
    return times, peak, clock


def _captured(step: Step) -> Callable[[], None] | None:
    """A CUDA graph of the step; None if the step stops for the host."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph.replay


def copy_gb_per_second() -> float:
    """Bandwidth of a device copy, bytes read and written."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    times, _, _ = _measure_cuda(lambda: (target.copy_(source), target), 0.5)
    return 2 * source.nbytes / np.median(times) / 1e6


def _bytes_of_kernel(batch: Batch, name: str) -> int:
    """What has to move: logits and labels in, gradients out; backward scales them once more."""
    num_rows, gradients = len(batch.labels), 8 * len(batch.labels)
    moved = batch.logits.nbytes + 8 * num_rows + batch.offsets.nbytes + gradients
    return moved + (gradients + batch.logits.nbytes if name == "kernel" else 0)


def machine(device: torch.device) -> dict[str, str]:
    """Columns that say what the figures were measured on."""
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else cpu_name(),
        "threads": str(torch.get_num_threads()) if device.type == "cpu" else "",
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }


@dataclass
class Row:
    """A line of the CSV file."""

    provider: str
    rows: int
    sessions: str
    dtype: str
    p20_ms: float
    p50_ms: float
    p80_ms: float
    peak_mib: float
    clock: str
    gb_per_second: float | None = None
    share_of_copy: float | None = None


def run(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """Measures and prints, one line per provider and batch."""
    dtype = getattr(torch, arguments.dtype)
    copy = copy_gb_per_second() if device.type == "cuda" else None
    found: list[Row] = []
    for num_rows in [rows for rows in ROWS if rows <= arguments.max_rows]:
        for sessions in SESSIONS:
            batch = make_batch(num_rows, sessions, device, dtype)
            for name, step in make_providers(batch, arguments.compile).items():
                times, peak, clock = measure(step, device, arguments.seconds)
                p20, p50, p80 = np.percentile(times, [20, 50, 80]).round(5)
                row = Row(
                    name, num_rows, sessions, arguments.dtype, p20, p50, p80, round(peak, 1), clock
                )
                if copy and name.startswith("kernel"):
                    row.gb_per_second = round(_bytes_of_kernel(batch, name) / p50 / 1e6, 1)
                    row.share_of_copy = round(row.gb_per_second / copy, 3)
                found.append(row)
                print(
                    f"{num_rows:>10,} {sessions:<9} {name:<15} p50 {p50:9.4f} ms  peak {peak:8.1f} "
                    f"MiB  {f'{row.share_of_copy:.0%} of copy' if row.share_of_copy else ''}",
                    flush=True,
                )
    return found


def plot(rows: list[Row], path: Path, title: str) -> None:
    """Median time per row against batch size, one panel per kind of session."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(SESSIONS), figsize=(16, 4.5), sharey=True)
    for panel, sessions in zip(panels, SESSIONS, strict=True):
        for name in dict.fromkeys(row.provider for row in rows):
            chosen = [row for row in rows if row.provider == name and row.sessions == sessions]
            nanoseconds = [1e6 * row.p50_ms / row.rows for row in chosen]
            panel.plot([row.rows for row in chosen], nanoseconds, marker="o", label=name)
        panel.set(xscale="log", yscale="log", title=f"sessions: {sessions}", xlabel="rows")
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("nanoseconds per row, forward + backward")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Gate, measurements, CSV, plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--max-rows", type=int, default=ROWS[-1])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    check_providers(device, getattr(torch, arguments.dtype), arguments.compile)
    print("gate passed: every provider equals the float64 definition", flush=True)
    rows, where = run(arguments, device), machine(device)
    arguments.output.mkdir(parents=True, exist_ok=True)
    name = where["device"].replace(" ", "-") if device.type == "cuda" else "cpu"
    target = arguments.output / f"losses-{name}.csv"
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), *where])
        writer.writeheader()
        writer.writerows(asdict(row) | where for row in rows)
    plot(rows, target.with_suffix(".png"), f"{where['device']}, torch {where['torch']}")
    print(f"wrote {target} and {target.with_suffix('.png')}")


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    main()
