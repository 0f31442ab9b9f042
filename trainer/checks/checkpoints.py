"""What can be wrong with a config's fields of checkpoints, summaries and fine-tuning."""

from pathlib import Path

from trainer.config import ConfigError
from trainer.protos.pipeline_pb2 import EasyRecConfig, TrainConfig
from trainer.reporting.summaries import NAMES


def check_checkpoints(train: TrainConfig) -> None:
    """Hold the fields of checkpoints and summaries to their rules. Raises ConfigError."""
    if not train.save_checkpoints_minutes >= 0:
        raise ConfigError(
            f"train_config.save_checkpoints_minutes must be 0 (never) or more, but got: "
            f"{train.save_checkpoints_minutes:g}"
        )
    for name in train.tensorboard_summaries:
        if name not in NAMES:
            raise ConfigError(
                f"train_config.tensorboard_summaries must be of {', '.join(NAMES)}, "
                f"but got: `{name}`"
            )
    if train.fine_tune_ckpt_param_map and not train.fine_tune_checkpoint:
        raise ConfigError(
            "train_config.fine_tune_ckpt_param_map: without fine_tune_checkpoint it has no effect"
        )


def check_checkpoint_paths(config: EasyRecConfig) -> None:
    """The paths that some of these fields need. Raises ConfigError."""
    train = config.train_config
    for name, is_set in (
        ("train_config.evaluate_checkpoints", train.evaluate_checkpoints),
        ("train_config.best_checkpoint_metric", train.best_checkpoint_metric),
        ("export_config.exporter_type: best", config.export_config.exporter_type == "best"),
    ):
        if is_set and not config.eval_input_path:
            raise ConfigError(
                f"{name}: eval_input_path must be set, by --eval_input_path or in the config, but "
                f"is missing"
            )
    names = train.fine_tune_ckpt_param_map
    if names and not Path(names).is_file():
        raise ConfigError(f"train_config.fine_tune_ckpt_param_map must be a file, but got: {names}")
