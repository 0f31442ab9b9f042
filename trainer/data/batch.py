"""SessionBatch: one rank's part of a global batch, every session whole.

B rows, S sessions, T values of a sequence over all rows, D width of raw features.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torchrec import JaggedTensor, KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from trainer.data.plan import Place


@dataclass(frozen=True)
class Cursor:
    """A batch's own place in the plan, and that of the next one."""

    epoch: int
    place: Place
    next_place: Place
    is_last: bool

    @property
    def step(self) -> int:
        """Global batches of the epoch before this one."""
        return self.place.step

    def after(self) -> tuple[int, Place]:
        """Epoch and place at which training goes on once this batch is done."""
        return (self.epoch + 1, Place()) if self.is_last else (self.epoch, self.next_place)


@dataclass
class SessionBatch(Pipelineable):
    """Rows of whole sessions, contiguous and in time order.

        session_offsets   [0,       3,    5, 6]       S = 3 sessions, B = 6 rows
        labels["click"]   [0, 1, 0, 0, 0, 1]
        ids               user_id: [[7], [7], [7], [2], [2], [9]]
                          tags:    [[1, 4], [], [2], [1], [3], []]
        weighted_ids      brands:  [[4], [4], [], [1, 2], [2], []]  and 0.5, 2.0, 1.0, 1.0, 3.0
        sequences         clicks__item: [[5, 3], [5, 3], [5, 3], [], [], [8]]   in stored order
        sequence_dense["clicks__price"]   values [7, 1], lengths [2, 2, 2, 0, 0, 1]
        sequences         clicks__tags: [[5, 3, 3], [5, 3, 3], ...]   items of several ids
        items["clicks__tags"]             values [1, 2, 1, 2, ...], lengths [2, 2, 2, 0, 0, 1]

    A feature's `part` (trainer/data/features.py) is the attribute that holds it, and its name the
    key. Keys stand in an order of the loader's, the same in all batches.

    Attributes:
        ids: id features that are pooled, B rows per key; may have no key.
        weighted_ids: the same with weights, float32; None if there are none.
        sequences: id features that are sequences, B rows per key; None if there are none.
        dense: raw features side by side in the order of features.raw_features, float32 [B, D].
        sequence_dense: raw features that are sequences: float32 values [T, D], lengths [B].
        items: of sequences whose items have any number of ids, which are pooled: the ids of each
            item, int64 [T], and the items of each row, [B].
        labels: per label column, int64 [B] (classes) or float32 [B] (regression).
        weights: per sample weight column, float32 [B].
        groups: per grouping column of a metric, int64 [B].
        session_offsets: int64 [S + 1], the first row of each session and B.
        sessions: int64 [S], session numbers, unique over the dataset.
        global_rows: rows of the global batch, over all ranks.
        cursor: the batch's place in the plan.
        session_features: keys of `ids` that hold the same id in all rows of each session.
        asked: what each collection of tables is asked for, where that was made ahead; see
            EmbeddingTables.asked.
    """

    ids: KeyedJaggedTensor
    dense: Tensor
    labels: dict[str, Tensor]
    weights: dict[str, Tensor]
    groups: dict[str, Tensor]
    session_offsets: Tensor
    sessions: Tensor
    global_rows: int
    cursor: Cursor
    weighted_ids: KeyedJaggedTensor | None = None
    sequences: KeyedJaggedTensor | None = None
    sequence_dense: dict[str, JaggedTensor] = field(default_factory=dict)
    items: dict[str, JaggedTensor] = field(default_factory=dict)
    session_features: frozenset[str] = frozenset()
    asked: dict[str, KeyedJaggedTensor] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """B."""
        return self.dense.shape[0]

    def session_of_row(self) -> Tensor:
        """The session number of each row, int64 [B]."""
        lengths = self.session_offsets.diff()
        return torch.repeat_interleave(self.sessions, lengths, output_size=self.num_rows)

    def to(self, device: torch.device, non_blocking: bool = False) -> "SessionBatch":
        """A copy on a device."""
        return self._map(lambda tensor: tensor.to(device=device, non_blocking=non_blocking))

    def pin_memory(self) -> "SessionBatch":
        """A copy in page-locked memory, from which copies to CUDA are asynchronous."""
        return self._map(lambda tensor: tensor.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until a CUDA stream is done with it."""
        self._map(lambda tensor: tensor.record_stream(stream) or tensor)

    def _map(self, function: Any) -> "SessionBatch":
        """The batch with the function's results in place of its tensors, plain or jagged."""
        changed: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor | KeyedJaggedTensor):
                changed[each.name] = function(value)
            elif each.name in ("sequence_dense", "items"):
                changed[each.name] = {
                    key: JaggedTensor(function(jagged.values()), lengths=function(jagged.lengths()))
                    for key, jagged in value.items()
                }
            elif isinstance(value, dict):
                changed[each.name] = {key: function(tensor) for key, tensor in value.items()}
        return replace(self, **changed)
