"""The fused JRC kernel: loss and gradient of the logits in one pass over contiguous sessions.

The mathematics is that of `kernels.jrc_eager`, the definition of truth. A program takes a tile of
adjacent rows, whatever sessions they belong to, so that long and short sessions cost the same:

    rows      | tile 0        | tile 1        | tile 2        |
    sessions  |  a  | b |  c       | d |        e       | f   |

Each row finds its session by bisection of `offsets`; sums and maxima over a session are segmented
scans. Of a session that a tile shares with its neighbours (c, e) the program reads the rows outside
the tile too. That grows with the square of the length, so sessions above LONG_SESSION rows are
shared out by the kernels of `kernels.jrc_long`, which are launched before this one.

Shapes: `B` rows, `S` sessions, `T` tasks with the same sessions, `P` programs per task.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.jit import (
    FINISH_WIDTH,
    MAX_REGISTERS,
    MAX_TASKS,
    arrival_counters,
    finish_reduction,
    launch,
    pick,
    pick_double,
    split_double,
    working_dtype,
)
from kernels.jrc_long import launch_long_sessions
from kernels.jrc_rows import (
    exp_from,
    gradients,
    load_rows,
    range_pulls,
    range_stats,
    rivals,
    row_terms,
    session_of,
    sessions_of_tile,
)

# Rows of a tile: small batches are spread over many processors, large ones keep each busy.
SMALL_BLOCK, LARGE_BLOCK = 256, 512
LARGE_BATCH = 131_072
ROWS_PER_THREAD = 4  # of float32
# Sessions above this length are shared out, in tiles of LONG_CHUNKS blocks.
LONG_SESSION = 16_384
LONG_CHUNKS = 8
SEARCH_WIDTH = 128


@triton.jit
def _max_combine(id_a, a0, a1, id_b, b0, b1):
    same = id_a == id_b
    return (
        id_b,
        tl.where(same, tl.maximum(a0, b0), b0),
        tl.where(same, tl.maximum(a1, b1), b1),
    )


@triton.jit
def _sum_combine(id_a, a0, a1, id_b, b0, b1):
    same = id_a == id_b
    return id_b, tl.where(same, a0, 0.0) + b0, tl.where(same, a1, 0.0) + b1


@triton.jit
def _at(values, index):
    """values[index] of a tile, as a scalar."""
    here = tl.arange(0, values.shape[0]) == index
    return tl.sum(tl.where(here, values, 0))


@triton.jit
def _jrc_kernel(
    logits, labels, weights,  # tuples of T
    alphas, smoothings,  # see pick_double
    offsets_ptr, num_rows, num_sessions,
    rows_ptr, grads_ptr,  # [T, B] and [T, B, 2]
    partials_ptr, num_partials, counters_ptr, losses_ptr, scales_ptr,
    OPPOSITE: tl.constexpr, WEIGHTED: tl.constexpr, WRITE_ROWS: tl.constexpr,
    WRITE_GRADS: tl.constexpr, REDUCE: tl.constexpr, MEAN: tl.constexpr, ACC: tl.constexpr,
    LONG: tl.constexpr, N: tl.constexpr, OUTSIDE: tl.constexpr, SEARCH: tl.constexpr,
    FINISH: tl.constexpr,
):  # fmt: skip
    """Losses and gradients of a tile's rows, without those of sessions above LONG, unless 0."""
    task = tl.program_id(1)
    logits_ptr, labels_ptr = pick(logits, task), pick(labels, task)
    weights_ptr = pick(weights, task)
    alpha, smoothing = pick_double(alphas, task, ACC), pick_double(smoothings, task, ACC)

    # Which sessions.
    tile_start = tl.program_id(0).to(tl.int64) * N
    tile_stop = tl.minimum(tile_start + N, num_rows)
    local = tl.arange(0, N)
    there = local < tile_stop - tile_start
    first = session_of(offsets_ptr, tile_start, num_sessions, SEARCH)
    offsets_ptr += first
    num_others = session_of(offsets_ptr, tile_stop - 1, num_sessions - first, SEARCH).to(tl.int32)
    session = sessions_of_tile(offsets_ptr, tile_start + local, there, num_others)
    stop = tl.load(offsets_ptr + session + 1, mask=there, other=0)
    if LONG:
        there &= stop - tl.load(offsets_ptr + session, mask=there, other=0) <= LONG
    last_row = (tl.minimum(stop, tile_stop) - 1 - tile_start).to(tl.int32)
    last_row = tl.where(there, last_row, 0)

    # What of them lies outside of the tile: before its first row, behind its last.
    before = tl.load(offsets_ptr)
    after = tl.load(offsets_ptr + num_others + 1)
    if LONG:
        before = tl.where(tl.load(offsets_ptr + 1) - before > LONG, tile_start, before)
        last_start = tl.load(offsets_ptr + num_others)
        after = tl.where(after - last_start > LONG, tile_stop, after)
    in_first = there & (session == 0)
    in_last = there & (session == num_others)

    # m and s of each row's session.
    f0, f1, positive = load_rows(
        logits_ptr + 2 * tile_start, labels_ptr + tile_start, local, there, ACC
    )
    rival0, rival1 = rivals(f0, f1, positive, there, OPPOSITE)
    _, m0, m1 = tl.associative_scan((session, rival0, rival1), 0, _max_combine)
    m0, m1 = tl.gather(m0, last_row, 0), tl.gather(m1, last_row, 0)
    bm0, bs0, bm1, bs1 = range_stats(
        logits_ptr, labels_ptr, before, tile_start, OPPOSITE, ACC, OUTSIDE
    )
    am0, as0, am1, as1 = range_stats(
        logits_ptr, labels_ptr, tile_stop, after, OPPOSITE, ACC, OUTSIDE
    )
    m0 = tl.where(in_first, tl.maximum(m0, bm0), m0)
    m1 = tl.where(in_first, tl.maximum(m1, bm1), m1)
    m0 = tl.where(in_last, tl.maximum(m0, am0), m0)
    m1 = tl.where(in_last, tl.maximum(m1, am1), m1)
    _, s0, s1 = tl.associative_scan(
        (session, exp_from(rival0, m0), exp_from(rival1, m1)), 0, _sum_combine
    )
    s0, s1 = tl.gather(s0, last_row, 0), tl.gather(s1, last_row, 0)
    s0 += tl.where(in_first, bs0 * exp_from(bm0, m0), 0.0)
    s1 += tl.where(in_first, bs1 * exp_from(bm1, m1), 0.0)
    s0 += tl.where(in_last, as0 * exp_from(am0, m0), 0.0)
    s1 += tl.where(in_last, as1 * exp_from(am1, m1), 0.0)

    # Losses.
    loss, ce_pull, rank_pull = row_terms(
        f0, f1, positive, m0, s0, m1, s1, alpha, smoothing, OPPOSITE
    )
    weight = tl.where(there, 1.0, 0.0).to(ACC)
    if WEIGHTED:
        weight = tl.load(weights_ptr + tile_start + local, mask=there, other=0.0).to(ACC)
    if WRITE_ROWS:
        rows_ptr += task.to(tl.int64) * num_rows + tile_start
        tl.store(rows_ptr + local, loss, mask=there)

    # Gradients.
    if WRITE_GRADS:
        ce_pull *= weight
        rank_pull = tl.where(there, rank_pull * weight, 0.0)
        _, pull0, pull1 = tl.associative_scan(
            (session, tl.where(positive, 0.0, rank_pull), tl.where(positive, rank_pull, 0.0)),
            0,
            _sum_combine,
        )
        pull0, pull1 = tl.gather(pull0, last_row, 0), tl.gather(pull1, last_row, 0)
        if before < tile_start:
            add0, add1 = range_pulls(
                logits_ptr, labels_ptr, weights_ptr, before, tile_start,
                _at(m0, 0), _at(s0, 0), _at(m1, 0), _at(s1, 0), alpha, smoothing,
                OPPOSITE, WEIGHTED, ACC, OUTSIDE,
            )  # fmt: skip
            pull0 += tl.where(in_first, add0, 0.0)
            pull1 += tl.where(in_first, add1, 0.0)
        if after > tile_stop:
            end = (tile_stop - 1 - tile_start).to(tl.int32)
            add0, add1 = range_pulls(
                logits_ptr, labels_ptr, weights_ptr, tile_stop, after,
                _at(m0, end), _at(s0, end), _at(m1, end), _at(s1, end), alpha, smoothing,
                OPPOSITE, WEIGHTED, ACC, OUTSIDE,
            )  # fmt: skip
            pull0 += tl.where(in_last, add0, 0.0)
            pull1 += tl.where(in_last, add1, 0.0)
        grad0, grad1 = gradients(
            f0, f1, positive, ce_pull, rank_pull, m0, s0, m1, s1, pull0, pull1, OPPOSITE
        )
        grads_ptr += (task.to(tl.int64) * num_rows + tile_start) * 2
        tl.store(grads_ptr + 2 * local, grad0, mask=there)
        tl.store(grads_ptr + 2 * local + 1, grad1, mask=there)

    if REDUCE:
        finish_reduction(
            tl.sum(tl.where(there, loss * weight, 0.0)), tl.sum(weight),
            partials_ptr, num_partials, counters_ptr, losses_ptr, scales_ptr, MEAN, FINISH,
        )  # fmt: skip


