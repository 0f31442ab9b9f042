"""Hashes of columns against the xxhash library, value by value."""

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.hashing import SEED, hash_integers, hash_strings


def reference(raw: list[bytes]) -> list[int]:
    hashes = [xxhash.xxh64_intdigest(value, seed=SEED) for value in raw]
    return np.array(hashes, dtype=np.uint64).view(np.int64).tolist()


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_hash_as_eight_little_endian_bytes(values):
    raw = [value.to_bytes(8, "little", signed=True) for value in values]
    assert hash_integers(np.array(values, dtype=np.int64)).tolist() == reference(raw)


@settings(deadline=None)
@given(st.lists(st.text(max_size=90)))
def test_strings_hash_as_their_utf8(values):
    array = pa.array(values, pa.string())
    assert hash_strings(array).tolist() == reference([value.encode() for value in values])
    assert hash_strings(array[1:]).tolist() == reference([v.encode() for v in values[1:]])


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 12, 31, 32, 33, 63, 64, 71, 100])
def test_every_branch_of_the_algorithm(length):
    values = ["".join(chr(97 + (i * j) % 26) for j in range(length)) for i in range(5)]
    expected = reference([value.encode() for value in values])
    assert hash_strings(pa.array(values, pa.large_string())).tolist() == expected
