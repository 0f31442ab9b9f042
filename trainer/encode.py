"""Arrow columns -> tensors: ids, raw features, labels, weights, grouping keys.

Each function takes a whole chunk of rows (N rows) at once, with no Python per row.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from trainer.features import Feature, IdFeature, RawFeature
from trainer.tasks import Task

HASH_SEED = 42  # Spark's xxhash64, so that the preprocessing job can hash alike


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
        return [f for f in self.features if isinstance(f, IdFeature)]

    @property
    def raw_features(self) -> list[RawFeature]:
        """In the order of the batch's dense columns."""
        return [f for f in self.features if isinstance(f, RawFeature)]

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
    def columns(self) -> list[str]:
        """Every column to read, once."""
        names = [feature.column for feature in self.features]
        names += [task.label for task in self.tasks] + self.indicator_labels
        return list(dict.fromkeys(names + self.weight_columns + self.group_columns))


@dataclass
class Rows:
    """N encoded rows.

    `ids` holds values and, unless every row has exactly one, their offsets int64 [N + 1].
    """

    num_rows: int
    ids: dict[str, tuple[Tensor, Tensor | None]]
    dense: Tensor
    labels: dict[str, Tensor]
    weights: dict[str, Tensor]
    groups: dict[str, Tensor]

    def slice(self, start: int, stop: int) -> "Rows":
        """Rows [start, stop), without a copy."""
        ids = {}
        for name, (values, offsets) in self.ids.items():
            if offsets is None:
                ids[name] = (values[start:stop], None)
            else:
                first, last = int(offsets[start]), int(offsets[stop])
                ids[name] = (values[first:last], offsets[start : stop + 1] - first)
        cut = slice(start, stop)
        return Rows(
            num_rows=stop - start,
            ids=ids,
            dense=self.dense[cut],
            labels={key: value[cut] for key, value in self.labels.items()},
            weights={key: value[cut] for key, value in self.weights.items()},
            groups={key: value[cut] for key, value in self.groups.items()},
        )


def encode_rows(table: pa.Table, spec: ColumnSpec) -> Rows:
    """Encode all columns of a chunk. Raises DataError for values that break a rule."""
    ids = {f.name: encode_ids(table.column(f.column), f) for f in spec.id_features}
    dense = [encode_raw(table.column(f.column), f) for f in spec.raw_features]
    labels = {task.label: encode_label(table.column(task.label), task) for task in spec.tasks}
    for name in spec.indicator_labels:
        labels[name] = encode_number(table.column(name), name)
    return Rows(
        num_rows=table.num_rows,
        ids=ids,
        dense=torch.cat(dense, dim=1) if dense else torch.empty(table.num_rows, 0),
        labels=labels,
        weights={name: _encode_weight(table.column(name), name) for name in spec.weight_columns},
        groups={name: encode_group(table.column(name)) for name in spec.group_columns},
    )


# ------------------------------------------------------------------ features


def encode_ids(column: pa.ChunkedArray, feature: IdFeature) -> tuple[Tensor, Tensor | None]:
    """Ids in [0, num_embeddings) and, unless each row has one, offsets; a null row has no id."""
    array = _one_array(column)
    lengths = None
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        array = pc.list_flatten(array)
        if array.null_count:
            raise DataError(f"column `{feature.column}` must have no null inside its lists")
    elif array.null_count:
        lengths = pc.cast(pc.is_valid(array), pa.int64())
        array = pc.drop_null(array)
    values = hash_ids(array, feature.num_embeddings) if feature.is_hashed else _integers(array)
    if len(values) and not feature.is_hashed:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= feature.num_embeddings:
            raise DataError(
                f"id_feature `{feature.name}`: values of column `{feature.column}` must be in "
                f"[0, {feature.num_embeddings}), but got: {low if low < 0 else high}; raise "
                f"num_buckets, or hash the ids (hash_bucket_size with fg_mode: FG_NORMAL)"
            )
    if lengths is None:
        return _tensor(values), None
    return _tensor(values), _tensor(np.concatenate([[0], np.cumsum(_integers(lengths))]))


def hash_ids(array: pa.Array, num_buckets: int) -> NDArray[np.int64]:
    """xxhash64 modulo num_buckets, as Spark's `pmod(xxhash64(column), num_buckets)`.

    Integers hash as 8 little-endian bytes (Spark's bigint), strings as UTF-8.
    """
    encoded = array.dictionary_encode()
    return (_xxhash64(encoded.dictionary) % num_buckets)[_integers(encoded.indices)]


def _xxhash64(distinct: pa.Array) -> NDArray[np.int64]:
    """Signed 64-bit hashes of distinct values."""
    if pa.types.is_integer(distinct.type):
        raw = [value.tobytes() for value in _integers(distinct).astype("<i8")]
    else:
        raw = [value.encode() for value in pc.cast(distinct, pa.string()).to_pylist()]
    hashes = [xxhash.xxh64_intdigest(value, seed=HASH_SEED) for value in raw]
    return np.array(hashes, dtype=np.uint64).view(np.int64)


def encode_raw(column: pa.ChunkedArray, feature: RawFeature) -> Tensor:
    """float32 [N, dim]; nulls become the default value."""
    array = _one_array(column)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
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
    array = pc.fill_null(pc.cast(array, pa.float64(), safe=False), feature.default_value)
    values = _finite(array, f"raw_feature `{feature.name}`: column `{feature.column}`")
    return _tensor(values).reshape(-1, feature.dim)


# ------------------------------------------------------------------ labels, weights, groups


def encode_label(column: pa.ChunkedArray, task: Task) -> Tensor:
    """int64 [N] of classes, or float32 [N] for a regression."""
    if task.is_regression:
        return encode_number(column, task.label)
    values = encode_number(column, task.label)
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
    array = _one_array(column)
    if array.null_count:
        raise DataError(
            f"column `{name}` must have no null, but has {array.null_count}; fill or drop them"
        )
    return _tensor(_finite(pc.cast(array, pa.float64(), safe=False), f"column `{name}`"))


def _encode_weight(column: pa.ChunkedArray, name: str) -> Tensor:
    weights = encode_number(column, name)
    if bool((weights < 0).any()):
        raise DataError(f"sample weight column `{name}` must be >= 0, but got: {weights.min():g}")
    return weights


def encode_group(column: pa.ChunkedArray) -> Tensor:
    """int64 [N], equal where the column is equal; nulls are one group."""
    array = _one_array(column)
    if pa.types.is_integer(array.type):
        return _tensor(_integers(pc.fill_null(array, np.iinfo(np.int64).min)))
    encoded = pc.cast(array, pa.string()).dictionary_encode(null_encoding="encode")
    hashes = _xxhash64(pc.fill_null(encoded.dictionary, "\0null"))
    return _tensor(hashes[_integers(encoded.indices)])


# ------------------------------------------------------------------ Arrow helpers


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def _integers(array: pa.Array) -> NDArray[np.int64]:
    return pc.cast(array, pa.int64()).to_numpy(zero_copy_only=False)


def _finite(array: pa.Array, where: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused as such
        values = array.to_numpy(zero_copy_only=False).astype(np.float32)
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise DataError(
            f"{where} must be finite, but has {wrong} NaN or infinite values; "
            f"write null instead to take the default"
        )
    return values


def _tensor(values: NDArray) -> Tensor:
    """A tensor over the same memory; Arrow's is read-only, so such arrays are copied."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())
