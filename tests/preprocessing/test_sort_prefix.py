"""The sort's first key changes no row's place, and is left out where it would be of no use."""

import itertools

import pytest

from preprocessing import session_layout
from preprocessing.bad_rows import BadRows
from preprocessing.session_layout import SessionRules
from preprocessing.sort_prefix import BITS

pytestmark = pytest.mark.usefixtures("utc")
RULES = SessionRules(("u",), "t", ("i",))
SESSIONS = {
    "near": (5, 6, 8),
    "negative": (-3, -1, 2),
    "far": (-(2**60), 0, 2**60),  # 62 bits: one is left
    "all": (-(2**63), 0, 2**63 - 2),
    "alone": (7,),
}
TIMES = {
    "near": ("100L", "101L", "103L"),
    "far": ("0L", f"{2**62}L", f"{2**63 - 2}L", f"{2**63 - 1}L"),
    "timestamp": ("timestamp_micros(5)", "timestamp_micros(9)", "timestamp'2026-01-31'"),
    "without zone": ("timestamp_ntz'2026-01-31 00:00:00.000001'", "timestamp_ntz'2026-01-31'"),
    "date": ("date'2026-01-31'", "date'1970-01-01'", "date'2026-01-30'"),
    "int": ("5", "9", "4"),
    "alone": ("5L",),
}


def bigint(value: int) -> str:
    """A literal: that of the least bigint would be the negative of one that is too great."""
    return f"({value + 1}L - 1L)"


def laid_out(df, sort_prefix) -> session_layout.Layout:
    return session_layout.lay_out(df, RULES, 2, sort_prefix=sort_prefix)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("sessions", SESSIONS)
def test_rows_lie_as_without(frame, sessions, times):
    pairs = itertools.product(SESSIONS[sessions], TIMES[times], range(2), range(2))
    rows = [f"({bigint(u)}, {t}, {i}, {n})" for u, t, i, n in pairs]
    df = frame("u, t, i, n", *rows)
    prefix = BadRows(df, ["u"], "t").count().sort_prefix
    assert prefix is not None
    found = [row[:] for row in laid_out(df, prefix).rows.collect()]
    assert found == [row[:] for row in laid_out(df, None).rows.collect()]
    assert len(found) == len(rows)


@pytest.mark.parametrize(
    ("sessions", "times", "time_bits"),
    [
        ("near", "near", 2),
        ("far", "near", 1),
        ("all", "near", 0),
        ("negative", "far", BITS - 3),
        ("near", "alone", 0),
    ],
)
def test_sessions_are_whole_in_it_and_times_get_the_bits_that_are_left(
    frame, sessions, times, time_bits
):
    pairs = itertools.product(SESSIONS[sessions], TIMES[times])
    df = frame("u, t, i", *(f"({bigint(u)}, {t}, 0)" for u, t in pairs))
    prefix = BadRows(df, ["u"], "t").count().sort_prefix
    assert prefix is not None and prefix.time_bits == time_bits
    value = prefix.column()
    assert (value is None) == (time_bits == 0)
    if value is not None:
        found = df.select("u", "t", value.alias("prefix")).orderBy("u", "t").collect()
        assert all(
            one.prefix < other.prefix if one.u != other.u else one.prefix <= other.prefix
            for one, other in itertools.pairwise(found)
        )
        assert found[0].prefix == 0 and found[-1].prefix < 2**BITS


@pytest.mark.parametrize("row", ["('a', 1)", "(1.5D, 1)", "(1, 1.5D)", "(1, 1.5BD)"])
def test_other_key_columns_have_none(frame, row):
    assert BadRows(frame("u, t", row), ["u"], "t").count().sort_prefix is None
    assert BadRows(frame("u, t", "(1, 1)"), ["u", "t"], "t").count().sort_prefix is None


def test_bad_rows_do_not_widen_it(frame):
    df = frame("u, t", "(1, 5L)", "(3, 9L)", "(-100, -1L)", "(null, 1000L)")
    prefix = BadRows(df, ["u"], "t").count().sort_prefix
    assert prefix is not None
    assert (prefix.session_bounds, prefix.time_bounds) == ((1, 3), (5, 9))
    assert BadRows(df.where("t < 0"), ["u"], "t").count().sort_prefix is None


def test_the_sort_starts_with_it(frame):
    df = frame("u, t, i", "(1, 5L, 0)", "(2, 9L, 0)")
    layout = laid_out(df, BadRows(df, ["u"], "t").count().sort_prefix)
    plan = layout.rows._jdf.queryExecution().executedPlan().toString()  # type: ignore[operator]
    assert "Sort [(shiftleft((cast(u" in plan
