"""Lay events out by session: each whole, contiguous and in time order, as JRC training needs it.

The job reads events, checks them, writes the session dataset of `dataset_format.py` beside its
final place, reads back what it wrote, and publishes it only when every session is whole and in
order. It does the work of

    CREATE TABLE out AS SELECT `(ds)?+.+` FROM in
    DISTRIBUTE BY user_id SORT BY user_id ASC, time_stamp ASC

and sets for itself what in a cluster's defaults could cut, merge, skip or shift: records per file,
adaptive execution, Parquet's types, corrupt and missing files (an error), and the time zone (UTC
for the text of CSV and JSON timestamps that name none). It needs Spark 3.5 or later and Python 3.11
or later on the driver; the executors run no Python. The same input rows and number of partitions
give the same rows in the same files in the same order.

A column that stands in folder names (`events/ds=1/...`) is read when --input-path is the folder
above them (`events`), and is not when it is one of them (`events/ds=1`).

Exit status: 0 published; 1 an error, with the output as it was before; 2 a wrong flag.

Submit it:

    spark-submit preprocessing/jrc_sort.py --input-path events --output-path train \\
        --session-column user_id --timestamp-column time_stamp --columns-regex '(ds)?+.+'

In cluster mode the sibling modules must travel along; from the folder of this file:

    SIBLINGS=dataset_format.py,dataset_writer.py,hadoop_files.py,row_hash.py,session_layout.py
    spark-submit --master yarn --deploy-mode cluster --py-files $SIBLINGS,spark_errors.py \\
        jrc_sort.py --input-path hdfs:///events --output-path hdfs:///train \\
        --session-column user_id --timestamp-column time_stamp --columns-regex '(ds)?+.+'
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

if __package__:  # imported as preprocessing.jrc_sort
    from preprocessing import (
        dataset_format,
        dataset_writer,
        hadoop_files,
        session_layout,
        spark_errors,
    )
else:  # run by spark-submit: the siblings lie in the script's folder, or came with --py-files
    import dataset_format
    import dataset_writer
    import hadoop_files
    import session_layout
    import spark_errors

MIB = 1 << 20
TARGET_FILE_BYTES = 128 * MIB
MIN_PARTITIONS = 8
DEFAULT_ROW_GROUP_BYTES = 16 * MIB
# Cluster-wide these may be true, and then lose rows in silence.
SKIP_NO_FILE = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}
READ_OPTIONS = {
    "parquet": {"mergeSchema": "true"},  # else a column that only some files have can go unseen
    "orc": {"mergeSchema": "true"},
    "csv": {
        "header": "true",
        "mode": "FAILFAST",  # else a malformed line turns into nulls
        "columnPruning": "false",  # else lines are cut to the columns in use, and not counted
        "enforceSchema": "false",  # else columns go by position, whatever the header says
    },
    "json": {"mode": "FAILFAST"},
}


@dataclass(frozen=True)
class JobReport:
    """What the job did, for people; `seconds` by phase, in order."""

    manifest: dataset_format.Manifest
    output_path: str
    seconds: dict[str, float]

    def __str__(self) -> str:
        facts = self.manifest.statistics
        rows = [file.rows for file in self.manifest.files]
        lines = {
            "rows": facts.rows,
            "sessions": facts.sessions,
            "session rows": f"p50 {facts.session_rows_p50}, p90 {facts.session_rows_p90}, "
            f"p99 {facts.session_rows_p99}, max {facts.max_session_rows}",
            "files": f"{len(rows)}, of {min(rows)} to {max(rows)} rows",
            "timestamps": f"{facts.min_timestamp} to {facts.max_timestamp}",
            "seconds": ", ".join(f"{phase} {took:.1f}" for phase, took in self.seconds.items()),
            "output": self.output_path,
        }
        return "\n".join(f"{name:<13} {value}" for name, value in lines.items())


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line flags; a wrong one exits with status 2."""
    parser = argparse.ArgumentParser(
        prog="jrc_sort.py",
        description="Lay events out by session and time, for training with whole sessions.",
        allow_abbrev=False,
    )
    _add_input_flags(parser)
    _add_layout_flags(parser)
    return parser.parse_args(argv)


