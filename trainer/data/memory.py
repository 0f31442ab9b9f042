"""Arrays in memory of Arrow's pool, which is used again and again.

A page of memory that is new to the process must be emptied by the system, and in a virtual machine
maybe found first: that costs more than to decode what is then written to it. So what a window or a
batch leaves behind must serve the next one.
"""

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


def keep_freed_memory() -> None:
    """From now on this process's Arrow memory is kept for the next use, not given back.

    Nothing changes where PyArrow comes without jemalloc, the one allocator that can be told so.
    """
    with suppress(NotImplementedError):
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(-1)


def pooled_array(shape: Sequence[int], dtype: DTypeLike) -> NDArray:
    """An array without values."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(pa.allocate_buffer(size), dtype=dtype).reshape(shape)


def pooled_concat(arrays: Sequence[NDArray], axis: int = 0) -> NDArray:
    """np.concatenate of arrays of one type."""
    shape = list(arrays[0].shape)
    shape[axis] = sum(each.shape[axis] for each in arrays)
    return np.concatenate(arrays, axis, out=pooled_array(shape, arrays[0].dtype))


def pooled_take(values: Tensor, rows: Tensor) -> Tensor:
    """values[rows]."""
    taken = pooled_array((len(rows), *values.shape[1:]), values.numpy().dtype)
    return torch.index_select(values, 0, rows, out=torch.from_numpy(taken))
