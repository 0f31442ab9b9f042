"""Features as N vectors of one width D, between which DLRM and Wukong look for interactions."""

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.models.layers import required_mlp, same_width
from trainer.protos import pipeline_pb2 as pb


class FeatureTokens(nn.Module):
    """The features of the group `sparse`, after what an MLP makes of the group `dense`.

    A group that stands alone is the sparse one, whatever its name.

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
            self.dense_mlp, dense_width = required_mlp(sum(widths["dense"]), config, "dense_mlp")
            self.count += 1
            if dense_width != self.width:
                raise ConfigError(
                    f"{config.DESCRIPTOR.name}.dense_mlp.hidden_units must end with the width of "
                    f"the features of group `sparse`, {self.width}, but ends with: {dense_width}"
                )

    def forward(self, groups: dict[str, Tensor]) -> Tensor:
        """[B, N, D], the dense features first."""
        tokens = groups[self.sparse].unflatten(1, (-1, self.width))
        if self.dense_mlp is None:
            return tokens
        return torch.cat([self.dense_mlp(groups["dense"])[:, None], tokens], dim=1)
