"""From rows to sessions in files: one shuffle by session, one sort, and windows that add neither.

    user  ts   --session-gap 5: start  position  --max-session-rows 2: piece  session_id64
    u1    0    0                       0         0                            xxhash64(u1, 0, 0)
    u1    4    0                       1         0                            xxhash64(u1, 0, 0)
    u1    5    0                       2         1                            xxhash64(u1, 0, 1)
    u1    60   60                      0         0                            xxhash64(u1, 60, 0)

All windows partition by columns that start with those of the shuffle, and order by the whole order
of the rows, ties included, so that Spark needs no further shuffle and cannot reorder equal times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Observation, Window, WindowSpec
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.session_layout
    from preprocessing import timestamps
    from preprocessing.row_hash import column, row_hash
    from preprocessing.sort_prefix import SortPrefix
else:  # run by spark-submit, see jrc_sort.py
    import timestamps
    from row_hash import column, row_hash
    from sort_prefix import SortPrefix

DEFAULT_ID_COLUMN = "session_id64"
POLICIES = ("cut", "newest", "drop")
TRAIN, EVAL = SPLITS = ("train", "eval")
_FRACTION_STEPS = 1_000_000
# A sort computes the hash of two rows whenever all keys before it are equal: cheaper than to keep
# one for each row, unless rows are wide and many of them tied.
_HASHED_BY_THE_SORT = 32  # columns at most


@dataclass(frozen=True)
class SortKeys:
    """The key columns of a dataset as written.

    `session` has one value per session. `identity` are the columns that tell sessions apart for
    sure: `session` may be a 64-bit hash of them, the column `session_id`. A row's partition is the
    hash of `partition_by`.
    """

    session: str
    timestamp: str
    tie_breakers: tuple[str, ...]
    identity: tuple[str, ...]
    partition_by: tuple[str, ...]
    session_id: str | None = None


@dataclass(frozen=True)
class SessionRules:
    """What a session is and how its rows are ordered.

    `columns` together are the session, or the user whose rows `gap_seconds` of silence cut into
    sessions. Of a session with more than `max_rows` rows the policy `long_sessions` makes
    consecutive sessions of at most that many (`cut`), keeps the newest rows (`newest`) or nothing
    (`drop`).
    """

    columns: tuple[str, ...]
    timestamp: str
    tie_breakers: tuple[str, ...] = ()
    timestamp_unit: str | None = None
    gap_seconds: int | None = None
    max_rows: int | None = None
    long_sessions: str = "cut"
    id_column: str = DEFAULT_ID_COLUMN

    @property
    def flags(self) -> list[tuple[str, str]]:
        """(command line flag, column) of every key column, in sort order."""
        sessions = [("--session-column", name) for name in self.columns]
        ties = [("--tie-breaker", name) for name in self.tie_breakers]
        return [*sessions, ("--timestamp-column", self.timestamp), *ties]

    @property
    def cuts(self) -> bool:
        """Whether long sessions are cut into several."""
        return self.max_rows is not None and self.long_sessions == "cut"

    def keys(self, schema: T.StructType) -> SortKeys:
        """The key columns of the dataset to be made from rows of `schema`."""
        kinds = {field.name: field.dataType for field in schema.fields}
        is_built = self.gap_seconds is not None or self.cuts
        is_plain = len(self.columns) == 1 and not is_built
        is_text = isinstance(kinds[self.columns[0]], T.StringType | T.BinaryType)
        has_id = not is_plain or is_text
        return SortKeys(
            session=self.columns[0] if is_plain else self.id_column,
            timestamp=self.timestamp,
            tie_breakers=self.tie_breakers,
            identity=(*self.columns, self.id_column) if is_built else self.columns,
            partition_by=self.columns,
            session_id=self.id_column if has_id else None,
        )


@dataclass(frozen=True)
class SplitRule:
    """Which sessions are for evaluation: never only a part of one.

    `eval_from`: those whose last row is at that moment or later, so that training sees nothing
    from then on. `eval_fraction`: a share of them, by a hash of the session, or of `column` in its
    first row.
    """

    eval_from: str | None = None
    eval_fraction: float | None = None
    column: str | None = None


@dataclass(frozen=True)
class Layout:
    """Rows as they will lie in the files, one per partition of `rows`.

    `split` is the column of `rows` that says train or eval, which the files will not have.
    `counts` is filled when `rows` are written, where sessions are split or capped.
    """

    rows: DataFrame
    keys: SortKeys
    num_partitions: int
    split: str | None = None
    counts: Observation | None = None

    @property
    def schema(self) -> T.StructType:
        """Of the files."""
        fields = (field for field in self.rows.schema.fields if field.name != self.split)
        return T.StructType(list(fields))


@dataclass(frozen=True)
class SessionCounts:
    """Counted while rows are written: before long sessions are cut or dropped, in both splits."""

    rows: int
    sessions: int
    long_sessions: int
    dropped_rows: int


def check_times(schema: T.StructType, rules: SessionRules, split: SplitRule | None) -> None:
    """Check the flags that name times, before any row is read.

    Raises:
        ValueError: one does not fit the timestamp column.
    """
    kind, unit = schema[rules.timestamp].dataType, rules.timestamp_unit
    if rules.gap_seconds is not None:
        timestamps.units_per_second("--session-gap", kind, unit)
    if split and split.eval_from is not None:
        timestamps.moment("--eval-from", split.eval_from, kind, unit)


def lay_out(
    df: DataFrame,
    rules: SessionRules,
    num_partitions: int,
    split: SplitRule | None = None,
    sort_prefix: SortPrefix | None = None,
) -> Layout:
    """Every session in one partition, contiguous, ordered by timestamp, tie-breakers, content.

    `repartition(n, key)` never splits a key; a REBALANCE hint would. Rows with equal keys are
    ordered by a hash of all their columns, so the order does not depend on the input's files.
    `sort_prefix`, for rows within its bounds, changes nothing but the time that the sort takes.

    Raises:
        ValueError: the rules do not fit the timestamp column.
    """
    keys = rules.keys(df.schema)
    start, position, length, side, content = _unused_names(df, keys)
    shuffle = [column(name) for name in keys.partition_by]
    rows, tie = df.repartition(num_partitions, *shuffle), row_hash(df.schema)
    has_windows = bool(split or rules.gap_seconds is not None or rules.max_rows is not None)
    if has_windows or len(df.columns) > _HASHED_BY_THE_SORT:
        rows, tie = rows.withColumn(content, tie), column(content)
    order = [*(column(name) for name in (rules.timestamp, *rules.tie_breakers)), tie]
    # Windows would sort again after an order that starts with anything but their own columns.
    prefix = sort_prefix.column() if sort_prefix and not has_windows else None
    first = [] if prefix is None else [prefix]
    rows = rows.sortWithinPartitions(*first, *shuffle, *order)
    session, counts = shuffle, None
    if rules.gap_seconds is not None:
        of_user = Window.partitionBy(*shuffle).orderBy(*order)
        rows = rows.withColumn(start, _session_start(df, rules, of_user))
        session = [*shuffle, F.col(start)]
    if split or rules.max_rows is not None:
        # Already in this order, but Spark cannot know that of `start`.
        rows = rows.sortWithinPartitions(*session, *order)
        in_order, whole = Window.partitionBy(*session).orderBy(*order), Window.partitionBy(*session)
        if split:
            rows = rows.withColumn(side, _side(df, rules, split, session, in_order, whole))
        rows = rows.withColumn(position, F.row_number().over(in_order) - 1)
        rows = rows.withColumn(length, F.count(F.lit(1)).over(whole) if _drops(rules) else F.lit(0))
        counts = Observation()
        kept = _is_kept(rules, F.col(position), F.col(length))
        rows = rows.observe(counts, *_counts(rules, F.col(position), kept)).where(kept)
    if keys.session_id:
        piece = []
        if rules.max_rows is not None and rules.long_sessions == "cut":
            piece = [F.floor(F.col(position) / rules.max_rows)]
        rows = rows.withColumn(keys.session_id, F.xxhash64(*session, *piece))
    rows = rows.drop(start, position, length, content)
    return Layout(rows, keys, num_partitions, side if split else None, counts)


def session_counts(layout: Layout) -> SessionCounts | None:
    """What was counted while the rows of `layout` were written; waits for that."""
    return SessionCounts(**layout.counts.get) if layout.counts else None


def _session_start(df: DataFrame, rules: SessionRules, of_user: WindowSpec) -> Column:
    """Timestamp of the first row of the session: of the last row at or above that follows a gap."""
    kind = df.schema[rules.timestamp].dataType
    per_second = timestamps.units_per_second("--session-gap", kind, rules.timestamp_unit)
    time = timestamps.as_number(column(rules.timestamp), kind)
    above = F.lag(time).over(of_user)
    is_first = above.isNull() | (time - above > (rules.gap_seconds or 0) * per_second)
    so_far = of_user.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return F.last(F.when(is_first, column(rules.timestamp)), ignorenulls=True).over(so_far)


def _side(
    df: DataFrame,
    rules: SessionRules,
    split: SplitRule,
    session: Sequence[Column],
    in_order: WindowSpec,
    whole: WindowSpec,
) -> Column:
    """`train` or `eval`, the same for all rows of a session."""
    if split.eval_from is not None:
        kind = df.schema[rules.timestamp].dataType
        since = timestamps.moment("--eval-from", split.eval_from, kind, rules.timestamp_unit)
        time = timestamps.as_number(column(rules.timestamp), kind)
        is_eval = F.max(time).over(whole) >= F.lit(since)
    else:
        decides = [F.first(column(split.column)).over(in_order)] if split.column else session
        # Salted: with xxhash64 alone, hashed features of the same column would fall into buckets
        # of which those of evaluation are never trained.
        hashed = F.pmod(F.xxhash64(F.lit("eval"), *decides), F.lit(_FRACTION_STEPS))
        is_eval = hashed < round((split.eval_fraction or 0.0) * _FRACTION_STEPS)
    return F.when(is_eval, EVAL).otherwise(TRAIN)


def _drops(rules: SessionRules) -> bool:
    return rules.max_rows is not None and rules.long_sessions != "cut"


def _is_kept(rules: SessionRules, position: Column, length: Column) -> Column:
    if rules.max_rows is None or rules.long_sessions == "cut":
        return F.lit(True)
    if rules.long_sessions == "drop":
        return length <= rules.max_rows
    return position >= length - rules.max_rows


def _counts(rules: SessionRules, position: Column, kept: Column) -> list[Column]:
    is_long = F.lit(False) if rules.max_rows is None else position == rules.max_rows
    return [
        F.count(F.lit(1)).alias("rows"),
        F.count_if(position == 0).alias("sessions"),
        F.count_if(is_long).alias("long_sessions"),
        F.count_if(~kept).alias("dropped_rows"),
    ]


def _unused_names(df: DataFrame, keys: SortKeys) -> list[str]:
    """Names of columns for the job's own use."""
    taken = {name.lower() for name in (*df.columns, keys.session_id or "")}
    names = ["session_start", "session_position", "session_length", "split", "row_hash"]
    prefix = ""
    while any(prefix + name in taken for name in names):
        prefix += "_"
    return [prefix + name for name in names]
