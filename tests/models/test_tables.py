"""Which features share which table, and how tables start."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.configs import two_task_config
from tests.datasets import write_dataset
from tests.models.test_model_checks import LOSS, MMOE
from tests.serving_here import expect_served_as_predicted
from tests.test_sequence_training import sequence_config, sequence_table
from tests.training_here import all_tensors, one_rank
from trainer.checks.config import check_config
from trainer.config import ConfigError, parse_config
from trainer.models import ClickModel, build_model
from trainer.models.init_functions import init_function
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import parse_tasks
from trainer.trainer import Trainer

assert one_rank  # a fixture that is imported to be used by name
DEEP_MODEL = f"wide_and_deep {{ deep {{ hidden_units: 8 }} final {{ hidden_units: 8 }} }} {LOSS}"


def config_of(features: str, model: str) -> EasyRecConfig:
    """A config of these features and groups alone."""
    config = two_task_config()
    config.ClearField("model_config")
    config.ClearField("feature_configs")
    config.MergeFrom(parse_config(f"{features} model_config {{ {model} }}"))
    return config


def id_feature(name: str, rest: str = "", table: str = "shared") -> str:
    return (
        f"feature_configs {{ id_feature {{ feature_name: {name} embedding_name: {table} {rest} "
        f"{'' if 'num_buckets' in rest or 'zch' in rest else 'num_buckets: 30'} "
        f"{'' if 'embedding_dim' in rest else 'embedding_dim: 8'} }} }}"
    )


def sequence(rest: str = "embedding_dim: 8") -> str:
    return (
        "feature_configs { sequence_id_feature { feature_name: clicks embedding_name: shared "
        f"{rest} {'' if 'num_buckets' in rest else 'num_buckets: 30'} }} }}"
    )


def group(*names: str, more: str = "") -> str:
    listed = " ".join(f"feature_names: {name}" for name in names)
    return f"feature_groups {{ group_name: all {listed} {more} }} {MMOE}"


def in_sequence(*names: str, more: str = "") -> str:
    listed = " ".join(f"feature_names: {name}" for name in names)
    return f"""sequence_groups {{ {listed} {more} }} sequence_encoders {{ pooling_encoder {{}} }}"""


def built(config: EasyRecConfig) -> ClickModel:
    check_config(config)
    return build_model(config, parse_tasks(config), "meta")


def tables_of(config: EasyRecConfig) -> dict[str, list[str]]:
    """The features of each table, by its parameter's name."""
    configs = built(config).tables.table_configs()
    return {name: table.feature_names for name, table in configs.items()}


# ------------------------------------------------------------------ what is shared


def test_tables_are_shared_and_compared_within_a_collection():
    a, b = id_feature("a", 'pooling: "mean"'), id_feature("b", 'pooling: "mean"')
    wide_sequence = sequence("embedding_dim: 16 num_buckets: 40")
    config = config_of(a + b + wide_sequence, group("a", "b", more=in_sequence("clicks")))
    assert tables_of(config) == {
        "pooled.embedding_bags.shared.weight": ["a", "b"],
        "sequences.16.embeddings.shared.weight": ["clicks"],
    }
    config = config_of(a + sequence(), group("a", more=in_sequence("a", "clicks")))
    assert tables_of(config) == {
        "pooled.embedding_bags.shared.weight": ["a"],
        "sequences.8.embeddings.shared.weight": ["a", "clicks"],
    }


ZCH = "zch { zch_size: 30 %s {} }"
MISMATCHES = {
    "embedding_dim": ("embedding_dim: 4", "8 and 4"),
    "num_embeddings": ("num_buckets: 31", "30 and 31"),
    "pooling": ('pooling: "mean"', "sum and mean"),
    "init_fn": ('init_fn: "nn.init.ones_"', " and nn.init.ones_"),
    "trainable": ("trainable: false", "True and False"),
}


@pytest.mark.parametrize("field", MISMATCHES)
def test_sharers_of_a_table_must_agree(field):
    rest, values = MISMATCHES[field]
    config = config_of(id_feature("a") + id_feature("b", rest), group("a", "b"))
    rule = f"`a` and `b` share embedding_name `shared`, so their {field} must be equal, but got: "
    with pytest.raises(ConfigError, match=rule + values):
        check_config(config)


def test_sharers_in_a_sequence_and_with_zch_must_agree():
    text = id_feature("a", "num_buckets: 31") + sequence()
    with pytest.raises(ConfigError, match=r"their num_embeddings must be equal, but got: 31 and"):
        check_config(config_of(text, group("a", more=in_sequence("a", "clicks"))))
    text = id_feature("a", ZCH % "lfu") + id_feature("b", ZCH % "lru")
    with pytest.raises(ConfigError, match=r"their zch must be equal"):
        check_config(config_of(text, group("a", "b")))


