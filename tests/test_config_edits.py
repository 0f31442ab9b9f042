"""Overrides in every form that TorchEasyRec's --edit_config_json has, and their errors."""

import json
from typing import Any

import pytest

from tests.configs import two_task_config
from trainer.config import ConfigError, edit_config


def edited(edits: dict) -> Any:
    config = two_task_config()
    edit_config(config, json.dumps(edits))
    return config


def embedding_dims(config) -> list[int]:
    return [each.id_feature.embedding_dim for each in config.feature_configs]


DIM = "id_feature.embedding_dim"
UNEDITED = [8, 8, 4, 4, 0]  # the last feature is raw


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("[0]", [16, 8, 4, 4, 0]),
        ("[-2]", [8, 8, 4, 16, 0]),
        ("[0:2]", [16, 16, 4, 4, 0]),
        ("[2:]", [8, 8, 16, 16, 0]),
        ("[:-3]", [16, 16, 4, 4, 0]),
        ("[:]", [16, 16, 16, 16, 0]),
        ("[id_feature.feature_name=city]", [8, 8, 16, 4, 0]),
        ("[ id_feature.embedding_dim < 8 ]", [8, 8, 16, 16, 0]),
        ("[id_feature.embedding_dim>=8]", [16, 16, 4, 4, 0]),
        ("[id_feature.embedding_dim<=4]", [8, 8, 16, 16, 0]),
        ("[id_feature.num_buckets>9]", [16, 16, 4, 4, 0]),
    ],
)
def test_a_selection_sets_what_it_selects(selection, expected):
    config = edited({f"feature_configs{selection}.{DIM}": 16})
    assert embedding_dims(config) == expected
    assert config.feature_configs[4].WhichOneof("feature") == "raw_feature"


def test_selections_may_stand_inside_each_other_and_at_the_end():
    config = edited(
        {
            "model_config.dbmtl.task_towers[:].losses[:].jrc_loss.alpha": "0.25",
            "model_config.dbmtl.task_towers[tower_name=cvr].mlp.hidden_units[-1]": "7",
            "data_config.label_fields[0:1]": "clk",
        }
    )
    towers = config.model_config.dbmtl.task_towers
    assert [tower.losses[0].jrc_loss.alpha for tower in towers] == [0.25, 0.25]
    assert [list(tower.mlp.hidden_units) for tower in towers] == [[16], [7]]
    assert list(config.data_config.label_fields) == ["clk", "buy"]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("data_config.batch_size", "4096", 4096),
        ("data_config.batch_size", 4096.0, 4096),
        ("data_config.shuffle", "false", False),
        ("data_config.drop_remainder", "True", True),
        ("data_config.fg_mode", "FG_DAG", 3),
        ("data_config.fg_mode", "3", 3),
        ("train_config.seed", str(2**64 - 1), 2**64 - 1),
        ("train_config.save_checkpoints_minutes", "0.5", 0.5),
        ("model_dir", 7, "7"),
        ("data_config.label_fields", "click", ["click"]),
        ("data_config.label_fields", "[a, 'b']", ["a", "b"]),
        ("data_config.label_fields", [], []),
        ("model_config.dbmtl.bottom_mlp.hidden_units", "[64, 32]", [64, 32]),
        ("model_config.dbmtl.bottom_mlp.hidden_units", ["64", 32.0], [64, 32]),
        ("model_config.dbmtl.bottom_mlp.hidden_units", 64, [64]),
        ("feature_configs[0].id_feature.vocab_dict", {"a": "2", "b": 3}, {"a": 2, "b": 3}),
    ],
)
def test_values_take_the_type_of_their_field(path, value, expected):
    found = edited({path: value})
    for part in path.replace("[0]", "").split("."):
        found = getattr(found[0] if part.startswith("id_") else found, part)
    if isinstance(expected, list):
        found = list(found)
    assert (dict(found) if isinstance(expected, dict) else found) == expected


@pytest.mark.parametrize("braces", ["%s", "{ %s }"])
def test_text_replaces_a_message(braces):
    text = braces % "adam_optimizer { lr: 0.5 } constant_learning_rate {}"
    sparse = edited({"train_config.sparse_optimizer": text}).train_config.sparse_optimizer
    assert sparse.WhichOneof("optimizer") == "adam_optimizer"
    assert sparse.adam_optimizer.lr == 0.5
    config = edited({"feature_configs[0]": "raw_feature { feature_name: age }"})
    assert config.feature_configs[0].raw_feature.feature_name == "age"
    assert len(config.feature_configs) == 5


