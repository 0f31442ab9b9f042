"""Embeddings of numbers: `mlp {}` and `autodis {}` of raw features. B rows, D width.

Their parameters are dense, a module per feature, which all groups share that name the feature.
"""

import math
from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.data.features import NumberEmbedding, RawFeature
from trainer.models.lookups import Lookup


class Projection(nn.Module):
    """`mlp {}`: x W of V numbers a row, W [V, D]."""

    def __init__(self, num_values: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_values, width, bias=False)
        nn.init.xavier_normal_(self.linear.weight)

    def forward(self, numbers: Tensor) -> Tensor:
        """[B, D] of [B, V]."""
        return self.linear(numbers)


class AutoDis(nn.Module):
    """`autodis {}` (Guo et al., arXiv 2012.08986): a soft choice among C embeddings of a number.

    h = leaky_relu(w x)    p = softmax((M h + keep_prob h) / temperature)    embedding = p E
    with w [C, 1], M [C, C], E [C, D].
    """

    def __init__(self, config: NumberEmbedding) -> None:
        super().__init__()
        channels = config.num_channels
        self.keep_prob, self.temperature = config.keep_prob, config.temperature
        self.spread = nn.Linear(1, channels, bias=False)  # w
        self.mix = nn.Linear(channels, channels, bias=False)  # M
        self.embeddings = nn.Linear(channels, config.width, bias=False)  # E^T
        nn.init.normal_(self.spread.weight, std=math.sqrt(2 / (1 + channels)))
        nn.init.normal_(self.mix.weight, std=math.sqrt(1 / channels))
        nn.init.normal_(self.embeddings.weight)

    def forward(self, numbers: Tensor) -> Tensor:
        """[B, D] of [B, 1]."""
        hidden = F.leaky_relu(self.spread(numbers))  # [B, C]
        scores = self.mix(hidden) + self.keep_prob * hidden
        return self.embeddings((scores / self.temperature).softmax(dim=1))


class NumberEmbeddings(nn.ModuleDict):
    """The modules of all raw features that have one, by `FEATURE_emb`."""

    def __init__(self, lookups: Iterable[Lookup]) -> None:
        found = {}
        for feature in (lookup.feature for lookup in lookups):
            if isinstance(feature, RawFeature) and feature.embedding is not None:
                found[f"{feature.name}_emb"] = _module(feature.dim, feature.embedding)
        super().__init__(found)

    def of(self, lookup: Lookup, rows: Tensor) -> Tensor:
        """What a group sees of a lookup's rows, [B, D] of [B, V]: the rows where it has none."""
        name = f"{lookup.feature.name}_emb"
        return self[name](rows) if name in self else rows


def _module(num_values: int, config: NumberEmbedding) -> nn.Module:
    return AutoDis(config) if config.num_channels else Projection(num_values, config.width)
