"""A jagged sequence: T values of all rows, D their width, B rows. A serving process uses it too.

    lengths     2    0  1
    values      a b     c        [T, D]
    rows        0 0     2        [T], the row of each value
    positions   0 1     0        [T], its place in the row's sequence

Sizes are read as `shape[0]`, since torch.export would take what `len` gives for a constant.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class JaggedSequence(NamedTuple):
    """A jagged sequence, laid out as in the module's drawing."""

    values: Tensor
    lengths: Tensor
    rows: Tensor
    positions: Tensor

    @classmethod
    def of(cls, values: Tensor, lengths: Tensor) -> "JaggedSequence":
        """From values [T, D] and lengths [B], which sum to T."""
        count = values.shape[0]
        index = torch.arange(lengths.shape[0], device=lengths.device)
        rows = torch.repeat_interleave(index, lengths, output_size=count)
        starts = lengths.cumsum(0) - lengths
        positions = torch.arange(count, device=lengths.device) - starts[rows]
        return cls(values, lengths, rows, positions)

    def softmax(self, scores: Tensor) -> Tensor:
        """Softmax of scores, [T], over the values of each row."""
        num_rows = self.lengths.shape[0]
        top = scores.new_full((num_rows,), -torch.inf)
        top = top.scatter_reduce(0, self.rows, scores.detach(), "amax")
        powers = (scores - top[self.rows]).exp()
        return powers / powers.new_zeros(num_rows).index_add(0, self.rows, powers)[self.rows]

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Sum of weight * value of each row, [B, D], from weights [T]."""
        total = self.values.new_zeros(self.lengths.shape[0], self.values.shape[1])
        return total.index_add(0, self.rows, (weights[:, None] * self.values).to(total.dtype))

    def pooled(self, *, is_mean: bool, max_length: int = 0) -> Tensor:
        """Sum or mean of each row's values, or of its first `max_length` ones; [B, D]."""
        weights, lengths = torch.ones_like(self.rows, dtype=self.values.dtype), self.lengths
        if max_length:
            weights = weights.masked_fill(self.positions >= max_length, 0.0)
            lengths = lengths.clamp(max=max_length)
        total = self.weighted_sum(weights)
        return total / lengths.clamp(min=1)[:, None] if is_mean else total
