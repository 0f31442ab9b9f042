"""Each kind of feature: what a column becomes, against plain loops."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from preprocessing.normalizer import FUNCTIONS, OPERATORS, Normalizer
from trainer.config import ConfigError, parse_config
from trainer.data.coding import NUMPY, hash_ids
from trainer.data.collate import collate_features
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.feature_config import parse_features
from trainer.data.features import Feature, IdFeature

MAP = pa.map_(pa.string(), pa.float64())
INT_MAP = pa.map_(pa.int64(), pa.float32())


def parsed(text: str, fg_mode: str = "FG_NORMAL") -> list[Feature]:
    """The features of feature_configs, written without their outer braces."""
    return parse_features(
        parse_config(f"data_config {{ fg_mode: {fg_mode} }} feature_configs {{ {text} }}")
    )


def rows_of(text: str, columns: dict[str, pa.Array], fg_mode: str = "FG_NORMAL") -> dict[str, Any]:
    """What each row holds of each feature: ids, (ids, weights) or numbers, as lists."""
    features = parsed(text, fg_mode)
    table = pa.table(columns)
    rows = encode_rows(table, ColumnSpec(tuple(features), ()))
    for feature in features:
        if feature.name in rows.lists:
            wanted = np.int64 if isinstance(feature, IdFeature) else np.float32
            assert rows.lists[feature.name].values.dtype == wanted
    parts = collate_features(rows, features)
    found: dict[str, Any] = {}
    for part in ("ids", "sequences"):
        for name, jagged in parts[part].to_dict().items() if parts[part] is not None else ():
            found[name] = [each.tolist() for each in jagged.to_dense()]
    if parts["weighted_ids"] is not None:
        for name, jagged in parts["weighted_ids"].to_dict().items():
            weights = jagged.to_dense_weights()
            found[name] = [
                list(zip(ids.tolist(), w.tolist(), strict=True))
                for ids, w in zip(jagged.to_dense(), weights, strict=True)
            ]
    for name, jagged in parts["sequence_dense"].items():
        found[name] = [each.tolist() for each in jagged.to_dense()]
    if parts["dense"].shape[1]:
        (name,) = (feature.name for feature in features if feature.part == "dense")
        found[name] = parts["dense"].tolist()
    return found


def id_rows(rule: str, column: pa.Array, fg_mode: str = "FG_NORMAL") -> list[Any]:
    text = f'id_feature {{ feature_name: "f" expression: "user:f" embedding_dim: 4 {rule} }}'
    return rows_of(text, {"f": column}, fg_mode)["f"]


def raw_rows(rule: str, column: pa.Array, fg_mode: str = "FG_NORMAL") -> list[Any]:
    text = f'raw_feature {{ feature_name: "f" expression: "item:f" {rule} }}'
    return rows_of(text, {"f": column}, fg_mode)["f"]


def text_hash(*words: str, buckets: int = 100) -> list[int]:
    return hash_ids(pa.array(words), buckets).tolist()


# ------------------------------------------------------------------ ids


@pytest.mark.parametrize(
    ("rule", "column", "expected"),
    [
        ("num_buckets: 9", pa.array([1, None, 8]), [[1], [], [8]]),
        ('num_buckets: 9 default_value: "3"', pa.array([1, None, 8]), [[1], [3], [8]]),
        ("num_buckets: 9", pa.array(["0\x1d1", "", None, "2"]), [[0, 1], [], [], [2]]),
        ('num_buckets: 9 default_value: "3"', pa.array(["0\x1d1", "", "2"]), [[0, 1], [3], [2]]),
        ("num_buckets: 9", pa.array([[1, 2], [], None, [3]]), [[1, 2], [], [], [3]]),
        ('num_buckets: 9 default_value: "5"', pa.array([[1], [], None]), [[1], [5], [5]]),
        ("num_buckets: 9 value_dim: 2", pa.array([[1, 2, 3], [4]]), [[1, 2], [4]]),
        ("num_buckets: 9 value_dim: 1", pa.array(["4\x1d5", "", "6"]), [[4], [], [6]]),
        ('num_buckets: 9 value_dim: 1 separator: "|"', pa.array(["|4|5", "|"]), [[4], []]),
        ('num_buckets: 9 separator: "|"', pa.array(["4|5||6", "|"]), [[4, 5, 6], []]),
        ("num_buckets: 9", pa.array([None, [5]], pa.list_(pa.int32())), [[], [5]]),
    ],
)
def test_ids_as_they_are(rule, column, expected):
    assert id_rows(rule, column) == expected


def test_no_rows():
    features = parsed(GROUP % ("num_buckets: 9", "boundaries: 1 embedding_dim: 4"))
    features += parsed('id_feature { feature_name: "f" num_buckets: 9 embedding_dim: 4 }')
    names = {feature.column: pa.array([], pa.string()) for feature in features}
    parts = collate_features(
        encode_rows(pa.table(names), ColumnSpec(tuple(features), ())), features
    )
    assert (parts["ids"].keys(), parts["ids"].stride()) == (["f"], 0)
    assert (len(parts["sequences"].keys()), parts["sequences"].stride()) == (2, 0)


def test_hashed_values_and_defaults_hash_alike():
    a, b, x, four = text_hash("abc", "efg", "xyz", "4")
    rule = "hash_bucket_size: 100"
    assert id_rows(rule, pa.array(["abc\x1defg", None, "", "abc"])) == [[a, b], [], [], [a]]
    assert id_rows(f'{rule} default_value: "xyz"', pa.array([["abc"], []])) == [[a], [x]]
    integer = hash_ids(pa.array([4, 7]), 100).tolist()
    assert integer[0] != four
    column = pa.array([7, None], pa.int32())
    assert id_rows(f'{rule} default_value: "4"', column) == [[integer[1]], [integer[0]]]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('vocab_list: ["abc", "efg"]', [[2, 3], [], [1]]),
        ('vocab_list: ["abc", "efg"] default_value: "xyz"', [[2, 3], [0], [1]]),
        ('vocab_list: ["abc", "efg"] default_value: "abc"', [[2, 3], [2], [1]]),
        ('vocab_list: ["x", "abc", "efg"] default_bucketize_value: 0', [[1, 2], [], [0]]),
        (
            'vocab_list: ["x", "abc", "efg"] default_bucketize_value: 0 default_value: "x"',
            [[1, 2], [0], [0]],
        ),
        ('vocab_dict: [{key: "abc" value: 2}, {key: "efg" value: 2}]', [[2, 2], [], [1]]),
        (
            'vocab_dict: [{key: "abc" value: 2}, {key: "efg" value: 2}] default_value: "abc"',
            [[0, 2], [0], [1]],
        ),
        (
            'vocab_dict { key: "abc" value: 1 } vocab_dict { key: "efg" value: 1 } '
            "default_bucketize_value: 0",
            [[1, 1], [], [0]],
        ),
    ],
)
def test_vocabularies(rule, expected):  # as TorchEasyRec's own tests have them
    assert id_rows(rule, pa.array(["abc\x1defg", "", "hij"])) == expected
    assert id_rows(rule, pa.array([["abc", "efg"], None, ["hij"]])) == expected


def test_vocabulary_of_integers_is_by_their_text():
    assert id_rows('vocab_list: ["7", "-1"]', pa.array([-1, 7, 0, None])) == [[3], [2], [1], []]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [("xyz\nOOV\nabc\nefg\n", [[2, 3], [0], [1]]), ("xyz 0\nabc 2\nefg 2\n", [[2, 2], [0], [1]])],
)
def test_vocabulary_files(tmp_path, lines, expected):
    (tmp_path / "words").write_text(lines)
    rule = f'vocab_file: "words" asset_dir: "{tmp_path}" default_value: "xyz"'
    column = pa.array(["abc\x1defg", "", "hij"])
    assert id_rows(f"{rule} default_bucketize_value: 1", column) == expected
    with pytest.raises(ConfigError, match=r"needs default_bucketize_value"):
        id_rows(rule, column)


@pytest.mark.parametrize(
    ("rule", "column", "expected"),
    [
        (
            "num_buckets: 999",
            pa.array(["12:0.5", "13:0.25", None, "12:1\x1d3:2.5", ""]),
            [[(12, 0.5)], [(13, 0.25)], [], [(12, 1.0), (3, 2.5)], []],
        ),
        (
            "num_buckets: 999",
            pa.array([{"12": 0.5}, None, {"12": 1.0, "3": 2.5}, {}], MAP),
            [[(12, 0.5)], [], [(12, 1.0), (3, 2.5)], []],
        ),
        (
            "num_buckets: 9",
            pa.array([["1:1.0"], ["2:1.5", "3:2"], []]),
            [[(1, 1.0)], [(2, 1.5), (3, 2.0)], []],
        ),
        (
            'num_buckets: 9 default_value: "4"',
            pa.array([{1: 1.5}, None], INT_MAP),
            [[(1, 1.5)], [(4, 1.0)]],
        ),
        ("num_buckets: 9 value_dim: 1", pa.array(["2:1.5\x1d3:2"]), [[(2, 1.5)]]),
    ],
)
def test_weighted_ids(rule, column, expected):
    assert id_rows(f"{rule} weighted: true", column) == expected
    if pa.types.is_map(column.type):  # a slice, as the reader makes them
        assert id_rows(f"{rule} weighted: true", column[1:]) == expected[1:]


def test_weighted_ids_are_hashed_without_their_weights():
    (shoe,) = text_hash("shoe")
    assert id_rows("hash_bucket_size: 100 weighted: true", pa.array(["shoe:2"])) == [[(shoe, 2.0)]]


@pytest.mark.parametrize("type_", [pa.float32(), pa.float64(), pa.decimal128(9, 2), pa.string()])
def test_boundaries_are_closed_on_the_left(type_):
    limits = [1.1, 51.6, 171.8]  # none of them is a float32
    numbers = [0.0, 1.1, 1.09, 51.6, 171.8, 171.81, -5.0]
    column = pa.array(map(str, numbers)).cast(pa.decimal128(9, 2)).cast(type_)
    expected = [[sum(limit <= number for limit in limits)] for number in numbers]
    assert raw_rows(f"boundaries: {limits} embedding_dim: 4", column) == expected


@pytest.mark.parametrize(
    ("rule", "column", "expected"),
    [
        ('default_value: "0.1"', pa.array([0.2, 0.1, 0.3, None]), [[2], [1], [3], [1]]),
        ('default_value: ""', pa.array(["0.2", "", "0.3"]), [[2], [], [3]]),
        (
            'default_value: "0.1\\0350.4" value_dim: 2',
            pa.array(["0.2\x1d0.5", "", "0.3\x1d0.6"]),
            [[2, 3], [1, 3], [3, 3]],
        ),
        (
            'default_value: "0.1\\0350.4" value_dim: 2',
            pa.array([[0.2, 0.5], [], [0.3, 0.6]]),
            [[2, 3], [1, 3], [3, 3]],
        ),
        (
            'default_value: "0.01" normalizer: "method=log10,threshold=0.05,default=-5"',
            pa.array(["0.1", "", "10"]),
            [[0], [0], [3]],
        ),
    ],
)
def test_boundaries_of_vectors_and_defaults(rule, column, expected):
    rule = f"boundaries: [0.05, 0.15, 0.25] embedding_dim: 4 {rule}"
    assert raw_rows(rule, column) == expected


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("rule", "column", "expected"),
    [
        ('default_value: "0.1"', pa.array(["0.5", "", None]), [[0.5], [0.1], [0.1]]),
        ('default_value: "2"', pa.array([1, None]), [[1.0], [2.0]]),
        (
            'value_dim: 2 default_value: "0.1\\0350.4"',
            pa.array(["0.2\x1d0.5", "", None]),
            [[0.2, 0.5], [0.1, 0.4], [0.1, 0.4]],
        ),
        ("value_dim: 2", pa.array([[1.5, None], None, []]), [[1.5, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        ('value_dim: 2 separator: "|"', pa.array(["1|2"]), [[1.0, 2.0]]),
        (
            'default_value: "0.01" normalizer: "method=log10,threshold=0.05,default=-5"',
            pa.array(["0.1", "", "10", "0.05"]),
            [[-1.0], [0.01], [1.0], [-5.0]],
        ),
        (
            'normalizer: "method=zscore,mean=0.1,standard_deviation=10.0"',
            pa.array([0.2, 0.1]),
            [[0.01], [0.0]],
        ),
        (
            'value_dim: 2 normalizer: "method=minmax,min=0.1,max=0.6"',
            pa.array([[0.35, 0.6], [0.1, 1.1]]),
            [[0.5, 1.0], [0.0, 2.0]],
        ),
        (
            'normalizer: "method=expression,expr=log(x+3)"',
            pa.array([0, 7]),
            [[1.0986123], [2.3025851]],
        ),
    ],
)
def test_raw_features(rule, column, expected):
    assert np.allclose(raw_rows(rule, column), expected, rtol=1e-6, atol=1e-9)


# Every function and operator, and the same in Python.
EXPRESSIONS = {
    "x^2^3 - 2": lambda x: x**8 - 2,
    "-x^2": lambda x: -(x**2),
    "(x - 1) / 4 * 2 - 1 - 1": lambda x: (x - 1) / 4 * 2 - 2,
    "x > 1 && x <= 3 || x == 5 ? 10 : x < 0 ? -1 : 1.5e1": (
        lambda x: 10 if 1 < x <= 3 or x == 5 else -1 if x < 0 else 15
    ),
    "min(x, 1, -2) + max(x, 0.5) != 0": lambda x: float(min(x, 1, -2) + max(x, 0.5) != 0),
    "round(x) + rint(x) * 10": lambda x: math.copysign(math.floor(abs(x) + 0.5), x) + round(x) * 10,
    "sigmoid(x) + tanh(x) - sign(x) * abs(x)": lambda x: 1 / (1 + math.exp(-x)) + math.tanh(x) - x,
    "log10(100) + ln(_e) + log(exp(x)) + log2(8) + _pi": lambda x: 2 + 1 + x + 3 + math.pi,
    "floor(x) + ceil(x) + trunc(x)": lambda x: math.floor(x) + math.ceil(x) + math.trunc(x),
    "sin(x)*cos(x)+tan(x)+sinh(x)-cosh(x)": lambda x: (
        math.sin(x) * math.cos(x) + math.tan(x) + math.sinh(x) - math.cosh(x)
    ),
    "asin(x/9)+acos(x/9)+atan(x)+asinh(x)+acosh(x+9)+atanh(x/9)": lambda x: (
        math.asin(x / 9)
        + math.acos(x / 9)
        + math.atan(x)
        + math.asinh(x)
        + math.acosh(x + 9)
        + math.atanh(x / 9)
    ),
    "sqrt(x + 3) >= 2": lambda x: float(math.sqrt(x + 3) >= 2),
}


def test_every_function_and_operator_of_a_normalizer():
    found = " ".join(EXPRESSIONS)
    assert all(f"{name}(" in found for name in FUNCTIONS)
    assert all(mark in found for mark in set(OPERATORS) - {"neg", "?:"})
    points = np.array([-2.5, -1.0, 0.0, 0.5, 1.0, 2.5, 3.0, 5.0])
    for text, reference in EXPRESSIONS.items():
        found = Normalizer.parse(f"method=expression,expr={text}").evaluate(points, NUMPY)
        expected = [reference(x) for x in points.tolist()]
        assert np.allclose(np.broadcast_to(found, points.shape), expected, rtol=1e-12), text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log(x)", r"normalizer must be method=log10, zscore, minmax, expression"),
        ("method=log,x=1", r"normalizer must be method=log10"),
        ("method=expression,log(x)", r"must be method=expression,expr="),
        ("method=zscore,mean=1", r"must have standard_deviation, but it is missing"),
        ("method=zscore,mean=1,standard_deviation=0", r"must not divide by zero"),
        ("method=minmax,min=1,max=1", r"must not divide by zero"),
        ("method=minmax,low=1", r"has no 'low'; it has min, max"),
        ("method=log10,threshold=a", r"threshold must be a number"),
        ("method=expression,expr=__import__('os')", r"it has \"'\""),
        ("method=expression,expr=open(x)", r"a value must stand where 'open' stands"),
        ("method=expression,expr=log(x", r"'\)' must stand where"),
        ("method=expression,expr=x +", r"a value must stand where 'its end' stands"),
        ("method=expression,expr=x x", r"'x' must not stand there"),
        ("method=expression,expr=log(x, 2)", r"log takes 1 arguments, not 2"),
        ("method=expression,expr=max(x)", r"max takes 2 arguments, not 1"),
        ("method=expression,expr=x.real", r"it has '\.'"),
        ("method=expression,expr=x ? 1", r"':' must stand where"),
    ],
)
def test_faulty_normalizers(text, message):
    with pytest.raises(ConfigError, match=rf"raw_feature `f`: .*{message}"):
        parsed(f'raw_feature {{ feature_name: "f" normalizer: "{text}" }}')


# ------------------------------------------------------------------ sequences

GROUP = """sequence_feature { sequence_name: "clicks" sequence_length: 3 sequence_delim: "|"
    features { id_feature { feature_name: "item" expression: "item:iid" embedding_dim: 4 %s } }
    features { raw_feature { feature_name: "price" expression: "user:cost" %s } } }"""


def sequences(id_rule: str, raw_rule: str, items: pa.Array, prices: pa.Array) -> list[Any]:
    found = rows_of(GROUP % (id_rule, raw_rule), {"clicks__iid": items, "clicks__cost": prices})
    assert list(found) == ["clicks__item", "clicks__price"]
    return list(found.values())


@pytest.mark.parametrize(
    ("items", "prices"),
    [
        (pa.array(["1|2", "", "5|6|7|8", None]), pa.array(["0.5|2", "", "1|2|3|4", None])),
        (pa.array([[1, 2], [], [5, 6, 7, 8], None]), pa.array([[0.5, 2], [], [1, 2, 3, 4], None])),
        (
            pa.array([["1", "2"], [], ["5", "6", "7", "8"], None]),
            pa.array([["0.5", "2"], [], ["1", "2", "3", "4"], None]),
        ),
    ],
    ids=["text", "lists", "lists of text"],
)
def test_grouped_sequences_keep_their_first_values(items, prices):
    ids, numbers = sequences("num_buckets: 9", "", items, prices)
    assert ids == [[1, 2], [0], [5, 6, 7], [0]]  # an empty sequence is one default value
    assert numbers == [[[0.5], [2.0]], [[0.0]], [[1.0], [2.0], [3.0]], [[0.0]]]
    default = 'default_value: "4"'
    ids, numbers = sequences(f"num_buckets: 9 {default}", default, items, prices)
    assert (ids[1], numbers[3]) == ([4], [[4.0]])


def test_items_of_a_sequence_take_the_default_and_the_first_of_their_values():
    items = pa.array(["c||a", "b\x1da|\x1db", "|", "z"])  # "|" is two empty items
    prices = pa.array([[1, 2, 3], [1, 2], [1, 2], [1]])
    rule = 'vocab_list: ["a", "b", "c"] default_value: "0"'
    ids, _ = sequences(rule, "", items, prices)
    assert ids == [[4, 0, 2], [3, 0], [0, 0], [1]]


@pytest.mark.parametrize(
    "prices",
    [
        pa.array(["0.5\x1d1|2\x1d3", "", "4\x1d5"]),
        pa.array([["0.5\x1d1", "2\x1d3"], None, ["4\x1d5"]]),
        pa.array([[[0.5, 1.0], [2.0, 3.0]], [], [[4.0, 5.0]]]),
        pa.array([[[0.5, 1.0], [2.0, 3.0]], [None], [[4.0, 5.0]]]),
    ],
)
def test_vectors_in_sequences(prices):
    items = pa.array([[1, 2], [3], [4]])
    _, numbers = sequences("num_buckets: 9", "value_dim: 2", items, prices)
    assert numbers == [[[0.5, 1.0], [2.0, 3.0]], [[0.0, 0.0]], [[4.0, 5.0]]]


def test_buckets_and_normalizers_in_sequences():
    rule = (
        'boundaries: [0.05, 0.15, 0.25] embedding_dim: 4 normalizer: "method=expression,expr=x/10"'
    )
    prices = pa.array(["1|2", "", "3"])
    _, buckets = sequences("num_buckets: 9", rule, pa.array([[1, 1], [1], [1]]), prices)
    assert buckets == [[1, 2], [0], [3]]
    _, numbers = sequences(
        "num_buckets: 9",
        'normalizer: "method=expression,expr=x/10"',
        pa.array([[1, 1], [1], [1]]),
        prices,
    )
    assert np.allclose(np.concatenate(numbers)[:, 0], [0.1, 0.2, 0.0, 0.3])


def test_simple_sequences():
    text = """sequence_id_feature { feature_name: "f" expression: "user:seq" sequence_length: 2
        embedding_dim: 4 hash_bucket_size: 100 }"""
    a, b, zero = text_hash("a", "b", "0")
    column = pa.array(["a;b;c", "", "b"])
    assert rows_of(text, {"seq": column}) == {"f": [[a, b], [zero], [b]]}
    text = 'sequence_raw_feature { feature_name: "f" expression: "user:seq" sequence_delim: "," }'
    assert rows_of(text, {"seq": pa.array(["1,2", None])}) == {"f": [[[1.0], [2.0]], [[0.0]]]}


# ------------------------------------------------------------------ modes


def test_encoded_columns_have_the_features_names_and_no_defaults():
    text = GROUP % ("vocab_list: ['a', 'b']", "")
    columns = {
        "clicks__item": pa.array(["1|3", "", None]),
        "clicks__price": pa.array([[0.5, 1], [], None], pa.list_(pa.float32())),
    }
    found = rows_of(text, columns, "FG_NONE")
    assert found == {"clicks__item": [[1, 3], [], []], "clicks__price": [[[0.5], [1.0]], [], []]}
    filled = text.replace("embedding_dim", 'fg_encoded_default_value: "2" embedding_dim')
    filled = filled.replace("user:cost", 'user:cost" fg_encoded_default_value: "9')
    found = rows_of(filled, columns, "FG_NONE")
    assert found["clicks__item"] == [[1, 3], [2], [2]]
    assert found["clicks__price"][1:] == [[[9.0]], [[9.0]]]


@pytest.mark.parametrize(
    ("rule", "column", "expected"),
    [
        ("", pa.array(["1\x032", "", None, "3"]), [[1, 2], [], [], [3]]),
        ('fg_encoded_default_value: "0"', pa.array(["1\x032", "", "3"]), [[1, 2], [0], [3]]),
        ('fg_encoded_default_value: "4\\0035"', pa.array([1, None]), [[1], [4, 5]]),
        ('default_value: "7"', pa.array([1, None]), [[1], []]),
        ("weighted: true", pa.array(["1:1", "2:1.5\x033:2"]), [[(1, 1.0)], [(2, 1.5), (3, 2.0)]]),
    ],
)
def test_encoded_ids(rule, column, expected):
    assert id_rows(f"hash_bucket_size: 10 {rule}", column, "FG_NONE") == expected


def test_encoded_numbers():
    limits = "boundaries: [0.1, 0.2, 0.3] embedding_dim: 4"
    assert raw_rows(limits, pa.array(["1", "", None, "3"]), "FG_NONE") == [[1], [], [], [3]]
    rule = f'{limits} fg_encoded_default_value: "0"'
    assert raw_rows(rule, pa.array([1, None]), "FG_NONE") == [[1], [0]]
    vector = 'value_dim: 2 fg_encoded_default_value: "0.5\\0031"'
    column = pa.array(["0.25\x034", None])
    assert raw_rows(vector, column, "FG_NONE") == [[0.25, 4.0], [0.5, 1.0]]
    assert raw_rows('normalizer: "method=log10"', pa.array([10.0]), "FG_NONE") == [[10.0]]


def test_bucketize_mode_does_all_but_normalize():
    text = 'raw_feature { feature_name: "f" expression: "item:g" %s }'
    rule = text % 'boundaries: [1] embedding_dim: 4 normalizer: "method=log10"'
    assert rows_of(rule, {"f": pa.array([0.5, 1.0])}, "FG_BUCKETIZE") == {"f": [[0], [1]]}
    ids = id_rows('vocab_list: ["a"]', pa.array(["a", "b", ""]), "FG_BUCKETIZE")
    assert ids == [[2], [1], []]


def test_rows_are_chosen_split_and_joined_with_all_kinds():
    text = GROUP % ("num_buckets: 9", "") + (
        '} feature_configs { id_feature { feature_name: "tags" num_buckets: 9 embedding_dim: 4 } '
        '} feature_configs { id_feature { feature_name: "w" num_buckets: 9 embedding_dim: 4 '
        "weighted: true }"
    )
    random = np.random.default_rng(0)
    count = 50
    lengths = random.integers(0, 5, count)
    items = [random.integers(0, 9, n).tolist() for n in lengths]
    columns = {
        "clicks__iid": pa.array(items, pa.list_(pa.int64())),
        "clicks__cost": pa.array(
            [[float(i) for i in row] for row in items], pa.list_(pa.float32())
        ),
        "tags": pa.array(items[::-1], pa.list_(pa.int64())),
        "w": pa.array([{i: i / 2 for i in set(row)} for row in items], INT_MAP),
    }
    features = parsed(text)
    spec, table = ColumnSpec(tuple(features), ()), pa.table(columns)
    whole = collate_features(encode_rows(table, spec), features)
    order = random.permutation(count).astype(np.int32)
    rows = encode_rows(table, spec, torch.from_numpy(order))
    pieces = rows.split(np.array([7, 0, 23, 20]))
    assert [piece.num_rows for piece in pieces] == [7, 0, 23, 20]
    joined = collate_features(type(rows).concat(pieces), features)
    for part in ("ids", "weighted_ids", "sequences"):
        for name, jagged in joined[part].to_dict().items():
            expected = whole[part].to_dict()[name]
            for at, row in enumerate(order):
                assert jagged.to_dense()[at].tolist() == expected.to_dense()[row].tolist()
                if part == "weighted_ids":
                    weights = jagged.to_dense_weights()[at], expected.to_dense_weights()[row]
                    assert weights[0].tolist() == weights[1].tolist()
    found, expected = (each["sequence_dense"]["clicks__price"] for each in (joined, whole))
    for at, row in enumerate(order):
        assert found.to_dense()[at].tolist() == expected.to_dense()[row].tolist()


def test_blocks_with_and_without_several_values_in_text_are_joined():
    blocks = [["1", "", "2"], ["3\x1d4", None, "5\x1d6\x1d7", "8"], []]
    features = parsed(
        'id_feature { feature_name: "a" num_buckets: 9 embedding_dim: 4 } } feature_configs { '
        'id_feature { feature_name: "b" num_buckets: 9 embedding_dim: 4 }'
    )
    encoded = []
    for texts in blocks:
        table = pa.table(
            {"a": pa.array(texts, pa.string()), "b": pa.array([8] * len(texts), pa.int64())}
        )
        encoded.append(encode_rows(table, ColumnSpec(tuple(features), ())))
    assert [list(rows.further) for rows in encoded] == [[], ["a"], []]
    parts = collate_features(type(encoded[0]).concat(encoded), features)
    found = parts["ids"].to_dict()
    assert list(parts["ids"].keys()) == ["a", "b"]
    assert [each.tolist() for each in found["a"].to_dense()] == [
        [1],
        [],
        [2],
        [3, 4],
        [],
        [5, 6, 7],
        [8],
    ]
    assert [each.tolist() for each in found["b"].to_dense()] == [[8]] * 7


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("rule", "column", "message"),
    [
        ("num_buckets: 9", pa.array(["1\x1d9"]), r"must be in \[0, 9\), but got: 9; raise"),
        ("num_buckets: 9", pa.array(["x"]), r"`f` must hold integers: .*'x'.*hash_bucket_size"),
        ('num_buckets: 9 default_value: "9"', pa.array([1, None]), r"must be in \[0, 9\)"),
        (
            'num_buckets: 9 default_value: "z"',
            pa.array([1, None]),
            r"default_value must hold integ",
        ),
        ("num_buckets: 9", pa.array([[1, None]]), r"must have no null inside its lists"),
        ("num_buckets: 9 weighted: true", pa.array(["1:2\x1d3"]), r"must hold `id:weight`.*'3'"),
        ("num_buckets: 9 weighted: true", pa.array(["1:x"]), r"weights must hold numbers"),
        ("num_buckets: 9 weighted: true", pa.array(["1:nan"]), r"weights must be finite"),
        (
            "num_buckets: 9 weighted: true",
            pa.array([{"1": None}], MAP),
            r"weights must not be null",
        ),
    ],
)
def test_faulty_ids(rule, column, message):
    with pytest.raises(DataError, match=message):
        id_rows(rule, column)


@pytest.mark.parametrize(
    ("rule", "column", "message"),
    [
        ("", pa.array(["1.5", "many"]), r"`f` must hold numbers: .*'many'"),
        ("", pa.array([1.0, math.nan]), r"must be finite, but has 1 NaN"),
        ("boundaries: 1 embedding_dim: 4", pa.array([math.nan]), r"must be finite"),
        (
            'normalizer: "method=expression,expr=log(x)"',
            pa.array([1.0, -1.0, 0.0]),
            r"by normalizer `method=expression,expr=log\(x\)`, must be finite, but has 2",
        ),
        ("value_dim: 2", pa.array(["1\x1d2\x1d3"]), r"must have value_dim = 2 values, but 1 have"),
        ("value_dim: 2", pa.array([1.0]), r"must hold lists of value_dim = 2 numbers"),
    ],
)
def test_faulty_numbers(rule, column, message):
    with pytest.raises(DataError, match=message):
        raw_rows(rule, column)


def test_faulty_sequences():
    with pytest.raises(
        DataError, match=r"equally many .*`clicks__item` has 2 and `clicks__price` has 1"
    ):
        sequences("num_buckets: 9", "", pa.array(["1|2"]), pa.array(["1"]))
    with pytest.raises(DataError, match=r"must have value_dim = 2 values, but 1 have not"):
        sequences("num_buckets: 9", "value_dim: 2", pa.array([[1]]), pa.array([[[1.0]]]))
    with pytest.raises(DataError, match=r"must hold lists or text, but holds: int64"):
        sequences("num_buckets: 9", "", pa.array([1]), pa.array([[1.0]]))
    text = GROUP % ("num_buckets: 9", "")
    columns = {"clicks__item": pa.array([[1, None]]), "clicks__price": pa.array([[1.0, 2.0]])}
    with pytest.raises(DataError, match=r"no null or empty item; set fg_encoded_default_value"):
        rows_of(text, columns, "FG_NONE")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id_feature { feature_name: "f" embedding_dim: 4 }', r"exactly one of .* but got: none"),
        (
            'id_feature { feature_name: "f" embedding_dim: 4 num_buckets: 2 vocab_list: "a" }',
            r"exactly one of .* but got: num_buckets, vocab_list",
        ),
        (
            'id_feature { feature_name: "f" embedding_dim: 4 trainable: false '
            "zch { zch_size: 8 lfu {} } }",
            r"trainable must be true with zch",
        ),
        (
            'id_feature { feature_name: "f" embedding_dim: 4 num_buckets: 2 sequence_length: 2 }',
            r"sequence_length takes effect in sequence_id_feature",
        ),
        (
            'id_feature { feature_name: "f" embedding_dim: 4 num_buckets: 2 '
            'expression: "feature:g" }',
            r"expression must be user:COLUMN, item:COLUMN or context:COLUMN, but got: `feature:g`",
        ),
        (
            'id_feature { feature_name: "f" embedding_dim: 4 vocab_list: "a" '
            "default_bucketize_value: 1 }",
            r"id of other values must be in the vocabulary's \[0, 1\), but is 1",
        ),
        (
            'id_feature { feature_name: "f" embedding_dim: 4 vocab_file: "/no/such" '
            "default_bucketize_value: 1 }",
            r"vocab_file must be a file, but there is none: /no/such",
        ),
        (
            'sequence_id_feature { feature_name: "f" embedding_dim: 4 num_buckets: 2 '
            "weighted: true }",
            r"sequence_id_feature `f`: weighted must be false in a sequence",
        ),
        ('raw_feature { feature_name: "f" boundaries: 1 }', r"embedding_dim must be positive"),
        (
            'raw_feature { feature_name: "f" boundaries: [2, 1] embedding_dim: 4 }',
            r"boundaries must be finite numbers that rise",
        ),
        (
            'raw_feature { feature_name: "f" boundaries: [0, inf] embedding_dim: 4 }',
            r"boundaries must be finite numbers",
        ),
        (
            'id_feature { feature_name: "f" embedding_dim: 4 num_buckets: 2 separator: "" }',
            r"separators and sequence_delim must have a character",
        ),
        ('raw_feature { feature_name: "f" default_value: "nan" }', r"default_value must be a num"),
        (
            'raw_feature { feature_name: "f" value_dim: 3 default_value: "1\\0352" }',
            r"default_value must have 3 numbers, but has 2",
        ),
        ("sequence_feature { }", r"must have sequence_name and features"),
        (
            'sequence_feature { sequence_name: "s" features { } }',
            r"features of sequence_feature `s` must hold one of id_feature, raw_feature, combo_",
        ),
    ],
)
def test_faulty_configs(text, message):
    with pytest.raises(ConfigError, match=message):
        parsed(text)
