"""A two-task config over tests.datasets.click_table, for tests to edit."""

from trainer.config import edit_config, parse_config
from trainer.protos.pipeline_pb2 import EasyRecConfig

TWO_TASKS = """
train_config {
    sparse_optimizer { adagrad_optimizer { lr: 0.1 } constant_learning_rate {} }
    dense_optimizer { adam_optimizer { lr: 0.01 } constant_learning_rate {} }
    num_epochs: 2
    log_step_count_steps: 5
    use_tensorboard: false
}
eval_config {}
data_config {
    batch_size: 48
    dataset_type: ParquetDataset
    fg_mode: FG_NORMAL
    label_fields: "click"
    label_fields: "buy"
    shuffle: true
}
feature_configs { id_feature { feature_name: "user_id" num_buckets: 20 embedding_dim: 8 } }
feature_configs { id_feature { feature_name: "item_id" num_buckets: 30 embedding_dim: 8 } }
feature_configs { id_feature { feature_name: "city" hash_bucket_size: 50 embedding_dim: 4 } }
feature_configs {
    id_feature { feature_name: "tags" num_buckets: 9 embedding_dim: 4 pooling: "mean" }
}
feature_configs { raw_feature { feature_name: "price" } }
model_config {
    feature_groups {
        group_name: "all"
        feature_names: "user_id"
        feature_names: "price"
        feature_names: "item_id"
        feature_names: "city"
        feature_names: "tags"
        group_type: DEEP
    }
    dbmtl {
        bottom_mlp { hidden_units: [32] }
        task_towers {
            tower_name: "ctr"
            label_name: "click"
            num_class: 2
            mlp { hidden_units: [16] }
            metrics { auc {} }
            losses { jrc_loss { session_name: session_id } }
        }
        task_towers {
            tower_name: "cvr"
            label_name: "buy"
            num_class: 2
            mlp { hidden_units: [16] }
            metrics { grouped_auc { grouping_key: "user_id" } }
            losses { jrc_loss { session_name: session_id } }
            relation_tower_names: "ctr"
            relation_mlp { hidden_units: [8] }
        }
    }
}
"""


def two_task_config(**edits: object) -> EasyRecConfig:
    """The config with edits; `__` in a name stands for a dot: train_config__num_epochs=1."""
    config = parse_config(TWO_TASKS)
    edit_config(config, {name.replace("__", "."): value for name, value in edits.items()})
    return config
