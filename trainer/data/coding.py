"""Values -> ids, and numbers -> normalized numbers: whole arrays, no Python per value.

All of it is what preprocessing/feature_encoding.py computes in Spark.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from preprocessing.normalizer import Normalizer
from trainer.data.columns import (
    DataError,
    check_finite,
    integers,
    is_text,
    numbers,
    view,
    whole_numbers,
)
from trainer.data.features import Boundaries, Hashed, IdFeature, Vocabulary, ZeroCollision
from trainer.data.hashing import hash_integers, hash_strings

IdArray = NDArray[np.integer]
MAX_HASH = 2**63 - 2  # of zero-collision hashing; TorchRec means "no id" by 2^63 - 1


def encode_values(array: pa.Array, feature: IdFeature) -> IdArray:
    """Ids in [0, num_embeddings) of values without nulls, integers [N].

    With zero-collision hashing they are hashes in [0, MAX_HASH].

    Raises:
        DataError: a value has no id.
    """
    coding = feature.coding
    if isinstance(coding, Hashed):
        return hash_ids(array, feature.num_embeddings)
    if isinstance(coding, ZeroCollision):
        return wide_hashes(array)
    if isinstance(coding, Vocabulary):
        return _look_up(array, coding)
    where = f"id_feature `{feature.name}`: column `{feature.column}`"
    if isinstance(coding, Boundaries):
        return bucketize(normalize(numbers(array, where), coding.normalizer, where), coding.limits)
    values = view(whole_numbers(array, where))
    if len(values):
        low, high = (int(each) for each in torch.aminmax(values))
        check_ids(feature, low, high)
    return values.numpy()


def check_ids(feature: IdFeature, low: int, high: int) -> None:
    """The least and the greatest id of a column must be in its table. Raises DataError."""
    if low < 0 or high >= feature.num_embeddings:
        raise DataError(
            f"id_feature `{feature.name}`: values of column `{feature.column}` must be in "
            f"[0, {feature.num_embeddings}), but got: {low if low < 0 else high}; raise "
            f"num_buckets, or hash the ids (hash_bucket_size with fg_mode: FG_NORMAL)"
        )


def default_ids(feature: IdFeature, type_: pa.DataType) -> IdArray:
    """Ids of a feature's default values, which become what the column holds, of `type_`.

    Numbers with boundaries are not normalized, as TorchEasyRec does not.

    Raises:
        DataError: a default value cannot be of that type, or has no id.
    """
    where = f"id_feature `{feature.name}`: default_value"
    texts = pa.array(feature.default_values, pa.string())
    if isinstance(feature.coding, Boundaries):
        return bucketize(_floats(numbers(texts, where)), feature.coding.limits)
    if pa.types.is_integer(type_):
        texts = whole_numbers(texts, where)
    return encode_values(texts, feature)


def hash_ids(array: pa.Array, num_buckets: int) -> NDArray[np.int64]:
    """xxhash64 modulo num_buckets, as Spark's `pmod(xxhash64(column), num_buckets)`."""
    return _hashed(array, lambda hashes: hashes % num_buckets)


def wide_hashes(array: pa.Array) -> NDArray[np.int64]:
    """xxhash64 without its last bit, in [0, MAX_HASH]."""
    last = np.uint64(MAX_HASH)
    return _hashed(
        array,
        lambda hashes: np.minimum(hashes.view(np.uint64) >> np.uint64(1), last).view(np.int64),
    )


def _hashed(
    array: pa.Array, to_ids: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> NDArray[np.int64]:
    if pa.types.is_integer(array.type):
        return to_ids(hash_integers(integers(array)))
    encoded = array.dictionary_encode()
    return to_ids(hash_strings(encoded.dictionary))[integers(encoded.indices)]


def _look_up(array: pa.Array, vocabulary: Vocabulary) -> NDArray[np.int64]:
    encoded = array.dictionary_encode()
    words = encoded.dictionary
    if not is_text(words.type):
        words = pc.cast(words, pa.string())
    places = pc.fill_null(pc.index_in(words, vocabulary.words), len(vocabulary.words))
    return vocabulary.ids[integers(places)][integers(encoded.indices)]


def bucketize(values: NDArray[np.float32], limits: tuple[float, ...]) -> NDArray[np.int64]:
    """How many limits are not above each value: 1 limit l splits into ..., l) and [l, ..."""
    return np.searchsorted(np.array(limits, dtype=np.float32), values, side="right")


def normalize(array: pa.Array, normalizer: Normalizer | None, where: str) -> NDArray[np.float32]:
    """float32 [N] of numbers without nulls, computed in float64.

    Raises:
        DataError: a number, or what becomes of it, is not finite.
    """
    if normalizer is None:
        values = _floats(array)
        check_finite(values, where)
        return values
    exact = np.asarray(array.to_numpy(zero_copy_only=False), np.float64)
    check_finite(exact, where)
    with np.errstate(all="ignore"):  # what is not finite is found below
        values = np.broadcast_to(normalizer.evaluate(exact, NUMPY), exact.shape)
        values = values.astype(np.float32)
    check_finite(values, f"{where}, by normalizer `{normalizer.text}`,")
    return values


def _floats(array: pa.Array) -> NDArray[np.float32]:
    return view(array).float().numpy()


def _half_away_from_zero(x: Any) -> Any:
    return np.trunc(x + np.copysign(0.5, x))


# What a normalizer's expression may call, see preprocessing/normalizer.py.
NUMPY: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("asin", "acos", "atan")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("asinh", "acosh", "atanh")},
    **{name: getattr(np, name) for name in ("log", "log2", "log10", "exp", "sqrt", "sign")},
    **{name: getattr(np, name) for name in ("abs", "rint", "floor", "ceil", "trunc")},
    "ln": np.log,
    "round": _half_away_from_zero,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "min": np.minimum,
    "max": np.maximum,
    "neg": np.negative,
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
    "?:": lambda condition, first, second: np.where(np.not_equal(condition, 0), first, second),
    "||": lambda a, b: np.logical_or(a, b).astype(np.float64),
    "&&": lambda a, b: np.logical_and(a, b).astype(np.float64),
    "<=": lambda a, b: np.less_equal(a, b).astype(np.float64),
    ">=": lambda a, b: np.greater_equal(a, b).astype(np.float64),
    "<": lambda a, b: np.less(a, b).astype(np.float64),
    ">": lambda a, b: np.greater(a, b).astype(np.float64),
    "==": lambda a, b: np.equal(a, b).astype(np.float64),
    "!=": lambda a, b: np.not_equal(a, b).astype(np.float64),
}
