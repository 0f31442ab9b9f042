"""Mixed precision: the type of matrix products, and loss scaling that spares the tables.

Parameters, tables, optimizers and losses are float32 throughout. With a scaled loss, gradients are
`scale` times too large until they are unscaled. The dense ones are, before the dense optimizer's
step; tables move inside the backward pass, so their gradients are unscaled on the way there.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.protos import pipeline_pb2 as pb

_TYPES = {"": None, "BF16": torch.bfloat16, "FP16": torch.float16}


def mixed_dtype(config: pb.TrainConfig) -> torch.dtype | None:
    """The type of `mixed_precision`; None trains in float32. Raises ConfigError."""
    if config.mixed_precision not in _TYPES:
        raise ConfigError(
            f'train_config.mixed_precision must be "BF16" or "FP16", '
            f"but got: `{config.mixed_precision}`; remove the field to train in float32"
        )
    return _TYPES[config.mixed_precision]


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """The context in which a model computes its logits."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def allow_tf32(config: pb.TrainConfig) -> None:
    """Set whether float32 products on CUDA may use TensorFloat-32, for the whole process."""
    torch.backends.cudnn.allow_tf32 = config.cudnn_allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = config.cuda_matmul_allow_tf32


def build_scaler(config: pb.TrainConfig, device: torch.device) -> torch.amp.GradScaler | None:
    """The loss scaler, where `grad_scaler` is set or FP16 needs one."""
    if not config.HasField("grad_scaler") and mixed_dtype(config) != torch.float16:
        return None
    given = config.grad_scaler
    return torch.amp.GradScaler(
        device.type,
        init_scale=given.init_scale,
        growth_factor=given.growth_factor,
        backoff_factor=given.backoff_factor,
        growth_interval=given.growth_interval,
    )


def check_precision(config: pb.TrainConfig) -> None:
    """Raise ConfigError for fields of mixed precision that are out of range."""
    mixed_dtype(config)
    given = config.grad_scaler
    for name, rule, holds in (
        ("init_scale", "be positive", given.init_scale > 0),
        ("growth_factor", "be above 1", given.growth_factor > 1),
        ("backoff_factor", "be between 0 and 1", 0 < given.backoff_factor < 1),
        ("growth_interval", "be positive", given.growth_interval > 0),
    ):
        if not holds:
            raise ConfigError(
                f"train_config.grad_scaler.{name} must {rule}, but got: {getattr(given, name):g}"
            )


def unscale_table_gradients(kernels: list[nn.Module], scaler: torch.amp.GradScaler) -> None:
    """Give each table of FBGEMM's kernels its gradient without the scale.

    Where a gradient overflowed, that of the tables of that kernel is zero: only what moves without
    a gradient, by momentum or weight decay, moves in a step whose dense part is skipped.
    """
    for kernel in kernels:
        kernel.register_forward_hook(partial(_unscale_gradient_of_output, scaler))


def _unscale_gradient_of_output(
    scaler: torch.amp.GradScaler, module: nn.Module, inputs: Any, output: Tensor
) -> None:
    if output.requires_grad:
        output.register_hook(partial(unscaled, scaler))


def unscaled(scaler: torch.amp.GradScaler, gradient: Tensor) -> Tensor:
    """A gradient without the scale of the loss; zero where it overflowed."""
    scale = scaler.scale(torch.ones((), device=gradient.device))
    true = gradient / scale
    return torch.where(true.isfinite().all(), true, torch.zeros_like(true))
