"""Sharded embedding tables and data-parallel dense parameters, with their optimizers (TorchRec)."""

import json
import logging
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.mc_embedding import ManagedCollisionEmbeddingCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import (
    FixedPercentageStorageReservation,
)
from torchrec.distributed.planner.types import PlannerError
from torchrec.optim.optimizers import SGD

from trainer.compilation import compile_network
from trainer.config import ConfigError
from trainer.data.features import IdFeature
from trainer.models import build_model
from trainer.models.embeddings import TableConfig
from trainer.models.lookups import Lookup
from trainer.objective import Objective
from trainer.optim.optimizers import set_accumulators, sparse_optimizer
from trainer.optim.precision import mixed_dtype
from trainer.optim.replicated import can_replicate
from trainer.optim.train_optimizer import TrainOptimizer
from trainer.protos import pipeline_pb2 as pb
from trainer.reduction import FixedDataParallel, fix_buckets
from trainer.tasks import Task
from trainer.topology import RESERVED_MEMORY_SHARE, topology_here
from trainer.zero_collision import connect_id_maps, managed_plans

INIT_CHUNK_ROWS = 1 << 14
TABLES_PREFIX = "model.tables."  # of the names of tables in an objective
# Without a choice in the config. On a CPU the planner has no row_wise for tables that are pooled.
SHARDING_TYPES = ["table_wise", "row_wise"]
# A table of so few rows is on each rank: to move all its gradients costs less than to send a vector
# for each row of a batch. The number of ranks plays no part, so checkpoints find the same types.
SMALL_TABLE_ROWS = 2048


def build_parallel(
    config: pb.EasyRecConfig, tasks: list[Task], device: torch.device, is_trained: bool = True
) -> tuple[DistributedModelParallel, TrainOptimizer]:
    """The sharded model over all ranks and the optimizer of its dense and sparse parameters.

    Without training no rank needs copies of tables: `data_parallel` ones lie as others do then.
    Parameters start from `train_config.seed` alone: every world size starts from the same values.
    """
    seed = config.train_config.seed
    torch.manual_seed(mixed_seed(seed))
    click_model = build_model(config, tasks)
    click_model.groups.to(device)
    click_model.net.to(device)
    compile_network(click_model.net, config)
    objective = Objective(click_model, tasks, config.model_config, mixed_dtype(config.train_config))
    if objective.pareto is not None:
        objective.pareto.to(device)
    tables = click_model.tables
    configs, frozen = tables.table_configs(), tables.frozen()
    if configs:
        kind, arguments = sparse_optimizer(config.train_config.sparse_optimizer, device)
        named = dict(tables.named_parameters())
        moved = [each for name, each in named.items() if name not in frozen]
        apply_optimizer_in_backward(kind, moved, arguments)
        kept = [named[name] for name in sorted(frozen)]
        apply_optimizer_in_backward(SGD, kept, {"lr": 0.0})  # TorchRec wants an optimizer
    sharders: list[Any] = [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()]
    plan = _sharding_plan(config, objective, tables.lookups, sharders, device, is_trained)
    managed_sharder: Any = ManagedCollisionEmbeddingCollectionSharder()
    for name, sharding in managed_plans(objective, managed_sharder, device).items():
        plan.plan.pop(f"{name}._embedding_module", None)  # the planner saw the tables within
        plan.plan[name] = sharding
    model = DistributedModelParallel(
        objective,
        device=device,
        plan=plan,
        sharders=[*sharders, managed_sharder],
        data_parallel_wrapper=FixedDataParallel(),
    )
    fix_buckets(model)
    _init_tables(model, configs, seed)
    if configs:
        set_accumulators(model.fused_optimizer, config.train_config.sparse_optimizer)
        connect_id_maps(model, config.train_config.sparse_optimizer)
    kept_names = {f"{TABLES_PREFIX}{name}" for name in frozen}
    return model, TrainOptimizer(config.train_config, model, device, kept_names)


