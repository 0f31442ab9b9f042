"""Read events from files of any format, or from a table of the catalog."""

from __future__ import annotations

from collections.abc import Sequence

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

if __package__:  # imported as preprocessing.event_source
    from preprocessing import hadoop_files, spark_errors
else:  # run by spark-submit, see jrc_sort.py
    import hadoop_files
    import spark_errors

TABLE = "table"
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
INFERRED_FORMATS = ("csv", "json")
FORMATS = (*sorted(READ_OPTIONS), TABLE)


def expand_paths(files: hadoop_files.HadoopFiles, patterns: Sequence[str]) -> list[str]:
    """The input paths, with globs expanded where no such path exists.

    Raises:
        ValueError: nothing is there.
    """
    inputs: list[str] = []
    for pattern in patterns:
        found = files.expand(pattern)
        if not found:
            raise ValueError(f"--input-path must exist, but nothing is at {pattern!r}; check it")
        inputs += found
    return inputs


def read_files(
    spark: SparkSession, paths: Sequence[str], input_format: str, schema: str | None
) -> DataFrame:
    """The events at `paths`, taken literally; malformed CSV or JSON fails when it is read.

    Raises:
        ValueError: `schema` with a format that has its own, or not a DDL schema; unreadable input.
    """
    reader = spark.read.options(**SKIP_NO_FILE, **READ_OPTIONS[input_format])
    if schema is not None:
        if input_format not in INFERRED_FORMATS:
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


def read_table(spark: SparkSession, names: Sequence[str], schema: str | None) -> DataFrame:
    """The rows of one table or view of the catalog, `[catalog.][database.]table`.

    Raises:
        ValueError: not one name; `schema`, which a table has itself; no such table.
    """
    if schema is not None or len(names) != 1:
        raise ValueError(
            "--input-format table must go with one --input-path, the table's name, and without "
            f"--schema, but got {', '.join(names)}{' and a schema' if schema else ''}"
        )
    try:
        return spark.read.table(names[0])
    except (PySparkException, Py4JError) as error:
        raise ValueError(
            f"--input-path must name a table, but Spark cannot read {names[0]!r}: "
            f"{spark_errors.spark_reason(error)}"
        ) from None


def choose_rows(events: DataFrame, where: str | None) -> DataFrame:
    """The rows of which the SQL condition `where` is true.

    Raises:
        ValueError: `where` is not a condition on these columns.
    """
    if where is None:
        return events
    try:
        return events.where(where)
    except PySparkException as error:
        raise ValueError(
            "--where must be a SQL condition on the input's columns, like \"ds = '2026-01-31'\", "
            f"but got {where!r}: {spark_errors.spark_reason(error)}"
        ) from None


def estimated_bytes(events: DataFrame) -> int:
    """Spark's estimate of the size of `events` from the files and columns to be read."""
    plan = events._jdf.queryExecution().optimizedPlan()  # type: ignore[operator]
    return int(plan.stats().sizeInBytes())
