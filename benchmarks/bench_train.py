"""Samples per second of the trainer: DBMTL with JRC on Taobao's columns, on 1 and 2 ranks.

    python -m benchmarks.bench_train --output_path benchmarks/results/train-cpu.json
    python -m benchmarks.bench_train --device cuda --ranks 1 --batch_size 8192

The trainer runs as it is (data, loop, step) under torchrun, one thread a rank. The first windows of
steps are warm-up; figures are percentiles over the rest. Gate: in each run the loss must fall, and
afterwards AUC on users it never saw must be above that of guessing. A variant is an edit of the
config. With `--torcheasyrec PATH` a checkout's own training step is measured in the same run
(benchmarks/torcheasyrec_step.py; it spends no time on reading, our figures do).

    samples_per_second   of all ranks together, over a window of steps
    data_wait_share      of the time: waiting for the next batch (rank 0)
    cpu_per_second       CPU seconds of rank 0's process a second: its step, and its reading ahead
    gpu_busy_share       of the time of ten steps: some kernel runs (CUDA alone)
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import cpu_name
from benchmarks.taobao_data import dbmtl_jrc_config, write_taobao_data
from benchmarks.torcheasyrec_step import compile_messages
from launch.process import start_process_group
from trainer.config import edit_config, parse_config
from trainer.data.batch import SessionBatch
from trainer.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
EVAL_ROWS, FIRST_EVAL_USER = 300_000, 500_000
MIN_AUC = 0.52
PROFILED_STEPS = 10
# Edits of the config, by the name of the variant.
VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32_compiled": {"train_config.compile_dense": True},
    "bfloat16": {"train_config.mixed_precision": "BF16"},
}


class TimedTrainer(Trainer):
    """A trainer that notes each window of steps: its time, rows, waiting and CPU seconds."""

    def time_windows(self, steps: int) -> None:
        """Note windows of as many steps from now on."""
        self.window_steps, self.windows = steps, []
        read = self.loader.batches
        self.loader.batches = lambda *place: self._timed(read(*place))  # pyright: ignore[reportAttributeAccessIssue]  # this object's alone

    def _timed(self, batches: Iterable[SessionBatch]) -> Generator[SessionBatch, None, None]:
        rows, waited, number = 0, 0.0, 0
        since, since_cpu = time.perf_counter(), time.process_time()
        before = since
        for number, batch in enumerate(batches, start=1):
            waited += time.perf_counter() - before
            rows += batch.global_rows
            yield batch
            if number % self.window_steps == 0:
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                now, cpu = time.perf_counter(), time.process_time()
                self.windows.append(
                    {
                        "samples_per_second": rows / (now - since),
                        "data_wait_share": waited / (now - since),
                        "cpu_per_second": (cpu - since_cpu) / (now - since),
                    }
                )
                rows, waited, since, since_cpu = 0, 0.0, now, cpu
            before = time.perf_counter()


def train(options: argparse.Namespace) -> None:
    """One rank of a run; rank 0 prints what was measured as the last line."""
    device, watch = start_process_group()
    config = parse_config(dbmtl_jrc_config())
    edit_config(
        config,
        {
            "train_input_path": str(options.data_path / "train"),
            "eval_input_path": str(options.data_path / "eval"),
            "model_dir": str(options.data_path / "model"),
            "data_config.batch_size": options.batch_size,
            "train_config.num_steps": options.windows * options.window_steps + 1,
            "train_config.log_step_count_steps": options.window_steps,
            **json.loads(options.edits),
        },
    )
    trainer = TimedTrainer(config, device)
    trainer.time_windows(options.window_steps)
    trainer.train()
    evaluation = trainer.evaluate()
    assert evaluation is not None
    busy = gpu_busy_share(trainer) if device.type == "cuda" else None
    watch.stop()
    if trainer.rank == 0:
        losses = [sum(entry.losses.values()) for entry in trainer.recorder.history]
        auc = {task: metrics["auc"] for task, metrics in evaluation.metrics.items()}
        print(json.dumps({"windows": trainer.windows, "losses": losses, "auc": auc, "busy": busy}))
    sys.stdout.flush()
    os._exit(0)  # as launch/train.py does, and for its reason


def gpu_busy_share(trainer: Trainer) -> float:
    """The share of the time of some steps in which a kernel or a copy runs on the GPU."""
    from torch.profiler import ProfilerActivity, profile

    batches = trainer.loader.batches(0)
    for _ in range(PROFILED_STEPS):
        trainer.train_step(next(batches))
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        started = time.perf_counter()
        for _ in range(PROFILED_STEPS):
            trainer.train_step(next(batches))
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    batches.close()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in trace.events() or []
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    return covered(spans) / 1e6 / seconds


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of sorted spans."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


# ------------------------------------------------------------------ runs and results


def torchrun(device: str, ranks: int, module: str, *arguments: str) -> Any:
    """Run a module of ours in some processes; returns its last line, which is JSON."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={ranks}", "--no_python", sys.executable, "-m", module]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def percentiles(speeds: list[float]) -> dict[str, int]:
    """Of samples per second."""
    return {
        f"samples_per_second_p{p}": round(float(np.percentile(speeds, p))) for p in (20, 50, 80)
    }


