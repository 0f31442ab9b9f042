"""PLE (Tang et al., RecSys 2020): experts of each task besides shared ones, in layers.

              +-> experts of task 1 --+-> gate 1 ----> task 1's input of the next layer
   task 1's  -+                       |
   shared    ---> shared experts -----+-> gate shared -> shared input (of all experts)
   task 2's  -+                       |
              +-> experts of task 2 --+-> gate 2 ----> task 2's input of the next layer

A task's gate sees the task's own and the shared experts. The last layer has no shared gate: its
gates' outputs go to the towers.
"""

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.models.experts import mixture
from trainer.models.layers import TaskTowers, each_output, required_mlp
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class ExtractionNetwork(nn.Module):
    """One layer; `width` of every output.

    Args:
        in_width: of the tasks' inputs and of the shared one.
        is_last: whether there is no shared output.
    """

    def __init__(
        self, in_width: int, config: pb.ExtractionNetwork, num_tasks: int, is_last: bool
    ) -> None:
        super().__init__()
        own, shared = config.expert_num_per_task, config.share_num
        if own < 1:
            raise ConfigError(
                "extraction_networks.expert_num_per_task must be positive, but is missing or 0"
            )
        self.experts = nn.ModuleList(
            _experts(in_width, config, "task_expert_net", own) for _ in range(num_tasks)
        )
        self.shared_experts = _experts(in_width, config, "share_expert_net", shared)
        self.gates = nn.ModuleList(nn.Linear(in_width, own + shared) for _ in range(num_tasks))
        self.shared_gate = None if is_last else nn.Linear(in_width, own * num_tasks + shared)
        self.width = config.task_expert_net.hidden_units[-1]
        if shared and config.share_expert_net.hidden_units[-1] != self.width:
            raise ConfigError(
                f"extraction_networks: task_expert_net and share_expert_net must end with the same "
                f"hidden_units, but end with: {self.width} and "
                f"{config.share_expert_net.hidden_units[-1]}"
            )

    def forward(
        self, inputs: list[Tensor], shared_input: Tensor
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Outputs per task and the shared one, [B, D] each, and what the shared experts gave."""
        shared = each_output(self.shared_experts, shared_input)
        own = [
            each_output(experts.children(), x)
            for x, experts in zip(inputs, self.experts, strict=True)
        ]
        outputs = [
            mixture(gate(x), torch.stack(mine + shared, dim=1))
            for x, mine, gate in zip(inputs, own, self.gates, strict=True)
        ]
        if self.shared_gate is not None:
            everyone = torch.stack([each for mine in own for each in mine] + shared, dim=1)
            shared_input = mixture(self.shared_gate(shared_input), everyone)
        return outputs, shared_input, shared


class PLE(nn.Module):
    """Tasks in the order of their towers; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.PLE, tasks: list[Task]
    ) -> None:
        super().__init__()
        ((self.group, features),) = widths.items()
        width, count = sum(features), len(config.extraction_networks)
        self.num_tasks = len(tasks)
        if not count:
            raise ConfigError("PLE.extraction_networks must have at least one, but has none")
        self.networks = nn.ModuleList()
        for number, network in enumerate(config.extraction_networks, start=1):
            layer = ExtractionNetwork(width, network, len(tasks), is_last=number == count)
            self.networks.append(layer)
            width = layer.width
        self.towers = TaskTowers(width, config.task_towers, tasks)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Logits per task, and what the last layer's shared experts gave, if it has any."""
        shared_input = groups[self.group]
        inputs, shared = [shared_input] * self.num_tasks, []
        for network in self.networks:
            inputs, shared_input, shared = network(inputs, shared_input)
        return self.towers(inputs), torch.stack(shared, dim=1) if shared else None


def _experts(in_width: int, config: pb.ExtractionNetwork, field: str, count: int) -> nn.ModuleList:
    return nn.ModuleList(required_mlp(in_width, config, field)[0] for _ in range(count))
