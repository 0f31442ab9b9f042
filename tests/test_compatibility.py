"""TorchEasyRec's fields that have one value here, or no effect: errors, warnings, same results."""

from typing import Any

import pytest
import torch

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.training_here import all_tensors, one_rank, trainer_here
from trainer.checks.compatibility import without_effect
from trainer.checks.config import check_config
from trainer.config import ConfigError, edit_config, parse_config
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import parse_tasks

assert one_rank  # a fixture that is imported to be used by name

# Each asks for what is done here anyway.
DEFAULTS = """
data_config { in_order: true sample_mask_prob: 0 negative_sample_mask_prob: 0.0 batch_cost_size: 0 }
export_config { exporter_type: "latest" mixed_precision: "" }
train_config { grad_clipping { clipping_type: "NORM" } }
feature_configs { id_feature { feature_name: a num_buckets: 2 embedding_dim: 4 pooling: "SUM"
    use_mask: false stub_type: false data_type: "FP32" } }
feature_configs { raw_feature { feature_name: b use_mask: false stub_type: false
    data_type: "FP32" } }
model_config { kernel: PYTORCH }
"""
# Each is of no matter here; the paths of what training says.
IDLE = {
    """data_config {
        fg_threads: 4 shuffle_buffer_size: 8 is_orderby_partition: true
        odps_data_quota_name: "q" odps_data_compression: "ZSTD" in_order: false
        input_fields { input_name: "click" input_type: INT64 } input_fields { input_name: "buy" }
        input_fields_str: "click:BIGINT" delimiter: "\\t" with_header: true
        force_base_data_group: true sample_cost_field: "cost" sample_weight_fields: ["w", "v"]
    }""": [
        *("data_config.fg_threads", "data_config.shuffle_buffer_size"),
        *("data_config.is_orderby_partition", "data_config.odps_data_quota_name"),
        *("data_config.odps_data_compression", "data_config.in_order"),
        *("data_config.input_fields", "data_config.input_fields_str", "data_config.delimiter"),
        *("data_config.with_header", "data_config.force_base_data_group"),
        *("data_config.sample_cost_field", "data_config.sample_weight_fields `w`"),
        "data_config.sample_weight_fields `v`",
    ],
    """train_config { save_checkpoints_steps: 9 save_checkpoints_epochs: 3
        save_checkpoints_timestamp_interval: 60 save_checkpoints_timestamps: 7
        save_checkpoints_timestamp_quorum: 0.9 }""": [
        "train_config.save_checkpoints_steps",
        "train_config.save_checkpoints_timestamp_interval",
        "train_config.save_checkpoints_timestamps",
        "train_config.save_checkpoints_timestamp_quorum",
    ],
    "eval_config { log_step_count_steps: 5 }": ["eval_config.log_step_count_steps"],
    """export_config { best_exporter_metric: "auc" metric_larger_is_better: true
        cudnn_allow_tf32: false cuda_matmul_allow_tf32: true }""": [
        "export_config.best_exporter_metric",
        "export_config.metric_larger_is_better",
        "export_config.cudnn_allow_tf32",
        "export_config.cuda_matmul_allow_tf32",
    ],
    """feature_configs { id_feature { feature_name: "a" num_buckets: 2 embedding_dim: 4
        default_bucketize_value: 1 fg_value_type: "int64" } }
    feature_configs { id_feature { feature_name: "b" num_buckets: 2 embedding_dim: 4
        fg_value_type: "int64" } }
    feature_configs { raw_feature { feature_name: "c" embedding_dim: 4 embedding_name: "d"
        pooling: "mean" init_fn: "nn.init.zeros_" trainable: true embedding_constraints {} } }""": [
        "feature_configs[:].id_feature.default_bucketize_value",
        "feature_configs[:].id_feature.fg_value_type",
        "feature_configs[:].raw_feature.embedding_dim",
        "feature_configs[:].raw_feature.embedding_name",
        "feature_configs[:].raw_feature.pooling",
        "feature_configs[:].raw_feature.embedding_constraints",
        "feature_configs[:].raw_feature.init_fn",
        "feature_configs[:].raw_feature.trainable",
    ],
    """feature_configs { sequence_feature { sequence_name: "s" sequence_pk: "user:s" features {
        id_feature { feature_name: "a" num_buckets: 2 embedding_dim: 4
                     fg_value_type: "int64" } } } }""": [
        "feature_configs[:].sequence_feature.sequence_pk",
        "feature_configs[:].sequence_feature.features[:].id_feature.fg_value_type",
    ],
    'model_config { kernel: TRITON feature_groups { group_name: "b" feature_names: "city" } }': [
        "model_config.kernel",
        "model_config.feature_groups `b`",
    ],
}


def two_tasks_and(text: str) -> pb.EasyRecConfig:
    config = two_task_config()
    config.MergeFrom(parse_config(text))
    return config


