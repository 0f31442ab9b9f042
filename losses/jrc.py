"""JRC: joint ranking and calibration of click models over whole sessions.

Sheng et al., "Joint Optimization of Ranking and Calibration with Contextualized Hybrid Model",
KDD 2023 (arXiv 2208.06164). A row i with label y in session s has two logits f[i] = (f0, f1), and

    ce_i   = -log softmax(f[i])[y]                                     calibration
    rank_i = logsumexp(f_y over i and its competitors) - f_y[i]        ranking within the session
    loss_i = alpha * ce_i + (1 - alpha) * rank_i

Two forms are published, and they differ in who competes with row i:

    "opposite"  the rows of s with the other label     (TorchEasyRec)
    "session"   all other rows of s                    (the paper, EasyRec)

Shapes: `B` rows in the batch, `S` sessions. A lane is one channel of one session, where the rows
of one label meet: lane 2 * s + k is f_k of session s, and [2S] tensors have one value per lane.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kernels.segment import (
    finite_or_zero,
    raw_segment_max,
    raw_segment_sum,
    segments_from_offsets,
    sort_into_offsets,
)
from losses.reduction import (
    Reduction,
    check_float_logits,
    check_fraction,
    check_per_row,
    check_reduction,
    reduce_rows,
    to_working_precision,
)

Contrast = Literal["opposite", "session"]


class JRCLoss(nn.Module):
    """The JRC loss of this module's docstring, over sessions of any order and size.

    A session of one row or of one class, or a batch without positives, has nothing to rank:
    there "opposite" gives a ranking loss of exactly 0, and nothing is ever NaN. Memory is O(B).

    Args:
        alpha: share of calibration in the loss, within [0, 1].
        reduction: "none", "sum" or "mean" (see `losses.reduction.reduce_rows`).
        contrast: "opposite" or "session".

    Raises:
        ValueError: if an argument is outside the values above.
    """

    def __init__(
        self, alpha: float = 0.5, reduction: str = "mean", contrast: str = "opposite"
    ) -> None:
        super().__init__()
        if contrast not in get_args(Contrast):
            raise ValueError(
                f"contrast must be one of {', '.join(get_args(Contrast))}, but got {contrast!r}; "
                "'opposite' is TorchEasyRec's form, 'session' the paper's"
            )
        self.alpha = check_fraction("alpha", alpha)
        self.reduction: Reduction = check_reduction(reduction)
        self.contrast: Contrast = contrast  # pyright: ignore[reportAttributeAccessIssue]  # tested

    def extra_repr(self) -> str:
        """The parameters, as `print(model)` shows them."""
        return f"alpha={self.alpha}, reduction={self.reduction!r}, contrast={self.contrast!r}"

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        session_ids: Tensor | None = None,
        session_offsets: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss; sessions come by exactly one of `session_ids` and `session_offsets`.

        Args:
            logits: [B, 2] of any floating type; float16 and bfloat16 are computed in float32.
            labels: [B] of 0 and 1, integer, bool or float.
            session_ids: [B] integers of any type, equal for the rows of a session, in any order.
            session_offsets: [S + 1] integers rising from 0 to B, where rows of a session are
                adjacent: session s is rows session_offsets[s] to session_offsets[s + 1] - 1.
            sample_weight: [B] or None. A weight scales the loss of its row; the row competes
                in its session with full strength.

        Returns:
            Scalar, or [B] with reduction "none"; float64 for float64 logits, otherwise float32.

        Raises:
            ValueError: on a wrong shape or type, or with both or neither kind of session.
        """
        _check_logits_and_labels(logits, labels)
        if (session_ids is None) == (session_offsets is None):
            given = "neither" if session_ids is None else "both"
            raise ValueError(
                "jrc_loss needs exactly one of session_ids and session_offsets, but got "
                f"{given}; pass session_offsets when rows of a session are adjacent, else "
                "session_ids"
            )
        if session_offsets is not None:
            offsets = _checked_offsets(session_offsets, logits.shape[0])
            rows = jrc_rows(logits, labels, offsets, self.alpha, self.contrast)
        else:
            assert session_ids is not None
            _check_session_ids(session_ids, logits.shape[0])
            order, offsets = sort_into_offsets(session_ids)
            contiguous = jrc_rows(logits[order], labels[order], offsets, self.alpha, self.contrast)
            # The row at contiguous[k] came from order[k]: put it back there.
            rows = torch.zeros_like(contiguous).index_copy(0, order, contiguous)
        return reduce_rows(rows, sample_weight, self.reduction)


def jrc_rows(
    logits: Tensor, labels: Tensor, offsets: Tensor, alpha: float, contrast: Contrast
) -> Tensor:
    """The JRC loss of each row of contiguous sessions, before weights and reduction.

    Tensors in, tensor out: this is the signature a fused kernel takes over.

    Args:
        logits: [B, 2].
        labels: [B] of 0 and 1.
        offsets: [S + 1] int64, rising from 0 to B.
        alpha: share of calibration.
        contrast: who competes with a row.

    Returns:
        [B] losses, float64 or float32.
    """
    segments = segments_from_offsets(offsets, logits.shape[0])
    working = to_working_precision(logits)
    rows: Any = _JRCRows.apply(working, labels > 0.5, *segments, alpha, contrast)
    return rows


