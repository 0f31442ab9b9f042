"""A config's feature_configs as Features: columns, defaults, codings; and what is wrong."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from preprocessing.normalizer import Normalizer
from trainer.config import ConfigError, read_groups
from trainer.data.computed_config import column_of, is_computed, plain, source_of
from trainer.data.features import (
    Boundaries,
    Coding,
    Combination,
    Feature,
    Formula,
    Hashed,
    IdFeature,
    Ids,
    NumberEmbedding,
    RawFeature,
    Sequence,
    Source,
    ZeroCollision,
)
from trainer.data.vocabulary import read_vocabulary
from trainer.protos import pipeline_pb2 as pb


def parse_features(config: pb.EasyRecConfig) -> list[Feature]:
    """All features of a config, in its order. Raises ConfigError for faulty ones."""
    by_name: dict[str, Feature] = {}
    for kind, message, sequence in _entries(config):
        feature = _Entry(kind, plain(kind, message), message, sequence, config.data_config).parse()
        if feature.name in by_name:
            raise ConfigError(f"feature_name must be unique, but `{feature.name}` is twice")
        by_name[feature.name] = feature
    _check_constraints(list(by_name.values()))
    return list(by_name.values())


def used_features(config: pb.EasyRecConfig) -> list[Feature]:
    """The features that the model's feature groups name; the others are not read."""
    used: set[str] = set()
    for group in read_groups(config.model_config):
        used.update(group.feature_names)
        for sequence in group.sequence_groups:
            used.update(sequence.feature_names)
    found = [feature for feature in parse_features(config) if feature.name in used]
    return _weighted_together(found)


def _entries(
    config: pb.EasyRecConfig,
) -> Iterable[tuple[str, Any, pb.SequenceFeature | None]]:
    """Kind and message of each feature, and the grouped sequence that it stands in."""
    for entry in config.feature_configs:
        kind = entry.WhichOneof("feature")
        if kind is None:
            known = ", ".join(field.name for field in entry.DESCRIPTOR.fields)
            raise ConfigError(f"each feature_configs must hold one of {known}")
        if kind != "sequence_feature":
            yield kind, getattr(entry, kind), None
            continue
        group = entry.sequence_feature
        if not group.sequence_name or not group.features:
            raise ConfigError("each sequence_feature must have sequence_name and features")
        for member in group.features:
            kind = member.WhichOneof("feature")
            if kind is None:
                known = ", ".join(field.name for field in member.DESCRIPTOR.fields)
                raise ConfigError(
                    f"each features of sequence_feature `{group.sequence_name}` must hold "
                    f"one of {known}"
                )
            yield kind, getattr(member, kind), group


