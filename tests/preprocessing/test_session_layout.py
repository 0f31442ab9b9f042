"""Sessions, caps and splits, against plain Python on the same rows."""

import itertools
import random
import re
from collections import Counter

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from preprocessing import session_layout, timestamps
from preprocessing.session_layout import SessionRules, SplitRule

pytestmark = pytest.mark.usefixtures("utc")
GAP = 5


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """Two users of one name apart, tied times, times far and near, one long user."""
    rng = random.Random(1)
    rows = [
        {"u": f"u{rng.randint(0, 5)}", "v": rng.randint(0, 2), "t": rng.randint(0, 150), "n": n}
        for n in range(300)
    ]
    return rows + [{"u": "u9", "v": 0, "t": n // 3, "n": 1000 + n} for n in range(60)]


@pytest.fixture(scope="module")
def events(spark, rows):
    return spark.createDataFrame(pa.Table.from_pylist(rows)).cache()


def partitions(layout: session_layout.Layout) -> list[list[dict]]:
    """Rows of each partition in their order."""
    rows = layout.rows.select("*", F.spark_partition_id().alias("partition")).collect()
    found: dict[int, list[dict]] = {}
    for row in rows:
        found.setdefault(row.partition, []).append(row.asDict())
    return [found[number] for number in sorted(found)]


def sessions_of(parts: list[list[dict]], *identity: str) -> dict[tuple, list[dict]]:
    """Rows by session; fails where one is in two partitions or two places."""
    found: dict[tuple, list[dict]] = {}
    for part in parts:
        for key, group in itertools.groupby(
            part, lambda row: tuple(row[name] for name in identity)
        ):
            assert key not in found, f"session {key} is not whole"
            found[key] = list(group)
    return found


def expected_sessions(rows: list[dict], columns: tuple[str, ...], gap: int | None) -> Counter:
    """Sessions as sorted tuples of row numbers, in plain Python."""
    by_user: dict[tuple, list[dict]] = {}
    for row in sorted(rows, key=lambda row: row["t"]):
        by_user.setdefault(tuple(row[name] for name in columns), []).append(row)
    found = []
    for user in by_user.values():
        starts = [0] + [
            i for i in range(1, len(user)) if gap and user[i]["t"] - user[i - 1]["t"] > gap
        ]
        found += [user[a:b] for a, b in zip(starts, [*starts[1:], len(user)], strict=True)]
    return Counter(tuple(sorted(row["n"] for row in session)) for session in found)


def numbers(sessions) -> Counter:
    return Counter(tuple(sorted(row["n"] for row in session)) for session in sessions)


RULES = {
    "one column": SessionRules(("v",), "t"),
    "text": SessionRules(("u",), "t"),
    "two columns": SessionRules(("u", "v"), "t"),
    "gap": SessionRules(("u",), "t", timestamp_unit="s", gap_seconds=GAP),
    "gap of two columns": SessionRules(("u", "v"), "t", timestamp_unit="s", gap_seconds=GAP),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_sessions_are_those_of_plain_python(events, rows, rules):
    layout = session_layout.lay_out(events, rules, 4)
    found = sessions_of(partitions(layout), *layout.keys.identity)
    gap = GAP if rules.gap_seconds else None
    assert numbers(found.values()) == expected_sessions(rows, rules.columns, gap)
    for session in found.values():
        assert [row["t"] for row in session] == sorted(row["t"] for row in session)
        if layout.keys.session_id:
            assert len({row["session_id64"] for row in session}) == 1
    if layout.keys.session_id:
        assert len({session[0]["session_id64"] for session in found.values()}) == len(found)


def test_the_session_id_is_sparks_xxhash64_of_the_columns(events):
    layout = session_layout.lay_out(events, RULES["two columns"], 2)
    assert layout.rows.where(F.xxhash64("u", "v") != F.col("session_id64")).isEmpty()
    assert layout.schema["session_id64"].dataType.simpleString() == "bigint"
    plain = session_layout.lay_out(events, RULES["one column"], 2)
    assert plain.schema.names == events.columns


def test_keys_of_the_dataset(events):
    def keys(rules):
        found = rules.keys(events.schema)
        return found.session, found.identity, found.partition_by, found.session_id

    new = "session_id64"
    assert keys(RULES["one column"]) == ("v", ("v",), ("v",), None)
    assert keys(RULES["text"]) == ("u", ("u",), ("u",), new)
    assert keys(RULES["two columns"]) == (new, ("u", "v"), ("u", "v"), new)
    assert keys(RULES["gap"]) == (new, ("u", new), ("u",), new)
    assert keys(SessionRules(("v",), "t", max_rows=9)) == (new, ("v", new), ("v",), new)
    newest = SessionRules(("v",), "t", max_rows=9, long_sessions="newest", id_column="x")
    assert keys(newest) == ("v", ("v",), ("v",), None)


@pytest.mark.parametrize("kind", ["timestamp", "timestamp_ntz", "date", "ms", "double"])
def test_a_gap_is_as_long_in_every_kind_of_time(events, rows, kind):
    seconds = 86_400 if kind == "date" else 1
    time = {
        "timestamp": F.timestamp_seconds("t"),
        "timestamp_ntz": F.timestamp_seconds("t").cast("timestamp_ntz"),
        "date": F.date_from_unix_date(F.col("t").cast("int")),
        "ms": F.col("t") * 1000,
        "double": F.col("t").cast("double"),
    }[kind]
    unit = {"ms": "ms", "double": "s"}.get(kind)
    rules = SessionRules(("u",), "t", gap_seconds=GAP * seconds, timestamp_unit=unit)
    layout = session_layout.lay_out(events.withColumn("t", time), rules, 3)
    found = sessions_of(partitions(layout), "u", "session_id64")
    assert numbers(found.values()) == expected_sessions(rows, ("u",), GAP)


def test_a_gap_in_numbers_needs_their_unit(events):
    with pytest.raises(ValueError, match="--session-gap needs the unit of --timestamp-column"):
        session_layout.lay_out(events, SessionRules(("u",), "t", gap_seconds=5), 3)


def capped(rules: SessionRules, policy: str, max_rows: int = 7) -> SessionRules:
    return SessionRules(
        rules.columns,
        rules.timestamp,
        timestamp_unit=rules.timestamp_unit,
        gap_seconds=rules.gap_seconds,
        max_rows=max_rows,
        long_sessions=policy,
    )


@pytest.mark.parametrize("policy", session_layout.POLICIES)
@pytest.mark.parametrize("name", ["one column", "two columns", "gap"])
def test_long_sessions(events, name, policy):
    whole = session_layout.lay_out(events, RULES[name], 4)
    before = sessions_of(partitions(whole), *whole.keys.identity)
    layout = session_layout.lay_out(events, capped(RULES[name], policy), 4)
    found = sessions_of(partitions(layout), *layout.keys.identity)
    order = {
        "cut": lambda rows: [rows[i : i + 7] for i in range(0, len(rows), 7)],
        "newest": lambda rows: [rows[-7:]],
        "drop": lambda rows: [rows] if len(rows) <= 7 else [],
    }[policy]
    expected = [piece for session in before.values() for piece in order(session)]
    as_numbers = {tuple(row["n"] for row in rows) for rows in found.values()}
    assert as_numbers == {tuple(row["n"] for row in piece) for piece in expected}  # in order too

    counts = session_layout.session_counts(layout)
    long_sessions = [rows for rows in before.values() if len(rows) > 7]
    kept = sum(len(piece) for piece in expected)
    assert long_sessions
    assert counts == session_layout.SessionCounts(360, len(before), len(long_sessions), 360 - kept)


def test_pieces_of_a_cut_session_follow_each_other(events):
    layout = session_layout.lay_out(events, capped(RULES["text"], "cut"), 3)
    for part in partitions(layout):
        for _, rows in itertools.groupby(part, lambda row: row["u"]):
            times = [row["t"] for row in rows]
            assert times == sorted(times)
    users = [user for part in partitions(layout) for user in {row["u"] for row in part}]
    assert len(users) == len(set(users))


def sides(layout) -> dict[str, list[dict]]:
    rows = [row.asDict() for row in layout.rows.collect()]
    return {side: [r for r in rows if r[layout.split] == side] for side in ("train", "eval")}


@pytest.mark.parametrize(("name", "since"), [("two columns", 147), ("gap", 100)])
def test_split_by_time_goes_by_the_last_row(events, name, since):
    layout = session_layout.lay_out(events, RULES[name], 4, SplitRule(eval_from=str(since)))
    found = sides(layout)
    keys = {
        side: {tuple(row[k] for k in layout.keys.identity) for row in rows}
        for side, rows in found.items()
    }
    assert not keys["train"] & keys["eval"]
    assert max(row["t"] for row in found["train"]) < since
    last: dict[tuple, int] = {}
    for row in found["eval"]:
        key = tuple(row[k] for k in layout.keys.identity)
        last[key] = max(last.get(key, 0), row["t"])
    assert min(last.values()) >= since
    assert len(found["train"]) + len(found["eval"]) == 360


@pytest.mark.parametrize("column", [None, "u"])
def test_split_by_hash_keeps_sessions_whole(spark, column):
    events = spark.range(6000).selectExpr("id % 2000 AS s", "id AS t", "(id % 2000) % 100 AS u")
    split = SplitRule(eval_fraction=0.2, column=column)
    found = sides(session_layout.lay_out(events, SessionRules(("s",), "t"), 4, split))
    for name in ("s", *([column] if column else [])):
        assert not {row[name] for row in found["train"]} & {row[name] for row in found["eval"]}
    share = len(found["eval"]) / 6000
    # Five standard deviations of a share of 2000 sessions or of 100 users.
    assert abs(share - 0.2) < (0.2 if column else 0.045)
    again = sides(session_layout.lay_out(events, SessionRules(("s",), "t"), 3, split))
    assert {row["s"] for row in again["eval"]} == {row["s"] for row in found["eval"]}


def test_split_by_hash_leaves_every_bucket_of_hashed_features_to_train(spark):
    """xxhash64 alone would send whole buckets of `hash_bucket_size` to eval."""
    events = spark.range(4000).selectExpr("id AS s", "id AS t")
    split = SplitRule(eval_fraction=0.5)
    layout = session_layout.lay_out(events, SessionRules(("s",), "t"), 2, split)
    bucket = F.expr("pmod(xxhash64(s), 100)")
    assert layout.split
    counts = layout.rows.groupBy(layout.split, bucket.alias("b")).count().collect()
    assert len(counts) == 200


def test_a_dirty_split_column_goes_by_the_first_row(spark):
    events = spark.range(100).selectExpr("id % 10 AS s", "id AS t", "id % 7 AS u")
    split = SplitRule(eval_fraction=0.5, column="u")
    found = sides(session_layout.lay_out(events, SessionRules(("s",), "t"), 3, split))
    assert not {row["s"] for row in found["train"]} & {row["s"] for row in found["eval"]}


def test_one_shuffle_whatever_the_flags(events):
    rules = SessionRules(("u",), "t", ("v",), "s", GAP, max_rows=7, long_sessions="newest")
    layout = session_layout.lay_out(events, rules, 4, SplitRule(eval_from="100"))
    execution = layout.rows._jdf.queryExecution()  # type: ignore[operator] # Java's method
    assert execution.executedPlan().toString().count("Exchange ") == 1


@pytest.mark.parametrize("more_columns", [0, 40])
def test_rows_with_equal_keys_have_one_order_whatever_the_input_order(frame, more_columns):
    more = [F.lit(n).alias(f"more_{n}") for n in range(more_columns)]
    rows = [f"(1, 1, 1, {n}, map('k', {n}), 'row_hash')" for n in range(20)]
    columns = "u, t, i, n, m, row_hash"
    orders = []
    for rules in (
        SessionRules(("u",), "t", ("i",)),
        SessionRules(("u",), "t", ("i",), "s", 1, max_rows=20, long_sessions="newest"),
    ):
        for df in (frame(columns, *rows), frame(columns, *rows[::-1]).repartition(5)):
            found = session_layout.lay_out(df.select("*", *more), rules, 2).rows
            assert found.columns[:6] == columns.split(", ")
            orders.append([row.n for row in found.collect()])
    assert sorted(orders[0]) == list(range(20)) != orders[0]
    assert orders == [orders[0]] * 4


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("12h", 43_200), ("2d", 172_800)]
)
def test_durations(text, seconds):
    assert timestamps.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "m", "0m", "1.5h", "-1s", "30 m"])
