"""What every launcher does around its work: join the ranks, tell of failures, end the process."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from launch.cores import take_own_cores
from trainer.faults.failure import FailureWatch
from trainer.faults.preemption import StopRequest

USER_ERRORS = (ValueError, FloatingPointError, OSError)  # whose message says it all


def run_on_ranks(
    work: Callable[[torch.device], int | None], stop: StopRequest | None = None, stopped: int = 0
) -> int:
    """Do the work as one of torchrun's ranks, or alone; returns the exit status, work's own or 0.

    A failure ends the process, and all other ranks.

    Args:
        stop: how SIGTERM, whenever it comes, ends all ranks with status `stopped`; without it, it
            ends the process at once, as always.
    """
    # TorchRec and the torch underneath it warn of each other at every start.
    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    logging.getLogger().addFilter(_is_no_table_on_each_rank)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    warnings.filterwarnings("ignore", message="Please use DTensor", category=FutureWarning)
    # FBGEMM's kernel of tables that each rank has whole brings its gradient along.
    warnings.filterwarnings("ignore", message="fbgemm::dense_embedding_codegen_lookup_function")
    device, watch = start_process_group(stop, stopped)
    try:
        status = work(device)
        dist.barrier()  # a rank that ends early must not take rank 0's result with it
    except USER_ERRORS as error:
        watch.fail(str(error))
    except Exception as error:  # ours, or a library's: where it was matters too
        watch.fail(f"{type(error).__name__}: {error}", traceback.format_exc())
    watch.stop()
    dist.destroy_process_group()
    return status or 0


def start_process_group(
    stop: StopRequest | None = None, stopped: int = 0
) -> tuple[torch.device, FailureWatch]:
    """Join the ranks that torchrun started, or be the only one; `stop` as in `run_on_ranks`.

    Returns this rank's device and the watch over the others.
    """
    if stop is not None:
        stop.end = lambda message: _say_and_exit(message, stopped)
        stop.listen()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, world_size = dist.HashStore(), 0, 1
    if "RANK" in os.environ:
        store, rank, world_size = next(rendezvous("env://"))
        # torchrun's own store outlives restarts: what the attempt before left there is not ours.
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
            store = dist.PrefixStore(f"attempt-{attempt}", store)
    watch = FailureWatch(store, rank)  # also while ranks wait for each other
    if stop is not None:
        stop.end = lambda message: watch.end_all(message, stopped)
    if device.type == "cpu":
        take_own_cores(store, rank)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    return device, watch


def _is_no_table_on_each_rank(record: logging.LogRecord) -> bool:
    """False for what TorchRec's planner says of every table of which each rank has a copy."""
    return not record.getMessage().startswith("Sharding spec not found")


def _say_and_exit(message: str, status: int) -> None:
    print(message, flush=True)
    os._exit(status)


def exit_now(status: int) -> None:
    """End the process, everything being written and closed.

    The interpreter's own end now and then aborts in torch's C++ threads (SIGABRT, "terminate
    called without an active exception") and fails a finished run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
