"""Simple multi-task: one input, an MLP per task.

          +-> MLP 1 -> logits 1
features -+
          +-> MLP 2 -> logits 2
"""

from torch import Tensor, nn

from trainer.models.layers import optional_mlp
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class SimpleMultiTask(nn.Module):
    """Tasks that share the embeddings alone; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, int], config: pb.SimpleMultiTask, tasks: list[Task]
    ) -> None:
        super().__init__()
        (self.group,) = widths
        self.towers = nn.ModuleDict()
        for task, tower in zip(tasks, config.task_towers, strict=True):
            hidden, width = optional_mlp(widths[self.group], tower, "mlp")
            self.towers[task.name] = nn.Sequential(hidden, nn.Linear(width, task.num_class))

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: they share the embeddings alone."""
        features = groups[self.group]
        return {name: tower(features) for name, tower in self.towers.items()}, None
