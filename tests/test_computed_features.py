"""Features of several columns: combinations and expressions, against plain loops."""

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.test_features import parsed, rows_of, text_hash
from trainer.checks.features import check_features
from trainer.config import ConfigError
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec, encode_rows

COMBO = 'combo_feature { feature_name: "f" expression: ["user:a", "item:b"] embedding_dim: 4 %s }'
EXPR = 'expr_feature { feature_name: "f" variables: ["user:a", "item:b"] %s }'


def combo_rows(rule: str, *columns: pa.Array) -> list[Any]:
    return rows_of(COMBO % rule, dict(zip("abc", columns, strict=False)))["f"]


def expr_rows(rule: str, a: pa.Array, b: pa.Array) -> list[Any]:
    return rows_of(EXPR % rule, {"a": a, "b": b})["f"]


# ------------------------------------------------------------------ already computed


@pytest.mark.parametrize("mode", ["FG_NONE", "FG_BUCKETIZE"])
@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("combo_feature", 'expression: ["user:a", "item:b"]'),
        ("lookup_feature", 'map: "user:kv" key: "item:k" need_discrete: true need_key: true'),
        (
            "match_feature",
            'nested_map: "user:kkv" pkey: "item:p" skey: "ALL" show_pkey: true show_skey: true',
        ),
    ],
)
def test_computed_ids_are_read_from_the_column_of_the_feature(kind, inputs, mode):
    size = "hash_bucket_size: 10" if kind == "combo_feature" else "num_buckets: 10"
    text = f'{kind} {{ feature_name: "f" {inputs} {size} embedding_dim: 4 %s }}'
    columns = {"f": pa.array([[1, 2], [], [3]])}
    default = 'fg_encoded_default_value: "0" default_value: "0"'
    found = rows_of(text % default, columns, mode)["f"]
    if kind == "combo_feature" and mode == "FG_BUCKETIZE":  # computed, and not yet hashed
        columns = {"f": pa.array([["1_2", "3_4"], [], ["5_6"]])}
        hashes = text_hash("1_2", "3_4", "0", "5_6", buckets=10)
        assert rows_of(text % default, columns, mode)["f"] == [hashes[:2], [hashes[2]], [hashes[3]]]
    else:
        assert found == [[1, 2], [0], [3]]
    (feature,) = parsed(text % "", mode)
    assert feature.columns == ("f",)


@pytest.mark.parametrize(
    "inputs",
    [
        'expr_feature { feature_name: "f" expression: "a+b" variables: ["user:a"] fill_missing: 1 ',
        'lookup_feature { feature_name: "f" map: "user:kv" key: "item:k" combiner: "mean"',
        'match_feature { feature_name: "f" nested_map: "user:m" pkey: "item:p" skey: "item:s"',
    ],
)
def test_computed_numbers_are_read_from_the_column_of_the_feature(inputs):
    column = {"f": pa.array([None, "0.5", "3"])}
    assert rows_of(inputs + "}", column, "FG_NONE") == {"f": [[0.0], [0.5], [3.0]]}
    assert rows_of(inputs + 'fg_encoded_default_value: "4" value_dim: 0 }', column, "FG_NONE") == {
        "f": [[4.0], [0.5], [3.0]]
    }
    buckets = inputs + "boundaries: [1, 2] embedding_dim: 4 }"
    assert rows_of(buckets, {"f": pa.array([2, None, 1])}, "FG_NONE") == {"f": [[2], [], [1]]}
    assert rows_of(buckets, {"f": pa.array([2.5, None, 1])}, "FG_BUCKETIZE")["f"] == [[2], [0], [1]]


def test_computed_features_in_sequences_are_read_from_their_columns():
    text = """sequence_feature { sequence_name: "s" sequence_length: 2 sequence_delim: ";"
        features { combo_feature { feature_name: "c" hash_bucket_size: 9 embedding_dim: 4 } }
        features { expr_feature { feature_name: "e" } } }"""
    columns = {"s__c": pa.array(["1;2;3", "4"]), "s__e": pa.array(["1;2;3", "0.5"])}
    assert rows_of(text, columns, "FG_NONE") == {
        "s__c": [[1, 2], [4]],
        "s__e": [[[1.0], [2.0]], [[0.5]]],
    }
    alone = 'sequence_lookup_feature { feature_name: "l" num_buckets: 9 embedding_dim: 4 }'
    assert rows_of(alone, {"l": pa.array(["1;2", ""])}, "FG_NONE") == {"l": [[1, 2], []]}


# ------------------------------------------------------------------ combinations


SEVERAL = ["ua\x1dub", "uc\x1d\x1dud", "ue", "", None, "uf", "ug"]
OTHERS = ["ia\x1dib", "ic", "id", "ie\x1dif", "ig", None, ""]


