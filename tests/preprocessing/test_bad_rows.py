"""Rows without a session or a possible time are told apart, each with its reason."""

import re

import pytest

from preprocessing.bad_rows import BadRows, InputFacts, check_no_bad_rows, check_some_good_rows

pytestmark = pytest.mark.usefixtures("utc")
LATE = "in the year 2100 or later (milliseconds taken for seconds?)"


def facts_of(df, unit: str | None = None) -> InputFacts:
    return BadRows(df, ["u"], "t", unit).count()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("(string(null), 3)", "session column 'u' is null"),
        ("('', 3)", "session column 'u' is empty"),
        ("(x'', 3)", "session column 'u' is empty"),
        ("(double('nan'), 3)", "session column 'u' is NaN"),
        ("('a', int(null))", "timestamp column 't' is null"),
        ("('a', double('nan'))", "timestamp column 't' is NaN or infinite"),
        ("('a', float('-inf'))", "timestamp column 't' is NaN or infinite"),
        ("('a', -1)", "timestamp column 't' is negative"),
        ("('a', -0.5BD)", "timestamp column 't' is negative"),
        ("('', -1)", "session column 'u' is empty"),  # the first reason
        ("('a', timestamp'1969-12-31 23:59:59Z')", "timestamp column 't' is before the year 1970"),
        ("('a', date'1969-12-31')", "timestamp column 't' is before the year 1970"),
        ("('a', timestamp_ntz'2100-01-01 00:00:00')", f"timestamp column 't' is {LATE}"),
        ("('a', timestamp_seconds(1700000000000))", f"timestamp column 't' is {LATE}"),
        ("('a', timestamp_seconds(1700000000000)::date)", f"timestamp column 't' is {LATE}"),
    ],
)
def test_every_bad_row_has_its_reason(frame, row, reason):
    df = frame("u, t", row)
    assert facts_of(df) == InputFacts(1, {reason: 1})
    found = BadRows(df, ["u"], "t")
    assert [r.bad_row_reason for r in found.bad().drop("t").collect()] == [reason]
    assert found.good().isEmpty()


@pytest.mark.parametrize(
    ("unit", "good", "bad"),
    [
        ("s", 4_102_444_799, 4_102_444_800),  # 2100-01-01T00:00:00Z
        ("ms", 4_102_444_799_999, 4_102_444_800_000),
        ("ns", 4_102_444_799_999_999_999, 4_102_444_800_000_000_000),
        (None, 2**62, None),  # no unit, no end
    ],
)
def test_numbers_are_late_by_their_unit(frame, unit, good, bad):
    assert facts_of(frame("u, t", f"(1, {good}L)"), unit).bad_rows == {}
    if bad:
        facts = facts_of(frame("u, t", f"(1, {bad}L)"), unit)
        assert facts.bad_rows == {f"timestamp column 't' is {LATE}": 1}


@pytest.mark.parametrize(
    "time",
    [
        "0",
        "0.0",
        "date'1970-01-01'",
        "timestamp'1970-01-01 00:00:00Z'",
        "timestamp_ntz'2099-12-31'",
    ],
)
def test_good_rows(frame, time):
    assert facts_of(frame("u, t", f"('a', {time})")) == InputFacts(1, {})


def test_good_and_bad_rows_are_all_rows(frame):
    df = frame("u, v, t, bad_row_reason", "(1, 'x', 5, 1)", "(null, 'x', 5, 2)", "(1, '', 5, 3)")
    found = BadRows(df, ["u", "v"], "t")
    assert [row.bad_row_reason for row in found.good().collect()] == [1]
    bad = {row.bad_row_reason: row._bad_row_reason for row in found.bad().collect()}
    assert bad == {2: "session column 'u' is null", 3: "session column 'v' is empty"}
    facts = found.count()
    assert (facts.rows, facts.good_rows) == (3, 1)
    message = "2 of 3 rows do not: session column 'u' is null (1 rows); session column 'v' is empty"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_no_bad_rows(facts)


def test_all_rows_bad(frame):
    with pytest.raises(ValueError, match="all 1 are bad: timestamp column 't' is null; look at"):
        check_some_good_rows(facts_of(frame("u, t", "(1, int(null))")))
