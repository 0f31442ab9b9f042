"""What the planner of tables knows of the machines: ranks, and the memory that each may fill.

Without it TorchRec takes every GPU for one of 32 GB and every rank for one with 128 GB of host
memory.
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torchrec.distributed.comm import get_local_size
from torchrec.distributed.planner import Topology

RESERVED_MEMORY_SHARE = 0.15  # of each device, for the dense part and batches in flight
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


def topology_here(device: torch.device) -> Topology:
    """That of the ranks of the default process group, the same on all; a collective call."""
    is_cuda = device.type == "cuda"
    device_bytes = torch.cuda.get_device_properties(device).total_memory if is_cuda else 0
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's
    least = torch.tensor([device_bytes, host_bytes() // local_ranks])
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return topology(dist.get_world_size(), get_local_size(), device.type, *least.tolist())


def topology(
    world_size: int, local_world_size: int, kind: str, device_bytes: int, host_bytes_of_rank: int
) -> Topology:
    """The machines, from numbers alone.

    TorchRec keeps the reserved share of GPUs free by itself (FixedPercentageStorageReservation),
    and nothing of host memory: so the host's is taken off here.

    Args:
        kind: of device, "cpu" or "cuda".
        device_bytes: of a GPU; 0 on a CPU.
        host_bytes_of_rank: a rank's part of its machine's memory.
    """
    return Topology(
        world_size=world_size,
        local_world_size=local_world_size,
        compute_device=kind,
        hbm_cap=device_bytes,
        ddr_cap=int((1 - RESERVED_MEMORY_SHARE) * host_bytes_of_rank),
    )


def host_bytes(cgroup_limit: Path = CGROUP_LIMIT) -> int:
    """The memory of this machine, or of the container where that has less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = cgroup_limit.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical  # "max": there is none
