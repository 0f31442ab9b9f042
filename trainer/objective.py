"""The training objective: losses of all tasks, weighted over the *global* batch.

Ranks hold different numbers of rows, and data parallelism averages gradients over ranks. So each
rank's loss is `sum(local rows) * world / sum(global rows)`: the averaged gradient is that of the
global batch, however its sessions lie on the ranks.

B rows of this rank, K tasks, E width of the pooled embeddings.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from losses import ParetoLossWeights
from trainer.batch import SessionBatch
from trainer.collectives import all_reduce_sum, world_size
from trainer.models import ClickModel
from trainer.tasks import Task, build_loss


@dataclass
class Outputs:
    """What one batch gave.

    losses: per `task/loss`, float64 [2]: the sum of the weighted losses of this rank's rows, and
        the sum of their weights.
    probabilities: per binary task, float32 [B].
    pareto_weights: float64 [K], where PE-MTL is on.
    """

    losses: dict[str, Tensor]
    probabilities: dict[str, Tensor]
    pareto_weights: Tensor | None


class Objective(nn.Module):
    """Model and losses in one module: a SessionBatch in, the loss to differentiate out."""

    def __init__(self, model: ClickModel, tasks: list[Task], use_pareto: bool) -> None:
        super().__init__()
        self.model, self.tasks = model, tasks
        self.losses = [[build_loss(config) for config in task.losses] for task in tasks]
        minima = [task.pareto_min_weight for task in tasks]
        self.pareto = ParetoLossWeights(minima) if use_pareto and len(tasks) > 1 else None

    def forward(self, batch: SessionBatch) -> tuple[Tensor, Outputs]:
        """The loss of the batch and its parts, detached."""
        logits, pooled = self.model(batch)
        named, per_task = self._task_losses(logits, batch)
        weights = None
        if self.pareto is not None and self.training:
            weights = self._pareto_weights(per_task, pooled)
            loss = torch.stack(per_task) @ weights.to(per_task[0].dtype)
        else:
            loss = torch.stack(per_task).sum()
        probabilities = {
            task.name: task.probability(logits[task.name].detach().float())
            for task in self.tasks
            if task.is_binary
        }
        return loss, Outputs(named, probabilities, weights)

    def _task_losses(
        self, logits: dict[str, Tensor], batch: SessionBatch
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Each loss by name (as in Outputs) and each task's sum of losses, scaled for this rank."""
        row_weights = [row_weight(task, batch) for task in self.tasks]
        scales = _scales(row_weights, batch)
        named: dict[str, Tensor] = {}
        per_task = []
        for task, losses, weight, scale in zip(
            self.tasks, self.losses, row_weights, scales, strict=True
        ):
            weight = batch.dense.new_ones(batch.num_rows) if weight is None else weight
            total = torch.zeros((), device=batch.dense.device)
            for config, loss in zip(task.losses, losses, strict=True):
                rows = loss(
                    logits[task.name],
                    batch.labels[task.label],
                    session_offsets=batch.session_offsets,
                )
                value = (rows * weight).sum() * task.weight
                name = unique_name(f"{task.name}/{config.WhichOneof('loss')}", named)
                named[name] = torch.stack([value.detach(), weight.sum()]).double()
                total = total + value * scale
            per_task.append(total)
        return named, per_task

    def _pareto_weights(self, per_task: list[Tensor], pooled: Tensor | None) -> Tensor:
        """PE-MTL weights from the global batch's task gradients, float64 [K], alike on all ranks.

        Gradients count over the shared dense parameters (those that more than one task reaches)
        and, for embeddings, at the pooled output. Dense gradients average over ranks; rows of the
        embedding output live on one rank, so their inner products add up.
        """
        world = world_size()
        dense = [p for p in self.model.net.parameters() if p.requires_grad]
        sources = dense + ([pooled] if pooled is not None else [])
        grads = [
            torch.autograd.grad(loss, sources, retain_graph=True, allow_unused=True)
            for loss in per_task
        ]
        shared = [i for i in range(len(dense)) if sum(g[i] is not None for g in grads) > 1]
        gram = per_task[0].new_zeros(len(grads), len(grads), dtype=torch.float64)
        if shared:
            flat = _gradient_matrix(
                [[g[i] for i in shared] for g in grads], [dense[i] for i in shared]
            )
            all_reduce_sum(flat)
            gram = flat @ flat.T / world**2
        if pooled is not None:
            rows = _gradient_matrix([[g[-1]] for g in grads], [pooled])
            embedding_gram = rows @ rows.T / world**2
            all_reduce_sum(embedding_gram)
            gram = gram + embedding_gram
        assert self.pareto is not None
        weights = self.pareto(gram)
        if world > 1:
            dist.broadcast(weights, src=0)
        return weights


class LossMeter:
    """Means of the losses over all rows of many batches and all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def update(self, outputs: Outputs) -> None:
        """Add a batch; stays on the device."""
        for name, sums in outputs.losses.items():
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def compute(self) -> dict[str, float]:
        """Weighted mean of each loss since the last call; all ranks must call it together."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values()))  # [N, 2]
        all_reduce_sum(sums)
        means = (sums[:, 0] / sums[:, 1]).tolist()
        names, self._sums = list(self._sums), {}
        return dict(zip(names, means, strict=True))


def row_weight(task: Task, batch: SessionBatch) -> Tensor | None:
    """A task's weight of each row, float32 [B]; None where all rows weigh the same."""
    weight = batch.weights[task.sample_weight] if task.sample_weight else None
    if task.space_indicator:
        inside = batch.labels[task.space_indicator] > 0
        space = torch.where(inside, task.in_space_weight, task.out_space_weight)
        weight = space if weight is None else weight * space
    return weight


def _scales(row_weights: list[Tensor | None], batch: SessionBatch) -> list[Tensor | float]:
    """world / (sum of weights over the global batch), per task; 0 where that sum is 0."""
    world = world_size()
    even = world / max(batch.global_rows, 1)
    weighted = [weight for weight in row_weights if weight is not None]
    if not weighted:
        return [even] * len(row_weights)
    totals = torch.stack([weight.sum() for weight in weighted])
    all_reduce_sum(totals)
    scales = iter(torch.where(totals > 0, world / totals, torch.zeros_like(totals)).unbind())
    return [even if weight is None else next(scales) for weight in row_weights]


def unique_name(name: str, taken: dict[str, Tensor]) -> str:
    """`name`, or `name_2`, `name_3`, ... when a loss of that name is there already."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _gradient_matrix(grads: list[list[Tensor | None]], like: list[Tensor]) -> Tensor:
    """A row per task, float64 [K, P]: its gradients end to end, zero where it reaches nothing."""
    rows = []
    for task_grads in grads:
        found = [
            torch.zeros_like(x) if grad is None else grad
            for grad, x in zip(task_grads, like, strict=True)
        ]
        rows.append(torch.cat([each.flatten() for each in found]))
    return torch.stack(rows).double()
