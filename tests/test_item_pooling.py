"""Sequences whose items have several ids: what is encoded, cut, and pooled, against plain loops."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torchrec import JaggedTensor

from tests.test_features import parsed
from trainer.checks.features import check_features
from trainer.config import ConfigError
from trainer.data.collate import collate_features
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.features import IdFeature
from trainer.models.embeddings import pool_items

TEXT = """sequence_id_feature { feature_name: "f" expression: "user:f" embedding_dim: 4
    num_buckets: 99 sequence_delim: ";" value_dim: 0 %s }"""


def nested(parts: dict[str, Any]) -> list[list[list[int]]]:
    """The ids of each item of each row."""
    ids = iter(parts["sequences"].to_dict()["f"].values().tolist())
    items = [each.tolist() for each in parts["items"]["f"].to_dense()]
    found = [[[next(ids) for _ in range(count)] for count in row] for row in items]
    assert not list(ids)
    per_row = [sum(row) for row in items]
    assert parts["sequences"].to_dict()["f"].lengths().tolist() == per_row
    return found


def encoded(rule: str, column: pa.Array, fg_mode: str = "FG_NORMAL") -> list[list[list[int]]]:
    text = TEXT.replace("value_dim: 0", "") if "value_dim" in rule else TEXT
    features = parsed(text % rule, fg_mode)
    rows = encode_rows(pa.table({"f": column}), ColumnSpec(tuple(features), ()))
    return nested(collate_features(rows, features))


LISTS = [[[1, 2], [3]], [], [[4], [], [5, 6, 7], [8]], None]
AS_TEXT = ["1\x1d2;3", "", "4;;5\x1d6\x1d7;8", None]


@pytest.mark.parametrize("values", [LISTS, AS_TEXT], ids=["lists", "text"])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("", [[[1, 2], [3]], [[0]], [[4], [0], [5, 6, 7], [8]], [[0]]]),
        (
            'default_value: "9" sequence_length: 3',
            [[[1, 2], [3]], [[9]], [[4], [9], [5, 6, 7]], [[9]]],
        ),
        (
            "value_dim: 2 sequence_length: 3",
            [[[1, 2], [3]], [[0]], [[4], [0], [5, 6]], [[0]]],
        ),
    ],
)
def test_items_of_a_sequence_keep_their_ids(values, rule, expected):
    assert encoded(rule, pa.array(values)) == expected


@pytest.mark.parametrize("values", [LISTS, [v and v.replace("\x1d", "\x03") for v in AS_TEXT]])
def test_encoded_items_without_ids_have_none(values):
    expected = [[[1, 2], [3]], [], [[4], [], [5, 6, 7], [8]], []]
    assert encoded("", pa.array(values), "FG_NONE") == expected
    filled = [[[1, 2], [3]], [[9]], [[4], [9], [5, 6, 7], [8]], [[9]]]
    assert encoded('fg_encoded_default_value: "9"', pa.array(values), "FG_NONE") == filled


def test_items_are_chosen_split_and_joined_with_their_rows():
    features = parsed(TEXT % "")
    table, spec = pa.table({"f": AS_TEXT}), ColumnSpec(tuple(features), ())
    rows = encode_rows(table, spec, torch.tensor([2, 0, 1], dtype=torch.int32))
    expected = [[[4], [0], [5, 6, 7], [8]], [[1, 2], [3]], [[0]]]
    assert nested(collate_features(rows, features)) == expected
    pieces = rows.split(np.array([1, 2]))
    joined = type(rows).concat([pieces[1], pieces[0]])
    assert nested(collate_features(joined, features)) == [*expected[1:], expected[0]]
    empty = encode_rows(table.slice(0, 0), spec)
    parts = collate_features(empty, features)
    assert len(parts["items"]["f"].values()) == len(parts["sequences"].values()) == 0


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_vectors_of_an_item_are_pooled(pooling):
    (feature,) = parsed(TEXT % f'pooling: "{pooling}"')
    assert isinstance(feature, IdFeature)
    vectors = torch.randn(5, 4, dtype=torch.float64)
    items = {"f": JaggedTensor(torch.tensor([2, 0, 3]), lengths=torch.tensor([1, 2]))}
    found = pool_items(JaggedTensor(vectors, lengths=torch.tensor([2, 3])), feature, items)
    each = [vectors[:2], vectors[:0], vectors[2:]]
    expected = [part.sum(0) / (max(len(part), 1) if pooling == "mean" else 1) for part in each]
    torch.testing.assert_close(found.values(), torch.stack(expected))
    assert found.lengths().tolist() == [1, 2]


def test_features_of_one_sequence_have_equally_many_items():
    text = """sequence_feature { sequence_name: "s" sequence_delim: ";"
        features { id_feature { feature_name: "a" num_buckets: 9 embedding_dim: 4 value_dim: 0 } }
        features { id_feature { feature_name: "b" num_buckets: 9 embedding_dim: 4 } } }"""
    spec = ColumnSpec(tuple(parsed(text)), ())
    encode_rows(pa.table({"s__a": ["1\x1d2;3"], "s__b": ["1;2"]}), spec)
    with pytest.raises(DataError, match=r"`s__a` has 2 and `s__b` has 3"):
        encode_rows(pa.table({"s__a": ["1\x1d2;3"], "s__b": ["1;2;3"]}), spec)


def test_faulty_items():
    with pytest.raises(DataError, match=r"column `f` must be in \[0, 99\), but got: 100"):
        encoded("", pa.array([[[100]]]))
    with pytest.raises(DataError, match=r"column `f` must have no null inside its lists"):
        encoded("", pa.array([[[1, None]]]))
    features = parsed(TEXT % "")
    check_features(features, {"f": "array<array<bigint>>"}, "it")
    with pytest.raises(ConfigError, match=r"`f` of it must hold string, lists or lists of lists"):
        check_features(features, {"f": "array<array<float>>"}, "it")
