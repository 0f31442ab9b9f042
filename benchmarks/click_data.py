"""A session dataset of any size for benchmarks, written without Spark: 16 id columns and a label.

The first files hold random rows; the rest are hard links to them, so that 100 million rows are
quick to make and take little disk, while each of them is read and decoded all the same.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing import dataset_format as fmt

NUM_ID_COLUMNS = 16
ID_COLUMNS = tuple(f"id_{number:02d}" for number in range(NUM_ID_COLUMNS))
NUM_IDS = 1_000_000
FILE_ROWS = 1_400_000
ROW_GROUP_ROWS = 350_000  # what the 16 MiB of the Spark job hold of these columns
PAGE_ROWS = 20_000  # parquet-mr's limit
DISTINCT_FILES = 7
MEAN_SESSION_ROWS = 10


def write_click_data(path: Path, num_rows: int, seed: int = 0) -> Path:
    """Write at least `num_rows` rows as a session dataset; returns its folder."""
    (path / fmt.INDEX_FOLDER).mkdir(parents=True)
    files = [_write_file(path, number, seed) for number in range(-(-num_rows // FILE_ROWS))]
    rows, sessions = sum(f.rows for f in files), sum(f.sessions for f in files)
    manifest = fmt.Manifest(
        session_columns=("session_id",),
        timestamp_column="timestamp",
        tie_breakers=(),
        schema=tuple(
            fmt.Column(name, "bigint") for name in ("session_id", "timestamp", *ID_COLUMNS, "click")
        ),
        files=tuple(files),
        statistics=fmt.Statistics(
            rows=rows,
            sessions=sessions,
            max_session_rows=_longest(path, files),
            session_rows_p50=MEAN_SESSION_ROWS,
            session_rows_p90=2 * MEAN_SESSION_ROWS,
            session_rows_p99=4 * MEAN_SESSION_ROWS,
            min_timestamp=0,
            max_timestamp=rows,
        ),
        fingerprint=f"benchmark-{num_rows}-{seed}",
    )
    (path / fmt.MANIFEST_NAME).write_text(manifest.to_json())
    return path


def _write_file(path: Path, number: int, seed: int) -> fmt.DataFile:
    name = fmt.data_file_name(number)
    if number < DISTINCT_FILES:
        lengths = _session_lengths(np.random.default_rng([seed, number]))
        table = _rows(lengths, np.random.default_rng([seed, number, 1]))
        pq.write_table(
            table,
            path / name,
            row_group_size=-(-table.num_rows // (FILE_ROWS // ROW_GROUP_ROWS)),
            max_rows_per_page=PAGE_ROWS,
            compression="zstd",
        )
        index = {
            fmt.ROW_START: pa.array(np.cumsum(lengths) - lengths, pa.int64()),
            fmt.NUM_ROWS: pa.array(lengths, pa.int32()),
        }
        pq.write_table(pa.table(index), path / fmt.INDEX_FOLDER / name, compression="zstd")
    else:
        original = fmt.data_file_name(number % DISTINCT_FILES)
        os.link(path / original, path / name)
        os.link(path / fmt.INDEX_FOLDER / original, path / fmt.INDEX_FOLDER / name)
    sessions = pq.read_metadata(path / fmt.INDEX_FOLDER / name).num_rows
    rows = pq.read_metadata(path / name).num_rows
    return fmt.DataFile(name, rows, sessions, (path / name).stat().st_size)


def _session_lengths(random: np.random.Generator) -> np.ndarray:
    lengths = random.geometric(1 / MEAN_SESSION_ROWS, FILE_ROWS // MEAN_SESSION_ROWS * 2)
    return lengths[: int(np.searchsorted(np.cumsum(lengths), FILE_ROWS)) + 1]


def _rows(lengths: np.ndarray, random: np.random.Generator) -> pa.Table:
    """Half of the columns hold ids of the session, the other half ids of the row, few and many."""
    num_rows = int(lengths.sum())
    columns = {
        "session_id": np.repeat(np.arange(len(lengths)), lengths),
        "timestamp": np.arange(num_rows),
    }
    for number, name in enumerate(ID_COLUMNS):
        most = int(NUM_IDS ** ((number % 8 + 1) / 8))
        if number < NUM_ID_COLUMNS // 2:
            columns[name] = np.repeat(random.integers(0, most, len(lengths)), lengths)
        else:
            columns[name] = random.integers(0, most, num_rows)
    columns["click"] = (random.random(num_rows) < 0.05).astype(np.int64)
    return pa.table(columns)


def _longest(path: Path, files: list[fmt.DataFile]) -> int:
    lengths = (pq.read_table(path / fmt.INDEX_FOLDER / file.name)[fmt.NUM_ROWS] for file in files)
    return max(int(each.to_numpy().max()) for each in lengths)