def run(options: argparse.Namespace, ranks: int, edits: dict[str, Any]) -> dict[str, Any]:
    """Train on some ranks in processes of their own; percentiles over windows after warm-up.

    Raises:
        RuntimeError: the run failed, its loss did not fall, or its AUC is that of guessing.
    """
    found = torchrun(
        options.device,
        ranks,
        "benchmarks.bench_train",
        *("--worker", "--data_path", str(options.data_path)),
        *("--edits", json.dumps(edits), "--batch_size", str(options.batch_size)),
        *("--window_steps", str(options.window_steps)),
        *("--windows", str(options.warmup_windows + options.windows)),
    )
    losses, auc = found["losses"], found["auc"]
    if not losses[-1] < losses[0]:
        raise RuntimeError(f"gate: the loss must fall, but went from {losses[0]} to {losses[-1]}")
    if not min(auc.values()) > MIN_AUC:
        raise RuntimeError(f"gate: AUC must be above {MIN_AUC}, but is {auc}")
    windows = found["windows"][options.warmup_windows :]
    speeds = [window["samples_per_second"] for window in windows]
    return {
        **{
            f"samples_per_second_p{p}": round(float(np.percentile(speeds, p))) for p in (20, 50, 80)
        },
        **{
            name: round(float(np.median([window[name] for window in windows])), 4)
            for name in ("data_wait_share", "cpu_per_second")
        },
        "gpu_busy_share": found["busy"],
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "auc": auc,
    }


def compare(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every variant on every number of ranks; scaling efficiency against the first number."""
    found: dict[str, dict[str, Any]] = {}
    for name in options.variants:
        runs = {}
        for ranks in options.ranks:
            runs[str(ranks)] = run(options, ranks, VARIANTS[name])
            print(name, f"{ranks} ranks", json.dumps(runs[str(ranks)]), flush=True)
        for (few, at_few), (many, at_many) in pairwise(runs.items()):
            ratio = at_many["samples_per_second_p50"] / at_few["samples_per_second_p50"]
            at_many["scaling_efficiency"] = round(ratio / (int(many) / int(few)), 3)
        found[name] = runs
    return found


def measure_torcheasyrec(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Its step with its own loss (few steps: each may take seconds) and with ours in its place."""
    compile_messages(options.torcheasyrec)
    found: dict[str, dict[str, Any]] = {}
    for loss, steps in (("own", 5), ("ours", 60)):
        found[f"{loss}_loss"] = {}
        for ranks in options.ranks:
            speeds = torchrun(
                options.device,
                ranks,
                "benchmarks.torcheasyrec_step",
                *("--checkout", str(options.torcheasyrec), "--data_path", str(options.data_path)),
                *("--loss", loss, "--steps", str(steps), "--batch_size", str(options.batch_size)),
            )
            found[f"{loss}_loss"][str(ranks)] = percentiles(speeds)
            print("torcheasyrec", loss, f"{ranks} ranks", percentiles(speeds), flush=True)
    return found


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_path", type=Path, help="JSON with the results")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--batch_size", type=int, default=4096, help="rows of a rank's batch")
    parser.add_argument("--window_steps", type=int, default=20)
    parser.add_argument("--warmup_windows", type=int, default=2)
    parser.add_argument("--windows", type=int, default=8, help="measured, after the warm-up")
    parser.add_argument("--data_path", type=Path, help="folder of the made data, kept if given")
    parser.add_argument("--torcheasyrec", type=Path, help="a checkout, to compare with")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--edits", default="{}", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make the data, measure all variants, write the results."""
    options = parse_args()
    if options.worker:
        train(options)
    with tempfile.TemporaryDirectory() as folder:
        options.data_path = (options.data_path or Path(folder)).resolve()
        steps = (options.warmup_windows + options.windows) * options.window_steps
        rows = int(1.1 * steps * options.batch_size * max(options.ranks))
        write_taobao_data(options.data_path / "train", rows)
        write_taobao_data(options.data_path / "eval", EVAL_ROWS, 1, FIRST_EVAL_USER)
        results = {
            # A folder by its name alone: where it lies is no part of the result.
            "command": " ".join(
                ["python -m benchmarks.bench_train", *(Path(each).name for each in sys.argv[1:])]
            ),
            "date": date.today().isoformat(),
            "machine": f"{os.cpu_count()} cores, {cpu_name()}, "
            f"{torch.backends.cpu.get_cpu_capability()}",
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "batch_size": options.batch_size,
            "steps": options.windows * options.window_steps,
            "variants": compare(options),
        }
        if options.torcheasyrec:
            options.torcheasyrec = options.torcheasyrec.resolve()
            results["torcheasyrec"] = measure_torcheasyrec(options)
    print(json.dumps(results, indent=2))
    if options.output_path:
        options.output_path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
