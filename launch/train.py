"""Train and evaluate a pipeline config.

    torchrun --nproc_per_node=2 launch/train.py \\
        --pipeline_config_path examples/synthetic/jrc.config \\
        --train_input_path data/train_sorted --eval_input_path data/eval_sorted \\
        --model_dir runs/demo
"""

import argparse
import logging
import os
import sys
import time
import warnings

import torch
import torch.distributed as dist

from trainer.config import edit_config, load_config
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.trainer import Trainer

SECONDS_FOR_THE_FIRST_RANK = 10


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; its flags are TorchEasyRec's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipeline_config_path", required=True, help="protobuf text config")
    parser.add_argument("--train_input_path", help="dataset folder; overrides the config's")
    parser.add_argument("--eval_input_path", help="dataset folder; overrides the config's")
    parser.add_argument("--model_dir", help="where checkpoints and the report go; overrides")
    parser.add_argument(
        "--continue_train", action="store_true", help="go on from model_dir's newest checkpoint"
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
    return config


def start_process_group() -> torch.device:
    """Join the ranks that torchrun started (or be the only one); returns this rank's device."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return device


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    # TorchRec and the torch underneath it warn of each other at every start.
    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    device = start_process_group()
    trainer = None
    try:
        trainer = Trainer(read_config(args), device, args.continue_train)
        trainer.train_and_evaluate()
    except (ValueError, FloatingPointError, OSError) as error:
        _tell(error, is_setup=trainer is None)
        os._exit(1)  # other ranks may wait in a collective: torchrun ends them when this one goes
    dist.destroy_process_group()
    return 0


def _tell(error: Exception, is_setup: bool) -> None:
    """Print the error of this rank.

    A fault of the set-up is mostly every rank's: the first of a host says it and ends, and torchrun
    ends the others while they wait here. Whoever is still there after that has a fault of its own.
    """
    if is_setup and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(SECONDS_FOR_THE_FIRST_RANK)
    print(f"error on rank {dist.get_rank()}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    status = main()
    # All is written and closed. The interpreter's own end now and then aborts in torch's C++
    # threads (SIGABRT, "terminate called without an active exception") and fails a finished run.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
