"""JRC in eager torch: the definition of truth for the kernels, and what runs outside CUDA.

Sheng et al., "Joint Optimization of Ranking and Calibration with Contextualized Hybrid Model",
KDD 2023 (arXiv 2208.06164). A row i with label y in session s has two logits f[i] = (f0, f1), and

    ce_i   = -log softmax(f[i])[y]                                     calibration
    rank_i = logsumexp(f_y over i and its competitors) - f_y[i]        ranking within the session
    loss_i = alpha * ce_i + (1 - alpha) * rank_i

where the competitors of i are the rows of s with the other label ("opposite") or all other rows
of s ("session"). Label smoothing t takes (1 - t / 2) of -log softmax(f[i])[y] and t / 2 of
-log softmax(f[i])[1 - y] for ce_i; ranking has no smoothed form.

A row i of label y is *anchor* in lane (s, y) and competes as a *rival*: "opposite" in lane
(s, 1 - y), "session" in both lanes of s. With L = logsumexp of a lane over its rivals:

    margin_i = f_(1-y)[i] - f_y[i]       gap_i = L[s, y] - f_y[i]

    ce_i   = log(exp(f0) + exp(f1)) - f_y = softplus(margin_i)          - t / 2 * margin_i
    rank_i = log(exp(L) + exp(f_y)) - f_y = softplus(gap_i)             opposite
    rank_i = gap_i, because L counts row i itself                       session

Gradients, with c_i = grad_i * alpha * (sigmoid(margin_i) - t / 2), the pull of calibration, and
r_i = grad_i * (1 - alpha) * d rank_i / d gap_i, the pull of ranking (sigmoid(gap_i), or 1):

    d / d f_y[i]      -= c_i + r_i
    d / d f_(1-y)[i]  += c_i
    d / d rival j     += softmax of j in its lane * sum of r over the anchors of that lane

Shapes: `B` rows in the batch, `S` sessions. Lane 2 * s + k is channel f_k of session s, and [2S]
tensors have one value per lane.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kernels.segment import Segments, finite_or_zero, raw_segment_max, raw_segment_sum

Contrast = Literal["opposite", "session"]
# exp(x) of |x| up to this is far from the ends of float32 (it overflows at 88), whatever the sum.
_SAFE_SPREAD = 60.0


def jrc_rows_eager(
    logits: Tensor,
    labels: Tensor,
    segments: Segments,
    alpha: float,
    smoothing: float,
    contrast: Contrast,
) -> Tensor:
    """The JRC loss of each row, before weights and reduction.

    Args:
        logits: [B, 2], float32 or float64.
        labels: [B] of 0 and 1.
        segments: the session of each row, in any order.
        alpha: share of calibration.
        smoothing: label smoothing of the calibration term.
        contrast: who competes with a row.

    Returns:
        [B] losses in the type of `logits`.
    """
    is_positive = labels > 0.5 if labels.is_floating_point() else labels > 0
    rows: Any = _JRCRows.apply(logits, is_positive, *segments, alpha, smoothing, contrast)
    return rows


class _JRCRows(Function):
    """The losses of the rows, with the analytic gradient of this module's docstring."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        is_positive: Tensor,
        ids: Tensor,
        num_sessions: int,
        alpha: float,
        smoothing: float,
        contrast: Contrast,
    ) -> Tensor:
        f0, f1 = logits.unbind(1)
        y = is_positive.to(logits.dtype)
        own, other = torch.lerp(f0, f1, y), torch.lerp(f1, f0, y)  # the row's two channels
        own_lanes = (2 * ids).add_(is_positive.long())  # [B], lane (s, y)
        if contrast == "opposite":
            rivals, rival_lanes = other, own_lanes ^ 1  # [B]
        else:
            both = torch.arange(2, device=ids.device)
            rivals, rival_lanes = logits.reshape(-1), (2 * ids[:, None] + both).view(-1)  # [2B]

        shift = _shift(rivals, rival_lanes, 2 * num_sessions)  # m: scalar or [2S]
        has_lanes = shift.dim() > 0
        scaled = rivals - (shift.index_select(0, rival_lanes) if has_lanes else shift)
        total = raw_segment_sum(scaled.exp_(), rival_lanes, 2 * num_sessions)  # [2S], float64
        # gap = (m - f_y) + log(sum exp(f - m)): the difference first, so huge logits cost nothing.
        gap = total.log().index_select(0, own_lanes)
        gap = gap.add_((shift.index_select(0, own_lanes) if has_lanes else shift) - own)
        gap = gap.to(logits.dtype)
        margin = other.sub_(own)

        ctx.save_for_backward(y, own_lanes, rival_lanes, scaled, total, gap, margin)
        ctx.alpha, ctx.smoothing, ctx.contrast = alpha, smoothing, contrast
        # loss = alpha * ce + (1 - alpha) * rank
        rank = _softplus(gap) if contrast == "opposite" else gap
        loss = _softplus(margin).mul_(alpha).add_(rank, alpha=1.0 - alpha)
        return loss.sub_(margin, alpha=0.5 * alpha * smoothing) if smoothing else loss

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's doing
        ctx: Any, grad_rows: Tensor
    ) -> tuple[Tensor, None, None, None, None, None, None]:
        y, own_lanes, rival_lanes, scaled, total, gap, margin = ctx.saved_tensors
        ce_pull = margin.sigmoid()  # [B], c_i
        if ctx.smoothing:
            ce_pull.sub_(0.5 * ctx.smoothing)
        ce_pull.mul_(grad_rows).mul_(ctx.alpha)
        rank_pull = (1.0 - ctx.alpha) * grad_rows  # [B], r_i
        if ctx.contrast == "opposite":
            rank_pull.mul_(gap.sigmoid())
        # [2S]. 0 / 0 in a lane without rivals, which is nobody's rival lane: no row reads it below.
        pull = (raw_segment_sum(rank_pull, own_lanes, len(total)) / total).to(gap.dtype)
        rival_grad = pull.index_select(0, rival_lanes).mul_(scaled)  # sum of r * softmax

        anchor_grad = rank_pull.add_(ce_pull).neg_()
        grad = gap.new_empty(gap.shape[0], 2)
        if ctx.contrast == "opposite":  # each row is a rival once, by its other channel
            other_grad = ce_pull.add_(rival_grad)
            torch.lerp(anchor_grad, other_grad, y, out=grad[:, 0])
            torch.lerp(other_grad, anchor_grad, y, out=grad[:, 1])
        else:  # each row is a rival by both channels
            torch.lerp(anchor_grad, ce_pull, y, out=grad[:, 0])
            torch.lerp(ce_pull, anchor_grad, y, out=grad[:, 1])
            grad.add_(rival_grad.view(-1, 2))
        return grad, None, None, None, None, None, None


def _shift(rivals: Tensor, lanes: Tensor, num_lanes: int) -> Tensor:
    """What to subtract before exponentials: each lane's largest value, [2S].

    One value, a scalar, does for all lanes where the logits lie so close that no exponential comes
    near the ends of float32. The CPU looks, since that is cheaper than the maxima; on CUDA a look
    would stop the device, and under torch.compile break the graph.
    """
    if rivals.device.type == "cpu" and not torch.compiler.is_compiling() and rivals.numel():
        low, high = torch.aminmax(rivals)
        if float(high - low) < _SAFE_SPREAD:  # false for NaN
            return high
    return finite_or_zero(raw_segment_max(rivals, lanes, num_lanes))


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); at torch's own threshold of 20 it would be inexact in float64."""
    return F.softplus(x, threshold=40.0)
