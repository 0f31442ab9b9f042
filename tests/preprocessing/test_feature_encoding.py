"""Features encoded by the job are those that the trainer's loader computes from raw columns."""

import argparse
import bisect
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from pyspark.sql import functions as F

from preprocessing import (
    encoding_flags,
    feature_columns,
    feature_encoding,
    pipeline_text,
    spark_errors,
)
from preprocessing.hadoop_files import HadoopFiles
from preprocessing.normalizer import Normalizer
from tests.test_features import EXPRESSIONS
from trainer.config import load_config, parse_config
from trainer.data.coding import NUMPY
from trainer.data.collate import collate_features
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.feature_config import used_features
from trainer.data.features import raw_features
from trainer.protos.pipeline_pb2 import EasyRecConfig

ROOT = Path(__file__).parents[2]
CONFIG = """
data_config { fg_mode: FG_NORMAL label_fields: "click" }
feature_configs { id_feature { feature_name: "query_id" expression: "user:query"
    embedding_dim: 4 hash_bucket_size: 1000 } }
feature_configs { id_feature { feature_name: "item" embedding_dim: 4 hash_bucket_size: 97 } }
feature_configs { id_feature { feature_name: "item_again" expression: "item:item"
    embedding_dim: 4 hash_bucket_size: 7 } }
feature_configs { id_feature { feature_name: "tag_ids" expression: "item:tags"
    embedding_dim: 4 hash_bucket_size: 50 } }
feature_configs { id_feature { feature_name: "slot" embedding_dim: 4 num_buckets: 5 } }
feature_configs { raw_feature { feature_name: "price" default_value: "0.3" } }
feature_configs { raw_feature { feature_name: "stats" value_dim: 2 default_value: "-1" } }
feature_configs { id_feature { feature_name: "tags_or_zz" expression: "item:tags" value_dim: 2
    embedding_dim: 4 hash_bucket_size: 50 default_value: "zz" } }
feature_configs { id_feature { feature_name: "slot_or_2" expression: "item:slot" num_buckets: 5
    embedding_dim: 4 default_value: "2" } }
feature_configs { id_feature { feature_name: "slot_word" expression: "item:slot"
    embedding_dim: 4 vocab_list: ["4", "0"] } }
feature_configs { id_feature { feature_name: "city" embedding_dim: 4 default_value: "rome"
    vocab_list: ["york", "new"] separator: " " } }
feature_configs { id_feature { feature_name: "first_word" expression: "user:city"
    embedding_dim: 4 vocab_dict: [{key: "new" value: 2}, {key: "rome" value: 2}]
    separator: " " value_dim: 1 } }
feature_configs { id_feature { feature_name: "query_word" expression: "user:query"
    embedding_dim: 4 vocab_list: ["none", "shoes"] default_bucketize_value: 0 } }
feature_configs { raw_feature { feature_name: "price_bucket" expression: "item:price"
    boundaries: [-0.1, 0, 0.3333, 1.1, 1.5] embedding_dim: 4 default_value: "1.1" } }
feature_configs { raw_feature { feature_name: "price_log" expression: "item:price"
    normalizer: "method=expression,expr=log(x+3)" default_value: "-7" } }
feature_configs { raw_feature { feature_name: "pair_scaled" expression: "item:pair" value_dim: 2
    normalizer: "method=zscore,mean=0.5,standard_deviation=3" default_value: "1\\0352" } }
feature_configs { raw_feature { feature_name: "pair_buckets" expression: "item:pair" value_dim: 2
    normalizer: "method=log10,threshold=0.1" boundaries: [-10, 0.4] embedding_dim: 4
    default_value: "" } }
feature_configs { raw_feature { feature_name: "unused" expression: "user:nowhere" } }
model_config { feature_groups { group_name: "all" feature_names: "query_id" feature_names: "item"
    feature_names: ["item_again", "tag_ids", "slot", "price"] feature_names: "stats"
    feature_names: ["tags_or_zz", "slot_or_2", "slot_word", "city", "first_word", "query_word"]
    feature_names: ["price_bucket", "price_log", "pair_scaled", "pair_buckets"] } }
"""
COMPUTED = """
data_config { fg_mode: FG_NORMAL label_fields: "click" }
feature_configs { combo_feature { feature_name: "query_slot" embedding_dim: 4
    expression: ["user:query", "item:slot"] hash_bucket_size: 90 } }
feature_configs { combo_feature { feature_name: "tags_item" embedding_dim: 4 default_value: "zz"
    expression: ["item:tags", "item:item", "item:tags"] hash_bucket_size: 90 value_dim: 5 } }
feature_configs { combo_feature { feature_name: "city_slot" embedding_dim: 4 separator: " "
    expression: ["user:city", "item:slot"] vocab_list: ["new_0", "york_3"] } }
feature_configs { combo_feature { feature_name: "slot_item" embedding_dim: 4 separator: "0"
    expression: ["item:slot", "item:item"] hash_bucket_size: 90 } }
feature_configs { expr_feature { feature_name: "price_slot" default_value: "0.7"
    expression: "slot > 2 ? price * 3 : max(price, slot + 1)"
    variables: ["item:price", "item:slot"] } }
feature_configs { expr_feature { feature_name: "price_bucket" default_value: "" boundaries: 0.01
    expression: "price ^ 2 / 3" variables: "item:price" boundaries: 0.5 embedding_dim: 4 } }
feature_configs { expr_feature { feature_name: "seven" expression: "7" variables: "item:item" } }
model_config { feature_groups { group_name: "all" feature_names: ["query_slot", "tags_item"]
    feature_names: ["city_slot", "slot_item", "price_slot", "price_bucket", "seven"] } }
"""
FEATURES_OF_SEVERAL = [
    *("query_slot", "tags_item", "city_slot", "slot_item", "price_slot", "price_bucket", "seven")
]
NAMES = [
    *("query_id", "item", "item_again", "tag_ids", "slot", "price", "stats", "tags_or_zz"),
    *("slot_or_2", "slot_word", "city", "first_word", "query_word", "price_bucket", "price_log"),
    *("pair_scaled", "pair_buckets"),
]


