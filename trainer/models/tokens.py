"""Features as N vectors of one width D, between which DLRM and Wukong look for interactions."""

import torch
from torch import Tensor, nn

from trainer.models.layers import required_mlp, same_width
from trainer.protos import pipeline_pb2 as pb


class FeatureTokens(nn.Module):
    """The features of the group `sparse`, after what an MLP makes of the group `dense`.

    A group that stands alone is the sparse one, whatever its name. Where the MLP ends in another
    width, a linear layer brings it to D (TorchEasyRec refuses it, but has it in an example).

    Attributes:
        count: N.
        width: D.
    """

    def __init__(self, widths: dict[str, tuple[int, ...]], config: pb.DLRM | pb.WuKong) -> None:
        super().__init__()
        self.sparse = "sparse" if len(widths) > 1 else next(iter(widths))
        self.count, self.width = len(widths[self.sparse]), same_width(widths, self.sparse)
        self.dense_mlp = None
        if len(widths) > 1:
            hidden, dense_width = required_mlp(sum(widths["dense"]), config, "dense_mlp")
            fits = dense_width == self.width
            project = nn.Identity() if fits else nn.Linear(dense_width, self.width)
            self.dense_mlp = nn.Sequential(hidden, project)
            self.count += 1

    def forward(self, groups: dict[str, Tensor]) -> Tensor:
        """[B, N, D], the dense features first."""
        tokens = groups[self.sparse].unflatten(1, (-1, self.width))
        if self.dense_mlp is None:
            return tokens
        return torch.cat([self.dense_mlp(groups["dense"])[:, None], tokens], dim=1)
