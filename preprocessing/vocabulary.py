"""Ids for the values of a column by how often they come: written beside the data, then joined.

_vocabulary/part-00000.parquet      column   value   rows   id
                                    item     b       9      1
                                    item     a       5      2      and 0 for all other items

A later job can keep these ids and add to them: values that are new get the numbers after the last.
`rows` is how many the value had in the job that numbered it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.vocabulary
    from preprocessing.hadoop_files import HadoopFiles, escape_glob
    from preprocessing.row_hash import column
else:  # run by spark-submit, see jrc_sort.py
    from hadoop_files import HadoopFiles, escape_glob
    from row_hash import column

FOLDER = "_vocabulary"
COLUMNS = ["column", "value", "rows", "id"]
VALUE_TYPES = (T.IntegralType, T.StringType, T.BooleanType, T.DateType)


def read_vocabulary(files: HadoopFiles, path: str) -> DataFrame:
    """The vocabulary beside the data of an earlier output `path`, or in the folder `path`.

    Raises:
        ValueError: there is none, or more than one.
    """
    beside = f"{path}/{FOLDER}"
    folder = beside if files.exists(beside) else path
    entries = files.sizes(folder) if files.exists(folder) else {}
    names = [name for name in entries if name.startswith("part-")]
    if len(names) == 1:
        found = files.spark.read.parquet(escape_glob(f"{folder}/{names[0]}"))
        if found.columns == COLUMNS:
            return found
    raise ValueError(
        f"--vocabulary-from must be the output of a job with --vocabulary, but {path!r} has no "
        f"{FOLDER}/ with one file of the columns {', '.join(COLUMNS)}; check the path, or run "
        "without it to number the values anew"
    )


def columns_of(vocabulary: DataFrame) -> list[str]:
    """The columns that `vocabulary` has ids for."""
    return sorted(row[0] for row in vocabulary.select("column").distinct().collect())


def build_vocabulary(
    df: DataFrame, min_rows: Mapping[str, int], earlier: DataFrame | None = None
) -> DataFrame:
    """The values of each column that `min_rows` or more rows have, numbered from 1.

    The most frequent is 1; of equally frequent ones the first by its text. All of `earlier` stays
    as it is, and numbers go on from its last.

    Raises:
        ValueError: a column is not there, or does not hold integers or text.
    """
    for name in {*min_rows, *(columns_of(earlier) if earlier else [])}:
        _check_column(df, name)
    if not min_rows:
        assert earlier is not None, "there must be a vocabulary, or columns to make one of"
        return earlier
    counts = reduce(DataFrame.unionAll, (_count(df, *item) for item in min_rows.items()))
    if earlier is not None:
        counts = counts.join(earlier, ["column", "value"], "left_anti")
    by_frequency = Window.partitionBy("column").orderBy(F.desc("rows"), "value")
    new = counts.withColumn("id", F.row_number().over(by_frequency).cast("bigint"))
    if earlier is not None:
        last = earlier.groupBy("column").agg(F.max("id").alias("last"))
        new = new.join(F.broadcast(last), "column", "left")
        new = new.withColumn("id", F.col("id") + F.coalesce("last", F.lit(0)))
        new = earlier.unionAll(new.select(*COLUMNS))
    return new.orderBy("column", "id")


def apply_vocabulary(df: DataFrame, vocabulary: DataFrame, name: str) -> DataFrame:
    """`df` with the ids of `vocabulary` in column `name`; null stays null."""
    ids = vocabulary.where(F.col("column") == name)
    ids = ids.select(F.col("value").alias("_vocabulary_value"), F.col("id").alias("_vocabulary_id"))
    joined = df.join(ids, column(name).cast("string") == F.col("_vocabulary_value"), "left")
    encoded = F.when(column(name).isNotNull(), F.coalesce("_vocabulary_id", F.lit(0)))
    return joined.select(
        *(encoded.alias(name) if other == name else column(other) for other in df.columns)
    )


def _check_column(df: DataFrame, name: str) -> None:
    if name not in df.columns:
        raise ValueError(
            f"a vocabulary must be of a column of the input, but there is no {name!r}. Columns: "
            f"{', '.join(df.columns)}"
        )
    kind = df.schema[name].dataType
    if not isinstance(kind, VALUE_TYPES):
        raise ValueError(
            f"a vocabulary must be of a column of integers or text, but {name!r} is a "
            f"{kind.simpleString()}; hash it instead (hash_bucket_size)"
        )


def _count(df: DataFrame, name: str, floor: int) -> DataFrame:
    counts = df.groupBy(column(name).cast("string").alias("value")).agg(
        F.count(F.lit(1)).alias("rows")
    )
    frequent = counts.where(F.col("value").isNotNull() & (F.col("rows") >= floor))
    return frequent.select(F.lit(name).alias("column"), "value", "rows")
