"""What every loss shares: argument checks, the working precision, weights and reduction.

Shapes: `B` rows in the batch.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Reduction = Literal["none", "sum", "mean"]


def check_reduction(reduction: str) -> Reduction:
    """Returns `reduction`, or raises a ValueError that lists the choices."""
    if reduction not in get_args(Reduction):
        raise ValueError(
            f"reduction must be one of {', '.join(get_args(Reduction))}, but got {reduction!r}; "
            "use 'mean' for training on one process"
        )
    return reduction  # pyright: ignore[reportReturnType]  # narrowed by the test above


def check_fraction(name: str, value: float) -> float:
    """Returns `value`, or raises a ValueError if it is outside [0, 1] (NaN included)."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be between 0 and 1, but got {value}; set it within [0, 1]")
    return float(value)


def check_float_logits(logits: Tensor) -> None:
    """Raises a ValueError unless `logits` is of a floating-point type."""
    if not logits.is_floating_point():
        raise ValueError(
            f"logits must be floating point, but got {logits.dtype}; pass the output of the tower, "
            "not labels or ids"
        )


def check_per_row(name: str, values: Tensor, num_rows: int) -> None:
    """Raises a ValueError unless `values` has shape [num_rows]."""
    if values.shape != (num_rows,):
        raise ValueError(
            f"{name} must have shape ({num_rows},), one value per row of logits, but got "
            f"{tuple(values.shape)}; squeeze or select the column first"
        )


def to_working_precision(logits: Tensor) -> Tensor:
    """float64 stays; float32, bfloat16 and float16 are computed in float32.

    The cast is part of the graph, so the gradient arrives in the type of `logits`.
    """
    return logits if logits.dtype == torch.float64 else logits.float()


def needs_grad(*logits: Tensor) -> bool:
    """Whether a kernel has to compute gradients beside losses."""
    return torch.is_grad_enabled() and any(each.requires_grad for each in logits)


def reduce_rows(rows: Tensor, sample_weight: Tensor | None, reduction: Reduction) -> Tensor:
    """Weights and reduces the losses of the rows.

    With weights w, `none` is w * l, `sum` is sum(w * l), and `mean` is sum(w * l) / sum(w), which
    is also what TorchEasyRec gets by dividing the weights by their mean. Nothing to average (no
    rows, or weights that sum to 0) gives a mean of 0 with a zero gradient, never NaN.

    Args:
        rows: [B] losses.
        sample_weight: [B] non-negative weights of any real type, or None for 1 each; constants.
        reduction: "none", "sum" or "mean".

    Returns:
        [B] for "none", otherwise a scalar, in the type of `rows`.
    """
    if sample_weight is None:
        if reduction == "none":
            return rows
        return rows.mean() if reduction == "mean" and rows.shape[0] else rows.sum()

    check_per_row("sample_weight", sample_weight, rows.shape[0])
    weight = sample_weight.detach().to(rows.dtype)
    weighted = rows * weight
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    weight_total = weight.sum()
    # sum(w * l) / sum(w); a zero total has a zero numerator, so any divisor but 0 will do.
    return weighted.sum() / torch.where(weight_total == 0, 1.0, weight_total)
