"""Compare two models on a session dataset: metrics side by side, with intervals of the differences.

torchrun --nproc_per_node=2 launch/compare.py runs/bce runs/jrc --eval_input_path data/eval_sorted
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from launch.process import exit_now, run_on_ranks
from trainer.checkpoints.restore import Run, find_run, restore
from trainer.checks.config import check_config, check_data
from trainer.checks.hashing import check_hashes_of
from trainer.compare import Difference, compare
from trainer.config import ConfigError, check_local
from trainer.data.feature_config import used_features
from trainer.data.reader import SessionDataset
from trainer.evaluate import Scores, collect_scores, evaluates_averages
from trainer.metrics.table import title
from trainer.reporting.report import write_comparison
from trainer.tasks import parse_tasks


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs=2, help="checkpoints, or model folders (the newest)")
    parser.add_argument("--eval_input_path", required=True, help="session dataset")
    parser.add_argument("--replicates", type=int, default=400, help="of the bootstrap")
    parser.add_argument(
        "--result_filename",
        default="compare.json",
        help="where the JSON goes, in the second model's folder unless the path is absolute; the "
        "page lies beside it, with .html behind the same name",
    )
    return parser.parse_args(argv)


def model_scores(run: Run, dataset: SessionDataset, device: torch.device) -> dict[str, Scores]:
    """The scores of a model per binary task, for all rows of a dataset, in stored order."""
    check_config(run.config)
    check_data(run.config, dataset)
    check_hashes_of(run.checkpoint, used_features(run.config), dataset.types, dataset.path)
    tasks = parse_tasks(run.config)
    model, averaged = restore(run, tasks, device, averages=evaluates_averages(run.config))
    with averaged:
        return collect_scores(run.config, dataset, model, tasks, device)


def compare_runs(args: argparse.Namespace, device: torch.device) -> None:
    """Score with all ranks; rank 0 compares, prints and writes."""
    if args.replicates < 2:
        raise ConfigError(f"replicates must be at least 2, but got: {args.replicates}")
    check_local("result_filename", args.result_filename)
    dataset = SessionDataset.open(args.eval_input_path)
    runs = [find_run(None, path) for path in args.models]
    a, b = (model_scores(run, dataset, device) for run in runs)
    labels = {name: scores.label_name for name, scores in a.items()}
    common = [name for name in b if labels.get(name) == b[name].label_name]
    if not common:
        raise ConfigError(
            f"the models must have a task of two classes in common, but {args.models[0]} has: "
            f"{', '.join(a) or 'none'}; and {args.models[1]}: {', '.join(b) or 'none'}"
        )
    if dist.get_rank():
        return
    found = {
        name: compare(
            a[name].prob, b[name].prob, a[name].label, a[name].session, replicates=args.replicates
        )
        for name in common
    }
    print(f"a: {args.models[0]}\nb: {args.models[1]}\n")
    for task, differences in found.items():
        print(as_text(task, differences), flush=True)
    scores = {name: (a[name], b[name]) for name in common}
    result = runs[1].model_dir / Path(args.result_filename)
    page = write_comparison(result, runs, dataset, scores, found, args.replicates, device)
    print(f"result: {result}\nreport: {page}", flush=True)


def as_text(task: str, differences: dict[str, Difference]) -> str:
    """A table: a row per metric; a star where the interval leaves 0 out."""
    lines = [f"{task:<24}{'a':>10}{'b':>10}{'b - a':>10}   95 % interval"]
    for name, each in differences.items():
        lines.append(
            f"{title(name):<24}{each.a:>10.4f}{each.b:>10.4f}{each.value:>+10.4f}   "
            f"{each.low:+.4f} ... {each.high:+.4f}{' *' if each.is_sure else ''}"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    return run_on_ranks(lambda device: compare_runs(args, device))


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
