"""Columns of integers and of text hash differently: where they meet is an error before any work."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from launch import compare, evaluate, export, predict
from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.training_here import one_rank
from trainer.checkpoints.checkpoint import HASHED_FILE
from trainer.checks.config import check_data
from trainer.checks.hashing import hashed_kinds
from trainer.config import ConfigError, parse_config
from trainer.data.feature_config import parse_features
from trainer.data.reader import SessionDataset
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.serving import load_scorer
from trainer.trainer import Trainer

assert one_rank  # a fixture that is imported to be used by name
pytestmark = pytest.mark.usefixtures("one_rank")
CPU = torch.device("cpu")
CLICKS = """feature_configs { sequence_id_feature { feature_name: clicks %s embedding_dim: 8
    embedding_name: all_items expression: "user:clicks" } }"""
ITEM = """feature_configs { id_feature { feature_name: item embedding_name: all_items %s
    expression: "item:item_id" embedding_dim: 8 } }"""
SEQUENCE = """model_config { feature_groups { %s
    sequence_groups { feature_names: clicks %s }
    sequence_encoders { pooling_encoder {} } } }"""
HASHED, ZCH = "hash_bucket_size: 50", "zch { zch_size: 50 lfu {} }"


def table_of(item: str = "bigint", clicks: str = "string") -> pa.Table:
    """Rows whose item_id and clicks are of these types."""
    table = click_table(20)
    ids = table["item_id"].to_pylist()
    text = [f"{each};{(each + 1) % 30}" for each in ids]
    columns: dict[str, pa.Array] = {"bigint": pa.array(ids), "string": pa.array(map(str, ids))}
    lists = {"string": pa.array(text), "array<bigint>": pa.array([[each] for each in ids])}
    place = table.schema.get_field_index("item_id")
    return table.set_column(place, "item_id", columns[item]).append_column("clicks", lists[clicks])


def config_of(folder: Path, coding: str = HASHED, query: bool = True) -> EasyRecConfig:
    """The two tasks, whose items are hashed, in a table that a sequence may share."""
    config = two_task_config(
        train_input_path=str(folder / "train"),
        model_dir=str(folder / "model"),
        train_config__num_steps=1,
        data_config__num_workers=0,
    )
    config.model_config.feature_groups[0].feature_names.remove("item_id")
    names = "" if query else "feature_names: item"
    in_sequence = "feature_names: item" if query else ""
    config.MergeFrom(
        parse_config(f"{CLICKS % coding} {ITEM % coding} {SEQUENCE % (names, in_sequence)}")
    )
    groups = config.model_config.feature_groups
    groups[0].MergeFrom(groups.pop())
    return config


@pytest.mark.parametrize("coding", [HASHED, ZCH], ids=["hashed", "zch"])
def test_one_table_of_both_kinds_is_an_error(tmp_path, coding):
    data = SessionDataset.open(write_dataset(tmp_path / "train", table_of()))
    message = (
        r"`clicks` and `item` share the table `all_items`, so .* but `clicks` holds string and "
        r"`item_id` holds bigint; cast one of them in the Spark job, as in `cast\(item_id as str"
        r"|`item` and `clicks` share the table `all_items`"
    )
    with pytest.raises(ConfigError, match=message):
        check_data(config_of(tmp_path, coding), data)
    for number, types in enumerate((("string", "string"), ("bigint", "array<bigint>"))):
        path = write_dataset(tmp_path / f"good{number}", table_of(*types))
        check_data(config_of(tmp_path, coding), SessionDataset.open(path))


def test_tables_that_are_not_shared_may_differ(tmp_path):
    data = SessionDataset.open(write_dataset(tmp_path / "train", table_of()))
    check_data(config_of(tmp_path, HASHED, query=False), data)  # another collection
    check_data(config_of(tmp_path, "num_buckets: 50"), data)  # not hashed


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("bigint", "integers"),
        ("string", "text"),
        ("array<int>", "integers"),
        ("array<string>", "text"),
        ("map<bigint,string>", "integers"),
        ("map<string,double>", "text"),
    ],
)
def test_kinds_of_columns(type_, kind):
    features = parse_features(
        parse_config(
            'data_config { fg_mode: FG_NORMAL } feature_configs { id_feature { feature_name: "f" '
            'expression: "user:f" embedding_dim: 4 hash_bucket_size: 9 } }'
        )
    )
    assert hashed_kinds(features, {"f": type_}) == {"f": kind}


def test_evaluation_data_of_the_other_kind_is_an_error(tmp_path):
    write_dataset(tmp_path / "train", table_of("string"))
    write_dataset(tmp_path / "eval", table_of("bigint", "array<bigint>"))
    config = config_of(tmp_path)
    config.eval_input_path = str(tmp_path / "eval")
    message = r"`clicks`: column `clicks` of .*eval must hold text as in .*train, .* array<bigint>"
    with pytest.raises(ConfigError, match=message):
        Trainer(config, CPU)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run on text; data of integers beside it."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder / "train", table_of("string"))
    write_dataset(folder / "other", table_of("bigint", "array<bigint>"))
    Trainer(config_of(folder), CPU).train_and_evaluate()
    return folder


def test_a_checkpoint_knows_what_its_columns_held(trained):
    found = json.loads((trained / "model" / "model.ckpt-1" / HASHED_FILE).read_text())
    assert found == {"clicks": "text", "city": "text", "item": "text"}


COMMANDS = {
    "evaluate": (evaluate, ["--checkpoint_path", "model", "--eval_input_path", "other"]),
    "compare": (compare, ["model", "model", "--eval_input_path", "other"]),
    "predict": (
        predict,
        [
            *("--checkpoint_path", "model", "--predict_input_path", "other"),
            *("--predict_output_path", "scores"),
        ],
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_score_the_other_kind_are_errors(trained, command):
    module, flags = COMMANDS[command]
    paths = [flag if flag.startswith("--") else str(trained / flag) for flag in flags]
    name = {"compare": "compare_runs"}.get(command, f"{command}_run")
    message = r"must hold text as in the training data of .*model.ckpt-1, as integers and text"
    with pytest.raises(ConfigError, match=message):
        getattr(module, name)(module.parse_args(paths), CPU)


@pytest.mark.parametrize("start", ["continue", "fine_tune"])
def test_training_on_from_the_other_kind_is_an_error(trained, tmp_path, start):
    config = config_of(trained)
    config.train_input_path = str(trained / "other")
    if start == "fine_tune":
        config.train_config.fine_tune_checkpoint = config.model_dir
        config.model_dir = str(tmp_path / "tuned")
    with pytest.raises(ConfigError, match=r"must hold text as in the training data of"):
        Trainer(config, CPU, continue_train=True)


def test_requests_of_the_other_kind_are_errors(trained, tmp_path):
    flags = ["--checkpoint_path", trained / "model", "--export_dir", tmp_path / "out"]
    export.export_run(export.parse_args([str(flag) for flag in flags]))
    scorer = load_scorer(tmp_path / "out")
    part = next((trained / "train").glob("*.parquet"))
    rows = pq.read_table(part).select(scorer.columns).slice(0, 2).to_pydict()
    scorer.score(rows)
    with pytest.raises(ConfigError, match=r"the request must hold text as in the training data"):
        scorer.score({**rows, "item_id": [1, 2]})
    nothing = {**rows, "item_id": [None, None], "clicks": [None, None]}
    assert np.isfinite(scorer.score(nothing)["logits_ctr"]).all()


def test_requests_without_a_value_hash_defaults_as_training_does(tmp_path):
    write_dataset(tmp_path / "train", table_of("bigint", "array<bigint>"))
    config = config_of(tmp_path, f'{HASHED} default_value: "7"')
    Trainer(config, CPU).train_and_evaluate()
    flags = ["--checkpoint_path", tmp_path / "model", "--export_dir", tmp_path / "out"]
    export.export_run(export.parse_args([str(flag) for flag in flags]))
    scorer = load_scorer(tmp_path / "out")
    part = next((tmp_path / "train").glob("*.parquet"))
    rows = pq.read_table(part).select(scorer.columns).slice(0, 2).to_pydict()
    given = scorer.score({**rows, "item_id": [7, 7], "clicks": [[7], [7]]})
    for nothing in ({"item_id": [None, None], "clicks": [[], []]}, {"item_id": None}):
        missing = {**rows, "clicks": [[7], [7]], **nothing}
        found = scorer.score(missing)
        np.testing.assert_array_equal(found["logits_ctr"], given["logits_ctr"])
