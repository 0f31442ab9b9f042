"""Scorer: raw features in, scores out, from the folder that launch/export.py writes.

signature.json    columns, features and their encoding, tables, lookups, tasks, versions
dense.pt2         torch.export's program: looked-up vectors in, logits out
tables/N.safetensors
                  embedding tables
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export.passes import move_to_device_pass

from trainer.checks.features import check_features
from trainer.checks.hashing import INTEGERS, check_same_hashes
from trainer.config import ConfigError
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.features import IdFeature, id_features
from trainer.data.jagged_sequence import JaggedSequence
from trainer.data.rows import Rows
from trainer.prediction.input import spark_type
from trainer.prediction.scores import TaskScores
from trainer.serving.encoding import feature_from_json
from trainer.serving.tables import Table, TableLookup, load_groups

SIGNATURE_FILE = "signature.json"
DENSE_FILE = "dense.pt2"
FORMAT_VERSION = 1


def load_scorer(path: str | Path, device: str | torch.device = "cpu") -> "Scorer":
    """The model of an exported folder, on a device.

    Raises:
        ConfigError: the folder is no exported model, or of another release.
    """
    folder = Path(path)
    if not (folder / SIGNATURE_FILE).is_file():
        raise ConfigError(
            f"an exported model must be a folder with {SIGNATURE_FILE}, but there is none in: "
            f"{folder}; write one by launch/export.py"
        )
    signature = json.loads((folder / SIGNATURE_FILE).read_text())
    if signature.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"{folder} must have format_version {FORMAT_VERSION}, but has: "
            f"{signature.get('format_version')}; export the checkpoint anew"
        )
    return Scorer(folder, signature, torch.device(device))


class Scorer:
    """Scores rows of raw features.

    Attributes:
        columns: what a request must have.
        signature: the content of signature.json.
    """

    def __init__(self, folder: Path, signature: dict[str, Any], device: torch.device) -> None:
        self.signature, self.device = signature, device
        self.spec = ColumnSpec(tuple(map(feature_from_json, signature["features"])), ())
        self.columns = self.spec.columns
        self.hashed: dict[str, str] = signature.get("hashed_columns", {})
        self.hashes_integers = {
            feature.column
            for feature in self.spec.features
            if self.hashed.get(feature.name) == INTEGERS
        }
        self.tasks = [TaskScores(**task) for task in signature["tasks"]]
        self.lookups = [TableLookup(**lookup) for lookup in signature["lookups"]]
        tables = [Table(**table) for table in signature["tables"]]
        self.groups = load_groups(folder, tables, self.lookups, device)
        program = torch.export.load(folder / DENSE_FILE)
        if device.type != "cpu":
            program = move_to_device_pass(program, str(device))
        self.dense = program.module()

    def score(self, features: Mapping[str, Any] | pa.Table) -> dict[str, NDArray]:
        """Scores of B rows, float32 [B] or [B, classes], by the names that predict.py writes.

        Args:
            features: per column its values as a list, a NumPy or Arrow array; a single text or
                number (of the user, say) holds for all rows. Or an Arrow table. Other columns
                than self.columns are not looked at.

        Raises:
            ConfigError: a column is missing or has a type that the feature cannot be made of.
            DataError: columns differ in length, or a value breaks a rule of its feature.
        """
        table = self._table(features)
        types = {field.name: spark_type(field.type) for field in table.schema}
        known = list(self.spec.features)
        check_features(known, types, "the request")
        check_same_hashes(known, types, "the request", self.hashed, "the training data")
        if not table.num_rows:
            raise DataError("a request must have at least one row, but has none")
        logits = self.logits(encode_rows(table, self.spec))
        scores: dict[str, NDArray] = {}
        for task in self.tasks:
            of_task = task.of(logits[task.name].cpu())
            scores |= {name: values.numpy() for name, values in of_task.items()}
        return scores

    @torch.no_grad()
    def logits(self, rows: Rows) -> dict[str, Tensor]:
        """The logits [B, num_class] of each task, float32, of encoded rows."""
        vectors: dict[int, Tensor] = {}
        lengths: dict[int, Tensor] = {}
        for group in self.groups:
            for position, found, found_lengths in group.look_up(rows):
                vectors[position], lengths[position] = found, found_lengths
        for position, feature in self._features_with_items():
            items = rows.lists[feature.items]
            ids = JaggedSequence.of(vectors[position], self._on_device(items.values))
            vectors[position] = ids.pooled(is_mean=feature.pooling == "mean")
            lengths[position] = self._on_device(items.lengths)
        columns = self._dense_columns(rows)
        for position, lookup in enumerate(self.lookups):
            if lookup.part == "dense":
                vectors[position] = columns[lookup.feature]
            elif lookup.part == "sequence_dense":
                lists = rows.lists[lookup.feature]
                vectors[position] = self._on_device(lists.values)
                lengths[position] = self._on_device(lists.lengths)
        in_order = [vectors[position] for position in range(len(self.lookups))]
        of_sequences = [
            lengths[position]
            for position, lookup in enumerate(self.lookups)
            if lookup.part.startswith("sequence")
        ]
        return self.dense(in_order, of_sequences)

    def _features_with_items(self) -> list[tuple[int, IdFeature]]:
        """Lookups, by their positions, of sequences whose items have any number of ids."""
        sequences = id_features(self.spec.features, "sequences")
        pooled = {feature.name: feature for feature in sequences if feature.pools_items}
        found = [(position, pooled.get(each.feature)) for position, each in enumerate(self.lookups)]
        return [(position, feature) for position, feature in found if feature is not None]

    def _on_device(self, values: NDArray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _dense_columns(self, rows: Rows) -> dict[str, Tensor]:
        """The columns of each raw feature, [B, dim], by its name."""
        raw = self.spec.raw_features
        parts = torch.from_numpy(rows.dense).to(self.device).split([f.dim for f in raw], dim=1)
        return {feature.name: part for feature, part in zip(raw, parts, strict=True)}

    def _table(self, features: Mapping[str, Any] | pa.Table) -> pa.Table:
        names = getattr(features, "column_names", features)  # of an Arrow table, or a mapping
        known = {name: features[name] for name in self.columns if name in names}
        arrays = {
            name: self._array(name, value) for name, value in known.items() if not _is_single(value)
        }
        num_rows = {name: len(array) for name, array in arrays.items()}
        if len(set(num_rows.values())) > 1:
            each = ", ".join(f"{name} {count}" for name, count in num_rows.items())
            raise DataError(f"the columns of a request must be equally long, but are: {each}")
        count = next(iter(num_rows.values()), 1)
        for name, value in known.items():
            if name not in arrays:
                arrays[name] = self._array(name, [value] * count)
        return pa.table(arrays)

    def _array(self, name: str, values: Any) -> Any:
        """A column as an Arrow array."""
        return _array(values, pa.int64() if name in self.hashes_integers else pa.string())


def _is_single(value: Any) -> bool:
    """Whether it is one value, not a column of some."""
    return isinstance(value, str | bytes) or not hasattr(value, "__len__")


def _array(values: Any, empty: pa.DataType) -> Any:
    """An Arrow array of a column; where no row has a value, of type `empty`, or lists of it."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    array = pa.array(list(values) if getattr(values, "ndim", 1) > 1 else values)
    if array.type == pa.null():
        return array.cast(empty)
    return array.cast(pa.list_(empty)) if array.type == pa.list_(pa.null()) else array
