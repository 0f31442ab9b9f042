"""SessionDataset: one or more dataset folders as blocks of whole sessions, read when needed.

A *block* is the sessions that start in one Parquet row group, with all their rows. The table of
blocks (file, rows) is in memory; session lengths and rows are read block by block.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.dataset_format import (
    INDEX_FOLDER,
    Column,
    DataFile,
    DatasetError,
    Manifest,
    read_index_file,
    read_manifest,
)
from trainer.data.plan import Int64Array
from trainer.data.storage import Storage, expand_paths

# A shuffle window: as many blocks as hold about this many rows, so that memory stays bounded, but
# never fewer or more blocks than these.
WINDOW_ROWS = 1 << 22
MIN_WINDOW_BLOCKS, MAX_WINDOW_BLOCKS = 8, 64
INDEX_CACHE_BYTES = 256 << 20
FOOTER_THREADS = 16

T = TypeVar("T")


@dataclass(frozen=True)
class ColumnRange:
    """What Parquet's statistics say of a column: smallest and largest value, number of nulls."""

    low: Any
    high: Any
    num_nulls: int


@dataclass(frozen=True)
class StoredFile:
    """A data file: its folder and what the manifest says of it."""

    folder: Storage
    facts: DataFile

    def __str__(self) -> str:
        return f"{self.folder}/{self.facts.name}"

    def parquet(self) -> pq.ParquetFile:
        """Open it. Raises OSError, ArrowException."""
        return pq.ParquetFile(
            self.folder.open(self.facts.name),
            pre_buffer=self.folder.is_remote,
            page_checksum_verification=True,  # where the file has checksums: Spark writes them
        )


@dataclass(frozen=True)
class BlockTable:
    """Where each block lies, int64 [N]: file, and first row and end of its row group."""

    file: Int64Array
    start: Int64Array
    stop: Int64Array

    def __len__(self) -> int:
        return len(self.file)


