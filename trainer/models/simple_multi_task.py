"""Simple multi-task: one input, an MLP per task.

          +-> MLP 1 -> logits 1
features -+
          +-> MLP 2 -> logits 2
"""

from torch import Tensor, nn

from trainer.models.layers import TaskTowers
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class SimpleMultiTask(nn.Module):
    """Tasks that share the embeddings alone; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.SimpleMultiTask, tasks: list[Task]
    ) -> None:
        super().__init__()
        ((self.group, features),) = widths.items()
        self.num_tasks = len(tasks)
        self.towers = TaskTowers(sum(features), config.task_towers, tasks)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: they share the embeddings alone."""
        return self.towers([groups[self.group]] * self.num_tasks), None
