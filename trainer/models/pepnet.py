"""PEPNet (Chang et al., KDD 2023): gates that personalise the embeddings and each layer.

domain, all* -> gate --+
                       v
all ----------------> (*) -+-> layer 1 -> (*) -> layer 2 -> (*) -> tower of task 1 -> logits 1
                           |               ^                 ^
        uia, (*)* -------------> gate -----+----> gate ------+      (the same for each task)

`all`, `domain` and `uia` (user, item, author) are feature groups; without `domain` or `uia` its
gates are left out. * marks features that get no gradient from the gate. With `domain_input_name`
each task has a tower per domain, and that label says which one speaks for a row.
"""

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.models.layers import TaskTowers, activation, dropout_ratios
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class Gate(nn.Module):
    """gamma * sigmoid of a two-layer MLP, [B, out_width]: a factor between 0 and gamma."""

    def __init__(self, in_width: int, hidden: int, out_width: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.layers = nn.Sequential(
            nn.Linear(in_width, hidden), nn.ReLU(), nn.Linear(hidden, out_width), nn.Sigmoid()
        )

    def forward(self, personal: Tensor, features: Tensor) -> Tensor:
        """From what personalises and the features, which get no gradient."""
        return self.gamma * self.layers(torch.cat([personal, features.detach()], dim=1))


class PersonalizedMLP(nn.Module):
    """PPNet of one task: Linear -> activation -> gate -> dropout, per hidden unit."""

    def __init__(self, in_width: int, personal_width: int, config: pb.PEPNet) -> None:
        super().__init__()
        units = list(config.ppnet_hidden_units)
        ratios = dropout_ratios(list(config.ppnet_dropout_ratio), len(units), "ppnet_dropout_ratio")
        self.layers, self.gates, self.dropouts = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        gate_width, width = personal_width + in_width, in_width
        for unit, ratio in zip(units, ratios, strict=True):
            act = activation(config.ppnet_activation, unit)
            self.layers.append(nn.Sequential(nn.Linear(width, unit), act))
            self.gates.append(Gate(gate_width, unit, unit, config.ppnet_gamma))
            self.dropouts.append(nn.Dropout(ratio))
            width = unit

    def forward(self, features: Tensor, personal: Tensor) -> Tensor:
        """[B, last hidden unit] from features [B, D] and what personalises them."""
        x = features
        for layer, gate, dropout in zip(self.layers, self.gates, self.dropouts, strict=True):
            x = dropout(layer(x) * gate(personal, features))
        return x


class PEPNet(nn.Module):
    """Tasks in the order of their towers; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.PEPNet, tasks: list[Task]
    ) -> None:
        super().__init__()
        features = width = sum(widths["all"])
        named = [config.domain_input_name] if config.domain_input_name else []
        self.label_inputs: tuple[str, ...] = tuple(named)
        self.embedding_gate, self.personalized = None, nn.ModuleList()
        if "domain" in widths:
            hidden = config.epnet_hidden_unit or features
            gate_width = sum(widths["domain"]) + features
            self.embedding_gate = Gate(gate_width, hidden, features, config.epnet_gamma)
        if "uia" in widths:
            if not config.ppnet_hidden_units:
                raise ConfigError(
                    "PEPNet.ppnet_hidden_units must be set where there is a feature group `uia`, "
                    "but is missing"
                )
            personal = sum(widths["uia"])
            self.personalized.extend(PersonalizedMLP(features, personal, config) for _ in tasks)
            width = config.ppnet_hidden_units[-1]
        num_domains = config.task_domain_num if self.label_inputs else 1
        self.towers = nn.ModuleList(
            TaskTowers(width, config.task_towers, tasks) for _ in range(num_domains)
        )
        self.num_tasks = len(tasks)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Logits per task, and the gated features that all tasks share, if there is a gate."""
        features = groups["all"]
        if self.embedding_gate is not None:
            features = features * self.embedding_gate(groups["domain"], features)
        per_task = [features] * self.num_tasks
        if self.personalized:
            per_task = [mlp(features, groups["uia"]) for mlp in self.personalized]
        shared = None if self.embedding_gate is None else features
        by_domain = [towers(per_task) for towers in self.towers]
        if not self.label_inputs:
            return by_domain[0], shared
        domain = self._domain(groups)[:, None, None]  # [B, 1, 1]
        stacked = {
            task: torch.stack([logits[task] for logits in by_domain], dim=1)  # [B, N, num_class]
            for task in by_domain[0]
        }
        chosen = {
            task: logits.take_along_dim(domain, dim=1).squeeze(1)
            for task, logits in stacked.items()
        }
        return chosen, shared

    def _domain(self, groups: dict[str, Tensor]) -> Tensor:
        """Which of a task's towers speaks for each row, int64 [B]."""
        label, count = self.label_inputs[0], len(self.towers)
        domain = groups[f"{label}.label"].long()
        is_known = ((domain >= 0) & (domain < count)).all()
        if domain.device.type != "cpu":  # without stopping the device
            torch._assert_async(is_known)
        elif not is_known:
            low, high = (int(value) for value in domain.aminmax())
            raise ValueError(
                f"label `{label}` must be in [0, {count}), the domains of pepnet.task_domain_num, "
                f"but is {low if low < 0 else high} in some row; raise task_domain_num"
            )
        return domain