def test_a_suffix_makes_tables_of_its_own():
    model = f"""
        feature_groups {{ group_name: wide group_type: WIDE feature_names: a
                          embedding_name_suffix: "w" }}
        feature_groups {{ group_name: deep feature_names: a feature_names: b feature_names: z
            embedding_name_suffix: "d"
            sequence_groups {{ group_name: s feature_names: a feature_names: clicks }}
            sequence_groups {{ group_name: t feature_names: a feature_names: clicks
                               embedding_name_suffix: "t" }}
            sequence_encoders {{ pooling_encoder {{ input: s }} }}
            sequence_encoders {{ pooling_encoder {{ input: t }} }} }}
        {DEEP_MODEL}"""
    features = id_feature("a") + id_feature("b") + id_feature("z", ZCH % "lfu", "z") + sequence()
    assert tables_of(config_of(features, model)) == {
        "pooled.embedding_bags.shared_wide_w.weight": ["a"],
        "pooled.embedding_bags.shared_d.weight": ["a", "b"],
        "sequences.8.embeddings.shared_d.weight": ["a", "clicks"],
        "sequences.8.embeddings.shared_t.weight": ["a", "clicks"],
        "managed.deep_d_8._embedding_module.embeddings.z_d.weight": ["z"],
    }


@pytest.mark.parametrize(
    ("tables", "suffix"), [(("x", "x_y"), "y"), (("x", "x_wide"), "")], ids=["suffix", "wide"]
)
def test_two_names_that_become_one_are_an_error(tables, suffix):
    model = f"""
        feature_groups {{ group_name: wide group_type: WIDE feature_names: a
                          embedding_name_suffix: "{suffix}" }}
        feature_groups {{ group_name: deep feature_names: b }} {DEEP_MODEL}"""
    if suffix:
        model = model.replace("WIDE", "DEEP").replace("wide_and_deep", "multi_tower")
        model = f"""feature_groups {{ group_name: a feature_names: a embedding_name_suffix: "y" }}
            feature_groups {{ group_name: b feature_names: b }}
            multi_tower {{ towers {{ input: a }} towers {{ input: b }}
                           final {{ hidden_units: 8 }} }} {LOSS}"""
    text = id_feature("a", table=tables[0]) + id_feature("b", table=tables[1])
    rule = f"`a` and `b` share the table `{tables[1]}` by accident, .*choose another embedding_name"
    with pytest.raises(ConfigError, match=rule):
        check_config(config_of(text, model))


def test_a_suffix_is_part_of_a_parameters_name():
    config = config_of(id_feature("a"), group("a", more='embedding_name_suffix: "a.b"'))
    with pytest.raises(ConfigError, match=r"must have no dot .* got: `shared_a.b`"):
        check_config(config)


# ------------------------------------------------------------------ values


