"""DLRM (Naumov et al., arXiv 1906.00091): inner products of all pairs of features.

dense -> dense MLP -+-> pairs ------------+
                    |                     +-> final MLP -> logits
sparse -------------+-> the same, as is --+

Without a group `dense` the pairs are those of the sparse features. `arch_with_sparse: false` leaves
the sparse features out of what goes on as it is.
"""

import torch
from torch import Tensor, nn
from torchrec.models.dlrm import InteractionArch

from trainer.models.layers import required_mlp
from trainer.models.tokens import FeatureTokens
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


class DLRM(nn.Module):
    """One task; logits per task, [B, num_class]."""

    def __init__(
        self, widths: dict[str, tuple[int, ...]], config: pb.DLRM, tasks: list[Task]
    ) -> None:
        super().__init__()
        self.task = tasks[0]
        self.tokens = FeatureTokens(widths, config)
        count, self.width = self.tokens.count, self.tokens.width
        has_dense = self.tokens.dense_mlp is not None
        # Which tokens go on as they are.
        self.kept = count if config.arch_with_sparse else int(has_dense)
        self.interaction = InteractionArch(num_sparse_features=count - 1)
        width = count * (count - 1) // 2 + self.kept * self.width
        self.final, width = required_mlp(width, config, "final")
        self.output = nn.Linear(width, self.task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and no features that tasks share: there is one task."""
        tokens = self.tokens(groups)  # [B, N, D]
        # TorchRec's module tells one vector, the dense one, from the rest, and repeats it.
        pairs = self.interaction(tokens[:, 0], tokens[:, 1:])[:, self.width :]
        features = torch.cat([pairs, tokens[:, : self.kept].flatten(1)], dim=1)
        return {self.task.name: self.output(self.final(features))}, None
