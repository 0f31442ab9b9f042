"""What can be wrong with the optimizers, schedules and precision of a config."""

import re
from typing import Any

from trainer.config import ConfigError
from trainer.optim.optimizers import optimizer_of
from trainer.optim.precision import check_precision
from trainer.optim.schedules import check_schedule, schedule_of
from trainer.protos import pipeline_pb2 as pb


def check_optimization(config: pb.EasyRecConfig) -> None:
    """Raise ConfigError at the first fault; what the device lacks shows when it is known."""
    train = config.train_config
    places: list[tuple[str, Any]] = [
        ("train_config.sparse_optimizer", train.sparse_optimizer),
        ("train_config.dense_optimizer", train.dense_optimizer),
    ]
    for n, part in enumerate(train.dense_optimizer.part_optimizers):
        where = f"train_config.dense_optimizer.part_optimizers[{n}]"
        _check_pattern(part, where)
        places.append((where, part))
    for where, optimizer in places:
        _check_optimizer(optimizer, where)
        check_schedule(schedule_of(optimizer), where)
    check_precision(train)
    _check_clipping(train.grad_clipping)
    _check_ema(config)


def _check_optimizer(optimizer: Any, where: str) -> None:
    if optimizer.WhichOneof("optimizer") is None:
        raise ConfigError(
            f"{where} must name an optimizer, for instance `adagrad_optimizer {{ lr: 0.01 }}`"
        )
    kind, message = optimizer_of(optimizer)
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if not isinstance(value, bool) and not 0 <= value < float("inf"):
            raise ConfigError(f"{where}.{kind}.{field.name} must not be negative, but got: {value}")
    unused = ""
    clips = getattr(message, "gradient_clipping", True)
    if not clips and message.HasField("max_gradient"):
        unused = "max_gradient: gradient_clipping is not true"
    if hasattr(message, "weight_decay_mode"):
        if message.weight_decay and not message.weight_decay_mode:
            unused = "weight_decay: FBGEMM decays with weight_decay_mode L2 or DECOUPLE alone"
        if message.weight_decay_mode and not message.weight_decay:
            unused = "weight_decay_mode: weight_decay is 0"
    if unused:
        raise ConfigError(f"{where}.{kind}.{unused}; remove the field, or set the other")


def _check_pattern(part: pb.PartOptimizer, where: str) -> None:
    try:
        valid = bool(part.regex_pattern) and bool(re.compile(part.regex_pattern))
    except re.error:
        valid = False
    if not valid:
        raise ConfigError(
            f"{where}.regex_pattern must be a regular expression for names of parameters, "
            f"but got: `{part.regex_pattern}`"
        )


def _check_clipping(clipping: pb.GradClipping) -> None:
    where, kinds = "train_config.grad_clipping", ("norm", "value", "none")
    if clipping.clipping_type.lower() not in kinds:
        raise ConfigError(
            f"{where}.clipping_type must be one of {', '.join(kinds)}, "
            f"but got: `{clipping.clipping_type}`"
        )
    for name in ("max_gradient", "norm_type"):
        if not getattr(clipping, name) > 0:
            raise ConfigError(
                f"{where}.{name} must be positive, but got: {getattr(clipping, name):g}"
            )


def _check_ema(config: pb.EasyRecConfig) -> None:
    dense = config.train_config.dense_optimizer
    if not 0 <= dense.ema.decay <= 1:
        raise ConfigError(
            f"train_config.dense_optimizer.ema.decay must be from 0 to 1, "
            f"but got: {dense.ema.decay:g}"
        )
    for name in ("eval_config", "export_config"):
        if getattr(config, name).use_dense_ema and not dense.HasField("ema"):
            raise ConfigError(
                f"{name}.use_dense_ema: training keeps no averages; "
                f"set train_config.dense_optimizer.ema, or remove the field"
            )