class SessionDataset:
    """The sessions of one or more folders that preprocessing/jrc_sort.py wrote.

    Attributes:
        path: as given.
        folders: as many as the path names.
        statistics: what the manifest of each folder says.
        files: data files, folder after folder.
        blocks: the table of blocks, in stored order.
        schema: columns and their Spark types.
        session_columns: the columns that tell sessions apart.
        num_rows, num_sessions, max_session_rows: over all folders.
        fingerprint: of all that the plan depends on: what lies where, and the row groups.
    """

    def __init__(self, path: str, folders: list[Storage], manifests: list[Manifest]) -> None:
        _check_alike(folders, manifests)
        self.path, self.folders = path, folders
        self.schema = manifests[0].schema
        self.session_columns = manifests[0].session_columns
        self.files = [
            StoredFile(folder, facts)
            for folder, manifest in zip(folders, manifests, strict=True)
            for facts in manifest.files
        ]
        self.statistics = [manifest.statistics for manifest in manifests]
        self.num_rows = sum(each.rows for each in self.statistics)
        self.num_sessions = sum(each.sessions for each in self.statistics)
        self.max_session_rows = max(each.max_session_rows for each in self.statistics)

        self._row_groups = self._of_each_file(_row_group_bounds)
        self.blocks = BlockTable(
            file=np.repeat(np.arange(len(self.files)), [len(b) - 1 for b in self._row_groups]),
            start=np.concatenate([bounds[:-1] for bounds in self._row_groups]),
            stop=np.concatenate([bounds[1:] for bounds in self._row_groups]),
        )
        digest = hashlib.sha256("".join(m.fingerprint for m in manifests).encode())
        for bounds in self._row_groups:
            digest.update(bounds.tobytes() + b"/")
        self.fingerprint = digest.hexdigest()
        counts = [file.facts.sessions for file in self.files]
        self._first_session = np.cumsum([0, *counts])
        self._indexes = _Cache(self._read_index, INDEX_CACHE_BYTES)

    @classmethod
    def open(cls, path: str | Path) -> "SessionDataset":
        """Open folders: paths or URLs, separated by commas, wildcards in their last part.

        Raises:
            DatasetError: a folder is not a whole dataset, or the folders differ in their columns.
        """
        folders = [Storage(each) for each in expand_paths(str(path))]
        return cls(str(path), folders, [read_manifest(folder) for folder in folders])

    @property
    def types(self) -> dict[str, str]:
        """Each column's Spark type."""
        return {column.name: column.type for column in self.schema}

    @property
    def window_blocks(self) -> int:
        """Blocks of a shuffle window."""
        blocks = WINDOW_ROWS * len(self.blocks) // self.num_rows
        return min(max(blocks, MIN_WINDOW_BLOCKS), MAX_WINDOW_BLOCKS)

    def lengths_of_block(self, block: int) -> NDArray[np.int32]:
        """Rows of each session that starts in a block, in stored order."""
        _, num_rows, sessions = self._sessions_of_block(block)
        return num_rows[sessions]

    def session_numbers(self, block: int, number: Int64Array) -> Int64Array:
        """Numbers, unique over the dataset, of sessions of a block."""
        *_, sessions = self._sessions_of_block(block)
        return number + self._first_session[self.blocks.file[block]] + sessions.start

    def place_of_session(self, number: int) -> tuple[StoredFile, int]:
        """The file of a session, by its number over the dataset, and its first row there."""
        file = int(self._first_session.searchsorted(number, side="right")) - 1
        row_start, _ = self._indexes[file]
        return self.files[file], int(row_start[number - self._first_session[file]])

    def read_block(
        self, block: int, columns: list[str]
    ) -> tuple[pa.Table, Int64Array, NDArray[np.int32]]:
        """The rows of a block's sessions; of each session the first row in them, and its rows.

        Raises:
            DatasetError: a file cannot be read.
        """
        row_start, num_rows, sessions = self._sessions_of_block(block)
        starts, lengths = row_start[sessions], num_rows[sessions]
        stop = int(starts[-1] + lengths[-1])
        table = self._read_rows(int(self.blocks.file[block]), int(starts[0]), stop, columns)
        return table, starts - starts[0], lengths

    def empty_table(self, columns: list[str]) -> pa.Table:
        """No rows, with the columns as the files have them."""
        with _reading(self.files[0]), self.files[0].parquet() as parquet:
            schema = parquet.schema_arrow
        return pa.schema([schema.field(name) for name in columns]).empty_table()

    def ranges_of(self, columns: list[str]) -> list[ColumnRange | None]:
        """Range of each flat column, if the statistics of every row group have it."""
        if not columns:
            return []
        files = self._of_each_file(lambda parquet: [_column_range(parquet, c) for c in columns])
        return [
            None if None in ranges else _joined([each for each in ranges if each])
            for ranges in zip(*files, strict=True)
        ]

    def _sessions_of_block(self, block: int) -> tuple[Int64Array, NDArray[np.int32], slice]:
        """The index of a block's file, and which of its sessions are the block's."""
        row_start, num_rows = self._indexes[int(self.blocks.file[block])]
        bounds = row_start.searchsorted([self.blocks.start[block], self.blocks.stop[block]])
        return row_start, num_rows, slice(int(bounds[0]), int(bounds[1]))

    def _read_index(self, number: int) -> tuple[Int64Array, NDArray[np.int32]]:
        file = self.files[number]
        name = f"{INDEX_FOLDER}/{file.facts.name}"
        with _reading(file):
            opened = file.folder.open(name)
        return read_index_file(opened, file.facts, f"{file.folder}/{name}")

    def _read_rows(self, number: int, start: int, stop: int, columns: list[str]) -> pa.Table:
        """Rows [start, stop) of a file, of its row groups from the first to the last needed.

        Asked for as one record batch: a column of numbers then comes in one piece, and the last row
        group is decoded no further than needed.
        """
        bounds = self._row_groups[number]
        first = int(np.searchsorted(bounds, start, side="right")) - 1
        last = int(np.searchsorted(bounds, stop, side="left"))
        num_rows, file = stop - int(bounds[first]), self.files[number]
        with _reading(file), file.parquet() as parquet:
            batches = parquet.iter_batches(
                num_rows, row_groups=range(first, last), columns=columns, use_threads=False
            )
            read = pa.Table.from_batches(_until(num_rows, batches))
        return read.slice(start - int(bounds[first]), stop - start)

    def _of_each_file(self, read: Callable[[pq.ParquetFile], T]) -> list[T]:
        def of_file(file: StoredFile) -> T:
            with _reading(file), file.parquet() as parquet:
                return read(parquet)

        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            return list(pool.map(of_file, self.files))


