"""Multi-tower: an MLP per feature group, their outputs side by side, a final MLP.

group a -> MLP a -+
                  +-> final MLP -> logits
group b -> MLP b -+
"""

import torch
from torch import Tensor, nn

from trainer.models.layers import optional_mlp, required_mlp
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class MultiTower(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.MultiTower, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        self.towers = nn.ModuleDict()
        total = 0
        for tower in config.towers:
            self.towers[tower.input], width = optional_mlp(sum(widths[tower.input]), tower, "mlp")
            total += width
        self.final, width = required_mlp(total, config, "final")
        self.output = nn.Linear(width, self.task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        towers = [tower(groups[name]) for name, tower in self.towers.items()]
        return {self.task.name: self.output(self.final(torch.cat(towers, dim=1)))}, None
