"""Tables of which each rank has a copy (`data_parallel`), moved as FBGEMM moves the others.

TorchRec averages their gradients over the ranks and leaves the rest to us. Each backward pass is
followed by the sparse optimizer's update, of all rows at once. Rows that no id of the batch reads
have a zero gradient; so only optimizers under which those stand still are the same (FBGEMM's
formulas, g the gradient of a row, m its state):

    SGD                 w -= lr * g
    Adagrad             m += g^2          w -= lr * g / (sqrt(m) + eps)
    row-wise Adagrad    m += mean(g^2)    w -= lr * g / (sqrt(m) + eps)
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchrec.distributed.composable.table_batched_embedding_slice import TableBatchedEmbeddingSlice
from torchrec.optim.keyed import KeyedOptimizer

from trainer.config import ConfigError
from trainer.optim.optimizers import optimizer_of
from trainer.optim.precision import unscaled
from trainer.protos import pipeline_pb2 as pb

OPTIMIZERS = ("sgd_optimizer", "adagrad_optimizer", "rowwise_adagrad_optimizer")


def check_replicated(config: pb.SparseOptimizer) -> None:
    """Raise ConfigError for a sparse optimizer that `data_parallel` tables cannot have."""
    kind, message = optimizer_of(config)
    if kind not in OPTIMIZERS:
        raise ConfigError(
            f"embedding constraints: data_parallel tables must have a sparse_optimizer of "
            f"{', '.join(OPTIMIZERS)}, but it is {kind}, which also moves rows that a batch does "
            f"not read; choose another, or other sharding_types"
        )
    for name in ("gradient_clipping", "weight_decay"):
        if getattr(message, name, False):
            raise ConfigError(
                f"embedding constraints: data_parallel tables cannot have "
                f"sparse_optimizer.{kind}.{name}, which only FBGEMM's fused kernels know; remove "
                f"it, or choose other sharding_types"
            )
    if not getattr(message, "eps", 1):
        raise ConfigError(
            f"embedding constraints: data_parallel tables must have a sparse_optimizer.{kind}.eps "
            f"above 0, which keeps rows that no batch has read from 0 / 0, but it is 0"
        )


def can_replicate(config: pb.SparseOptimizer) -> bool:
    """Whether `data_parallel` tables can have a sparse optimizer."""
    try:
        check_replicated(config)
    except ConfigError:
        return False
    return True


def replicated_tables(parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Any]:
    """Those of a sharded model's parameters that are whole tables on every rank, by name."""
    return {
        name: parameter
        for name, parameter in parameters
        if isinstance(parameter, TableBatchedEmbeddingSlice)
    }


class ReplicatedTables(KeyedOptimizer):
    """The optimizer of these tables; its state has the names that FBGEMM's has.

    Args:
        tables: from `replicated_tables`, without those that FBGEMM moves; each [rows, D].
        config: checked by `check_replicated`.
        scaler: of the loss, whose gradients are to be unscaled.
        frozen: names of tables that stand still, and have no state.
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        config: pb.SparseOptimizer,
        scaler: torch.amp.GradScaler | None,
        frozen: Collection[str] = (),
    ) -> None:
        self._kind, self._message = optimizer_of(config)
        self._scaler = scaler
        self._frozen = [table for name, table in tables.items() if name in frozen]
        tables = {name: table for name, table in tables.items() if name not in frozen}
        state = {table: self._initial_state(name, table) for name, table in tables.items()}
        groups = [{"params": list(tables.values()), "lr": self._message.lr}]
        super().__init__(tables, state, groups)

    def _initial_state(self, name: str, table: Tensor) -> dict[str, Tensor]:
        if self._kind == "sgd_optimizer":
            return {}
        shape = table.shape if self._kind == "adagrad_optimizer" else table.shape[:1]
        start = getattr(self._message, "initial_accumulator_value", 0.0)
        return {f"{name.split('.')[-2]}.momentum1": torch.full(shape, start, device=table.device)}

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # as TorchRec's own
        self, closure: Any = None
    ) -> None:
        """Move the tables by the gradients of a backward pass, and forget these."""
        for table in self._frozen:
            table.grad = None
        tables = [table for table in self.state if table.grad is not None]
        if not tables:
            return
        updates: Any = self._updates(tables, [self._gradient(table) for table in tables])
        (group,) = self.param_groups
        torch._foreach_add_([table.detach() for table in tables], updates, alpha=-group["lr"])
        for table in tables:
            table.grad = None

    def _gradient(self, table: Any) -> Tensor:
        return table.grad if self._scaler is None else unscaled(self._scaler, table.grad)

    def _updates(self, tables: list[Any], gradients: list[Tensor]) -> Sequence[Tensor]:
        """What each table moves by, without the learning rate; all tables in a few kernels."""
        accumulators = [each for table in tables for each in self.state[table].values()]
        if not accumulators:
            return gradients
        is_rowwise = accumulators[0].dim() == 1
        squares = torch._foreach_mul(gradients, gradients)
        if is_rowwise:
            squares = [square.mean(dim=1) for square in squares]
        torch._foreach_add_(accumulators, squares)
        divisors = torch._foreach_sqrt(accumulators)
        torch._foreach_add_(divisors, self._message.eps)
        if is_rowwise:
            divisors = [divisor[:, None] for divisor in divisors]
        return torch._foreach_div(gradients, divisors)
