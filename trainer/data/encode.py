"""Arrow columns -> Rows: ids, sequences, raw features, labels, weights, grouping keys.

Each function takes a whole chunk of rows (N rows) at once, with no Python per row.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.coding import default_ids, encode_values
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
    view,
)
from trainer.data.computed import with_computed
from trainer.data.features import Feature, IdFeature, RawFeature, id_features, raw_features
from trainer.data.hashing import hash_strings
from trainer.data.jagged import (
    Jagged,
    check_equal_lengths,
    encode_id_sequence,
    encode_items,
    encode_multi_value,
    encode_raw_sequence,
    encode_vectors,
    has_separator,
)
from trainer.data.memory import pooled_array, pooled_take
from trainer.data.plan import Int64Array
from trainer.data.rows import Lists, Rows
from trainer.tasks import Task


@dataclass(frozen=True)
class ColumnSpec:
    """What to read of each row.

    label_inputs: labels that the model reads, beside those that its tasks name.
    """

    features: tuple[Feature, ...]
    tasks: tuple[Task, ...]
    label_inputs: tuple[str, ...] = ()

    @property
    def raw_features(self) -> list[RawFeature]:
        """In the order of the batch's dense columns."""
        return raw_features(self.features)

    @property
    def weight_columns(self) -> list[str]:
        """Sample weights that some task uses."""
        return sorted({task.sample_weight for task in self.tasks if task.sample_weight})

    @property
    def group_columns(self) -> list[str]:
        """Columns by which some metric groups rows."""
        return sorted({key for task in self.tasks for key in task.grouping_keys})

    @property
    def indicator_labels(self) -> list[str]:
        """Labels that nothing is trained on: of a task's space, or an input of the model."""
        labels = {task.label for task in self.tasks}
        others = {task.space_indicator for task in self.tasks if task.space_indicator}
        others.update(self.label_inputs)
        others.update(name for task in self.tasks for name in task.label_inputs)
        return sorted(others - labels)

    @property
    def column_keys(self) -> list[tuple[str, str]]:
        """What a batch holds besides features: its attribute, and the name of the column."""
        labels = list(dict.fromkeys(task.label for task in self.tasks)) + self.indicator_labels
        named = {"labels": labels, "weights": self.weight_columns, "groups": self.group_columns}
        return [(kind, name) for kind, names in named.items() for name in names]

    @property
    def columns(self) -> list[str]:
        """Every column to read, once."""
        names = [name for feature in self.features for name in feature.columns]
        return list(dict.fromkeys(names + [name for _, name in self.column_keys]))


def encode_rows(table: pa.Table, spec: ColumnSpec, rows: Tensor | None = None) -> Rows:
    """Encode some rows of a table, int32 [N] in any order, or all of them.

    Raises:
        DataError: a value of the table, chosen or not, breaks a rule of the config.
    """
    rows = torch.arange(table.num_rows, dtype=torch.int32) if rows is None else rows
    table = with_computed(table, spec.features)
    scalars = [f for f in id_features(spec.features, "ids") if _is_scalar(table, f)]
    ids, has_id, further = _encode_scalars(table, scalars, rows)
    widths = [feature.dim for feature in spec.raw_features]
    dense = torch.from_numpy(pooled_array((len(rows), sum(widths)), np.float32))
    for feature, target in zip(spec.raw_features, dense.split(widths, dim=1), strict=True):
        vectors = encode_vectors(one_array(table.column(feature.column)), feature)
        target.copy_(torch.from_numpy(vectors).index_select(0, rows))
    names = tuple(feature.name for feature in scalars)
    return Rows(
        names=names,
        scalars=ids.numpy(),
        has_id=None if has_id is None else has_id.numpy(),
        further=further,
        lists=_encode_lists(table, spec, names, rows.numpy()),
        dense=dense.numpy(),
        columns=[pooled_take(values, rows).numpy() for values in _encode_columns(table, spec)],
    )


def _is_scalar(table: pa.Table, feature: IdFeature) -> bool:
    """Whether rows mostly have one id, which is the fast case: text has more where it is split."""
    type_ = table.schema.field(feature.column).type
    return not is_list(type_) and len(feature.default_values) < 2


def _encode_scalars(
    table: pa.Table, features: list[IdFeature], rows: Tensor
) -> tuple[Tensor, Tensor | None, dict[str, Lists]]:
    """`scalars`, `has_id` and `further` of some rows."""
    ids = torch.from_numpy(pooled_array((len(features), len(rows)), np.int64))
    masks: dict[int, Tensor] = {}
    further: dict[str, Lists] = {}
    for number, feature in enumerate(features):
        values, mask, others = encode_scalar_ids(table.column(feature.column), feature)
        if values.dtype == torch.int64:
            torch.index_select(values, 0, rows, out=ids[number])
        else:
            ids[number] = values.index_select(0, rows)
        if mask is not None:
            masks[number] = mask[rows]
        if others is not None:
            further[feature.name] = others.packed(rows.numpy())
    if not masks:
        return ids, None, further
    has_id = torch.ones_like(ids, dtype=torch.bool)
    for number, mask in masks.items():
        has_id[number] = mask
    return ids, has_id, further


