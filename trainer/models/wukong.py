"""Wukong (Zhang et al., ICML 2024): stacked factorization machines.

dense -> dense MLP -+              +-> FM block --------+
                    +-> [B, N, D] -+-> linear compress -+-> + -> LayerNorm -> next layer, or
sparse -------------+              +-> residual ------------+                 final MLP -> logits
"""

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.models.layers import required_mlp
from trainer.models.tokens import FeatureTokens
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class LinearCompress(nn.Module):
    """`out` linear combinations of the N tokens: [B, N, D] -> [B, out, D]."""

    def __init__(self, count: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, out))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Combine."""
        return self.weight.t() @ tokens


class FactorizationMachineBlock(nn.Module):
    """Inner products of N tokens with C combinations of them, and an MLP: [B, N, D] -> [B, out, D].

    X (X^T W) costs N * C * D where all pairs, X X^T, cost N^2 * D.
    """

    def __init__(self, width: int, count: int, config: pb.WuKongLayer) -> None:
        super().__init__()
        self.combine = LinearCompress(count, config.compressed_feature_num)
        pairs = count * config.compressed_feature_num
        hidden, hidden_width = required_mlp(pairs, config, "feature_num_mlp")
        out = nn.Linear(hidden_width, config.fmb_feature_num * width)
        self.hidden = nn.Sequential(nn.LayerNorm(pairs), hidden, out)
        self.width = width

    def forward(self, tokens: Tensor) -> Tensor:
        """Pairs, then their MLP."""
        pairs = tokens @ self.combine(tokens).transpose(1, 2)  # [B, N, C]
        return self.hidden(pairs.flatten(1)).unflatten(1, (-1, self.width))


class WuKongLayer(nn.Module):
    """[B, N, D] -> [B, count, D], with a residual."""

    def __init__(self, width: int, num_tokens: int, config: pb.WuKongLayer) -> None:
        super().__init__()
        for name in ("lcb_feature_num", "fmb_feature_num", "compressed_feature_num"):
            if getattr(config, name) < 1:
                raise ConfigError(f"wukong_layers.{name} must be positive, but is missing or 0")
        self.count = config.fmb_feature_num + config.lcb_feature_num
        self.pairs = FactorizationMachineBlock(width, num_tokens, config)
        self.compress = LinearCompress(num_tokens, config.lcb_feature_num)
        self.residual = (
            nn.Identity() if num_tokens == self.count else LinearCompress(num_tokens, self.count)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """One layer of interactions."""
        found = torch.cat([self.pairs(tokens), self.compress(tokens)], dim=1)
        return self.norm(found + self.residual(tokens))


class WuKong(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.WuKong, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        self.tokens = FeatureTokens(widths, config)
        count, width = self.tokens.count, self.tokens.width
        self.layers = nn.Sequential()
        for layer in config.wukong_layers:
            self.layers.append(WuKongLayer(width, count, layer))
            count = layer.fmb_feature_num + layer.lcb_feature_num
        self.final, final_width = required_mlp(count * width, config, "final")
        self.output = nn.Linear(final_width, self.task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        tokens = self.layers(self.tokens(groups))
        return {self.task.name: self.output(self.final(tokens.flatten(1)))}, None
