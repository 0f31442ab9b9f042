"""What ranks do together; without torch.distributed a process is a world of one."""

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

T = TypeVar("T")


def world_size() -> int:
    """Ranks that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This rank's number; 0 without torch.distributed."""
    return dist.get_rank() if dist.is_initialized() else 0


def all_gather(value: T) -> list[T]:
    """Each rank's value, on all ranks; any that can be pickled."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_first_rank(value: T) -> T:
    """Rank 0's value, on all ranks: file systems may show each rank another state."""
    values: list[Any] = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def all_reduce_sum(tensor: Tensor) -> None:
    """Sum over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)


def mean_over_ranks(value: float) -> float:
    """The mean of a number over all ranks, which call this together."""
    total = torch.tensor(value, dtype=torch.float64)
    all_reduce_sum(total)
    return total.item() / world_size()


def all_reduce_with_grad(tensor: Tensor) -> Tensor:
    """Sum over all ranks; the gradient is summed over ranks too."""
    total: Any = _AllReduceSum.apply(tensor)
    return total


class _AllReduceSum(Function):
    """sum_r x_r on every rank: each rank's x_r reaches all outputs, so gradients add up."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        all_reduce_sum(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].clone()
        all_reduce_sum(total)
        return total
