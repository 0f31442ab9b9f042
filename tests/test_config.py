"""Configs: the loss specification's snippets, strictness, overrides, checks and their messages."""

import pytest

from tests.configs import TWO_TASKS, two_task_config
from trainer.checks.config import check_config, check_paths
from trainer.config import ConfigError, edit_config, load_config, parse_config
from trainer.tasks import build_loss, parse_tasks

DATA_PARALLEL = {"train_config__global_embedding_constraints__sharding_types": ["data_parallel"]}
# The snippets of the loss specification, as they stand there.
SNIPPETS = {
    "binary_cross_entropy": """
model_config {
    losses {
        binary_cross_entropy {
        }
    }
}
""",
    "binary_focal_loss": """
model_config {
    losses {
        binary_focal_loss {
            gamma: 2.0
            alpha: 0.5
        }
    }
}
""",
    "softmax_cross_entropy": """
model_config {
    losses {
        softmax_cross_entropy {
        }
    }
}
""",
    "l2_loss": """
model_config {
    losses {
        l2_loss {
        }
    }
}
""",
    "jrc_loss": """
model_config {
    losses {
        jrc_loss {
            session_name: session_id
        }
    }
}
""",
}

# With its placeholders, which the reader of the specification fills in.
PARETO_SNIPPET = """
model_config {
    feature_groups {
        group_name: "all"
        feature_names: "user_id"
        ...
        group_type: DEEP
    }
    ${model_name} {
        task_towers {
            ...
            ${loss_name} {}
            pareto_min_loss_weight: 0.4
        }
        task_towers {
            ...
            losses {
                ${loss_name} {}
            }
            pareto_min_loss_weight: 0.4
        }
    }
    use_pareto_loss_weight: true
}
"""


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_of_the_specification_load_as_they_stand(name):
    (loss,) = parse_config(SNIPPETS[name]).model_config.losses
    assert loss.WhichOneof("loss") == name
    build_loss(loss)


def test_jrc_session_name_needs_no_quotes():
    loss = parse_config(SNIPPETS["jrc_loss"]).model_config.losses[0].jrc_loss
    assert (loss.session_name, loss.alpha) == ("session_id", 0.5)


def test_focal_defaults_are_the_specifications():
    loss = parse_config("model_config { losses { binary_focal_loss {} } }").model_config.losses[0]
    assert (loss.binary_focal_loss.gamma, loss.binary_focal_loss.alpha) == (2.0, 0.5)


@pytest.mark.parametrize("model_name", ["simple_multi_task", "dbmtl"])
@pytest.mark.parametrize("loss_name", ["binary_cross_entropy", "binary_focal_loss"])
def test_pareto_snippet_loads_with_its_placeholders_filled(model_name, loss_name):
    towers = ['tower_name: "ctr" label_name: click', 'tower_name: "cvr" label_name: buy']
    text = PARETO_SNIPPET.replace("...\n        group_type", "group_type")
    for tower in towers:
        text = text.replace("            ...", tower, 1)
    assert "..." not in text
    text = text.replace("${model_name}", model_name).replace("${loss_name}", loss_name)
    config = two_task_config()
    config.ClearField("model_config")
    config.MergeFrom(parse_config(text))
    check_config(config)
    tasks = parse_tasks(config)
    assert [task.pareto_min_weight for task in tasks] == pytest.approx([0.4, 0.4])
    assert [loss.WhichOneof("loss") for task in tasks for loss in task.losses] == [loss_name] * 2
    assert config.model_config.use_pareto_loss_weight


def test_unfilled_placeholders_are_named():
    with pytest.raises(ConfigError, match=r"line 6: placeholder `\.\.\.` must be replaced"):
        parse_config(PARETO_SNIPPET)
    with pytest.raises(ConfigError, match=r"line 2: placeholder `\$\{model_name\}` must be"):
        parse_config("model_config {\n ${model_name} {} }")


