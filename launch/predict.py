"""Score the rows of Parquet files with a checkpoint; rows keep their order.

    torchrun --nproc_per_node=2 launch/predict.py \\
        --checkpoint_path runs/demo/model.ckpt-1000 --predict_input_path data/eval_sorted \\
        --predict_output_path data/scores --reserved_columns session_id,item_id

The same command goes on after an interruption, on any number of ranks.
"""

import argparse
import sys
import time

import torch
import torch.distributed as dist

from launch.flags import add_run_flags, names
from launch.process import exit_now, run_on_ranks
from trainer.checkpoints.restore import find_run
from trainer.checks.config import check_config
from trainer.config import ConfigError
from trainer.prediction.input import PredictInput
from trainer.prediction.output import PredictOutput
from trainer.prediction.predict import Predictor


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; its flags are TorchEasyRec's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_flags(parser, '{"data_config.fg_mode": "FG_NONE"}')
    parser.add_argument(
        "--predict_input_path",
        required=True,
        help="session dataset, folder of Parquet files, or one file; several: separated by commas",
    )
    parser.add_argument(
        "--predict_output_path", required=True, help="a folder that is not there yet"
    )
    parser.add_argument(
        "--reserved_columns",
        default="",
        help="input columns to keep, separated by commas; ALL_COLUMNS keeps all",
    )
    parser.add_argument(
        "--output_columns",
        default="",
        help="scores to write, separated by commas: logits, probs, probs1 or y, of a multi-task "
        "model with _TASK behind; default: all",
    )
    parser.add_argument("--batch_size", type=int, default=0, help="default: the config's")
    return parser.parse_args(argv)


def predict_run(args: argparse.Namespace, device: torch.device) -> None:
    """Score with all ranks; rank 0 starts and publishes the output."""
    started = time.monotonic()
    if args.batch_size < 0:
        raise ConfigError(f"batch_size must be positive, but got: {args.batch_size}")
    run = find_run(args.pipeline_config_path, args.checkpoint_path, args.edit_config_json)
    check_config(run.config)
    source = PredictInput.open(args.predict_input_path)
    predictor = Predictor(
        run,
        source,
        reserved=names(args.reserved_columns),
        chosen=names(args.output_columns),
        batch_size=args.batch_size,
        device=device,
    )
    output = PredictOutput(args.predict_output_path, predictor.job())
    is_first = dist.get_rank() == 0
    if output.is_complete():
        if is_first:
            print(f"{output.path} is complete already", flush=True)
        return
    dist.barrier()  # all have looked for the output before it can appear
    if is_first:
        output.start()
    dist.barrier()
    rows = predictor.predict(output)
    dist.barrier()
    if is_first:
        output.publish()
        seconds = time.monotonic() - started
        print(
            f"{run.checkpoint} scored {rows:,} of {source.num_rows:,} rows in {seconds:,.1f} s"
            f"{'' if rows == source.num_rows else ' (the others were there)'}: {output.path}",
            flush=True,
        )


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    return run_on_ranks(lambda device: predict_run(args, device))


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
