"""Everything that can be wrong with a config, found before work starts.

check_config needs the config alone; check_data holds it against a dataset's manifest.
"""

from pathlib import Path

import torch
from torch import nn

from trainer.checkpoints.best_metric import best_metric
from trainer.checks.checkpoints import check_checkpoint_paths, check_checkpoints
from trainer.checks.compatibility import check_only_values
from trainer.checks.features import (
    INTEGERS,
    NUMBERS,
    check_features,
    check_id_ranges,
    no_column,
)
from trainer.checks.groups import check_feature_groups
from trainer.checks.hashing import check_shared_hashes
from trainer.checks.model import check_model, unused_in_model
from trainer.checks.optimization import check_optimization
from trainer.config import ConfigError, check_local, task_towers
from trainer.data.columns import DataError
from trainer.data.encode import check_classes
from trainer.data.feature_config import parse_features, used_features
from trainer.data.features import IdFeature
from trainer.data.reader import SessionDataset
from trainer.models import build_model
from trainer.models.groups import plan_groups
from trainer.optim.replicated import check_replicated
from trainer.protos.pipeline_pb2 import EasyRecConfig, ParameterConstraints, TrainConfig
from trainer.tasks import Task, parse_tasks

SHARDING_TYPES = (
    "data_parallel",
    "table_wise",
    "row_wise",
    "column_wise",
    "table_row_wise",
    "table_column_wise",
    "grid_shard",
)


def check_config(config: EasyRecConfig) -> None:
    """Hold the parts of a config against each other. Raises ConfigError at the first fault."""
    _check_train_config(config)
    check_checkpoints(config.train_config)
    for part, name in (
        ("data_config", "batch_size"),
        ("data_config", "eval_batch_size"),
        ("eval_config", "num_steps"),
    ):
        message = getattr(config, part)
        if message.HasField(name) and getattr(message, name) == 0:
            raise ConfigError(f"{part}.{name} must be positive, but got: 0")
    check_only_values(config)
    features = {feature.name: feature for feature in parse_features(config)}
    _check_sharding(config)
    check_feature_groups(config.model_config, features)
    tasks = parse_tasks(config)
    _check_relations(config)
    _check_names(config)
    _check_unused(config, tasks)
    best_metric(config)
    check_model(config)
    with torch.device("meta"):  # the layers check themselves; no memory is taken
        build_model(config, tasks)


def check_paths(config: EasyRecConfig) -> None:
    """The paths of a run, which the command line may give. Raises ConfigError."""
    for name in ("train_input_path", "model_dir"):
        if not getattr(config, name):
            raise ConfigError(f"{name} must be set, by --{name} or in the config, but is missing")
    check_checkpoint_paths(config)
    check_local("model_dir", config.model_dir)
    if Path(config.model_dir).exists() and not Path(config.model_dir).is_dir():
        raise ConfigError(f"model_dir must be a folder, but is a file: {config.model_dir}")


def _check_train_config(config: EasyRecConfig) -> None:
    train = config.train_config
    if not train.num_epochs and not train.num_steps:  # 0 beside the other one is as if not set
        raise ConfigError(
            f"train_config.num_epochs or train_config.num_steps must be set and positive, but "
            f"{_zero_or_missing(train, 'num_epochs')} and {_zero_or_missing(train, 'num_steps')}"
        )
    check_optimization(config)


def _zero_or_missing(train: TrainConfig, name: str) -> str:
    return f"{name} is {'0' if train.HasField(name) else 'missing'}"


def _check_sharding(config: EasyRecConfig) -> None:
    constraints = [config.train_config.global_embedding_constraints]
    for feature in parse_features(config):
        if isinstance(feature, IdFeature) and feature.constraints is not None:
            constraints.append(feature.constraints)
            if feature.zch is not None:
                _check_zch_sharding(feature.name, feature.constraints)
    for name in (name for each in constraints for name in each.sharding_types):
        if name not in SHARDING_TYPES:
            raise ConfigError(
                f"embedding constraints: sharding_types must be of {', '.join(SHARDING_TYPES)}, "
                f"but got: `{name}`"
            )
        if name == "data_parallel":
            check_replicated(config.train_config.sparse_optimizer)


def _check_zch_sharding(name: str, constraints: ParameterConstraints) -> None:
    for field, only in (("sharding_types", "row_wise"), ("compute_kernels", "fused")):
        chosen = list(getattr(constraints, field))
        if chosen and only not in chosen:
            raise ConfigError(
                f"id_feature `{name}`: {field} of a table with zch must have {only}, the only one "
                f"it can have, but got: {', '.join(chosen)}"
            )


def _check_names(config: EasyRecConfig) -> None:
    """Names that become names of parameters, which PyTorch restricts."""
    named = [("tower_name", tower.tower_name) for tower in task_towers(config)]
    named += [("group_name", group.group_name) for group in config.model_config.feature_groups]
    plans = plan_groups(used_features(config), config.model_config)
    tables = [each.table for plan in plans for each in plan.lookups if each.table]
    named += [("embedding_name", table) for table in tables]
    for field, name in named:
        if not name or "." in name or hasattr(nn.ModuleDict, name):
            raise ConfigError(
                f"{field} must have no dot and be no method of torch.nn.ModuleDict, "
                f"but got: `{name}`; choose another name"
            )