def _add_input_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input-path",
        action="append",
        required=True,
        metavar="PATH",
        help="file, folder or glob, on any file system Spark knows; give it again for more. "
        "A column of folder names like ds=1 is read only from the folder above them",
    )
    parser.add_argument("--input-format", choices=sorted(READ_OPTIONS), default="parquet")
    parser.add_argument(
        "--schema",
        metavar="DDL",
        help="columns of CSV or JSON input, like 'user_id STRING, ts BIGINT'; without it types "
        "are inferred, and CSV reads '007' as the number 7",
    )
    parser.add_argument(
        "--columns-regex",
        metavar="REGEX",
        help="keep only columns whose whole name matches this Java regex, as Spark and Hive do "
        "for a quoted regex in a select list; '(ds)?+.+' keeps all but ds",
    )
    parser.add_argument(
        "--drop-columns", type=_names, default=[], metavar="A,B", help="columns to leave out"
    )


def _add_layout_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--session-column",
        required=True,
        metavar="NAME",
        help="rows with the same value are one session, e.g. session_id or user_id",
    )
    parser.add_argument(
        "--timestamp-column",
        required=True,
        metavar="NAME",
        help="order inside a session: a number of any unit, a timestamp or a date",
    )
    parser.add_argument(
        "--tie-breaker",
        action="append",
        default=[],
        metavar="NAME",
        help="orders rows of equal time; give it again for more. Rows that are still equal are "
        "ordered by a hash of their content",
    )
    parser.add_argument("--output-path", required=True, metavar="PATH", help="folder to write")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the session dataset at --output-path once the new one is complete",
    )
    parser.add_argument(
        "--num-partitions",
        type=_partition_count,
        metavar="N",
        help=f"output files, at most; default: one per {TARGET_FILE_BYTES // MIB} MiB of input, "
        f"at least {MIN_PARTITIONS}",
    )
    parser.add_argument(
        "--row-group-bytes",
        type=_positive,
        default=DEFAULT_ROW_GROUP_BYTES,
        metavar="N",
        help="size of a Parquet row group, what a reader holds at a time; default: %(default)s",
    )


