"""Parquet row groups -> Arrow tables of whole sessions, in the order of the plan.

A *block* is a Parquet row group together with the rest of its last session; the shuffle permutes
blocks, and a *window* of some blocks is in memory at a time.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.dataset_format import Manifest, SessionIndex, read_manifest, read_session_index
from trainer.plan import EpochPlan, Int64Array


@dataclass(frozen=True)
class ColumnRange:
    """What Parquet's statistics say of a column: smallest and largest value, number of nulls."""

    low: Any
    high: Any
    num_nulls: int


@dataclass(frozen=True)
class SessionDataset:
    """A session dataset with its index in memory.

    S sessions: `file_index`, `row_start`, `num_rows` and `block`, int64 [S], in file order.
    """

    path: Path
    files: list[Path]
    index: SessionIndex
    block: Int64Array
    row_group_starts: list[Int64Array]
    manifest: Manifest
    ranges: dict[str, ColumnRange]

    @classmethod
    def open(cls, path: str | Path) -> "SessionDataset":
        """Open a folder that preprocessing/jrc_sort.py wrote. Raises its format's errors."""
        manifest = read_manifest(path)
        index = read_session_index(path, manifest)
        files = [Path(path) / file.name for file in manifest.files]
        metadata = [pq.read_metadata(file) for file in files]
        starts = [_row_group_starts(each) for each in metadata]
        group_of_session = np.empty(len(index.num_rows), dtype=np.int64)
        for number, file_starts in enumerate(starts):
            mine = index.file_index == number
            group = np.searchsorted(file_starts, index.row_start[mine], side="right") - 1
            group_of_session[mine] = group
        # Blocks are the row groups in which at least one session starts, numbered in file order.
        new_block = (np.diff(index.file_index, prepend=-1) != 0) | (
            np.diff(group_of_session, prepend=-1) != 0
        )
        ranges = _column_ranges(metadata)
        return cls(Path(path), files, index, np.cumsum(new_block) - 1, starts, manifest, ranges)

    @property
    def num_sessions(self) -> int:
        """S."""
        return len(self.index.num_rows)

    @property
    def fingerprint(self) -> str:
        """Of all that the plan depends on: what lies where, and the row groups."""
        digest = hashlib.sha256(self.manifest.fingerprint.encode())
        for starts in self.row_group_starts:
            digest.update(starts.tobytes() + b"/")
        return digest.hexdigest()

    def read_windows(
        self, plan: EpochPlan, rank: int, world_size: int, columns: list[str], first_step: int = 0
    ) -> Iterator[pa.Table]:
        """A rank's rows from `first_step` on, in stream order, one table per window."""
        first, last = plan.share(rank, world_size)
        positions = _ranges(first[first_step:], last[first_step:])
        edges = np.searchsorted(positions, np.append(plan.window_starts, len(plan.order)))
        for start, stop in itertools.pairwise(edges):
            if start < stop:
                yield self.read_sessions(plan.order[positions[start:stop]], columns)

    def read_sessions(self, sessions: Int64Array, columns: list[str]) -> pa.Table:
        """The rows of some sessions, in the order given."""
        tables, first_row = [], np.empty(len(sessions), dtype=np.int64)
        offset = 0
        blocks = self.block[sessions]
        for block in np.unique(blocks):
            chosen = np.flatnonzero(blocks == block)
            numbers = sessions[chosen]
            start = int(self.index.row_start[numbers].min())
            stop = int((self.index.row_start[numbers] + self.index.num_rows[numbers]).max())
            table = self._read_rows(int(self.index.file_index[numbers[0]]), start, stop, columns)
            first_row[chosen] = self.index.row_start[numbers] - start + offset
            offset += table.num_rows
            tables.append(table)
        table = pa.concat_tables(tables).combine_chunks()
        return table.take(_ranges(first_row, first_row + self.index.num_rows[sessions]))

    def _read_rows(self, file: int, start: int, stop: int, columns: list[str]) -> pa.Table:
        """Rows [start, stop) of a file; of its last row group only the needed head is decoded."""
        group_starts = self.row_group_starts[file]
        first = int(np.searchsorted(group_starts, start, side="right")) - 1
        last = int(np.searchsorted(group_starts, stop, side="left")) - 1
        skip = start - int(group_starts[first])
        parts = []
        with pq.ParquetFile(self.files[file], memory_map=True) as parquet:
            if first < last:
                parts.append(parquet.read_row_groups(list(range(first, last)), columns=columns))
            need = stop - int(group_starts[last])
            for part in parquet.iter_batches(need, row_groups=[last], columns=columns):
                parts.append(pa.Table.from_batches([part]))
                break
        table = pa.concat_tables(parts)
        return table.slice(skip, stop - start)


def _row_group_starts(metadata: pq.FileMetaData) -> Int64Array:
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return np.concatenate([[0], np.cumsum(rows)])[:-1].astype(np.int64)


def _column_ranges(metadata: list[pq.FileMetaData]) -> dict[str, ColumnRange]:
    """Of each flat column whose statistics are whole in every row group."""
    found: dict[str, ColumnRange] = {}
    unknown: set[str] = set()
    for file in metadata:
        for group in range(file.num_row_groups):
            for number in range(file.num_columns):
                column = file.row_group(group).column(number)
                name, stats = column.path_in_schema, column.statistics
                if stats is None or not stats.has_null_count:
                    unknown.add(name)
                elif stats.has_min_max:
                    low, high, nulls = stats.min, stats.max, stats.null_count
                    known = found.get(name)
                    if known is not None:
                        nulls += known.num_nulls
                    if known is not None and known.low is not None:
                        low, high = min(low, known.low), max(high, known.high)
                    found[name] = ColumnRange(low, high, nulls)
                elif stats.null_count < file.row_group(group).num_rows:
                    unknown.add(name)
                else:
                    known = found.get(name, ColumnRange(None, None, 0))
                    found[name] = replace(known, num_nulls=known.num_nulls + stats.null_count)
    return {name: known for name, known in found.items() if name not in unknown}


def _ranges(starts: NDArray, stops: NDArray) -> Int64Array:
    """[start, ..., stop - 1] of each pair, one after the other."""
    lengths = (stops - starts).astype(np.int64)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
