"""Columns that features are computed of, put together: combinations of values, and formulas.

user:age   item:cate           combination                 a + b
"18"       ["x", "y"]          ["18_x", "18_y"]            1, 2  ->  3
null       ["x"]               []                          null  ->  null
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.data.coding import NUMPY
from trainer.data.columns import check_finite, empty_as_null, is_list, is_text, numbers, one_array
from trainer.data.features import Combination, Feature, Formula
from trainer.data.jagged import has_separator, values_of_rows
from trainer.data.plan import Int64Array, ranges

JOINT = "_"  # between the parts of a combination
IN_PARTS = {JOINT, "-", *"0123456789"}  # what a combination of integers has


def with_computed(table: pa.Table, features: Iterable[Feature]) -> pa.Table:
    """The table and a column for each feature that is computed, by the feature's `column`.

    Raises:
        DataError: a value of a formula is no finite number, or a list has a null.
    """
    for feature in features:
        if isinstance(feature.source, Combination):
            table = table.append_column(feature.column, _combined(table, feature))
        elif isinstance(feature.source, Formula):
            table = table.append_column(feature.column, _evaluated(table, feature))
    return table


def _combined(table: pa.Table, feature: Feature) -> pa.Array:
    """Lists of text; where no column holds lists, text, with the separator between several.

    Text is the faster, but is split again: not where the separator may stand in a combination.
    """
    arrays = [one_array(table.column(name)) for name in feature.columns]
    has_lists = any(is_list(array.type) for array in arrays)
    has_lists = has_lists or bool(IN_PARTS & set(feature.separator))
    if not has_lists and not any(_is_several(array, feature.separator) for array in arrays):
        texts = [pc.cast(empty_as_null(array), pa.string()) for array in arrays]
        return pc.binary_join_element_wise(*texts, JOINT)
    where = f"id_feature `{feature.name}`: column"
    named = zip(arrays, feature.columns, strict=True)
    parts = [values_of_rows(array, feature.separator, f"{where} `{n}`") for array, n in named]
    values, lengths = parts[0]
    values = pc.cast(values, pa.string())
    for others, other_lengths in parts[1:]:
        values, lengths = _crossed(values, lengths, others, other_lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(offsets, values)
    return lists if has_lists else pc.binary_join(lists, feature.separator)


def _is_several(array: pa.Array, separator: str) -> bool:
    return is_text(array.type) and has_separator(array, separator)


def _crossed(
    first: pa.Array, first_lengths: Int64Array, second: pa.Array, second_lengths: Int64Array
) -> tuple[pa.Array, Int64Array]:
    """Each value of a row's first list with each of its second one, and how many each row has."""
    lengths = first_lengths * second_lengths
    row = np.repeat(np.arange(len(lengths)), lengths)
    number = ranges(np.zeros(len(lengths), np.int64), lengths)  # within the row
    starts = [np.cumsum(each) - each for each in (first_lengths, second_lengths)]
    left = starts[0][row] + number // second_lengths[row]
    right = starts[1][row] + number % second_lengths[row]
    texts = pc.cast(second, pa.string()).take(pa.array(right))
    return pc.binary_join_element_wise(first.take(pa.array(left)), texts, JOINT), lengths


def _evaluated(table: pa.Table, feature: Feature) -> pa.Array:
    """float64, null where a variable is."""
    assert isinstance(feature.source, Formula)
    expression, values = feature.source.expression, {}
    is_known = np.ones(table.num_rows, bool)
    for name in feature.columns:
        where = f"feature `{feature.name}`: column `{name}`"
        array = pc.cast(numbers(empty_as_null(one_array(table.column(name))), where), pa.float64())
        is_known &= pc.is_valid(array).to_numpy(zero_copy_only=False)
        values[name] = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)
        check_finite(values[name], where)
    with np.errstate(all="ignore"):  # what is not finite is found where it becomes a feature
        found = np.broadcast_to(expression.evaluate(values, NUMPY), is_known.shape)
    return pa.array(found.astype(np.float64), mask=~is_known)
