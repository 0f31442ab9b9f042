"""The layout functions on small frames."""

import datetime
import re

import pytest

from preprocessing import session_layout as layout
from preprocessing.session_layout import SortKeys

KEYS = SortKeys("u", "t", ("i",))


@pytest.fixture(scope="module")
def frame(spark):
    """A frame from VALUES rows; cheaper than createDataFrame, which starts Python workers."""

    def build(columns: str, *rows: str):
        return spark.sql(f"SELECT * FROM VALUES {', '.join(rows)} AS v({columns})")

    return build


@pytest.mark.parametrize(
    ("regex", "kept"),
    [
        ("(ds)?+.+", ["u", "dsx", "ads", "d"]),  # the user's SQL: all but ds
        ("d.*", ["ds", "dsx", "d"]),
        ("(U|D)", ["u", "d"]),  # as in a select list, case does not count
        (None, ["u", "ds", "dsx", "ads", "d"]),
    ],
)
def test_columns_regex_is_that_of_the_select_list(frame, spark, regex, kept):
    df = frame("u, ds, dsx, ads, d", "(1, 2, 3, 4, 5)")
    assert layout.select_columns(df, regex, []).columns == kept
    if regex is not None:
        df.createOrReplaceTempView("regex_input")
        with_sql = "spark.sql.parser.quotedRegexColumnNames"
        spark.conf.set(with_sql, "true")
        assert spark.sql(f"SELECT `{regex}` FROM regex_input").columns == kept
        spark.conf.unset(with_sql)


def test_drop_columns_takes_names_with_dots(frame):
    df = frame("u, `a.b`, ds", "(1, 2, 3)")
    assert layout.select_columns(df, "(ds)?+.+", ["a.b"]).columns == ["u"]


@pytest.mark.parametrize(
    ("regex", "dropped", "message"),
    [
        ("(ds", [], "--columns-regex must be a Java regex, but got '(ds': Unclosed group"),
        ("nothing", [], "--columns-regex must keep a column, but 'nothing' matches none"),
        ("", [], "--columns-regex must be a Java regex, but got ''; leave it out to keep all"),
        (None, ["dx"], "--drop-columns must name a column of the input, but got 'dx'"),
    ],
)
def test_bad_column_choice(frame, regex, dropped, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layout.select_columns(frame("u, ds", "(1, 2)"), regex, dropped)


ALL_TYPES = "user_id, ts, text, flag, m, a"
TYPED_ROW = "(1, 2L, 'x', true, map(1, 2), array(1))"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            SortKeys("usr_id", "ts"),
            "--session-column must name a column of the input, but got 'usr_id'; "
            "did you mean 'user_id'? Columns: user_id, ts, text, flag, m, a",
        ),
        (SortKeys("USER_ID", "ts"), "got 'USER_ID'; did you mean 'user_id'?"),
        (SortKeys("user_id", "zzz"), "--timestamp-column must name a column of the input, but"),
        (SortKeys("user_id", "ts", ("q",)), "--tie-breaker must name a column of the input, but"),
        (SortKeys("user_id", "text"), "'text' is a string; cast it before, for example with to_t"),
        (SortKeys("user_id", "flag"), "must be a number, a timestamp or a date, but 'flag' is a b"),
        (SortKeys("a", "ts"), "must be a string, a number or a date, but 'a' is a array<int>"),
        (SortKeys("user_id", "ts", ("m",)), "--tie-breaker must have an order, but 'm' is a map"),
        (SortKeys("ts", "ts"), "--timestamp-column must be a column of its own, but 'ts' is named"),
    ],
)
def test_bad_key_columns(frame, keys, message):
    df = frame(ALL_TYPES, TYPED_ROW)
    with pytest.raises(ValueError, match=re.escape(message)):
        layout.check_schema(df, keys, df.columns)


def test_tie_breakers_may_be_nested_and_have_words_of_types_in_their_names(frame):
    df = frame("u, t, i", "(1, 2, named_struct('variant_id', 1L, 'map<', array(2)))")
    layout.check_schema(df, KEYS, df.columns)


