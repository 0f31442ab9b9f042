"""Ranks that train on one machine's CPUs get cores of their own, unless they were bound before."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from launch.cores import cores_of, share_of_cores, take_own_cores

# The CPUs of two sockets with two cores of two threads, as Linux often numbers them.
THREADS = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (1, 1), 4: (0, 0), 5: (0, 1), 6: (1, 0), 7: (1, 1)}
HERE = cores_of(sorted(os.sched_getaffinity(0)))
NEEDS_TWO = pytest.mark.skipif(len(HERE) < 2, reason="two ranks cannot share one core")


def write_topology(folder: Path) -> None:
    for cpu, (package, core) in THREADS.items():
        of_cpu = folder / f"cpu{cpu}" / "topology"
        of_cpu.mkdir(parents=True)
        (of_cpu / "physical_package_id").write_text(f"{package}\n")
        (of_cpu / "core_id").write_text(f"{core}\n")


def test_threads_of_a_core_stay_together_and_neighbours_on_a_socket(tmp_path):
    write_topology(tmp_path)
    cores = cores_of([*THREADS], tmp_path)
    assert cores == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert [share_of_cores(cores, rank, 2) for rank in range(2)] == [{0, 4, 1, 5}, {2, 6, 3, 7}]
    assert cores_of([5, 6], tmp_path) == [[5], [6]]


def test_without_a_topology_each_cpu_is_a_core(tmp_path):
    assert cores_of([3, 1], tmp_path) == [[1], [3]]


@pytest.mark.parametrize("num_cores", range(1, 14))
@pytest.mark.parametrize("ranks", range(1, 7))
def test_shares_have_no_core_in_common_and_leave_none(num_cores, ranks):
    cores = [[core, core + 100] for core in range(num_cores)]
    shares = [share_of_cores(cores, rank, ranks) for rank in range(ranks)]
    if num_cores < ranks:
        assert shares == [set()] * ranks
        return
    assert sorted(cpu for share in shares for cpu in share) == sorted(
        cpu for core in cores for cpu in core
    )
    sizes = [len(share) for share in shares]
    assert min(sizes) >= 2 and max(sizes) - min(sizes) <= 2


def bind(rank: int, folder: str, threads: int, bound: list[set[int]] | None) -> None:
    """One of two ranks; keeps what CPUs it has afterwards."""
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    torch.set_num_threads(threads)
    if bound:
        os.sched_setaffinity(0, bound[rank])
    store = dist.FileStore(f"{folder}/store", 2)
    take_own_cores(store, rank, Path(folder, "cpu.max"))
    Path(folder, f"cpus.{rank}").write_text(" ".join(map(str, os.sched_getaffinity(0))))


def bound_ranks(folder: Path, threads: int, bound: list[set[int]] | None = None) -> list[set[int]]:
    mp.start_processes(bind, args=(str(folder), threads, bound), nprocs=2, start_method="spawn")  # pyright: ignore[reportPrivateImportUsage]
    found = [Path(folder, f"cpus.{rank}").read_text().split() for rank in range(2)]
    return [{int(cpu) for cpu in cpus} for cpus in found]


@NEEDS_TWO
def test_two_ranks_share_no_core(tmp_path):
    here = os.sched_getaffinity(0)
    one, other = bound_ranks(tmp_path, threads=1)
    assert one and other and not one & other
    assert one | other == here


@NEEDS_TWO
@pytest.mark.parametrize(
    ("quota", "are_bound"), [("max 100000\n", True), ("150000 100000\n", False)]
)
def test_ranks_in_a_container_with_a_quota_are_left_alone(tmp_path, quota, are_bound):
    (tmp_path / "cpu.max").write_text(quota)
    here = os.sched_getaffinity(0)
    assert (bound_ranks(tmp_path, threads=1) == [here, here]) == (not are_bound)


@NEEDS_TWO
def test_ranks_with_more_threads_than_cores_are_left_alone(tmp_path):
    here = os.sched_getaffinity(0)
    assert bound_ranks(tmp_path, threads=len(here) + 1) == [here, here]


@NEEDS_TWO
def test_ranks_that_somebody_bound_stay_so(tmp_path):
    first, second, *_ = sorted(os.sched_getaffinity(0))
    bound = [{first, second}, {second}]
    assert bound_ranks(tmp_path, threads=1, bound=bound) == bound


def test_a_single_rank_keeps_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    here = os.sched_getaffinity(0)
    take_own_cores(dist.FileStore(str(tmp_path / "store"), 1), 0)
    assert os.sched_getaffinity(0) == here