def test_bare_words_are_strings_only_where_the_field_is_one():
    config = parse_config(
        """
        # session_name: comment, and ${placeholder} ...
        train_input_path: /data/day=1/train-x  # bare path
        data_config { label_fields: [click, # x, y
            "buy"] shuffle: true dataset_type: ParquetDataset }
        feature_configs { id_feature { feature_name: "a: \\"b # ${c}" expression: user:item_id } }
        model_config { losses { jrc_loss { session_name: s contrast: SESSION } } }
        """
    )
    assert config.train_input_path == "/data/day=1/train-x"
    assert list(config.data_config.label_fields) == ["click", "buy"]
    assert config.data_config.shuffle is True
    assert config.feature_configs[0].id_feature.feature_name == 'a: "b # ${c}'
    assert config.feature_configs[0].id_feature.expression == "user:item_id"
    assert config.model_config.losses[0].jrc_loss.contrast == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model_config {\n losess {} }",
            r"line 2: field `losess` of ModelConfig .* mean `losses`\?",
        ),
        ("zebra: 1", r"field `zebra` of EasyRecConfig is unknown or not supported; remove it"),
        ("train_config { num_epochs: x }", r"line 1, column 28: .*Couldn't parse integer: x"),
        ("model_config { feature_groups { group_type: TALL } }", r"no value named TALL"),
        ("model_config {", r"not valid protobuf text"),
        ("data_config { dataset_type: CsvDataset }", r"no value named CsvDataset"),
        ("model_dir: runs/${DATE}", r"line 1: placeholder `\$\{DATE\}` must be replaced"),
    ],
)
def test_parse_errors_name_the_field_and_the_place(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(text)


def test_a_missing_config_file_and_a_faulty_one_name_the_path(tmp_path):
    with pytest.raises(ConfigError, match=r"pipeline_config_path must be a file, but got: .*no"):
        load_config(tmp_path / "no")
    (tmp_path / "bad").write_text("zebra: 1")
    with pytest.raises(ConfigError, match=r"bad: line 1: field `zebra`"):
        load_config(tmp_path / "bad")


JSON_CONFIG = """{
    "train_input_path": "a", "data_config": {"label_fields": ["click"], "fg_mode": "FG_DAG"},
    "feature_configs": [{"id_feature": {"feature_name": "city", "vocab_dict": {"Ulm": 2}}}],
    "model_config": {"losses": [{"jrc_loss": {"session_name": "s", "alpha": 0.25}}]}
}"""


def test_a_json_config_is_the_same_config(tmp_path):
    (tmp_path / "pipeline.json").write_text(JSON_CONFIG)
    assert load_config(tmp_path / "pipeline.json") == parse_config(
        """train_input_path: a data_config { label_fields: click fg_mode: FG_DAG }
        feature_configs { id_feature {
            feature_name: city vocab_dict { key: Ulm value: 2 } } }
        model_config { losses { jrc_loss { session_name: s alpha: 0.25 } } }"""
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"zebra": 1}', r"EasyRecConfig: field `zebra` of EasyRecConfig is unknown .*; remove it"),
        (
            '{"model_config": {"feature_groups": [{"group_nam": "a"}]}}',
            r"EasyRecConfig.model_config.feature_groups\[0\]: field `group_nam` of FeatureGroup"
            r"Config is unknown or not supported; did .* `group_name`\? Supported there: group_",
        ),
        ('{"train_config": {"num_epochs": "x"}}', r"not a valid JSON config: .*num_epochs"),
        ("train_config {}", r"not a valid JSON config: Failed to load JSON: Expecting value"),
        ("[" * 100_000, r"not a valid JSON config: "),
    ],
)
def test_errors_of_a_json_config_name_the_field_and_the_place(tmp_path, text, message):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.json: " + message):
        load_config(tmp_path / "bad.json")


def test_edits_reach_every_kind_of_field():
    config = two_task_config()
    edit_config(
        config,
        """{"train_config.num_epochs": 7, "data_config.label_fields": ["buy"],
            "feature_configs[0].id_feature.num_buckets": 9, "data_config.label_fields[0]": "click",
            "data_config": {"batch_size": 5, "dataset_type": "OdpsDataset"},
            "model_config.dbmtl.task_towers[1].losses[0].jrc_loss.contrast": "SESSION"}""",
    )
    assert config.train_config.num_epochs == 7
    assert list(config.data_config.label_fields) == ["click"]
    assert config.feature_configs[0].id_feature.num_buckets == 9
    assert (config.data_config.batch_size, config.data_config.dataset_type) == (5, 1)
    assert config.model_config.dbmtl.task_towers[1].losses[0].jrc_loss.contrast == 1


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ("{bad", r"edit_config_json must be a JSON object: Expecting"),
        ("[1]", r"must be a JSON object, but got: \[1\]"),
        (r'{"model\ud800": 1}', r"must be a JSON object: .* surrogates not allowed"),
        ('{"train_config.epochs": 1}', r"no field `epochs`; did .* There are: sparse"),
        ('{"data_config.batch_size": "a"}', r"`data_config.batch_size`: cannot be 'a'"),
        ('{"data_config.batch_size": -1}', r"cannot be -1: Value out of range"),
        ('{"data_config.label_fields": "a,b"}', r"cannot be 'a,b': must be a list, \[a, b\]"),
        ('{"feature_configs[9].id_feature.num_buckets": 1}', r"index 9 of 5"),
        ('{"data_config": 3}', r"`data_config`: is a message; name one of its fields"),
        ('{"data_config.batch_size.x": 3}', r"`batch_size` is not a message to step into"),
        ('{"data_config.batch_size[0]": 3}', r"`batch_size\[0\]` is not an indexed field"),
        ('{"data_config[0]": 3}', r"`data_config\[0\]` is not an indexed field"),
    ],
)
def test_faulty_edits_are_named(edits, message):
    with pytest.raises(ConfigError, match=message):
        edit_config(two_task_config(), edits)


