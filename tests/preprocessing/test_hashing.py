"""hash_bucket_size: the trainer hashes ids as Spark's xxhash64 does."""

import random

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from trainer.data.coding import hash_ids

VALUES = {
    "bigint": [
        0,
        1,
        -1,
        2**62,
        -(2**63),
        *random.Random(0).choices(range(-(10**12), 10**12), k=50),
    ],
    "string": ["", "a", "search", "x" * 40, "北京", "é", "\x1d", *map(str, range(50))],
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("num_buckets", [1, 7, 1_000_003])
def test_ids_hash_as_in_spark(spark, kind, num_buckets):
    values = VALUES[kind]
    frame = spark.createDataFrame([(value,) for value in values], f"id {kind}")
    hashed = frame.select(F.expr(f"pmod(xxhash64(id), {num_buckets})").alias("h")).collect()
    assert hash_ids(pa.array(values), num_buckets).tolist() == [row.h for row in hashed]
