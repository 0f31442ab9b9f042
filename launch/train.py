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
import traceback
import warnings

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from trainer.config import edit_config, load_config
from trainer.failure import FailureWatch
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.trainer import Trainer

USER_ERRORS = (ValueError, FloatingPointError, OSError)  # whose message says it all


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; its flags are TorchEasyRec's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipeline_config_path", required=True, help="protobuf text config")
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


def start_process_group() -> tuple[torch.device, FailureWatch]:
    """Join the ranks that torchrun started, or be the only one.

    Returns this rank's device and the watch over the others.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, world_size = dist.HashStore(), 0, 1
    if "RANK" in os.environ:
        store, rank, world_size = next(rendezvous("env://"))
        # torchrun keeps its store over restarts: what the attempt before left there is not ours.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt-{attempt}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    return device, FailureWatch(store, rank)


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status. A failure ends the process, and all other ranks."""
    args = parse_args(argv)
    # TorchRec and the torch underneath it warn of each other at every start.
    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    warnings.filterwarnings("ignore", message="Please use DTensor", category=FutureWarning)
    device, watch = start_process_group()
    try:
        trainer = Trainer(read_config(args), device, args.continue_train, args.on_changed_data)
        trainer.train_and_evaluate()
    except USER_ERRORS as error:
        watch.fail(str(error))
    except Exception as error:  # ours, or a library's: where it was matters too
        watch.fail(f"{type(error).__name__}: {error}", traceback.format_exc())
    watch.stop()
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    status = main()
    # All is written and closed. The interpreter's own end now and then aborts in torch's C++
    # threads (SIGABRT, "terminate called without an active exception") and fails a finished run.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
