"""Train and evaluate a pipeline config.

    torchrun --nproc_per_node=2 launch/train.py \\
        --pipeline_config_path examples/synthetic/jrc.config \\
        --train_input_path data/train_sorted --eval_input_path data/eval_sorted \\
        --model_dir runs/demo
"""

import argparse
import os

import torch

from launch.process import exit_now, run_on_ranks
from trainer.checkpoints.lock import ModelDirLock
from trainer.config import edit_config, load_config
from trainer.faults.preemption import StopRequest
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.trainer import Trainer


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; its flags are TorchEasyRec's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipeline_config_path", required=True, help="protobuf text, or .json")
    parser.add_argument(
        "--train_input_path",
        help="dataset folder or URL; several as one: separated by commas, or with wildcards; "
        "overrides the config's",
    )
    parser.add_argument("--eval_input_path", help="likewise")
    parser.add_argument("--model_dir", help="where checkpoints and the report go; overrides")
    parser.add_argument(
        "--continue_train",
        action="store_true",
        help="go on from model_dir's newest checkpoint; a restart by torchrun does so by itself",
    )
    parser.add_argument(
        "--profile", action="store_true", help="write a trace of some steps to model_dir/profile"
    )
    parser.add_argument(
        "--on_changed_data",
        choices=("error", "fresh_epoch"),
        default="error",
        help="if the data is not the checkpoint's: stop, or start an epoch on it",
    )
    parser.add_argument(
        "--edit_config_json", help='overrides, for instance {"train_config.num_epochs": 2}'
    )
    return parser.parse_args(argv)


def read_config(args: argparse.Namespace) -> EasyRecConfig:
    """The config with the command line's overrides."""
    config = load_config(args.pipeline_config_path)
    if args.edit_config_json:
        edit_config(config, args.edit_config_json)
    for name in ("train_input_path", "eval_input_path", "model_dir"):
        if getattr(args, name):
            setattr(config, name, getattr(args, name))
    if args.profile:
        config.train_config.is_profiling = True
    return config


def stopped_status() -> int:
    """The exit status of ranks that SIGTERM stopped: 0 on one machine, EX_TEMPFAIL on several.

    Of several machines the one that SIGTERM came to goes away. With 0 torchrun on the others would
    take the job for done, and end; so it starts their ranks again, which wait for that machine.
    """
    num_machines = int(os.environ.get("GROUP_WORLD_SIZE", "1"))  # torchrun's
    return os.EX_TEMPFAIL if num_machines > 1 else 0


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status. A failure ends the process, and all other ranks."""
    args = parse_args(argv)
    stop = StopRequest("stopped by SIGTERM before training began; nothing was trained")

    def train(device: torch.device) -> int:
        config = read_config(args)
        lock = ModelDirLock(config.model_dir)
        lock.take()  # before anything in it is looked at
        trainer = Trainer(config, device, args.continue_train, args.on_changed_data, stop)
        lock.take(make_folder=True)
        trainer.train_and_evaluate()
        return stopped_status() if trainer.should_stop else 0

    return run_on_ranks(train, stop, stopped_status())


if __name__ == "__main__":
    exit_now(main())
