"""MMoE (Ma et al., KDD 2018): shared experts, mixed by a gate per task.

          +-> gate 1 --------+
          |                  v
features -+-> X experts -> mix 1 -> tower 1 -> logits 1
          |          \\---> mix 2 -> tower 2 -> logits 2
          |                  ^
          +-> gate 2 --------+
"""

from torch import Tensor, nn

from trainer.models.experts import MixtureOfExperts
from trainer.models.layers import TaskTowers
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class MMoE(nn.Module):
    """Tasks in the order of their towers; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.MMoE, tasks: list[Task]
    ) -> None:
        super().__init__()
        ((self.group, features),) = widths.items()
        self.experts = MixtureOfExperts(sum(features), config, len(tasks))
        self.towers = TaskTowers(self.experts.width, config.task_towers, tasks)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Logits per task, and what the experts gave: the features that all tasks share."""
        mixtures, experts = self.experts(groups[self.group])
        return self.towers(mixtures), experts
