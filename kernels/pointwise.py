"""Fused kernels of the losses that judge each row alone: loss and gradient in one launch.

The mathematics is that of `kernels.pointwise_eager`, the definition of truth.

Shapes: `B` rows, `C` classes, `P` programs of a launch, `z` a click model's logit.
"""

# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# (device code: the type checker takes a call of a jit function for one that never returns)

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.jit import (
    FINISH_WIDTH,
    MAX_REGISTERS,
    arrival_counters,
    finish_reduction,
    launch,
    log1p_exp,
    pick_double,
    split_double,
    working_dtype,
)

SMALL_BLOCK, LARGE_BLOCK = 256, 1024
LARGE_BATCH = 131_072
# Classes of a row that a program looks at together, and logits of a tile.
MAX_CLASSES, TILE_LOGITS = 512, 512


# ------------------------------------------------------------------ kernels


@triton.jit
def _binary_terms(z, y, first, second, KIND: tl.constexpr):
    """Loss of a row of logit z and label y, and its slope in z."""
    if KIND == "l2":
        return (z - y) * (z - y), 2.0 * (z - y)
    small, log1p, inverse = log1p_exp(z)
    p = tl.where(z >= 0, inverse, small * inverse)
    q = tl.where(z >= 0, small * inverse, inverse)  # 1 - p
    minus_log_p = tl.maximum(-z, 0.0) + log1p
    minus_log_q = tl.maximum(z, 0.0) + log1p
    if KIND == "binary_cross_entropy":
        target = y * (1.0 - first) + 0.5 * first  # first: label smoothing
        return target * minus_log_p + (1.0 - target) * minus_log_q, p - target
    # KIND == "binary_focal"; first: gamma, second: alpha
    positive, negative = second * y, (1.0 - second) * (1.0 - y)
    far_p, far_q = tl.exp(-first * minus_log_q), tl.exp(-first * minus_log_p)  # q^gamma, p^gamma
    loss = positive * far_p * minus_log_p + negative * far_q * minus_log_q
    # d q^gamma = -gamma * p * q^gamma, d p^gamma = gamma * q * p^gamma
    slope = negative * far_q * (p + first * q * minus_log_q)
    slope -= positive * far_p * (q + first * p * minus_log_p)
    return loss, slope


@triton.jit
def _binary_kernel(
    logits_ptr, labels_ptr, weights_ptr, parameters, num_rows, rows_ptr, grads_ptr,
    partials_ptr, num_partials, counters_ptr, losses_ptr, scales_ptr,
    KIND: tl.constexpr, COLUMNS: tl.constexpr, WEIGHTED: tl.constexpr, WRITE_ROWS: tl.constexpr,
    WRITE_GRADS: tl.constexpr, REDUCE: tl.constexpr, MEAN: tl.constexpr, ACC: tl.constexpr,
    N: tl.constexpr, FINISH: tl.constexpr,
):  # fmt: skip
    """Losses of one logit per row, or of the difference of two (COLUMNS = 2)."""
    tile_start = tl.program_id(0).to(tl.int64) * N
    rows = tile_start + tl.arange(0, N)
    there = rows < num_rows
    z = tl.load(logits_ptr + COLUMNS * rows, mask=there, other=0.0).to(ACC)
    if COLUMNS == 2:
        z = tl.load(logits_ptr + 2 * rows + 1, mask=there, other=0.0).to(ACC) - z
    y = tl.load(labels_ptr + rows, mask=there, other=0).to(ACC)
    first, second = pick_double(parameters, 0, ACC), pick_double(parameters, 1, ACC)
    loss, slope = _binary_terms(z, y, first, second, KIND)
    weight = tl.where(there, 1.0, 0.0).to(ACC)
    if WEIGHTED:
        weight = tl.load(weights_ptr + rows, mask=there, other=0.0).to(ACC)
    if WRITE_ROWS:
        tl.store(rows_ptr + rows, loss, mask=there)
    if WRITE_GRADS:
        slope *= weight
        tl.store(grads_ptr + COLUMNS * rows, slope if COLUMNS == 1 else -slope, mask=there)
        if COLUMNS == 2:
            tl.store(grads_ptr + 2 * rows + 1, slope, mask=there)
    if REDUCE:
        finish_reduction(
            tl.sum(tl.where(there, loss * weight, 0.0)), tl.sum(weight),
            partials_ptr, num_partials, counters_ptr, losses_ptr, scales_ptr, MEAN, FINISH,
        )  # fmt: skip