@pytest.mark.parametrize("value", ["array(map(1, 2))", "named_struct('x', map(1, 2))"])
def test_tie_breakers_without_order_are_refused_when_nested(frame, value):
    df = frame("u, t, i", f"(1, 2, {value})")
    with pytest.raises(ValueError, match="--tie-breaker must have an order, but 'i' is a "):
        layout.check_schema(df, KEYS, df.columns)


@pytest.mark.parametrize("name", ["_metadata", "_METADATA"])
def test_the_name_of_sparks_hidden_column_is_refused(frame, name):
    df = frame(f"{name}, t", "(1, 2)")
    with pytest.raises(ValueError, match=f"no column may be called '{name}', .*rename it before"):
        layout.check_schema(df, SortKeys(name, "t"), df.columns)


@pytest.mark.parametrize("gone", ["u", "t", "i"])
def test_key_columns_must_stay(frame, gone):
    df = frame("u, t, i, c", "(1, 2, 3, 4)")
    kept = layout.select_columns(df, None, [gone])
    with pytest.raises(ValueError, match=f"'{gone}' must stay in the dataset.*leaves it out"):
        layout.check_schema(kept, KEYS, df.columns)


def test_long_column_lists_are_cut_in_messages(frame):
    names = [f"c{i}" for i in range(25)]
    df = frame(", ".join(names), f"({', '.join(['1'] * 25)})")
    with pytest.raises(ValueError, match=r"c18, c19, and 5 more"):
        layout.check_schema(df, KEYS, df.columns)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["(1, 2), (null, 3), (null, 4)"], "column 'u' must have a value in every row, but 2 of 3"),
        (["(double('nan'), 3), (1, 3)"], "column 'u' must have a value in every row, but 1 of 2"),
        (
            ["('', 3), ('a', 4)"],
            "'u' must have a value in every row, but 1 of 2 rows are null",
        ),
        (["(x'', 3), (x'00', 4)"], "column 'u' must have a value in every row, but 1 of 2"),
        (["('a', 2), ('b', null)"], "column 't' must have a finite value in every row, but 1 of 2"),
        (["(1, double('nan')), (1, 3)"], "column 't' must have a finite value in every row, but 1"),
        (["(1, float('-inf')), (1, 3)"], "column 't' must have a finite value in every row, but 1"),
    ],
)
def test_bad_key_values(frame, rows, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layout.check_values(frame("u, t", *rows), SortKeys("u", "t"))


def test_empty_input(frame):
    with pytest.raises(ValueError, match="input must have at least one row, but it has none"):
        layout.check_not_empty(frame("u, t", "(1, 2)").where("false"))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("int", 5, 7),
        ("double", 5.0, 7.0),
        ("decimal(9, 2)", "5.00", "7.00"),
        ("timestamp", "1970-01-01T00:00:05Z", "1970-01-01T00:00:07Z"),
    ],
)
def test_timestamp_range_is_json_and_free_of_time_zones(frame, kind, low, high):
    df = frame("u, s", "(1, 5), (1, 7)").selectExpr("u", f"cast(s as {kind}) t")
    keys = SortKeys("u", "t")
    layout.check_schema(df, keys, df.columns)
    assert layout.check_values(df, keys) == layout.InputFacts(2, low, high)


