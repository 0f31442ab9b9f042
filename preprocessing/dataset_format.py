"""The session dataset on disk: names, manifest, and the trainer's reading side.

    dataset/
      part-00000.parquet          rows: every session whole in one file, contiguous, in time order
      _index/part-00000.parquet   row_start, num_rows of every session of that data file
      _manifest.json              written last: without it the dataset is not finished

Parquet readers skip names that start with `_`, so the folder also reads as plain Parquet. The Spark
job imports this module where there is no pyarrow and numpy; `read_session_index` alone loads them.

Shapes: `S` sessions of the whole dataset, in file order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = 1
MANIFEST_NAME = "_manifest.json"
INDEX_FOLDER = "_index"
ROW_START = "row_start"
NUM_ROWS = "num_rows"
MAX_FILES = 100_000  # five digits, so that name order is number order
_DATA_FILE = re.compile(r"part-\d{5}(-g\d+)?\.parquet", re.ASCII)  # no way out of the folder


class DatasetError(ValueError):
    """A folder that is not a whole session dataset; the message says what to do."""


def data_file_name(number: int, generation: int = 1) -> str:
    """Name of data file `number`: `part-00000.parquet`.

    A job that replaces a dataset writes the next generation beside it: `part-00000-g2.parquet`.
    """
    if not 0 <= number < MAX_FILES:
        raise ValueError(f"data file number must be in [0, {MAX_FILES}), but got {number}")
    suffix = f"-g{generation}" if generation > 1 else ""
    return f"part-{number:05d}{suffix}.parquet"


@dataclass(frozen=True)
class Column:
    """A data column and its Spark type as `simpleString` writes it (`bigint`, `array<int>`)."""

    name: str
    type: str


@dataclass(frozen=True)
class DataFile:
    """One data file: its name, rows, sessions and size in bytes.

    `content_hash` depends on every value and the place of each row; older datasets have none.
    """

    name: str
    rows: int
    sessions: int
    bytes: int
    content_hash: int | None = None


@dataclass(frozen=True)
class Statistics:
    """Counts over the dataset; session lengths are in rows.

    `min_timestamp` and `max_timestamp` are a number for a column of integers or floats, the digits
    as a string for a decimal column, else an ISO 8601 string (UTC, ending in `Z`, for a Spark
    TIMESTAMP). Percentiles are nearest-rank, over sessions.
    """

    rows: int
    sessions: int
    max_session_rows: int
    session_rows_p50: int
    session_rows_p90: int
    session_rows_p99: int
    min_timestamp: int | float | str
    max_timestamp: int | float | str


@dataclass(frozen=True)
class Manifest:
    """What `_manifest.json` says.

    `fingerprint` is a hash of what the files hold, every value of every column, and of where each
    row lies; not of when, where or by which compression library they were written. So it is the
    identity of the data set for training. Where the session column is a 64-bit hash, or counts
    pieces of a user's history, `identity_columns` tell sessions apart for sure; none: the session
    column does.
    """

    session_columns: tuple[str, ...]
    timestamp_column: str
    tie_breakers: tuple[str, ...]
    schema: tuple[Column, ...]
    files: tuple[DataFile, ...]
    statistics: Statistics
    fingerprint: str
    identity_columns: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The manifest as text; equal manifests give equal bytes."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = MANIFEST_NAME) -> Manifest:
        """Parse and check `text`; `source` is its place, for messages.

        Raises:
            DatasetError: `text` is not JSON, has another version, lacks a key, or contradicts
                itself.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
            raise _damaged(source, f"it is not JSON ({error})") from None
        if not isinstance(fields, dict):
            raise _damaged(source, f"it must be a JSON object, but is a {type(fields).__name__}")
        version = _value(fields, "format_version", int, source)
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"format_version must be {FORMAT_VERSION}, but {source} has {version}; "
                "read it with the release that wrote it, or run preprocessing/jrc_sort.py again"
            )
        manifest = cls(
            session_columns=_names(fields, "session_columns", source),
            timestamp_column=_value(fields, "timestamp_column", str, source),
            tie_breakers=_names(fields, "tie_breakers", source),
            schema=tuple(_record(Column, row, source) for row in _rows(fields, "schema", source)),
            files=tuple(_record(DataFile, row, source) for row in _rows(fields, "files", source)),
            statistics=_record(Statistics, _value(fields, "statistics", dict, source), source),
            fingerprint=_value(fields, "fingerprint", str, source),
            identity_columns=_names({"identity_columns": [], **fields}, "identity_columns", source),
        )
        manifest._check(source)
        return manifest

    def _check(self, source: str) -> None:
        names = [file.name for file in self.files]
        strange = [name for name in names if not _DATA_FILE.fullmatch(name)]
        if strange:
            raise _damaged(
                source, f"`files` must have names like {data_file_name(0)}, but has {strange[0]!r}"
            )
        if names != sorted(set(names)):
            raise _damaged(source, "`files` must be in name order, each once")
        for total in ("rows", "sessions"):
            in_files = sum(getattr(file, total) for file in self.files)
            stated = getattr(self.statistics, total)
            if in_files != stated:
                raise _damaged(
                    source, f"statistics.{total} is {stated}, but `files` has {in_files}"
                )
        missing = {*self.session_columns, self.timestamp_column} - {c.name for c in self.schema}
        if missing:
            raise _damaged(source, f"`schema` lacks the key column {sorted(missing)[0]!r}")


