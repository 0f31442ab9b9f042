"""The index of a dataset's sessions, `_index/part-*.parquet`: written from runs, and checked.

`runs` are those of session_runs.py: one row per session, with its file, first row and rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.session_index
    from preprocessing import dataset_format, session_runs
    from preprocessing.dataset_writer import WRITE_CONF, settings
    from preprocessing.hadoop_files import HadoopFiles, escape_glob, many_at_once
else:  # run by spark-submit, see jrc_sort.py
    import dataset_format
    import session_runs
    from dataset_writer import WRITE_CONF, settings
    from hadoop_files import HadoopFiles, escape_glob, many_at_once

ROW_START = dataset_format.ROW_START
NUM_ROWS = dataset_format.NUM_ROWS
SCHEMA = T.StructType(
    [T.StructField(ROW_START, T.LongType()), T.StructField(NUM_ROWS, T.IntegerType())]
)


def entries_hash(row_start: Column, num_rows: Column) -> Column:
    """Aggregate of a file's sessions, the same in whatever order they come."""
    return F.bit_xor(F.xxhash64(row_start.cast("bigint"), num_rows.cast("bigint")))


def write_index(
    runs: DataFrame, files: HadoopFiles, scratch: str, target: str, names: Mapping[int, str]
) -> None:
    """Write to the new folder `target`, for each file of `names`, its sessions in file order.

    `names` has the files by the number by which `runs` call them. The executors write, to the new
    folder `scratch`; the driver only renames files.
    """
    index = runs.select(
        "file", F.col("row_start").alias(ROW_START), F.col("num_rows").cast("int").alias(NUM_ROWS)
    )
    # The sort starts with the column of partitionBy, which therefore adds no sort of its own.
    in_order = index.repartition(len(names), "file")
    in_order = in_order.sortWithinPartitions("file", ROW_START)
    with settings(runs.sparkSession, WRITE_CONF):
        writer = in_order.write.option("compression", "zstd")
        writer.partitionBy("file").parquet(scratch)
    files.make_folder(target)

    def move(number: int, name: str) -> None:
        folder = f"{scratch}/file={number}"
        parts = [part for part in files.sizes(folder) if part.startswith("part-")]
        assert len(parts) == 1, f"the index of {name} must be one file, but got {parts}"
        files.rename(f"{folder}/{parts[0]}", f"{target}/{name}")

    many_at_once(move, names.keys(), names.values())


def check_index(
    files: HadoopFiles, folder: str, expected: Mapping[str, tuple[int, int, int]]
) -> list[str]:
    """What is wrong with the index files in `folder`, one line per file; empty when nothing is.

    `expected` has (rows, sessions, entries_hash) of each data file by its name.
    """
    paths = [escape_glob(f"{folder}/{name}") for name in expected]
    with settings(files.spark, session_runs.ONE_TASK_PER_FILE):
        index = files.spark.read.schema(SCHEMA).parquet(*paths)
        placed = index.select("*", "_metadata.file_name", "_metadata.row_index")
        ranked = placed.sortWithinPartitions("file_name", ROW_START, "row_index")
        ranked = ranked.withColumn("rank", session_runs.rank_in_task())
        found = (
            ranked.groupBy("file_name")
            .agg(
                F.sum(NUM_ROWS),
                F.count(F.lit(1)),
                entries_hash(F.col(ROW_START), F.col(NUM_ROWS)),
                F.count_if(F.col("rank") != F.col("row_index")),
            )
            .collect()
        )
    facts = {name: tuple(counts) for name, *counts in found}
    return [
        f"the index of {name} does not list the sessions of the file"
        for name, file in expected.items()
        if facts.get(name) != (*file, 0)
    ]
