"""The collectives that metrics need; a single process is a group of one.

Shapes: `R` ranks, `n` rows of one rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """The ranks whose rows make up one metric. All of them must make the same calls."""

    group: dist.ProcessGroup | None
    rank: int
    size: int
    device: torch.device

    @staticmethod
    def of(group: dist.ProcessGroup | None = None) -> Ranks:
        """The ranks of a process group; default: of the job, or this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return Ranks.alone()
        # NCCL alone cannot send from host memory.
        on_device = dist.get_backend(group) == "nccl"
        device = torch.device("cuda", torch.cuda.current_device()) if on_device else "cpu"
        return Ranks(group, dist.get_rank(group), dist.get_world_size(group), torch.device(device))

    @staticmethod
    def alone() -> Ranks:
        """This process by itself."""
        return Ranks(None, 0, 1, torch.device("cpu"))

    def sum(self, values: NDArray) -> NDArray:
        """Sum over ranks, of equal shapes."""
        if self.size == 1:
            return values
        total = torch.from_numpy(np.array(values)).to(self.device)
        dist.all_reduce(total, group=self.group)
        return total.cpu().numpy()

    def max(self, value: int) -> int:
        """The largest value of any rank."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.group)
        return int(largest.item())

    def each(self, columns: list[NDArray]) -> Iterator[list[NDArray]]:
        """Rank after rank its columns [n], on every rank; one rank's are in memory at a time."""
        if self.size == 1:
            yield columns
            return
        length = torch.tensor(len(columns[0]), device=self.device)
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length, group=self.group)
        for rank in range(self.size):
            source = rank if self.group is None else dist.get_global_rank(self.group, rank)
            received = []
            for column in columns:
                own = torch.from_numpy(column)
                shared = own.new_empty(int(lengths[rank]), device=self.device)
                if rank == self.rank:
                    shared.copy_(own)
                dist.broadcast(shared, src=source, group=self.group)
                received.append(shared.cpu().numpy())
            yield received

    def exchange(self, columns: list[NDArray], owner: NDArray) -> list[NDArray]:
        """Send each row of columns [n] to its owner, a rank, int [n]; returns those received."""
        if self.size == 1:
            return columns
        order = np.argsort(owner, kind="stable")
        counts = torch.from_numpy(np.bincount(owner, minlength=self.size)).to(self.device)
        incoming = torch.empty_like(counts)
        dist.all_to_all_single(incoming, counts, group=self.group)
        sent, received = counts.tolist(), incoming.tolist()
        results = []
        for column in columns:
            rows = torch.from_numpy(np.ascontiguousarray(column[order])).to(self.device)
            result: Tensor = rows.new_empty(sum(received))
            dist.all_to_all_single(result, rows, received, sent, group=self.group)
            results.append(result.cpu().numpy())
        return results
