"""Write the files of a session dataset, and prove from what was written that they are right.

All inside one staging folder: `rows/` and `index/` hold files as Spark names them, `dataset/` what
will be published, which is complete but for its manifest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.dataset_writer
    from preprocessing import dataset_format, session_layout
    from preprocessing.hadoop_files import HadoopFiles
else:  # run by spark-submit, see jrc_sort.py
    import dataset_format
    import session_layout
    from hadoop_files import HadoopFiles

INDEX = dataset_format.INDEX_FOLDER
ROW_START = dataset_format.ROW_START
NUM_ROWS = dataset_format.NUM_ROWS
# Whatever the cluster's defaults are: nothing may split, merge or cut the partitions as laid out.
WRITE_CONF = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.files.maxRecordsPerFile": "0",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.writeLegacyFormat": "false",
}


@dataclass(frozen=True)
class FileFacts:
    """What a data file holds; `content_hash` depends on every value and the place of each row."""

    rows: int
    sessions: int
    content_hash: int


def write_rows(laid_out: DataFrame, files: HadoopFiles, staging: str, row_group_bytes: int) -> None:
    """Write each partition of `laid_out`, in its row order, to one file of `staging`/dataset.

    Files are numbered in partition order. Partitions without rows get none (Spark writes an empty
    file for the first).
    """
    spark, target = laid_out.sparkSession, f"{staging}/dataset"
    with settings(spark, WRITE_CONF):
        writer = laid_out.write.option("compression", "zstd")
        writer.option("parquet.block.size", row_group_bytes).parquet(f"{staging}/rows")
    # Read with no column of the data: that a file has rows stands in its footer.
    rows = spark.read.schema(T.StructType()).parquet(f"{staging}/rows")
    names = [row.file_name for row in rows.select("_metadata.file_name").distinct().collect()]
    files.make_folder(target)
    for number, name in enumerate(sorted(names, key=_partition_number)):
        numbered = dataset_format.data_file_name(number)
        files.rename(f"{staging}/rows/{name}", f"{target}/{numbered}")


def verify_and_index(
    files: HadoopFiles,
    staging: str,
    schema: T.StructType,
    keys: session_layout.SortKeys,
    expected: session_layout.InputFacts,
) -> dataset_format.Manifest:
    """Check `staging`/dataset as written, add the session index, and describe both.

    Raises:
        RuntimeError: rows were lost or doubled, or a session is not whole, contiguous, in order.
    """
    dataset = f"{staging}/dataset"
    written = files.spark.read.schema(schema).parquet(dataset)
    sizes = files.sizes(dataset)
    # As many tasks as data files: the default of 200 is slow for a few files, too few for many.
    with settings(files.spark, {"spark.sql.shuffle.partitions": str(len(sizes))}):
        runs = session_layout.session_runs(session_layout.placed_rows(written, keys)).persist()
        try:
            per_file = _facts_per_file(runs)
            check_rows(runs, per_file, expected.rows)
            write_index(runs, files, staging, list(per_file))
            statistics = _statistics(runs, expected)
        finally:
            runs.unpersist()
        check_index(files.spark.read.parquet(f"{dataset}/{INDEX}"), per_file)
    columns = tuple(dataset_format.Column(f.name, f.dataType.simpleString()) for f in schema.fields)
    return dataset_format.Manifest(
        session_columns=(keys.session,),
        timestamp_column=keys.timestamp,
        tie_breakers=keys.tie_breakers,
        schema=columns,
        files=tuple(
            dataset_format.DataFile(name, facts.rows, facts.sessions, sizes[name])
            for name, facts in per_file.items()
        ),
        statistics=statistics,
        fingerprint=_fingerprint(keys, columns, per_file),
    )


def check_rows(runs: DataFrame, per_file: Mapping[str, FileFacts], expected_rows: int) -> None:
    """Check data files as written: all rows are there, each session whole, contiguous, in order.

    Raises:
        RuntimeError: it is not so; the message names sessions and files.
    """
    violations = session_layout.find_violations(runs)
    found = sum(facts.rows for facts in per_file.values())
    if found != expected_rows:
        violations.insert(0, f"{expected_rows} rows were read but {found} were written")
    if violations:
        raise RuntimeError(
            "verification of the written files failed, so nothing was published: "
            + "; ".join(violations)
            + ". Run the job again; if this repeats, report it with this message"
        )


def write_index(runs: DataFrame, files: HadoopFiles, staging: str, names: Sequence[str]) -> None:
    """Write `staging`/dataset/_index: for each data file of `names`, its sessions in file order."""
    scratch, target = f"{staging}/index", f"{staging}/dataset/{INDEX}"
    index = runs.select(
        "file", F.col("row_start").alias(ROW_START), F.col("num_rows").cast("int").alias(NUM_ROWS)
    )
    # The sort starts with the column of partitionBy, which therefore adds no sort of its own.
    in_order = index.repartition(len(names), "file").sortWithinPartitions("file", ROW_START)
    with settings(runs.sparkSession, WRITE_CONF):
        writer = in_order.write.option("compression", "zstd")
        writer.partitionBy("file").parquet(scratch)
    files.make_folder(target)
    for name in names:
        parts = [part for part in files.sizes(f"{scratch}/file={name}") if part.startswith("part-")]
        assert len(parts) == 1, f"the index of {name} must be one file, but got {parts}"
        files.rename(f"{scratch}/file={name}/{parts[0]}", f"{target}/{name}")


def check_index(index: DataFrame, per_file: Mapping[str, FileFacts]) -> None:
    """Check index files as written: each covers the rows of its data file exactly, in order.

    Raises:
        RuntimeError: an index file does not; the message names it.
    """
    placed = index.select("*", "_metadata.file_name", "_metadata.row_index")
    above = (
        Window.partitionBy("file_name")
        .orderBy("row_index")
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    is_misplaced = F.col(ROW_START) != F.coalesce(F.sum(NUM_ROWS).over(above), F.lit(0))
    found = (
        placed.withColumn("misplaced", F.when(is_misplaced, 1).otherwise(0))
        .groupBy("file_name")
        .agg(F.sum(NUM_ROWS), F.count(F.lit(1)), F.sum("misplaced"))
        .collect()
    )
    facts = {name: tuple(counts) for name, *counts in found}
    for name, file in per_file.items():
        if facts.get(name) != (file.rows, file.sessions, 0):
            raise RuntimeError(
                "verification of the written index failed, so nothing was published: "
                f"(rows, sessions, misplaced sessions) of {name} must be "
                f"({file.rows}, {file.sessions}, 0), but are {facts.get(name)}; run the job again"
            )


def _facts_per_file(runs: DataFrame) -> dict[str, FileFacts]:
    """Facts of each data file, in name order."""
    facts = runs.groupBy("file").agg(
        F.sum("num_rows"), F.count(F.lit(1)), F.bit_xor("content_hash")
    )
    return {name: FileFacts(*counts) for name, *counts in sorted(facts.collect())}


def _statistics(runs: DataFrame, facts: session_layout.InputFacts) -> dataset_format.Statistics:
    nearest_rank = "cast(percentile_disc({}) within group (order by num_rows) as bigint)"
    row = runs.agg(
        F.count(F.lit(1)).alias("sessions"),
        F.max("num_rows").alias("max_session_rows"),
        *(F.expr(nearest_rank.format(p / 100)).alias(f"session_rows_p{p}") for p in (50, 90, 99)),
    ).collect()[0]
    return dataset_format.Statistics(
        rows=facts.rows,
        min_timestamp=facts.min_timestamp,
        max_timestamp=facts.max_timestamp,
        **row.asDict(),
    )


def _fingerprint(
    keys: session_layout.SortKeys,
    columns: Sequence[dataset_format.Column],
    per_file: Mapping[str, FileFacts],
) -> str:
    """SHA-256 over keys, schema, and per file its rows, sessions, and content hash."""
    schema = [[column.name, column.type] for column in columns]
    files = [[name, file.rows, file.sessions, file.content_hash] for name, file in per_file.items()]
    return hashlib.sha256(json.dumps([keys.names, schema, files]).encode()).hexdigest()


@contextmanager
def settings(spark: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Spark SQL settings for the length of a block."""
    before = {name: spark.conf.get(name, None) for name in values}
    for name, value in values.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)


def _partition_number(file_name: str) -> int:
    match = re.match(r"part-(\d+)", file_name)
    assert match, f"Spark names its files part-<number>..., but wrote {file_name!r}"
    return int(match[1])
