"""Sums per key over any number of rows, in constant memory: too many keys are made fewer.

Shapes: `N` rows of an update, `K` different keys, `C` columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.ranks import Ranks


class KeyedSums(ABC):
    """Sorted int64 keys [K] and columns [K] of sums.

    Args:
        max_keys: keys kept at most.
        dtypes: of each column.

    Attributes:
        level: how often the keys became too many, and fewer by `reduced`. 0: all is exact.
    """

    def __init__(self, max_keys: int, dtypes: Sequence[type[np.generic]]) -> None:
        self.max_keys, self.dtypes, self.level = max_keys, dtypes, 0
        self._keys = np.empty(0, dtype=np.int64)
        self._columns: list[NDArray] = [np.empty(0, dtype=dtype) for dtype in dtypes]
        self._pending: list[tuple[NDArray, list[NDArray]]] = []
        self._pending_rows = 0

    @abstractmethod
    def reduced(
        self, keys: NDArray, columns: list[NDArray], level: int, to_level: int
    ) -> tuple[NDArray, list[NDArray]]:
        """Keys of one level as those of a higher one, in the same order."""

    @abstractmethod
    def empty(self) -> "KeyedSums":
        """The same without a row."""

    def add(self, keys: NDArray, columns: list[NDArray], level: int = 0) -> None:
        """Add rows: keys [N], of that level, and what to sum, [N] each."""
        if level > self.level:
            self._fold()
            self._raise_to(level)
        self._pending.append(self.reduced(keys, columns, level, self.level))
        self._pending_rows += len(keys)
        if self._pending_rows > self.max_keys:
            self._fold()

    def sums(self) -> tuple[NDArray, list[NDArray]]:
        """Ascending keys [K], and the sums of each column [K]."""
        self._fold()
        return self._keys, self._columns

    def add_ranks(self, ranks: Ranks, to: "KeyedSums") -> None:
        """Add the sums of all ranks to those of `to`, on each rank. A collective call."""
        own, columns = self.sums()
        level = np.full(len(own), self.level)
        for keys, *sums, levels in ranks.each([own, *columns, level]):
            to.add(keys, sums, int(levels.max(initial=0)))

    def _fold(self) -> None:
        if not self._pending:
            return
        parts = [(self._keys, self._columns), *self._pending]
        self._pending, self._pending_rows = [], 0
        keys = np.concatenate([keys for keys, _ in parts])
        order = np.argsort(keys, kind="stable")
        columns = zip(*(columns for _, columns in parts), strict=True)
        self._set(keys[order], [np.concatenate(each)[order] for each in columns])
        while len(self._keys) > self.max_keys:
            self._raise_to(self.level + 1)

    def _raise_to(self, level: int) -> None:
        keys, columns = self.reduced(self._keys, self._columns, self.level, level)
        self.level = level
        self._set(keys, columns)

    def _set(self, keys: NDArray, columns: list[NDArray]) -> None:
        """Rows in ascending order of their keys; those of equal keys become one."""
        is_first = np.ones(len(keys), dtype=bool)
        is_first[1:] = keys[1:] != keys[:-1]
        starts = np.flatnonzero(is_first)
        if len(starts) < len(keys):
            keys, columns = keys[starts], [np.add.reduceat(each, starts) for each in columns]
        self._keys = keys
        self._columns = [c.astype(t) for c, t in zip(columns, self.dtypes, strict=True)]
