"""xxhash64 of whole columns, as Spark's `xxhash64` computes it: no Python per value.

The algorithm: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, section "XXH64".
Integers hash as 8 little-endian bytes (Spark's bigint), strings as UTF-8.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SEED = 42  # Spark's
UInt64Array = NDArray[np.uint64]

_P1, _P2, _P3, _P4, _P5 = (
    np.array([prime], dtype=np.uint64)  # arrays wrap around in silence, numbers warn
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)


def hash_integers(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Signed 64-bit hashes of integers."""
    words = np.ascontiguousarray(values, dtype="<i8").view(np.uint8).reshape(-1, 8)
    return _hash_equal_lengths(words)


def hash_strings(array: pa.Array) -> NDArray[np.int64]:
    """Signed 64-bit hashes of strings without a null."""
    array = pc.cast(array, pa.large_binary())
    _, offsets_buffer, data = array.buffers()
    if len(array) == 0 or data is None:  # no strings, or empty ones only
        return _hash_equal_lengths(np.empty((len(array), 0), dtype=np.uint8))
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset :][: len(array) + 1]
    bytes_ = np.frombuffer(data, np.uint8)
    lengths = np.diff(offsets)
    hashes = np.empty(len(array), dtype=np.int64)
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        hashes[chosen] = _hash_equal_lengths(bytes_[offsets[chosen, None] + np.arange(length)])
    return hashes


def _hash_equal_lengths(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Hashes of N values of L bytes each, uint8 [N, L]."""
    count, length = rows.shape
    if length >= 32:
        lanes = [
            np.full(count, SEED, np.uint64) + start for start in (_P1 + _P2, _P2, 0 * _P1, -_P1)
        ]
        for at in range(0, length - 31, 32):
            for number in range(4):
                lanes[number] = _round(lanes[number], _word(rows, at + 8 * number, 8))
        hashes = sum(
            (_rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)),
            start=np.zeros(count, dtype=np.uint64),
        )
        for lane in lanes:
            hashes = (hashes ^ _round(0 * _P1, lane)) * _P1 + _P4
    else:
        hashes = np.full(count, SEED, np.uint64) + _P5
    hashes = hashes + np.uint64(length)
    for at in range(length // 32 * 32, length - 7, 8):
        hashes = _rotate(hashes ^ _round(0 * _P1, _word(rows, at, 8)), 27) * _P1 + _P4
    at = length // 8 * 8
    if length - at >= 4:
        hashes = _rotate(hashes ^ (_word(rows, at, 4) * _P1), 23) * _P2 + _P3
        at += 4
    for column in range(at, length):
        hashes = _rotate(hashes ^ (rows[:, column].astype(np.uint64) * _P5), 11) * _P1
    hashes = (hashes ^ (hashes >> np.uint64(33))) * _P2
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _P3
    return (hashes ^ (hashes >> np.uint64(32))).view(np.int64)


def _word(rows: NDArray[np.uint8], at: int, size: int) -> UInt64Array:
    """`size` bytes of each row from `at` on as a little-endian number."""
    part = np.ascontiguousarray(rows[:, at : at + size])
    return part.view(f"<u{size}")[:, 0].astype(np.uint64)


def _round(lane: UInt64Array, word: UInt64Array) -> UInt64Array:
    return _rotate(lane + word * _P2, 31) * _P1


def _rotate(values: UInt64Array, by: int) -> UInt64Array:
    return (values << np.uint64(by)) | (values >> np.uint64(64 - by))
