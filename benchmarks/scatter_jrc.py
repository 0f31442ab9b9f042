"""A baseline: JRC by `torch.unique` and scatter, as O(B) implementations in other systems have it.

Written for `bench_losses.py` from the formula (arXiv 2208.06164, rows of the other label compete);
every step is left to autograd. Not used by the trainer.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def scatter_jrc(logits: Tensor, labels: Tensor, session_ids: Tensor, alpha: float = 0.5) -> Tensor:
    """Mean JRC loss of logits [B, 2], labels [B] and session ids [B] in any order."""
    sessions, number = torch.unique(session_ids, return_inverse=True)
    positive = labels > 0.5
    rank = logits.new_zeros(len(labels))
    for channel, anchors in ((1, positive), (0, ~positive)):
        rivals, field = number[~anchors], logits[~anchors, channel]
        limit = logits.new_full((len(sessions),), float("-inf"))
        limit = limit.scatter_reduce(0, rivals, field.detach(), "amax", include_self=True)
        limit = limit.masked_fill(limit.isinf(), 0.0)
        total = logits.new_zeros(len(sessions))
        total = total.scatter_add(0, rivals, (field - limit[rivals]).exp())
        own = logits[anchors, channel]
        # log(exp(f) + sum of exp(rivals)) - f
        gap = limit[number[anchors]] - own + total.clamp(min=1e-38).log()[number[anchors]]
        rank = rank.masked_scatter(anchors, F.softplus(gap))
    return alpha * F.cross_entropy(logits, labels.long()) + (1 - alpha) * rank.mean()