def test_an_object_sets_fields_and_leaves_the_others():
    mlp = edited(
        {"model_config.dbmtl.bottom_mlp": {"use_bn": "true"}}
    ).model_config.dbmtl.bottom_mlp
    assert (mlp.use_bn, list(mlp.hidden_units)) == (True, [32])
    config = edited({"feature_configs[0]": {"id_feature": {"embedding_dim": 3}}})
    assert config.feature_configs[0].id_feature.feature_name == "user_id"
    assert embedding_dims(config) == [3, *UNEDITED[1:]]


def test_several_paths_take_several_values():
    paths = f"train_config.num_steps; feature_configs[:].{DIM};data_config.fg_mode"
    config = edited({paths: "9; 16 ;FG_NONE"})
    assert config.train_config.num_steps == 9
    assert embedding_dims(config) == [16, 16, 16, 16, 0]
    assert config.data_config.fg_mode == 1
    with_semicolon = edited({"data_config.fg_encoded_multival_sep": ";"})
    assert with_semicolon.data_config.fg_encoded_multival_sep == ";"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("feature_configs[-6].id_feature.num_buckets", 1, r"index -6 of 5"),
        ("feature_configs[5:].id_feature.num_buckets", 1, r"\[5:\] selects none of 5"),
        ("feature_configs[id_feature.feature_name=x]", {}, r"x\] selects none of 5"),
        ("feature_configs[4:].id_feature.num_buckets", 1, r"nothing in `.*4:\]` has `id_feature.n"),
        ("feature_configs[:].sequence_feature", {}, r"nothing in `.*:\]` has `sequence_feature`"),
        ("feature_configs[city].id_feature", {}, r"\[city\] must be an index, a range such as 0:2"),
        ("feature_configs[id_feature.name=x]", {}, r"no field `name`; .*There are: feature_name"),
        ("feature_configs[id_feature=x]", {}, r"`id_feature` must be a number or text, to compare"),
        ("feature_configs[id_feature.num_buckets=x]", {}, r"cannot be 'x': invalid literal"),
        ("data_config.label_fields[x=y]", "z", r"\[x=y\] must be an index, .* for messages a comp"),
        ("feature_configs[0", {}, r"`feature_configs\[0` must be a field's name, or name\["),
        ("feature_configs", {}, r"is a list of messages, .*feature_configs\[:\]: id_feature"),
        ("feature_configs.id_feature", {}, r"`feature_configs` is not a message to step into"),
        ("data_config.batch_size", 4096.5, r"cannot be 4096.5: must be an integer"),
        ("data_config.batch_size", "4k", r"cannot be '4k': invalid literal for int"),
        ("data_config.batch_size", True, r"cannot be True: must be a number"),
        ("data_config.batch_size", 2**40, r"cannot be 1099511627776: Value out of range"),
        ("data_config.batch_size", float("inf"), r"cannot be inf: must be an integer"),
        ("data_config.shuffle", "yes", r"cannot be 'yes': must be true or false"),
        ("data_config.fg_mode", "FG_SOME", r"cannot be 'FG_SOME': must be one of FG_NONE, FG_NO"),
        ("data_config.fg_mode", 9, r"cannot be 9: "),
        ("model_dir", True, r"cannot be True: "),
        ("feature_configs[0].id_feature.vocab_dict", 3, r"cannot be 3: must be an object"),
        ("feature_configs[0].id_feature.vocab_dict[0]", 3, r"is not an indexed field"),
        ("train_config.sparse_optimizer", "adam { }", r"line 1: field `adam` of SparseOptimizer"),
        ("model_config.dbmtl.bottom_mlp.hidden_units", "[1, x]", r"Couldn't parse integer: x"),
        ("model_config.dbmtl.bottom_mlp", {"widths": 1}, r"bottom_mlp`: no field `widths`"),
        ("train_config.num_steps;train_config.seed", "9", r"2 paths need text of as many values"),
        ("train_config.num_steps;train_config.seed", 9, r"2 paths need text .* but got: 9"),
    ],
)
def test_faulty_paths_and_values_are_named(path, value, message):
    with pytest.raises(ConfigError, match=message) as error:
        edited({path: value})
    assert f"edit_config_json: `{path}`: " in str(error.value)
