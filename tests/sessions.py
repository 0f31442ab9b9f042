"""Batches of whole sessions, and JRC by a loop that is written from its formula alone."""

import torch
from torch import Tensor


def reference_rows(
    logits: Tensor, labels: Tensor, ids: Tensor, alpha: float, contrast: str
) -> Tensor:
    """alpha * ce_i + (1 - alpha) * rank_i, row by row; competitors are picked by hand."""
    rows = [logits.new_zeros(0)]
    label, session = labels.tolist(), ids.tolist()
    for i, y in enumerate(label):
        rivals = [
            j
            for j in range(len(label))
            if session[j] == session[i] and j != i and (contrast == "session" or label[j] != y)
        ]
        field = logits[[i, *rivals], y]
        ce = torch.logsumexp(logits[i], 0) - logits[i, y]
        rank = torch.logsumexp(field, 0) - logits[i, y]
        rows.append((alpha * ce + (1 - alpha) * rank)[None])
    return torch.cat(rows)


def make_batch(lengths: list[int], positives: float, dtype: torch.dtype, seed: int = 0):
    """Contiguous sessions: logits [B, 2], labels [B], ids [B], offsets [S + 1]."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths)
    num_rows = int(counts.sum())
    logits = (3 * torch.randn(num_rows, 2, generator=generator)).to(dtype)
    labels = (torch.rand(num_rows, generator=generator) < positives).long()
    # Ids neither sorted nor dense.
    names = torch.randperm(len(lengths), generator=generator) * 3 - 5
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    return logits, labels, names.repeat_interleave(counts), offsets