def test_bad_durations(text):
    with pytest.raises(ValueError, match=r"must be a duration like 45s, 30m, 12h or 2d, but got"):
        timestamps.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "kind", "unit", "value"),
    [
        ("1970-01-02", "timestamp", None, 86_400_000_000),
        ("1970-01-01T01:00:00+01:00", "timestamp", None, 0),
        ("1970-01-02", "date", None, 86_400_000_000),
        ("1970-01-01T00:00:01.5Z", "bigint", "ms", 1500),
        ("1970-01-01T00:00:01.5Z", "bigint", "s", 1.5),
        ("17", "bigint", None, 17),
        ("1.5", "double", None, 1.5),
    ],
)
def test_moments(spark, text, kind, unit, value):
    data_type = spark.sql(f"SELECT cast(null AS {kind}) t").schema["t"].dataType
    assert timestamps.moment("--eval-from", text, data_type, unit) == value


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("17", "timestamp", "--eval-from must be a date or time like 2026-01-31 or"),
        ("soon", "bigint", "or a number in the column's unit, but got 'soon'"),
        ("2026-01-31", "bigint", "--eval-from needs the unit of --timestamp-column"),
    ],
)
def test_bad_moments(spark, text, kind, message):
    data_type = spark.sql(f"SELECT cast(null AS {kind}) t").schema["t"].dataType
    with pytest.raises(ValueError, match=re.escape(message)):
        timestamps.moment("--eval-from", text, data_type, None)
