"""The columns of the input that the job keeps and works with."""

import re

import pytest

from preprocessing import event_columns
from preprocessing.session_layout import SessionRules, SplitRule


def rules(session: str, timestamp: str, ties: tuple[str, ...] = (), **more) -> SessionRules:
    return SessionRules(tuple(session.split(",")), timestamp, ties, **more)


KEYS = rules("u", "t", ("i",))


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
    assert event_columns.select_columns(df, regex, []).columns == kept
    if regex is not None:
        df.createOrReplaceTempView("regex_input")
        with_sql = "spark.sql.parser.quotedRegexColumnNames"
        spark.conf.set(with_sql, "true")
        assert spark.sql(f"SELECT `{regex}` FROM regex_input").columns == kept
        spark.conf.unset(with_sql)


def test_drop_columns_takes_names_with_dots(frame):
    df = frame("u, `a.b`, ds", "(1, 2, 3)")
    assert event_columns.select_columns(df, "(ds)?+.+", ["a.b"]).columns == ["u"]


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
        event_columns.select_columns(frame("u, ds", "(1, 2)"), regex, dropped)


ALL_TYPES = "user_id, ts, text, flag, m, a, at"
TYPED_ROW = "(1, 2L, 'x', true, map(1, 2), array(1), timestamp'2026-01-31')"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            rules("usr_id", "ts"),
            "--session-column must name a column of the input, but got 'usr_id'; "
            "did you mean 'user_id'? Columns: user_id, ts, text, flag, m, a, at",
        ),
        (rules("USER_ID", "ts"), "got 'USER_ID'; did you mean 'user_id'?"),
        (rules("user_id", "zzz"), "--timestamp-column must name a column of the input, but"),
        (rules("user_id", "ts", ("q",)), "--tie-breaker must name a column of the input, but"),
        (rules("user_id", "text"), "'text' is a string; cast it before, for example with to_t"),
        (rules("user_id", "flag"), "must be a number, a timestamp or a date, but 'flag' is a b"),
        (rules("a", "ts"), "must be a string, a number or a date, but 'a' is a array<int>"),
        (rules("user_id", "ts", ("m",)), "--tie-breaker must have an order, but 'm' is a map"),
        (
            rules("user_id", "at", timestamp_unit="ms"),
            "--timestamp-unit must go with a --timestamp-column of numbers, but 'at' is a times",
        ),
        (rules("ts", "ts"), "--timestamp-column must be a column of its own, but 'ts' is named"),
    ],
)
def test_bad_key_columns(frame, keys, message):
    df = frame(ALL_TYPES, TYPED_ROW)
    with pytest.raises(ValueError, match=re.escape(message)):
        event_columns.check_schema(df, keys, df.columns)


def test_tie_breakers_may_be_nested_and_have_words_of_types_in_their_names(frame):
    df = frame("u, t, i", "(1, 2, named_struct('variant_id', 1L, 'map<', array(2)))")
    event_columns.check_schema(df, KEYS, df.columns)


@pytest.mark.parametrize("value", ["array(map(1, 2))", "named_struct('x', map(1, 2))"])
def test_tie_breakers_without_order_are_refused_when_nested(frame, value):
    df = frame("u, t, i", f"(1, 2, {value})")
    with pytest.raises(ValueError, match="--tie-breaker must have an order, but 'i' is a "):
        event_columns.check_schema(df, KEYS, df.columns)


@pytest.mark.parametrize("name", ["_metadata", "_METADATA"])
def test_the_name_of_sparks_hidden_column_is_refused(frame, name):
    df = frame(f"{name}, t", "(1, 2)")
    with pytest.raises(ValueError, match=f"no column may be called '{name}', .*rename it before"):
        event_columns.check_schema(df, rules(name, "t"), df.columns)


@pytest.mark.parametrize("gone", ["u", "t", "i"])
def test_key_columns_must_stay(frame, gone):
    df = frame("u, t, i, c", "(1, 2, 3, 4)")
    kept = event_columns.select_columns(df, None, [gone])
    with pytest.raises(ValueError, match=f"'{gone}' must stay in the dataset.*leaves it out"):
        event_columns.check_schema(kept, KEYS, df.columns)


def test_long_column_lists_are_cut_in_messages(frame):
    names = [f"c{i}" for i in range(25)]
    df = frame(", ".join(names), f"({', '.join(['1'] * 25)})")
    with pytest.raises(ValueError, match=r"c18, c19, and 5 more"):
        event_columns.check_schema(df, KEYS, df.columns)


@pytest.mark.parametrize(
    ("keys", "columns", "message"),
    [
        (rules("text", "ts"), "session_id64", "has a column 'session_id64'; name another with"),
        (rules("user_id,text", "ts"), "SESSION_id64", "must be a new column, but the input has"),
        (rules("user_id", "ts", max_rows=3), "session_id64", "must be a new column"),
    ],
)
def test_the_session_id_must_be_a_new_column(frame, keys, columns, message):
    df = frame(f"user_id, ts, text, {columns}", "(1, 2L, 'x', 7)")
    with pytest.raises(ValueError, match=re.escape(message)):
        event_columns.check_schema(df, keys, df.columns)
    event_columns.check_schema(df, rules("user_id", "ts"), df.columns)  # which adds none


def test_the_split_column_must_stay(frame):
    df = frame("u, t, i, c", "(1, 2, 3, 4)")
    with pytest.raises(ValueError, match="--split-column must name a column of the input, but"):
        event_columns.check_schema(df, KEYS, df.columns, SplitRule(eval_fraction=0.5, column="z"))
    with pytest.raises(ValueError, match="--split-column 'c' must stay in the dataset"):
        event_columns.check_schema(
            df.drop("c"), KEYS, df.columns, SplitRule(eval_fraction=0.5, column="c")
        )


def test_empty_input():
    event_columns.check_not_empty(False)
    with pytest.raises(ValueError, match="input must have at least one row, but it has none"):
        event_columns.check_not_empty(True)