def _sharding_plan(
    config: pb.EasyRecConfig,
    objective: nn.Module,
    lookups: list[Lookup],
    sharders: list[Any],
    device: torch.device,
    is_trained: bool,
) -> Any:
    """TorchRec's planner, with the config's constraints; the same plan on every rank."""
    logging.getLogger("torchrec").setLevel(logging.ERROR)  # the planner reports at length
    constraints = {}
    common = config.train_config.global_embedding_constraints
    own = {
        lookup.table: lookup.feature.constraints  # of any feature that shares the table
        for lookup in lookups
        if isinstance(lookup.feature, IdFeature) and lookup.feature.constraints is not None
    }
    of_sequences = {lookup.table for lookup in lookups if lookup.part == "sequences"}
    replicates = is_trained and can_replicate(config.train_config.sparse_optimizer)
    for lookup in lookups:
        if isinstance(lookup.feature, IdFeature):
            chosen = own.get(lookup.table, common)
            if lookup.zch is not None:  # see managed_plans
                chosen = pb.ParameterConstraints()
            types = list(chosen.sharding_types) or SHARDING_TYPES
            is_small = lookup.feature.num_embeddings <= SMALL_TABLE_ROWS and lookup.zch is None
            is_free = not (chosen.sharding_types or chosen.compute_kernels)
            if replicates and is_small and is_free and lookup.table not in of_sequences:
                types = ["data_parallel"]
            if not is_trained:
                types = _without_copies(types) or SHARDING_TYPES
            elif device.type == "cpu" and lookup.table in of_sequences:
                types = _types_of_sequence(types, lookup.table)
            constraints[lookup.table] = ParameterConstraints(
                sharding_types=types, compute_kernels=list(chosen.compute_kernels) or None
            )
    planner = EmbeddingShardingPlanner(
        topology=topology_here(device),
        constraints=constraints,
        storage_reservation=FixedPercentageStorageReservation(percentage=RESERVED_MEMORY_SHARE),
    )
    group = dist.group.WORLD
    assert group is not None
    try:
        return planner.collective_plan(objective, sharders, group)
    except (RuntimeError, PlannerError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"embedding constraints: no sharding plan fits: {reason}") from error


def _types_of_sequence(types: list[str], table: str) -> list[str]:
    """What is left on a CPU, where FBGEMM's dense kernel pools. Raises ConfigError for nothing."""
    left = _without_copies(types)
    if not left:
        raise ConfigError(
            f"embedding constraints: table `{table}` of a sequence cannot be data_parallel on a "
            f"CPU, where FBGEMM lacks the kernel; give its feature "
            f'`embedding_constraints {{ sharding_types: "table_wise" }}`'
        )
    return left


def _without_copies(types: list[str]) -> list[str]:
    return [each for each in types if each != "data_parallel"]


def describe_sharding(model: DistributedModelParallel) -> str:
    """How the tables lie on the ranks, as JSON.

    By collection (`pooled`, `sequences.WIDTH`, ...) and table: sharding type, kernel and ranks.
    """
    of_modules: Any = model.plan.plan
    fields = ("sharding_type", "compute_kernel", "ranks")
    found = {
        path.removeprefix(TABLES_PREFIX): {
            table: {field: getattr(sharding, field) for field in fields}
            for table, sharding in sorted(of_module.items())
        }
        for path, of_module in of_modules.items()
    }
    return json.dumps(found, indent=2)


def _init_tables(model: nn.Module, configs: dict[str, TableConfig], seed: int) -> None:
    """Fill each rank's shards with values that depend on (seed, table, row) alone."""
    numbers = {name: number for number, name in enumerate(configs)}
    for key, value in model.state_dict().items():
        name = key.removeprefix(TABLES_PREFIX)
        if name not in configs:
            continue
        config, number = configs[name], numbers[name]
        if isinstance(value, ShardedTensor):
            for shard in value.local_shards():
                _init_shard(shard.tensor, shard.metadata.shard_offsets, config, seed, number)
        else:
            _init_shard(value, [0, 0], config, seed, number)


def _init_shard(
    shard: Tensor, offsets: list[int], config: TableConfig, seed: int, table: int
) -> None:
    assert config.init_fn is not None  # TorchRec's default is uniform
    first_row, first_column = offsets
    rows, columns = shard.shape
    for chunk in range(first_row // INIT_CHUNK_ROWS, -(-(first_row + rows) // INIT_CHUNK_ROWS)):
        values = torch.empty(INIT_CHUNK_ROWS, config.embedding_dim)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(mixed_seed(seed, table, chunk))
            config.init_fn(values)
        start = chunk * INIT_CHUNK_ROWS - first_row  # of the chunk, in the shard
        keep = slice(max(-start, 0), min(INIT_CHUNK_ROWS, rows - start))
        part = values[keep, first_column : first_column + columns]
        with torch.no_grad():
            shard[max(start, 0) : max(start, 0) + len(part)].copy_(part)


def mixed_seed(*parts: int) -> int:
    """A 63-bit seed that differs wherever one of the (non-negative) parts does."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