@triton.jit
def _softmax_kernel(
    logits_ptr, labels_ptr, weights_ptr, parameters, num_rows, rows_ptr, grads_ptr,
    partials_ptr, num_partials, counters_ptr, losses_ptr, scales_ptr, num_classes,
    WEIGHTED: tl.constexpr, WRITE_ROWS: tl.constexpr,
    WRITE_GRADS: tl.constexpr, REDUCE: tl.constexpr, MEAN: tl.constexpr, ACC: tl.constexpr,
    N: tl.constexpr, CLASSES: tl.constexpr, FINISH: tl.constexpr,
):  # fmt: skip
    """Softmax cross-entropy: a tile is N rows by CLASSES classes, as often as there are classes."""
    rows = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    there = rows < num_rows
    label = tl.load(labels_ptr + rows, mask=there, other=0).to(tl.int64)
    legal = there & (label >= 0) & (label < num_classes)
    smoothing = pick_double(parameters, 0, ACC)
    logits_at = logits_ptr + (rows * num_classes)[:, None]

    largest = tl.full([N], float("-inf"), ACC)
    total = tl.zeros([N], ACC)  # sum of exp(f - largest)
    mean = tl.zeros([N], ACC)
    for first in range(0, num_classes, CLASSES):
        classes = first + tl.arange(0, CLASSES)[None, :]
        inside = there[:, None] & (classes < num_classes)
        f = tl.load(logits_at + classes, mask=inside, other=float("-inf")).to(ACC)
        larger = tl.maximum(largest, tl.max(f, 1))
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        total = total * tl.exp(largest - shift) + tl.sum(tl.exp(f - shift[:, None]), 1)
        largest = larger
        mean += tl.sum(tl.where(inside, f, 0.0), 1) / num_classes
    at_label = tl.load(logits_ptr + rows * num_classes + label, mask=legal, other=0.0).to(ACC)
    # (1 - s) * -log p_y + s * mean of -log p; an illegal label gives NaN, never a wrong number.
    loss = tl.log(total) + (1.0 - smoothing) * (largest - at_label)
    loss += smoothing * tl.where(smoothing == 0.0, 0.0, largest - mean)
    loss = tl.where(legal, loss, float("nan"))
    weight = tl.where(there, 1.0, 0.0).to(ACC)
    if WEIGHTED:
        weight = tl.load(weights_ptr + rows, mask=there, other=0.0).to(ACC)
    if WRITE_ROWS:
        tl.store(rows_ptr + rows, loss, mask=there)
    if WRITE_GRADS:
        scale = tl.where(legal, weight, float("nan"))[:, None]
        for first in range(0, num_classes, CLASSES):
            classes = first + tl.arange(0, CLASSES)[None, :]
            inside = there[:, None] & (classes < num_classes)
            f = tl.load(logits_at + classes, mask=inside, other=float("-inf")).to(ACC)
            p = tl.exp(f - largest[:, None]) / total[:, None]
            target = tl.where(classes == label[:, None], 1.0 - smoothing, 0.0)
            grad = (p - target - smoothing / num_classes) * scale
            tl.store(grads_ptr + (rows * num_classes)[:, None] + classes, grad, mask=inside)
    if REDUCE:
        finish_reduction(
            tl.sum(tl.where(there, loss * weight, 0.0)), tl.sum(weight),
            partials_ptr, num_partials, counters_ptr, losses_ptr, scales_ptr, MEAN, FINISH,
        )  # fmt: skip


# ------------------------------------------------------------------ launcher


def pointwise_launch(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    kind: str,
    parameters: list[float],
    reduction: str,
    with_grads: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs the kernel of a loss.

    Args:
        logits: [B], [B, 1], or [B, 2] with "binary_cross_entropy", [B, C] with "softmax".
        labels: [B] of any type.
        weight: [B] or None for 1 each.
        kind: "binary_cross_entropy", "binary_focal", "l2" or "softmax".
        parameters: two numbers; label smoothing first, or gamma and alpha of the focal loss.
        reduction: "none" for the losses of the rows, "sum" or "mean".
        with_grads: whether to compute gradients.

    Returns:
        rows: [B] losses without weights, or [0] unless reduction is "none".
        grads: gradient of the sum of weighted losses in the shape of logits, or [0].
        losses, scales: [1] as in `finish_reduction`, or [0] with reduction "none".
        All are float64 for float64 logits, otherwise float32.
    """
    num_rows, dtype, with_rows = logits.shape[0], working_dtype(logits), reduction == "none"
    new = logits.new_empty
    rows = new(num_rows if with_rows else 0, dtype=dtype)
    grads = new(logits.shape if with_grads else 0, dtype=dtype)
    reduced = 0 if with_rows else 1
    if num_rows == 0:
        return rows, grads, new(reduced, dtype=dtype).zero_(), new(reduced, dtype=dtype).fill_(1.0)
    losses, scales = new(reduced, dtype=dtype), new(reduced, dtype=dtype)
    columns = logits.numel() // num_rows
    options: dict[str, Any] = {
        "WEIGHTED": weight is not None,
        "WRITE_ROWS": with_rows,
        "WRITE_GRADS": with_grads,
        "REDUCE": not with_rows,
        "MEAN": reduction == "mean",
        "ACC": tl.float64 if dtype == torch.float64 else tl.float32,
        "FINISH": FINISH_WIDTH,
        "maxnreg": MAX_REGISTERS,
    }
    if kind == "softmax":
        classes = min(1 << (columns - 1).bit_length(), MAX_CLASSES)
        block = TILE_LOGITS // classes
        options |= {"CLASSES": classes, "num_warps": 4}
    else:
        block = LARGE_BLOCK if num_rows >= LARGE_BATCH else SMALL_BLOCK
        options |= {"KIND": kind, "COLUMNS": columns, "num_warps": block // 128}
    num_programs = -(-num_rows // block)
    partials = new(num_programs, 2, dtype=dtype)
    pairs = tuple(zip(*map(split_double, parameters), strict=True))
    launch(
        _softmax_kernel if kind == "softmax" else _binary_kernel, (num_programs, 1),
        logits.contiguous(), labels.contiguous(),
        labels if weight is None else weight.contiguous(), pairs, num_rows, rows, grads,
        partials, num_programs, arrival_counters(partials.device), losses, scales,
        *([columns] if kind == "softmax" else []), **options, N=block,
    )  # fmt: skip
    return rows, grads, losses, scales