@dataclass(frozen=True)
class _Entry:
    """One feature of a config on its way to a Feature.

    `written` is what the config has; `message` the same, or what it is once it is computed.
    """

    kind: str
    message: Any
    written: Any
    group: pb.SequenceFeature | None
    data: pb.DataConfig

    def parse(self) -> Feature:
        if not self.message.feature_name:
            raise ConfigError(
                f"feature_configs.{self.kind}.feature_name must be set, but is missing"
            )
        for name in (self.name, self.message.embedding_name):
            if "." in name:  # it becomes part of a parameter's name
                raise ConfigError(f"feature and embedding names must have no dot, but got: {name}")
        self._check_unused()
        if not self._separator() or (self.sequence is not None and not self.sequence.delimiter):
            raise self.error("separators and sequence_delim must have a character, but are empty")
        return self._raw() if self._is_number() else self._id()

    @property
    def name(self) -> str:
        return self._prefixed(self.message.feature_name)

    @property
    def is_encoded(self) -> bool:
        return self.data.fg_mode == pb.FG_NONE

    @property
    def is_ready(self) -> bool:
        """Whether there is a column of the feature's name, with what was computed or normalized."""
        return self.data.fg_mode in (pb.FG_NONE, pb.FG_BUCKETIZE)

    @property
    def sequence(self) -> Sequence | None:
        if self.group is not None:
            group = self.group
            return Sequence(group.sequence_name, group.sequence_length, group.sequence_delim)
        if not self.kind.startswith("sequence_"):
            return None
        return Sequence(self.name, self.message.sequence_length, self.message.sequence_delim)

    def _check_unused(self) -> None:
        """What is set must have an effect."""
        message = self.message
        if self.sequence is None and message.HasField("sequence_length"):
            raise self.error(
                "sequence_length takes effect in sequence_id_feature and sequence_raw_feature "
                "alone; remove it"
            )
        if isinstance(message, pb.RawFeature):
            chosen = message.WhichOneof("dense_emb")
            if chosen and (message.boundaries or self.sequence is not None):
                raise self.error(
                    f"{chosen} takes effect without boundaries and outside sequences alone; "
                    f"remove it"
                )

    def _is_number(self) -> bool:
        return isinstance(self.message, pb.RawFeature) and not self.message.boundaries

    def error(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.kind} `{self.name}`: {reason}")

    def _prefixed(self, name: str) -> str:
        return name if self.group is None else f"{self.group.sequence_name}__{name}"

    def _column(self) -> str:
        """Encoded data has a column per feature; raw data the one after "side:" in `expression`."""
        source, expression = self.source, self.message.expression
        if isinstance(source, Combination):
            return f"{self.name} = {' x '.join(source.columns)}"
        if isinstance(source, Formula):
            return f"{self.name} = {source.expression.text}"
        if self.is_ready or not expression:
            return self.name
        try:
            return self._prefixed(column_of(expression, "expression"))
        except ValueError as error:
            raise self.error(str(error)) from None

    @cached_property
    def source(self) -> Source | None:
        """What it is computed of, if that is not done."""
        if self.is_ready or not is_computed(self.kind):
            return None
        if self.sequence is not None:
            raise self.error("in a sequence it cannot be computed here; set fg_mode: FG_NONE")
        try:
            return source_of(self.kind, self.written)
        except ValueError as error:
            raise self.error(str(error)) from None

    def _normalizer(self) -> Normalizer | None:
        if not self.message.normalizer:
            return None
        try:
            normalizer = Normalizer.parse(self.message.normalizer)
        except ValueError as error:
            raise self.error(str(error)) from None
        return None if self.is_ready else normalizer

    def _separator(self) -> str:
        return self.data.fg_encoded_multival_sep if self.is_encoded else self.message.separator

    def _default_values(self) -> tuple[str, ...]:
        """As text."""
        message, separator = self.message, self._separator()
        text = message.fg_encoded_default_value if self.is_encoded else message.default_value
        if self.is_encoded and not text and self.sequence is None and self._is_number():
            text, separator = message.default_value, message.separator
        if not self.is_encoded and not text and self.sequence is not None:
            text = "0"
        return tuple(text.split(separator)) if text else ()

    def _raw(self) -> RawFeature:
        dim = self.message.value_dim
        if dim == 0:
            raise self.error("value_dim must be positive, but got: 0")
        texts = self._default_values() or (() if self.sequence is not None else ("0",))
        try:
            numbers = tuple(map(float, texts))
            if not all(map(math.isfinite, numbers)):
                raise ValueError
        except ValueError:
            text = self._separator().join(texts)
            raise self.error(f"default_value must be a number, but got: `{text}`") from None
        if len(numbers) not in (0, 1, dim):
            raise self.error(f"default_value must have {dim} numbers, but has {len(numbers)}")
        return RawFeature(
            name=self.name,
            column=self._column(),
            dim=dim,
            default_values=numbers * dim if len(numbers) == 1 else numbers,
            normalizer=self._normalizer(),
            separator=self._separator(),
            sequence=self.sequence,
            source=self.source,
            embedding=self._number_embedding(),
        )

    def _number_embedding(self) -> NumberEmbedding | None:
        """Of `mlp` or `autodis`."""
        message, kind = self.message, self.message.WhichOneof("dense_emb")
        if kind is None:
            return None
        if message.embedding_dim == 0:
            raise self.error(f"{kind} needs an embedding_dim, but it is missing or 0")
        if kind == "mlp":
            return NumberEmbedding(message.embedding_dim)
        config = message.autodis
        if message.value_dim != 1:
            raise self.error(f"value_dim must be 1 with autodis, but got: {message.value_dim}")
        for name in ("num_channels", "temperature"):
            if not 0 < getattr(config, name) < math.inf:
                value = getattr(config, name)
                raise self.error(f"autodis.{name} must be positive, but got: {value:g}")
        return NumberEmbedding(
            message.embedding_dim, config.num_channels, config.temperature, config.keep_prob
        )

    def _id(self) -> IdFeature:
        message = self.message
        if message.embedding_dim == 0:
            raise self.error("embedding_dim must be positive, but is missing or 0")
        if message.pooling.lower() not in ("sum", "mean"):
            raise self.error(f"pooling must be sum or mean, but got: `{message.pooling}`")
        is_raw = isinstance(message, pb.RawFeature)
        coding, num_embeddings = self._boundaries() if is_raw else self._id_coding()
        return IdFeature(
            name=self.name,
            column=self._column(),
            table=message.embedding_name or f"{self.name}_emb",
            embedding_dim=message.embedding_dim,
            num_embeddings=num_embeddings,
            coding=Ids() if self.is_encoded and not isinstance(coding, ZeroCollision) else coding,
            pooling=message.pooling.lower(),
            is_weighted=not is_raw and self._is_weighted(),
            sequence=self.sequence,
            default_values=self._default_values(),
            separator=self._separator(),
            max_values=self._max_values(is_raw),
            init_fn=message.init_fn,
            constraints=(
                message.embedding_constraints if message.HasField("embedding_constraints") else None
            ),
            source=self.source,
            pools_items=not is_raw and self._pools_items(),
            trainable=message.trainable,
        )

    def _is_weighted(self) -> bool:
        if self.message.weighted and self.sequence is not None:
            raise self.error("weighted must be false in a sequence, whose values are not pooled")
        return self.message.weighted

    def _max_values(self, is_raw: bool) -> int:
        dim = self.message.value_dim
        if self.sequence is None:
            return 0 if is_raw else dim
        if not is_raw and self._pools_items():
            return dim
        return 0 if self.is_encoded else 1

    def _pools_items(self) -> bool:
        """In a sequence an item has one id, unless value_dim says otherwise."""
        has_dim = self.message.HasField("value_dim")
        return self.sequence is not None and has_dim and self.message.value_dim != 1

    def _boundaries(self) -> tuple[Boundaries, int]:
        limits = tuple(self.message.boundaries)
        if list(limits) != sorted(set(limits)) or not all(map(math.isfinite, limits)):
            raise self.error("boundaries must be finite numbers that rise, and differ as float32")
        return Boundaries(limits, self._normalizer()), len(limits) + 1

    def _id_coding(self) -> tuple[Coding, int]:
        """How values become ids, and the rows of the table."""
        message = self.message
        sizes = {
            "num_buckets": message.num_buckets,
            "hash_bucket_size": message.hash_bucket_size,
            "vocab_list": len(message.vocab_list),
            "vocab_dict": len(message.vocab_dict),
            "vocab_file": len(message.vocab_file),
            "zch": message.HasField("zch"),
        }
        chosen = [name for name, size in sizes.items() if size]
        if len(chosen) != 1:
            raise self.error(
                f"exactly one of num_buckets and hash_bucket_size, vocab_list, vocab_dict, "
                f"vocab_file, zch must be set, but got: {', '.join(chosen) or 'none'}"
            )
        if chosen == ["zch"]:
            return self._zero_collision(), message.zch.zch_size
        if chosen == ["num_buckets"]:
            return Ids(), message.num_buckets
        if chosen == ["hash_bucket_size"]:
            return Hashed(), message.hash_bucket_size
        try:
            default = message.default_value or ("0" if self.sequence is not None else "")
            vocabulary = read_vocabulary(message, default)
        except ValueError as error:
            raise self.error(str(error)) from None
        return vocabulary, vocabulary.size

    def _zero_collision(self) -> ZeroCollision:
        zch = self.message.zch
        for name in ("zch_size", "eviction_interval"):
            if getattr(zch, name) == 0:
                raise self.error(f"zch.{name} must be positive, but is missing or 0")
        policy = zch.WhichOneof("eviction_policy")
        if policy is None:
            raise self.error("zch must have one of lfu, lru, distance_lfu, but has none")
        if self.message.weighted:
            raise self.error("weighted must be false with zch, which has no weights")
        if not self.message.trainable:
            raise self.error("trainable must be true with zch, which gives rows to new values")
        exponent = getattr(getattr(zch, policy), "decay_exponent", 1.0)
        return ZeroCollision(policy, exponent, zch.eviction_interval)


