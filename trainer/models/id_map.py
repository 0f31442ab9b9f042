"""Zero-collision hashing: TorchRec's managed collision, with a history that can be saved.

A map gives ids (63-bit hashes) rows of their own. Training collects the ids of `eviction_interval`
batches, then gives rows to new ids, if need be those of the ids of the lowest scores. An id that
has no row, in evaluation every one that training did not meet, reads the last row of its rank.

    ids of a batch   901 77 901 5     map {77: 0, 901: 2}, row 3 is for the others
    rows             2   0  2   3     history 901 77 901 5, of which 5 gets row 1 when it is due
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchrec import EmbeddingCollection, EmbeddingConfig, JaggedTensor
from torchrec.modules.mc_embedding_modules import ManagedCollisionEmbeddingCollection
from torchrec.modules.mc_modules import (
    DistanceLFU_EvictionPolicy,
    LFU_EvictionPolicy,
    LRU_EvictionPolicy,
    ManagedCollisionCollection,
    MCHManagedCollisionModule,
)

from trainer.config import ConfigError
from trainer.data.features import ZeroCollision

NO_ID = torch.iinfo(torch.int64).max  # TorchRec's, of a row that is free
_POLICIES: dict[str, Callable[[float], Any]] = {
    "lfu": lambda _: LFU_EvictionPolicy(),
    "lru": LRU_EvictionPolicy,
    "distance_lfu": DistanceLFU_EvictionPolicy,
}


class IdMap(MCHManagedCollisionModule):
    """The map of a table's part on a rank.

    Attributes:
        reset_rows: is given the rows of this rank, int64 [N], that new ids got, before they are
            read. TorchRec's own way leaves the state of most optimizers, and lacks a CPU kernel.
    """

    reset_rows: Callable[[Tensor], None] | None = None
    _output_segments_tensor: Tensor
    _current_iter_tensor: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._input_history_buffer_size = 0  # TorchRec's would be by the first batch, for good
        self._history_accumulator = torch.empty(0, dtype=torch.int64, device=self.device)
        for name, _, is_of_history in self._eviction_policy.metadata_info:
            if is_of_history:
                self._history_metadata[name] = torch.empty_like(self._history_accumulator)
        self._segments = self._output_segments_tensor.clone()  # TorchRec's is loaded over

    # -------------------------------------------------------------- training

    def profile(self, features: dict[str, JaggedTensor]) -> dict[str, JaggedTensor]:
        """Collect the ids of a batch, and give rows to new ones if that is due."""
        if self.training:
            self._reserve(sum(each.values().numel() for each in features.values()))
        features = super().profile(features)
        rows = super().evict()
        if rows is not None and self.reset_rows is not None:
            self.reset_rows(rows - self._output_global_offset)
        return features

    def evict(self) -> Tensor | None:
        """Nothing for TorchRec to reset."""
        return None

    def _reserve(self, num_ids: int) -> None:
        """Make room for more ids in the history."""
        needed = self._current_history_buffer_offset + num_ids
        if needed <= self._input_history_buffer_size:
            return
        self._set_history(self._history(), max(needed, 2 * self._input_history_buffer_size))

    # -------------------------------------------------------------- checkpoints

    def _history(self) -> Tensor:
        """The ids since the last eviction and what the policy keeps of them, int64 [1 + M, N]."""
        kept = [self._history_accumulator, *self._history_metadata.values()]
        return torch.stack(kept)[:, : self._current_history_buffer_offset]

    def _set_history(self, history: Tensor, room: int) -> None:
        count = history.shape[1]
        buffers = torch.zeros(len(history), room, dtype=torch.int64, device=self.device)
        buffers[:, :count] = history
        self._input_history_buffer_size, self._current_history_buffer_offset = room, count
        self._history_accumulator = buffers[0]
        self._history_metadata.update(zip(self._history_metadata, buffers[1:], strict=True))

    def history(self) -> tuple[int, NDArray[np.int64]]:
        """Batches since the last eviction, and the ids in them, [1 + M, N]."""
        return self._current_iter - self._last_eviction_iter, self._history().cpu().numpy()

    def load_history(self, num_batches: int, history: NDArray[np.int64]) -> None:
        """Go on from the history of all ranks, after `load_state_dict`."""
        ends = self._segments[self._segments >= 0].tolist()
        block = -(
            -self._input_hash_size // (len(ends) - 1)
        )  # ids of a rank, as TorchRec parts them
        of_rank = history[0] // block == ends.index(self._output_global_offset)
        mine = torch.from_numpy(history[:, of_rank])
        self._set_history(mine, mine.shape[1])
        self._current_iter = int(self._current_iter_tensor.item())
        self._last_eviction_iter = self._current_iter - num_batches

    def validate_state(self) -> None:
        """After loading: the rows of this rank must be those of one or more ranks of before."""
        start, end = self._output_global_offset, self._output_global_offset + self._zch_size
        before = self._output_segments_tensor
        if not ((before == start).any() and (before == end).any()):
            raise ConfigError(
                f"zch: a checkpoint of {int((before >= 0).sum()) - 1} ranks must be loaded with "
                f"as many ranks or a divisor, but there are {int((self._segments >= 0).sum()) - 1}"
            )
        before.copy_(self._segments)
        for kept in self._mch_metadata.values():  # rows that were a rank's last are free now
            kept[self._mch_sorted_raw_ids == NO_ID] = 0
        self._sort_mch_buffers()


def managed_collection(
    tables: list[EmbeddingConfig], codings: Sequence[ZeroCollision], device: torch.device
) -> ManagedCollisionEmbeddingCollection:
    """Tables of one width behind a map each, which give a vector a value.

    There is none that pools: over gloo TorchRec pools rows of several ranks only where all ranks
    have equally many rows in their batches.
    """
    maps: dict[str, Any] = {
        table.name: IdMap(
            zch_size=table.num_embeddings,
            device=device,
            eviction_policy=_POLICIES[coding.policy](coding.decay_exponent),
            eviction_interval=coding.eviction_interval,
        )
        for table, coding in zip(tables, codings, strict=True)
    }
    return ManagedCollisionEmbeddingCollection(
        EmbeddingCollection(tables, device=device), ManagedCollisionCollection(maps, tables)
    )
