"""Eager segment operations over sessions: the definition of truth for every kernel.

Shapes: `B` rows in the batch, `S` sessions. The loader keeps a session in adjacent rows, and
`offsets` says where each starts, closed by `B` (the layout of a TorchRec `JaggedTensor`):

    values   a0 a1 a2 | b0 | c0 c1        B = 6
    offsets  0          3    4      6     S = 3
    ids      0  0  0    1    2  2

Empty sessions (`offsets[s] == offsets[s + 1]`), `S = 0` and `B = 0` are allowed. The operations
read only `ids`, so a session may also be split finer by renumbering (JRC splits by channel).
Each takes O(B + S) memory, never stops for the host and can be differentiated twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

NEG_INF = float("-inf")


class Segments(NamedTuple):
    """Which of `num_segments` segments each row belongs to."""

    ids: Tensor  # [B] int64 in [0, num_segments)
    num_segments: int


def segments_from_offsets(offsets: Tensor, num_rows: int) -> Segments:
    """The sessions of `num_rows` contiguous rows.

    Args:
        offsets: [S + 1] int64, rising from 0 to `num_rows`; the values are not read on the host.
        num_rows: `B`.
    """
    # A start at offsets[s] raises the id of every later row by one; empty sessions pile up.
    steps = offsets.new_zeros(num_rows + 1)
    inner = offsets[1:-1]
    steps.index_add_(0, inner, torch.ones_like(inner))
    return Segments(steps.cumsum(0)[:num_rows], offsets.shape[0] - 1)


def segments_from_ids(session_ids: Tensor) -> Segments:
    """The sessions of rows in any order, from integers that are equal within a session, [B].

    Numbers them in ascending order. The CPU counts them; elsewhere, where that would stop the
    device, there are always `B` segments, the surplus ones empty.
    """
    num_rows = session_ids.shape[0]
    order, ranks = _ranks_in_order(session_ids)
    ids = torch.empty_like(ranks).scatter_(0, order, ranks)
    if session_ids.device.type == "cpu" and not torch.compiler.is_compiling() and num_rows:
        return Segments(ids, int(ranks[-1]) + 1)
    return Segments(ids, num_rows)


def sort_into_offsets(session_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Order and offsets that make rows with equal `session_ids` [B] (integers) contiguous.

    Returns:
        order: int64 [B]; `rows[order]` is contiguous, and stable within a session.
        offsets: int64 [B + 1]. The number of sessions is data, so to keep shapes static (and the
            host out of it) there are always `B` sessions, the surplus ones empty and at the end.
    """
    order, ranks = _ranks_in_order(session_ids)
    row_counts = ranks.new_zeros(ranks.shape[0] + 1).index_add_(
        0, ranks + 1, torch.ones_like(ranks)
    )
    return order, row_counts.cumsum(0)


def _ranks_in_order(session_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The stable order [B] of the ids, and the number of each row's session in that order, [B]."""
    # The widest integer keeps distinct ids distinct, whatever type they had.
    sorted_ids, order = torch.sort(session_ids.to(torch.int64), stable=True)
    is_start = torch.ones_like(sorted_ids)
    is_start[1:] = sorted_ids[1:] != sorted_ids[:-1]
    return order, is_start.cumsum(0).sub_(1)


def segment_sum(values: Tensor, segments: Segments) -> Tensor:
    """Sum of `values` [B] per segment -> [S]; 0 for an empty one.

    Accumulates in float64: in float32 the sum of 20 million times 0.3 is 3 % wrong. On CUDA the
    order of addition varies, which float64 keeps nearly always below what float32 can show.
    """
    return _SegmentSum.apply(values, segments.ids, segments.num_segments)


def segment_max(values: Tensor, segments: Segments) -> Tensor:
    """Largest of `values` [B] per segment -> [S]; -inf for an empty one.

    Rows that tie for the maximum share its gradient equally, as in `torch.amax`.
    """
    return _SegmentMax.apply(values, segments.ids, segments.num_segments)


def segment_logsumexp(values: Tensor, segments: Segments) -> Tensor:
    """log(sum(exp(values))) per segment, [B] -> [S]; -inf for an empty one.

    -inf among `values` is an absent row: it adds nothing and receives a zero gradient.
    """
    return _SegmentLogSumExp.apply(values, segments.ids, segments.num_segments)


def segment_broadcast(values: Tensor, segments: Segments) -> Tensor:
    """Hands each row the value of its segment, [S] -> [B]: the transpose of `segment_sum`."""
    return _SegmentBroadcast.apply(values, segments.ids, segments.num_segments)


def raw_segment_sum(values: Tensor, ids: Tensor, count: int) -> Tensor:
    """`segment_sum` outside autograd and in float64, for use inside a `Function`."""
    total = torch.zeros(count, dtype=torch.float64, device=values.device)
    return total.scatter_add_(0, ids, values.double())


def raw_segment_max(values: Tensor, ids: Tensor, count: int) -> Tensor:
    """`segment_max` outside autograd, for use inside a `Function`."""
    return values.new_full((count,), NEG_INF).scatter_reduce_(0, ids, values, "amax")


def finite_or_zero(values: Tensor) -> Tensor:
    """Replaces infinities by 0, so that `x - finite_or_zero(max)` is never inf - inf."""
    return values.masked_fill(values.isinf(), 0.0)


class _SegmentSum(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ids: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(ids)
        return raw_segment_sum(values, ids, count).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_total,) = grad_outputs
        (ids,) = ctx.saved_tensors
        return grad_total.index_select(0, ids), None, None


class _SegmentMax(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ids: Tensor, count: int) -> Tensor:
        largest = raw_segment_max(values, ids, count)
        ctx.save_for_backward(values, largest, ids)
        return largest

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_largest,) = grad_outputs
        values, largest, ids = ctx.saved_tensors
        at_max = (values == largest.index_select(0, ids)).to(values.dtype)
        ties = raw_segment_sum(at_max, ids, largest.shape[0]).clamp(min=1.0).to(values.dtype)
        return at_max * (grad_largest / ties).index_select(0, ids), None, None


class _SegmentLogSumExp(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ids: Tensor, count: int) -> Tensor:
        largest = finite_or_zero(raw_segment_max(values, ids, count))
        # log sum exp(x) = m + log sum exp(x - m); log(0) = -inf is the empty segment's answer.
        scaled = torch.exp(values - largest.index_select(0, ids))
        result = largest + torch.log(raw_segment_sum(scaled, ids, count).to(values.dtype))
        ctx.save_for_backward(values, result, ids)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_result,) = grad_outputs
        values, result, ids = ctx.saved_tensors
        # d/dx_i = softmax_i = exp(x_i - logsumexp); exp(-inf - 0) = 0 for absent rows.
        softmax = torch.exp(values - finite_or_zero(result).index_select(0, ids))
        return softmax * grad_result.index_select(0, ids), None, None


class _SegmentBroadcast(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ids: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.count = count
        return values.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_rows,) = grad_outputs
        (ids,) = ctx.saved_tensors
        return raw_segment_sum(grad_rows, ids, ctx.count).to(grad_rows.dtype), None, None
