"""Arrow columns as arrays and tensors: what all encoders share. N rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor


class DataError(ValueError):
    """The data breaks a rule of the config; the message has column, rule, value and cure."""


def is_list(type_: pa.DataType) -> bool:
    """Whether each row holds a list."""
    return pa.types.is_list(type_) or pa.types.is_large_list(type_)


def is_text(type_: pa.DataType) -> bool:
    """Whether each row holds text."""
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; a copy only where it is in several."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()


def view(array: pa.Array) -> Tensor:
    """A tensor over the memory of an array of numbers without nulls."""
    return torch.from_dlpack(array)


def integers(array: pa.Array) -> NDArray[np.int64]:
    """int64 [N] of an array of integers without nulls."""
    return pc.cast(array, pa.int64()).to_numpy(zero_copy_only=False)


def validity(array: pa.Array) -> NDArray[np.bool_]:
    """Which rows are not null, bool [N]."""
    return pc.is_valid(array).to_numpy(zero_copy_only=False)


def empty_as_null(array: pa.Array) -> pa.Array:
    """Text with null in place of empty text; other arrays as they are."""
    if not is_text(array.type):
        return array
    is_empty = pc.equal(array, "")
    if not pc.any(is_empty).as_py():
        return array
    return pc.if_else(is_empty, pa.scalar(None, array.type), array)


def numbers(array: pa.Array, where: str) -> pa.Array:
    """Numbers, maybe of text, as float64 (float32 stays), with their nulls. Raises DataError."""
    if pa.types.is_floating(array.type):
        return array
    try:
        return pc.cast(array, pa.float64(), safe=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"{where} must hold numbers: {_reason(error)}") from None


def whole_numbers(array: pa.Array, where: str) -> pa.Array:
    """Integers, maybe of text, with their nulls. Raises DataError."""
    if not is_text(array.type):
        return array
    try:
        return pc.cast(array, pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{where} must hold integers: {_reason(error)}; hash it instead (hash_bucket_size)"
        ) from None


def check_finite(values: NDArray[np.floating], where: str) -> None:
    """Raises DataError with how many are not."""
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise DataError(
            f"{where} must be finite, but has {wrong} NaN or infinite values; "
            f"write null instead to take the default"
        )


def _reason(error: pa.ArrowInvalid) -> str:
    return " ".join(str(error).split())