def encode_scalar_ids(
    column: pa.ChunkedArray, feature: IdFeature
) -> tuple[Tensor, Tensor | None, Jagged | None]:
    """A row's first id, integers [N], which rows have one, bool [N], and the ids after the first.

    The mask is None if all rows have an id, the last is None if no row has a second one.
    """
    array = empty_as_null(one_array(column))
    if is_text(array.type) and has_separator(array, feature.separator):
        first, mask, others = encode_multi_value(column, feature).parted()
        return torch.from_numpy(first), torch.from_numpy(mask), others
    if not array.null_count:
        return torch.from_numpy(encode_values(array, feature)), None, None
    mask = validity(array)
    ids = np.zeros(len(array), np.int64)
    ids[mask] = encode_values(array.drop_null(), feature)
    if not feature.default_values:
        return torch.from_numpy(ids), torch.from_numpy(mask), None
    ids[~mask] = default_ids(feature, array.type)[0]
    return torch.from_numpy(ids), None, None


def _encode_lists(
    table: pa.Table, spec: ColumnSpec, scalars: tuple[str, ...], rows: NDArray[np.int32]
) -> dict[str, Lists]:
    """Some rows of the features with any number of values a row, by name."""
    found: dict[str, Lists] = {}
    in_sequence: dict[str, list[tuple[str, Int64Array]]] = defaultdict(list)
    for feature in spec.features:
        if feature.part == "dense" or feature.name in scalars:
            continue
        column = table.column(feature.column)
        if isinstance(feature, IdFeature) and feature.sequence is not None and feature.pools_items:
            items = encode_items(column, feature)
            in_sequence[feature.sequence.name].append((feature.name, items.rows.lengths))
            found[feature.name], found[feature.items] = items.packed(rows)
            continue
        if isinstance(feature, RawFeature):
            jagged = encode_raw_sequence(column, feature)
        elif feature.sequence is not None:
            jagged = encode_id_sequence(column, feature)
        else:
            jagged = encode_multi_value(column, feature)
        if feature.sequence is not None:
            in_sequence[feature.sequence.name].append((feature.name, jagged.lengths))
        found[feature.name] = jagged.packed(rows)
    check_equal_lengths(in_sequence)
    return found


def _encode_columns(table: pa.Table, spec: ColumnSpec) -> list[Tensor]:
    """In the order of ColumnSpec.column_keys."""
    task_of = {task.label: task for task in spec.tasks}
    found = []
    for kind, name in spec.column_keys:
        column = table.column(name)
        if kind == "labels" and name in task_of:
            found.append(encode_label(column, task_of[name]))
        elif kind == "groups":
            found.append(encode_group(column))
        else:
            found.append(
                _encode_weight(column, name) if kind == "weights" else encode_number(column, name)
            )
    return found


# ------------------------------------------------------------------ labels, weights, groups


def encode_label(column: pa.ChunkedArray, task: Task) -> Tensor:
    """int64 [N] of classes, or float32 [N] for a regression."""
    if task.is_regression:
        return encode_number(column, task.label)
    array = one_array(column)
    is_whole = pa.types.is_integer(array.type) and not array.null_count
    values = view(array) if is_whole else encode_number(column, task.label)
    check_classes(values, task)
    return values.long()


def check_classes(values: Tensor, task: Task) -> None:
    """Labels must be whole numbers in [0, classes). Raises DataError with the first that is not."""
    classes = 2 if task.is_binary else task.num_class
    wrong = (values < 0) | (values >= classes) | (values != values.round())
    if bool(wrong.any()):
        rule = "0 or 1" if classes == 2 else f"one of the {classes} classes 0 ... {classes - 1}"
        losses = ", ".join(loss.WhichOneof("loss") or "" for loss in task.losses)
        raise DataError(
            f"label column `{task.label}` must be {rule} for {losses}, but has: "
            f"{values[wrong][0].item():g}; correct the data, or use l2_loss for real numbers"
        )


def encode_number(column: pa.ChunkedArray, name: str) -> Tensor:
    """float32 [N] of a column that must have no null and no NaN."""
    array = one_array(column)
    if array.null_count:
        raise DataError(
            f"column `{name}` must have no null, but has {array.null_count}; fill or drop them"
        )
    values = view(numbers(array, f"column `{name}`")).float()
    check_finite(values.numpy(), f"column `{name}`")
    return values


def _encode_weight(column: pa.ChunkedArray, name: str) -> Tensor:
    weights = encode_number(column, name)
    if bool((weights < 0).any()):
        raise DataError(f"sample weight column `{name}` must be >= 0, but got: {weights.min():g}")
    return weights


def encode_group(column: pa.ChunkedArray) -> Tensor:
    """int64 [N], equal where the column is equal; nulls are one group."""
    array = one_array(column)
    if pa.types.is_integer(array.type):
        return view(pc.fill_null(pc.cast(array, pa.int64()), np.iinfo(np.int64).min))
    encoded = pc.cast(array, pa.string()).dictionary_encode(null_encoding="encode")
    hashes = hash_strings(pc.fill_null(encoded.dictionary, "\0null"))
    return torch.from_numpy(hashes[integers(encoded.indices)])
