"""A number that orders rows as their session and time do, so that a sort rarely looks at rows.

Spark's sort keeps 8 bytes of the first sort key beside the place of each row. Where these differ it
compares nothing else; where they are equal, as for all rows of a session when it is the first key,
it fetches both rows from memory, which takes longer than all else in the sort. So the first key
becomes session and time in one number, of as many leading bits of the time as fit:

    sessions 5 to 8, times 100 to 103: prefix = (session - 5) << 2 | (time - 100)

It rises with (session, time), hence a sort by (prefix, session, time, ...) gives the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.sort_prefix
    from preprocessing import timestamps
    from preprocessing.row_hash import column
else:  # run by spark-submit, see jrc_sort.py
    import timestamps
    from row_hash import column

BITS = 63  # of a bigint, without its sign
_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_TIMES = (*_INTEGERS, T.TimestampType, T.TimestampNTZType, T.DateType)


@dataclass(frozen=True)
class KeyColumns:
    """A session column of integers and a timestamp column of integers or times."""

    session: str
    timestamp: str
    timestamp_kind: T.DataType

    @property
    def numbers(self) -> tuple[Column, Column]:
        """Session and time as bigints."""
        time = timestamps.as_number(column(self.timestamp), self.timestamp_kind)
        return column(self.session).cast("bigint"), time.cast("bigint")

    def bounds(self, chosen: Column) -> list[Column]:
        """Aggregates: least and greatest session and time of the rows that are `chosen`."""
        kept = [F.when(chosen, number) for number in self.numbers]
        return [bound(number) for number in kept for bound in (F.min, F.max)]


@dataclass(frozen=True)
class SortPrefix:
    """The number for rows whose session and time are inside `bounds`, (least, greatest) each."""

    keys: KeyColumns
    session_bounds: tuple[int, int]
    time_bounds: tuple[int, int]

    @property
    def time_bits(self) -> int:
        """Leading bits of the time that the number has."""
        return max(0, min(_bits(self.time_bounds), BITS - _bits(self.session_bounds)))

    def column(self) -> Column | None:
        """The number, or None where the sessions leave no bit for the time."""
        if not self.time_bits:
            return None
        session, time = self.keys.numbers
        since = time - F.lit(self.time_bounds[0])
        leading = F.shiftright(since, _bits(self.time_bounds) - self.time_bits)
        return F.shiftleft(session - F.lit(self.session_bounds[0]), self.time_bits) + leading


def key_columns(
    schema: T.StructType, session_columns: tuple[str, ...], timestamp: str
) -> KeyColumns | None:
    """The key columns, or None where they are others than one of integers and one of times."""
    kind = schema[timestamp].dataType
    is_one = len(session_columns) == 1
    if is_one and isinstance(schema[session_columns[0]].dataType, _INTEGERS):
        return KeyColumns(session_columns[0], timestamp, kind) if isinstance(kind, _TIMES) else None
    return None


def _bits(bounds: tuple[int, int]) -> int:
    return (bounds[1] - bounds[0]).bit_length()
