"""Where each session lies in the files of a dataset, found without moving a row between machines.

Only DataFrame expressions, no Python on the executors. One task reads one file; `rows` of it are

    file   row_index   session   order_key   row_hash   rank
    h(p0)  0           u7        {10, 1}     ...        1
    h(p0)  1           u7        {12, 0}     ...        2
    h(p0)  2           u3        {11, 5}     ...        0

file = hash of the file's name; order_key = (timestamp, tie-breakers); row_hash is over all columns
(row_hash.py); rank = place of the row when the task sorts its rows by (session, order_key).

`runs`, one row per session, are all that is exchanged:

    session   file   last_file   row_start   row_last   num_rows   first_shift   last_shift   ...
    u7        h(p0)  h(p0)       0           1          2          1             1
    u3        h(p0)  h(p0)       2           2          1          -2            -2

The first and last of a session's files in hash order; the least and the greatest shift = rank -
row_index. A session is

    whole        when file == last_file,
    contiguous   when row_last - row_start + 1 == num_rows,
    in order     when first_shift == last_shift: sorting it moves it as a block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.session_runs
    from preprocessing.row_hash import column, null_masks, row_hash
    from preprocessing.session_layout import SortKeys
else:  # run by spark-submit, see jrc_sort.py
    from row_hash import column, null_masks, row_hash
    from session_layout import SortKeys

# Whatever their size, one task for one file: a row's place after a sort is its place in the file.
ONE_TASK_PER_FILE = {
    "spark.sql.files.maxPartitionBytes": str(1 << 44),
    "spark.sql.files.openCostInBytes": str(1 << 44),
    "spark.sql.files.minPartitionNum": "1",
}
# `monotonically_increasing_id` counts the rows of a task in its low 33 bits.
_ROW_OF_TASK = (1 << 33) - 1
_SHOWN_SESSIONS = 5


def file_id(name: Column) -> Column:
    """The number by which `runs` call the file `name`."""
    return F.xxhash64(name)


def file_names_by_id(spark: SparkSession, names: Sequence[str]) -> dict[int, str]:
    """`names` by the number by which `runs` call them."""
    listed = spark.range(1).select(F.explode(F.split(F.lit("/".join(names)), "/")).alias("name"))
    by_id = dict(listed.select(file_id(F.col("name")), "name").collect())
    assert len(by_id) == len(names), "two file names have one hash"
    return by_id


def rank_in_task() -> Column:
    """Number of the row among those of its task, from 0."""
    return F.monotonically_increasing_id().bitwiseAND(F.lit(_ROW_OF_TASK))


def content_hash(row_index: Column, row_hash: Column) -> Column:
    """Aggregate of places and rows, the same in whatever order the rows come."""
    return F.bit_xor(F.xxhash64(row_index, row_hash))


def session_runs(written: DataFrame, keys: SortKeys, labels: Sequence[str] = ()) -> DataFrame:
    """Per session its extent, order, hash, range of time and counts of labels: `runs` above.

    `written` is read from Parquet under ONE_TASK_PER_FILE. `id` is the value of keys.session_id, if
    there is such a column. For label k, `positives_k` and
    `negatives_k` count the rows above zero and the others that are not null. Bit i of `nulls_j` is
    set when column 64 * j + i is null in a row.
    """
    session = {f"session_{n}": name for n, name in enumerate(keys.identity)}
    in_session = {f"order_{n}": name for n, name in enumerate((keys.timestamp, *keys.tie_breakers))}
    rows = written.select(
        file_id(F.col("_metadata.file_name")).alias("file"),
        F.col("_metadata.row_index").alias("row_index"),
        *(column(name).alias(alias) for alias, name in (session | in_session).items()),
        row_hash(written.schema).alias("row_hash"),
        *map(Column.alias, null_masks(written.schema), null_mask_names(written.columns)),
        *([column(keys.session_id).alias("id")] if keys.session_id else []),
        *(_label(written.schema[name]).alias(f"label_{k}") for k, name in enumerate(labels)),
    )
    # Of rows with equal keys the one above stays above.
    ranked = rows.sortWithinPartitions(*session, *in_session, "row_index")
    ranked = ranked.withColumn("shift", rank_in_task() - F.col("row_index"))
    return ranked.groupBy(*session).agg(
        F.min("file").alias("file"),
        F.max("file").alias("last_file"),
        F.min("row_index").alias("row_start"),
        F.max("row_index").alias("row_last"),
        F.count(F.lit(1)).alias("num_rows"),
        F.min("shift").alias("first_shift"),
        F.max("shift").alias("last_shift"),
        content_hash(F.col("row_index"), F.col("row_hash")).alias("content_hash"),
        F.min("order_0").alias("min_time"),
        F.max("order_0").alias("max_time"),
        *(F.bit_or(name).alias(name) for name in null_mask_names(written.columns)),
        *([F.min("id").alias("id")] if keys.session_id else []),
        *(F.count_if(F.col(f"label_{k}") > 0).alias(f"positives_{k}") for k in range(len(labels))),
        *(F.count_if(F.col(f"label_{k}") <= 0).alias(f"negatives_{k}") for k in range(len(labels))),
    )


def is_split() -> Column:
    """Whether a run's session lies in several files."""
    return F.col("file") != F.col("last_file")


def foreign_rows() -> Column:
    """Rows of others, or of the same in other files, between the first and last row of a run."""
    return F.col("row_last") - F.col("row_start") + 1 - F.col("num_rows")


def is_disordered() -> Column:
    """Whether a run's rows are not in the order of time and tie-breakers."""
    return F.col("first_shift") != F.col("last_shift")


def null_mask_names(columns: Sequence[str]) -> list[str]:
    """The columns of `runs` that say which of `columns` have nulls."""
    return [f"nulls_{number}" for number in range(-(-len(columns) // 64))]


def find_violations(runs: DataFrame, file_names: Mapping[int, str]) -> list[str]:
    """What is wrong with a layout and where, a few sessions at most; empty when it is right."""
    broken = runs.where(is_split() | (foreign_rows() != 0) | is_disordered())
    shown = broken.withColumns({"is_split": is_split(), "foreign_rows": foreign_rows()})
    session = [name for name in runs.columns if name.startswith("session_")]
    return [
        _describe(row, session, file_names)
        for row in shown.orderBy(*session).limit(_SHOWN_SESSIONS).collect()
    ]


def colliding_ids(runs: DataFrame) -> int:
    """How many values of `id` several sessions have."""
    return runs.groupBy("id").agg(F.count(F.lit(1)).alias("n")).where("n > 1").count()


def _describe(row: Any, session: Sequence[str], file_names: Mapping[int, str]) -> str:
    values = [row[name] for name in session]
    shown = repr(values[0]) if len(values) == 1 else repr(tuple(values))
    files = sorted({file_names[row.file], file_names[row.last_file]})
    if row.is_split:
        return f"session {shown} is split over {' and '.join(files)}"
    if row.foreign_rows:
        return f"session {shown} is not contiguous ({row.foreign_rows} foreign rows) in {files[0]}"
    return f"session {shown} has rows before the time of the row above them in {files[0]}"


def _label(field: T.StructField) -> Column:
    """A number, null where it is missing or NaN."""
    value = column(field.name).cast("double")
    if isinstance(field.dataType, T.FloatType | T.DoubleType):
        return F.nanvl(value, F.lit(None).cast("double"))
    return value
