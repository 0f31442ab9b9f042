"""The pointwise kernels as operators: `torch.ops.sessionwise.pointwise_reduced`, `pointwise_rows`
and `pointwise_row_grads`.

Shapes: `B` rows. Arguments are those of `kernels.pointwise.pointwise_launch`; labels and weights
are constants, without gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.jit import working_dtype
from kernels.pointwise import pointwise_launch


@torch.library.custom_op("sessionwise::pointwise_reduced", mutates_args=())
def pointwise_reduced(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    kind: str,
    parameters: Sequence[float],
    reduction: str,
    with_grads: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [1], its scale [1] and the gradient before scaling (empty without)."""
    _, grads, losses, scales = pointwise_launch(
        logits, labels, weight, kind, list(parameters), reduction, with_grads
    )
    return losses, scales, grads


@pointwise_reduced.register_fake
def _(
    logits: Tensor, labels: Any, weight: Any, kind: Any, parameters: Any, reduction: Any,
    with_grads: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    del labels, weight, kind, parameters, reduction
    new, dtype = logits.new_empty, working_dtype(logits)
    return (
        new(1, dtype=dtype),
        new(1, dtype=dtype),
        new(logits.shape if with_grads else 0, dtype=dtype),
    )


def _save_reduced(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, scales, grads = output
    ctx.save_for_backward(scales, grads)
    ctx.dtype, ctx.with_grads = inputs[0].dtype, inputs[-1]


def _backward_reduced(ctx: Any, grad_losses: Tensor, *_: Any) -> tuple[Any, ...]:
    assert ctx.with_grads, "pointwise_reduced must be called with_grads to be differentiated"
    scales, grads = ctx.saved_tensors
    scaled = (grads * (grad_losses * scales)).to(ctx.dtype)
    return scaled.view_as(grads), None, None, None, None, None, None


pointwise_reduced.register_autograd(_backward_reduced, setup_context=_save_reduced)


@torch.library.custom_op("sessionwise::pointwise_rows", mutates_args=())
def pointwise_rows(
    logits: Tensor, labels: Tensor, kind: str, parameters: Sequence[float]
) -> Tensor:
    """Losses of the rows, [B]."""
    return pointwise_launch(logits, labels, None, kind, list(parameters), "none", False)[0]


@pointwise_rows.register_fake
def _(logits: Tensor, labels: Any, kind: Any, parameters: Any) -> Tensor:
    del labels, kind, parameters
    return logits.new_empty(logits.shape[0], dtype=working_dtype(logits))


@torch.library.custom_op("sessionwise::pointwise_row_grads", mutates_args=())
def pointwise_row_grads(
    grad_rows: Tensor, logits: Tensor, labels: Tensor, kind: str, parameters: Sequence[float]
) -> Tensor:
    """Gradient of sum(grad_rows * rows), like logits: a row's upstream gradient is its weight."""
    _, grads, *_ = pointwise_launch(logits, labels, grad_rows, kind, list(parameters), "sum", True)
    return grads.to(logits.dtype)


@pointwise_row_grads.register_fake
def _(grad_rows: Tensor, logits: Tensor, *_: Any) -> Tensor:
    del grad_rows
    return logits.new_empty(logits.shape)


def _save_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    logits, labels, *ctx.options = inputs
    ctx.save_for_backward(logits, labels)


def _backward_rows(ctx: Any, grad_rows: Tensor) -> tuple[Any, ...]:
    return pointwise_row_grads(grad_rows, *ctx.saved_tensors, *ctx.options), None, None, None


pointwise_rows.register_autograd(_backward_rows, setup_context=_save_rows)