def _check_unused(config: EasyRecConfig, tasks: list[Task]) -> None:
    """What a config sets must have an effect, be told by compatibility.py, or be an error."""
    model = config.model_config
    unused = ""
    if task_towers(config):
        for name in ("num_class", "losses", "metrics", "train_metrics"):
            if model.HasField(name) if name == "num_class" else getattr(model, name):
                unused = f"model_config.{name}: a multi-task model takes it from its task_towers"
    unused = unused_in_model(model) or unused
    if model.use_pareto_loss_weight and len(tasks) == 1:
        unused = "use_pareto_loss_weight: there is one task alone, and nothing to weigh"
    if model.HasField("pareto_gradient") and not model.use_pareto_loss_weight:
        unused = "model_config.pareto_gradient: use_pareto_loss_weight is not true"
    for tower in task_towers(config):
        for name in ("in_task_space_weight", "out_task_space_weight"):
            if tower.HasField(name) and not tower.task_space_indicator_label:
                unused = f"{name} of `{tower.tower_name}`: it has no task_space_indicator_label"
    if unused:
        raise ConfigError(f"{unused}; remove the field")


def _check_relations(config: EasyRecConfig) -> None:
    earlier: list[str] = []
    for tower in task_towers(config):
        relations = getattr(tower, "relation_tower_names", ())
        for name in relations:
            if name not in earlier:
                raise ConfigError(
                    f"task tower `{tower.tower_name}`: relation_tower_names must name towers "
                    f"that stand before it ({', '.join(earlier) or 'none'}), but got: `{name}`"
                )
        if relations and not tower.HasField("relation_mlp"):
            raise ConfigError(
                f"task tower `{tower.tower_name}`: relation_tower_names needs a relation_mlp"
            )
        earlier.append(tower.tower_name)


# ------------------------------------------------------------------ against the dataset

_KEYS = (*INTEGERS, "string", "boolean", "date")


def check_data(config: EasyRecConfig, dataset: SessionDataset) -> None:
    """Hold a config against a dataset: its columns, their types, its sessions, label values.

    Value ranges come from Parquet's statistics; the reader checks every value again.

    Raises:
        ConfigError: a column is missing, has a wrong type, or is not the session column; or
            columns of one table hash integers and text.
        DataError: a label or an id is out of its range.
    """
    types, where = dataset.types, dataset.path
    features = used_features(config)
    check_features(features, types, where)
    plans = plan_groups(features, config.model_config)
    lookups = [lookup for plan in plans for lookup in plan.lookups]
    check_shared_hashes(((each.collection, each.table, each.feature) for each in lookups), types)
    check_id_ranges(features, types, dataset)
    for task in parse_tasks(config):
        _check_sessions(task, dataset, types)
        _check_column(types, task.label, f"label of task `{task.name}`", NUMBERS, where)
        _check_label_range(task, dataset)
        for name in filter(None, (task.sample_weight, task.space_indicator, *task.label_inputs)):
            _check_column(types, name, f"task `{task.name}`", NUMBERS, where)
        for name in task.grouping_keys:
            _check_column(types, name, f"metrics of task `{task.name}`", _KEYS, where)


def _check_column(
    types: dict[str, str], name: str, role: str, allowed: tuple[str, ...], where: str
) -> None:
    if name not in types:
        raise no_column(name, role, types, where)
    value_type = "decimal" if types[name].startswith("decimal") else types[name]
    if value_type not in allowed:
        raise ConfigError(
            f"{role}: column `{name}` of {where} must hold {', '.join(allowed)}, "
            f"but holds: {types[name]}"
        )


def _check_sessions(task: Task, dataset: SessionDataset, types: dict[str, str]) -> None:
    laid_out_by = dataset.session_columns
    for name in task.session_names:
        if name not in types:
            raise no_column(name, f"session_name of task `{task.name}`", types, dataset.path)
        if (name,) != tuple(laid_out_by):
            raise ConfigError(
                f"task `{task.name}`: session_name must be the session column of "
                f"{dataset.path}, `{', '.join(laid_out_by)}`, but got: `{name}`; run "
                f"preprocessing/jrc_sort.py with --session-column {name}, or change session_name"
            )


def _check_label_range(task: Task, dataset: SessionDataset) -> None:
    (known,) = dataset.ranges_of([task.label])
    if known is None:
        return
    if known.num_nulls:
        raise DataError(
            f"label column `{task.label}` of {dataset.path} must have no null, "
            f"but has {known.num_nulls}; fill or drop them"
        )
    if not task.is_regression:
        for value in (known.low, known.high):
            check_classes(torch.tensor([float(value)]), task)
