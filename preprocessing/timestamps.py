"""Moments and durations in the units of a timestamp column.

A TIMESTAMP, TIMESTAMP_NTZ or DATE column is compared as microseconds since 1970 UTC; a column of
numbers as it is, in a unit that only its user knows (`--timestamp-unit`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MICROSECONDS_PER_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> int:
    """Seconds of `30m`, `12h`, `45s` or `2d`.

    Raises:
        ValueError: `text` is none of these, or zero.
    """
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match or not int(match[1]):
        raise ValueError(f"must be a duration like 45s, 30m, 12h or 2d, but got {text!r}")
    return int(match[1]) * _SECONDS[match[2]]


def is_number(kind: T.DataType) -> bool:
    """Whether a timestamp column of type `kind` needs a unit."""
    return isinstance(kind, T.NumericType)


def as_number(timestamp: Column, kind: T.DataType) -> Column:
    """`timestamp` of type `kind` as a number that can be subtracted and compared."""
    if isinstance(kind, T.TimestampType):
        return F.unix_micros(timestamp)
    if isinstance(kind, T.TimestampNTZType):
        return F.unix_micros(timestamp.cast("timestamp"))  # in UTC, the job's time zone
    if isinstance(kind, T.DateType):
        return F.unix_date(timestamp).cast("bigint") * F.lit(_MICROSECONDS_PER_DAY)
    return timestamp


def units_per_second(flag: str, kind: T.DataType, unit: str | None) -> int:
    """How much `as_number` grows in a second.

    Raises:
        ValueError: a column of numbers without `unit`; `flag` is who asks.
    """
    if not is_number(kind):
        return UNITS_PER_SECOND["us"]
    if unit is None:
        raise ValueError(
            f"{flag} needs the unit of --timestamp-column, which holds numbers; add "
            "--timestamp-unit s, ms, us or ns"
        )
    return UNITS_PER_SECOND[unit]


def moment(flag: str, text: str, kind: T.DataType, unit: str | None) -> int | float:
    """`text`, an ISO 8601 date or time (UTC where it names no zone) or a number, as `as_number`.

    Raises:
        ValueError: `text` is neither, or is a number for a column that holds none.
    """
    if is_number(kind) and re.fullmatch(r"-?\d+", text):
        return int(text)
    if is_number(kind) and re.fullmatch(r"-?\d+\.\d*", text):
        return float(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        numbers = " or a number in the column's unit" if is_number(kind) else ""
        raise ValueError(
            f"{flag} must be a date or time like 2026-01-31 or 2026-01-31T12:00:00Z{numbers}, "
            f"but got {text!r}"
        ) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    microseconds = (when - _EPOCH) // timedelta(microseconds=1)
    value = Fraction(microseconds * units_per_second(flag, kind, unit), 10**6)
    return int(value) if value.denominator == 1 else float(value)