def default_num_partitions(input_bytes: int) -> int:
    """Output files for `input_bytes` of input; depends on nothing else, so reruns agree."""
    wanted = max(MIN_PARTITIONS, -(-input_bytes // TARGET_FILE_BYTES))
    return min(wanted, dataset_format.MAX_FILES)


def run_job(spark: SparkSession, options: argparse.Namespace) -> JobReport:
    """Read, check, lay out, verify and publish, as `options` of `parse_arguments` say.

    The session's time zone is UTC while it runs.

    Raises:
        ValueError: the flags or the data are at fault; nothing was published.
        RuntimeError: what was written is not what it must be; nothing was published.
    """
    with dataset_writer.settings(spark, {"spark.sql.session.timeZone": "UTC"}):
        return _run_phases(spark, options)


def _run_phases(spark: SparkSession, options: argparse.Namespace) -> JobReport:
    files = hadoop_files.HadoopFiles(spark)
    keys = session_layout.SortKeys(
        options.session_column, options.timestamp_column, tuple(options.tie_breaker)
    )
    output = files.qualify(options.output_path)
    seconds: dict[str, float] = {}
    with _timed(seconds, "check"):
        inputs = check_paths(files, options.input_path, options.output_path, options.overwrite)
        source = read_input(spark, inputs, options.input_format, options.schema)
        session_layout.check_not_empty(source)
        events = session_layout.select_columns(source, options.columns_regex, options.drop_columns)
        session_layout.check_schema(events, keys, source.columns)
        facts = session_layout.check_values(events, keys)
        num_partitions = options.num_partitions or default_num_partitions(
            sum(files.total_bytes(path) for path in inputs)
        )
    with hadoop_files.staging_folder(files, output) as staging:
        with _timed(seconds, "sort and write"):
            laid_out = session_layout.lay_out(events, keys, num_partitions)
            dataset_writer.write_rows(laid_out, files, staging, options.row_group_bytes)
        with _timed(seconds, "verify and index"):
            manifest = dataset_writer.verify_and_index(files, staging, events.schema, keys, facts)
        with _timed(seconds, "publish"):
            manifest_path = f"{staging}/{dataset_format.MANIFEST_NAME}"
            files.write_text(manifest_path, manifest.to_json())
            hadoop_files.publish(files, f"{staging}/dataset", manifest_path, output)
    return JobReport(manifest, options.output_path, seconds)


def check_paths(
    files: hadoop_files.HadoopFiles, input_paths: Sequence[str], output_path: str, overwrite: bool
) -> list[str]:
    """The input paths with globs expanded, once it is sure that output and input cannot clash.

    An old dataset that a killed run left aside is put back first (hadoop_files.py).

    Raises:
        ValueError: an input is not there; the output holds an input or lies in one; its path has
            glob characters; it exists and may not be replaced.
    """
    output = files.qualify(output_path)
    if hadoop_files.has_glob(output):
        raise ValueError(
            f"--output-path must be free of []{{}}*?\\, which Spark's readers take for a pattern, "
            f"but got {output!r}; choose another"
        )
    inputs: list[str] = []
    for pattern in input_paths:
        found = files.expand(pattern)
        if not found:
            raise ValueError(f"--input-path must exist, but nothing is at {pattern!r}; check it")
        inputs += found
    for path in inputs:
        if f"{path}/".startswith(f"{output}/") or f"{output}/".startswith(f"{path}/"):
            raise ValueError(
                f"--output-path must lie apart from the input, but {output_path!r} and the input "
                f"{path!r} are the same or inside one another; choose another output"
            )
    _check_replaceable(files, output, output_path, overwrite)
    return inputs


def _check_replaceable(
    files: hadoop_files.HadoopFiles, output: str, output_path: str, overwrite: bool
) -> None:
    came_from = hadoop_files.put_back_old(files, output)
    if not files.exists(output):
        return
    if not overwrite:
        put_back = f", put back from {came_from}, where a killed run left it" if came_from else ""
        raise ValueError(
            f"--output-path must be new, but {output_path!r} exists{put_back}; "
            "choose another or add --overwrite"
        )
    entries = files.sizes(output)
    marks = (dataset_format.MANIFEST_NAME, dataset_format.INDEX_FOLDER)
    if entries and not any(mark in entries for mark in marks):
        raise ValueError(
            f"--overwrite must find a session dataset to replace, but {output_path!r} is none; "
            "delete it yourself or choose another output"
        )


def read_input(
    spark: SparkSession, paths: list[str], input_format: str, schema: str | None
) -> DataFrame:
    """The events at `paths`, taken literally; malformed CSV or JSON fails when it is read.

    Raises:
        ValueError: `schema` with a format that has its own, or not a DDL schema; unreadable input.
    """
    reader = spark.read.options(**SKIP_NO_FILE, **READ_OPTIONS[input_format])
    if schema is not None:
        if input_format not in ("csv", "json"):
            raise ValueError(
                f"--schema must go with csv or json, but --input-format is {input_format}, "
                "which has its own; leave it out"
            )
        try:
            reader = reader.schema(schema)
        except PySparkException as error:
            raise ValueError(
                "--schema must be a DDL string like 'user_id STRING, ts BIGINT', "
                f"but got {schema!r}: {spark_errors.spark_reason(error)}"
            ) from None
    elif input_format == "csv":
        reader = reader.option("inferSchema", "true")
    try:
        return reader.format(input_format).load([hadoop_files.escape_glob(p) for p in paths])
    except (PySparkException, Py4JError) as error:
        reason = spark_errors.spark_reason(error)
        raise ValueError(
            f"--input-path must hold {input_format} files, but Spark cannot read "
            f"{', '.join(paths)}: {reason}; check --input-path and --input-format"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Own the Spark session around `run_job`; returns the exit status."""
    options = parse_arguments(argv)
    report, reason, spark = None, "", None
    try:
        spark = SparkSession.builder.appName("jrc_sort").getOrCreate()
        spark_errors.silence_stack_traces(spark)
        report = run_job(spark, options)
    except (PySparkException, Py4JError) as error:
        started = "Spark failed" if spark else "Spark did not start (it needs Java 17 or later)"
        reason = f"{started}: {spark_errors.spark_reason(error)}"
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error)
    except Exception as error:
        reason = f"unexpected {type(error).__name__}: {spark_errors.spark_reason(error)}"
    finally:
        if spark:
            with suppress(Exception):  # a driver that died cannot be stopped, nor tells more
                spark.stop()  # before any message, which Spark's progress bar would write over
    if report is None:
        print(f"jrc_sort.py: error: {' '.join(reason.split())}", file=sys.stderr)
        return 1
    print(report)
    return 0


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[phase] = time.monotonic() - start


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but got {value}")
    return value


def _partition_count(text: str) -> int:
    value = _positive(text)
    if value > dataset_format.MAX_FILES:
        raise argparse.ArgumentTypeError(
            f"must be at most {dataset_format.MAX_FILES}, but got {value}"
        )
    return value


if __name__ == "__main__":
    sys.exit(main())