TOWER = "model_config__dbmtl__task_towers[0]"
RELATED = "model_config__dbmtl__task_towers[1]__relation_tower_names"


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({f"{TOWER}__num_class": 1}, r"`ctr`: num_class must be 2 with jrc_loss, but got: 1"),
        ({f"{TOWER}__losses[0]__jrc_loss__alpha": 1.5}, r"`ctr`: jrc_loss: alpha must be between"),
        ({f"{TOWER}__losses[0]__jrc_loss__session_name": ""}, r"jrc_loss needs a session_name"),
        ({f"{TOWER}__losses[0]__l2_loss": {}}, r"num_class must be 1 with l2_loss, but got: 2"),
        ({f"{TOWER}__losses[0]__binary_focal_loss__gamma": 1}, r"must be 1 with binary_focal_loss"),
        (
            {f"{TOWER}__num_class": 1, f"{TOWER}__losses[0]__softmax_cross_entropy": {}},
            r"must be above 1 with softmax_cross_entropy, but got: 1",
        ),
        (
            {f"{TOWER}__num_class": 3, f"{TOWER}__losses[0]__binary_cross_entropy": {}},
            r"must be 1 or 2 with binary_cross_entropy, but got: 3",
        ),
        ({f"{TOWER}__label_name": "clik"}, r"label_name must be one of .*\(click, buy\).* `clik`"),
        ({f"{TOWER}__sample_weight_name": "w"}, r"sample_weight_fields \(none\), but got: `w`"),
        ({f"{TOWER}__weight": -1}, r"`ctr`: weight must be a finite number >= 0, but got: -1"),
        ({f"{TOWER}__losses[0]__weight": -1}, r"`ctr`: losses.weight must be a .* but got: -1"),
        ({f"{TOWER}__in_task_space_weight": 2}, r"weight of `ctr`: it has no task_space_indicator"),
        (
            {f"{TOWER}__task_space_indicator_label": "clik"},
            r"task_space_indicator_label must be one of .*\(click, buy\), but got: `clik`",
        ),
        (
            {f"{TOWER}__losses[0]__jrc_loss__exclude_out_of_task_space": True},
            r"jrc_loss.exclude_out_of_task_space needs a task_space_indicator_label",
        ),
        ({f"{TOWER}__losses[0]__list_net_loss": {}}, r"list_net_loss needs a session_name"),
        ({f"{TOWER}__rank_net_loss": {}}, r"rank_net_loss needs a session_name"),
        (
            {f"{TOWER}__rcr_loss": {"session_name": "session_id", "alpha": 2}},
            r"`ctr`: rcr_loss: alpha must be between 0 and 1",
        ),
        (
            {
                f"{TOWER}__num_class": 3,
                f"{TOWER}__losses[0]__rank_net_loss": {"session_name": "session_id"},
            },
            r"num_class must be 1 or 2 with rank_net_loss, but got: 3",
        ),
        (
            {"model_config__pareto_gradient": "SHARED_REPRESENTATION"},
            r"pareto_gradient: use_pareto_loss_weight is not true; remove the field",
        ),
        ({f"{TOWER}__tower_name": ""}, r"tower_name must be set"),
        (
            {f"{TOWER}__tower_name": "cvr"},
            r"relation_tower_names must name towers .*got: `ctr`|unique",
        ),
        (
            {
                "model_config__use_pareto_loss_weight": True,
                f"{TOWER}__pareto_min_loss_weight": 0.7,
                "model_config__dbmtl__task_towers[1]__pareto_min_loss_weight": 0.6,
            },
            r"must sum to at most 1 over all towers, but 0\.7 \+ 0\.6 = 1\.3",
        ),
        (
            {
                "model_config__use_pareto_loss_weight": True,
                f"{TOWER}__pareto_min_loss_weight": -0.1,
            },
            r"must be at least 0, but task 0 has -0\.1",
        ),
        ({"data_config__label_fields": []}, r"label_fields must name the label columns"),
        ({"data_config__batch_size": 0}, r"data_config.batch_size must be positive"),
        ({"data_config__eval_batch_size": 0}, r"data_config.eval_batch_size must be positive"),
        ({"eval_config__num_steps": 0}, r"eval_config.num_steps must be positive"),
        (
            {"train_config__num_epochs": 0},
            r"positive, but num_epochs is 0 and num_steps is missing",
        ),
        (
            {"train_config__num_epochs": 0, "train_config__num_steps": 0},
            r"train_config.num_steps must be .* num_epochs is 0 and num_steps is 0",
        ),
        ({"model_config__num_class": 2}, r"model_config.num_class: a multi-task model takes it"),
        ({"model_config__dbmtl__num_expert": 2}, r"dbmtl.num_expert: without expert_mlp"),
        ({"model_config__dbmtl__gate_mlp__hidden_units": [2]}, r"dbmtl.gate_mlp: without expert"),
        ({f"{TOWER}__tower_name": "c.tr", RELATED: ["c.tr"]}, r"tower_name must have no dot"),
        ({f"{TOWER}__tower_name": "keys", RELATED: ["keys"]}, r"tower_name must .* got: `keys`"),
        ({"model_config__feature_groups[0]__group_name": "items"}, r"group_name must .* `items`"),
        (
            {"model_config__feature_groups[0]__feature_names": ["tags", "tags"]},
            r"feature_names of feature group `all` must be unique, but `tags` is there twice",
        ),
        ({"feature_configs[0]__id_feature__embedding_name": "a.b"}, r"no dot, but got: a\.b"),
        ({"feature_configs[0]__id_feature__num_buckets": 0}, r"exactly one of num_buckets and"),
        ({"feature_configs[0]__id_feature__hash_bucket_size": 9}, r"exactly one of num_buckets"),
        ({"feature_configs[0]__id_feature__embedding_dim": 0}, r"embedding_dim must be positive"),
        ({"feature_configs[0]__id_feature__pooling": "max"}, r"pooling must be sum or mean"),
        ({"feature_configs[0]__id_feature__feature_name": ""}, r"feature_name must be set"),
        ({"feature_configs[0]__id_feature__feature_name": "tags"}, r"`tags` is twice"),
        (
            {f"feature_configs[{i}]__id_feature__embedding_name": "same" for i in (0, 1)},
            r"`user_id` and `item_id` share .* num_embeddings must be equal, but got: 20 and 30",
        ),
        ({"feature_configs[4]__raw_feature__value_dim": 0}, r"value_dim must be positive"),
        (
            {"feature_configs[4]__raw_feature__default_value": "x"},
            r"default_value must be a number",
        ),
        (
            {"model_config__feature_groups[0]__feature_names": ["user"]},
            r"group `all`: feature_configs has no `user`; did you mean `user_id`",
        ),
        ({"model_config__feature_groups[0]__feature_names": []}, r"`all` must have feature_names"),
        (
            {"train_config__global_embedding_constraints__sharding_types": ["tablewise"]},
            r"sharding_types must be of data_parallel, table_wise, .*but got: `tablewise`",
        ),
        (
            DATA_PARALLEL | {"train_config__sparse_optimizer__adam_optimizer__lr": 0.1},
            r"data_parallel tables must have .* sgd_optimizer, .*but it is adam_optimizer, which",
        ),
        (
            DATA_PARALLEL
            | {"train_config__sparse_optimizer__adagrad_optimizer__gradient_clipping": True},
            r"data_parallel tables cannot have sparse_optimizer.adagrad_optimizer.gradient_clip",
        ),
        (
            DATA_PARALLEL | {"train_config__sparse_optimizer__adagrad_optimizer__eps": 0.0},
            r"data_parallel tables must have a sparse_optimizer.adagrad_optimizer.eps above 0",
        ),
        (
            {"model_config__dbmtl__task_towers[1]__relation_tower_names": ["later"]},
            r"relation_tower_names must name towers that stand before it \(ctr\), .* `later`",
        ),
        (
            {"model_config__dbmtl__bottom_mlp__dropout_ratio": [0.1, 0.2]},
            r"dropout_ratio must have",
        ),
        ({"model_config__dbmtl__bottom_mlp__activation": "nn.Foo"}, r"activation must be one of"),
        (
            {
                "model_config__dbmtl__bottom_mlp__use_bn": True,
                "model_config__dbmtl__bottom_mlp__use_ln": True,
            },
            r"only one of use_bn and use_ln",
        ),
    ],
)
def test_faulty_configs_are_found_before_work_starts(edits, message):
    with pytest.raises(ConfigError, match=message):
        check_config(two_task_config(**edits))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("num_epochs: 2", r"num_epochs or train_config.num_steps must be set"),
        (
            "sparse_optimizer { adagrad_optimizer { lr: 0.1 } constant_learning_rate {} }",
            r"train_config.sparse_optimizer must name an optimizer",
        ),
        ("losses { jrc_loss { session_name: session_id } }", r"losses must name at least one loss"),
        ("relation_mlp { hidden_units: [8] }", r"relation_tower_names needs a relation_mlp"),
    ],
)
def test_missing_parts_are_named(cut, message):
    assert cut in TWO_TASKS
    with pytest.raises(ConfigError, match=message):
        check_config(parse_config(TWO_TASKS.replace(cut, "", 1)))


