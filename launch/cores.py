"""Ranks of one machine that train on its CPUs get cores of their own.

Left alone, the kernel moves ranks between cores, away from what their caches hold, and puts the
helping threads of one onto the core of another, which all ranks then wait for.
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist

CPUS = Path("/sys/devices/system/cpu")  # Linux
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: its share of all CPUs' time


def take_own_cores(store: dist.Store, rank: int, quota: Path = QUOTA) -> None:
    """Bind this thread, and those that it starts, to this rank's share of the machine's cores.

    Not where somebody bound the ranks already, nor where a rank's threads are more than its cores,
    nor in a container with a quota: others compute on these cores, and which, changes.

    Args:
        store: of all ranks.
        rank: this one's number among them.
        quota: the file with the container's quota.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if local_ranks == 1 or not hasattr(os, "sched_setaffinity") or _is_limited(quota):
        return
    cpus = sorted(os.sched_getaffinity(0))
    store.set(f"cpus/{rank}", str(cpus))
    first = rank - local_rank
    of_ranks = {bytes(store.get(f"cpus/{first + other}")) for other in range(local_ranks)}
    share = share_of_cores(cores_of(cpus), local_rank, local_ranks)
    if len(of_ranks) == 1 and len(share) >= torch.get_num_threads():
        os.sched_setaffinity(0, share)


def _is_limited(quota: Path) -> bool:
    return quota.exists() and not quota.read_text().startswith("max")


def cores_of(cpus: list[int], folder: Path = CPUS) -> list[list[int]]:
    """The CPUs by the core that they are threads of, neighbouring cores next to each other."""
    cores: dict[tuple[int, ...], list[int]] = {}
    for cpu in cpus:
        topology = folder / f"cpu{cpu}" / "topology"
        names = ("physical_package_id", "core_id")
        try:
            place = tuple(int((topology / name).read_text()) for name in names)
        except OSError:
            place = (0, cpu)
        cores.setdefault(place, []).append(cpu)
    return [cores[place] for place in sorted(cores)]


def share_of_cores(cores: list[list[int]], local_rank: int, local_ranks: int) -> set[int]:
    """The CPUs of one of the ranks, of whole cores; none if there are fewer cores than ranks."""
    if len(cores) < local_ranks:
        return set()
    bounds = (len(cores) * each // local_ranks for each in (local_rank, local_rank + 1))
    return {cpu for core in cores[slice(*bounds)] for cpu in core}
