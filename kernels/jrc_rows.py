"""Device functions of the JRC kernels: sessions, rows and lanes.

The mathematics is that of `kernels.jrc_eager`, the definition of truth. A *lane* is one channel of
one session; `m` and `s` are a lane's largest rival logit and its sum of exp(f - m), `pull` the sum
of the ranking gradients of its anchors. `f0`, `f1` are logits of rows, `ACC` is the type of
computation and `N` the rows that a program looks at together.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.jit import softplus_and_sigmoid

# ------------------------------------------------------------------ sessions


@triton.jit
def session_of(offsets_ptr, row, num_sessions, WIDTH: tl.constexpr):
    """The largest s with offsets[s] <= row: the session of a row, past any empty ones."""
    low = row * 0
    span = low + num_sessions  # the answer is in [low, low + span)
    while span > 1:
        step = (span + WIDTH - 1) // WIDTH
        probes = low + step * tl.arange(0, WIDTH)
        inside = probes < low + span
        starts = tl.load(offsets_ptr + probes, mask=inside, other=0)
        before = tl.sum((inside & (starts <= row)).to(tl.int64))
        bottom = low + (before - 1) * step
        span = tl.minimum(step, low + span - bottom)
        low = bottom
    return low


@triton.jit
def sessions_of_tile(offsets_ptr, rows, there, num_others):
    """The session of each row of a tile, counted from that of its first row.

    `offsets_ptr` points at the first session's start, `num_others` sessions follow it.
    """
    low = tl.zeros(rows.shape, tl.int32)
    high = low + num_others
    span = num_others
    while span > 0:
        middle = (low + high + 1) >> 1
        starts = tl.load(offsets_ptr + middle, mask=there, other=0)
        low = tl.where(starts <= rows, middle, low)
        high = tl.where(starts <= rows, high, middle - 1)
        span >>= 1
    return low


# ------------------------------------------------------------------ rows and lanes


@triton.jit
def load_rows(logits_ptr, labels_ptr, rows, there, ACC: tl.constexpr):
    """f0, f1 and whether the label is 1."""
    f0 = tl.load(logits_ptr + 2 * rows, mask=there, other=0.0).to(ACC)
    f1 = tl.load(logits_ptr + 2 * rows + 1, mask=there, other=0.0).to(ACC)
    positive = tl.load(labels_ptr + rows, mask=there, other=0).to(tl.float32) > 0.5
    return f0, f1, positive


@triton.jit
def rivals(f0, f1, positive, there, OPPOSITE: tl.constexpr):
    """A row's logits in the lanes where it competes, -inf in a lane where it does not."""
    absent = float("-inf")
    if OPPOSITE:  # a row competes by the channel of the other label
        rival0 = tl.where(there & positive, f0, absent)
        rival1 = tl.where(there & (positive == 0), f1, absent)
    else:
        rival0 = tl.where(there, f0, absent)
        rival1 = tl.where(there, f1, absent)
    return rival0, rival1


@triton.jit
def exp_from(values, largest):
    """exp(values - largest), and 0 in a lane that has no rivals at all."""
    return tl.where(values == float("-inf"), 0.0, tl.exp(values - largest))


@triton.jit
def merge(m_a, s_a, m_b, s_b):
    """Joins the (m, s) of two parts of a lane."""
    m = tl.maximum(m_a, m_b)
    return m, s_a * exp_from(m_a, m) + s_b * exp_from(m_b, m)


