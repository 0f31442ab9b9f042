"""A hash of all that a row holds, whatever its column types.

Spark's own `xxhash64` passes over nulls, flattens arrays, does not see the sign of zero and refuses
maps: (null, 7) and (7, null), ([1, 2], []) and ([1], [2]), or [null] and [] get one hash. Here a
bit mask says which columns are null, and each value inside them is preceded by whether it is, each
array and map by its size, so that no two different rows hash the same text of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T


def column(name: str) -> Column:
    """The column called exactly `name`, dots and spaces included."""
    return F.col("`" + name.replace("`", "``") + "`")


def row_hash(schema: T.StructType) -> Column:
    """A bigint that depends on every value of the row; a map's entries count in their order."""
    values = [
        part for field in schema.fields for part in _value_parts(column(field.name), field.dataType)
    ]
    return F.xxhash64(*null_masks(schema), *values)


def null_masks(schema: T.StructType) -> list[Column]:
    """Which columns of the row are null: bit i of number j is column 64 * j + i."""
    masks = []
    for first in range(0, len(schema.fields), 64):
        bits = [
            F.shiftleft(column(field.name).isNull().cast("bigint"), bit)
            for bit, field in enumerate(schema.fields[first : first + 64])
        ]
        masks.append(reduce(Column.bitwiseOR, bits))
    return masks


def without_order(data_type: T.DataType) -> bool:
    """Whether Spark cannot compare values of this type: maps and variants, also when nested."""
    if isinstance(data_type, T.StructType):
        return any(without_order(field.dataType) for field in data_type.fields)
    if isinstance(data_type, T.ArrayType):
        return without_order(data_type.elementType)
    return data_type.typeName() in ("map", "variant")  # T.VariantType came with Spark 4


def _hash(*values: tuple[Column, T.DataType]) -> Column:
    return F.xxhash64(*(part for value, kind in values for part in _parts(value, kind)))


def _parts(value: Column, kind: T.DataType) -> Iterator[Column]:
    """What of `value` to hash, in order; from these parts it could be told again."""
    yield value.isNull()
    yield from _value_parts(value, kind)


def _value_parts(value: Column, kind: T.DataType) -> Iterator[Column]:
    """The same of a value of which is known whether it is null."""
    if isinstance(kind, T.StructType):
        for field in kind.fields:
            yield from _parts(value.getField(field.name), field.dataType)
    elif isinstance(kind, T.ArrayType):
        element = kind.elementType
        yield F.size(value)
        yield F.transform(value, lambda item: _hash((item, element)))
    elif isinstance(kind, T.MapType):
        pair = (kind.keyType, kind.valueType)
        yield F.size(value)
        yield F.transform(
            F.map_entries(value),
            lambda entry: _hash(
                (entry.getField("key"), pair[0]), (entry.getField("value"), pair[1])
            ),
        )
    elif kind.typeName() == "variant":
        yield F.to_json(value)
    else:
        yield value
        if isinstance(kind, T.FloatType | T.DoubleType):
            yield F.when(value == 0, value.cast("string"))  # 0.0 or -0.0