class _JRCRows(Function):
    """The losses of the rows, with their analytic gradient.

    A row i of label y is *anchor* in lane (s, y) and competes as a *rival*: "opposite" in lane
    (s, 1 - y), "session" in both lanes of s. With L = logsumexp of a lane over its rivals:

        margin_i = f_(1-y)[i] - f_y[i]       gap_i = L[s, y] - f_y[i]

        ce_i   = log(exp(f0) + exp(f1)) - f_y = softplus(margin_i)
        rank_i = log(exp(L) + exp(f_y)) - f_y = softplus(gap_i)        opposite
        rank_i = gap_i, because L counts row i itself                  session

    Gradients, with c_i = grad_i * alpha * sigmoid(margin_i), the pull of calibration, and
    r_i = grad_i * (1 - alpha) * d rank_i / d gap_i, the pull of ranking (sigmoid(gap_i), or 1):

        d / d f_y[i]      -= c_i + r_i
        d / d f_(1-y)[i]  += c_i
        d / d rival j     += softmax of j in its lane * sum of r over the anchors of that lane
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        is_positive: Tensor,
        ids: Tensor,
        num_sessions: int,
        alpha: float,
        contrast: Contrast,
    ) -> Tensor:
        flat = logits.reshape(-1)  # [2B], f_k[i] at 2i + k
        own_at = torch.arange(0, flat.shape[0], 2, device=ids.device) + is_positive  # [B]
        other_at = own_at ^ 1  # [B], the row's other channel
        own, other = flat.index_select(0, own_at), flat.index_select(0, other_at)
        lanes, num_lanes = 2 * ids + is_positive, 2 * num_sessions  # [B], lane (s, y)
        if contrast == "opposite":
            rivals, rival_lanes = other, lanes ^ 1  # [B]
        else:
            both = torch.arange(2, device=ids.device)
            rivals, rival_lanes = flat, (2 * ids[:, None] + both).view(-1)  # [2B]

        largest = finite_or_zero(raw_segment_max(rivals, rival_lanes, num_lanes))  # [2S], m
        scaled = torch.exp(rivals - largest.index_select(0, rival_lanes))
        total = raw_segment_sum(scaled, rival_lanes, num_lanes)  # [2S], 0 without rivals
        # gap = (m - f_y) + log(sum exp(f - m)): the difference first, so huge logits cost nothing.
        gap = largest.index_select(0, lanes) - own + total.log().index_select(0, lanes)
        margin = other - own

        ctx.save_for_backward(own_at, lanes, rival_lanes, scaled, total, gap, margin)
        ctx.alpha, ctx.contrast = alpha, contrast
        rank = _softplus(gap) if contrast == "opposite" else gap
        # loss = alpha * ce + (1 - alpha) * rank
        return alpha * _softplus(margin) + (1.0 - alpha) * rank

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's doing
        ctx: Any, grad_rows: Tensor
    ) -> tuple[Tensor, None, None, None, None, None]:
        own_at, lanes, rival_lanes, scaled, total, gap, margin = ctx.saved_tensors
        calibration = ctx.alpha * grad_rows * margin.sigmoid()  # [B], c_i
        ranking = (1.0 - ctx.alpha) * grad_rows  # [B], r_i
        if ctx.contrast == "opposite":
            ranking = ranking * gap.sigmoid()
        # [2S]. 0 / 0 in a lane without rivals, which is nobody's rival lane: no row reads it below.
        pull = raw_segment_sum(ranking, lanes, total.shape[0]) / total
        rival_grad = scaled * pull.index_select(0, rival_lanes)  # sum of r * softmax

        other_at = own_at ^ 1
        if ctx.contrast == "opposite":  # each row is a rival once, by its other channel
            grad = gap.new_empty(2 * gap.shape[0])
            grad.index_copy_(0, other_at, calibration + rival_grad)
            grad.index_copy_(0, own_at, -(calibration + ranking))
        else:  # each row is a rival by both channels
            grad = rival_grad.index_add_(0, other_at, calibration)
            grad.index_add_(0, own_at, calibration + ranking, alpha=-1)
        return grad.view(-1, 2), None, None, None, None, None


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); at torch's own threshold of 20 it would be inexact in float64."""
    return F.softplus(x, threshold=40.0)


def _check_logits_and_labels(logits: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] != 2:
        raise ValueError(
            "num_class must be 2 with jrc_loss, which needs logits of shape (B, 2), but got "
            f"{tuple(logits.shape)}; set num_class: 2 in the tower"
        )
    check_float_logits(logits)
    check_per_row("labels", labels, logits.shape[0])


def _is_integer(values: Tensor) -> bool:
    kind = values.dtype
    return not (kind.is_floating_point or kind.is_complex or kind == torch.bool)


def _check_session_ids(session_ids: Tensor, num_rows: int) -> None:
    check_per_row("session_ids", session_ids, num_rows)
    if not _is_integer(session_ids):
        raise ValueError(
            f"session_ids must be integers, but got {session_ids.dtype}; cast them, e.g. with "
            "session_ids.long(), or hash strings first"
        )


def _checked_offsets(session_offsets: Tensor, num_rows: int) -> Tensor:
    """Returns the offsets as int64, or raises a ValueError; CUDA values are not read (no sync)."""
    if session_offsets.dim() != 1 or session_offsets.shape[0] < 1:
        raise ValueError(
            "session_offsets must have shape (S + 1,) with S >= 0, but got "
            f"{tuple(session_offsets.shape)}; start with 0 and add the end of each session"
        )
    if not _is_integer(session_offsets):
        raise ValueError(
            f"session_offsets must be integers, but got {session_offsets.dtype}; cast them with "
            "session_offsets.long()"
        )
    offsets = session_offsets.to(torch.int64)
    # Wrong values read outside memory below; on the CPU a look is free.
    if offsets.device.type == "cpu":
        first, last = int(offsets[0]), int(offsets[-1])
        falls = int((offsets.diff() < 0).sum())
        if first != 0 or last != num_rows or falls:
            raise ValueError(
                f"session_offsets must rise from 0 to {num_rows}, the rows of logits, but go from "
                f"{first} to {last} and fall {falls} times; build them from the same batch"
            )
    return offsets
