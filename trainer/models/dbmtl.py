"""DBMTL: deep Bayesian multi-target learning (Wang et al., arXiv 1902.09154).

A shared bottom (mask blocks, an MLP, experts with a gate per task: each optional), an MLP per task;
a task's relation MLP also sees the outputs of the tasks it depends on (click -> purchase).

                                                 +-> MLP click ----------+--> logits click
features -> [MaskNet] -> [bottom MLP] -> [MMoE] -+                       v
                                                 +-> MLP purchase -> relation MLP -> logits
"""

import torch
from torch import Tensor, nn

from trainer.models.experts import MixtureOfExperts
from trainer.models.layers import each_output, optional_mlp
from trainer.models.mask_net import MaskBlocks
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class DBMTL(nn.Module):
    """Tasks in the order of their towers; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.DBMTL, tasks: list[Task]
    ) -> None:
        super().__init__()
        ((self.group, features),) = widths.items()
        width = sum(features)
        shared_layers = ("mask_net", "bottom_mlp", "expert_mlp")
        self.shares_layers = any(config.HasField(name) for name in shared_layers)
        # Features go into the first layer of an MLP and nowhere else.
        self.splits_sessions = config.HasField("bottom_mlp") and not config.HasField("mask_net")
        self.mask_net = nn.Identity()
        if config.HasField("mask_net"):
            self.mask_net = MaskBlocks(width, config.mask_net)
            width = self.mask_net.width
        self.bottom, width = optional_mlp(width, config, "bottom_mlp")
        self.experts = None
        if config.HasField("expert_mlp"):
            self.experts = MixtureOfExperts(width, config, len(tasks))
            width = self.experts.width
        self.relations = {t.tower_name: list(t.relation_tower_names) for t in config.task_towers}
        self.towers, self.relation_mlps = nn.ModuleDict(), nn.ModuleDict()
        self.outputs = nn.ModuleDict()
        outputs: dict[str, int] = {}  # width of each task's last hidden layer
        for task, tower in zip(tasks, config.task_towers, strict=True):
            name = task.name
            self.towers[name], tower_width = optional_mlp(width, tower, "mlp")
            tower_width += sum(outputs[other] for other in self.relations[name])
            self.relation_mlps[name], outputs[name] = optional_mlp(
                tower_width, tower, "relation_mlp"
            )
            self.outputs[name] = nn.Linear(outputs[name], task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Logits per task, and the features that all tasks share, if any layer made them."""
        shared = self.bottom(self.mask_net(groups[self.group]))
        per_task = [shared] * len(self.towers)
        if self.experts is not None:
            per_task, shared = self.experts(shared)
        hidden: dict[str, Tensor] = {}
        towers = each_output(self.towers.values(), per_task)
        for name, joined in zip(self.towers, towers, strict=True):
            related = [hidden[other] for other in self.relations[name]]
            if related:
                joined = torch.cat([joined, *related], dim=1)
            hidden[name] = self.relation_mlps[name](joined)
        logits = {name: output(hidden[name]) for name, output in self.outputs.items()}
        return logits, shared if self.shares_layers else None
