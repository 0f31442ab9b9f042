"""Device functions that the kernels share.

Shapes: `N` rows of a tile, `P` programs of a launch along axis 0, `T` tasks (axis 1 of the grid).
"""

# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# (device code: the type checker takes a call of a jit function for one that never returns)

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_counters: dict[tuple[int, int], Tensor] = {}
MAX_TASKS = 64
FINISH_WIDTH = 1024
# Left alone, ptxas spills a few registers to fit one more block on a processor.
MAX_REGISTERS = 168


@triton.jit
def log1p_exp(x):
    """exp(-|x|), log(1 + exp(-|x|)) and 1 / (1 + exp(-|x|)), to full relative precision."""
    small = tl.exp(-tl.abs(x))  # in (0, 1]
    rounded = 1.0 + small
    # log1p(u) = log(1 + u) * u / ((1 + u) - 1) undoes the rounding of 1 + u (Kahan).
    lost = rounded - 1.0
    log1p = tl.where(lost == 0.0, small, tl.log(rounded) * (small / tl.where(lost == 0, 1.0, lost)))
    return small, log1p, 1.0 / rounded


@triton.jit
def softplus_and_sigmoid(x):
    """log(1 + exp(x)) and its derivative, from one exponential."""
    small, log1p, inverse = log1p_exp(x)
    return tl.maximum(x, 0.0) + log1p, tl.where(x >= 0, inverse, small * inverse)


@triton.jit
def pick(values, task):
    """values[task] of a tuple, for a `task` that is only known at run time."""
    chosen = values[0]
    for number in tl.static_range(1, len(values)):
        chosen = tl.where(task == number, values[number], chosen)
    return chosen


@triton.jit
def pick_double(values, task, ACC: tl.constexpr):
    """values[task] of a tuple of pairs by `split_double`."""
    high, low = values
    return pick(high, task).to(ACC) + pick(low, task).to(ACC)


@triton.jit
def finish_reduction(
    loss_sum,
    weight_sum,
    partials_ptr,  # [T, R, 2]; R - P of them were written by earlier launches
    num_partials,  # R
    counters_ptr,  # [T], zero
    losses_ptr,  # [T]
    scales_ptr,  # [T]
    MEAN: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Adds the sums of all programs of a task: the last to arrive does it, in a fixed order.

    losses[t] = sum(w * l), divided by sum(w) for a mean; scales[t] = that divisor's inverse.
    """
    program, task = tl.program_id(0), tl.program_id(1)
    num_programs = tl.num_programs(0)
    partials_ptr += task.to(tl.int64) * num_partials * 2
    tl.store(partials_ptr + 2 * program, loss_sum)
    tl.store(partials_ptr + 2 * program + 1, weight_sum)
    tl.debug_barrier()
    # Release: our sums are seen by whoever counts after us. Acquire: we see theirs.
    arrived = tl.atomic_add(counters_ptr + task, 1, sem="acq_rel")
    if arrived == num_programs - 1:
        tl.debug_barrier()
        losses = tl.zeros([WIDTH], tl.float64)
        weights = tl.zeros([WIDTH], tl.float64)
        for first in range(0, num_partials, WIDTH):
            at = first + tl.arange(0, WIDTH)
            there = at < num_partials
            # Past L1, which may hold what the memory was before.
            loss_at = partials_ptr + 2 * at
            losses += tl.load(loss_at, mask=there, other=0.0, cache_modifier=".cg").to(tl.float64)
            weights += tl.load(loss_at + 1, mask=there, other=0.0, cache_modifier=".cg").to(
                tl.float64
            )
        total = tl.sum(losses)
        scale = tl.full([], 1.0, tl.float64)
        if MEAN:
            weight = tl.sum(weights)
            scale = 1.0 / tl.where(weight == 0.0, 1.0, weight)  # nothing to average: 0, not NaN
        tl.store(losses_ptr + task, (total * scale).to(losses_ptr.dtype.element_ty))
        tl.store(scales_ptr + task, scale.to(scales_ptr.dtype.element_ty))
        tl.store(counters_ptr + task, 0)  # ready for the next launch


def arrival_counters(device: torch.device) -> Tensor:
    """Zeros [MAX_TASKS] int32 for `finish_reduction`, which leaves them zero.

    Kept per stream, so that a call launches one kernel and no memset; a CUDA graph, which may be
    replayed beside other streams, gets its own.
    """
    if device.type != "cuda":
        return torch.zeros(MAX_TASKS, dtype=torch.int32, device=device)
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros(MAX_TASKS, dtype=torch.int32, device=device)
    stream = torch.cuda.current_stream(device)
    key = (stream.device_index, stream.cuda_stream)
    if key not in _counters:
        _counters[key] = torch.zeros(MAX_TASKS, dtype=torch.int32, device=device)
    return _counters[key]


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor is, otherwise float32: low precision is computed in float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def split_double(value: float) -> tuple[float, float]:
    """`value` as two float32, since Triton passes floats as such: their sum has 48 bits."""
    high = torch.tensor(value, dtype=torch.float32).item()
    return high, value - high


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Launches on the device of the tensors, whichever is current."""
    device = next(arg.device for arg in args if isinstance(arg, Tensor))
    if device.type == "cuda":
        with torch.cuda.device(device):
            kernel[grid](*args, **options)
    else:
        kernel[grid](*args, **options)
