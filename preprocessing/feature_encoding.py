"""Features encoded as the trainer's loader would: DataFrame functions, no Python on the executors.

Two steps, both optional. First what a flag says of a column, in its place:

    --split-values tags='|'      "a|b"  ->  ["a", "b"]; "" -> []
    --transform price=log1p      3.0    ->  1.386
    --boundaries age=18,30       17, 18, 30  ->  0, 1, 2: how many boundaries are not above it
    --vocabulary item=5          ids 1, 2, ... by falling frequency for values of 5 rows or more, 0
                                 for the others (vocabulary.py)

Then each feature of the pipeline config that a feature group uses, as a column of its own name:

    id_feature, hash_bucket_size     pmod(xxhash64(value), hash_bucket_size)
    id_feature, num_buckets          the value, which must be in [0, num_buckets)
    id_feature, vocab_list or _dict  the id of the value
    raw_feature, boundaries          how many of them are not above the normalized number
    raw_feature                      the normalized number as float; array<float> of value_dim
    combo_feature                    as an id_feature, of values of several columns joined by "_"
    expr_feature                     as a raw_feature, of an expression of several columns

Lists, and text with a `separator` in the config, become lists of ids. default_value takes the place
of no value.

A column that only features read is left out. What the trainer would refuse fails the job, with the
column, the rule and the value. Train on the result with fg_mode FG_NONE.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.feature_encoding
    from preprocessing.computed_columns import with_computed
    from preprocessing.feature_columns import encode_id, encode_raw, split
    from preprocessing.pipeline_text import Buckets, Combination, Formula, IdFeature, RawFeature
    from preprocessing.row_hash import column
else:  # run by spark-submit, see jrc_sort.py
    from computed_columns import with_computed
    from feature_columns import encode_id, encode_raw, split
    from pipeline_text import Buckets, Combination, Formula, IdFeature, RawFeature
    from row_hash import column

ID_TYPES = (T.IntegralType, T.StringType, T.BooleanType, T.DateType)
NUMBER_TYPES = (T.NumericType, T.BooleanType)
TRANSFORMS = {
    "log1p": 0,  # ln(1 + x)
    "sqrt": 0,
    "zscore": 2,  # mean, standard deviation
    "minmax": 2,  # least, greatest
}


@dataclass(frozen=True)
class Transform:
    """`log1p`, `sqrt`, `zscore:MEAN:STD` or `minmax:MIN:MAX`."""

    name: str
    numbers: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Transform:
        """A transform from a flag.

        Raises:
            ValueError: there is none of that name, or with such numbers.
        """
        name, mark, rest = text.partition(":")
        numbers = parse_numbers(rest, ":") if mark else tuple[float, ...]()
        if len(numbers) != TRANSFORMS.get(name, -1):
            raise ValueError(
                f"must be log1p, sqrt, zscore:MEAN:STD or minmax:MIN:MAX, but got {text!r}"
            )
        if (name == "zscore" and numbers[1] <= 0) or (
            name == "minmax" and numbers[0] >= numbers[1]
        ):
            raise ValueError(f"must have STD above 0, and MIN below MAX, but got {text!r}")
        return cls(name, numbers)

    def of(self, value: Column) -> Column:
        """The transformed double."""
        if self.name == "log1p":
            return F.log1p(value)
        if self.name == "sqrt":
            return F.sqrt(value)
        first, second = self.numbers
        scale = second if self.name == "zscore" else second - first
        return (value - F.lit(first)) / F.lit(scale)


@dataclass(frozen=True)
class ColumnRules:
    """What flags say of single columns."""

    separators: Mapping[str, str] = field(default_factory=dict)
    transforms: Mapping[str, Transform] = field(default_factory=dict)
    boundaries: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def parse_numbers(text: str, separator: str) -> tuple[float, ...]:
    """The numbers between separators.

    Raises:
        ValueError: one is not a finite number.
    """
    try:
        numbers = tuple(float(number) for number in text.split(separator))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"must have finite numbers between {separator!r}, but got {text!r}")
    return numbers


def encode_columns(df: DataFrame, rules: ColumnRules) -> DataFrame:
    """`df` with the columns of `rules` replaced.

    Raises:
        ValueError: a column is not there or has another type.
    """
    encoded: dict[str, Column] = {}
    for name, separator in rules.separators.items():
        _require("--split-values", df, name, (T.StringType,), "text")
        encoded[name] = split(column(name), separator)
    for name, transform in rules.transforms.items():
        _require("--transform", df, name, (T.NumericType,), "numbers")
        encoded[name] = transform.of(column(name).cast("double"))
    for name, boundaries in rules.boundaries.items():
        _require("--boundaries", df, name, (T.NumericType,), "numbers")
        encoded[name] = _bucket(encoded.get(name, column(name).cast("double")), boundaries)
    return df.withColumns(encoded) if encoded else df


def encode_features(
    df: DataFrame, features: Sequence[IdFeature | RawFeature], kept: Sequence[str]
) -> DataFrame:
    """`df` with a column per feature, without the columns that only features read.

    `kept` are columns with another purpose: keys, labels, weights.

    Raises:
        ValueError: a column is not there, has another type, or would be replaced though kept.
    """
    encoded = {}
    for feature in features:
        _require_feature_columns(df, feature)
    df = with_computed(df, features)
    for feature in features:
        kind = df.schema[feature.column].dataType
        encoded[feature.name] = (
            encode_id(kind, feature)
            if isinstance(feature, IdFeature)
            else encode_raw(kind, feature)
        )
        if feature.name in kept:
            raise ValueError(
                f"feature {feature.name!r} of --pipeline-config must not have the name of a key or "
                "label column, which it would replace; give it another feature_name"
            )
    read = {name for feature in features for name in (feature.column, *feature.columns)}
    others = [name for name in df.columns if name not in encoded]
    others = [name for name in others if name in kept or name not in read]
    return df.select(
        *(column(name) for name in others),
        *(value.alias(name) for name, value in encoded.items()),
    )


def _bucket(value: Column, boundaries: Sequence[float]) -> Column:
    """bigint: how many boundaries are not above the value; of null and NaN null."""
    count = F.size(F.filter(F.array(*map(F.lit, boundaries)), lambda limit: limit <= value))
    return F.when(value.isNotNull() & ~F.isnan(value), count.cast("bigint"))


def _require_feature_columns(df: DataFrame, feature: IdFeature | RawFeature) -> None:
    where = f"feature {feature.name!r} of --pipeline-config"
    for name in feature.columns:
        if isinstance(feature.source, Formula):
            _require(where, df, name, NUMBER_TYPES, "numbers")
        elif isinstance(feature.source, Combination):
            kind, fit = _kind(where, df, name), (T.IntegralType, T.StringType)
            _require_kind(where, name, kind, fit, "integers or text")
        else:
            _require_feature_column(where, df, feature)


def _require_feature_column(where: str, df: DataFrame, feature: IdFeature | RawFeature) -> None:
    kind = _kind(where, df, feature.column)
    if isinstance(feature, RawFeature):
        _require_kind(where, feature.column, kind, NUMBER_TYPES, "numbers")
        if feature.dim != 1 and not isinstance(kind, T.ArrayType):
            raise ValueError(
                f"{where}: column {feature.column!r} must hold lists of value_dim = {feature.dim} "
                f"numbers, but holds: {kind.simpleString()}"
            )
    elif isinstance(feature.coding, Buckets):
        _require_kind(where, feature.column, kind, NUMBER_TYPES, "numbers")
    elif feature.coding == "ids":
        _require_kind(where, feature.column, kind, (T.IntegralType, T.StringType), "integers")
    else:
        _require_kind(where, feature.column, kind, ID_TYPES, "integers or text")


def _require(
    flag: str, df: DataFrame, name: str, fit: tuple[type[T.DataType], ...], wanted: str
) -> None:
    kind = _kind(flag, df, name)
    if isinstance(kind, T.ArrayType):
        raise ValueError(f"{flag} must name a column without lists, but {name!r} has them")
    _require_kind(flag, name, kind, fit, wanted)


def _kind(where: str, df: DataFrame, name: str) -> T.DataType:
    if name not in df.columns:
        raise ValueError(
            f"{where} must read a column of the input, but there is no {name!r}. Columns: "
            f"{', '.join(df.columns)}"
        )
    return df.schema[name].dataType


def _require_kind(
    where: str, name: str, kind: T.DataType, fit: tuple[type[T.DataType], ...], wanted: str
) -> None:
    inner = kind.elementType if isinstance(kind, T.ArrayType) else kind
    if not isinstance(inner, fit):
        raise ValueError(
            f"{where} must read {wanted}, but {name!r} is a {kind.simpleString()}; cast it before, "
            "or read CSV and JSON with --schema"
        )