@triton.jit
def row_terms(f0, f1, positive, m0, s0, m1, s1, alpha, smoothing, OPPOSITE: tl.constexpr):
    """Loss of a row, and its gradients by margin and by gap (see `kernels.jrc_eager`)."""
    own = tl.where(positive, f1, f0)
    other = tl.where(positive, f0, f1)
    m = tl.where(positive, m1, m0)
    s = tl.where(positive, s1, s0)
    # gap = logsumexp of the rivals - f_y: the difference first, so huge logits cost nothing. It
    # is -inf without rivals, where there is nothing to rank: softplus and slope are 0.
    gap = (m - own) + tl.log(s)
    margin = other - own
    ce, ce_slope = softplus_and_sigmoid(margin)
    ce -= 0.5 * smoothing * margin  # (1 - s / 2) * -log p_y - s / 2 * log p_(1 - y)
    ce_slope -= 0.5 * smoothing
    if OPPOSITE:
        rank, rank_slope = softplus_and_sigmoid(gap)
    else:
        rank = gap
        rank_slope = tl.full(gap.shape, 1.0, gap.dtype)
    loss = alpha * ce + (1.0 - alpha) * rank
    return loss, alpha * ce_slope, (1.0 - alpha) * rank_slope


@triton.jit
def gradients(
    f0, f1, positive, ce_pull, rank_pull, m0, s0, m1, s1, pull0, pull1, OPPOSITE: tl.constexpr
):
    """d / d f0 and d / d f1 of a row that is anchor in its own lane and rival in others."""
    anchor = -(ce_pull + rank_pull)
    # softmax in the lane * sum of pulls of its anchors
    if OPPOSITE:  # rival by the channel of the other label
        other = tl.where(positive, f0, f1)
        m = tl.where(positive, m0, m1)
        share = tl.where(positive, pull0, pull1) / tl.where(positive, s0, s1)
        rival = ce_pull + tl.exp(other - m) * share
        grad0 = tl.where(positive, rival, anchor)
        grad1 = tl.where(positive, anchor, rival)
    else:
        grad0 = tl.exp(f0 - m0) * (pull0 / s0) + tl.where(positive, ce_pull, anchor)
        grad1 = tl.exp(f1 - m1) * (pull1 / s1) + tl.where(positive, anchor, ce_pull)
    return grad0, grad1


@triton.jit
def range_stats(
    logits_ptr, labels_ptr, first, stop, OPPOSITE: tl.constexpr, ACC: tl.constexpr, N: tl.constexpr
):
    """m and s of both lanes over the rows [first, stop) of one session."""
    m0 = tl.full([], float("-inf"), ACC)
    m1 = tl.full([], float("-inf"), ACC)
    s0 = tl.full([], 0.0, ACC)
    s1 = tl.full([], 0.0, ACC)
    while first < stop:
        local = tl.arange(0, N)
        there = local < stop - first
        f0, f1, positive = load_rows(logits_ptr + 2 * first, labels_ptr + first, local, there, ACC)
        rival0, rival1 = rivals(f0, f1, positive, there, OPPOSITE)
        new0, new1 = tl.max(rival0), tl.max(rival1)
        m0, s0 = merge(m0, s0, new0, tl.sum(exp_from(rival0, new0)))
        m1, s1 = merge(m1, s1, new1, tl.sum(exp_from(rival1, new1)))
        first += N
    return m0, s0, m1, s1


@triton.jit
def range_pulls(
    logits_ptr, labels_ptr, weights_ptr, first, stop, m0, s0, m1, s1, alpha, smoothing,
    OPPOSITE: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Sum of the ranking gradients by label, over the rows [first, stop) of one session."""
    pull0 = tl.full([], 0.0, ACC)
    pull1 = tl.full([], 0.0, ACC)
    while first < stop:
        local = tl.arange(0, N)
        there = local < stop - first
        f0, f1, positive = load_rows(logits_ptr + 2 * first, labels_ptr + first, local, there, ACC)
        _, _, rank_pull = row_terms(f0, f1, positive, m0, s0, m1, s1, alpha, smoothing, OPPOSITE)
        if WEIGHTED:
            rank_pull *= tl.load(weights_ptr + first + local, mask=there, other=0.0).to(ACC)
        rank_pull = tl.where(there, rank_pull, 0.0)
        pull0 += tl.sum(tl.where(positive, 0.0, rank_pull))
        pull1 += tl.sum(tl.where(positive, rank_pull, 0.0))
        first += N
    return pull0, pull1
