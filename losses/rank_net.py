"""RankNet: logistic loss over the pairs of a session with opposite labels.

Burges et al., "Learning to Rank using Gradient Descent", ICML 2005. A pair of a positive p and a
negative n costs softplus(f_n - f_p). So that each row has a loss of its own to weigh, a row costs
the mean over its competitors, the rows of its session with the other label:

    loss_p = mean over n of softplus(f_n - f_p)          0 without competitors
    loss_n = mean over p of softplus(f_n - f_p)

The rows of a session of both classes then add up to (rows) * (mean cost of a pair): a batch's mean
is the mean cost of a pair, each session in proportion to its rows.

Shapes: `B` rows in the batch, `S` sessions, `T` tiles of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kernels.segment import segments_from_offsets
from losses.session_loss import SessionLoss

# Pairs are computed in tiles of positives by negatives: small ones waste little on short sessions.
_TILE_POSITIVES = 8
_TILE_NEGATIVES = 16
_BLOCK_TILES = 2048  # at once: 1 MiB for a value of each pair in float32


class RankNetLoss(SessionLoss):
    """The loss of this module's docstring.

    Memory is O(B) for sessions of any length; time grows with the number of pairs. The scores are
    free up to a constant per session, so a probability needs a pointwise loss beside this one.

    Args:
        reduction: as in `SessionLoss`.
    """

    loss_name = "rank_net_loss"

    def row_losses(self, scores: Tensor, is_positive: Tensor, offsets: Tensor) -> Tensor:
        """Mean over the row's competitors of softplus(f_n - f_p)."""
        return rank_net_rows(scores, is_positive, offsets)


def rank_net_rows(scores: Tensor, is_positive: Tensor, offsets: Tensor) -> Tensor:
    """The RankNet loss of each row of contiguous sessions, before weights and reduction.

    Tensors in, tensor out: this is the signature a fused kernel takes over. On CUDA the number of
    pairs is read on the host, once forward and once backward.

    Args:
        scores: [B], float64 or float32; any finite magnitude.
        is_positive: [B] bool.
        offsets: [S + 1] int64, rising from 0 to B.

    Returns:
        [B] losses, in the type of `scores`.
    """
    rows: Any = _RankNetRows.apply(scores, is_positive, offsets)
    return rows


class _Lanes(NamedTuple):
    """Rows in the order of their sessions, positives before negatives in each.

    rows     p p n n n | n n | p n         S = 3
    starts   0           5     7
    middles      2       5       8
    ends               5     7     9
    """

    order: Tensor  # [B], the row at each place
    starts: Tensor  # [S], first place of each session
    middles: Tensor  # [S], first place of its negatives
    ends: Tensor  # [S]
    rivals: Tensor  # [B], competitors of the row at each place, at least 1

    @classmethod
    def of(cls, is_positive: Tensor, offsets: Tensor) -> _Lanes:
        ids, num_sessions = segments_from_offsets(offsets, is_positive.shape[0])
        positives = offsets.new_zeros(num_sessions).index_add_(0, ids, is_positive.long())
        order = torch.argsort(2 * ids + ~is_positive, stable=True)
        starts, ends = offsets[:-1], offsets[1:]
        rivals = torch.where(is_positive, (ends - starts - positives)[ids], positives[ids])
        return cls(order, starts, starts + positives, ends, rivals[order].clamp(min=1))


class _Block(NamedTuple):
    """Some tiles: the places of their positives and negatives, and f_n - f_p of every pair."""

    positives: Tensor  # [T, 8]
    negatives: Tensor  # [T, 16]
    gaps: Tensor  # [T, 8, 16], -inf where a tile is not full


def _blocks(scores: Tensor, lanes: _Lanes) -> Iterator[_Block]:
    """Every pair of every session once; `scores` are in the order of the lanes."""
    up = (lanes.middles - lanes.starts + _TILE_POSITIVES - 1) // _TILE_POSITIVES  # [S]
    across = (lanes.ends - lanes.middles + _TILE_NEGATIVES - 1) // _TILE_NEGATIVES  # [S]
    tile_ends = (up * across).cumsum(0)  # [S]
    num_tiles = int(tile_ends[-1]) if tile_ends.shape[0] else 0
    device, last = scores.device, scores.shape[0] - 1
    step_up = torch.arange(_TILE_POSITIVES, device=device)
    step_across = torch.arange(_TILE_NEGATIVES, device=device)
    for first in range(0, num_tiles, _BLOCK_TILES):
        tile = torch.arange(first, min(first + _BLOCK_TILES, num_tiles), device=device)  # [T]
        s = torch.searchsorted(tile_ends, tile, right=True)
        inside = tile - (tile_ends - up * across)[s]  # number of the tile in its session
        tile_row, tile_column = inside // across[s], inside % across[s]
        middles, ends = lanes.middles[s, None], lanes.ends[s, None]
        positives = lanes.starts[s, None] + _TILE_POSITIVES * tile_row[:, None] + step_up
        negatives = middles + _TILE_NEGATIVES * tile_column[:, None] + step_across
        # A place beyond the lane costs nothing: softplus(-inf) = sigmoid(-inf) = 0.
        beyond_p, beyond_n = positives >= middles, negatives >= ends
        positives, negatives = positives.clamp(max=last), negatives.clamp(max=last)
        f_p = scores[positives].masked_fill_(beyond_p, torch.inf)
        f_n = scores[negatives].masked_fill_(beyond_n, -torch.inf)
        yield _Block(positives, negatives, f_n[:, None, :] - f_p[:, :, None])


def _add(total: Tensor, places: Tensor, values: Tensor) -> None:
    total.index_add_(0, places.view(-1), values.reshape(-1).double())


class _RankNetRows(Function):
    """The losses of the rows, with their analytic gradient.

    With c_i = grad_i / (competitors of i), a pair adds sigmoid(f_n - f_p) * (c_p + c_n) to the
    gradient of f_n and takes as much from that of f_p.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, is_positive: Tensor, offsets: Tensor) -> Tensor:
        lanes = _Lanes.of(is_positive, offsets)
        total = scores.new_zeros(scores.shape[0], dtype=torch.float64)
        for block in _blocks(scores[lanes.order], lanes):
            # At torch's own threshold of 20 softplus would be inexact in float64.
            cost = F.softplus(block.gaps, threshold=40.0)
            _add(total, block.positives, cost.sum(2))
            _add(total, block.negatives, cost.sum(1))
        ctx.save_for_backward(scores, *lanes)
        means = (total / lanes.rivals).to(scores.dtype)
        return torch.empty_like(means).index_copy_(0, lanes.order, means)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's doing
        ctx: Any, grad_rows: Tensor
    ) -> tuple[Tensor, None, None]:
        scores, *rest = ctx.saved_tensors
        lanes = _Lanes(*rest)
        share = grad_rows[lanes.order] / lanes.rivals  # [B], c_i
        total = torch.zeros_like(share, dtype=torch.float64)
        for block in _blocks(scores[lanes.order], lanes):
            pull = share[block.positives][:, :, None] + share[block.negatives][:, None, :]
            pull *= block.gaps.sigmoid()
            _add(total, block.negatives, pull.sum(1))
            _add(total, block.positives, -pull.sum(2))
        grad = total.to(scores.dtype)
        return torch.empty_like(grad).index_copy_(0, lanes.order, grad), None, None
