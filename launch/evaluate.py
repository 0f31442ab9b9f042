"""Evaluate a checkpoint on a session dataset: a table on the screen, and JSON in a file.

    torchrun --nproc_per_node=2 launch/evaluate.py \\
        --checkpoint_path runs/demo/model.ckpt-1000 --eval_input_path data/eval_sorted
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from launch.process import exit_now, run_on_ranks
from trainer.checkpoints.restore import find_run, restore
from trainer.checks.config import check_config, check_data
from trainer.config import ConfigError
from trainer.data.reader import SessionDataset
from trainer.evaluate import evaluate_dataset, evaluates_averages
from trainer.metrics.table import as_text
from trainer.reporting.report import without_nan, write_file
from trainer.tasks import parse_tasks


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; its flags are TorchEasyRec's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pipeline_config_path", help="default: pipeline.config beside the checkpoint"
    )
    parser.add_argument(
        "--checkpoint_path",
        help="a checkpoint, or a model folder, of which the newest is taken; "
        "default: the config's model_dir",
    )
    parser.add_argument("--eval_input_path", help="session dataset; default: the config's")
    parser.add_argument(
        "--eval_result_filename",
        default="eval_result.json",
        help="where the JSON goes, in the model folder unless the path is absolute",
    )
    parser.add_argument(
        "--edit_config_json", help='overrides, for instance {"data_config.eval_batch_size": 8192}'
    )
    return parser.parse_args(argv)


def evaluate_run(args: argparse.Namespace, device: torch.device) -> None:
    """Evaluate with all ranks; rank 0 writes and prints."""
    started = time.monotonic()
    run = find_run(args.pipeline_config_path, args.checkpoint_path, args.edit_config_json)
    config = run.config
    check_config(config)
    path = args.eval_input_path or config.eval_input_path
    if not path:
        raise ConfigError(
            "eval_input_path must be set, by --eval_input_path or in the config, but is missing"
        )
    dataset = SessionDataset.open(path)
    check_data(config, dataset)
    tasks = parse_tasks(config)
    model, averaged = restore(run, tasks, device, averages=evaluates_averages(config))
    with averaged:
        evaluation = evaluate_dataset(config, dataset, model, tasks, device)
    seconds = time.monotonic() - started
    if dist.get_rank():
        return
    content = {
        "checkpoint": str(run.checkpoint),
        "eval_input_path": path,
        "world_size": dist.get_world_size(),
        "seconds": round(seconds, 3),
        "metrics": evaluation.metrics,
        "reliability": evaluation.reliability,
    }
    result = run.model_dir / Path(args.eval_result_filename)
    write_file(result, json.dumps(without_nan(content), indent=2))
    print(
        f"{run.checkpoint} on {dataset.num_rows:,} rows of {path}, {seconds:,.1f} s\n\n"
        f"{as_text(evaluation.metrics)}\n\nresult: {result}",
        flush=True,
    )


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    return run_on_ranks(lambda device: evaluate_run(args, device))


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
