"""A table and two layers under the trainer's optimizers, and its float64 twin without any of them.

B rows with 1 to 3 ids each; table [NUM_IDS, WIDTH]; loss = mean((model(ids) - target)^2).
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from google.protobuf import text_format
from torch import Tensor, nn
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints

from trainer.accumulation import GroupStep
from trainer.checkpoints.loader import checkpoint_tensors, load_checkpoint
from trainer.optim.optimizers import set_accumulators, sparse_optimizer
from trainer.optim.train_optimizer import TrainOptimizer
from trainer.protos import pipeline_pb2 as pb

NUM_IDS, WIDTH, ROWS = 12, 4, 8
STEPS_PER_EPOCH = 2
CPU = torch.device("cpu")


def train_config(text: str) -> pb.TrainConfig:
    """A train_config, with plain SGD where the text names no optimizer."""
    config = text_format.Parse(text, pb.TrainConfig())
    for part in (config.sparse_optimizer, config.dense_optimizer):
        if part.WhichOneof("optimizer") is None:
            part.sgd_optimizer.lr = 0.5
            if isinstance(part, pb.DenseOptimizer):
                part.sgd_optimizer.momentum = 0.0
    return config


def initial(*shape: int) -> Tensor:
    """Values of a parameter, that depend on its shape alone."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, generator=generator) - 0.5


