"""Choose the columns of the input, and check that those the flags name can do their work."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.event_columns
    from preprocessing import timestamps
    from preprocessing.row_hash import column, without_order
    from preprocessing.session_layout import SessionRules, SplitRule
else:  # run by spark-submit, see jrc_sort.py
    import timestamps
    from row_hash import column, without_order
    from session_layout import SessionRules, SplitRule

TIME_TYPES = (T.NumericType, T.TimestampType, T.TimestampNTZType, T.DateType)
SESSION_TYPES = (*TIME_TYPES, T.StringType, T.BinaryType)
_SHOWN_COLUMNS = 20


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


def check_schema(
    df: DataFrame, rules: SessionRules, all_columns: Sequence[str], split: SplitRule | None = None
) -> None:
    """Check that the key columns are there and have types that can be keys.

    `all_columns` are those of the input before columns were left out.

    Raises:
        ValueError: a key column is not there, was left out, is named twice, or has an unfit type;
            a column has the name of Spark's hidden one, or of the session id to be added.
    """
    for name in df.columns:
        if name.lower() == "_metadata":
            raise ValueError(
                f"no column may be called {name!r}, which hides Spark's own column of that name; "
                "rename it before, or leave it out with --drop-columns"
            )
    keys = [name for _, name in rules.flags]
    for position, (flag, name) in enumerate(rules.flags):
        _require_kept(flag, name, df.columns, all_columns)
        if name in keys[:position]:
            raise ValueError(f"{flag} must be a column of its own, but {name!r} is named twice")
    if split and split.column:
        _require_kept("--split-column", split.column, df.columns, all_columns)
    _check_types(df, rules)
    added = rules.keys(df.schema).session_id
    if added and added.lower() in (name.lower() for name in df.columns):
        raise ValueError(
            f"the session id must be a new column, but the input has a column {added!r}; name "
            "another with --session-id-column, or leave that one out with --drop-columns"
        )


def _check_types(df: DataFrame, rules: SessionRules) -> None:
    types = {field.name: field.dataType for field in df.schema.fields}
    for name in rules.columns:
        _require_type(
            "--session-column", name, types, SESSION_TYPES, "a string, a number or a date"
        )
    _require_type(
        "--timestamp-column", rules.timestamp, types, TIME_TYPES, "a number, a timestamp or a date"
    )
    if rules.timestamp_unit and not timestamps.is_number(types[rules.timestamp]):
        raise ValueError(
            "--timestamp-unit must go with a --timestamp-column of numbers, but "
            f"{rules.timestamp!r} is a {types[rules.timestamp].simpleString()}; leave the unit out"
        )
    for name in rules.tie_breakers:
        if without_order(types[name]):
            raise ValueError(
                f"--tie-breaker must have an order, but {name!r} is a "
                f"{types[name].simpleString()}; name another column"
            )


def check_not_empty(is_empty: bool) -> None:
    """Check that the input has a row.

    Raises:
        ValueError: it has none.
    """
    if is_empty:
        raise ValueError("input must have at least one row, but it has none; look at --input-path")


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


def _require_kept(flag: str, name: str, kept: Sequence[str], all_columns: Sequence[str]) -> None:
    _require_column(flag, name, all_columns)
    if name not in kept:
        raise ValueError(
            f"{flag} {name!r} must stay in the dataset, but --columns-regex or --drop-columns "
            "leaves it out; keep it there"
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
