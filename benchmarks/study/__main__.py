"""Train every loss on every dataset with several seeds, and write docs/results.md's tables.

    bash examples/trivago/run.sh trivago_actions.parquet      # the data: data/trivago,
    bash examples/movietweetings/run.sh ratings.dat           # data/movietweetings
    bash examples/synthetic/run.sh                            # and data/synthetic
    python -m benchmarks.study run                # adds to benchmarks/results/study.jsonl
    python -m benchmarks.study tables             # writes them into docs/results.md

A run that is recorded already is not run again: stop at any time, and go on by the same command.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.machine import cpu_name
from benchmarks.study.datasets import DATASETS, Dataset, read_rows
from benchmarks.study.losses import LIST_SOFTMAX, SINGLE_TASK, TWO_TASKS
from benchmarks.study.networks import measure, run_network, truth_of
from benchmarks.study.records import RESULTS, Record, append_record, read_records
from benchmarks.study.tables import TRUTH, write_tables
from benchmarks.study.trees import OBJECTIVES, run_trees

ROWS = [*SINGLE_TASK, *LIST_SOFTMAX, *TWO_TASKS, *OBJECTIVES, TRUTH]
RESULTS_PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"
Runs = dict[str, dict[str, float]]


def planned(
    datasets: dict[str, Dataset], seeds: int, data: Path
) -> Iterator[tuple[str, str, int, Callable[[], Runs]]]:
    """All runs (dataset, row of the table, seed, what to call), every row's first seed first."""
    for seed in range(1, seeds + 1):
        for name, dataset in datasets.items():
            for row, loss in dataset.losses.items():
                yield name, row, seed, functools.partial(run_network, dataset, loss, seed, data)
            for row, objective in OBJECTIVES.items():
                yield name, row, seed, functools.partial(run_trees, dataset, objective, seed, data)
            if dataset.truth and seed == 1:
                yield name, TRUTH, seed, functools.partial(measure_truth, dataset, data)


def measure_truth(dataset: Dataset, data: Path) -> Runs:
    """The metrics of the true probabilities: the best that any model can expect."""
    rows = read_rows(data / dataset.folder / "eval_sorted")
    found = {}
    for label in dataset.labels:
        truth = truth_of(dataset, label, rows.table)
        assert truth is not None
        found[label] = measure(truth, rows.table[label].to_numpy(), rows.session, truth)
    return found


def run(
    datasets: dict[str, Dataset],
    seeds: int,
    data: Path,
    results: Path,
    minutes: float,
    rows: Sequence[str] = (),
) -> int:
    """Run what is not recorded yet, for so many minutes; returns how many runs are left.

    Args:
        rows: of the tables, which to run; all if there are none.
    """
    done = {record.key for record in read_records(results)}
    left = [
        each
        for each in planned(datasets, seeds, data)
        if each[:3] not in done and (not rows or each[1] in rows)
    ]
    machine = f"{cpu_name()}, {os.cpu_count()} cores, torch {torch.__version__}"
    ends = time.monotonic() + 60 * minutes
    for number, (name, row, seed, call) in enumerate(left):
        if time.monotonic() > ends:
            return len(left) - number
        started = time.monotonic()
        metrics = call()
        seconds = round(time.monotonic() - started, 1)
        append_record(Record(name, row, seed, metrics, seconds, machine), results)
        print(f"{name} | {row} | seed {seed} | {seconds} s", file=sys.stderr, flush=True)
    return 0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; unknown flags and datasets are errors."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="train what is not recorded yet")
    runs.add_argument("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    runs.add_argument("--rows", nargs="+", choices=ROWS, default=[], help="default: all")
    runs.add_argument("--seeds", type=int, default=5)
    runs.add_argument("--data", type=Path, default=Path("data"))
    runs.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after")
    tables = commands.add_parser("tables", help="write the tables into docs/results.md")
    for command in (runs, tables):
        command.add_argument("--results", type=Path, default=RESULTS)
    tables.add_argument("--page", type=Path, default=RESULTS_PAGE)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Do what the command says; exit status 3 if runs are left for another time."""
    args = parse_args(argv)
    if args.command == "tables":
        write_tables(args.page, read_records(args.results))
        return 0
    chosen = {name: DATASETS[name] for name in args.datasets}
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    left = run(chosen, args.seeds, args.data, args.results, args.minutes, args.rows)
    dist.destroy_process_group()
    if left:
        print(f"{left} runs are left; the same command goes on with them", file=sys.stderr)
    return 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
