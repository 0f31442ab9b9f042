"""Samples per second of the trainer: DBMTL with JRC on Taobao's columns, on 1 and 2 ranks.

    python -m benchmarks.bench_train --output_path benchmarks/results/train-cpu.json
    python -m benchmarks.bench_train --torcheasyrec PATH_OF_A_CHECKOUT
    python -m benchmarks.bench_train --device cuda --ranks 1 --batch_size 8192

The trainer runs as it is (data, loop, step), one thread a rank. With `--torcheasyrec` a checkout's
whole job on the same files is a further case, and so is its training step alone, which spends no
time on reading (benchmarks/torcheasyrec_step.py). All cases of a number of ranks take turns: each
runs a window of steps while the others rest, then the next (benchmarks/turns.py). A window is long
against what a case that was stopped lost of its caches. The first windows are warm-up; figures are
percentiles over the rest, ratios those of windows of the same round. Gates: the loss must fall, and
AUC on users never seen must be above MIN_AUC, and not below that of the case compared with.

    samples_per_second   of all ranks together, over a window of steps
    data_wait_share      of the time: waiting for the next batch (rank 0)
    cpu_per_second       CPU seconds of rank 0's process a second: its step, and its reading ahead
    gpu_busy_share       of the time of ten steps: some kernel or copy runs (CUDA alone)
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import cpu_name
from benchmarks.taobao_data import dbmtl_jrc_config, write_taobao_data
from benchmarks.torcheasyrec_step import JOB_MODEL, compile_messages
from benchmarks.turns import Case, tell, wait_for_turn
from launch.process import exit_now, start_process_group
from trainer.checkpoints.save_schedule import is_multiple
from trainer.config import edit_config, parse_config
from trainer.data.batch import SessionBatch
from trainer.models.linear import openblas_is_faster
from trainer.objective import Outputs
from trainer.reporting.progress import Stopwatch
from trainer.trainer import Trainer

EVAL_ROWS, FIRST_EVAL_USER = 300_000, 500_000
MIN_AUC = 0.6
AUC_NOISE = 0.02  # of seeds: after 133 steps clicks have 0.727 to 0.745
# On a CPU a window of these has few steps, and they are not evaluated.
SLOW, SLOW_STEPS = ("bfloat16", "torcheasyrec_own_loss"), 1
PROFILED_STEPS = 10


class Variant(NamedTuple):
    """Edits of the config; whether what is the same in a session is computed once."""

    edits: dict[str, Any]
    splits_sessions: bool = True


VARIANTS = {
    "float32": Variant({}),
    "float32_unsplit": Variant({}, splits_sessions=False),
    "float32_not_ahead": Variant({"train_config.pipeline_sparse_dist": False}),
    "float32_compiled": Variant({"train_config.compile_dense": True}),
    "bfloat16": Variant({"train_config.mixed_precision": "BF16"}),
}
TORCHEASYREC = {
    "torcheasyrec_our_loss": ["--loss", "ours"],
    "torcheasyrec_own_loss": ["--loss", "own"],
    "torcheasyrec_job": ["--loss", "ours", "--job"],
}
# Pairs of cases that are compared.
COMPARED = [
    ("float32", "torcheasyrec_job"),
    ("float32", "torcheasyrec_our_loss"),
    ("float32", "torcheasyrec_own_loss"),
    ("float32", "float32_unsplit"),
    ("float32", "float32_not_ahead"),
    ("bfloat16", "float32"),
    ("float32_compiled", "float32"),
]


class TimedTrainer(Trainer):
    """A trainer that takes its turns, and tells of each window of steps."""

    def train_in_windows(self, steps: int) -> None:
        """Train; each window of so many steps has a turn, and so has what is left."""
        self.window_steps, self.window = steps, Stopwatch()
        self._start_window()
        self.train()

    def _start_window(self) -> None:
        wait_for_turn()
        self.window.restart()
        self.cpu_before = time.process_time()

    def steps(
        self, batches: Generator[SessionBatch, None, None]
    ) -> Iterator[tuple[SessionBatch, Outputs]]:
        """As those of any trainer; waiting for batches is timed."""
        return super().steps(self.window.timed(batches))

    def _advance(self, batch: SessionBatch, outputs: Outputs) -> None:
        super()._advance(batch, outputs)
        self.window.rows += batch.global_rows
        if is_multiple(self.state.global_step, self.window_steps) and not self._is_at_end():
            self.wait_for_device()
            seconds = self.window.seconds
            tell(
                {
                    "samples_per_second": self.window.rows / seconds,
                    "data_wait_share": self.window.wait_share,
                    "cpu_per_second": (time.process_time() - self.cpu_before) / seconds,
                }
            )
            self._start_window()

    def wait_for_device(self) -> None:
        """Return when all that was asked of a GPU is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def train(options: argparse.Namespace) -> None:
    """One rank of a case: windows in its turns, then a last step and the AUC."""
    device, watch = start_process_group()
    variant = VARIANTS[options.worker]
    config = parse_config(dbmtl_jrc_config())
    edit_config(
        config,
        {
            "train_input_path": str(options.data_path / "train"),
            "eval_input_path": str(options.data_path / "eval"),
            "model_dir": str(options.data_path / f"model-{options.worker}"),
            "data_config.batch_size": options.batch_size,
            "train_config.seed": options.seed,
            "train_config.num_steps": options.windows * options.window_steps + 1,
            "train_config.log_step_count_steps": options.window_steps,
            **variant.edits,
        },
    )
    trainer = TimedTrainer(config, device)
    if not variant.splits_sessions:
        model: Any = trainer.model.module.model
        model.splits_sessions = model.tables.asks_once_a_session = False
    tell("ready")
    trainer.train_in_windows(options.window_steps)
    is_slow = device.type == "cpu" and options.worker in SLOW
    evaluation = None if is_slow else trainer.evaluate()
    auc = evaluation and {task: each["auc"] for task, each in evaluation.metrics.items()}
    busy = busy_share(trainer) if device.type == "cuda" else None
    watch.stop()
    losses = [sum(entry.losses.values()) for entry in trainer.recorder.history]
    tell({"losses": losses, "auc": auc, "gpu_busy_share": busy})
    exit_now(0)


