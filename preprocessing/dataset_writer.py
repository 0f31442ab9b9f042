"""Write the files of a session dataset into a staging folder, one per partition of the layout.

<staging>/rows/          files as Spark names them
<staging>/dataset/       the same files under the names they will be published by
<staging>/dataset-train/, dataset-eval/   in their place, where sessions are split
<staging>/beside/        what is published beside the data: _quarantine/, _vocabulary/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.dataset_writer
    from preprocessing import dataset_format, session_layout
    from preprocessing.bad_rows import InputFacts
    from preprocessing.hadoop_files import many_at_once
    from preprocessing.publication import QUARANTINE_FOLDER, VOCABULARY_FOLDER, Output
else:  # run by spark-submit, see jrc_sort.py
    import dataset_format
    import session_layout
    from bad_rows import InputFacts
    from hadoop_files import many_at_once
    from publication import QUARANTINE_FOLDER, VOCABULARY_FOLDER, Output

BESIDE = "beside"
# Whatever the cluster's defaults are: nothing may split, merge or cut the partitions as laid out.
WRITE_CONF = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.files.maxRecordsPerFile": "0",
    # With partitionBy, one open file for each of train and eval; else rows are sorted once more.
    "spark.sql.maxConcurrentOutputFileWriters": "2",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.writeLegacyFormat": "false",
}


def write_rows(layout: session_layout.Layout, held: Output, row_group_bytes: int) -> dict[str, str]:
    """Write each partition of `layout`, in its row order, to one file; returns folders by dataset.

    With a split each partition has one file in each of train and eval. Files are numbered in
    partition order. Partitions without rows get none.

    Raises:
        ValueError: a dataset would have no row.
    """
    scratch = f"{held.staging}/rows"
    with settings(held.files.spark, WRITE_CONF):
        writer = layout.rows.write.option("compression", "zstd")
        writer = writer.option("parquet.block.size", row_group_bytes)
        if layout.split:
            writer = writer.partitionBy(layout.split)
        writer.parquet(scratch)
    if layout.split is None:
        folder = _number_files(held, scratch, f"{held.staging}/dataset")
        if not held.files.sizes(folder):
            raise ValueError(
                "the dataset must have a session, but all were dropped as too long; raise "
                "--max-session-rows, or use --long-sessions cut or newest"
            )
        return {"": folder}
    folders = {}
    for dataset in held.datasets:
        part = f"{scratch}/{layout.split}={dataset}"
        if not held.files.exists(part):
            raise ValueError(
                f"train and eval must both have sessions, but {dataset} has none; change "
                "--eval-from, --eval-fraction, or what --long-sessions drops"
            )
        folders[dataset] = _number_files(held, part, f"{held.staging}/dataset-{dataset}")
    return folders


def write_quarantine(bad: DataFrame, held: Output) -> None:
    """Write the bad rows with their reasons to <staging>/beside."""
    scratch = f"{held.staging}/bad_rows"
    with settings(held.files.spark, WRITE_CONF):
        bad.write.option("compression", "zstd").parquet(scratch)
    _number_files(held, scratch, f"{held.staging}/{BESIDE}/{QUARANTINE_FOLDER}")


def add_vocabulary(path: str, held: Output) -> None:
    """Move the vocabulary file at `path` to <staging>/beside."""
    folder = f"{held.staging}/{BESIDE}/{VOCABULARY_FOLDER}"
    held.files.make_folder(folder)
    held.files.rename(path, f"{folder}/{dataset_format.data_file_name(0, held.generation)}")


def check_counts(
    facts: InputFacts,
    counts: session_layout.SessionCounts | None,
    manifests: Sequence[dataset_format.Manifest],
    rules: session_layout.SessionRules,
) -> None:
    """Check that every row and session read is in a dataset or reported, and only once.

    Raises:
        RuntimeError: it is not so.
    """
    rows = sum(manifest.statistics.rows for manifest in manifests)
    sessions = sum(manifest.statistics.sessions for manifest in manifests)
    expected, wrong = facts.good_rows, []
    if counts is not None:
        if counts.rows != facts.good_rows:
            wrong.append(f"{facts.good_rows} rows were read but {counts.rows} were laid out")
        expected -= counts.dropped_rows
        whole = counts.sessions
        if rules.max_rows is not None and rules.long_sessions == "drop":
            whole -= counts.long_sessions
        if not rules.cuts and sessions != whole:
            wrong.append(f"{whole} sessions were laid out but {sessions} were written")
    if rows != expected:
        wrong.insert(0, f"{expected} rows were read but {rows} were written")
    if wrong:
        raise RuntimeError(
            f"verification of the written files failed, so nothing was published: "
            f"{'; '.join(wrong)}. Run the job again; if this repeats, report it with this message"
        )


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


def _number_files(held: Output, written: str, target: str) -> str:
    """Move Spark's files from `written` to `target` under their names; leaves empty ones."""
    names = [name for name in held.files.sizes(written) if name.startswith("part-")]
    names.sort(key=_partition_number)
    paths = [f"{written}/{name}" for name in names]
    held.files.make_folder(target)
    # Spark writes a file for the first partition even when it has no row.
    if names and _partition_number(names[0]) == 0 and _is_empty(held.files.spark, paths[0]):
        del paths[0]
    numbered = (dataset_format.data_file_name(n, held.generation) for n in range(len(paths)))
    many_at_once(held.files.rename, paths, (f"{target}/{name}" for name in numbered))
    return target


def _is_empty(spark: SparkSession, path: str) -> bool:
    """Read with no column of the data: that a file has rows stands in its footer."""
    return spark.read.schema(T.StructType()).parquet(path).isEmpty()


def _partition_number(file_name: str) -> int:
    match = re.match(r"part-(\d+)", file_name)
    assert match, f"Spark names its files part-<number>..., but wrote {file_name!r}"
    return int(match[1])
