"""Building blocks that the models share.

B rows, D width of a feature group.
"""

import torch
from google.protobuf.message import Message
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType

from trainer.batch import SessionBatch
from trainer.collectives import all_reduce_with_grad
from trainer.config import ConfigError
from trainer.features import Feature, IdFeature, RawFeature
from trainer.protos import pipeline_pb2 as pb


class FeatureGroups(nn.Module):
    """Embeds the id features and lays each feature group side by side.

    The tables are made on the meta device: sharding gives each rank the memory of its part.
    """

    def __init__(self, features: list[Feature], groups: list[pb.FeatureGroupConfig]) -> None:
        super().__init__()
        self.by_name = {feature.name: feature for feature in features}
        self.raw_features = [f for f in features if isinstance(f, RawFeature)]
        self.id_features = [f for f in features if isinstance(f, IdFeature)]
        self.groups = {group.group_name: list(group.feature_names) for group in groups}
        self.embeddings = (
            EmbeddingBagCollection(
                tables=embedding_tables(self.id_features), device=torch.device("meta")
            )
            if self.id_features
            else None
        )

    @property
    def widths(self) -> dict[str, int]:
        """D of each group."""
        return {group: sum(map(self._width, names)) for group, names in self.groups.items()}

    def _width(self, name: str) -> int:
        feature = self.by_name[name]
        return feature.embedding_dim if isinstance(feature, IdFeature) else feature.dim

    def forward(self, batch: SessionBatch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Each group's features side by side, [B, D], and all pooled embeddings, [B, E]."""
        dense = batch.dense.split([f.dim for f in self.raw_features], dim=1)
        parts = {f.name: part for f, part in zip(self.raw_features, dense, strict=True)}
        pooled = None
        if self.embeddings is not None:
            keyed = self.embeddings(batch.ids)  # its keys stand in the order of the shards
            pooled = keyed.values()
            ids = pooled.split(keyed.length_per_key(), dim=1)
            parts |= dict(zip(keyed.keys(), ids, strict=True))
        groups = {
            group: torch.cat([parts[name] for name in names], dim=1)
            for group, names in self.groups.items()
        }
        return groups, pooled


def embedding_tables(features: list[IdFeature]) -> list[EmbeddingBagConfig]:
    """One table per embedding name, with all features that share it."""
    sharing: dict[str, list[IdFeature]] = {}
    for feature in features:
        sharing.setdefault(feature.table, []).append(feature)
    return [
        EmbeddingBagConfig(
            name=table,
            embedding_dim=users[0].embedding_dim,
            num_embeddings=users[0].num_embeddings,
            feature_names=[feature.name for feature in users],
            pooling=PoolingType.SUM if users[0].pooling == "sum" else PoolingType.MEAN,
        )
        for table, users in sharing.items()
    ]


def mlp(in_width: int, config: pb.MLP) -> tuple[nn.Module, int]:
    """Linear -> normalisation -> activation -> dropout, per hidden unit; and the output width."""
    dropouts = list(config.dropout_ratio) or [0.0]
    if len(dropouts) == 1:
        dropouts *= len(config.hidden_units)
    if len(dropouts) != len(config.hidden_units) or not config.hidden_units:
        raise ConfigError(
            f"mlp: dropout_ratio must have one value or one per hidden_units "
            f"({len(config.hidden_units)}), but has {len(config.dropout_ratio)}"
        )
    if config.use_bn and config.use_ln:
        raise ConfigError("mlp: only one of use_bn and use_ln can be true, but both are")
    layers: list[nn.Module] = []
    for width, dropout in zip(config.hidden_units, dropouts, strict=True):
        layers.append(nn.Linear(in_width, width, bias=config.bias and not config.use_bn))
        if config.use_bn:
            layers.append(GlobalBatchNorm(width))
        if config.use_ln:
            layers.append(nn.LayerNorm(width))
        if config.activation:
            layers.append(_activation(config.activation))
        if dropout:
            layers.append(nn.Dropout(dropout))
        in_width = width
    return nn.Sequential(*layers), in_width


def optional_mlp(in_width: int, owner: Message, field: str) -> tuple[nn.Module, int]:
    """The MLP of a config's field, or the identity where it is not set."""
    if not owner.HasField(field):
        return nn.Identity(), in_width
    return mlp(in_width, getattr(owner, field))


class GlobalBatchNorm(nn.Module):
    """Batch normalisation over the rows of the *global* batch, however they lie on the ranks.

    Like nn.BatchNorm1d on all rows at once; running statistics are the same on every rank. Ranks
    may have any number of rows, none included.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_variance", torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise [B, D]; counts and sums of rows are in float32 whatever the type."""
        kept, features = features.dtype, features.float()
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            sums = torch.cat([features.sum(0), features.new_tensor([float(len(features))])])
            sums = all_reduce_with_grad(sums)
            count = sums[-1].detach().clamp(min=1)
            mean = sums[:-1] / count
            variance = all_reduce_with_grad((features - mean).square().sum(0)) / count
            with torch.no_grad():
                unbiased = variance * count / (count - 1).clamp(min=1)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_variance.lerp_(unbiased, self.momentum)
        normal = (features - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normal.to(kept)


_ACTIVATIONS = {
    "nn.ReLU": nn.ReLU,
    "nn.GELU": nn.GELU,
    "nn.SiLU": nn.SiLU,
    "nn.LeakyReLU": nn.LeakyReLU,
    "nn.Tanh": nn.Tanh,
    "nn.Sigmoid": nn.Sigmoid,
}


def _activation(name: str) -> nn.Module:
    if name not in _ACTIVATIONS:
        raise ConfigError(
            f"mlp.activation must be one of {', '.join(_ACTIVATIONS)}, but got: `{name}`"
        )
    return _ACTIVATIONS[name]()
