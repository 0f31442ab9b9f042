"""ListNet: softmax cross-entropy over the rows of a session.

Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007, with its
top-one probabilities and binary relevance: the positives of session s share the target evenly.

    q_i    = y_i / sum of y over s                       0 in a session without positives
    loss_i = -q_i * log softmax(f over s)_i

Shapes: `B` rows in the batch, `S` sessions.
"""

from __future__ import annotations

from torch import Tensor

from kernels.segment import (
    finite_or_zero,
    segment_broadcast,
    segment_logsumexp,
    segment_max,
    segment_sum,
    segments_from_offsets,
)
from losses.session_loss import SessionLoss


class ListNetLoss(SessionLoss):
    """The loss of this module's docstring.

    The losses of a session's rows add up to the paper's loss of that session; negatives carry none
    of it themselves. A session of one row or without positives costs 0. The scores are free up to
    a constant per session, so a probability needs a pointwise loss beside this one.

    Args:
        reduction: as in `SessionLoss`.
    """

    loss_name = "list_net_loss"

    def row_losses(self, scores: Tensor, is_positive: Tensor, offsets: Tensor) -> Tensor:
        """-q_i * log softmax_s(f)_i."""
        return list_cross_entropy_rows(scores, is_positive, offsets)


def list_cross_entropy_rows(scores: Tensor, is_positive: Tensor, offsets: Tensor) -> Tensor:
    """-q_i * log softmax(scores over the session)_i of each row, [B].

    Args:
        scores: [B], float64 or float32; any finite magnitude.
        is_positive: [B] bool.
        offsets: [S + 1] int64, rising from 0 to B.
    """
    sessions = segments_from_offsets(offsets, scores.shape[0])
    # Softmax is blind to a shift. The largest score as zero keeps the digits of huge ones, and
    # needs no gradient.
    largest = finite_or_zero(segment_max(scores.detach(), sessions))
    shifted = scores - segment_broadcast(largest, sessions)
    normaliser = segment_broadcast(segment_logsumexp(shifted, sessions), sessions)
    positives = is_positive.to(scores.dtype)
    count = segment_broadcast(segment_sum(positives, sessions).clamp(min=1.0), sessions)
    target = positives / count  # q_i
    # -q_i * (f_i - logsumexp f)
    return target * (normaliser - shifted)