class _Cache:
    """What a function gives for the keys used last, up to a number of bytes; for many threads."""

    def __init__(self, read: Callable[[int], tuple[NDArray, NDArray]], max_bytes: int) -> None:
        self._read, self._max_bytes = read, max_bytes
        self._held: OrderedDict[int, tuple[NDArray, NDArray]] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, key: int) -> tuple[NDArray, NDArray]:
        with self._lock:
            if key not in self._held:
                self._held[key] = self._read(key)
            self._held.move_to_end(key)
            while len(self._held) > 1 and self._num_bytes() > self._max_bytes:
                self._held.popitem(last=False)
            return self._held[key]

    def _num_bytes(self) -> int:
        return sum(array.nbytes for arrays in self._held.values() for array in arrays)


@contextmanager
def _reading(file: StoredFile) -> Iterator[None]:
    """Errors of storage and of Parquet as DatasetError with the name of the file."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"{file} cannot be read ({reason}); copy it again, or write it again by "
            f"preprocessing/jrc_sort.py"
        ) from error


def _until(num_rows: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The first of them, together at least `num_rows` rows."""
    while num_rows > 0:
        batch = next(batches, None)
        if batch is None:
            raise pa.ArrowInvalid(f"it ends {num_rows} rows too early")
        num_rows -= batch.num_rows
        yield batch


def _check_alike(folders: list[Storage], manifests: list[Manifest]) -> None:
    def columns(manifest: Manifest) -> set[Column]:
        return set(manifest.schema)

    for folder, manifest in zip(folders, manifests, strict=True):
        other = columns(manifest) ^ columns(manifests[0])
        if other:
            names = ", ".join(sorted(f"{column.name} {column.type}" for column in other))
            raise DatasetError(
                f"datasets read as one must have the same columns, but {folders[0]} and {folder} "
                f"differ in: {names}"
            )
        if manifest.session_columns != manifests[0].session_columns:
            raise DatasetError(
                f"datasets read as one must have the same session column, but {folders[0]} has "
                f"{', '.join(manifests[0].session_columns)} and {folder} has "
                f"{', '.join(manifest.session_columns)}"
            )


def _row_group_bounds(parquet: pq.ParquetFile) -> Int64Array:
    """First row of each row group, and the number of rows of the file."""
    metadata = parquet.metadata
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return np.cumsum([0, *rows], dtype=np.int64)


def _column_range(parquet: pq.ParquetFile, name: str) -> ColumnRange | None:
    metadata = parquet.metadata
    paths = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    if name not in paths:
        return None
    ranges = []
    for group in range(metadata.num_row_groups):
        rows, column = (
            metadata.row_group(group).num_rows,
            metadata.row_group(group).column(paths.index(name)),
        )
        stats = column.statistics
        if stats is None or not stats.has_null_count:
            return None
        if not stats.has_min_max and stats.null_count < rows:
            return None
        low, high = (stats.min, stats.max) if stats.has_min_max else (None, None)
        ranges.append(ColumnRange(low, high, stats.null_count))
    return _joined(ranges)


def _joined(ranges: list[ColumnRange]) -> ColumnRange:
    """The range of all, where some may have nulls only."""
    with_values = [each for each in ranges if each.low is not None]
    nulls = sum(each.num_nulls for each in ranges)
    if not with_values:
        return ColumnRange(None, None, nulls)
    low = min(each.low for each in with_values)
    return ColumnRange(low, max(each.high for each in with_values), nulls)