def test_a_config_without_a_model_is_an_error():
    config = two_task_config()
    config.model_config.ClearField("dbmtl")
    with pytest.raises(ConfigError, match="must name a model, one of dlrm, deepfm, multi_tower"):
        check_config(config)


def test_two_losses_of_one_type_stand_side_by_side():
    twice = "losses { jrc_loss { session_name: session_id } }"
    config = parse_config(TWO_TASKS.replace(twice, twice + twice, 1))
    check_config(config)
    assert len(parse_tasks(config)[0].losses) == 2


MULTI_TOWER = """
    feature_groups { group_name: users feature_names: user_id }
    multi_tower { TOWERS final { hidden_units: 4 } }
    losses { softmax_cross_entropy {} } num_class: 2 METRICS
"""


@pytest.mark.parametrize(
    ("towers", "metrics", "message"),
    [
        ("towers { input: all }", "", r"each feature group must be .*`users` is not"),
        ("towers { input: all } towers { input: all }", "", r"towers.input must be unique"),
        ("towers { input: nobody }", "", r"must name a feature group, but got: `nobody`"),
        (
            "towers { input: all } towers { input: users }",
            "use_pareto_loss_weight: true",
            r"use_pareto_loss_weight: there is one task alone",
        ),
        (
            "towers { input: all } towers { input: users }",
            "num_class: 3 metrics { auc {} }",
            r"metrics: auc needs a loss for two classes, but the task.s label is several",
        ),
    ],
)
def test_towers_of_a_single_task_model_are_checked(towers, metrics, message):
    config = two_task_config()
    config.model_config.ClearField("dbmtl")
    text = MULTI_TOWER.replace("TOWERS", towers)
    if "num_class" in metrics:
        text = text.replace("num_class: 2", "")
    text = text.replace("METRICS", metrics)
    config.MergeFrom(parse_config("model_config { " + text + " }"))
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_an_edit_of_a_loss_in_the_tower_itself_takes_effect():
    text = TWO_TASKS.replace("losses { jrc_loss { session_name: session_id } }", JRC_INSIDE, 1)
    config = parse_config(text)
    edit_config(config, {"model_config.dbmtl.task_towers[0].jrc_loss.alpha": 0.9})
    (loss,) = parse_tasks(config)[0].losses
    assert loss.jrc_loss.alpha == pytest.approx(0.9)


JRC_INSIDE = "jrc_loss { session_name: session_id }"


@pytest.mark.parametrize("name", ["train_input_path", "model_dir"])
def test_missing_paths_are_named(name):
    config = two_task_config(train_input_path="a", model_dir="b")
    config.ClearField(name)
    with pytest.raises(ConfigError, match=rf"{name} must be set, by --{name} or in the config"):
        check_paths(config)


def test_a_model_dir_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    config = two_task_config(train_input_path="a", model_dir=str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="model_dir must be a folder, but is a file"):
        check_paths(config)