@dataclass(frozen=True)
class SessionIndex:
    """Where every session lies, in file order.

    file_index  0 0 0 1 1      which of `Manifest.files`
    row_start   0 2 3 0 4      first row inside that file
    num_rows    2 1 5 4 3      rows of the session
    """

    file_index: np.ndarray  # int32 [S]
    row_start: np.ndarray  # int64 [S]
    num_rows: np.ndarray  # int32 [S]

    @property
    def num_sessions(self) -> int:
        """S."""
        return len(self.num_rows)


class Folder(Protocol):
    """What is read of a dataset folder, wherever it lies; `name` is a path inside it."""

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name, or the folder itself."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file. Raises FileNotFoundError."""
        ...

    def read_bytes(self, name: str) -> bytes:
        """What a file holds. Raises OSError."""
        ...


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name, or the folder itself."""
        return (self.path / name).exists()

    def size(self, name: str) -> int:
        """Bytes of a file. Raises FileNotFoundError."""
        return (self.path / name).stat().st_size

    def read_bytes(self, name: str) -> bytes:
        """What a file holds. Raises OSError."""
        return (self.path / name).read_bytes()


def read_manifest(path: str | Path | Folder) -> Manifest:
    """Read the manifest of the dataset folder `path` and check it against the files there.

    Raises:
        DatasetError: no such folder; no manifest; a manifest of another version, damaged, or of
            zero rows; a listed file that is missing or has another size than the job wrote.
    """
    folder = LocalFolder(Path(path)) if isinstance(path, str | Path) else path
    if not folder.exists():
        raise DatasetError(f"dataset must be a folder, but there is none at {str(folder)!r}")
    if not folder.exists(MANIFEST_NAME):
        raise DatasetError(
            f"dataset {str(folder)!r} has no {MANIFEST_NAME}: unfinished or not a session dataset; "
            "run preprocessing/jrc_sort.py to write one"
        )
    source = f"{folder}/{MANIFEST_NAME}"
    try:
        text = folder.read_bytes(MANIFEST_NAME).decode()
    except UnicodeDecodeError as error:
        raise _damaged(source, f"it is not UTF-8 ({error})") from None
    manifest = Manifest.from_json(text, source)
    if manifest.statistics.rows == 0:
        raise DatasetError(f"dataset must have at least one row, but {str(folder)!r} is empty")
    for file in manifest.files:
        size = _file_size(folder, file.name)
        if size != file.bytes:
            raise _damaged(
                f"{folder}/{file.name}", f"it must have {file.bytes} bytes, but has {size}"
            )
        _file_size(folder, f"{INDEX_FOLDER}/{file.name}")
    return manifest


def read_session_index(path: str | Path, manifest: Manifest) -> SessionIndex:
    """Read the session index of the dataset folder `path`, files in the manifest's order.

    Raises:
        DatasetError: as `read_index_file`.
    """
    import numpy as np

    folder = Path(path) / INDEX_FOLDER
    parts = [
        read_index_file(folder / file.name, file, str(folder / file.name))
        for file in manifest.files
    ]
    sessions = [len(num_rows) for _, num_rows in parts]
    file_index = np.repeat(np.arange(len(sessions), dtype=np.int32), sessions)
    row_start, num_rows = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return SessionIndex(file_index, row_start, num_rows)


def read_index_file(opened: Any, file: DataFile, source: str) -> tuple[np.ndarray, np.ndarray]:
    """The sessions of one data file: row_start int64 [S] and num_rows int32 [S].

    Args:
        opened: its index file: a path, or a file as PyArrow opens it.
        file: what the manifest says of it.
        source: its place, for messages.

    Raises:
        DatasetError: the index file is unreadable, or its sessions do not cover the rows of its
            data file exactly.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(ROW_START, pa.int64()), (NUM_ROWS, pa.int32())])
    try:
        table = pq.ParquetFile(opened).read(columns=schema.names).select(schema.names).cast(schema)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _damaged(source, f"it is not an index file ({error})") from None
    row_start, num_rows = (np.asarray(table[name].to_numpy()) for name in schema.names)
    _check_cover(row_start, num_rows, file, source)
    return row_start, num_rows


