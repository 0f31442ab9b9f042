"""Evaluate a checkpoint on a session dataset: a table on the screen, and JSON in a file.

    torchrun --nproc_per_node=2 launch/evaluate.py \\
        --checkpoint_path runs/demo/model.ckpt-1000 --eval_input_path data/eval_sorted
"""

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from launch.flags import add_run_flags, names
from launch.process import exit_now, run_on_ranks
from trainer.checkpoints.restore import find_run, restore
from trainer.checks.config import check_config, check_data
from trainer.checks.hashing import check_hashes_of
from trainer.config import ConfigError, check_local, task_towers
from trainer.data.feature_config import used_features
from trainer.data.reader import SessionDataset
from trainer.evaluate import evaluate_dataset, evaluates_averages
from trainer.metrics.requests import parse_requests
from trainer.metrics.table import as_text
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.reporting.report import write_evaluation_report
from trainer.tasks import parse_tasks


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; its flags are TorchEasyRec's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_flags(parser, '{"data_config.eval_batch_size": 8192}')
    parser.add_argument("--eval_input_path", help="session dataset; default: the config's")
    parser.add_argument(
        "--eval_result_filename",
        default="eval_result.json",
        help="where the JSON goes, in the model folder unless the path is absolute; "
        "report.html lies beside it",
    )
    parser.add_argument(
        "--calibration_fields",
        default="",
        help="columns by whose values calibration is shown, separated by commas; "
        "beside those of the config's field_calibration_error",
    )
    return parser.parse_args(argv)


def evaluate_run(args: argparse.Namespace, device: torch.device) -> None:
    """Evaluate with all ranks; rank 0 writes and prints."""
    started = time.monotonic()
    check_local("eval_result_filename", args.eval_result_filename)
    run = find_run(args.pipeline_config_path, args.checkpoint_path, args.edit_config_json)
    config = run.config
    add_calibration_fields(config, names(args.calibration_fields))
    check_config(config)
    path = args.eval_input_path or config.eval_input_path
    if not path:
        raise ConfigError(
            "eval_input_path must be set, by --eval_input_path or in the config, but is missing"
        )
    dataset = SessionDataset.open(path)
    check_data(config, dataset)
    check_hashes_of(run.checkpoint, used_features(config), dataset.types, dataset.path)
    tasks = parse_tasks(config)
    model, averaged = restore(run, tasks, device, averages=evaluates_averages(config))
    with averaged:
        evaluation = evaluate_dataset(config, dataset, model, tasks, device)
    seconds = time.monotonic() - started
    if dist.get_rank():
        return
    result = run.model_dir / Path(args.eval_result_filename)
    page = write_evaluation_report(
        result, config, run.checkpoint, dataset, evaluation, device, seconds
    )
    print(
        f"{run.checkpoint} on {dataset.num_rows:,} rows of {path}, {seconds:,.1f} s\n\n"
        f"{as_text(evaluation.metrics)}\n\nresult: {result}\nreport: {page}",
        flush=True,
    )


def add_calibration_fields(config: EasyRecConfig, fields: list[str]) -> None:
    """Ask for field-RCE of columns in each task of two classes that does not have it yet."""
    holders = task_towers(config) or [config.model_config]
    for holder, task in zip(holders, parse_tasks(config), strict=True):
        for field in fields:
            asked = parse_requests(task.metrics, task.label_kind, task.name)
            if task.is_binary and field not in asked.fields:
                holder.metrics.add().field_calibration_error.field_name = field


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    return run_on_ranks(lambda device: evaluate_run(args, device))


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
