"""The JRC kernels as operators: `torch.ops.sessionwise.jrc_reduced`, `jrc_rows`, `jrc_row_grads`.

Shapes: `B` rows, `S` sessions, `T` tasks that share the sessions (T logits, labels, weights).
Arguments are those of `kernels.jrc.jrc_launch`; labels and weights are constants, without gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.jit import working_dtype
from kernels.jrc import jrc_launch


@torch.library.custom_op("sessionwise::jrc_reduced", mutates_args=())
def jrc_reduced(
    logits: Sequence[Tensor],
    labels: Sequence[Tensor],
    offsets: Tensor,
    weights: Sequence[Tensor],
    alphas: Sequence[float],
    smoothings: Sequence[float],
    contrast: str,
    reduction: str,
    with_grads: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [T], their scales [T] and gradients [T, B, 2] before scaling ([0, B, 2] without).

    loss[t] = scale[t] * sum(w * l), where scale is 1 for "sum" and 1 / sum(w) for "mean".
    """
    _, grads, losses, scales = jrc_launch(
        list(logits), list(labels), offsets, list(weights), list(alphas), list(smoothings),
        contrast, reduction, with_grads,
    )  # fmt: skip
    return losses, scales, grads


@jrc_reduced.register_fake
def _(
    logits: Sequence[Tensor], labels: Any, offsets: Any, weights: Any, alphas: Any,
    smoothings: Any, contrast: str, reduction: str, with_grads: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    del labels, offsets, weights, alphas, smoothings, contrast, reduction
    num_tasks, num_rows, dtype = len(logits), logits[0].shape[0], working_dtype(logits[0])
    new = logits[0].new_empty
    grads = new(num_tasks if with_grads else 0, num_rows, 2, dtype=dtype)
    return new(num_tasks, dtype=dtype), new(num_tasks, dtype=dtype), grads


def _save_reduced(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, scales, grads = output
    ctx.save_for_backward(scales, grads)
    ctx.dtype, ctx.num_weights, ctx.with_grads = inputs[0][0].dtype, len(inputs[3]), inputs[-1]


def _backward_reduced(ctx: Any, grad_losses: Tensor, *_: Any) -> tuple[Any, ...]:
    assert ctx.with_grads, "jrc_reduced must be called with_grads to be differentiated"
    scales, grads = ctx.saved_tensors
    scaled = (grads * (grad_losses * scales)[:, None, None]).to(ctx.dtype)
    no_labels, no_weights = [None] * len(scaled), [None] * ctx.num_weights
    return list(scaled.unbind()), no_labels, None, no_weights, None, None, None, None, None


jrc_reduced.register_autograd(_backward_reduced, setup_context=_save_reduced)


@torch.library.custom_op("sessionwise::jrc_rows", mutates_args=())
def jrc_rows(
    logits: Tensor, labels: Tensor, offsets: Tensor, alpha: float, smoothing: float, contrast: str
) -> Tensor:
    """Losses of the rows, [B]."""
    rows, *_ = jrc_launch(
        [logits], [labels], offsets, [], [alpha], [smoothing], contrast, "none", False
    )
    return rows[0]


@jrc_rows.register_fake
def _(
    logits: Tensor, labels: Any, offsets: Any, alpha: Any, smoothing: Any, contrast: Any
) -> Tensor:
    del labels, offsets, alpha, smoothing, contrast
    return logits.new_empty(logits.shape[0], dtype=working_dtype(logits))


@torch.library.custom_op("sessionwise::jrc_row_grads", mutates_args=())
def jrc_row_grads(
    grad_rows: Tensor,
    logits: Tensor,
    labels: Tensor,
    offsets: Tensor,
    alpha: float,
    smoothing: float,
    contrast: str,
) -> Tensor:
    """Gradient [B, 2] of sum(grad_rows * rows): a row's upstream gradient is its weight."""
    _, grads, *_ = jrc_launch(
        [logits], [labels], offsets, [grad_rows], [alpha], [smoothing], contrast, "sum", True
    )
    return grads[0].to(logits.dtype)


@jrc_row_grads.register_fake
def _(grad_rows: Tensor, logits: Tensor, *_: Any) -> Tensor:
    del grad_rows
    return logits.new_empty(logits.shape)


def _save_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    logits, labels, offsets, *ctx.options = inputs
    ctx.save_for_backward(logits, labels, offsets)


def _backward_rows(ctx: Any, grad_rows: Tensor) -> tuple[Any, ...]:
    return jrc_row_grads(grad_rows, *ctx.saved_tensors, *ctx.options), None, None, None, None, None


jrc_rows.register_autograd(_backward_rows, setup_context=_save_rows)
