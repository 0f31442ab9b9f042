"""Memory that is used again and again: of Arrow's pool, in which the loader works, and of glibc.

A page of memory that is new to the process must be emptied by the system, and in a virtual machine
maybe found first: that costs more than to decode what is then written to it. So what a window, a
batch or a step leaves behind must serve the next one.
"""

import ctypes
import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MOST_BYTES_KEPT = 32 << 20  # the most that glibc takes


def keep_freed_memory() -> None:
    """From now on this process's Arrow memory is kept for the next use, not given back.

    Nothing changes where PyArrow comes without jemalloc, the one allocator that can be told so.
    """
    with suppress(NotImplementedError):
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(-1)


def keep_freed_activations() -> None:
    """From now on glibc keeps what is freed of up to 32 MiB, as the activations of a step on a CPU.

    It would return each to the system, and ask for it again in the next step: thousands of pages.
    Nothing changes with another C library or allocator.
    """
    with suppress(AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(M_MMAP_THRESHOLD, MOST_BYTES_KEPT)
        set_option(M_TRIM_THRESHOLD, -1)  # never


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
