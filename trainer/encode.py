"""Arrow columns -> tensors: ids, raw features, labels, weights, grouping keys.

Each function takes a whole chunk of rows (N rows) at once, with no Python per row.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.features import Feature, Hashed, IdFeature, RawFeature, id_features, raw_features
from trainer.hashing import hash_integers, hash_strings
from trainer.memory import pooled_array, pooled_concat, pooled_take
from trainer.plan import Int64Array, ranges
from trainer.tasks import Task


class DataError(ValueError):
    """The data breaks a rule of the config; the message has column, rule, value and cure."""


@dataclass(frozen=True)
class ColumnSpec:
    """What to read of each row."""

    features: tuple[Feature, ...]
    tasks: tuple[Task, ...]

    @property
    def id_features(self) -> list[IdFeature]:
        """In the order of the batch's keys."""
        return id_features(self.features, "ids")

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
        """Labels that only say whether a row is in a task's space."""
        labels = {task.label for task in self.tasks}
        return sorted({t.space_indicator for t in self.tasks if t.space_indicator} - labels)

    @property
    def column_keys(self) -> list[tuple[str, str]]:
        """What a batch holds besides features: its attribute, and the name of the column."""
        labels = list(dict.fromkeys(task.label for task in self.tasks)) + self.indicator_labels
        named = {"labels": labels, "weights": self.weight_columns, "groups": self.group_columns}
        return [(kind, name) for kind, names in named.items() for name in names]

    @property
    def columns(self) -> list[str]:
        """Every column to read, once."""
        names = [feature.column for feature in self.features]
        return list(dict.fromkeys(names + [name for _, name in self.column_keys]))


@dataclass(slots=True)
class Rows:
    """N encoded rows, in NumPy, whose views of many small runs of rows cost little.

    names: of the K features with one id a row; then of those with lists.
    scalars: their ids, int64 [K, N].
    has_id: bool [K, N], where a row without an id has False; None if all have one.
    lists: per feature with lists, the ids of all rows, int64 [T], and of each row how many, [N].
    dense: raw features side by side, float32 [N, D].
    columns: [N] each, as ColumnSpec.column_keys names them: labels, weights, groups.
    """

    names: tuple[str, ...]
    scalars: NDArray[np.int64]
    has_id: NDArray[np.bool_] | None
    lists: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    dense: NDArray[np.float32]
    columns: list[NDArray]

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.dense)

    def split(self, sizes: Int64Array) -> list["Rows"]:
        """Runs of rows of those sizes, one after the other, without a copy."""
        ends = np.cumsum(sizes)
        lists = []
        for values, lengths in self.lists:
            value_ends = np.concatenate([[0], np.cumsum(lengths)])[ends]
            lists.append((np.split(values, value_ends[:-1]), np.split(lengths, ends[:-1])))
        return [
            Rows(
                names=self.names,
                scalars=self.scalars[:, start:stop],
                has_id=None if self.has_id is None else self.has_id[:, start:stop],
                lists=[(values[i], lengths[i]) for values, lengths in lists],
                dense=self.dense[start:stop],
                columns=[each[start:stop] for each in self.columns],
            )
            for i, (start, stop) in enumerate(pairwise([0, *ends.tolist()]))
        ]

    @classmethod
    def concat(cls, parts: list["Rows"]) -> "Rows":
        """One after the other, copied; at least one."""
        lists = [zip(*each, strict=True) for each in zip(*(p.lists for p in parts), strict=True)]
        columns = zip(*(p.columns for p in parts), strict=True)
        return cls(
            names=parts[0].names,
            scalars=pooled_concat([part.scalars for part in parts], axis=1),
            has_id=_concat_masks(parts),
            lists=[(pooled_concat(ids), pooled_concat(lengths)) for ids, lengths in lists],
            dense=pooled_concat([part.dense for part in parts]),
            columns=[pooled_concat(each) for each in columns],
        )


def _concat_masks(parts: list[Rows]) -> NDArray[np.bool_] | None:
    if all(part.has_id is None for part in parts):
        return None
    masks = [np.ones(p.scalars.shape, dtype=bool) if p.has_id is None else p.has_id for p in parts]
    return pooled_concat(masks, axis=1)


def encode_rows(table: pa.Table, spec: ColumnSpec, rows: Tensor | None = None) -> Rows:
    """Encode some rows of a table, int32 [N] in any order, or all of them.

    Raises:
        DataError: a value of the table, chosen or not, breaks a rule of the config.
    """
    rows = torch.arange(table.num_rows, dtype=torch.int32) if rows is None else rows
    scalars = [f for f in spec.id_features if not is_list(table.schema.field(f.column).type)]
    lists = [f for f in spec.id_features if is_list(table.schema.field(f.column).type)]
    ids, has_id = _encode_scalars(table, scalars, rows)
    widths = [feature.dim for feature in spec.raw_features]
    dense = torch.from_numpy(pooled_array((len(rows), sum(widths)), np.float32))
    for feature, target in zip(spec.raw_features, dense.split(widths, dim=1), strict=True):
        target.copy_(encode_raw(table.column(feature.column), feature).index_select(0, rows))
    return Rows(
        names=tuple(feature.name for feature in scalars + lists),
        scalars=ids.numpy(),
        has_id=None if has_id is None else has_id.numpy(),
        lists=[_take_lists(*encode_lists(table.column(f.column), f), rows) for f in lists],
        dense=dense.numpy(),
        columns=[pooled_take(values, rows).numpy() for values in _encode_columns(table, spec)],
    )


