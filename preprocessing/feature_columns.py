"""A feature of the pipeline config as a Spark column: what the trainer's loader computes.

trainer/data/coding.py and trainer/data/jagged.py have the same rules in NumPy; both share
normalizer.py and vocabulary_ids.py of this folder. What the trainer would refuse fails the job.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.feature_columns
    from preprocessing.normalizer import Normalizer
    from preprocessing.pipeline_text import (
        DEFAULT_SEPARATOR,
        Buckets,
        IdFeature,
        RawFeature,
        Vocabulary,
        float32,
    )
    from preprocessing.row_hash import column
else:  # run by spark-submit, see jrc_sort.py
    from normalizer import Normalizer
    from pipeline_text import (
        DEFAULT_SEPARATOR,
        Buckets,
        IdFeature,
        RawFeature,
        Vocabulary,
        float32,
    )
    from row_hash import column

TO_DEFAULT = "write null instead to take the default"


def encode_id(kind: T.DataType, feature: IdFeature) -> Column:
    """bigint, or array<bigint> of lists and of text with a separator; no id is null or [].

    Text without a separator in the config is one id: a value with the default separator is refused.
    """
    value = column(feature.column)
    is_text = isinstance(kind, T.StringType)
    if is_text and feature.separator is not None and feature.max_values != 1:
        value, kind = split(value, feature.separator), T.ArrayType(kind)
    if isinstance(kind, T.ArrayType):
        return _encode_ids(value, kind.elementType, feature)
    if is_text:
        value = one_text(value, feature)
    known = F.when(value.isNotNull(), _encode(value, kind, feature))
    if not feature.default_values:
        return known
    if len(feature.default_values) > 1:
        raise ValueError(
            f"feature {feature.name!r} of --pipeline-config: default_value must be one value, as "
            f"column {feature.column!r} has no lists, but has {len(feature.default_values)}"
        )
    return F.coalesce(known, *_default_ids(kind, feature))


def _encode_ids(value: Column, kind: T.DataType, feature: IdFeature) -> Column:
    """Of lists; null stays null without a default value."""
    no_nulls = refuse(feature, "have no null inside its lists", F.lit("null"), "fill or drop it")
    if isinstance(kind, T.StringType):
        value = F.filter(value, lambda item: item.isNull() | (item != ""))
    if feature.max_values:
        value = F.slice(value, 1, feature.max_values)
    ids = F.transform(
        value, lambda item: F.when(item.isNull(), no_nulls).otherwise(_encode(item, kind, feature))
    )
    if not feature.default_values:
        return ids
    return F.when(F.size(ids) > 0, ids).otherwise(F.array(*_default_ids(kind, feature)))


def one_text(value: Column, feature: IdFeature) -> Column:
    """Text as one value: null where it is empty."""
    separator = feature.separator or DEFAULT_SEPARATOR
    if feature.max_values == 1:
        return F.get(split(value, separator), 0)
    cure = "split it by --split-values, or set separator"
    several = refuse(feature, "have one value a row", value, cure)
    return F.when(value.contains(separator), several).when(value != "", value)


def _encode(item: Column, kind: T.DataType, feature: IdFeature) -> Column:
    """bigint of a value that is not null."""
    coding = feature.coding
    if coding == "hash":
        return hash_id(item, kind, feature.num_embeddings)
    if isinstance(coding, Vocabulary):
        return _look_up(item.cast("string"), coding)
    if isinstance(coding, Buckets):
        return bucket(_normalized(item, coding.normalizer, feature), coding.limits)
    ids = item.try_cast("bigint")
    allowed = f"be in [0, {feature.num_embeddings})"
    return F.when((ids >= 0) & (ids < feature.num_embeddings), ids).otherwise(
        refuse(feature, allowed, item, "raise num_buckets")
    )


def _default_ids(kind: T.DataType, feature: IdFeature) -> list[Column]:
    """Of the default values, which are what the column holds; with buckets not normalized."""
    try:
        if isinstance(feature.coding, Buckets):
            numbers = (float32(float(text)) for text in feature.default_values)
            return [
                F.lit(bisect.bisect_right(feature.coding.limits, each)).cast("bigint")
                for each in numbers
            ]
        if isinstance(kind, T.IntegralType):
            return [_encode(F.lit(int(text)), kind, feature) for text in feature.default_values]
    except ValueError:
        raise ValueError(
            f"feature {feature.name!r} of --pipeline-config: default_value must be a number, but "
            f"got {' '.join(feature.default_values)!r}"
        ) from None
    return [_encode(F.lit(text), kind, feature) for text in feature.default_values]


def hash_id(value: Column, kind: T.DataType, num_buckets: int) -> Column:
    """xxhash64 modulo `num_buckets`, of integers as 8 bytes and of other values as text."""
    plain = value.cast("bigint" if isinstance(kind, T.IntegralType) else "string")
    return F.pmod(F.xxhash64(plain), F.lit(num_buckets))


def _look_up(word: Column, vocabulary: Vocabulary) -> Column:
    words, ids = (F.array(*map(F.lit, each)) for each in zip(*vocabulary.ids.items(), strict=True))
    place = F.array_position(words, word)
    return F.when(place > 0, F.get(ids, place - 1)).otherwise(vocabulary.other_id).cast("bigint")


def encode_raw(kind: T.DataType, feature: RawFeature) -> Column:
    """float, or array<float> of `dim` values; null is the default value, not normalized."""
    value = column(feature.column)

    def encode(item: Column, default: Column) -> Column:
        known = _normalized(item, feature.normalizer, feature)
        return F.when(item.isNotNull(), known).otherwise(default.cast("float"))

    if not isinstance(kind, T.ArrayType):
        return encode(value, F.lit(feature.default_values[0]))
    defaults = F.array(*map(F.lit, feature.default_values))
    wrong = refuse(feature, f"have value_dim = {feature.dim} values", F.size(value), "correct it")
    return (
        F.when(value.isNull() | (F.size(value) == 0), defaults.cast("array<float>"))
        .when(F.size(value) != feature.dim, F.array(wrong.cast("float")))
        .otherwise(F.transform(value, lambda item, place: encode(item, F.get(defaults, place))))
    )


def _normalized(
    item: Column, normalizer: Normalizer | None, feature: IdFeature | RawFeature
) -> Column:
    """float of a number that is not null, computed as a double."""
    number, rule = item.cast("double"), "be finite"
    if normalizer is not None:
        number = normalizer.evaluate(number, SPARK)
        number = (number if isinstance(number, Column) else F.lit(number)).cast("double")
        rule = f"be finite, by normalizer {normalizer.text!r}"
    number = number.cast("float")
    is_finite = F.abs(number) < F.lit(math.inf).cast("float")  # NaN is the greatest in Spark
    return F.when(is_finite, number).otherwise(refuse(feature, rule, item, TO_DEFAULT))


def bucket(value: Column, limits: Sequence[float]) -> Column:
    """bigint: how many limits are not above the float."""
    floats = F.array(*map(F.lit, limits)).cast("array<float>")
    return F.size(F.filter(floats, lambda limit: limit <= value)).cast("bigint")


def split(value: Column, separator: str) -> Column:
    """Values between separators; empty ones are none."""
    parts = F.split(value, F.lit(_literally(separator)), -1)
    return F.filter(parts, lambda part: part != "")


def _literally(separator: str) -> str:
    """A Java regex that matches `separator` alone."""
    return "".join(f"\\{c}" if not c.isalnum() and c.isascii() else c for c in separator)


def refuse(feature: IdFeature | RawFeature, rule: str, value: Column, cure: str) -> Column:
    """A null that fails the job where it is computed."""
    text = f"column {feature.column!r} of feature {feature.name!r} must {rule}, but has "
    found = F.coalesce(value.cast("string"), F.lit("null"))
    return F.raise_error(F.concat(F.lit(text), found, F.lit(f"; {cure}")))


def _of_columns(function: Callable[..., Column]) -> Callable[..., Column]:
    """The function of columns, where some arguments may be numbers."""

    def called(*arguments: Any) -> Column:
        return function(*(a if isinstance(a, Column) else F.lit(float(a)) for a in arguments))

    return called


def _as_number(truth: Column) -> Column:
    return truth.cast("double")


def _truncated(x: Column) -> Column:
    return F.when(x < 0, F.ceil(x)).otherwise(F.floor(x)).cast("double")


def _if_known(function: Callable[..., Column], a: Column, b: Column) -> Column:
    """Of two numbers; null where one is, which Spark's `least` and `greatest` leave out."""
    return F.when(a.isNotNull() & b.isNotNull(), function(a, b))


