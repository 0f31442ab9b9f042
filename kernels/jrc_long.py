"""JRC of sessions so long that many programs share each: three small kernels.

The rows are cut into tiles of TILE rows. A tile has rows of at most two sessions above LONG >= TILE
rows, those of its first row and of its last ("side" 0 and 1):

    tiles         |   0   |   1   |   2   |   3   |
    sessions      | a |          B            | c |      B is long: (0, side 1), (1, 0), ...

`_long_stats` finds m and s of each part, `_long_pulls` joins them and finds the pulls of each
part, `_long_rows` joins those and writes. Tiles without a long session end at once.

Shapes: `T` tasks, `P` tiles.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from kernels.jit import launch, pick, pick_double
from kernels.jrc_rows import (
    exp_from,
    gradients,
    load_rows,
    merge,
    range_pulls,
    range_stats,
    row_terms,
    session_of,
)


@triton.jit
def _long_part(offsets_ptr, num_rows, num_sessions, side, LONG, TILE, SEARCH: tl.constexpr):
    """What a tile of TILE <= LONG rows has of a long session: at most one on each side.

    Side 0 is the session of the tile's first row, side 1 that of its last. Returns the session's
    start and stop and the rows [low, high) that the tile has of it; none if it is not long, or is
    on both sides and this is the second.
    """
    tile_start = tl.program_id(0).to(tl.int64) * TILE
    tile_stop = tl.minimum(tile_start + TILE, num_rows)
    row = tl.where(side == 0, tile_start, tile_stop - 1)
    session = session_of(offsets_ptr, row, num_sessions, SEARCH)
    start, stop = tl.load(offsets_ptr + session), tl.load(offsets_ptr + session + 1)
    low, high = tl.maximum(start, tile_start), tl.minimum(stop, tile_stop)
    if (stop - start <= LONG) | ((side == 1) & (start <= tile_start)):
        high = low
    return start, stop, low, high


@triton.jit
def _slots(tiles, start, TILE):
    """Where the tiles of a session that begins at `start` keep its part (side 0 or 1)."""
    return 2 * tiles + (tiles * TILE < start).to(tl.int64)


@triton.jit
def _long_session_stats(stats_ptr, start, stop, TILE, ACC: tl.constexpr, N: tl.constexpr):
    """m and s of both lanes of a long session, from its parts."""
    m0 = tl.full([], float("-inf"), ACC)
    m1 = tl.full([], float("-inf"), ACC)
    s0 = tl.full([], 0.0, ACC)
    s1 = tl.full([], 0.0, ACC)
    tile = start // TILE
    stop_tile = (stop - 1) // TILE + 1
    while tile < stop_tile:
        tiles = tile + tl.arange(0, N)
        there = tiles < stop_tile
        at = stats_ptr + 4 * _slots(tiles, start, TILE)
        part_m0 = tl.load(at, mask=there, other=float("-inf"))
        part_s0 = tl.load(at + 1, mask=there, other=0.0)
        part_m1 = tl.load(at + 2, mask=there, other=float("-inf"))
        part_s1 = tl.load(at + 3, mask=there, other=0.0)
        new0, new1 = tl.max(part_m0), tl.max(part_m1)
        m0, s0 = merge(m0, s0, new0, tl.sum(part_s0 * exp_from(part_m0, new0)))
        m1, s1 = merge(m1, s1, new1, tl.sum(part_s1 * exp_from(part_m1, new1)))
        tile += N
    return m0, s0, m1, s1


@triton.jit
def _long_session_pulls(pulls_ptr, start, stop, TILE, ACC: tl.constexpr, N: tl.constexpr):
    """The pulls of both lanes of a long session, from its parts."""
    pull0 = tl.full([], 0.0, ACC)
    pull1 = tl.full([], 0.0, ACC)
    tile = start // TILE
    stop_tile = (stop - 1) // TILE + 1
    while tile < stop_tile:
        tiles = tile + tl.arange(0, N)
        there = tiles < stop_tile
        at = pulls_ptr + 2 * _slots(tiles, start, TILE)
        pull0 += tl.sum(tl.load(at, mask=there, other=0.0))
        pull1 += tl.sum(tl.load(at + 1, mask=there, other=0.0))
        tile += N
    return pull0, pull1


@triton.jit
def _long_stats(
    logits, labels, offsets_ptr, num_rows, num_sessions,
    stats_ptr,  # [T, tiles, 2 sides, 4]: m0, s0, m1, s1 of a part
    OPPOSITE: tl.constexpr, ACC: tl.constexpr, LONG: tl.constexpr, TILE: tl.constexpr,
    N: tl.constexpr, SEARCH: tl.constexpr,
):  # fmt: skip
    """First of three: m and s of each part of a long session."""
    task, tile = tl.program_id(1), tl.program_id(0).to(tl.int64)
    logits_ptr, labels_ptr = pick(logits, task), pick(labels, task)
    stats_ptr += task.to(tl.int64) * tl.num_programs(0) * 8
    for side in range(2):
        _, _, low, high = _long_part(offsets_ptr, num_rows, num_sessions, side, LONG, TILE, SEARCH)
        if low < high:
            m0, s0, m1, s1 = range_stats(logits_ptr, labels_ptr, low, high, OPPOSITE, ACC, N)
            at = stats_ptr + (2 * tile + side) * 4
            tl.store(at, m0)
            tl.store(at + 1, s0)
            tl.store(at + 2, m1)
            tl.store(at + 3, s1)


@triton.jit
def _long_pulls(
    logits, labels, weights, alphas, smoothings, offsets_ptr, num_rows, num_sessions,
    stats_ptr,
    pulls_ptr,  # [T, tiles, 2 sides, 2]
    OPPOSITE: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr, LONG: tl.constexpr,
    TILE: tl.constexpr, N: tl.constexpr, SEARCH: tl.constexpr,
):  # fmt: skip
    """Second of three: the pulls of each part, with the m and s of its whole session."""
    task, tile = tl.program_id(1), tl.program_id(0).to(tl.int64)
    logits_ptr, labels_ptr = pick(logits, task), pick(labels, task)
    weights_ptr = pick(weights, task)
    alpha, smoothing = pick_double(alphas, task, ACC), pick_double(smoothings, task, ACC)
    stats_ptr += task.to(tl.int64) * tl.num_programs(0) * 8
    pulls_ptr += task.to(tl.int64) * tl.num_programs(0) * 4
    for side in range(2):
        start, stop, low, high = _long_part(
            offsets_ptr, num_rows, num_sessions, side, LONG, TILE, SEARCH
        )
        if low < high:
            m0, s0, m1, s1 = _long_session_stats(stats_ptr, start, stop, TILE, ACC, N)
            pull0, pull1 = range_pulls(
                logits_ptr, labels_ptr, weights_ptr, low, high, m0, s0, m1, s1, alpha, smoothing,
                OPPOSITE, WEIGHTED, ACC, N,
            )  # fmt: skip
            tl.store(pulls_ptr + (2 * tile + side) * 2, pull0)
            tl.store(pulls_ptr + (2 * tile + side) * 2 + 1, pull1)


@triton.jit
def _long_rows(
    logits, labels, weights, alphas, smoothings, offsets_ptr, num_rows, num_sessions,
    stats_ptr, pulls_ptr, rows_ptr, grads_ptr, partials_ptr, num_partials, first_partial,
    OPPOSITE: tl.constexpr, WEIGHTED: tl.constexpr, WRITE_ROWS: tl.constexpr,
    WRITE_GRADS: tl.constexpr, ACC: tl.constexpr, LONG: tl.constexpr, TILE: tl.constexpr,
    N: tl.constexpr, SEARCH: tl.constexpr,
):  # fmt: skip
    """Third of three: losses and gradients of the rows of long sessions."""
    task, tile = tl.program_id(1), tl.program_id(0).to(tl.int64)
    logits_ptr, labels_ptr = pick(logits, task), pick(labels, task)
    weights_ptr = pick(weights, task)
    alpha, smoothing = pick_double(alphas, task, ACC), pick_double(smoothings, task, ACC)
    stats_ptr += task.to(tl.int64) * tl.num_programs(0) * 8
    pulls_ptr += task.to(tl.int64) * tl.num_programs(0) * 4
    rows_ptr += task.to(tl.int64) * num_rows
    grads_ptr += task.to(tl.int64) * num_rows * 2
    loss_sum = tl.full([], 0.0, ACC)
    weight_sum = tl.full([], 0.0, ACC)
    for side in range(2):
        start, stop, low, high = _long_part(
            offsets_ptr, num_rows, num_sessions, side, LONG, TILE, SEARCH
        )
        if low < high:
            m0, s0, m1, s1 = _long_session_stats(stats_ptr, start, stop, TILE, ACC, N)
            pull0 = tl.full([], 0.0, ACC)
            pull1 = tl.full([], 0.0, ACC)
            if WRITE_GRADS:
                pull0, pull1 = _long_session_pulls(pulls_ptr, start, stop, TILE, ACC, N)
            at = low
            while at < high:
                rows = at + tl.arange(0, N)
                there = rows < high
                f0, f1, positive = load_rows(logits_ptr, labels_ptr, rows, there, ACC)
                loss, ce_pull, rank_pull = row_terms(
                    f0, f1, positive, m0, s0, m1, s1, alpha, smoothing, OPPOSITE
                )
                weight = tl.where(there, 1.0, 0.0).to(ACC)
                if WEIGHTED:
                    weight = tl.load(weights_ptr + rows, mask=there, other=0.0).to(ACC)
                loss_sum += tl.sum(tl.where(there, loss * weight, 0.0))
                weight_sum += tl.sum(weight)
                if WRITE_ROWS:
                    tl.store(rows_ptr + rows, loss, mask=there)
                if WRITE_GRADS:
                    grad0, grad1 = gradients(
                        f0, f1, positive, ce_pull * weight, rank_pull * weight,
                        m0, s0, m1, s1, pull0, pull1, OPPOSITE,
                    )  # fmt: skip
                    tl.store(grads_ptr + 2 * rows, grad0, mask=there)
                    tl.store(grads_ptr + 2 * rows + 1, grad1, mask=there)
                at += N
    slot = task.to(tl.int64) * num_partials + first_partial + tile
    tl.store(partials_ptr + 2 * slot, loss_sum)
    tl.store(partials_ptr + 2 * slot + 1, weight_sum)


def launch_long_sessions(
    tasks: tuple[Any, ...],
    sessions: tuple[Tensor, int, int],
    outputs: tuple[Tensor, Tensor, Tensor, int, int],
    options: dict[str, Any],
    write: dict[str, bool],
) -> None:
    """Writes losses, gradients and partial sums of the rows of all long sessions.

    Args:
        tasks: tuples of T logits, labels and weights, and the alphas and smoothings.
        sessions: offsets, B, S.
        outputs: rows, grads, partials, the number of partials and the first for these tiles.
        options: compile-time arguments of all three kernels.
        write: compile-time arguments of those that know weights, and what to write.
    """
    logits, labels, *_ = tasks
    _, num_rows, _ = sessions
    partials = outputs[2]
    grid = (-(-num_rows // options["TILE"]), len(logits))
    stats = partials.new_empty(grid[1], grid[0], 2, 4)
    pulls = partials.new_empty(grid[1], grid[0], 2, 2)
    weighted = {"WEIGHTED": write["WEIGHTED"]}
    launch(_long_stats, grid, logits, labels, *sessions, stats, **options)
    if write["WRITE_GRADS"]:
        launch(_long_pulls, grid, *tasks, *sessions, stats, pulls, **options, **weighted)
    launch(_long_rows, grid, *tasks, *sessions, stats, pulls, *outputs, **options, **write)
