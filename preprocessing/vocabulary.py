"""Ids for the values of a column by how often they come: written beside the data, then joined.

_vocabulary/part-00000.parquet      column   value   rows   id
                                    item     b       9      1
                                    item     a       5      2      and 0 for all other items
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.vocabulary
    from preprocessing.row_hash import column
else:  # run by spark-submit, see jrc_sort.py
    from row_hash import column

FOLDER = "_vocabulary"
VALUE_TYPES = (T.IntegralType, T.StringType, T.BooleanType, T.DateType)


def build_vocabulary(df: DataFrame, min_rows: Mapping[str, int]) -> DataFrame:
    """The values of each column that `min_rows` or more rows have, numbered from 1.

    The most frequent is 1; of equally frequent ones the first by its text.

    Raises:
        ValueError: a column is not there, or does not hold integers or text.
    """
    counts = [_count(df, name, floor) for name, floor in min_rows.items()]
    by_frequency = Window.partitionBy("column").orderBy(F.desc("rows"), "value")
    numbered = reduce(DataFrame.unionAll, counts).withColumn(
        "id", F.row_number().over(by_frequency).cast("bigint")
    )
    return numbered.orderBy("column", "id")


def apply_vocabulary(df: DataFrame, vocabulary: DataFrame, name: str) -> DataFrame:
    """`df` with the ids of `vocabulary` in column `name`; null stays null."""
    ids = vocabulary.where(F.col("column") == name)
    ids = ids.select(F.col("value").alias("_vocabulary_value"), F.col("id").alias("_vocabulary_id"))
    joined = df.join(ids, column(name).cast("string") == F.col("_vocabulary_value"), "left")
    encoded = F.when(column(name).isNotNull(), F.coalesce("_vocabulary_id", F.lit(0)))
    return joined.select(
        *(encoded.alias(name) if other == name else column(other) for other in df.columns)
    )


def _count(df: DataFrame, name: str, floor: int) -> DataFrame:
    if name not in df.columns:
        raise ValueError(
            f"--vocabulary must name a column of the input, but there is no {name!r}. Columns: "
            f"{', '.join(df.columns)}"
        )
    kind = df.schema[name].dataType
    if not isinstance(kind, VALUE_TYPES):
        raise ValueError(
            f"--vocabulary must name a column of integers or text, but {name!r} is a "
            f"{kind.simpleString()}; hash it instead (hash_bucket_size)"
        )
    counts = df.groupBy(column(name).cast("string").alias("value")).agg(
        F.count(F.lit(1)).alias("rows")
    )
    frequent = counts.where(F.col("value").isNotNull() & (F.col("rows") >= floor))
    return frequent.select(F.lit(name).alias("column"), "value", "rows")
