"""The pipeline config: protobuf text or JSON with TorchEasyRec's names, read strictly.

Three steps, each with its own errors:

    parse_config(text)          the text follows the schema (protos/pipeline.proto)
    edit_config(config, edits)  overrides from the command line
    checks.check_config         the parts fit each other (checks.check_data: they fit the dataset)
"""

import json
from pathlib import Path
from typing import Any

from trainer.config_edits import set_fields
from trainer.config_text import did_you_mean, parse_json, parse_text
from trainer.protos.pipeline_pb2 import (
    DataConfig,
    EasyRecConfig,
    FeatureGroupConfig,
    FgMode,
    ModelConfig,
)

__all__ = [
    "ConfigError",
    "check_local",
    "did_you_mean",
    "edit_config",
    "is_multi_task",
    "load_config",
    "parse_config",
    "read_groups",
    "task_towers",
]


# Models that take the first feature group alone.
ONE_GROUP_MODELS = (
    "dcn_v1",
    "dcn_v2",
    "mask_net",
    "simple_multi_task",
    "mmoe",
    "ple",
    "dbmtl",
)


class ConfigError(ValueError):
    """The config is wrong; the message has the field, the rule, the value and the cure."""


def check_local(name: str, path: str) -> None:
    """Raises ConfigError if a path to write to is a URL, such as `s3://bucket/scores`."""
    if "://" in path:
        raise ConfigError(
            f"{name} must be on a local or shared file system, but got: {path}; write to a folder "
            f"and copy it there"
        )


# ------------------------------------------------------------------ parsing


def load_config(path: str | Path) -> EasyRecConfig:
    """Read and parse a config file; one whose name ends in .json holds JSON.

    Raises ConfigError (its message opens with the path).
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"pipeline_config_path must be a file, but got: {path}")
    try:
        return parse_config(path.read_text(encoding="utf-8-sig"), is_json=path.suffix == ".json")
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(text: str, is_json: bool = False) -> EasyRecConfig:
    """Parse config text; string values may stand without quotes (`session_name: session_id`).

    Args:
        is_json: the text is a JSON object in place of protobuf text.
    """
    config = EasyRecConfig()
    try:
        parse_json(text, config) if is_json else parse_text(text, config)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _translate_fg_encoded(config.data_config)
    return config


def _translate_fg_encoded(data: DataConfig) -> None:
    """The old spelling of fg_mode, which goes before it."""
    if data.HasField("fg_encoded"):
        raw = FgMode.FG_DAG if data.fg_threads else FgMode.FG_NORMAL
        data.fg_mode = FgMode.FG_NONE if data.fg_encoded else raw
        data.ClearField("fg_encoded")


def read_groups(model: ModelConfig) -> list[FeatureGroupConfig]:
    """The feature groups that the model reads."""
    of_one = model.WhichOneof("model") in ONE_GROUP_MODELS
    return list(model.feature_groups[:1] if of_one else model.feature_groups)


def task_towers(config: EasyRecConfig) -> Any:
    """The task towers of a multi-task model; empty for a single-task one."""
    kind = config.model_config.WhichOneof("model")
    model = getattr(config.model_config, kind) if kind else None
    return getattr(model, "task_towers", ())


def is_multi_task(config: EasyRecConfig) -> bool:
    """Whether the model is of a kind that has task towers; one of another kind has one task.

    A custom model is of either kind.
    """
    kind = config.model_config.WhichOneof("model")
    if kind == "custom":
        return bool(config.model_config.custom.task_towers)
    field = config.model_config.DESCRIPTOR.fields_by_name[kind] if kind else None
    message = field.message_type if field else None
    return message is not None and "task_towers" in message.fields_by_name


# ------------------------------------------------------------------ overrides


def edit_config(config: EasyRecConfig, edits: str | dict[str, Any]) -> None:
    """Set fields by path, in place: {"train_config.num_epochs": 2, "feature_configs[0]...": 8}.

    docs/config.md says what a path and a value may be. Raises ConfigError for a faulty one.
    """
    if isinstance(edits, str):
        try:
            edits = json.loads(edits)
            json.dumps(edits, ensure_ascii=False).encode()  # halves of characters: "\ud800"
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"edit_config_json must be a JSON object: {error}") from None
    if not isinstance(edits, dict):
        raise ConfigError(f"edit_config_json must be a JSON object, but got: {edits!r}")
    for path, value in edits.items():
        try:
            set_fields(config, path, value)
        except ValueError as error:
            raise ConfigError(f"edit_config_json: `{path}`: {error}") from None
    _translate_fg_encoded(config.data_config)
