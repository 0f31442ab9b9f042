"""Sharded embedding tables and data-parallel dense parameters, with their optimizers (TorchRec)."""

import logging
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import (
    FixedPercentageStorageReservation,
)
from torchrec.distributed.planner.types import PlannerError

from trainer.config import ConfigError
from trainer.features import IdFeature, used_features
from trainer.models import build_model
from trainer.objective import Objective
from trainer.optimizers import set_accumulators, sparse_optimizer
from trainer.precision import mixed_dtype
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task
from trainer.train_optimizer import TrainOptimizer

INIT_CHUNK_ROWS = 1 << 14
RESERVED_MEMORY_SHARE = 0.15  # of each device, for the dense part and batches in flight
# Without a choice in the config. Not data_parallel, which checks.py refuses: TorchRec leaves such
# tables to the dense optimizer, against the config. On gloo the planner offers no row_wise.
SHARDING_TYPES = ["table_wise", "row_wise"]


def build_parallel(
    config: pb.EasyRecConfig, tasks: list[Task], device: torch.device
) -> tuple[DistributedModelParallel, TrainOptimizer]:
    """The sharded model over all ranks and the optimizer of its dense and sparse parameters.

    Parameters start from `train_config.seed` alone: every world size starts from the same values.
    """
    seed = config.train_config.seed
    torch.manual_seed(mixed_seed(seed))
    click_model = build_model(config, tasks)
    click_model.net.to(device)
    objective = Objective(click_model, tasks, config.model_config, mixed_dtype(config.train_config))
    if objective.pareto is not None:
        objective.pareto.to(device)
    tables = click_model.inputs.embeddings
    if tables is not None:
        kind, arguments = sparse_optimizer(config.train_config.sparse_optimizer, device)
        apply_optimizer_in_backward(kind, tables.parameters(), arguments)
    sharders: list[Any] = [EmbeddingBagCollectionSharder()]
    model = DistributedModelParallel(
        objective,
        device=device,
        plan=_sharding_plan(config, objective, sharders),
        sharders=sharders,
    )
    if tables is not None:
        _init_tables(model, tables, seed)
        set_accumulators(model.fused_optimizer, config.train_config.sparse_optimizer)
    return model, TrainOptimizer(config.train_config, model, device)


def _sharding_plan(config: pb.EasyRecConfig, objective: nn.Module, sharders: list[Any]) -> Any:
    """TorchRec's planner, with the config's constraints; the same plan on every rank."""
    logging.getLogger("torchrec").setLevel(logging.ERROR)  # the planner reports at length
    constraints = {}
    common = config.train_config.global_embedding_constraints
    for feature in used_features(config):
        if isinstance(feature, IdFeature):
            chosen = feature.constraints or common
            constraints[feature.table] = ParameterConstraints(
                sharding_types=list(chosen.sharding_types) or SHARDING_TYPES,
                compute_kernels=list(chosen.compute_kernels) or None,
            )
    planner = EmbeddingShardingPlanner(
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


def _init_tables(model: nn.Module, tables: EmbeddingBagCollection, seed: int) -> None:
    """Fill each rank's shards with uniform values that depend on (seed, table, row) alone."""
    configs = {table.name: table for table in tables.embedding_bag_configs()}
    for key, value in model.state_dict().items():
        if ".embedding_bags." not in key:
            continue
        name = key.removesuffix(".weight").rsplit(".", 1)[-1]
        number = list(configs).index(name)
        if isinstance(value, ShardedTensor):
            for shard in value.local_shards():
                _init_shard(shard.tensor, shard.metadata.shard_offsets, configs[name], seed, number)
        else:
            _init_shard(value, [0, 0], configs[name], seed, number)


def _init_shard(
    shard: Tensor, offsets: list[int], config: EmbeddingBagConfig, seed: int, table: int
) -> None:
    low, high = config.get_weight_init_min(), config.get_weight_init_max()
    first_row, first_column = offsets
    rows, columns = shard.shape
    generator = torch.Generator()
    for chunk in range(first_row // INIT_CHUNK_ROWS, -(-(first_row + rows) // INIT_CHUNK_ROWS)):
        generator.manual_seed(mixed_seed(seed, table, chunk))
        values = torch.rand(INIT_CHUNK_ROWS, config.embedding_dim, generator=generator)
        start = chunk * INIT_CHUNK_ROWS - first_row  # of the chunk, in the shard
        keep = slice(max(-start, 0), min(INIT_CHUNK_ROWS, rows - start))
        part = values[keep, first_column : first_column + columns] * (high - low) + low
        with torch.no_grad():
            shard[max(start, 0) : max(start, 0) + len(part)].copy_(part)


def mixed_seed(*parts: int) -> int:
    """A 63-bit seed that differs wherever one of the (non-negative) parts does."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
