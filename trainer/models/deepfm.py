"""DeepFM (Guo et al., IJCAI 2017): first order, second order and deep part of the same features.

wide -> sum -------+
fm   -> FM --------+-> final MLP -> logits      without `final`: logits = wide + sum(FM) + MLP
deep -> deep MLP --+

The features of the FM are the group `fm`, or `deep` where there is no such group.
"""

import torch
from torch import Tensor, nn

from trainer.models.layers import mlp, required_mlp, same_width
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task

GROUPS = ("wide", "deep")
OPTIONAL_GROUPS = ("fm",)


class DeepFM(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.DeepFM, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        self.fm_group = "fm" if "fm" in widths else "deep"
        self.fm_width = same_width(widths, self.fm_group)
        self.deep, width = required_mlp(sum(widths["deep"]), config, "deep")
        self.final = None
        if config.HasField("final"):
            self.final, width = mlp(1 + self.fm_width + width, config.final)
        self.output = nn.Linear(width, self.task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        wide = groups["wide"].sum(1, keepdim=True)
        deep = self.deep(groups["deep"])
        second_order = factorization_machine(
            groups[self.fm_group].unflatten(1, (-1, self.fm_width))
        )
        if self.final is None:
            logits = wide + second_order.sum(1, keepdim=True) + self.output(deep)
        else:
            logits = self.output(self.final(torch.cat([wide, second_order, deep], dim=1)))
        return {self.task.name: logits}, None


def factorization_machine(features: Tensor) -> Tensor:
    """Sum over pairs of features of their elementwise products (Rendle, 2010); [B, F, D] -> [B, D].

    sum_{i<j} v_i * v_j = ((sum v)^2 - sum v^2) / 2. (TorchRec's FactorizationMachine also
    multiplies different columns of embeddings, and sums the columns up.)
    """
    return (features.sum(1).square() - features.square().sum(1)) / 2