def first_batch(
    folder: Path, suffix: str = "", **edits: Any
) -> tuple[Trainer, Any, dict[str, Tensor]]:
    """A trainer of sequences and weighted ids; its first batch's embeddings; its tables."""
    write_dataset(folder / "train", sequence_table())
    config = sequence_config(folder, "model", data_config__num_workers=0, train_config__num_steps=3)
    config.train_input_path = str(folder / "train")
    config.model_config.use_pareto_loss_weight = False
    group_of_all = config.model_config.feature_groups[0]
    shared = {"embedding_name": "shared_items", "embedding_dim": 8, "num_buckets": 30}
    for entry in config.feature_configs:
        if entry.id_feature.feature_name in ("item_id", "brands"):
            for name, value in {**shared, **edits}.items():
                setattr(entry.id_feature, name, value)
        if entry.id_feature.feature_name == "candidate" and "pooling" in edits:
            entry.id_feature.pooling = edits["pooling"]
    group_of_all.feature_names.append("candidate")  # it also queries the sequence
    group_of_all.embedding_name_suffix = suffix
    trainer = Trainer(config, torch.device("cpu"))
    objective: Any = trainer.model.module
    batch = next(trainer.loader.batches())
    tensors = {k.removeprefix("model.tables."): v for k, v in all_tensors(trainer).items()}
    return trainer, (batch, objective.model.tables(batch)), tensors


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_features_without_weights_share_a_table_with_weighted_ones(tmp_path, pooling):
    _, (batch, found), tensors = first_batch(tmp_path, pooling=pooling)
    table = tensors["weighted.embedding_bags.shared_items.weight"].double()
    assert "pooled.embedding_bags.shared_items.weight" not in tensors
    assert batch.weighted_ids.keys() == ["item_id", "candidate", "brands"]
    item = batch.weighted_ids["item_id"]
    assert item.weights().tolist() == [1.0] * batch.num_rows
    assert item.lengths().tolist() == [1] * batch.num_rows
    rows = {name: each.double() for (_, name, _), each in found.rows.items()}
    of_item = table[item.values()]
    brands = 0.5 * of_item + 2 * table[(item.values() + 1) % 30]
    expected = {"item_id": of_item, "candidate": of_item}
    expected["brands"] = brands if pooling == "sum" else brands / 2
    for name, values in expected.items():
        torch.testing.assert_close(rows[name], values, rtol=1e-5, atol=1e-7)
    queried = found.values["sequences", "candidate", "shared_items"].values().double()
    of_sequence = tensors["sequences.8.embeddings.shared_items.weight"].double()
    torch.testing.assert_close(queried, of_sequence[item.values()], rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("one_rank")
def test_shared_weighted_tables_are_trained(tmp_path):
    trainer, _, before = first_batch(tmp_path)
    name = "weighted.embedding_bags.shared_items.weight"
    batch = next(trainer.loader.batches())
    trainer.train_step(batch)
    after = {k.removeprefix("model.tables."): v for k, v in all_tensors(trainer).items()}
    assert batch.weighted_ids is not None
    items = set(batch.weighted_ids["item_id"].values().tolist())
    moved = set((after[name] != before[name]).any(dim=1).nonzero().flatten().tolist())
    assert moved == items | {(item + 1) % 30 for item in items}


@pytest.mark.usefixtures("one_rank")
def test_shared_weighted_tables_and_suffixes_are_served(tmp_path):
    trainer, _, tensors = first_batch(tmp_path, suffix="again")
    assert "weighted.embedding_bags.shared_items_again.weight" in tensors
    trainer.train_and_evaluate()
    expect_served_as_predicted(tmp_path)


# ------------------------------------------------------------------ initial values


def test_wide_tables_start_as_their_features_do():
    model = """
        feature_groups { group_name: wide group_type: WIDE feature_names: a }
        feature_groups { group_name: deep feature_names: a } """
    features = id_feature("a", 'init_fn: "nn.init.constant_,val=0.5"')
    for more, expected in (("", 0.5), ('wide_init_fn: "nn.init.constant_,val=2"', 2.0)):
        chosen = DEEP_MODEL.replace("final", f"{more} final")
        configs = built(config_of(features, model + chosen)).tables.table_configs()
        for name, value in (("shared", 0.5), ("shared_wide", expected)):
            init_fn = configs[f"pooled.embedding_bags.{name}.weight"].init_fn
            assert init_fn is not None
            values = torch.zeros(2)
            init_fn(values)
            assert values.tolist() == [value, value]


@pytest.mark.parametrize(
    ("text", "deviation", "largest"),
    [  # of a table of 300 rows of 100: the standard deviation, and what no value exceeds
        ("nn.init.trunc_normal_,std=0.1,a=-0.1,b=0.1", 0.1 * 0.53956, 0.1),
        ("nn.init.xavier_uniform_", math.sqrt(2 / 400), math.sqrt(6 / 400)),
        ("nn.init.xavier_normal_,gain=3", 3 * math.sqrt(2 / 400), None),
        ("nn.init.kaiming_uniform_", math.sqrt(2 / 100), math.sqrt(6 / 100)),
        ("nn.init.kaiming_uniform_,a=1", math.sqrt(1 / 100), math.sqrt(3 / 100)),
        ("nn.init.kaiming_normal_,mode='fan_out',nonlinearity='relu'", math.sqrt(2 / 300), None),
        ("nn.init.kaiming_normal_, mode=fan_in, nonlinearity=linear", math.sqrt(1 / 100), None),
    ],
)
def test_spread_is_that_of_the_whole_table(text, deviation, largest):
    torch.manual_seed(0)
    fill = init_function(text, 300, 100)
    values = torch.cat([fill(torch.empty(50, 100)) for _ in range(60)])  # tables come in parts
    assert values.std().item() == pytest.approx(deviation, rel=0.01)
    if largest is not None:
        assert 0.99 * largest < values.abs().max().item() <= largest * (1 + 1e-6)
    whole = torch.empty(300, 100)
    torch.manual_seed(0)
    name, *pairs = text.replace("'", "").replace(" ", "").split(",")
    arguments: dict[str, Any] = dict(pair.split("=") for pair in pairs)
    for key, value in arguments.items():
        arguments[key] = value if key in ("mode", "nonlinearity") else float(value)
    expected = getattr(torch.nn.init, name.removeprefix("nn.init."))(whole, **arguments)
    torch.manual_seed(0)
    torch.testing.assert_close(fill(torch.empty(300, 100)), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "text",
    ["nn.init.eye_", "uniform_", "nn.init.normal_,a=1", "nn.init.kaiming_normal_,mode=1", "nn.x"],
)
def test_unknown_init_functions_are_errors(text):
    with pytest.raises(ConfigError, match=r"init_fn must be nn.init.NAME.* but got: `"):
        init_function(text, 3, 4)
