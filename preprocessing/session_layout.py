"""The layout as DataFrame functions: check the input, lay it out, check what was written.

Only DataFrame expressions, no Python on the executors. `rows` has the columns of `placed_rows`:

    file               row_index   session   order_key   row_hash
    part-00000.parquet 0           u7        {10, 1}     ...
    part-00000.parquet 1           u7        {12, 0}     ...
    part-00000.parquet 2           u3        {11, 5}     ...

order_key = (timestamp, tie-breakers); row_hash is over all columns (row_hash.py).

`runs`, one row per (file, session), says where each session lies:

    file               session   row_start   row_last   num_rows   disordered_rows   content_hash
    part-00000.parquet u7        0           1          2          0                 ...
    part-00000.parquet u3        2           2          1          0                 ...

The layout is right when every session has one run, with `row_last - row_start + 1 == num_rows` and
no disordered row.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.session_layout
    from preprocessing.row_hash import column, row_hash, without_order
else:  # run by spark-submit, see jrc_sort.py
    from row_hash import column, row_hash, without_order

TIME_TYPES = (T.NumericType, T.TimestampType, T.TimestampNTZType, T.DateType)
SESSION_TYPES = (*TIME_TYPES, T.StringType, T.BinaryType)
_SHOWN_COLUMNS = 20
_SHOWN_VIOLATIONS = 5
_MICROSECONDS_PER_YEAR = 31_556_952_000_000


@dataclass(frozen=True)
class SortKeys:
    """The columns that say what a session is and how its rows are ordered."""

    session: str
    timestamp: str
    tie_breakers: tuple[str, ...] = ()

    @property
    def flags(self) -> list[tuple[str, str]]:
        """(command line flag, column) of every key."""
        ties = [("--tie-breaker", name) for name in self.tie_breakers]
        return [("--session-column", self.session), ("--timestamp-column", self.timestamp), *ties]

    @property
    def names(self) -> list[str]:
        """All key columns, in sort order."""
        return [name for _, name in self.flags]


@dataclass(frozen=True)
class InputFacts:
    """Rows of the input, and the range of its timestamps as JSON values."""

    rows: int
    min_timestamp: int | float | str
    max_timestamp: int | float | str


def select_columns(
    df: DataFrame, columns_regex: str | None, drop_columns: Sequence[str]
) -> DataFrame:
    """Keep the columns that `columns_regex` matches, then leave out `drop_columns`.

    The regex is that of Hive's and Spark's quoted column names: a Java regex that must match the
    whole name, case-insensitively unless `spark.sql.caseSensitive`; `(ds)?+.+` keeps all but `ds`.

    Raises:
        ValueError: the regex does not parse or keeps no column; a dropped column is not there.
    """
    for name in drop_columns:
        _require_column("--drop-columns", name, df.columns)
    if columns_regex == "":
        raise ValueError(
            "--columns-regex must be a Java regex, but got ''; leave it out to keep all columns"
        )
    if columns_regex is not None:
        try:
            kept = df.select(df.colRegex(f"`{columns_regex}`"))
        except PySparkException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"--columns-regex must be a Java regex, but got {columns_regex!r}: {reason}; "
                "quote it for the shell, without backticks"
            ) from None
        if not kept.columns:
            raise ValueError(
                f"--columns-regex must keep a column, but {columns_regex!r} matches "
                f"none as a whole name; change it. Columns: {_shown(df.columns)}"
            )
        df = kept
    return df.drop(*(column(name) for name in drop_columns))


def check_schema(df: DataFrame, keys: SortKeys, all_columns: Sequence[str]) -> None:
    """Check that the key columns are there and have types that can be keys.

    `all_columns` are those of the input before columns were left out.

    Raises:
        ValueError: a key column is not there, was left out, is named twice, or has an unfit type;
            a column has the name of Spark's hidden one.
    """
    for name in df.columns:
        if name.lower() == "_metadata":
            raise ValueError(
                f"no column may be called {name!r}, which hides Spark's own column of that name; "
                "rename it before, or leave it out with --drop-columns"
            )
    for position, (flag, name) in enumerate(keys.flags):
        _require_column(flag, name, all_columns)
        if name not in df.columns:
            raise ValueError(
                f"{flag} {name!r} must stay in the dataset, but --columns-regex or --drop-columns "
                "leaves it out; keep it there"
            )
        if name in keys.names[:position]:
            raise ValueError(f"{flag} must be a column of its own, but {name!r} is named twice")
    types = {field.name: field.dataType for field in df.schema.fields}
    _require_type(
        "--session-column", keys.session, types, SESSION_TYPES, "a string, a number or a date"
    )
    _require_type(
        "--timestamp-column", keys.timestamp, types, TIME_TYPES, "a number, a timestamp or a date"
    )
    for name in keys.tie_breakers:
        if without_order(types[name]):
            raise ValueError(
                f"--tie-breaker must have an order, but {name!r} is a "
                f"{types[name].simpleString()}; name another column"
            )


def check_not_empty(df: DataFrame) -> None:
    """Check that there is a row, before types: those of CSV without rows are not the user's.

    Raises:
        ValueError: no row.
    """
    if df.isEmpty():
        raise ValueError("input must have at least one row, but it has none; look at --input-path")


def check_values(df: DataFrame, keys: SortKeys) -> InputFacts:
    """Check that every row has a session and a time, in one pass over the two columns.

    Raises:
        ValueError: a null, NaN or empty session; a null, NaN or infinite timestamp, or one outside
            the years 1 to 9999.
    """
    session, timestamp = column(keys.session), column(keys.timestamp)
    types = {field.name: field.dataType for field in df.schema.fields}
    bad_session = session.isNull() | _is_nan(session, types[keys.session])
    if isinstance(types[keys.session], T.StringType | T.BinaryType):
        bad_session |= F.length(session) == 0
    infinite = F.lit(False)
    if isinstance(types[keys.timestamp], T.FractionalType):
        infinite = F.abs(timestamp.cast("double")) == float("inf")
    bad_time = timestamp.isNull() | _is_nan(timestamp, types[keys.timestamp]) | infinite
    found = df.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count(F.when(bad_session, 1)).alias("bad_sessions"),
        F.count(F.when(bad_time, 1)).alias("bad_times"),
        _plain_time(F.min(timestamp), types[keys.timestamp]).alias("first"),
        _plain_time(F.max(timestamp), types[keys.timestamp]).alias("last"),
    ).collect()[0]
    if found.bad_sessions:
        raise ValueError(
            f"session column {keys.session!r} must have a value in every row, but "
            f"{found.bad_sessions} of {found.rows} rows are null, NaN or empty, which would make "
            "one giant session; filter or fill these rows first"
        )
    if found.bad_times:
        raise ValueError(
            f"timestamp column {keys.timestamp!r} must have a finite value in every row, but "
            f"{found.bad_times} of {found.rows} rows are null, NaN or infinite; "
            "filter or fill these rows first"
        )
    kind = types[keys.timestamp]
    first, last = (_time_value(keys.timestamp, v, kind) for v in (found.first, found.last))
    return InputFacts(found.rows, first, last)


def lay_out(df: DataFrame, keys: SortKeys, num_partitions: int) -> DataFrame:
    """Every session in one partition, contiguous, ordered by timestamp, tie-breakers, content.

    `repartition(n, key)` never splits a key; a REBALANCE hint would. Rows with equal keys are
    ordered by a hash of all their columns, so the order does not depend on the input's files.
    """
    hash_name = "row_hash"
    while hash_name.lower() in (name.lower() for name in df.columns):
        hash_name = "_" + hash_name
    return (
        df.repartition(num_partitions, column(keys.session))
        .withColumn(hash_name, row_hash(df.schema))
        .sortWithinPartitions(*(column(name) for name in keys.names), column(hash_name))
        .drop(column(hash_name))
    )


def placed_rows(written: DataFrame, keys: SortKeys) -> DataFrame:
    """Place, keys and content of every row read from Parquet: `rows` of the module docstring."""
    return written.select(
        F.col("_metadata.file_name").alias("file"),
        F.col("_metadata.row_index").alias("row_index"),
        column(keys.session).alias("session"),
        F.struct(*(column(name) for name in keys.names[1:])).alias("order_key"),
        row_hash(written.schema).alias("row_hash"),
    )


def session_runs(rows: DataFrame) -> DataFrame:
    """Extent, disorder and hash of rows and places per session: `runs` of the module docstring."""
    in_file_order = Window.partitionBy("file", "session").orderBy("row_index")
    is_disordered = F.lag("order_key").over(in_file_order) > F.col("order_key")
    return (
        rows.withColumn("disordered", F.when(is_disordered, 1).otherwise(0))
        .groupBy("file", "session")
        .agg(
            F.min("row_index").alias("row_start"),
            F.max("row_index").alias("row_last"),
            F.count(F.lit(1)).alias("num_rows"),
            F.sum("disordered").alias("disordered_rows"),
            F.bit_xor(F.xxhash64("row_index", "row_hash")).alias("content_hash"),
        )
    )


def find_violations(runs: DataFrame) -> list[str]:
    """What is wrong with a layout and where, a few sessions at most; empty when it is right."""
    per_session = runs.groupBy("session").agg(
        F.count(F.lit(1)).alias("num_files"),
        F.sort_array(F.collect_list("file")).alias("files"),
        F.max(F.col("row_last") - F.col("row_start") + 1 - F.col("num_rows")).alias("gap_rows"),
        F.sum("disordered_rows").alias("disordered_rows"),
    )
    broken = per_session.where("num_files > 1 or gap_rows > 0 or disordered_rows > 0")
    return [_describe(row) for row in broken.orderBy("session").limit(_SHOWN_VIOLATIONS).collect()]


def _describe(row: Any) -> str:
    where = ", ".join(row.files[:3]) + (", ..." if len(row.files) > 3 else "")
    reasons = []
    if row.num_files > 1:
        reasons.append(f"is split over {row.num_files} files")
    if row.gap_rows:
        reasons.append(f"is not contiguous ({row.gap_rows} foreign rows inside)")
    if row.disordered_rows:
        reasons.append(f"has {row.disordered_rows} rows before the time of the row above them")
    return f"session {row.session!r} {' and '.join(reasons)} in {where}"


def _shown(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN_COLUMNS
    return ", ".join(names[:_SHOWN_COLUMNS]) + (f", and {rest} more" if rest > 0 else "")


def _require_column(flag: str, name: str, available: Sequence[str]) -> None:
    if name in available:
        return
    by_lower = {other.lower(): other for other in available}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[close[0]]!r}?" if close else "."
    raise ValueError(
        f"{flag} must name a column of the input, but got {name!r}{hint} "
        f"Columns: {_shown(available)}"
    )


def _require_type(
    flag: str, name: str, types: dict[str, T.DataType], fit: tuple[type, ...], wanted: str
) -> None:
    found = types[name]
    if isinstance(found, fit):
        return
    cure = "cast it before, for example with to_timestamp"
    cure += ", or read CSV and JSON with --schema" if isinstance(found, T.StringType) else ""
    raise ValueError(f"{flag} must be {wanted}, but {name!r} is a {found.simpleString()}; {cure}")


def _is_nan(value: Column, data_type: T.DataType) -> Column:
    return F.isnan(value) if isinstance(data_type, T.FloatType | T.DoubleType) else F.lit(False)


def _plain_time(value: Column, data_type: T.DataType) -> Column:
    """For the driver, whose own types end with the year 9999 and know a local time zone.

    A TIMESTAMP as microseconds since 1970 UTC, a date or a TIMESTAMP_NTZ as text.
    """
    if isinstance(data_type, T.TimestampType):
        return F.unix_micros(value)
    is_text = isinstance(data_type, T.DateType | T.TimestampNTZType)
    return value.cast("string") if is_text else value


def _time_value(name: str, value: Any, data_type: T.DataType) -> int | float | str:
    """`value` of `_plain_time` as the manifest has it."""
    shown = value
    try:
        if isinstance(data_type, T.TimestampType):
            shown = f"about the year {1970 + value // _MICROSECONDS_PER_YEAR}"
            return (datetime(1970, 1, 1) + timedelta(microseconds=value)).isoformat() + "Z"
        if isinstance(data_type, T.TimestampNTZType):
            return datetime.fromisoformat(value).isoformat()
        if isinstance(data_type, T.DateType):
            return date.fromisoformat(value).isoformat()
    except (OverflowError, ValueError):
        raise ValueError(
            f"timestamp column {name!r} must lie in the years 1 to 9999, but reaches {shown}; were "
            "milliseconds or microseconds taken for seconds? Convert them with timestamp_millis or "
            "timestamp_micros, or leave them plain numbers"
        ) from None
    return format(value, "f") if isinstance(value, Decimal) else value
