"""Rows that Spark's own hash confuses: their order and the fingerprint must tell them apart."""

import pytest
from pyspark.sql import functions as F

from preprocessing import session_layout
from preprocessing.row_hash import row_hash
from preprocessing.session_layout import SessionRules

RULES = SessionRules(("u",), "t")


def moments(*microseconds: int) -> str:
    return ", ".join(f"timestamp_micros({n})" for n in microseconds)


# Type of column `a`, and two rows (a, b) as SQL; `b` is an INT but where arrays border on it.
PAIRS = {
    "null moved": ("INT", "(null, 7)", "(7, null)"),
    "array border": (
        "ARRAY<INT>",
        "(array(1, 2), array())",
        "(array(1), array(2))",
    ),
    "null element": ("ARRAY<INT>", "(array(null), 1)", "(array(), 1)"),
    "element moved": ("ARRAY<INT>", "(array(null, 1), 1)", "(array(1, null), 1)"),
    "nested border": (
        "ARRAY<ARRAY<INT>>",
        "(array(array(1), array(2, 3)), 1)",
        "(array(array(1, 2), array(3)), 1)",
    ),
    "map time": (
        "MAP<INT, TIMESTAMP>",
        f"(map(1, {moments(1)}), 1)",
        f"(map(1, {moments(2)}), 1)",
    ),
    "map null": ("MAP<INT, INT>", "(map(1, null), 1)", "(map(), 1)"),
    "map key": ("MAP<INT, INT>", "(map(1, 2), 1)", "(map(2, 1), 1)"),
    "struct null": (
        "STRUCT<x: INT, y: INT>",
        "(named_struct('x', null, 'y', 1), 1)",
        "(named_struct('x', 1, 'y', null), 1)",
    ),
    "null struct": (
        "STRUCT<x: INT>",
        "(null, 1)",
        "(named_struct('x', null), 1)",
    ),
    "sign of zero": ("DOUBLE", "(double('-0.0'), 1)", "(0.0D, 1)"),
    "variant": ("VARIANT", "(parse_json('{\"x\": 1}'), 1)", "(parse_json('{}'), 1)"),
}


@pytest.fixture
def pair(spark, request):
    """The two rows of a case, n = 0 and 1; `spark.sql` starts no Python workers."""
    kind, *rows = PAIRS[request.param]
    b_kind = "ARRAY<INT>" if request.param == "array border" else "INT"
    values = ", ".join(f"({n}, {row[1:-1]})" for n, row in enumerate(rows))
    return spark.sql(
        f"SELECT 1 u, 1 t, cast(v.a AS {kind}) a, cast(v.b AS {b_kind}) b, n "
        f"FROM VALUES {values} AS v(n, a, b)"
    )


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_different_rows_have_different_hashes(pair):
    hashed = pair.select(row_hash(pair.drop("n").schema))
    first, second = hashed.collect()
    assert first != second
    assert hashed.collect() == [first, second]


@pytest.mark.parametrize(
    "pair", ["null moved", "array border", "null element", "map time"], indirect=True
)
def test_ties_have_one_order_whatever_the_input_order(pair):
    """Spark's sort is stable: rows that the job thinks equal keep the order of the input."""
    content = pair.columns[:-1]

    def laid_out(ascending: bool) -> list:
        rows = pair.coalesce(1).sort(F.col("n") if ascending else F.col("n").desc())
        ordered = session_layout.lay_out(rows.select(*content), RULES, 1).rows
        return [str(row) for row in ordered.select("a", "b").collect()]

    assert laid_out(True) == laid_out(False)
    assert len(laid_out(True)) == 2
