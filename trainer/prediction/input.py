"""What prediction reads: Parquet files in the order of their names, cut into parts.

A part is about some row groups of one file and becomes one output file. Parts depend on the input
alone, not on the ranks: whatever was written before an interruption is kept by whoever goes on.
Parts and batches of a session dataset hold whole sessions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.dataset_format import (
    INDEX_FOLDER,
    MANIFEST_NAME,
    DataFile,
    DatasetError,
    read_index_file,
    read_manifest,
)
from trainer.data.plan import Int64Array
from trainer.data.storage import Storage, expand_paths

ROWS_PER_PART = 1 << 20  # or one row group that has more

_SPARK_TYPES = {
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float": "float",
    "double": "double",
    "bool": "boolean",
    "string": "string",
    "large_string": "string",
}


@dataclass(frozen=True)
class InputFile:
    """A Parquet file: its folder, its name there, and of a session dataset the manifest's facts."""

    folder: Storage
    name: str
    facts: DataFile | None = None

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def parquet(self) -> pq.ParquetFile:
        """Open it. Raises DatasetError."""
        with self._reading(str(self)):
            return pq.ParquetFile(
                self.folder.open(self.name),
                pre_buffer=self.folder.is_remote,
                page_checksum_verification=True,
            )

    def session_ends(self) -> Int64Array | None:
        """The row after each session, [S], in a session dataset; else None. Raises DatasetError."""
        if self.facts is None:
            return None
        source = f"{self.folder}/{INDEX_FOLDER}/{self.name}"
        with self._reading(source):
            opened = self.folder.open(f"{INDEX_FOLDER}/{self.name}")
        row_start, num_rows = read_index_file(opened, self.facts, source)
        return row_start + num_rows

    @contextmanager
    def _reading(self, source: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise DatasetError(f"{source} cannot be read ({reason}); copy it again") from error


@dataclass(frozen=True)
class InputPart:
    """Rows [start, stop) of a file.

    number: of the part among all; output files are in this order.
    """

    number: int
    file: InputFile
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """At least one."""
        return self.stop - self.start

    @property
    def output_name(self) -> str:
        """The file that its predictions go to."""
        return f"part-{self.number:05d}.parquet"

    def batch_rows(self, batch_size: int) -> list[int]:
        """Rows of each batch: batch_size, or the whole sessions that fit in; one at least."""
        session_ends = self.file.session_ends()
        ends, first = [], self.start
        while first < self.stop:
            last = min(first + batch_size, self.stop)
            if session_ends is not None:
                place = session_ends.searchsorted(last, side="right") - 1
                this_session = session_ends.searchsorted(first, side="right")
                last = int(session_ends[max(place, this_session)])
            ends.append(last)
            first = last
        return np.diff(ends, prepend=self.start).tolist()

    def read(self, columns: list[str], batch_rows: list[int]) -> Iterator[pa.Table]:
        """Its rows in order, so many at a time."""
        with self.file.parquet() as parquet:
            bounds = _row_group_bounds(parquet.metadata)
            first = int(bounds.searchsorted(self.start, side="right")) - 1
            groups = range(first, int(bounds.searchsorted(self.stop)))
            read = parquet.iter_batches(
                max(batch_rows), row_groups=groups, columns=columns, use_threads=False
            )
            waiting = pa.Table.from_batches([next(read)])
            skipped = self.start - int(bounds[first])
            for rows in batch_rows:
                while waiting.num_rows < skipped + rows:
                    waiting = pa.concat_tables([waiting, pa.Table.from_batches([next(read)])])
                yield waiting.slice(skipped, rows)
                waiting, skipped = waiting.slice(skipped + rows), 0


@dataclass(frozen=True)
class PredictInput:
    """All parts, the columns of the files, and a line per file that tells it from another."""

    parts: list[InputPart]
    schema: pa.Schema
    files: list[str]

    @property
    def num_rows(self) -> int:
        """Of all parts."""
        return sum(part.num_rows for part in self.parts)

    @property
    def spark_types(self) -> dict[str, str]:
        """Each column's type in Spark's words."""
        return {field.name: spark_type(field.type) for field in self.schema}

    @classmethod
    def open(cls, path: str) -> "PredictInput":
        """Session datasets or folders of Parquet files, or one file; see storage.expand_paths.

        Raises:
            DatasetError: there is no Parquet file, one cannot be read, or their columns differ.
        """
        parts: list[InputPart] = []
        schema, files = None, []
        for file in _input_files(path):
            with file.parquet() as parquet:
                found = parquet.schema_arrow.remove_metadata()
                metadata = parquet.metadata
            if schema is not None and not found.equals(schema):
                raise DatasetError(
                    f"files of {path} must have the same columns, but {file} differs from those "
                    f"before it: {_difference(schema, found)}"
                )
            schema = found
            bounds = _row_group_bounds(metadata)
            edges = _part_edges(bounds, file.session_ends())
            pairs = enumerate(pairwise(edges), start=len(parts))
            parts += [InputPart(number, file, first, last) for number, (first, last) in pairs]
            files.append(f"{file} {file.folder.size(file.name)} {np.diff(bounds).tolist()}")
        if not parts or schema is None:
            raise DatasetError(f"predict_input_path {path} must have rows, but has none")
        return cls(parts, schema, files)


def spark_type(type_: pa.DataType) -> str:
    """Spark's name of an Arrow type; that of a type it does not share is Arrow's."""
    if pa.types.is_dictionary(type_):
        return spark_type(type_.value_type)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"array<{spark_type(type_.value_type)}>"
    if pa.types.is_map(type_):
        return f"map<{spark_type(type_.key_type)},{spark_type(type_.item_type)}>"
    return _SPARK_TYPES.get(str(type_), str(type_))


def _input_files(path: str) -> list[InputFile]:
    files = []
    for each in expand_paths(path):
        if each.endswith(".parquet"):
            folder, _, name = each.rpartition("/")
            files.append(InputFile(Storage(folder or "."), name))
            continue
        folder = Storage(each)
        if folder.exists(MANIFEST_NAME):
            files += [InputFile(folder, file.name, file) for file in read_manifest(folder).files]
            continue
        names = [n for n in folder.files() if n.endswith(".parquet") and n[0] not in "._"]
        if not names:
            raise DatasetError(
                f"predict_input_path must be a folder of Parquet files, but {each} has none"
            )
        files += [InputFile(folder, name) for name in names]
    return files


def _row_group_bounds(metadata: pq.FileMetaData) -> Int64Array:
    """First row of each row group, and the number of rows of the file."""
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return np.cumsum([0, *rows], dtype=np.int64)


def _part_edges(bounds: Int64Array, session_ends: Int64Array | None) -> list[int]:
    """Where the parts of a file begin, and its end: at row groups, or the next end of a session."""
    edges = [0]
    for bound in bounds[1:].tolist():
        if bound - edges[-1] >= ROWS_PER_PART or bound == bounds[-1]:
            if session_ends is not None:
                bound = int(session_ends[session_ends.searchsorted(bound)])
            edges.append(bound)
    return sorted(set(edges))


def _difference(one: pa.Schema, other: pa.Schema) -> str:
    fields = {f"{field.name} {field.type}" for field in one} ^ {
        f"{field.name} {field.type}" for field in other
    }
    return ", ".join(sorted(fields)) or "their order"