# What a normalizer's expression may call; what is not finite comes out as null.
SPARK: dict[str, Callable[..., Column]] = {
    name: _of_columns(function)
    for name, function in {
        **{name: getattr(F, name) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
        **{name: getattr(F, name) for name in ("sinh", "cosh", "tanh", "asinh", "acosh", "atanh")},
        **{name: getattr(F, name) for name in ("log2", "log10", "exp", "sqrt", "abs", "rint")},
        "log": F.log,
        "ln": F.log,
        "sign": F.signum,
        "floor": lambda x: F.floor(x).cast("double"),
        "ceil": lambda x: F.ceil(x).cast("double"),
        "trunc": _truncated,
        "round": F.round,
        "sigmoid": lambda x: 1 / (1 + F.exp(-x)),
        "min": lambda a, b: _if_known(F.least, a, b),
        "max": lambda a, b: _if_known(F.greatest, a, b),
        "neg": lambda x: -x,
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": F.try_divide,
        "^": F.pow,
        "?:": lambda condition, first, second: F.when(condition != 0, first).when(
            condition == 0, second
        ),
        "||": lambda a, b: _as_number((a != 0) | (b != 0)),
        "&&": lambda a, b: _as_number((a != 0) & (b != 0)),
        "<=": lambda a, b: _as_number(a <= b),
        ">=": lambda a, b: _as_number(a >= b),
        "<": lambda a, b: _as_number(a < b),
        ">": lambda a, b: _as_number(a > b),
        "==": lambda a, b: _as_number(a == b),
        "!=": lambda a, b: _as_number(a != b),
    }.items()
}
