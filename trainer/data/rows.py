"""Encoded rows in NumPy: what the loader shuffles, splits and joins before it makes batches."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainer.data.memory import pooled_concat
from trainer.data.plan import Int64Array


@dataclass(slots=True)
class Lists:
    """Values of N rows, row after row.

    values: ids, int64 [T], or vectors, float32 [T, D].
    lengths: of each row how many, int64 [N].
    weights: float32 [T]; None without weights.
    """

    values: NDArray
    lengths: Int64Array
    weights: NDArray[np.float32] | None = None

    def split(self, row_ends: Int64Array) -> list["Lists"]:
        """Runs of rows that end before these rows, without a copy."""
        value_ends = np.concatenate([[0], np.cumsum(self.lengths)])[row_ends].tolist()
        rows, values = pairwise([0, *row_ends.tolist()]), pairwise([0, *value_ends])
        return [
            Lists(
                self.values[start:stop],
                self.lengths[first:end],
                None if self.weights is None else self.weights[start:stop],
            )
            for (first, end), (start, stop) in zip(rows, values, strict=True)
        ]

    @classmethod
    def concat(cls, parts: list["Lists"]) -> "Lists":
        """One after the other, copied; at least one."""
        weights = [part.weights for part in parts if part.weights is not None]
        return cls(
            values=pooled_concat([part.values for part in parts]),
            lengths=pooled_concat([part.lengths for part in parts]),
            weights=pooled_concat(weights) if weights else None,
        )


@dataclass(slots=True)
class Rows:
    """N encoded rows, in NumPy, whose views of many small runs of rows cost little.

    names: of the K features that mostly have one id a row.
    scalars: their ids, int64 [K, N].
    has_id: bool [K, N], where a row without an id has False; None if all have one.
    further: by name, the ids that follow a row's first one; only of features that have such.
    lists: by name, the features with any number of values a row.
    dense: raw features side by side, float32 [N, D].
    columns: [N] each, as ColumnSpec.column_keys names them: labels, weights, groups.
    """

    names: tuple[str, ...]
    scalars: NDArray[np.int64]
    has_id: NDArray[np.bool_] | None
    further: dict[str, Lists]
    lists: dict[str, Lists]
    dense: NDArray[np.float32]
    columns: list[NDArray]

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.dense)

    def ids_of(self, name: str) -> Lists:
        """All ids of a feature, a row's first one and those that follow it."""
        if name in self.lists:
            return self.lists[name]
        number = self.names.index(name)
        has_id = np.ones(self.num_rows, bool) if self.has_id is None else self.has_id[number]
        further = self.further.get(name)
        if further is None:
            return Lists(self.scalars[number][has_id], has_id.astype(np.int64))
        lengths = has_id + further.lengths
        is_first = np.zeros(int(lengths.sum()), bool)
        is_first[(np.cumsum(lengths) - lengths)[has_id]] = True
        values = np.empty(len(is_first), np.int64)
        values[is_first], values[~is_first] = self.scalars[number][has_id], further.values
        return Lists(values, lengths)

    def split(self, sizes: Int64Array) -> list["Rows"]:
        """Runs of rows of those sizes, one after the other, without a copy."""
        ends = np.cumsum(sizes)
        further = {name: each.split(ends) for name, each in self.further.items()}
        lists = {name: each.split(ends) for name, each in self.lists.items()}
        return [
            Rows(
                names=self.names,
                scalars=self.scalars[:, start:stop],
                has_id=None if self.has_id is None else self.has_id[:, start:stop],
                further={name: pieces[i] for name, pieces in further.items()},
                lists={name: pieces[i] for name, pieces in lists.items()},
                dense=self.dense[start:stop],
                columns=[each[start:stop] for each in self.columns],
            )
            for i, (start, stop) in enumerate(pairwise([0, *ends.tolist()]))
        ]

    @classmethod
    def concat(cls, parts: list["Rows"]) -> "Rows":
        """One after the other, copied; at least one."""
        columns = zip(*(p.columns for p in parts), strict=True)
        return cls(
            names=parts[0].names,
            scalars=pooled_concat([part.scalars for part in parts], axis=1),
            has_id=_concat_masks(parts),
            further=_concat_further(parts),
            lists={
                name: Lists.concat([part.lists[name] for part in parts]) for name in parts[0].lists
            },
            dense=pooled_concat([part.dense for part in parts]),
            columns=[pooled_concat(each) for each in columns],
        )


def _concat_masks(parts: list[Rows]) -> NDArray[np.bool_] | None:
    if all(part.has_id is None for part in parts):
        return None
    masks = [np.ones(p.scalars.shape, dtype=bool) if p.has_id is None else p.has_id for p in parts]
    return pooled_concat(masks, axis=1)


def _concat_further(parts: list[Rows]) -> dict[str, Lists]:
    names = dict.fromkeys(name for part in parts for name in part.further)
    return {
        name: Lists.concat(
            [
                part.further.get(name)
                or Lists(np.empty(0, np.int64), np.zeros(part.num_rows, np.int64))
                for part in parts
            ]
        )
        for name in names
    }