def jrc_launch(
    logits: list[Tensor],
    labels: list[Tensor],
    offsets: Tensor,
    weights: list[Tensor],
    alphas: list[float],
    smoothings: list[float],
    contrast: str,
    reduction: str,
    with_grads: bool,
    *,
    block: int | None = None,
    long_session: int = LONG_SESSION,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs the kernels on T tasks whose rows have the same sessions.

    Args:
        logits: T tensors [B, 2] of one floating type.
        labels: T tensors [B] of one type.
        offsets: [S + 1] int64 rising from 0 to B.
        weights: T tensors [B], or none for 1 each.
        alphas: T shares of calibration.
        smoothings: T label smoothings of the calibration term.
        contrast: "opposite" or "session".
        reduction: "none" for the losses of the rows, "sum" or "mean".
        with_grads: whether to compute gradients.
        block: rows of a tile; the default depends on B.
        long_session: sessions above this length are shared out.

    Returns:
        rows: [T, B] losses without weights, or [0] unless reduction is "none".
        grads: [T, B, 2], the gradient of each task's sum of weighted losses, or [0].
        losses, scales: [T] as in `finish_reduction`, or [0] with reduction "none".
        All are float64 for float64 logits, otherwise float32.
    """
    num_tasks, num_rows = len(logits), logits[0].shape[0]
    assert num_tasks <= MAX_TASKS, "arrival_counters has a counter for each task"
    dtype = working_dtype(logits[0])
    with_rows = reduction == "none"
    new = logits[0].new_empty
    rows = new(num_tasks if with_rows else 0, num_rows, dtype=dtype)
    grads = new(num_tasks if with_grads else 0, num_rows, 2, dtype=dtype)
    reduced = 0 if with_rows else num_tasks
    if num_rows == 0:
        return rows, grads, new(reduced, dtype=dtype).zero_(), new(reduced, dtype=dtype).fill_(1.0)
    losses, scales = new(reduced, dtype=dtype), new(reduced, dtype=dtype)

    block = block or (LARGE_BLOCK if num_rows >= LARGE_BATCH else SMALL_BLOCK)
    tile = block * LONG_CHUNKS
    num_tiles = -(-num_rows // tile) if num_rows > long_session else 0
    assert num_tiles == 0 or tile <= long_session, "a tile could share more than two long sessions"
    num_programs = -(-num_rows // block)
    rows_per_thread = ROWS_PER_THREAD if dtype == torch.float32 else ROWS_PER_THREAD // 2
    num_warps = max(block // rows_per_thread // 32, 1)
    num_partials = num_programs + num_tiles
    partials = new(num_tasks, num_partials, 2, dtype=dtype)
    tasks = (
        tuple(each.contiguous() for each in logits),
        tuple(each.contiguous() for each in labels),
        tuple(each.contiguous() for each in weights) or tuple(labels),
        tuple(zip(*map(split_double, alphas), strict=True)),
        tuple(zip(*map(split_double, smoothings), strict=True)),
    )
    sessions = (offsets.contiguous(), num_rows, offsets.shape[0] - 1)
    options: dict[str, Any] = {
        "OPPOSITE": contrast == "opposite",
        "ACC": tl.float64 if dtype == torch.float64 else tl.float32,
        "LONG": long_session if num_tiles else 0,
        "N": block,
        "SEARCH": SEARCH_WIDTH,
        "num_warps": num_warps,
        "maxnreg": MAX_REGISTERS,
    }
    write = {"WEIGHTED": bool(weights), "WRITE_ROWS": with_rows, "WRITE_GRADS": with_grads}
    if num_tiles:
        outputs = (rows, grads, partials, num_partials, num_programs)
        launch_long_sessions(tasks, sessions, outputs, options | {"TILE": tile}, write)
    launch(
        _jrc_kernel, (num_programs, num_tasks), *tasks, *sessions, rows, grads,
        partials, num_partials, arrival_counters(partials.device), losses, scales,
        **options, **write, REDUCE=not with_rows, MEAN=reduction == "mean",
        OUTSIDE=min(block, 32 * num_warps), FINISH=FINISH_WIDTH,
    )  # fmt: skip
    return rows, grads, losses, scales