def _encode_scalars(
    table: pa.Table, features: list[IdFeature], rows: Tensor
) -> tuple[Tensor, Tensor | None]:
    """`scalars` and `has_id` of some rows."""
    ids = torch.from_numpy(pooled_array((len(features), len(rows)), np.int64))
    masks: dict[int, Tensor] = {}
    for number, feature in enumerate(features):
        values, mask = encode_scalar_ids(table.column(feature.column), feature)
        if values.dtype == torch.int64:
            torch.index_select(values, 0, rows, out=ids[number])
        else:
            ids[number] = values.index_select(0, rows)
        if mask is not None:
            masks[number] = mask[rows]
    if not masks:
        return ids, None
    has_id = torch.ones_like(ids, dtype=torch.bool)
    for number, mask in masks.items():
        has_id[number] = mask
    return ids, has_id


def _take_lists(
    values: Tensor, offsets: Tensor, rows: Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts, lengths = offsets[rows].numpy(), offsets.diff()[rows].numpy()
    chosen = torch.from_numpy(ranges(starts, lengths))
    return pooled_take(values, chosen).numpy(), lengths


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


# ------------------------------------------------------------------ features


def encode_scalar_ids(column: pa.ChunkedArray, feature: IdFeature) -> tuple[Tensor, Tensor | None]:
    """Ids, integers [N], and which rows have one, bool [N]; None if all have."""
    array = one_array(column)
    if not array.null_count:
        return _ids(array, feature), None
    mask = view(pc.cast(pc.is_valid(array), pa.uint8())).bool()
    ids = torch.zeros(len(array), dtype=torch.int64)
    ids[mask] = _ids(pc.drop_null(array), feature).long()
    return ids, mask


def encode_lists(column: pa.ChunkedArray, feature: IdFeature) -> tuple[Tensor, Tensor]:
    """Ids of all rows, int64 [T], and offsets into them, int64 [N + 1]; a null row has none."""
    array = one_array(column)
    lengths = view(pc.cast(pc.fill_null(pc.list_value_length(array), 0), pa.int64()))
    flat = pc.list_flatten(array)
    if flat.null_count:
        raise DataError(f"column `{feature.column}` must have no null inside its lists")
    return _ids(flat, feature).long(), torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _ids(array: pa.Array, feature: IdFeature) -> Tensor:
    """Ids in [0, num_embeddings) of an array without nulls."""
    if isinstance(feature.coding, Hashed):
        return torch.from_numpy(hash_ids(array, feature.num_embeddings))
    values = view(array)
    if len(values):
        low, high = (int(each) for each in values.aminmax())
        if low < 0 or high >= feature.num_embeddings:
            raise DataError(
                f"id_feature `{feature.name}`: values of column `{feature.column}` must be in "
                f"[0, {feature.num_embeddings}), but got: {low if low < 0 else high}; raise "
                f"num_buckets, or hash the ids (hash_bucket_size with fg_mode: FG_NORMAL)"
            )
    return values


def hash_ids(array: pa.Array, num_buckets: int) -> NDArray[np.int64]:
    """xxhash64 modulo num_buckets, as Spark's `pmod(xxhash64(column), num_buckets)`."""
    if pa.types.is_integer(array.type):
        return hash_integers(_integers(array)) % num_buckets
    encoded = array.dictionary_encode()
    return (hash_strings(encoded.dictionary) % num_buckets)[_integers(encoded.indices)]


def encode_raw(column: pa.ChunkedArray, feature: RawFeature) -> Tensor:
    """float32 [N, dim]; nulls become the default value."""
    array = one_array(column)
    if is_list(array.type):
        lengths = pc.list_value_length(array)
        wrong = pc.sum(pc.not_equal(lengths, feature.dim)).as_py()
        if array.null_count or wrong:
            raise DataError(
                f"raw_feature `{feature.name}`: lists of column `{feature.column}` must have "
                f"value_dim = {feature.dim} values, but {(wrong or 0) + array.null_count} have not"
            )
        array = pc.list_flatten(array)
    elif feature.dim != 1:
        raise DataError(
            f"raw_feature `{feature.name}`: column `{feature.column}` must hold lists of "
            f"value_dim = {feature.dim} numbers, but holds: {array.type}"
        )
    if array.null_count:
        array = pc.fill_null(pc.cast(array, pa.float64(), safe=False), feature.default_values[0])
    values = _finite(array, f"raw_feature `{feature.name}`: column `{feature.column}`")
    return values.reshape(-1, feature.dim)


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
    return _finite(array, f"column `{name}`")


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
    return torch.from_numpy(hashes[_integers(encoded.indices)])


# ------------------------------------------------------------------ Arrow helpers


def is_list(type_: pa.DataType) -> bool:
    """Whether each row holds a list."""
    return pa.types.is_list(type_) or pa.types.is_large_list(type_)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; a copy only where it is in several."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()


def view(array: pa.Array) -> Tensor:
    """A tensor over the memory of an array of numbers without nulls."""
    return torch.from_dlpack(array)


def _integers(array: pa.Array) -> NDArray[np.int64]:
    return pc.cast(array, pa.int64()).to_numpy(zero_copy_only=False)


def _finite(array: pa.Array, where: str) -> Tensor:
    """float32 [N]; a value that is not finite there is an error."""
    if not pa.types.is_floating(array.type):  # integers, decimals, booleans
        array = pc.cast(array, pa.float64(), safe=False)
    values = view(array).float()
    wrong = int((~values.isfinite()).sum())
    if wrong:
        raise DataError(
            f"{where} must be finite, but has {wrong} NaN or infinite values; "
            f"write null instead to take the default"
        )
    return values
