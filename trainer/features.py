"""What a model reads of a row: id features (looked up in embedding tables) and raw features."""

from dataclasses import dataclass

from trainer.config import ConfigError
from trainer.protos import pipeline_pb2 as pb


@dataclass(frozen=True)
class IdFeature:
    """A categorical feature: zero, one or more ids per row, pooled to one embedding.

    With fg_mode FG_NONE the column holds ids of the table; otherwise hash_bucket_size hashes
    whatever integers or strings it holds.
    """

    name: str
    column: str
    table: str
    embedding_dim: int
    num_embeddings: int
    is_hashed: bool
    pooling: str
    constraints: pb.ParameterConstraints | None = None


@dataclass(frozen=True)
class RawFeature:
    """A numeric feature of `dim` float32 values; `default_value` takes the place of a null."""

    name: str
    column: str
    dim: int
    default_value: float


Feature = IdFeature | RawFeature


def parse_features(config: pb.EasyRecConfig) -> list[Feature]:
    """All features of a config, in its order. Raises ConfigError for faulty ones."""
    by_name: dict[str, Feature] = {}
    is_encoded = config.data_config.fg_mode == pb.FG_NONE
    for entry in config.feature_configs:
        kind = entry.WhichOneof("feature")
        if kind is None:
            raise ConfigError("each feature_configs must hold id_feature or raw_feature")
        feature = getattr(entry, kind)
        if not feature.feature_name:
            raise ConfigError(f"feature_configs.{kind}.feature_name must be set, but is missing")
        for name in (feature.feature_name, getattr(feature, "embedding_name", "")):
            if "." in name:  # it becomes part of a parameter's name
                raise ConfigError(f"feature and embedding names must have no dot, but got: {name}")
        if feature.feature_name in by_name:
            raise ConfigError(f"feature_name must be unique, but `{feature.feature_name}` is twice")
        column = _column(feature, is_encoded)
        by_name[feature.feature_name] = (
            _parse_id(feature, column, is_encoded)
            if kind == "id_feature"
            else _parse_raw(feature, column)
        )
    _check_shared_tables(list(by_name.values()))
    return list(by_name.values())


def used_features(config: pb.EasyRecConfig) -> list[Feature]:
    """The features that some feature group names; the others are not read."""
    used = {name for group in config.model_config.feature_groups for name in group.feature_names}
    return [feature for feature in parse_features(config) if feature.name in used]


def _column(feature: pb.IdFeature | pb.RawFeature, is_encoded: bool) -> str:
    """Encoded data has a column per feature; raw data the one after "side:" in `expression`."""
    if is_encoded or not feature.expression:
        return feature.feature_name
    return feature.expression.rsplit(":", 1)[-1]


def _parse_id(feature: pb.IdFeature, column: str, is_encoded: bool) -> IdFeature:
    where = f"id_feature `{feature.feature_name}`"
    if feature.embedding_dim == 0:
        raise ConfigError(f"{where}: embedding_dim must be positive, but is missing or 0")
    if bool(feature.num_buckets) == bool(feature.hash_bucket_size):
        raise ConfigError(
            f"{where}: exactly one of num_buckets and hash_bucket_size must be positive, but got: "
            f"num_buckets {feature.num_buckets}, hash_bucket_size {feature.hash_bucket_size}"
        )
    if feature.pooling not in ("sum", "mean"):
        raise ConfigError(f"{where}: pooling must be sum or mean, but got: `{feature.pooling}`")
    return IdFeature(
        name=feature.feature_name,
        column=column,
        table=feature.embedding_name or f"{feature.feature_name}_emb",
        embedding_dim=feature.embedding_dim,
        num_embeddings=feature.num_buckets or feature.hash_bucket_size,
        is_hashed=bool(feature.hash_bucket_size) and not is_encoded,
        pooling=feature.pooling,
        constraints=(
            feature.embedding_constraints if feature.HasField("embedding_constraints") else None
        ),
    )


def _parse_raw(feature: pb.RawFeature, column: str) -> RawFeature:
    where = f"raw_feature `{feature.feature_name}`"
    if feature.value_dim == 0:
        raise ConfigError(f"{where}: value_dim must be positive, but got: 0")
    try:
        default_value = float(feature.default_value)
    except ValueError:
        raise ConfigError(
            f"{where}: default_value must be a number, but got: `{feature.default_value}`"
        ) from None
    return RawFeature(feature.feature_name, column, feature.value_dim, default_value)


def _check_shared_tables(features: list[Feature]) -> None:
    tables: dict[str, IdFeature] = {}
    for feature in features:
        if not isinstance(feature, IdFeature):
            continue
        first = tables.setdefault(feature.table, feature)
        for name in ("embedding_dim", "num_embeddings", "pooling"):
            if getattr(feature, name) != getattr(first, name):
                raise ConfigError(
                    f"id_features `{first.name}` and `{feature.name}` share embedding_name "
                    f"`{feature.table}`, so their {name} must be equal, but got: "
                    f"{getattr(first, name)} and {getattr(feature, name)}"
                )