def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids side by side, their number per row [B], targets [B, 1]."""
    generator = torch.Generator().manual_seed(100 + step)
    lengths = torch.randint(1, 4, (ROWS,), generator=generator)
    ids = torch.randint(0, NUM_IDS, (int(lengths.sum()),), generator=generator)
    return ids, lengths, torch.randn(ROWS, 1, generator=generator)


def dense_layers() -> nn.Sequential:
    """The dense part, with values that are always the same."""
    layers = nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh(), nn.Linear(3, 1))
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(initial(*parameter.shape))
    return layers


class Tiny(nn.Module):
    """Pooled embeddings, then the dense layers; the loss comes out."""

    def __init__(self) -> None:
        super().__init__()
        table = EmbeddingBagConfig(
            name="table", embedding_dim=WIDTH, num_embeddings=NUM_IDS, feature_names=["ids"]
        )
        self.tables = EmbeddingBagCollection(tables=[table], device=torch.device("meta"))
        self.layers = dense_layers()

    def forward(self, ids: KeyedJaggedTensor, target: Tensor) -> Tensor:
        """The mean squared error."""
        return (self.layers(self.tables(ids).values()) - target).square().mean()


def _plan(tiny: Tiny, sharding_type: str) -> Any:
    """Where the table lies."""
    constraint = ParameterConstraints(sharding_types=[sharding_type])
    planner = EmbeddingShardingPlanner(constraints={"table": constraint})
    group = dist.group.WORLD
    assert group is not None
    sharders: list[Any] = [EmbeddingBagCollectionSharder()]
    return planner.collective_plan(tiny, sharders, group)


class Run:
    """Training with the trainer's optimizers on all ranks, each with its share of the rows.

    Args:
        sharding_type: of the table: whole on one rank, or "data_parallel".
    """

    def __init__(self, config: pb.TrainConfig, sharding_type: str = "table_wise") -> None:
        tiny = Tiny()
        kind, arguments = sparse_optimizer(config.sparse_optimizer, CPU)
        apply_optimizer_in_backward(kind, tiny.tables.parameters(), arguments)
        self.model = DistributedModelParallel(tiny, device=CPU, plan=_plan(tiny, sharding_type))
        set_accumulators(self.model.fused_optimizer, config.sparse_optimizer)
        self.optimizer = TrainOptimizer(config, self.model, CPU)
        self.group_steps = max(config.gradient_accumulation_steps, 1)
        self.number = 0
        with torch.no_grad():
            for table in self._tables():
                table.copy_(initial(NUM_IDS, WIDTH))

    def _tables(self) -> list[Tensor]:
        """The table, on a rank that has it."""
        table = self.model.state_dict()["tables.embedding_bags.table.weight"]
        return (
            [shard.tensor for shard in table.local_shards()]
            if hasattr(table, "local_shards")
            else [table]
        )

    def train(self, num_steps: int) -> list[float]:
        """The loss of each step, on this rank's rows."""
        return [self.step() for _ in range(num_steps)]

    def step(self, blow_up: float = 1.0) -> float:
        """One step; its loss times `blow_up`."""
        place = GroupStep(
            self.group_steps,
            self.number % self.group_steps,
            (self.number + 1) % self.group_steps == 0,
        )
        self.optimizer.start(self.number, self.number // STEPS_PER_EPOCH)
        if place.is_first:
            self.optimizer.zero_grad()
        loss = self.model(*self._share(self.number)) * blow_up
        self.optimizer.backward(loss / place.steps)
        self.optimizer.move_replicated()
        if place.is_last:
            self.optimizer.step(place)
        self.number += 1
        return loss.item()

    @staticmethod
    def _share(step: int) -> tuple[KeyedJaggedTensor, Tensor]:
        """This rank's rows."""
        ids, lengths, target = batch(step)
        world, rank = dist.get_world_size(), dist.get_rank()
        rows = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
        ends = [0, *lengths.cumsum(0).tolist()]
        ids = ids[ends[rows.start] : ends[rows.stop]]
        keyed = KeyedJaggedTensor.from_lengths_sync(["ids"], ids, lengths[rows])
        return keyed, target[rows]

    def table(self) -> Tensor:
        """The whole table [NUM_IDS, WIDTH], on the one rank that there is."""
        (table,) = self._tables()
        return table.detach().clone()

    def dense(self) -> list[Tensor]:
        """Copies of the dense parameters."""
        return [parameter.detach().clone() for parameter in self.optimizer.parameters]

    def save(self, path: Path) -> None:
        """Write a checkpoint, with all ranks."""
        dcp.save(checkpoint_tensors(self.model, self.optimizer), checkpoint_id=str(path))

    def load(self, path: Path, number: int) -> None:
        """Go on from a checkpoint of `number` steps."""
        load_checkpoint(path, self.model, self.optimizer, hashed_tables=set())
        self.number = number


class Twin:
    """The same training in float64 by plain PyTorch, one table row at a time.

    Args:
        update_table: (table, gradient, step) -> None; moves the table in place.
        update_dense: (parameters, step) -> None; moves those with a gradient in place.
        change_pooled: of the gradient of each pooled embedding, before rows add up.
    """

    def __init__(
        self,
        update_table: Callable[[Tensor, Tensor, int], None],
        update_dense: Callable[[list[nn.Parameter], int], None],
        change_pooled: Callable[[Tensor], Tensor] = lambda gradient: gradient,
        group_steps: int = 1,
    ) -> None:
        self.table = initial(NUM_IDS, WIDTH).double()
        self.layers = copy.deepcopy(dense_layers()).double()
        self.update_table, self.update_dense = update_table, update_dense
        self.change_pooled, self.group_steps = change_pooled, group_steps
        self.number = 0

    def train(self, num_steps: int) -> None:
        """Run steps."""
        for _ in range(num_steps):
            self.step()

    def step(self) -> None:
        """One step."""
        ids, lengths, target = batch(self.number)
        rows = torch.repeat_interleave(torch.arange(ROWS), lengths)
        pooled = torch.zeros(ROWS, WIDTH, dtype=torch.float64)
        pooled = pooled.index_add(0, rows, self.table[ids]).requires_grad_()
        loss = (self.layers(pooled) - target).square().mean() / self.group_steps
        loss.backward()
        assert pooled.grad is not None
        of_row = self.change_pooled(pooled.grad)[rows]  # of each id
        self.update_table(
            self.table, torch.zeros_like(self.table).index_add(0, ids, of_row), self.number
        )
        if (self.number + 1) % self.group_steps == 0:
            self.update_dense(list(self.layers.parameters()), self.number)
            self.layers.zero_grad()
        self.number += 1