def busy_share(trainer: TimedTrainer) -> float:
    """The share of the time of some steps in which a kernel or a copy runs on the GPU.

    On a CPU: in which an operator runs.
    """
    on_cuda = trainer.device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU
    kind = DeviceType.CUDA if on_cuda else DeviceType.CPU
    batches = trainer.loader.batches(0)
    steps = trainer.steps(batches)
    for _ in range(PROFILED_STEPS):
        next(steps)
    trainer.wait_for_device()
    with profile(activities=[activity]) as trace:
        started = time.perf_counter()
        for _ in range(PROFILED_STEPS):
            next(steps)
        trainer.wait_for_device()
        seconds = time.perf_counter() - started
    batches.close()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in trace.events() or []
        if event.device_type == kind
    )
    return covered(spans) / 1e6 / seconds


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of sorted spans."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


# ------------------------------------------------------------------ cases and results


def start(options: argparse.Namespace, name: str, ranks: int, steps: int) -> Case:
    """The processes of a case, with windows of that many steps."""
    arguments = [
        *("--data_path", str(options.data_path), "--batch_size", str(options.batch_size)),
        *("--window_steps", str(steps), "--windows", str(options.warmup_windows + options.windows)),
        *("--seed", str(options.seed)),
    ]
    module, settings = "benchmarks.bench_train", {}
    if name in TORCHEASYREC:
        module = "benchmarks.torcheasyrec_step"
        settings = {"THP_MEM_ALLOC_ENABLE": "0"}  # as it is; our package would set it
        arguments += ["--checkout", str(options.torcheasyrec), *TORCHEASYREC[name]]
    else:
        arguments += ["--worker", name]
    log = options.data_path / f"{name}.log"
    return Case(module, arguments, ranks, options.device, log, settings)


def measure(options: argparse.Namespace, ranks: int) -> dict[str, Any]:
    """All cases on as many ranks, in turns; what was measured, and the ratios of COMPARED.

    Raises:
        RuntimeError: a case failed, its loss did not fall, or its AUC is too low.
    """
    names = [*options.variants, *(options.against if options.torcheasyrec else ())]
    steps = {
        name: SLOW_STEPS if options.device == "cpu" and name in SLOW else options.window_steps
        for name in names
    }
    shutil.rmtree(options.data_path / JOB_MODEL, ignore_errors=True)
    cases = {name: start(options, name, ranks, steps[name]) for name in names}
    windows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        for case in cases.values():
            case.answer()
        for _ in range(options.warmup_windows + options.windows):
            for name, case in cases.items():
                windows[name].append(case.turn())
        ends = {name: case.turn() for name, case in cases.items()}
    finally:
        for case in cases.values():
            case.kill()
    windows = {name: each[options.warmup_windows :] for name, each in windows.items()}
    found = {
        name: summary(windows[name]) | {"steps": len(windows[name]) * steps[name]} | ends[name]
        for name in names
    }
    compared = ratios(windows, found)
    for name, each in (found | compared).items():
        print(f"{ranks} ranks", name, json.dumps(each), flush=True)
    for name, case in found.items():
        check_case(name, case)
    check_auc(compared)
    return {"cases": found, "ratios": compared}


