"""Where the planner lays tables on machines of given numbers, and what it knows of this one."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import PlannerError

from tests.training_here import one_rank
from trainer.topology import RESERVED_MEMORY_SHARE, host_bytes, topology, topology_here

assert one_rank  # a fixture that is imported to be used by name
GIB = 1 << 30
HOST_GIB = 64


def kernel(table_gib: int, kind: str, device_gib: int) -> str:
    """The planner's choice for one table that lies whole on one of 8 ranks of a machine."""
    rows = table_gib * GIB // (16 * 4)
    table = EmbeddingBagConfig(
        name="table", embedding_dim=16, num_embeddings=rows, feature_names=["id"]
    )
    model = nn.Module()
    model.tables = EmbeddingBagCollection([table], device=torch.device("meta"))
    planner = EmbeddingShardingPlanner(
        topology=topology(8, 8, kind, device_gib * GIB, HOST_GIB * GIB),
        constraints={"table": ParameterConstraints(sharding_types=["table_wise"])},
        storage_reservation=FixedPercentageStorageReservation(percentage=RESERVED_MEMORY_SHARE),
    )
    sharders: list[Any] = [EmbeddingBagCollectionSharder()]
    plan: Any = planner.plan(model, sharders).plan["tables"]
    return plan["table"].compute_kernel


@pytest.mark.parametrize(
    ("table_gib", "device_gib", "is_on_device"),
    [(100, 139, True), (20, 32, True), (22, 24, False), (20, 22, False), (100, 32, False)],
)
def test_a_table_lies_on_a_gpu_that_has_room_for_it(table_gib, device_gib, is_on_device):
    """85 % of a GPU are for tables; what does not fit there may lie in the host's memory."""
    try:
        found = kernel(table_gib, "cuda", device_gib)
    except PlannerError:
        found = "none"
    assert (found in ("fused", "dense")) == is_on_device


def test_a_table_fits_a_cpu_by_the_memory_of_its_machine():
    assert kernel(50, "cpu", 0) in ("fused", "dense")
    with pytest.raises(PlannerError):
        kernel(60, "cpu", 0)  # 15 % of 64 GiB are for the rest


def test_the_planner_knows_gpus_and_machines():
    machine = topology(16, 8, "cuda", 139 * GIB, 100 * GIB)
    assert (machine.world_size, machine.local_world_size, machine.compute_device) == (16, 8, "cuda")
    assert {device.storage.hbm for device in machine.devices} == {139 * GIB}
    assert {device.storage.ddr for device in machine.devices} == {85 * GIB}


@pytest.mark.usefixtures("one_rank")
def test_this_machines_memory_is_shared_by_its_ranks(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    (device,) = topology_here(torch.device("cpu")).devices
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert device.storage.hbm == 0
    assert 0 < device.storage.ddr <= 0.85 * physical / 4


@pytest.mark.parametrize(
    ("text", "is_limited"), [("1073741824\n", True), ("max\n", False), (None, False)]
)
def test_a_container_has_the_memory_that_it_was_given(tmp_path: Path, text, is_limited):
    limit = tmp_path / "memory.max"
    if text is not None:
        limit.write_text(text)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert host_bytes(limit) == (GIB if is_limited else physical)