def raw_table() -> pa.Table:
    rows = [
        ("shoes", 2**40, ["a", "b"], 0, 1.5, [0.1, None], "new york", [0.5, 2.0]),
        (None, -7, [], 4, None, [math.pi, 1e-40], "", []),
        ("", 0, None, None, 1 / 3, [3.0, 4.0], None, None),
        ("北京 é", None, ["a", "a", "", "b"], 3, -0.0, [2**53 + 1.0, 7.0], " oslo  york", [0, 1e9]),
    ]
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {
            "session_id": pa.array([1, 1, 2, 2]),
            "click": pa.array([0, 1, 0, 1]),
            "query": pa.array(columns[0], pa.string()),
            "item": pa.array(columns[1], pa.int64()),
            "tags": pa.array(columns[2], pa.list_(pa.string())),
            "slot": pa.array(columns[3], pa.int32()),
            "price": pa.array(columns[4], pa.float64()),
            "stats": pa.array(columns[5], pa.list_(pa.float64())),
            "city": pa.array(columns[6], pa.string()),
            "pair": pa.array(columns[7], pa.list_(pa.float64())),
        }
    )


@pytest.fixture
def encode(spark, tmp_path):
    """Encode a table by flags; returns what the encoded rows are as a table."""

    def run(table: pa.Table, *flags: str, kept=("session_id", "click")) -> pa.Table:
        parser = argparse.ArgumentParser()
        encoding_flags.add_flags(parser.add_argument_group())
        pq.write_table(table, tmp_path / "raw.parquet")
        rows = spark.read.parquet(str(tmp_path / "raw.parquet")).coalesce(1)
        options = parser.parse_args(list(flags))
        files = HadoopFiles(spark)
        encoded = encoding_flags.encode(rows, options, files, str(tmp_path / "vocabulary"), kept)
        encoded.rows.write.parquet(str(tmp_path / "encoded"))
        return pq.read_table(tmp_path / "encoded")

    return run


@pytest.fixture
def config(tmp_path):
    (tmp_path / "jrc.config").write_text(CONFIG)
    return ["--pipeline-config", str(tmp_path / "jrc.config")]


