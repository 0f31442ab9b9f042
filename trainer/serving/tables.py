"""Embedding tables of a served model: FBGEMM's inference lookups, the ones under TorchRec's own.

Tables of one pooling lie in one kernel, and their lookups are one call. B rows, T ids in them.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
    BoundsCheckMode,
    EmbeddingLocation,
    PoolingMode,
)
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import (
    IntNBitTableBatchedEmbeddingBagsCodegen,
)
from safetensors import safe_open
from torch import Tensor

from trainer.data.rows import Lists, Rows

DTYPES = {"FP32": SparseType.FP32, "FP16": SparseType.FP16, "INT8": SparseType.INT8}
VALUES, SCALES = "values", "scales"  # tensors of a table's file
POOLINGS = {"sum": PoolingMode.SUM, "mean": PoolingMode.MEAN, "none": PoolingMode.NONE}


def table_file(number: int) -> str:
    """Name of the file of a table, below the model's folder, in safetensors' format.

    It has VALUES, [rows, width] of the table's dtype; of an INT8 table SCALES too, float16
    [rows, 2], the scale and the offset of a row.
    """
    return f"tables/{number}.safetensors"


@dataclass(frozen=True)
class Table:
    """An exported table.

    Attributes:
        name: of its parameter in the model.
        pooling: "sum", "mean", or "none" for a vector per id.
    """

    name: str
    rows: int
    width: int
    dtype: str
    pooling: str
    is_weighted: bool


@dataclass(frozen=True)
class TableLookup:
    """A feature's place among the inputs of the dense part, and its table, by number."""

    feature: str
    part: str
    width: int
    table: int | None  # none for raw features


class TableGroup:
    """Tables of one pooling, and the lookups in them.

    Args:
        folder: of the exported model.
        tables: of it, with equal pooling, weights, and width where nothing is pooled.
        lookups: each a position among the dense part's inputs and its lookup.
    """

    def __init__(
        self,
        folder: Path,
        tables: dict[int, Table],
        lookups: list[tuple[int, TableLookup]],
        device: torch.device,
    ) -> None:
        first = next(iter(tables.values()))
        self.pooling, self.is_weighted, self.device = first.pooling, first.is_weighted, device
        self.positions = [position for position, _ in lookups]
        self.features = [lookup.feature for _, lookup in lookups]
        self.widths = [lookup.width for _, lookup in lookups]
        location = EmbeddingLocation.HOST if device.type == "cpu" else EmbeddingLocation.DEVICE
        number_here = {number: here for here, number in enumerate(tables)}
        self.kernel = IntNBitTableBatchedEmbeddingBagsCodegen(
            [(t.name, t.rows, t.width, DTYPES[t.dtype], location) for t in tables.values()],
            feature_table_map=[number_here[lookup.table or 0] for _, lookup in lookups],
            pooling_mode=POOLINGS[self.pooling],
            bounds_check_mode=BoundsCheckMode.NONE,  # the encoder has checked the ids
            output_dtype=SparseType.FP32,
            device=device,
        )
        self.kernel.initialize_weights()
        weights = self.kernel.split_embedding_weights()
        for number, (values, scales) in zip(tables, weights, strict=True):
            with safe_open(folder / table_file(number), "pt") as file:
                values.copy_(file.get_tensor(VALUES).view(torch.uint8))
                if scales is not None:
                    scales.copy_(file.get_tensor(SCALES).view(torch.uint8))

    def look_up(self, rows: Rows) -> list[tuple[int, Tensor, Tensor]]:
        """Per lookup its position, its vectors, [B, D] or [T, D], and its lengths, int64 [B]."""
        lists = [rows.ids_of(name) for name in self.features]
        lengths = np.concatenate([each.lengths for each in lists])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        found = self.kernel(
            self._tensor(np.concatenate([each.values for each in lists]), np.int32),
            self._tensor(offsets, np.int32),
            self._weights(lists),
        )
        if self.pooling == "none":
            parts = found.split([len(each.values) for each in lists])
        else:
            parts = found.split(self.widths, dim=1)
        all_lengths = self._tensor(lengths, np.int64).split(rows.num_rows)
        return list(zip(self.positions, parts, all_lengths, strict=True))

    def _weights(self, lists: list[Lists]) -> Tensor | None:
        if not self.is_weighted:
            return None
        weights = [each.weights for each in lists if each.weights is not None]
        return self._tensor(np.concatenate(weights), np.float32)

    def _tensor(self, values: Any, dtype: Any) -> Tensor:
        return torch.from_numpy(values.astype(dtype, copy=False)).to(self.device)


def load_groups(
    folder: Path, tables: list[Table], lookups: list[TableLookup], device: torch.device
) -> list[TableGroup]:
    """All tables, in as few kernels as there can be."""
    members: dict[tuple[str, bool, int], list[int]] = defaultdict(list)
    for number, table in enumerate(tables):
        width = table.width if table.pooling == "none" else 0
        members[table.pooling, table.is_weighted, width].append(number)
    return [
        TableGroup(
            folder,
            {number: tables[number] for number in numbers},
            [each for each in enumerate(lookups) if each[1].table in numbers],
            device,
        )
        for numbers in members.values()
    ]
