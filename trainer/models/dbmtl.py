"""DBMTL: deep Bayesian multi-target learning (Wang et al., arXiv 1902.09154).

A shared bottom, optionally experts with a gate per task (MMoE), an MLP per task; a task's relation
MLP also sees the outputs of the tasks it depends on (click -> purchase).

                         +-> MLP click ----------+--> logits click
features -> bottom MLP --+                       v
                         +-> MLP purchase -> relation MLP -> logits purchase
"""

import torch
from torch import Tensor, nn

from trainer.models.layers import mlp, optional_mlp
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class MixtureOfExperts(nn.Module):
    """MMoE (Ma et al., KDD 2018): a softmax gate per task over X shared experts."""

    def __init__(self, in_width: int, config: pb.DBMTL, num_tasks: int) -> None:
        super().__init__()
        experts = [mlp(in_width, config.expert_mlp) for _ in range(config.num_expert)]
        self.experts = nn.ModuleList(expert for expert, _ in experts)
        self.width = experts[0][1]
        self.gates = nn.ModuleList()
        for _ in range(num_tasks):
            hidden, width = optional_mlp(in_width, config, "gate_mlp")
            self.gates.append(nn.Sequential(hidden, nn.Linear(width, config.num_expert)))

    def forward(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """One mixture per task, [B, D] each, and what the experts gave, [B, X, D]."""
        outputs = torch.stack([expert(features) for expert in self.experts], dim=1)  # [B, X, D]
        weights = [gate(features).softmax(dim=1) for gate in self.gates]  # one of [B, X] per task
        return [torch.einsum("bx,bxd->bd", weight, outputs) for weight in weights], outputs


class DBMTL(nn.Module):
    """Tasks in the order of their towers; logits per task, [B, num_class]."""

    def __init__(self, widths: dict[str, int], config: pb.DBMTL, tasks: list[Task]) -> None:
        super().__init__()
        (self.group,) = widths
        self.shares_layers = config.HasField("bottom_mlp") or config.HasField("expert_mlp")
        self.bottom, width = optional_mlp(widths[self.group], config, "bottom_mlp")
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
        shared = self.bottom(groups[self.group])
        per_task = [shared] * len(self.towers)
        if self.experts is not None:
            per_task, shared = self.experts(shared)
        hidden: dict[str, Tensor] = {}
        for (name, tower), features in zip(self.towers.items(), per_task, strict=True):
            related = [hidden[other] for other in self.relations[name]]
            joined = torch.cat([tower(features), *related], dim=1)
            hidden[name] = self.relation_mlps[name](joined)
        logits = {name: output(hidden[name]) for name, output in self.outputs.items()}
        return logits, shared if self.shares_layers else None