def loaded(table: pa.Table, fg_mode: str, text: str = CONFIG) -> dict[str, list]:
    """What the trainer's loader makes of `table`: by feature, the values of each row."""
    features = used_features(parse_config(text.replace("FG_NORMAL", fg_mode)))
    rows = encode_rows(table, ColumnSpec(tuple(features), tasks=()))
    parts = collate_features(rows, features)
    found = {name: jagged.to_dense() for name, jagged in parts["ids"].to_dict().items()}
    raw = raw_features(features)
    vectors = parts["dense"].split([feature.dim for feature in raw], dim=1)
    found |= {f.name: list(each) for f, each in zip(raw, vectors, strict=True)}
    return {name: [each.tolist() for each in values] for name, values in found.items()}


def test_encoded_columns_load_as_the_raw_ones(encode, config):
    encoded = encode(raw_table(), *config)
    assert encoded.column_names == ["session_id", "click", *NAMES]
    expected, found = loaded(raw_table(), "FG_NORMAL"), loaded(encoded, "FG_NONE")
    assert set(expected) == set(NAMES)
    assert found == expected  # bit by bit: ids are integers, numbers float32
    assert encoded["stats"].type == pa.list_(pa.field("element", pa.float32()))


@pytest.fixture
def computed(tmp_path):
    (tmp_path / "computed.config").write_text(COMPUTED)
    return ["--pipeline-config", str(tmp_path / "computed.config")]


def test_features_of_several_columns_load_as_the_raw_ones(encode, computed):
    encoded = encode(raw_table(), *computed)
    expected = loaded(raw_table(), "FG_NORMAL", COMPUTED)
    assert [len(row) for row in expected["tags_item"]] == [4, 1, 1, 1]
    assert encoded.column_names == ["session_id", "click", "stats", "pair", *FEATURES_OF_SEVERAL]
    assert set(expected) == set(FEATURES_OF_SEVERAL)
    assert loaded(encoded, "FG_NONE", COMPUTED) == expected


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("query", ["a", "b\x1dc", "", ""], "'query' x slot|must have one value a row, but has b"),
        ("tags", [["a"], [None], [], []], "'tags_item' must have no null inside its lists"),
        ("price", [0.0, math.nan, 1, 1], "must have finite numbers in 'price', but has NaN; write"),
        ("price", [0.0, 1e300, 1, 1], r"'price_.* must be finite, but has .*; write null"),
    ],
)
def test_faulty_values_of_several_columns_fail_the_job(encode, computed, name, values, message):
    table = raw_table()
    place = table.column_names.index(name)
    table = table.set_column(place, name, pa.array(values, table[name].type))
    with pytest.raises(Exception, match="USER_RAISED_EXCEPTION") as caught:
        encode(table, *computed)
    assert re.search(message, spark_errors.spark_reason(caught.value))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"user:query", ', "", "expression must name 2 columns or more, but names 1"),
        ('variables: "item:price"', "", "variables must name 1 columns or more, but names 0"),
        ('"user:query"', '"user:price"', "must read integers or text, but 'price' is a double"),
        ('variables: "item:item"', 'variables: "item:tags"', "a column without lists, but 'tags'"),
        ('variables: "item:item"', 'variables: "item:city"', "must read numbers, but 'city' is a"),
        (
            '"7"',
            '"dot(item, item)"',
            r"'seven' of --pipeline-config: an expression .*dot",
        ),
        ('"7"', '"7" value_dim: 2', "value_dim must be 1, of one number"),
        ('"7"', '"7" normalizer: "log10"', "this job does not encode 'normalizer'"),
        ("expr_feature", "lookup_feature", "this job does not encode 'lookup_feature'"),
    ],
)
def test_faulty_features_of_several_columns(encode, tmp_path, old, new, message):
    text = COMPUTED.replace(old, new)
    assert text != COMPUTED
    (tmp_path / "jrc.config").write_text(text)
    with pytest.raises(ValueError, match=message):
        encode(raw_table(), "--pipeline-config", str(tmp_path / "jrc.config"))


