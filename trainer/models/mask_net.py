"""MaskNet (Wang et al., arXiv 2102.07619): masks made of all features multiply the features.

features ---------------------------------+
   |                                      |  (each block: the mask of these)
   +-> LayerNorm -+-> mask block 1 -+     |
                  +-> mask block 2 -+-> top MLP -> logits       parallel
                  +-> mask block 3 -+

   +-> LayerNorm -> block 1 -> block 2 -> block 3 -> top MLP    serial
"""

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.models.layers import optional_mlp
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class MaskBlock(nn.Module):
    """ReLU(LayerNorm(W (x * mask))), with mask = a two-layer MLP of the features.

    Args:
        in_width: of x.
        mask_width: of the features.
    """

    def __init__(self, in_width: int, mask_width: int, config: pb.MaskBlock) -> None:
        super().__init__()
        by_ratio = config.reduction_ratio != 0 and (
            config.HasField("reduction_ratio") or not config.aggregation_dim
        )
        between = int(in_width * config.reduction_ratio) if by_ratio else config.aggregation_dim
        for name, value in (
            ("hidden_dim", config.hidden_dim),
            ("reduction_ratio or aggregation_dim", between),
        ):
            if value < 1:
                raise ConfigError(f"mask_block.{name} must give a width of at least 1")
        self.mask = nn.Sequential(
            nn.Linear(mask_width, between), nn.ReLU(), nn.Linear(between, in_width)
        )
        self.hidden = nn.Sequential(
            nn.Linear(in_width, config.hidden_dim), nn.LayerNorm(config.hidden_dim), nn.ReLU()
        )

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """[B, hidden_dim] from x [B, in_width] and all features [B, mask_width]."""
        return self.hidden(x * self.mask(features))


class MaskBlocks(nn.Module):
    """Mask blocks side by side or one after the other, and an MLP on top; `width` of the output."""

    def __init__(self, in_width: int, config: pb.MaskNetModule) -> None:
        super().__init__()
        if config.n_mask_blocks < 1:
            raise ConfigError("mask_net_module.n_mask_blocks must be positive, but is missing or 0")
        self.is_parallel = config.use_parallel
        self.norm = nn.LayerNorm(in_width)
        self.blocks, width = nn.ModuleList(), in_width
        for _ in range(config.n_mask_blocks):
            self.blocks.append(MaskBlock(width, in_width, config.mask_block))
            width = in_width if self.is_parallel else config.mask_block.hidden_dim
        hidden = config.mask_block.hidden_dim
        width = hidden * config.n_mask_blocks if self.is_parallel else hidden
        self.top, self.width = optional_mlp(width, config, "top_mlp")

    def forward(self, features: Tensor) -> Tensor:
        """[B, width] from [B, in_width]."""
        x = self.norm(features)
        if self.is_parallel:
            x = torch.cat([block(x, features) for block in self.blocks], dim=1)
        else:
            for block in self.blocks:
                x = block(x, features)
        return self.top(x)


class MaskNet(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.MaskNet, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        ((self.group, features),) = widths.items()
        self.blocks = MaskBlocks(sum(features), config.mask_net_module)
        self.output = nn.Linear(self.blocks.width, self.task.num_class, bias=False)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        return {self.task.name: self.output(self.blocks(groups[self.group]))}, None