def _check_cover(row_start: np.ndarray, num_rows: np.ndarray, file: DataFile, source: str) -> None:
    """Sessions must follow each other without gap from row 0 to the last row of `file`."""
    if len(num_rows) != file.sessions:
        raise _damaged(source, f"it must list {file.sessions} sessions, but lists {len(num_rows)}")
    row_end = num_rows.cumsum(dtype="int64")  # [sessions of the file]
    covered = (num_rows > 0).all() and (row_start == row_end - num_rows).all()
    if not covered or row_end[-1] != file.rows:
        raise _damaged(
            source, f"its sessions must cover the {file.rows} rows of {file.name} exactly"
        )


def _file_size(folder: Folder, name: str) -> int:
    try:
        return folder.size(name)
    except FileNotFoundError:
        raise _damaged(f"{folder}/{name}", "the manifest lists it, but it is missing") from None


def _damaged(source: str, reason: str) -> DatasetError:
    return DatasetError(f"{source}: {reason}; copy it again or run preprocessing/jrc_sort.py again")


def _value(fields: Mapping[str, Any], key: str, kind: type | tuple[type, ...], source: str) -> Any:
    if key not in fields:
        raise _damaged(source, f"it lacks the key {key!r}")
    value = fields[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _damaged(source, f"{key!r} has a wrong type, {type(value).__name__}")
    return value


def _names(fields: Mapping[str, Any], key: str, source: str) -> tuple[str, ...]:
    names = _value(fields, key, list, source)
    if not all(isinstance(name, str) for name in names):
        raise _damaged(source, f"{key!r} must be a list of names, but is {names!r}")
    return tuple(names)


def _rows(fields: Mapping[str, Any], key: str, source: str) -> list[Mapping[str, Any]]:
    rows = _value(fields, key, list, source)
    if not all(isinstance(row, dict) for row in rows):
        raise _damaged(source, f"{key!r} must be a list of JSON objects")
    return rows


_KINDS = {
    "int": int,
    "int | None": int,
    "str": str,
    "int | float | str": (int, float, str),
}


def _record(cls: type, fields: Mapping[str, Any], source: str) -> Any:
    """A dataclass of ints and strings from JSON; keys of later minor additions are left aside."""
    kinds = {
        name: _KINDS[kind]
        for name, kind in cls.__annotations__.items()
        if fields.get(name) is not None or not hasattr(cls, name)  # with a default: may be missing
    }
    return cls(**{name: _value(fields, name, kind, source) for name, kind in kinds.items()})
