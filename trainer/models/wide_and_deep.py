"""Wide & Deep (Cheng et al., arXiv 1606.07792): a linear model beside a deep one.

wide -> sum ------+
                  +-> final MLP -> logits         without `final`: logits = wide + deep
deep -> deep MLP -+
"""

import torch
from torch import Tensor, nn

from trainer.models.layers import optional_mlp, required_mlp
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class WideAndDeep(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.WideAndDeep, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task, self.has_final = tasks[0], config.HasField("final")
        self.deep, width = required_mlp(sum(widths["deep"]), config, "deep")
        self.final, width = optional_mlp(width + self.has_final, config, "final")
        self.output = nn.Linear(width, self.task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        wide, deep = groups["wide"].sum(1, keepdim=True), self.deep(groups["deep"])
        if self.has_final:
            logits = self.output(self.final(torch.cat([wide, deep], dim=1)))
        else:
            logits = wide + self.output(deep)
        return {self.task.name: logits}, None
