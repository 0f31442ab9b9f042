"""PE-MTL over all ranks: task weights from the gradients of the *global* batch (losses/pareto.py).

Where the gradients are taken is `pareto_gradient` in the config:

    SHARED_PARAMETERS      dense parameters that more than one task reaches, and the pooled
                           embeddings in place of the tables: a backward pass per task
    SHARED_REPRESENTATION  the features from which the task towers start (MGDA-UB: Sener and
                           Koltun, arXiv 1810.04650): a backward pass per task through its tower
                           alone, and no gradient travels between ranks

With experts the representation is what they gave; the gates' own way back to the bottom layers,
and one tower's gradient through the tower it is related to, count in the first alone.

Shapes: `K` tasks, `P` shared dense parameters, `B` rows of this rank.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from losses import ParetoLossWeights, gram_matrix
from trainer.collectives import all_reduce_sum, world_size
from trainer.models import ModelOutput
from trainer.protos.pipeline_pb2 import SHARED_REPRESENTATION


class GlobalParetoWeights(nn.Module):
    """Weights of the tasks for a global batch, alike on all ranks.

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
        self._shared: list[nn.Parameter] | None = None  # found in the first batch

    def forward(
        self, losses: list[Tensor], output: ModelOutput, parameters: list[nn.Parameter]
    ) -> Tensor:
        """Weights, float64 [K]; all ranks must call it together.

        Args:
            losses: K scalars, scaled for this rank (see trainer/objective.py).
            output: what the losses came from.
            parameters: the dense parameters of the model, whose gradients average over ranks.
        """
        if self.at_representation:
            gram = _sum_of_rows(losses, output.shared)
        else:
            if self._shared is None:
                self._shared = _reached_by_several(losses, parameters)
            gram = _sum_of_rows(losses, output.pooled, self._shared)
        weights = self.solve(gram)
        if world_size() > 1:  # hosts of different make may round differently
            dist.broadcast(weights, src=0)
        return weights


def _sum_of_rows(
    losses: list[Tensor], features: Tensor | None, shared: Sequence[nn.Parameter] = ()
) -> Tensor:
    """The Gram matrix of the global gradients of `features` and `shared`, times world^2.

    A row of `features` lives on one rank: inner products add up over ranks. A parameter lives on
    all of them: its gradients do, before the product.
    """
    rows = [features] if features is not None and features.requires_grad else []
    gradients = [_gradients(loss, [*shared, *rows]) for loss in losses]
    gram = losses[0].new_zeros(len(losses), len(losses), dtype=torch.float64)
    if rows:
        gram = gram_matrix([each.pop() for each in gradients])
        all_reduce_sum(gram)
    if shared:
        flat = torch.stack([torch.cat([g.flatten() for g in each]) for each in gradients])  # [K, P]
        all_reduce_sum(flat)
        gram = gram + gram_matrix(flat.unbind())
    return gram


def _gradients(loss: Tensor, sources: list[Tensor]) -> list[Tensor]:
    """The loss's gradient of each source; zero where the loss does not reach it."""
    if not sources:
        return []
    found = torch.autograd.grad(
        loss, sources, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


def _reached_by_several(losses: list[Tensor], parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that more than one task's loss depends on."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    found = [
        torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True) for loss in losses
    ]
    counts = [sum(grad is not None for grad in grads) for grads in zip(*found, strict=True)]
    return [parameter for parameter, count in zip(trained, counts, strict=True) if count > 1]
