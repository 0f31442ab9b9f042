"""PE-MTL over all ranks: task weights from the gradients of the *global* batch (losses/pareto.py).

Where the gradients are taken is `pareto_gradient` in the config:

    SHARED_PARAMETERS      dense parameters that more than one task reaches, and the embeddings, of
                           rows and of sequences, in place of the tables: a backward pass per task
    SHARED_REPRESENTATION  the features from which the task towers start (MGDA-UB: Sener and
                           Koltun, arXiv 1810.04650): a backward pass of the towers besides the
                           usual one, and no gradient travels between ranks

With experts the representation is what they gave; the gates' own way back to the bottom layers,
and one tower's gradient through the tower it is related to, count in the first alone.

Shapes: `K` tasks, `P` shared dense parameters, `B` rows of this rank.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from losses import ParetoLossWeights, gram_matrix
from trainer.collectives import all_reduce_sum, world_size
from trainer.models import ModelOutput
from trainer.protos.pipeline_pb2 import SHARED_REPRESENTATION

Gradients = tuple[Tensor | None, ...]  # of one task, per source; None where it does not reach it


class ParetoObjective(nn.Module):
    """The tasks' losses, weighed for a global batch alike on all ranks.

    Args:
        min_weights: the tasks' `pareto_min_loss_weight`, K numbers.
        gradient: `pareto_gradient`, a value of the config's enum ParetoGradient.

    Raises:
        ValueError: see `losses.check_min_weights`.
    """

    def __init__(self, min_weights: Sequence[float], gradient: int) -> None:
        super().__init__()
        self.solve = ParetoLossWeights(min_weights)
        self.at_representation = gradient == SHARED_REPRESENTATION

    def forward(
        self, losses: list[Tensor], output: ModelOutput, parameters: list[nn.Parameter]
    ) -> tuple[Tensor, Tensor]:
        """The loss to differentiate, and the weights, float64 [K].

        All ranks must call it together, and differentiate the loss once.

        Args:
            losses: K scalars, scaled for this rank (see trainer/objective.py).
            output: what the losses came from.
            parameters: the dense parameters of the model, whose gradients average over ranks.
        """
        if self.at_representation:
            rows = _trained(output.shared)
            gradients = [_gradients(loss, rows, keep=True) for loss in losses]
            weights = self._weigh(gradients, [], rows)
            return torch.stack(losses) @ weights.to(losses[0].dtype), weights
        dense, rows = _trained(parameters), _trained(output.embeddings)
        last = len(losses) - 1
        gradients = [
            _gradients(loss, dense + rows, keep=task < last) for task, loss in enumerate(losses)
        ]
        weights = self._weigh(gradients, dense, rows)
        shares = weights.to(losses[0].dtype)
        total: Any = _WithGradients.apply(
            torch.stack(losses).detach() @ shares,
            [_weighted(shares, of_source) for of_source in zip(*gradients, strict=True)],
            *dense,
            *rows,
        )
        return total, weights

    def _weigh(self, gradients: list[Gradients], dense: list[Tensor], rows: list[Tensor]) -> Tensor:
        """Weights from the gradients of `dense` and `rows`, of all ranks.

        A row of features lives on one rank: inner products add up over ranks. A parameter lives on
        all of them: its gradients do, before the product. Both are world^2 times what they would
        be for the global batch, which changes no weight.
        """
        num_tasks = len(gradients)
        gram = self.solve.min_weights.new_zeros(num_tasks, num_tasks)  # float64
        if rows:
            gram += gram_matrix([_flat(each[len(dense) :], rows) for each in gradients])
            all_reduce_sum(gram)
        counts = [sum(each[i] is not None for each in gradients) for i in range(len(dense))]
        shared = [i for i, count in enumerate(counts) if count > 1]
        if shared:
            like = [dense[i] for i in shared]
            flat = torch.stack([_flat([each[i] for i in shared], like) for each in gradients])
            all_reduce_sum(flat)  # [K, P]
            gram += gram_matrix(flat.unbind())
        weights = self.solve(gram)
        if world_size() > 1:  # hosts of different make may round differently
            dist.broadcast(weights, src=0)
        return weights


class _WithGradients(Function):
    """A loss whose gradients are known already: backward only hands them out."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *sources: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's doing
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        return None, None, *(each if each is None else grad * each for each in ctx.gradients)


def _trained(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Those that a loss can be differentiated by."""
    return [each for each in tensors if each.requires_grad]


def _gradients(loss: Tensor, sources: list[Tensor], keep: bool) -> Gradients:
    """The loss's gradient of each source; `keep` the graph for another loss."""
    if not sources:
        return ()
    return torch.autograd.grad(loss, sources, retain_graph=keep, allow_unused=True)


def _flat(gradients: Sequence[Tensor | None], like: list[Tensor]) -> Tensor:
    """Gradients end to end, [P], zero where there is none."""
    pairs = zip(gradients, like, strict=True)
    found = [torch.zeros_like(x) if grad is None else grad for grad, x in pairs]
    return torch.cat([each.flatten() for each in found])


def _weighted(shares: Tensor, gradients: Gradients) -> Tensor | None:
    """Sum over tasks of weight * gradient; None where no task reaches."""
    total = None
    for share, gradient in zip(shares.unbind(), gradients, strict=True):
        if gradient is not None:
            part = share * gradient
            total = part if total is None else total + part
    return total