def test_what_is_done_anyway_may_be_asked_for():
    config = two_task_config()
    config.MergeFrom(parse_config(DEFAULTS))
    check_config(config)
    assert without_effect(config, parse_tasks(config)) == []


@pytest.mark.parametrize("text", IDLE, ids=lambda text: " ".join(text.split())[:40])
def test_what_has_no_effect_is_accepted_and_told(text):
    config = two_tasks_and(text)
    check_config(config)
    assert sorted(without_effect(config, parse_tasks(config))) == sorted(IDLE[text])


def test_what_has_an_effect_is_not_told():
    config = two_tasks_and(
        """feature_configs { id_feature { feature_name: "a" vocab_list: ["x", "y"] embedding_dim: 4
            default_bucketize_value: 1 } }
        feature_configs { raw_feature { feature_name: "c" embedding_dim: 4 embedding_name: "d"
            init_fn: "nn.init.zeros_" boundaries: [1, 2] } }
        feature_configs { raw_feature { feature_name: "e" embedding_dim: 4 mlp {} } }
        data_config { sample_weight_fields: "w" }
        train_config { save_checkpoints_steps: 9 }"""
    )
    config.model_config.dbmtl.task_towers[1].sample_weight_name = "w"
    check_config(config)
    assert without_effect(config, parse_tasks(config)) == []


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (
            {"feature_configs[1].id_feature.use_mask": True},
            r"feature_configs\[:\].id_feature.use_mask must be False, but got: True; thin out",
        ),
        ({"feature_configs[4].raw_feature.use_mask": True}, r"raw_feature.use_mask must be False"),
        ({"feature_configs[0].id_feature.stub_type": True}, r"id_feature.stub_type must be False"),
        (
            {"feature_configs[0].id_feature.data_type": "FP16"},
            r"data_type must be 'FP32', but got: 'FP16'; tables are float32",
        ),
        ({"data_config.sample_mask_prob": 0.5}, r"data_config.sample_mask_prob must be 0.0, but"),
        ({"data_config.negative_sample_mask_prob": 0.5}, r"negative_sample_mask_prob must be 0.0"),
        (
            {"data_config.batch_cost_size": 9},
            r"batch_cost_size must be 0, but got: 9; set batch_si",
        ),
        ({"export_config.mixed_precision": "BF16"}, r"export_config.mixed_precision must be ''"),
        (
            {"export_config.use_dense_ema": True},
            r"export_config.use_dense_ema: training keeps no averages",
        ),
    ],
)
def test_another_value_is_an_error_that_names_the_field(edits, message):
    config = two_task_config()
    edit_config(config, edits)
    with pytest.raises(ConfigError, match=message):
        check_config(config)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("fg_encoded: true fg_mode: FG_NORMAL", pb.FG_NONE),
        ("fg_encoded: false", pb.FG_DAG),
        ("fg_encoded: false fg_threads: 0", pb.FG_NORMAL),
        ("fg_mode: FG_BUCKETIZE", pb.FG_BUCKETIZE),
    ],
)
def test_fg_encoded_is_the_old_spelling_of_fg_mode(text, mode):
    data = parse_config(f"data_config {{ {text} }}").data_config
    assert data.fg_mode == mode
    assert not data.HasField("fg_encoded")
    config = two_task_config(data_config__fg_encoded=True)
    assert config.data_config.fg_mode == pb.FG_NONE


@pytest.mark.usefixtures("one_rank")
def test_training_says_what_has_no_effect_and_gives_the_same_model(tmp_path, capsys):
    write_dataset(tmp_path / "train", click_table(40))
    edits: dict[str, Any] = {"train_config__num_steps": 4}
    plain = trainer_here(tmp_path, "plain", **edits)
    plain.train()
    assert "without effect" not in capsys.readouterr().out
    edits |= {
        "data_config__sample_weight_fields": ["weight"],
        "data_config__delimiter": ";",
        "feature_configs[4]__raw_feature": {"embedding_dim": 4, "init_fn": "nn.init.ones_"},
        "feature_configs[0]__id_feature__default_bucketize_value": 3,
    }
    config = two_task_config()
    config.model_config.feature_groups.add(group_name="more", feature_names=["city", "item_id"])
    groups = [text for text in map(str, config.model_config.feature_groups)]
    model = f"feature_groups {{ {groups[0]} }} feature_groups {{ {groups[1]} }} "
    model += f"dbmtl {{ {config.model_config.dbmtl} }}"
    told = trainer_here(tmp_path, "told", model_config=model, **edits)
    told.train()
    assert (
        "warning: accepted without effect (docs/config.md): data_config.delimiter, "
        "feature_configs[:].id_feature.default_bucketize_value, "
        "feature_configs[:].raw_feature.embedding_dim, feature_configs[:].raw_feature.init_fn, "
        "data_config.sample_weight_fields `weight`, model_config.feature_groups `more`\n"
    ) in capsys.readouterr().out
    expected, found = all_tensors(plain), all_tensors(told)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
