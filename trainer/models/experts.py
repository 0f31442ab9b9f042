"""Mixtures of experts: MMoE (Ma et al., KDD 2018)."""

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.models.layers import each_output, optional_mlp, required_mlp
from trainer.protos import pipeline_pb2 as pb


class MixtureOfExperts(nn.Module):
    """A softmax gate per task over X shared experts; `width` of the mixtures."""

    def __init__(self, in_width: int, config: pb.MMoE | pb.DBMTL, num_tasks: int) -> None:
        super().__init__()
        if config.num_expert < 1:
            raise ConfigError(f"{config.DESCRIPTOR.name}.num_expert must be positive, but is 0")
        experts = [required_mlp(in_width, config, "expert_mlp") for _ in range(config.num_expert)]
        self.experts = nn.ModuleList(expert for expert, _ in experts)
        self.width = experts[0][1]
        self.gates = nn.ModuleList()
        for _ in range(num_tasks):
            hidden, width = optional_mlp(in_width, config, "gate_mlp")
            self.gates.append(nn.Sequential(hidden, nn.Linear(width, config.num_expert)))

    def forward(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """One mixture per task, [B, D] each, and what the experts gave, [B, X, D]."""
        outputs = torch.stack(each_output(self.experts, features), dim=1)  # [B, X, D]
        return [mixture(gate(features), outputs) for gate in self.gates], outputs


def mixture(scores: Tensor, experts: Tensor) -> Tensor:
    """Experts [B, X, D] weighted by the softmax of their scores [B, X]; [B, D]."""
    return torch.einsum("bx,bxd->bd", scores.softmax(dim=1), experts)
