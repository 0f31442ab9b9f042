"""Small session datasets for tests, written without Spark."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preprocessing import dataset_format as fmt

SPARK_TYPES = {
    "int64": "bigint",
    "int32": "int",
    "string": "string",
    "float": "float",
    "double": "double",
    "bool": "boolean",
}


def spark_type(type_: pa.DataType) -> str:
    """Spark's simpleString of an Arrow type."""
    if pa.types.is_list(type_):
        return f"array<{spark_type(type_.value_type)}>"
    return SPARK_TYPES[str(type_)]


def write_dataset(
    path: Path,
    table: pa.Table,
    *,
    session: str = "session_id",
    timestamp: str = "timestamp",
    num_files: int = 2,
    row_group_rows: int = 64,
) -> Path:
    """Write rows, already grouped by session, as a session dataset; returns its folder."""
    keys = table.column(session).to_pylist()
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    lengths = np.diff([*starts, len(keys)])
    (path / fmt.INDEX_FOLDER).mkdir(parents=True)
    files = []
    for number, sessions in enumerate(np.array_split(np.arange(len(starts)), num_files)):
        if len(sessions) == 0:
            continue
        first, rows = starts[sessions[0]], lengths[sessions]
        name = fmt.data_file_name(number)
        part = table.slice(first, int(rows.sum()))
        pq.write_table(
            part, path / name, row_group_size=row_group_rows, write_page_checksum=True
        )  # as Spark does
        index = {
            fmt.ROW_START: pa.array(np.cumsum(rows) - rows, pa.int64()),
            fmt.NUM_ROWS: pa.array(rows, pa.int32()),
        }
        pq.write_table(pa.table(index), path / fmt.INDEX_FOLDER / name)
        size = (path / name).stat().st_size
        files.append(fmt.DataFile(name, part.num_rows, len(sessions), size))
    times = table.column(timestamp)
    manifest = fmt.Manifest(
        session_columns=(session,),
        timestamp_column=timestamp,
        tie_breakers=(),
        schema=tuple(fmt.Column(f.name, spark_type(f.type)) for f in table.schema),
        files=tuple(files),
        statistics=fmt.Statistics(
            rows=table.num_rows,
            sessions=len(starts),
            max_session_rows=int(lengths.max()),
            session_rows_p50=int(np.median(lengths)),
            session_rows_p90=int(lengths.max()),
            session_rows_p99=int(lengths.max()),
            min_timestamp=pc.min(times).as_py(),
            max_timestamp=pc.max(times).as_py(),
        ),
        fingerprint=f"test-{table.num_rows}-{len(starts)}",
    )
    (path / fmt.MANIFEST_NAME).write_text(manifest.to_json())
    return path


def click_table(num_sessions: int = 60, seed: int = 0, mean_rows: float = 6.0) -> pa.Table:
    """Rows of uneven sessions with a unique `row`, learnable clicks, every kind of column."""
    random = np.random.default_rng(seed)
    lengths = 1 + random.geometric(1 / mean_rows, num_sessions)
    session = np.repeat(np.arange(num_sessions) * 7 + 3, lengths)
    num_rows = len(session)
    user = np.repeat(random.integers(0, 20, num_sessions), lengths)
    item = random.integers(0, 30, num_rows)
    logit = np.sin(user * 1.7)[:] + np.cos(item * 2.3) - 0.5
    click = random.random(num_rows) < 1 / (1 + np.exp(-2 * logit))
    buy = click & (random.random(num_rows) < 0.5)
    tags = [random.integers(0, 9, size).tolist() for size in random.integers(0, 4, num_rows)]
    return pa.table(
        {
            "row": np.arange(num_rows),
            "session_id": session,
            "timestamp": np.concatenate([np.arange(n) for n in lengths]),
            "user_id": user,
            "item_id": item,
            "city": pa.array([f"city {i % 5}" for i in item], pa.string()),
            "tags": pa.array(tags, pa.list_(pa.int64())),
            "price": random.random(num_rows).astype(np.float32),
            "click": click.astype(np.int64),
            "buy": buy.astype(np.int64),
            "weight": random.random(num_rows) + 0.5,
            "stay": random.random(num_rows).astype(np.float32),
        }
    )
