"""Tables with zero-collision hashing, sharded: where they lie, what new ids find, what is saved.

Each rank has an equal part of the ids (by ranges of their hashes), of the rows, and its own map
from these to those: see trainer/models/id_map.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed.mc_embedding import ShardedManagedCollisionEmbeddingCollection
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
from torchrec.modules.mc_embedding_modules import ManagedCollisionEmbeddingCollection

from trainer.config import ConfigError
from trainer.models.id_map import IdMap
from trainer.protos import pipeline_pb2 as pb

Plans = dict[str, Any]  # per module's name; of each its tables' sharding


class Table(NamedTuple):
    """A table's part on this rank.

    name: unique in the model.
    weights: [rows, D]; states: of its optimizer, each [rows, ...] or [rows].
    """

    name: str
    ids: IdMap
    init_fn: Callable[[Tensor], Any]
    weights: Tensor
    states: list[Tensor]


def managed_plans(model: nn.Module, sharder: Any, device: torch.device) -> Plans:
    """All of these tables row-wise over all ranks, which TorchRec's planner offers on CUDA alone.

    Args:
        sharder: TorchRec's, of managed collections.

    Raises:
        ConfigError: a table has less than two rows for each rank.
    """
    world = dist.get_world_size()
    plans = {}
    for name, module in model.named_modules():
        if not isinstance(module, ManagedCollisionEmbeddingCollection):
            continue
        shardings = {}
        for table, weights in sharder.shardable_parameters(module).items():
            rows, rows_per_rank = len(weights), -(-len(weights) // world)
            if rows - rows_per_rank * (world - 1) < 2:
                raise ConfigError(
                    f"zch.zch_size of table `{table}` must give each of {world} ranks two rows or "
                    f"more, but is: {rows}; raise it"
                )
            shardings[table] = row_wise(compute_kernel="fused")
        plans[name] = construct_module_sharding_plan(
            module, shardings, sharder, device_type=device.type
        )
    return plans


def managed_tables(model: nn.Module) -> Iterator[Table]:
    """Those of a sharded model."""
    for name, module in model.named_modules():
        if not isinstance(module, ShardedManagedCollisionEmbeddingCollection):
            continue
        embeddings: Any = module._embedding_module
        kept: Any = embeddings.fused_optimizer.state_dict()["state"]
        weights = embeddings.state_dict()
        maps = module._managed_collision_collection._managed_collision_modules
        for table, ids in maps.items():
            (key,) = [each for each in weights if each.split(".")[-2] == table]
            states = [each for each in kept.get(key, {}).values() if hasattr(each, "local_shards")]
            assert isinstance(ids, IdMap)
            yield Table(
                name=f"{name.rpartition('.')[2]}.{table}",
                ids=ids,
                init_fn=embeddings._table_name_to_config[table].init_fn,
                weights=_local(weights[key]),
                states=[_local(each) for each in states],
            )


def _local(sharded: Any) -> Tensor:
    (shard,) = sharded.local_shards()
    return shard.tensor


def connect_id_maps(model: nn.Module, sparse: pb.SparseOptimizer) -> None:
    """Have the maps reset the rows that new ids get: weights, and what the optimizer keeps."""
    for table in managed_tables(model):
        accumulator = sparse.adagrad_optimizer.initial_accumulator_value
        table.ids.reset_rows = partial(_reset, table, accumulator)


@torch.no_grad()
def _reset(table: Table, accumulator: float, rows: Tensor) -> None:
    values = torch.empty_like(table.weights[rows])
    table.init_fn(values)
    table.weights[rows] = values
    for state in table.states:
        state[rows] = accumulator


# ------------------------------------------------------------------ checkpoints


def id_histories(model: nn.Module) -> dict[str, dict[str, Any]]:
    """What the maps have besides buffers, of all ranks, on all ranks. A collective call."""
    own = {table.name: table.ids.history() for table in managed_tables(model)}
    if not own:
        return {}
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    return {
        name: {
            "num_batches": num_batches,
            "policy_rows": len(history),
            "ids": np.concatenate([part[name][1] for part in parts], axis=1).tobytes(),
        }
        for name, (num_batches, history) in own.items()
    }


def load_id_histories(model: nn.Module, saved: dict[str, dict[str, Any]]) -> None:
    """Restore what `id_histories` gave, on any number of ranks that the maps were loaded on."""
    for table in managed_tables(model):
        entry = saved[table.name]
        history = np.frombuffer(entry["ids"], np.int64).reshape(entry["policy_rows"], -1)
        table.ids.load_history(entry["num_batches"], history)