def test_normalizers_compute_alike(spark):
    points = [-2.5, -1.0, 0.0, 0.5, 1.0, 2.5, 3.0, 5.0]
    methods = (
        *(f"method=expression,expr={text}" for text in EXPRESSIONS),
        *("method=log10,threshold=0.3,default=-5", "method=minmax,min=-1,max=3"),
    )
    normalizers = [Normalizer.parse(text) for text in methods]
    df = spark.createDataFrame([(x,) for x in points], "x double")
    found = df.select(
        *(F.lit(0.0) + each.evaluate(F.col("x"), feature_columns.SPARK) for each in normalizers)
    ).collect()
    for number, normalizer in enumerate(normalizers):
        with np.errstate(all="ignore"):  # of branches that are not taken
            expected = np.broadcast_to(normalizer.evaluate(np.array(points), NUMPY), len(points))
        ours = [row[number] for row in found]
        assert np.allclose(ours, expected, rtol=1e-13, atol=1e-13), normalizer.text


@pytest.mark.parametrize("text", ["max(1/x, 3)", "min(3, 1/x)", "1/x > 2 ? 1 : 0", "1 + log(x-1)"])
def test_parts_that_are_not_finite_fail_the_job_and_are_no_other_number(spark, text):
    value = Normalizer.parse(f"method=expression,expr={text}")
    df = spark.sql("SELECT 0.0D AS x")
    assert df.select(value.evaluate(F.col("x"), feature_columns.SPARK)).collect()[0][0] is None


def test_columns_of_labels_weights_and_groups_stay(encode, tmp_path):
    losses = 'losses { jrc_loss { session_name: "session_id" } }'
    metrics = "metrics { grouped_auc { grouping_key: 'query' } }"
    weights = 'data_config { sample_weight_fields: "price"'
    text = CONFIG.replace("data_config {", weights).replace(
        "model_config {", f"model_config {{ {losses} {metrics}"
    )
    text = text.replace('feature_name: "price"', 'feature_name: "cost" expression: "item:price"')
    (tmp_path / "jrc.config").write_text(text.replace('"slot", "price"]', '"slot", "cost"]'))
    encoded = encode(raw_table(), "--pipeline-config", str(tmp_path / "jrc.config"), kept=())
    assert set(encoded.column_names[:4]) == {"session_id", "click", "query", "price"}
    assert encoded["query"].to_pylist() == raw_table()["query"].to_pylist()
    assert {"query_id", "cost"} <= set(encoded.column_names)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("slot", [0, 5, 1, 1], r"column 'slot' of feature 'slot' must be in \[0, 5\), but has 5"),
        ("slot", [0, -1, 1, 1], r"must be in \[0, 5\), but has -1; raise num_buckets"),
        ("price", [0.0, math.nan, 1, 1], "'price' must be finite, but has NaN; write null"),
        ("price", [0.0, 1e300, 1, 1], "'price' must be finite, but has 1.0E300; write null"),
        ("stats", [[1.0], [1.0, 2.0]] * 2, "must have value_dim = 2 values, but has 1; correct it"),
        ("tags", [["a"], [None], [], []], "must have no null inside its lists, but has null; fill"),
        ("price", [0.0, -4.0, 1, 1], r"finite, by normalizer '.*log\(x\+3\)', but has -4.0; write"),
    ],
)
def test_what_the_trainer_refuses_fails_the_job(encode, config, name, values, message):
    table = raw_table()
    place = table.column_names.index(name)
    table = table.set_column(place, name, pa.array(values, table[name].type))
    with pytest.raises(ValueError, match=name):
        loaded(table, "FG_NORMAL")
    with pytest.raises(Exception, match="USER_RAISED_EXCEPTION") as caught:
        encode(table, *config)
    assert re.search(message, spark_errors.spark_reason(caught.value))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("FG_NORMAL", "FG_NONE", "must have data_config.fg_mode FG_NORMAL or FG_DAG"),
        (
            "user:query",
            "user:qery",
            "must read a column of the input, but there is no 'qery'. Colu",
        ),
        ("item:tags", "item:stats", "must read integers or text, but 'stats' is a array<double>"),
        ('"slot" emb', '"slot" expression: "item:price" emb', "must read integers, but 'price' is"),
        ('"price" def', '"price" expression: "u:query" def', "must read numbers, but 'query' is a"),
        ('"price" def', '"price" value_dim: 3 def', "must hold lists of value_dim = 3 numbers"),
        ('"price" def', '"price" normalizer: "log" def', "normalizer must be method=log10"),
        (
            '"price" def',
            '"price" boundaries: [2, 1] def',
            "boundaries must be finite numbers",
        ),
        ('value: "zz"', 'value: "zz" weighted: true', "does not encode 'weighted'; leave it out"),
        ('value: "2"', 'value: "two"', "default_value must be a number, but got 'two'"),
        ("num_buckets: 5", "", "vocab_list and vocab_dict must be set, but got: num_buckets 0"),
        (
            '"item" emb',
            '"click" expression: "i:item" emb',
            "must not have the name of a key or lab",
        ),
        (
            "hash_bucket_size: 97",
            "hash_bucket_size: many",
            "hash_bucket_size must be a number, but",
        ),
        ("hash_bucket_size: 97 }", "hash_bucket_size: 97 ", "but ends inside one|is missing"),
    ],
)
def test_configs_that_cannot_be_used(encode, tmp_path, old, new, message):
    changed = CONFIG.replace(old, new).replace('feature_names: "item"', 'feature_names: "click"', 1)
    text = changed if '"click" exp' in new else CONFIG.replace(old, new)
    assert text != CONFIG
    (tmp_path / "jrc.config").write_text(text)
    with pytest.raises(ValueError, match=message):
        encode(raw_table(), "--pipeline-config", str(tmp_path / "jrc.config"))