def summary(windows: list[dict[str, float]]) -> dict[str, Any]:
    """Percentiles of the speed, medians of the rest."""
    speeds = [window["samples_per_second"] for window in windows]
    others = [name for name in windows[0] if name != "samples_per_second"]
    return {
        **{
            f"samples_per_second_p{p}": round(float(np.percentile(speeds, p))) for p in (20, 50, 80)
        },
        **{
            name: round(float(np.median([window[name] for window in windows])), 4)
            for name in others
        },
    }


def check_case(name: str, case: dict[str, Any]) -> None:
    """The gates of one case; a slow one is not evaluated."""
    losses = case.pop("losses", None)
    if losses:
        case |= {"first_loss": losses[0], "last_loss": losses[-1]}
        if not losses[-1] < losses[0]:
            raise RuntimeError(f"gate: {name}: the loss must fall, but: {losses}")
    if case["auc"] and not min(case["auc"].values()) > MIN_AUC:
        raise RuntimeError(f"gate: {name}: AUC must be above {MIN_AUC}, but is {case['auc']}")


def ratios(
    windows: dict[str, list[dict[str, float]]], found: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Of the speeds of two cases in the same round; and the difference of their AUCs."""
    compared = {}
    for one, other in COMPARED:
        if one not in found or other not in found:
            continue
        pairs = zip(windows[one], windows[other], strict=True)
        each = [a["samples_per_second"] / b["samples_per_second"] for a, b in pairs]
        entry: dict[str, Any] = {
            f"p{p}": round(float(np.percentile(each, p)), 3) for p in (20, 50, 80)
        }
        are_evaluated = found[one]["auc"] and found[other]["auc"]
        if are_evaluated and found[one]["steps"] == found[other]["steps"]:
            entry["auc_difference"] = {
                task: round(auc - found[other]["auc"][task], 4)
                for task, auc in found[one]["auc"].items()
            }
        compared[f"{one} / {other}"] = entry
    return compared


def check_auc(compared: dict[str, dict[str, Any]]) -> None:
    """The gate of two cases that trained as many steps."""
    for pair, entry in compared.items():
        if min(entry.get("auc_difference", {"none": 0.0}).values()) < -AUC_NOISE:
            raise RuntimeError(f"gate: AUC of {pair}: the first is below the second: {entry}")


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All cases on each number of ranks; scaling efficiency against the number before."""
    found = {str(ranks): measure(options, ranks) for ranks in options.ranks}
    for (few, at_few), (many, at_many) in pairwise(found.items()):
        for name, case in at_many["cases"].items():
            speed = case["samples_per_second_p50"]
            ratio = speed / at_few["cases"][name]["samples_per_second_p50"]
            case["scaling_efficiency"] = round(ratio * int(few) / int(many), 3)
    return found


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_path", type=Path, help="JSON with the results")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=["float32", "float32_unsplit", "bfloat16"],
    )
    parser.add_argument("--batch_size", type=int, default=4096, help="rows of a rank's batch")
    parser.add_argument("--window_steps", type=int, default=36)
    parser.add_argument("--warmup_windows", type=int, default=2)
    parser.add_argument("--windows", type=int, default=8, help="measured, after the warm-up")
    parser.add_argument("--seed", type=int, default=0, help="of parameters and order")
    parser.add_argument("--data_path", type=Path, help="folder of the made data, kept if given")
    parser.add_argument("--torcheasyrec", type=Path, help="a checkout to run --against")
    parser.add_argument("--against", nargs="+", choices=TORCHEASYREC, default=[*TORCHEASYREC])
    parser.add_argument("--worker", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make the data, measure all variants, write the results."""
    options = parse_args()
    if options.worker:
        train(options)
    with tempfile.TemporaryDirectory() as folder:
        options.data_path = (options.data_path or Path(folder)).resolve()
        steps = (options.warmup_windows + options.windows) * options.window_steps + 1
        steps = max(steps, 2 * PROFILED_STEPS)
        rows = int(1.1 * steps * options.batch_size * max(options.ranks))
        write_taobao_data(options.data_path / "train", rows)
        write_taobao_data(options.data_path / "eval", EVAL_ROWS, 1, FIRST_EVAL_USER)
        if options.torcheasyrec:
            options.torcheasyrec = options.torcheasyrec.resolve()
            compile_messages(options.torcheasyrec)
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
            "openblas": openblas_is_faster(),
            "batch_size": options.batch_size,
            "seed": options.seed,
            "ranks": compare(options),
        }
    print(json.dumps(results, indent=2))
    if options.output_path:
        options.output_path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
