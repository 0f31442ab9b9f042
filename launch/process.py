"""What every launcher does around its work: join the ranks, tell of failures, end the process."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist

from launch.train import USER_ERRORS, start_process_group


def run_on_ranks(work: Callable[[torch.device], None]) -> int:
    """Do the work as one of torchrun's ranks, or alone; returns the exit status.

    A failure ends the process, and all other ranks.
    """
    # TorchRec and the torch underneath it warn of each other at every start.
    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    warnings.filterwarnings("ignore", message="Please use DTensor", category=FutureWarning)
    device, watch = start_process_group()
    try:
        work(device)
        dist.barrier()  # a rank that ends early must not take rank 0's result with it
    except USER_ERRORS as error:
        watch.fail(str(error))
    except Exception as error:  # ours, or a library's: where it was matters too
        watch.fail(f"{type(error).__name__}: {error}", traceback.format_exc())
    watch.stop()
    dist.destroy_process_group()
    return 0


def exit_now(status: int) -> None:
    """End the process, everything being written and closed.

    The interpreter's own end now and then aborts in torch's C++ threads (SIGABRT, "terminate
    called without an active exception") and fails a finished run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
