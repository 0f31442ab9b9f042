"""What combo_feature and expr_feature compute of several columns, as Spark columns.

trainer/data/computed.py has the same rules in Arrow. What the trainer would refuse fails the job.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.computed_columns
    from preprocessing.feature_columns import SPARK, TO_DEFAULT, one_text, refuse, split
    from preprocessing.pipeline_text import (
        DEFAULT_SEPARATOR,
        Combination,
        Formula,
        IdFeature,
        RawFeature,
    )
    from preprocessing.row_hash import column
else:  # run by spark-submit, see jrc_sort.py
    from feature_columns import SPARK, TO_DEFAULT, one_text, refuse, split
    from pipeline_text import DEFAULT_SEPARATOR, Combination, Formula, IdFeature, RawFeature
    from row_hash import column

JOINT = "_"  # between the parts of a combination


def with_computed(df: DataFrame, features: Sequence[IdFeature | RawFeature]) -> DataFrame:
    """`df` and a column for each feature that is computed, by the feature's `column`."""
    computed: dict[str, Column] = {}
    for feature in features:
        if isinstance(feature.source, Formula):
            computed[feature.column] = _evaluated(feature, feature.source)
        elif isinstance(feature.source, Combination) and isinstance(feature, IdFeature):
            computed[feature.column] = _combined(df.schema, feature)
    return df.withColumns(computed) if computed else df


def _combined(schema: T.StructType, feature: IdFeature) -> Column:
    """Text where a row has one value of each column; lists where it may have several."""
    kinds = [schema[name].dataType for name in feature.columns]
    values = [column(name) for name in feature.columns]
    pairs = list(zip(values, kinds, strict=True))
    if feature.separator is None and not any(isinstance(k, T.ArrayType) for k in kinds):
        joint = F.lit(JOINT)
        parts = [part for value, kind in pairs for part in (joint, _one(value, kind, feature))]
        return F.concat(*parts[1:])
    found, *others = [_several(value, kind, feature) for value, kind in pairs]
    for other in others:
        found = _crossed(found, other)
    return found


def _one(value: Column, kind: T.DataType, feature: IdFeature) -> Column:
    """Text, null for no value."""
    return one_text(value, feature) if isinstance(kind, T.StringType) else value.cast("string")


def _several(value: Column, kind: T.DataType, feature: IdFeature) -> Column:
    """Lists of text, empty for no value."""
    if isinstance(kind, T.StringType):
        lists = split(value, feature.separator or DEFAULT_SEPARATOR)
    elif isinstance(kind, T.ArrayType):
        no_nulls = refuse(
            feature, "have no null inside its lists", F.lit("null"), "fill or drop it"
        )
        texts = F.transform(
            value, lambda item: F.when(item.isNull(), no_nulls).otherwise(item.cast("string"))
        )
        lists = F.filter(texts, lambda item: item != "")
    else:
        lists = F.filter(F.array(value.cast("string")), lambda item: item.isNotNull())
    return F.coalesce(lists, F.array().cast("array<string>"))


def _crossed(first: Column, second: Column) -> Column:
    """Each value of the first list with each of the second one."""
    return F.flatten(
        F.transform(first, lambda a: F.transform(second, lambda b: F.concat(a, F.lit(JOINT), b)))
    )


def _evaluated(feature: IdFeature | RawFeature, source: Formula) -> Column:
    """double, null where a variable is.

    What is not finite is null in Spark's functions, and NaN is the greatest number.
    """
    values = {name: column(name).cast("double") for name in source.columns}
    found = source.expression.evaluate(values, SPARK)
    found = (found if isinstance(found, Column) else F.lit(found)).cast("double")
    wrong = refuse(feature, "be finite", found, TO_DEFAULT).cast("double")
    checked = F.when(F.abs(found) < math.inf, found).otherwise(wrong)
    for name, value in values.items():
        wrong = refuse(feature, f"have finite numbers in {name!r}", value, TO_DEFAULT)
        checked = F.when(F.abs(value) < math.inf, checked).otherwise(wrong.cast("double"))
    for value in values.values():
        checked = F.when(value.isNotNull(), checked)
    return checked