def _check_constraints(features: list[Feature]) -> None:
    """Those of one embedding_name must be equal: TorchRec's planner has one entry a table name.

    What else must be equal, trainer/models/lookups.py checks.
    """
    constrained: dict[str, IdFeature] = {}  # features without constraints leave the table's alone
    for feature in features:
        if isinstance(feature, IdFeature) and feature.constraints is not None:
            first = constrained.setdefault(feature.table, feature)
            told = [" ".join(str(each.constraints).split()) for each in (first, feature)]
            if told[0] != told[1]:
                raise ConfigError(
                    f"id_features `{first.name}` and `{feature.name}` share embedding_name "
                    f"`{feature.table}`, so their embedding_constraints must be equal, "
                    f"but got: {told[0]} and {told[1]}"
                )


def _weighted_together(features: list[Feature]) -> list[Feature]:
    """Features that share a table with one of weighted values join its collection."""
    ids = [each for each in features if isinstance(each, IdFeature)]
    tables = {each.table for each in ids if each.is_weighted}

    def joins(feature: IdFeature) -> bool:
        is_pooled = feature.sequence is None and feature.zch is None
        return is_pooled and not feature.is_weighted and feature.table in tables

    return [
        replace(each, joins_weighted=True) if isinstance(each, IdFeature) and joins(each) else each
        for each in features
    ]
