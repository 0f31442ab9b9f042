"""Made-up rows with the columns that a pipeline config reads, to try the config without its data.

Clicks depend on the first id feature, so a model that works learns something.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.datasets import write_dataset
from trainer.config import edit_config
from trainer.data.feature_config import used_features
from trainer.data.features import Boundaries, Feature, Hashed, IdFeature, Vocabulary
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import Task, parse_tasks

ROWS_PER_SESSION = 4
SESSION_COLUMN = "session_id"
TIMESTAMP_COLUMN = "timestamp"


def cut_tables(config: EasyRecConfig, rows: int) -> None:
    """Override every table of more rows than that, in place."""
    edits: dict[str, Any] = {}
    for i, entry in enumerate(config.feature_configs):
        kind = entry.WhichOneof("feature") or ""
        path, message = f"feature_configs[{i}].{kind}", getattr(entry, kind)
        members = [(path, message)]
        if kind == "sequence_feature":
            named = [(each.WhichOneof("feature") or "", each) for each in message.features]
            members = [
                (f"{path}.features[{k}].{name}", getattr(each, name))
                for k, (name, each) in enumerate(named)
            ]
        for where, feature in members:
            for field in ("num_buckets", "hash_bucket_size"):
                if getattr(feature, field, 0) > rows:
                    edits[f"{where}.{field}"] = rows
    edit_config(config, edits)


def write_made_data(path: Path, config: EasyRecConfig, num_rows: int) -> Path:
    """A session dataset of made-up rows; returns its folder."""
    random = np.random.default_rng(0)
    tasks = parse_tasks(config)
    session = next(iter(sorted({s for task in tasks for s in task.session_names})), SESSION_COLUMN)
    session_of_row = np.arange(num_rows) // ROWS_PER_SESSION
    columns: dict[str, Any] = {TIMESTAMP_COLUMN: np.arange(num_rows)}
    features = used_features(config)
    for feature in sorted(features, key=lambda f: f.source is not None):
        for name in feature.columns:  # of a computed feature, those that are no other's
            if name not in columns:
                columns[name] = _feature_column(feature, num_rows, random)
    columns[session] = _grouped(columns.get(session), session_of_row)
    source = next(f.columns[0] for f in features if isinstance(f, IdFeature) and f.part == "ids")
    columns |= _labels(tasks, columns, source, random)
    order = np.argsort(columns[session], kind="stable")
    table = pa.table({name: pa.array(values) for name, values in columns.items()}).take(order)
    return write_dataset(path, table, session=session, timestamp=TIMESTAMP_COLUMN)


def _feature_column(feature: Feature, num_rows: int, random: np.random.Generator) -> Any:
    """Values of a feature as its coding reads them; lists where it is a sequence."""
    if feature.sequence is not None:
        longest = min(feature.sequence.max_length or 6, 6)
        lengths = np.arange(num_rows) % (longest + 1)  # alike for all features of a sequence
        values = _values(feature, int(lengths.sum()), random)
        return [part.tolist() for part in np.split(values, np.cumsum(lengths)[:-1])]
    if isinstance(feature, IdFeature) and feature.is_weighted:
        ids = _values(feature, 2 * num_rows, random).reshape(-1, 2)
        return [f"{a}:0.5{feature.separator}{b}:2" for a, b in ids.tolist()]
    values = _values(feature, num_rows, random)
    return values.tolist() if values.ndim > 1 else values


def _values(feature: Feature, count: int, random: np.random.Generator) -> np.ndarray:
    if feature.source is not None:  # numbers, also where they become text
        return random.integers(0, 9, count)
    if not isinstance(feature, IdFeature):
        shape = (count, feature.dim) if feature.dim > 1 else (count,)
        return random.random(shape).astype(np.float32)
    if isinstance(feature.coding, Boundaries):
        limits = feature.coding.limits
        return random.uniform(limits[0] - 1, limits[-1] + 1, count).astype(np.float32)
    if isinstance(feature.coding, Vocabulary):
        return random.choice(list(feature.coding.ids), count)
    size = 1 << 40 if isinstance(feature.coding, Hashed) else feature.num_embeddings
    few = random.integers(0, size, min(feature.num_embeddings, 50))
    return random.choice(few, count)


def _grouped(values: Any, session_of_row: np.ndarray) -> np.ndarray:
    """The session column: a session's rows have the value of its first row."""
    if values is None:
        return session_of_row
    return np.asarray(values)[session_of_row * ROWS_PER_SESSION]


def _labels(
    tasks: list[Task], columns: dict[str, Any], source: str, random: np.random.Generator
) -> dict[str, Any]:
    """Columns that tasks read and that are no feature's: labels, weights, grouping keys.

    The first label depends on the column `source`; a later one is of some of its positive rows.
    """
    _, numbers = np.unique(np.asarray(columns[source]), return_inverse=True)
    positive = random.random(len(numbers)) < np.where(numbers % 3 == 0, 0.8, 0.1)
    found: dict[str, Any] = {}
    for task in tasks:
        for name in filter(None, (task.space_indicator, task.label)):
            if name not in columns and name not in found:
                found[name] = positive.astype(np.int64)
                positive = positive & (random.random(len(positive)) < 0.7)
        if task.sample_weight:
            found[task.sample_weight] = random.random(len(positive)) + 0.5
        for name in task.grouping_keys:
            if name not in columns:
                found[name] = np.arange(len(positive)) % 7
    return found
