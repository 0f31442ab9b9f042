"""DCN: explicit crosses of features, one degree more a layer.

V1 (Wang et al., ADKDD 2017):       V2 (Wang et al., WWW 2021), W_l = V U of low rank:

features -+-> cross ---+            features -+-> [backbone] -> cross -+
          |            +-> final              |                       +-> final -> logits
          +-> deep MLP-+                      +-> [deep MLP] ---------+

x_{l+1} = x_0 (w_l . x_l) + b_l + x_l         x_{l+1} = x_0 * (W_l x_l + b_l) + x_l
"""

import torch
from torch import Tensor, nn
from torchrec.modules.crossnet import LowRankCrossNet, VectorCrossNet

from trainer.config import ConfigError
from trainer.models.layers import optional_mlp, required_mlp
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class DCNV1(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.DCNV1, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        ((self.group, features),) = widths.items()
        in_width = sum(features)
        self.cross = VectorCrossNet(in_width, config.cross.cross_num)
        self.deep, width = required_mlp(in_width, config, "deep")
        self.final, width = required_mlp(in_width + width, config, "final")
        self.output = nn.Linear(width, self.task.num_class, bias=False)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        features = groups[self.group]
        joined = torch.cat([self.cross(features), self.deep(features)], dim=1)
        return {self.task.name: self.output(self.final(joined))}, None


class DCNV2(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.DCNV2, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        ((self.group, features),) = widths.items()
        if config.cross.low_rank < 1:
            raise ConfigError("CrossV2.low_rank must be positive, but got: 0")
        self.backbone, width = optional_mlp(sum(features), config, "backbone")
        self.cross = LowRankCrossNet(width, config.cross.cross_num, config.cross.low_rank)
        self.deep = None
        if config.HasField("deep"):
            self.deep, deep_width = required_mlp(sum(features), config, "deep")
            width += deep_width
        self.final, width = required_mlp(width, config, "final")
        self.output = nn.Linear(width, self.task.num_class, bias=False)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        features = groups[self.group]
        joined = self.cross(self.backbone(features))
        if self.deep is not None:
            joined = torch.cat([joined, self.deep(features)], dim=1)
        return {self.task.name: self.output(self.final(joined))}, None