def by_loops(*columns: list[Any], separator: str = "\x1d") -> list[list[str]]:
    """Of each row the combinations, with the first column's value changing least."""
    found = []
    for row in zip(*columns, strict=True):
        parts = [
            [part for part in (value or "").split(separator) if part]
            if isinstance(value, str) or value is None
            else [str(each) for each in (value if isinstance(value, list) else [value])]
            for value in row
        ]
        found.append(["_".join(each) for each in itertools.product(*parts)])
    return found


def hashed(rows: list[list[str]]) -> list[list[int]]:
    return [text_hash(*row) for row in rows]


def test_combinations_of_text_lists_and_integers():
    rule = "hash_bucket_size: 100"
    expected = by_loops(SEVERAL, OTHERS)
    assert [len(row) for row in expected] == [4, 2, 1, 0, 0, 0, 0]
    assert combo_rows(rule, pa.array(SEVERAL), pa.array(OTHERS)) == hashed(expected)
    lists = [None if each is None else [e for e in each.split("\x1d") if e] for each in SEVERAL]
    assert combo_rows(rule, pa.array(lists), pa.array(OTHERS)) == hashed(expected)
    singles, numbers = ["a", "b", "", None], [7, None, 3, -2]
    found = combo_rows(rule, pa.array(singles), pa.array(numbers))
    assert found == [text_hash("a_7"), [], [], []]
    found = combo_rows(rule, pa.array([[1, 2], []], pa.list_(pa.int32())), pa.array([5, 6]))
    assert found == [text_hash("1_5", "2_5"), []]


def test_combinations_of_three_columns_and_another_separator():
    rule = 'hash_bucket_size: 100 expression: "context:c" separator: "|"'
    columns = [["a|b", "c", "d"], ["x", "y|z", "w"], ["1|2", "3", None]]
    expected = hashed(by_loops(*columns, separator="|"))
    assert combo_rows(rule, *map(pa.array, columns)) == expected


@pytest.mark.parametrize("separator", ["_", "-", "1"])
def test_a_separator_that_a_combination_has_does_not_split_it(separator):
    words, numbers = [f"a{separator}b", "c", ""], [-21, 3, 4]
    rows = by_loops(words, numbers, separator=separator)
    assert [len(row) for row in rows] == [2, 1, 0]
    rule = f'hash_bucket_size: 100 separator: "{separator}"'
    assert combo_rows(rule, pa.array(words), pa.array(numbers)) == hashed(rows)


@pytest.mark.parametrize(
    ("rule", "expected"),  # as TorchEasyRec's own tests have them
    [
        ("", [[2, 3, 4, 1], [2, 4], [], [2, 3], [3], [], [], [], []]),
        (
            'default_value: "xyz"',
            [[2, 3, 4, 1], [2, 4], [0], [2, 3], [3], [0], [0], [0], [0]],
        ),
        ("value_dim: 1", [[2], [2], [], [2], [3], [], [], [], []]),
    ],
)
def test_vocabularies_of_combinations(rule, expected):
    users = pa.array(["ua\x1dub"] * 3 + ["ua"] * 3 + [None, "", ""])
    items = pa.array(["ia\x1dib", "ia", "", "ia\x1dib", "ib", "", "ia", "ia", None])
    rule = f'vocab_list: ["ua_ia", "ua_ib", "ub_ia"] {rule}'
    assert combo_rows(rule, users, items) == expected


def test_combinations_with_zero_collision_hashing_and_any_order_of_rows():
    rule = "zch { zch_size: 10 lfu {} }"
    (feature,) = parsed(COMBO % rule)
    table = pa.table({"a": ["x", "y", "z"], "b": ["1", "2", None]})
    spec = ColumnSpec((feature,), ())
    assert spec.columns == ["a", "b"]
    rows = encode_rows(table, spec)
    (plain,) = parsed(f'id_feature {{ feature_name: "g" embedding_dim: 4 {rule} }}')
    joined = encode_rows(pa.table({"g": ["x_1", "y_2", None]}), ColumnSpec((plain,), ()))
    np.testing.assert_array_equal(rows.scalars, joined.scalars)
    np.testing.assert_array_equal(rows.ids_of("f").lengths, [1, 1, 0])