def test_dates_are_timestamps_too(frame):
    facts = layout.check_values(frame("u, t", "(1, date'2024-02-03')"), SortKeys("u", "t"))
    assert facts.min_timestamp == datetime.date(2024, 2, 3).isoformat()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("timestamp_seconds(1700000000000)", "about the year 55840"),
        ("timestamp_seconds(-1700000000000)", "about the year -51901"),
        ("timestamp_seconds(1700000000000)::timestamp_ntz", r"\+55840-11-0. "),
        ("timestamp_seconds(1700000000000)::date", r"\+55840-11-0"),
    ],
)
def test_milliseconds_taken_for_seconds(frame, value, shown):
    df = frame("u, s", "(1, 5)").selectExpr("u", f"{value} t")
    message = "timestamp column 't' must lie in the years 1 to 9999, but reaches "
    with pytest.raises(ValueError, match=message + shown + ".*; were milliseconds or micro"):
        layout.check_values(df, SortKeys("u", "t"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("timestamp_ntz'2024-02-03 04:05:06.5'", "2024-02-03T04:05:06.500000"),
        ("timestamp_ntz'2024-02-03 04:05:06'", "2024-02-03T04:05:06"),
        ("timestamp'9999-12-31 23:59:59Z'", "9999-12-31T23:59:59Z"),
        ("timestamp'0001-01-01 00:00:00Z'", "0001-01-01T00:00:00Z"),
        ("0.000000000000000001BD", "0.000000000000000001"),  # not 1E-18
    ],
)
def test_timestamps_in_the_manifest(frame, value, text):
    facts = layout.check_values(frame("u, t", f"(1, {value})"), SortKeys("u", "t"))
    assert (facts.min_timestamp, facts.max_timestamp) == (text, text)


def test_rows_with_equal_keys_have_one_order_whatever_the_input_order(frame, spark):
    rows = [f"(1, 1, 1, {n}, map('k', {n}), 'row_hash')" for n in range(20)]
    columns = "u, t, i, n, m, row_hash"
    one = layout.lay_out(frame(columns, *rows), KEYS, 2)
    other = layout.lay_out(frame(columns, *reversed(rows)).repartition(5), KEYS, 2)
    assert [row.n for row in one.collect()] == [row.n for row in other.collect()]
    assert one.columns == columns.split(", ")


PLACES = "file, row_index, session, order_key"


def runs_of(frame, *rows: str):
    return layout.session_runs(frame(PLACES, *rows).selectExpr("*", "0L AS row_hash"))


def violations(frame, *rows: str) -> list[str]:
    return layout.find_violations(runs_of(frame, *rows))


def test_right_layout_has_no_violation(frame):
    runs = runs_of(
        frame,
        "('p0', 0, 'u7', struct(10, null))",  # null sorts first
        "('p0', 1, 'u7', struct(10, 0))",
        "('p0', 2, 'u7', struct(10, 0))",
        "('p0', 3, 'u3', struct(1, 0))",  # time may fall between sessions
        "('p1', 0, 'u1', struct(1, 0))",
    )
    assert layout.find_violations(runs) == []
    found = {(r.file, r.session, r.row_start, r.row_last, r.num_rows) for r in runs.collect()}
    assert found == {("p0", "u7", 0, 2, 3), ("p0", "u3", 3, 3, 1), ("p1", "u1", 0, 0, 1)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["('p0', 0, 'u', struct(1, 1))", "('p1', 0, 'u', struct(2, 1))"],
            "session 'u' is split over 2 files in p0, p1",
        ),
        (
            [
                "('p0', 0, 'u', struct(1, 1))",
                "('p0', 1, 'v', struct(1, 1))",
                "('p0', 2, 'u', struct(2, 1))",
            ],
            "session 'u' is not contiguous (1 foreign rows inside) in p0",
        ),
        (
            ["('p0', 0, 'u', struct(2, 1))", "('p0', 1, 'u', struct(1, 1))"],
            "session 'u' has 1 rows before the time of the row above them in p0",
        ),
        (
            ["('p0', 0, 'u', struct(1, 2))", "('p0', 1, 'u', struct(1, 1))"],  # the tie-breaker
            "session 'u' has 1 rows before the time of the row above them in p0",
        ),
    ],
    ids=["split", "interleaved", "unordered", "tie-breaker"],
)
def test_broken_layout_is_found(frame, rows, message):
    assert violations(frame, *rows) == [message]


def test_only_a_few_violations_are_shown(frame):
    rows = [f"('p{n % 2}', {n // 2}, {n // 2}, struct(1, 1))" for n in range(40)]
    assert len(violations(frame, *rows)) == 5
