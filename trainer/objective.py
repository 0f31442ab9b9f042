"""The training objective: losses of all tasks, weighted over the *global* batch.

Ranks hold different numbers of rows, and data parallelism averages gradients over ranks. So each
rank's loss is `sum(local rows) * world / sum(global rows)`: the averaged gradient is that of the
global batch, however its sessions lie on the ranks.

B rows and S sessions of this rank, K tasks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from losses import JRCLoss, jrc_losses
from trainer.collectives import all_gather, all_reduce_sum, rank, world_size
from trainer.data.batch import SessionBatch
from trainer.models import ClickModel, ModelOutput
from trainer.optim.precision import autocast
from trainer.pareto import ParetoObjective
from trainer.protos.pipeline_pb2 import LossConfig, ModelConfig
from trainer.tasks import Task, build_loss


@dataclass
class Outputs:
    """What one batch gave.

    losses: per `task/loss`, float64 [2]: the sum of the weighted losses of this rank's rows, and
        the sum of their weights. The tower's and the loss's own `weight` are in the first.
    predictions: per task, float32 (see Task.prediction): [B], or [B, C] of C classes.
    pareto_weights: float64 [K], where PE-MTL is on.
    """

    losses: dict[str, Tensor]
    predictions: dict[str, Tensor]
    pareto_weights: Tensor | None


class Objective(nn.Module):
    """Model and losses in one module: a SessionBatch in, the loss to differentiate out.

    Args:
        dtype: of the model's matrix products; None for float32. Losses are always in float32.
    """

    def __init__(
        self,
        model: ClickModel,
        tasks: list[Task],
        config: ModelConfig,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tasks, self.dtype = model, tasks, dtype
        self.losses = [[build_loss(loss) for loss in task.losses] for task in tasks]
        self.pareto = None
        if config.use_pareto_loss_weight and len(tasks) > 1:
            minima = [task.pareto_min_weight for task in tasks]
            self.pareto = ParetoObjective(minima, config.pareto_gradient)

    def forward(self, batch: SessionBatch) -> tuple[Tensor, Outputs]:
        """The loss of the batch and its parts, detached."""
        output = self._model_output(batch)
        named, per_task = self._task_losses(output.logits, batch)
        weights = None
        if self.pareto is not None and self.training:
            dense = list(self.model.dense_parameters())
            loss, weights = self.pareto(per_task, output, dense)
        else:
            loss = torch.stack(per_task).sum()
        predictions = {
            task.name: task.prediction(output.logits[task.name].detach().float())
            for task in self.tasks
        }
        return loss, Outputs(named, predictions, weights)

    def predict(self, batch: SessionBatch) -> dict[str, Tensor]:
        """The logits [B, num_class] of each task, float32; labels are not needed."""
        return {name: logits.float() for name, logits in self._model_output(batch).logits.items()}

    def _model_output(self, batch: SessionBatch) -> ModelOutput:
        with autocast(batch.dense.device, self.dtype):
            return self.model(batch)

    def _task_losses(
        self, logits: dict[str, Tensor], batch: SessionBatch
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Each loss by name (as in Outputs) and each task's sum of losses, scaled for this rank."""
        row_weights = [row_weight(task, batch) for task in self.tasks]
        scales = _scales(row_weights, batch)
        ones = batch.dense.new_ones(batch.num_rows)
        weights = [ones if weight is None else weight for weight in row_weights]
        sums = self._sums_over_rows(logits, batch, weights)
        named: dict[str, Tensor] = {}
        per_task = []
        for t, task in enumerate(self.tasks):
            total = torch.zeros((), device=batch.dense.device)
            weight_sum = weights[t].sum()
            for n, config in enumerate(task.losses):
                value = sums[t, n] * (task.weight * config.weight)
                name = unique_name(f"{task.name}/{config.WhichOneof('loss')}", named)
                named[name] = torch.stack([value.detach(), weight_sum]).double()
                total = total + value * scales[t]
            per_task.append(total)
        return named, per_task

    def _sums_over_rows(
        self, logits: dict[str, Tensor], batch: SessionBatch, weights: list[Tensor]
    ) -> dict[tuple[int, int], Tensor]:
        """The sum of the weighted losses of this rank's rows, per (task, loss of the task).

        JRC losses of one contrast are computed together: in one launch of the kernel on CUDA.
        """
        sums: dict[tuple[int, int], Tensor] = {}
        together: dict[str, list[tuple[int, int, JRCLoss]]] = {}
        for t, task in enumerate(self.tasks):
            for n, (config, loss) in enumerate(zip(task.losses, self.losses[t], strict=True)):
                sessions = _sessions(config, task, batch)
                if isinstance(loss, JRCLoss) and "session_offsets" in sessions:
                    together.setdefault(loss.contrast, []).append((t, n, loss))
                else:
                    label = batch.labels[task.label]
                    sums[t, n] = loss(
                        logits[task.name], label, **sessions, sample_weight=weights[t]
                    )
        for places in together.values():
            tasks = [self.tasks[t] for t, _, _ in places]
            values = jrc_losses(
                [loss for _, _, loss in places],
                [logits[task.name] for task in tasks],
                [batch.labels[task.label] for task in tasks],
                batch.session_offsets,
                [weights[t] for t, _, _ in places],
            )
            sums |= {(t, n): value for (t, n, _), value in zip(places, values, strict=True)}
        return sums


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

    def state(self) -> list[dict[str, list[float]]]:
        """The sums since the last `compute`, of each rank, for a checkpoint: a collective call."""
        return all_gather({name: sums.tolist() for name, sums in self._sums.items()})

    def load_state(self, state: list[dict[str, list[float]]], device: torch.device) -> None:
        """Go on from what `state` gave, on any number of ranks; on as many each has its own."""
        mine = state[rank() :: world_size()]
        for name in state[0]:
            parts = torch.tensor([part[name] for part in mine], dtype=torch.float64, device=device)
            self._sums[name] = parts.reshape(-1, 2).sum(dim=0)


def row_weight(task: Task, batch: SessionBatch) -> Tensor | None:
    """A task's weight of each row, float32 [B]; None where all rows weigh the same."""
    weight = batch.weights[task.sample_weight] if task.sample_weight else None
    if task.space_indicator:
        inside = batch.labels[task.space_indicator] > 0
        space = torch.where(inside, task.in_space_weight, task.out_space_weight)
        weight = space if weight is None else weight * space
    return weight


def _sessions(config: LossConfig, task: Task, batch: SessionBatch) -> dict[str, Tensor]:
    """The sessions in which a loss lets rows compete, as its keyword arguments.

    With `exclude_out_of_task_space` each row outside the task space is a session of its own: with
    nobody to compete with, its ranking costs 0, and the rows inside do not see it.
    """
    message = getattr(config, config.WhichOneof("loss") or "")
    if not getattr(message, "exclude_out_of_task_space", False):
        return {"session_offsets": batch.session_offsets}
    assert task.space_indicator is not None  # checked with the config
    num_sessions = batch.session_offsets.shape[0] - 1
    index = torch.arange(num_sessions + batch.num_rows, device=batch.dense.device)
    own, alone = index[:num_sessions], index[num_sessions:]
    lengths = batch.session_offsets.diff()
    own = torch.repeat_interleave(own, lengths, output_size=batch.num_rows)  # no look at lengths
    return {"session_ids": torch.where(batch.labels[task.space_indicator] > 0, own, alone)}


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