# ------------------------------------------------------------------ expressions


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (pa.array(["0.2", "", "0.3", None]), pa.array([0.25, 0.25, 0.25, 0.25])),
        (pa.array([0.2, None, 0.3, None], pa.float64()), pa.array(["0.25"] * 3 + [""])),
    ],
)
def test_expressions_of_numbers_and_text(a, b):
    found = expr_rows('expression: "a+b" default_value: "0.1"', a, b)
    np.testing.assert_allclose(found, [[0.45], [0.1], [0.55], [0.1]], rtol=1e-6)
    limits = 'expression: "a+b" boundaries: [0.15, 0.5] embedding_dim: 4'
    assert expr_rows(f'{limits} default_value: "0.1"', a, b) == [[1], [0], [2], [0]]
    assert expr_rows(f'{limits} default_value: ""', a, b) == [[1], [], [2], []]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a == b ? 1 : 0", [0.0, 1.0, 0.0]),
        ("sigmoid(a / (1 + b))", [1 / (1 + math.exp(-x)) for x in (1 / 4, 2 / 3, 4.0)]),
        ("max(a, b, 2.5) - min(a, b)", [2.0, 0.5, 4.0]),
        ("-a ^ 2 + _pi", [math.pi - 1, math.pi - 4, math.pi - 16]),
        ("7", [7.0, 7.0, 7.0]),
    ],
)
def test_expressions_by_hand(expression, expected):
    a, b = pa.array([1, 2, 4]), pa.array([3, 2, 0])
    found = expr_rows(f'expression: "{expression}"', a, b)
    np.testing.assert_allclose(found, np.array(expected)[:, None], rtol=1e-6)


def test_a_name_of_a_variable_may_be_any_columns_name():
    text = (
        'expr_feature { feature_name: "f" expression: "x1 * _pv" variables: "x1" variables: "_pv" }'
    )
    assert rows_of(text, {"x1": pa.array([2]), "_pv": pa.array([3.5])}) == {"f": [[7.0]]}


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'combo_feature { feature_name: "f" expression: "user:a" hash_bucket_size: 2 '
            "embedding_dim: 4 }",
            r"combo_feature `f`: expression must name two columns or more, but names 1",
        ),
        (
            'combo_feature { feature_name: "f" expression: ["user:a", "feature:b"] '
            "hash_bucket_size: 2 embedding_dim: 4 }",
            r"expression must be user:COLUMN, .* `feature:b`",
        ),
        (COMBO % "", r"exactly one of .* must be set, but got: none"),
        (EXPR % 'expression: "a + c"', r"an expression must have numbers, a, b, .* 'a \+ c' .*'c'"),
        (EXPR % 'expression: "dot(a, b)"', r"a value must stand where 'dot' stands"),
        (EXPR % 'expression: "a" value_dim: 2', r"value_dim must be 1, of one number, but got: 2"),
        ('expr_feature { feature_name: "f" expression: "1" }', r"variables must name a column"),
        (
            'lookup_feature { feature_name: "f" map: "user:m" key: "item:k" }',
            r"lookup_feature `f`: it cannot be computed here; compute its column .* FG_NONE",
        ),
        (
            'match_feature { feature_name: "f" nested_map: "user:m" pkey: "item:k" skey: "ALL" }',
            r"match_feature `f`: it cannot be computed here",
        ),
        (
            'sequence_feature { sequence_name: "s" features { combo_feature { feature_name: "f" '
            'expression: ["user:a", "item:b"] hash_bucket_size: 9 embedding_dim: 4 } } }',
            r"combo_feature `s__f`: in a sequence it cannot be computed here; set fg_mode: FG_NONE",
        ),
    ],
)
def test_faulty_configs(text, message):
    with pytest.raises(ConfigError, match=message):
        parsed(text)


def test_columns_of_computed_features_are_checked_before_training():
    features = parsed(COMBO % "hash_bucket_size: 9")
    with pytest.raises(ConfigError, match=r"feature `f`: the data has no column `b`"):
        check_features(features, {"a": "string"}, "the data")
    with pytest.raises(ConfigError, match=r"feature `f`: column `b` of it must hold .*: double"):
        check_features(features, {"a": "string", "b": "double"}, "it")
    check_features(features, {"a": "array<bigint>", "b": "int"}, "it")
    features = parsed(EXPR % 'expression: "a + b"')
    with pytest.raises(ConfigError, match=r"column `a` of it must hold .*: array<float>"):
        check_features(features, {"a": "array<float>", "b": "double"}, "it")
    check_features(features, {"a": "decimal(9,2)", "b": "boolean"}, "it")


@pytest.mark.parametrize(
    ("expression", "a", "message"),
    [
        ("a + b", pa.array(["x"]), r"feature `f`: column `a` must hold numbers: .*x"),
        ("a > b", pa.array([math.nan]), r"feature `f`: column `a` must be finite, but has 1 NaN"),
        ("a / b", pa.array([1.0]), r"column `f = a / b` must be finite, but has 1 NaN or infinite"),
    ],
)
def test_faulty_numbers(expression, a, message):
    with pytest.raises(DataError, match=message):
        expr_rows(f'expression: "{expression}"', a, pa.array([0.0]))


def test_nulls_in_lists_of_a_combination_are_an_error():
    with pytest.raises(DataError, match=r"id_feature `f`: column `a` must have no null inside"):
        combo_rows("hash_bucket_size: 9", pa.array([["x", None]]), pa.array(["y"]))
