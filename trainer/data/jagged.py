"""Columns with any number of values a row: multi-value and weighted features, sequences.

    column     ["1;2", null, "3"]          N = 3 rows
    values     [1, 2, 3]                   T = 3 values
    lengths    [2, 0, 1]
    starts     [0, 2, 2]                   of each row in values

To cut rows, to give empty ones a default value and to choose rows is arithmetic of starts and
lengths; `packed` then takes the values once.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.data.coding import default_ids, encode_values, normalize
from trainer.data.columns import (
    DataError,
    check_finite,
    empty_as_null,
    integers,
    is_list,
    is_text,
    numbers,
    one_array,
    validity,
)
from trainer.data.features import IdFeature, RawFeature, Sequence
from trainer.data.memory import pooled_array
from trainer.data.plan import Int64Array, ranges
from trainer.data.rows import Lists


@dataclass(frozen=True)
class Jagged:
    """Values of N rows, as drawn above.

    values: [T], or [T, D] of vectors.
    starts, lengths: int64 [N].
    weights: float32 [T]; None without weights.
    """

    values: NDArray
    starts: Int64Array
    lengths: Int64Array
    weights: NDArray[np.float32] | None = None

    @classmethod
    def packed_of(cls, values: NDArray, lengths: Int64Array) -> "Jagged":
        """Rows one after the other."""
        return cls(values, np.cumsum(lengths) - lengths, lengths)

    def limited(self, most: int) -> "Jagged":
        """The first `most` values of each row; all for 0."""
        return replace(self, lengths=np.minimum(self.lengths, most)) if most else self

    def filled(self, defaults: NDArray) -> "Jagged":
        """Rows without a value get `defaults`, with weights of 1."""
        is_empty = self.lengths == 0
        if not len(defaults) or not is_empty.any():
            return self
        weights = self.weights
        if weights is not None:
            weights = np.concatenate([weights, np.ones(len(defaults), np.float32)])
        return Jagged(
            values=np.concatenate([self.values, defaults.astype(self.values.dtype)]),
            starts=np.where(is_empty, len(self.values), self.starts),
            lengths=np.where(is_empty, len(defaults), self.lengths),
            weights=weights,
        )

    def parted(self) -> tuple[NDArray, NDArray[np.bool_], "Jagged"]:
        """The first value of each row, [N], whether it has one, bool [N], and all that follow."""
        has_first = self.lengths > 0
        first = np.zeros(len(self.lengths), self.values.dtype)
        first[has_first] = self.values[self.starts[has_first]]
        rest = replace(self, starts=self.starts + has_first, lengths=self.lengths - has_first)
        return first, has_first, rest

    def packed(self, rows: NDArray[np.integer]) -> Lists:
        """Some rows, one after the other."""
        lengths = self.lengths[rows]
        chosen = ranges(self.starts[rows], lengths)

        def take(values: NDArray) -> NDArray:
            out = pooled_array((len(chosen), *values.shape[1:]), values.dtype)
            return values.take(chosen, axis=0, out=out, mode="clip")  # "raise" would copy `out`

        weights = None if self.weights is None else take(self.weights)
        return Lists(take(self.values), lengths, weights)


# ------------------------------------------------------------------ features


def encode_multi_value(column: pa.ChunkedArray, feature: IdFeature) -> Jagged:
    """Ids of a feature that is pooled, with their weights where it has them.

    Raises:
        DataError: a value has no id, or no weight that is a number.
    """
    where = f"id_feature `{feature.name}`: column `{feature.column}`"
    array, weights = one_array(column), None
    if pa.types.is_map(array.type):
        flat, texts, lengths = _entries_of_maps(array)
    else:
        flat, lengths = values_of_rows(array, feature.separator, where)
        flat, texts = _split_weights(flat, where) if feature.is_weighted else (flat, None)
    if texts is not None:
        weights = _weights(texts, where)
    elif feature.joins_weighted:
        weights = np.ones(len(flat), np.float32)
    ids = encode_values(flat, feature).astype(np.int64, copy=False)
    found = replace(Jagged.packed_of(ids, lengths), weights=weights)
    return found.limited(feature.max_values).filled(default_ids(feature, flat.type))


def encode_id_sequence(column: pa.ChunkedArray, feature: IdFeature) -> Jagged:
    """Ids of a sequence, in stored order, one per item.

    Raises:
        DataError: an item is null or has no id.
    """
    assert feature.sequence is not None
    where = f"id_feature `{feature.name}`: column `{feature.column}`"
    items, lengths = _items(one_array(column), feature.sequence, where)
    if feature.max_values and is_text(items.type):
        items = _first_of_text(items, feature.separator)
    items = empty_as_null(items)
    defaults = default_ids(feature, items.type)
    is_known = validity(items)
    if items.null_count and not len(defaults):
        raise DataError(f"{where} must have no null or empty item; set fg_encoded_default_value")
    ids = np.empty(len(items), np.int64)
    ids[is_known] = encode_values(items.drop_null(), feature)
    ids[~is_known] = defaults[0] if len(defaults) else 0
    return Jagged.packed_of(ids, lengths).limited(feature.sequence.max_length).filled(defaults)


@dataclass(frozen=True)
class JaggedItems:
    """A sequence whose items have any number of ids.

    rows: number of each item, by row.
    ids: ids of each item; one more item stands at the end, for rows without an item.
    """

    rows: Jagged
    ids: Jagged

    def packed(self, rows: NDArray[np.integer]) -> tuple[Lists, Lists]:
        """Some rows, one after the other: their ids, and how many ids each of their items has."""
        items = self.rows.packed(rows)
        ids = self.ids.packed(items.values)
        ends = np.concatenate([[0], np.cumsum(ids.lengths)])[np.cumsum(items.lengths)]
        return Lists(ids.values, np.diff(ends, prepend=0)), Lists(ids.lengths, items.lengths)


def encode_items(column: pa.ChunkedArray, feature: IdFeature) -> JaggedItems:
    """Ids of a sequence with `pools_items`; items without an id get the default values.

    Raises:
        DataError: a value has no id.
    """
    assert feature.sequence is not None
    where = f"id_feature `{feature.name}`: column `{feature.column}`"
    items, lengths = _items(one_array(column), feature.sequence, where)
    flat, ids_per_item = values_of_rows(items, feature.separator, where)
    ids = encode_values(flat, feature).astype(np.int64, copy=False)
    defaults = default_ids(feature, flat.type)
    of_items = Jagged.packed_of(ids, np.append(ids_per_item, 0)).limited(feature.max_values)
    of_rows = Jagged.packed_of(np.arange(len(items)), lengths)
    of_rows = of_rows.limited(feature.sequence.max_length)
    if len(defaults):
        of_rows = of_rows.filled(np.array([len(items)]))
    return JaggedItems(of_rows, of_items.filled(defaults))


def encode_raw_sequence(column: pa.ChunkedArray, feature: RawFeature) -> Jagged:
    """float32 values [T, dim] of a sequence.

    Raises:
        DataError: an item has another number of values, or one that is not finite.
    """
    assert feature.sequence is not None
    where = f"raw_feature `{feature.name}`: column `{feature.column}`"
    items, lengths = _items(one_array(column), feature.sequence, where)
    values = encode_vectors(items, feature)
    defaults = np.array(feature.default_values, np.float32).reshape(-1, feature.dim)
    return Jagged.packed_of(values, lengths).limited(feature.sequence.max_length).filled(defaults)


def encode_vectors(array: pa.Array, feature: RawFeature) -> NDArray[np.float32]:
    """float32 [N, dim] of numbers, lists or text; null and empty ones are the default values.

    Raises:
        DataError: a row has another number of values, or one that is not finite.
    """
    where = f"raw_feature `{feature.name}`: column `{feature.column}`"
    dim, array = feature.dim, empty_as_null(array)
    if is_text(array.type) and dim > 1:
        array = pc.split_pattern(array, feature.separator)
    is_missing = None
    if is_list(array.type):
        lengths = _lengths(array)
        is_missing = lengths == 0
        wrong = int(np.count_nonzero((lengths != dim) & ~is_missing))
        if wrong:
            raise DataError(f"{where} must have value_dim = {dim} values, but {wrong} have not")
        array = pc.list_flatten(array)
    elif dim != 1:
        raise DataError(
            f"{where} must hold lists of value_dim = {dim} numbers, but holds: {array.type}"
        )
    array = numbers(empty_as_null(array), where)
    if not array.null_count and (is_missing is None or not is_missing.any()):
        return normalize(array, feature.normalizer, where).reshape(-1, dim)
    if not feature.default_values:
        raise DataError(f"{where} must have no null or empty item; set fg_encoded_default_value")
    return _with_defaults(array, is_missing, feature, where)


def _with_defaults(
    array: pa.Array, is_missing: NDArray[np.bool_] | None, feature: RawFeature, where: str
) -> NDArray[np.float32]:
    """[N, dim] of the numbers of all rows but the missing ones, some of them null."""
    count = len(array) if is_missing is None else len(is_missing)
    values = np.tile(np.array(feature.default_values, np.float32), (count, 1))
    is_known = np.zeros(values.shape, bool)
    is_known[slice(None) if is_missing is None else ~is_missing] = validity(array).reshape(
        -1, feature.dim
    )
    values[is_known] = normalize(array.drop_null(), feature.normalizer, where)
    return values


def check_equal_lengths(sequences: dict[str, list[tuple[str, Int64Array]]]) -> None:
    """Features of one sequence, by its name, have equally many values in a row.

    Raises:
        DataError: two have not.
    """
    for name, features in sequences.items():
        first, expected = features[0]
        for other, lengths in features[1:]:
            wrong = np.flatnonzero(lengths != expected)
            if len(wrong):
                row = wrong[0]
                raise DataError(
                    f"features of sequence `{name}` must have equally many values in a row, but "
                    f"`{first}` has {expected[row]} and `{other}` has {lengths[row]}"
                )


# ------------------------------------------------------------------ Arrow


def values_of_rows(array: pa.Array, separator: str, where: str) -> tuple[pa.Array, Int64Array]:
    """The values of all rows, without nulls and empty text, and how many each row has."""
    if is_text(array.type):
        array = pc.split_pattern(array, separator)
    if not is_list(array.type):  # one value a row
        return array.drop_null(), validity(array).astype(np.int64)
    lengths, flat = _lengths(array), pc.list_flatten(array)
    if flat.null_count:
        raise DataError(f"{where} must have no null inside its lists; fill or drop it")
    if not is_text(flat.type):
        return flat, lengths
    is_value = pc.not_equal(flat, "")
    if pc.all(is_value).as_py():
        return flat, lengths
    row_of_value = np.repeat(np.arange(len(lengths)), lengths)
    kept = row_of_value[is_value.to_numpy(zero_copy_only=False)]
    return flat.filter(is_value), np.bincount(kept, minlength=len(lengths))


def _entries_of_maps(array: pa.Array) -> tuple[pa.Array, pa.Array, Int64Array]:
    """Keys and items of all rows, and how many each row has."""
    entry = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
    lists = pc.cast(array, pa.list_(entry))
    keys, items = pc.list_flatten(lists).flatten()
    return keys, items, _lengths(lists)


def _items(array: pa.Array, sequence: Sequence, where: str) -> tuple[pa.Array, Int64Array]:
    """The items of all rows, maybe null, and how many each row has; null and "" have none."""
    if is_text(array.type):
        array = pc.split_pattern(empty_as_null(array), sequence.delimiter)
    if not is_list(array.type):
        raise DataError(f"{where} must hold lists or text, but holds: {array.type}")
    return pc.list_flatten(array), _lengths(array)


def _lengths(array: pa.Array) -> Int64Array:
    return integers(pc.fill_null(pc.list_value_length(array), 0))


def _split_weights(flat: pa.Array, where: str) -> tuple[pa.Array, pa.Array]:
    """`id:weight` -> ids and weights, as text."""
    parts = pc.split_pattern(flat, ":", max_splits=1, reverse=True)
    if len(flat) and pc.min(pc.list_value_length(parts)).as_py() < 2:
        raise DataError(
            f"{where} must hold `id:weight`, but has: "
            f"{flat.filter(pc.less(pc.list_value_length(parts), 2))[0].as_py()!r}; set weights, or "
            f"weighted: false"
        )
    return pc.list_element(parts, 0), pc.list_element(parts, 1)


def _weights(array: pa.Array, where: str) -> NDArray[np.float32]:
    where = f"{where}: weights"
    if array.null_count:
        raise DataError(f"{where} must not be null; set them, or leave their ids out")
    values = np.asarray(numbers(array, where).to_numpy(zero_copy_only=False), np.float32)
    check_finite(values, where)
    return values


def has_separator(array: pa.Array, separator: str) -> bool:
    """Whether any text has one."""
    return bool(pc.any(pc.match_substring(array, separator)).as_py())


def _first_of_text(array: pa.Array, separator: str) -> pa.Array:
    """What stands before the first separator."""
    if not has_separator(array, separator):
        return array
    return pc.list_element(pc.split_pattern(array, separator, max_splits=1), 0)