def test_what_the_model_makes_of_a_feature_does_not_change_its_encoding():
    text = """data_config { fg_mode: FG_NORMAL }
        feature_configs { raw_feature { feature_name: "f" value_dim: 1 %s } }
        model_config { feature_groups { feature_names: "f" } }"""
    plain = pipeline_text.read_features(text % "")
    assert len(plain) == 1
    for more in ("embedding_dim: 4 mlp {}", "embedding_dim: 4 autodis { num_channels: 3 }"):
        assert pipeline_text.read_features(text % more) == plain


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/*.config")), ids=lambda p: p.stem)
def test_the_config_is_read_as_protobuf_reads_it(path):
    def as_text(message) -> dict:
        """Names and texts of a protobuf message as `parse_text` gives them."""
        found: dict = {}
        for field, value in message.ListFields():
            values = value if field.is_repeated else [value]
            if field.type == field.TYPE_MESSAGE:
                found[field.name] = [as_text(item) for item in values]
            elif field.type == field.TYPE_ENUM:
                found[field.name] = [field.enum_type.values_by_number[n].name for n in values]
            elif field.type == field.TYPE_BOOL:
                found[field.name] = [str(item).lower() for item in values]
            elif field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
                found[field.name] = [pytest.approx(item) for item in values]
            else:
                found[field.name] = [str(item) for item in values]
        return found

    def numbers(parsed: dict, expected: dict) -> dict:
        """Texts of `parsed` as floats where `expected` has floats."""
        converted: dict = {}
        for name, values in parsed.items():
            wanted = expected[name]
            converted[name] = [
                numbers(value, item)
                if isinstance(value, dict)
                else value
                if isinstance(item, str)
                else float(value)
                for value, item in zip(values, wanted, strict=True)
            ]
        return converted

    expected = as_text(load_config(path))
    parsed = pipeline_text.parse_text(path.read_text())
    assert numbers(parsed, expected) == expected


def test_text_format_in_all_its_spellings():
    text = """
    a: "x\\n" 'y'  # strings one after the other are one
    b <c: [1, -2.5e3];>, b { } d: bare_word e: [{f: true}, {f: 'q"'}]
    """
    assert pipeline_text.parse_text(text) == {
        "a": ["x\ny"],
        "b": [{"c": ["1", "-2.5e3"]}, {}],
        "d": ["bare_word"],
        "e": [{"f": ["true"]}, {"f": ['q"']}],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {\n b: }", r"line 2: a value must stand here, but got '\}'"),
        ("a {\n b 1 }", "line 2: ':' or '{' must stand here, but got '1'"),
        ("a {", "but '}' is missing"),
        ("a: [1", "but ends inside one"),
        ('a: "x', "line 1: a string has no closing quote"),
        ("} a: 1", r"line 1: a field must stand here, but got '\}'"),
    ],
)
def test_text_that_is_no_config(text, message):
    with pytest.raises(ValueError, match=message):
        pipeline_text.parse_text(text)
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text, EasyRecConfig())


def test_columns_by_flags(encode):
    table = pa.table(
        {
            "session_id": [1, 2, 3, 4, 5],
            "click": [0, 0, 0, 0, 0],
            "tags": ["a|b", "", None, "|c|", "x.y"],
            "age": pa.array([17, 18, 29.9, None, math.nan], pa.float64()),
            "cost": [0.0, 1.0, 3.0, None, 8.0],
            "rank": [10, 20, None, 40, 0],
        }
    )
    flags = ["--split-values", "tags=|", "--boundaries", "age=18,30", "--transform", "cost=log1p"]
    encoded = encode(table, *flags, "--transform", "rank=minmax:10:20", "--boundaries", "rank=0.5")
    assert encoded["tags"].to_pylist() == [["a", "b"], [], None, ["c"], ["x.y"]]
    ages = [
        a if a is None or math.isnan(a) else bisect.bisect_right([18, 30], a)
        for a in table["age"].to_pylist()
    ]
    assert encoded["age"].to_pylist() == [*ages[:3], None, None]
    costs = [None if c is None else math.log1p(c) for c in table["cost"].to_pylist()]
    assert encoded["cost"].to_pylist() == pytest.approx(costs, nan_ok=True)
    assert encoded["rank"].to_pylist() == [0, 1, None, 1, 0]  # of 0, 1, null, 3, -1


@pytest.mark.parametrize(
    ("text", "value"), [("sqrt", 2.0), ("zscore:2:4", 0.5), ("log1p", math.log(5))]
)
def test_transforms(spark, text, value):
    df = spark.sql("SELECT 4 AS x")
    transforms = {"x": feature_encoding.Transform.parse(text)}
    encoded = feature_encoding.encode_columns(
        df, feature_encoding.ColumnRules(transforms=transforms)
    )
    (row,) = encoded.collect()
    assert row.x == pytest.approx(value)


def test_vocabulary_has_the_frequent_values_by_frequency(encode, tmp_path):
    words = ["b"] * 3 + ["a"] * 3 + ["c"] * 4 + ["rare"] * 2 + [None]
    table = pa.table(
        {"session_id": range(13), "click": [0] * 13, "word": words, "n": [5] * 12 + [6]}
    )
    encoded = encode(table, "--vocabulary", "word=3", "--vocabulary", "n=2")
    counts = Counter(word for word in words if word)
    frequent = sorted((word for word in counts if counts[word] >= 3), key=lambda w: (-counts[w], w))
    ids = {word: place for place, word in enumerate(frequent, start=1)}
    by_session = dict(
        zip(encoded["session_id"].to_pylist(), encoded["word"].to_pylist(), strict=True)
    )
    assert [by_session[n] for n in range(13)] == [w and ids.get(w, 0) for w in words]
    assert sorted(encoded["n"].to_pylist()) == [0] + [1] * 12
    (path,) = (tmp_path / "vocabulary").glob("part-*.parquet")
    assert pq.read_table(path).to_pylist() == [
        {"column": "n", "value": "5", "rows": 12, "id": 1},
        *({"column": "word", "value": w, "rows": counts[w], "id": n} for w, n in ids.items()),
    ]


WORDS = ["a", "b", "b", "new", "new", "newer", "newer", "newer", "rare", None]


@pytest.fixture
def first_day(tmp_path):
    """An output with a vocabulary: a and b have the ids 2 and 1."""
    folder = tmp_path / "day1" / "_vocabulary"
    folder.mkdir(parents=True)
    values = {"column": ["word"] * 2, "value": ["b", "a"], "rows": [9, 5], "id": [1, 2]}
    pq.write_table(pa.table(values), folder / "part-00000.parquet")
    return ["--vocabulary-from", str(folder.parent)]


@pytest.mark.parametrize(
    ("flags", "new_ids"),
    [([], {}), (["--vocabulary", "word=2"], {"newer": 3, "new": 4})],
    ids=["kept", "kept and extended"],
)
def test_a_later_day_keeps_the_ids_of_an_earlier_one(encode, first_day, tmp_path, flags, new_ids):
    table = pa.table({"session_id": range(10), "click": [0] * 10, "word": WORDS})
    encoded = encode(table, *first_day, *flags)
    ids = {"a": 2, "b": 1, **new_ids}
    found = dict(zip(encoded["session_id"].to_pylist(), encoded["word"].to_pylist(), strict=True))
    assert [found[n] for n in range(10)] == [word and ids.get(word, 0) for word in WORDS]
    (path,) = (tmp_path / "vocabulary").glob("part-*.parquet")
    rows = [
        ("b", 9, 1),
        ("a", 5, 2),
        *((word, WORDS.count(word), n) for word, n in new_ids.items()),
    ]
    assert [tuple(row.values()) for row in pq.read_table(path).to_pylist()] == [
        ("word", *row) for row in rows
    ]


def test_a_column_that_the_earlier_vocabulary_lacks_is_numbered_from_1(encode, first_day):
    table = pa.table({"session_id": [0, 1], "click": [0, 0], "word": ["a", "x"], "n": [7, 7]})
    encoded = encode(table, *first_day, "--vocabulary", "n=2").to_pylist()
    assert sorted((row["word"], row["n"]) for row in encoded) == [(0, 1), (2, 1)]


@pytest.mark.parametrize("what", ["nothing", "a dataset without one", "two files"])
def test_a_path_without_one_vocabulary(encode, first_day, tmp_path, what):
    folder = tmp_path / "day1" / "_vocabulary"
    if what == "a dataset without one":
        folder = tmp_path / "dataset"
        folder.mkdir()
        pq.write_table(raw_table(), folder / "part-00000.parquet")
    elif what == "two files":
        (folder / "part-00000-g2.parquet").write_bytes((folder / "part-00000.parquet").read_bytes())
    path = "/nowhere" if what == "nothing" else str(folder)
    with pytest.raises(ValueError, match="--vocabulary-from must be the output of a job with"):
        encode(raw_table(), "--vocabulary-from", path)


def test_an_earlier_vocabulary_of_a_column_that_is_not_there(encode, first_day):
    with pytest.raises(ValueError, match="there is no 'word'"):
        encode(raw_table(), *first_day)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--boundaries", "nowhere=1"], "there is no 'nowhere'"),
        (["--boundaries", "query=1"], "--boundaries must read numbers, but 'query' is a string"),
        (["--split-values", "tags=|"], "--split-values must name a column without lists"),
        (["--split-values", "item=|"], "--split-values must read text, but 'item' is a bigint"),
        (["--vocabulary", "price=1"], "column of integers or text, but 'price' is a double"),
        (["--vocabulary", "nowhere=1"], "there is no 'nowhere'"),
        (["--boundaries", "click=1"], "column 'click' must not be encoded: it is a key or a label"),
        (["--pipeline-config", "/nowhere"], "--pipeline-config must be a file, but there is none"),
    ],
)
def test_columns_that_do_not_fit(encode, flags, message):
    with pytest.raises(ValueError, match=message):
        encode(raw_table(), *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--boundaries", "age=3,1"], "age: must be rising numbers like 18,30,45, but got '3,1'"),
        (["--boundaries", "age"], "must be COLUMN=VALUE, but got 'age'"),
        (["--boundaries", "age=1,old"], "age: must have finite numbers between ',', but got '1,o"),
        (["--boundaries", "age=nan"], "age: must have finite numbers"),
        (["--vocabulary", "a=0"], "a: must be a number of rows, at least 1, but got '0'"),
        (["--vocabulary", "a=few"], "a: must be a number of rows, at least 1, but got 'few'"),
        (["--transform", "a=zscore:1:0"], "a: must have STD above 0, and MIN below MAX, but got"),
        (["--transform", "a=minmax:2:1"], "a: must have STD above 0, and MIN below MAX, but got"),
        (["--transform", "a=log1p:x"], "a: must have finite numbers between ':', but got 'x'"),
        (["--transform", "a=zscore:1"], "must be log1p, sqrt, zscore:MEAN:STD or minmax:MIN:MAX"),
    ],
)
def test_wrong_flags(encode, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        encode(raw_table(), *flags)
    assert message in capsys.readouterr().err
