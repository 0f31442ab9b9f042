"""Multi-tower with DIN (Zhou et al., KDD 2018): attention towers over behaviour sequences.

group a ------------------> MLP a ------+
group b ------------------> MLP b ------+-> final MLP -> logits
group s: query, sequence -> attention --+
"""

import torch
from torch import Tensor, nn

from trainer.models.layers import optional_mlp, required_mlp
from trainer.models.sequence import DINEncoder
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class MultiTowerDIN(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.MultiTowerDIN, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        self.towers, self.attention, total = nn.ModuleDict(), nn.ModuleDict(), 0
        for tower in config.towers:
            self.towers[tower.input], width = optional_mlp(sum(widths[tower.input]), tower, "mlp")
            total += width
        for tower in config.din_towers:
            group = tower.input
            query, width = sum(widths[f"{group}.query"]), sum(widths[f"{group}.sequence"])
            encoder = pb.DINEncoder(attn_mlp=tower.attn_mlp) if tower.HasField("attn_mlp") else None
            self.attention[group] = DINEncoder(group, query, width, encoder or pb.DINEncoder())
            total += width
        self.final, width = required_mlp(total, config, "final")
        self.output = nn.Linear(width, self.task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        towers = [tower(groups[name]) for name, tower in self.towers.items()]
        towers += [attention(groups) for attention in self.attention.values()]
        return {self.task.name: self.output(self.final(torch.cat(towers, dim=1)))}, None
