"""What the files of a session dataset hold, summed up per file and over all sessions.

The driver holds a few numbers per file and per length of session, none per session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.dataset_facts
    from preprocessing import dataset_format, session_index, session_runs
    from preprocessing.dataset_writer import settings
    from preprocessing.hadoop_files import HadoopFiles, escape_glob
    from preprocessing.row_hash import column
    from preprocessing.session_layout import SortKeys
else:  # run by spark-submit, see jrc_sort.py
    import dataset_format
    import session_index
    import session_runs
    from dataset_writer import settings
    from hadoop_files import HadoopFiles, escape_glob
    from row_hash import column
    from session_layout import SortKeys

_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class FileFacts:
    """What a data file holds.

    `content_hash` depends on every value and the place of each row, `entries_hash` on where its
    sessions lie; `broken` counts sessions that are not whole, contiguous and in keys. Times are
    numbers, or text that compares like time.
    """

    rows: int
    sessions: int
    content_hash: int
    entries_hash: int
    broken: int
    min_time: Any
    max_time: Any


@dataclass(frozen=True)
class LabelFacts:
    """Rows of a label above zero, the others that are not null, and sessions that have both."""

    name: str
    positives: int
    negatives: int
    mixed_sessions: int
    rows_in_mixed_sessions: int


@dataclass(frozen=True)
class SessionFacts:
    """Sessions by their rows, each label, and rows in which a column is null, if counted."""

    sessions_by_rows: Mapping[int, int]
    labels: tuple[LabelFacts, ...]
    nulls: Mapping[str, int]


@dataclass(frozen=True)
class Opened:
    """The rows of a dataset's data files, their `runs` (session_runs.py), and the files' names by
    the number by which `runs` call them.
    """

    rows: DataFrame
    runs: DataFrame
    file_names: Mapping[int, str]


@contextmanager
def open_runs(
    files: HadoopFiles,
    folder: str,
    names: Sequence[str],
    schema: T.StructType,
    keys: SortKeys,
    labels: Sequence[str] = (),
) -> Iterator[Opened]:
    """Data files of a folder; runs are held where the executors have room, until the block ends."""
    # As many tasks as data files: the default of 200 is slow for a few files, too few for many.
    tasks = {"spark.sql.shuffle.partitions": str(len(names))}
    # Hashes and places, of which runs consist, do not compress.
    plain = {"spark.sql.inMemoryColumnarStorage.compressed": "false"}
    with settings(files.spark, {**session_runs.ONE_TASK_PER_FILE, **tasks, **plain}):
        paths = [escape_glob(f"{folder}/{name}") for name in names]
        written = files.spark.read.schema(schema).parquet(*paths)
        runs = session_runs.session_runs(written, keys, labels).persist()
        try:
            yield Opened(written, runs, session_runs.file_names_by_id(files.spark, names))
        finally:
            runs.unpersist()


def facts_per_file(dataset: Opened) -> dict[str, FileFacts]:
    """Facts of each data file, in name order; a session in several files counts for one."""
    is_broken = session_runs.is_split() | (session_runs.foreign_rows() != 0)
    times = dataset.runs.schema["min_time"].dataType
    facts = dataset.runs.groupBy("file").agg(
        F.sum("num_rows"),
        F.count(F.lit(1)),
        F.bit_xor("content_hash"),
        session_index.entries_hash(F.col("row_start"), F.col("num_rows")),
        F.count_if(is_broken | session_runs.is_disordered()),
        _plain_time(F.min("min_time"), times),
        _plain_time(F.max("max_time"), times),
    )
    found = {number: FileFacts(*values) for number, *values in facts.collect()}
    none = FileFacts(0, 0, 0, 0, 0, None, None)
    return {
        name: found.get(number, none)
        for number, name in sorted(dataset.file_names.items(), key=lambda item: item[1])
    }


def session_facts(
    dataset: Opened, labels: Sequence[str] = (), with_nulls: bool = True
) -> SessionFacts:
    """Sessions by length, the labels, and nulls, for which columns that have any are read again."""
    label_sums = [aggregate for k in range(len(labels)) for aggregate in _label_sums(k)]
    masks = session_runs.null_mask_names(dataset.rows.columns)
    by_length = dataset.runs.groupBy("num_rows")
    per_length = by_length.agg(F.count(F.lit(1)), *label_sums, *map(F.bit_or, masks)).collect()
    facts = []
    for k, name in enumerate(labels):
        rows = [(row[0], *row[2 + 3 * k : 5 + 3 * k]) for row in per_length]
        facts.append(
            LabelFacts(
                name,
                positives=sum(positives for _, positives, _, _ in rows),
                negatives=sum(negatives for _, _, negatives, _ in rows),
                mixed_sessions=sum(mixed for *_, mixed in rows),
                rows_in_mixed_sessions=sum(num_rows * mixed for num_rows, *_, mixed in rows),
            )
        )
    return SessionFacts(
        sessions_by_rows=dict(sorted((row[0], row[1]) for row in per_length)),
        labels=tuple(facts),
        nulls=_count_nulls(dataset.rows, [row[-len(masks) :] for row in per_length])
        if with_nulls
        else {},
    )


def _count_nulls(rows: DataFrame, masks: Sequence[Sequence[int]]) -> dict[str, int]:
    """Rows in which each column is null; one that no mask of `masks` names has none."""
    has_nulls = [reduce(or_, column_masks) for column_masks in zip(*masks, strict=True)]
    names = [name for n, name in enumerate(rows.columns) if has_nulls[n // 64] >> (n % 64) & 1]
    nulls = dict.fromkeys(rows.columns, 0)
    if names:
        counts = rows.agg(*(F.count_if(column(name).isNull()) for name in names)).collect()[0]
        nulls.update(zip(names, counts, strict=True))
    return nulls


def _label_sums(k: int) -> tuple[Column, Column, Column]:
    """Positives, negatives, and sessions that have both, of label `k`."""
    positives, negatives = F.col(f"positives_{k}"), F.col(f"negatives_{k}")
    return F.sum(positives), F.sum(negatives), F.count_if((positives > 0) & (negatives > 0))


def nearest_rank(counts: Mapping[int, int], percent: int) -> int:
    """The least value that `percent` % of all values do not exceed; `counts` in rising keys."""
    total, seen = sum(counts.values()), 0
    for value, count in counts.items():
        seen += count
        if 100 * seen >= percent * total:
            return value
    raise ValueError("counts must not be empty")


def columns_of(schema: T.StructType) -> tuple[dataset_format.Column, ...]:
    """`schema` as the manifest has it."""
    return tuple(dataset_format.Column(f.name, f.dataType.simpleString()) for f in schema.fields)


def describe(
    sizes: Mapping[str, int],
    schema: T.StructType,
    keys: SortKeys,
    per_file: Mapping[str, FileFacts],
    sessions: SessionFacts,
) -> dataset_format.Manifest:
    """The manifest of a dataset whose files are of `sizes` bytes."""
    columns = columns_of(schema)
    by_rows = sessions.sessions_by_rows
    kind = schema[keys.timestamp].dataType
    first = min(facts.min_time for facts in per_file.values())
    last = max(facts.max_time for facts in per_file.values())
    return dataset_format.Manifest(
        session_columns=(keys.session,),
        identity_columns=keys.identity,
        timestamp_column=keys.timestamp,
        tie_breakers=keys.tie_breakers,
        schema=columns,
        files=tuple(
            dataset_format.DataFile(
                name, facts.rows, facts.sessions, sizes[name], facts.content_hash
            )
            for name, facts in per_file.items()
        ),
        statistics=dataset_format.Statistics(
            rows=sum(facts.rows for facts in per_file.values()),
            sessions=sum(facts.sessions for facts in per_file.values()),
            max_session_rows=max(by_rows),
            **{f"session_rows_p{p}": nearest_rank(by_rows, p) for p in _PERCENTILES},
            min_timestamp=_json_time(first, kind),
            max_timestamp=_json_time(last, kind),
        ),
        fingerprint=_fingerprint(keys, columns, per_file),
    )


def _fingerprint(
    keys: SortKeys,
    columns: Sequence[dataset_format.Column],
    per_file: Mapping[str, FileFacts],
) -> str:
    """SHA-256 over keys, schema, and per file its rows, sessions, and content hash."""
    names = [*keys.identity, keys.session, keys.timestamp, *keys.tie_breakers]
    schema = [[column.name, column.type] for column in columns]
    files = [[file.rows, file.sessions, file.content_hash] for file in per_file.values()]
    return hashlib.sha256(json.dumps([names, schema, files]).encode()).hexdigest()


def _plain_time(value: Column, kind: T.DataType) -> Column:
    """For the driver, whose own types know a local time zone: dates and timestamps as text."""
    is_text = isinstance(kind, T.TimestampType | T.TimestampNTZType | T.DateType)
    return value.cast("string") if is_text else value


def _json_time(value: Any, kind: T.DataType) -> int | float | str:
    """`value` of `_plain_time` as the manifest has it."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(kind, T.TimestampType | T.TimestampNTZType):
        zone = "Z" if isinstance(kind, T.TimestampType) else ""
        return datetime.fromisoformat(value).isoformat() + zone
    return value
