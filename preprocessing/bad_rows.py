"""Rows that cannot be laid out: without a session or a time, or with an impossible time.

The job fails on them, or sets them aside with the reason (`--on-bad-rows quarantine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.bad_rows
    from preprocessing import sort_prefix, timestamps
    from preprocessing.row_hash import column
else:  # run by spark-submit, see jrc_sort.py
    import sort_prefix
    import timestamps
    from row_hash import column

REASON_COLUMN = "bad_row_reason"
FIRST_YEAR, END_YEAR = 1970, 2100  # no click was logged before or after


@dataclass(frozen=True)
class InputFacts:
    """Rows of the input, how many of them are bad by reason, and what can speed up their sort."""

    rows: int
    bad_rows: dict[str, int]
    sort_prefix: sort_prefix.SortPrefix | None = field(default=None, compare=False)

    @property
    def good_rows(self) -> int:
        """Rows to lay out."""
        return self.rows - sum(self.bad_rows.values())


class BadRows:
    """Finds the bad rows of `df` by its session columns and timestamp column.

    A row has one reason, the first that holds: a session column is null, NaN or empty; the
    timestamp is null, not finite, negative (before 1970), or not before the year 2100. The last
    needs `timestamp_unit` for a column of numbers, and is not looked at without.
    """

    def __init__(
        self,
        df: DataFrame,
        session_columns: Sequence[str],
        timestamp_column: str,
        timestamp_unit: str | None = None,
    ):
        kinds = {field.name: field.dataType for field in df.schema.fields}
        conditions: list[tuple[str, Column]] = []
        for name in session_columns:
            what = f"session column {name!r} is"
            conditions += [(f"{what} {text}", c) for text, c in _missing(name, kinds[name])]
        what = f"timestamp column {timestamp_column!r} is"
        times = _bad_times(timestamp_column, kinds[timestamp_column], timestamp_unit)
        conditions += [(f"{what} {text}", condition) for text, condition in times]
        self._df = df
        self._reasons = [reason for reason, _ in conditions]
        chosen = F.lit(None).cast("int")
        for number, (_, condition) in reversed(list(enumerate(conditions))):
            chosen = F.when(condition, number).otherwise(chosen)
        self._number = chosen  # of the reason, or null
        self._keys = sort_prefix.key_columns(df.schema, tuple(session_columns), timestamp_column)

    def count(self) -> InputFacts:
        """Count all rows and the bad ones, in one pass over the key columns."""
        per_reason = [F.count_if(self._number == n) for n in range(len(self._reasons))]
        bounds = self._keys.bounds(self._number.isNull()) if self._keys else []
        rows, *found = self._df.agg(F.count(F.lit(1)), *per_reason, *bounds).collect()[0]
        bad = {reason: n for reason, n in zip(self._reasons, found, strict=False) if n}
        prefix = None
        if self._keys and rows > sum(bad.values()):
            lowest, highest, first, last = found[len(self._reasons) :]
            prefix = sort_prefix.SortPrefix(self._keys, (lowest, highest), (first, last))
        return InputFacts(rows, bad, prefix)

    def good(self) -> DataFrame:
        """The rows that can be laid out."""
        return self._df.where(self._number.isNull())

    def bad(self) -> DataFrame:
        """The others, with their reason in a last column `bad_row_reason`."""
        name = REASON_COLUMN
        while name.lower() in (other.lower() for other in self._df.columns):
            name = "_" + name
        texts = F.array(*(F.lit(reason) for reason in self._reasons))
        return self._df.where(self._number.isNotNull()).withColumn(
            name, F.element_at(texts, self._number + 1)
        )


def check_no_bad_rows(facts: InputFacts) -> None:
    """Check that every row can be laid out.

    Raises:
        ValueError: some cannot.
    """
    if facts.bad_rows:
        reasons = "; ".join(f"{reason} ({rows} rows)" for reason, rows in facts.bad_rows.items())
        raise ValueError(
            "every row must have a session and a possible time, but "
            f"{facts.rows - facts.good_rows} of {facts.rows} rows do not: {reasons}; filter them "
            "with --where, or set them aside with --on-bad-rows quarantine"
        )


def check_some_good_rows(facts: InputFacts) -> None:
    """Check that there is a row to lay out.

    Raises:
        ValueError: all are bad.
    """
    if not facts.good_rows:
        raise ValueError(
            f"input must have a row that can be laid out, but all {facts.rows} are bad: "
            f"{'; '.join(facts.bad_rows)}; look at --session-column and --timestamp-column"
        )


def _missing(name: str, kind: T.DataType) -> list[tuple[str, Column]]:
    value = column(name)
    found = [("null", value.isNull())]
    if isinstance(kind, T.FloatType | T.DoubleType):
        found.append(("NaN", F.isnan(value)))
    if isinstance(kind, T.StringType | T.BinaryType):
        found.append(("empty", F.length(value) == 0))
    return found


def _bad_times(name: str, kind: T.DataType, unit: str | None) -> list[tuple[str, Column]]:
    value = column(name)
    found = [("null", value.isNull())]
    if isinstance(kind, T.FloatType | T.DoubleType):
        not_finite = F.isnan(value) | (F.abs(value) == float("inf"))
        found.append(("NaN or infinite", not_finite))
    late = f"in the year {END_YEAR} or later (milliseconds taken for seconds?)"
    if not timestamps.is_number(kind):
        first, end = (F.lit(f"{year}-01-01").cast(kind) for year in (FIRST_YEAR, END_YEAR))
        return [*found, (f"before the year {FIRST_YEAR}", value < first), (late, value >= end)]
    found.append(("negative", value < 0))
    if unit is not None:
        end_number = timestamps.moment("", f"{END_YEAR}-01-01", T.LongType(), unit)
        found.append((late, value >= F.lit(end_number)))
    return found
