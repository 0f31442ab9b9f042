"""What the session losses share: one score per row, sessions as offsets, checks and reduction.

Shapes: `B` rows in the batch, `S` sessions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels.segment import sort_into_offsets
from losses.reduction import (
    Reduction,
    check_float_logits,
    check_per_row,
    check_reduction,
    reduce_rows,
    to_working_precision,
)
from losses.sessions import check_sessions


class SessionLoss(nn.Module):
    """Base of the losses that compare the rows of a session: a subclass says what one row costs.

    A click model's score f is the logit of [B] or [B, 1], or f1 - f0 of two classes [B, 2].

    Args:
        reduction: "none", "sum" or "mean" (see `losses.reduction.reduce_rows`).

    Raises:
        ValueError: if `reduction` is none of these.
    """

    loss_name: str  # as in the config, for messages

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction: Reduction = check_reduction(reduction)

    def extra_repr(self) -> str:
        """The reduction, as `print(model)` shows it."""
        return f"reduction={self.reduction!r}"

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        session_ids: Tensor | None = None,
        session_offsets: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss; sessions come by exactly one of `session_ids` and `session_offsets`.

        Args:
            logits: [B], [B, 1] or [B, 2] of any floating type; float16 and bfloat16 are computed
                in float32.
            labels: [B] of 0 and 1, integer, bool or float.
            session_ids: [B] integers of any type, equal for the rows of a session, in any order.
            session_offsets: [S + 1] integers rising from 0 to B, where rows of a session are
                adjacent: session s is rows session_offsets[s] to session_offsets[s + 1] - 1.
            sample_weight: [B] or None. A weight scales the loss of its row; the row takes part in
                its session with full strength.

        Returns:
            Scalar, or [B] with reduction "none"; float64 for float64 logits, otherwise float32.

        Raises:
            ValueError: on a wrong shape or type, or with both or neither kind of session.
        """
        scores = _scores(logits, self.loss_name)
        check_per_row("labels", labels, scores.shape[0])
        ids, offsets = check_sessions(session_ids, session_offsets, scores.shape[0], self.loss_name)
        is_positive = labels > 0.5
        if offsets is not None:
            rows = self.row_losses(scores, is_positive, offsets)
        else:
            assert ids is not None
            order, offsets = sort_into_offsets(ids)
            contiguous = self.row_losses(scores[order], is_positive[order], offsets)
            # The row at contiguous[k] came from order[k]: put it back there.
            rows = torch.zeros_like(contiguous).index_copy(0, order, contiguous)
        return reduce_rows(rows, sample_weight, self.reduction)

    def row_losses(self, scores: Tensor, is_positive: Tensor, offsets: Tensor) -> Tensor:
        """The loss of each row, [B], of contiguous sessions.

        Args:
            scores: [B], float64 or float32.
            is_positive: [B] bool.
            offsets: [S + 1] int64, rising from 0 to B.
        """
        raise NotImplementedError


def _scores(logits: Tensor, loss_name: str) -> Tensor:
    """One score per row, [B], in the working precision."""
    check_float_logits(logits)
    two_class = logits.dim() == 2 and logits.shape[1] == 2
    if not (two_class or logits.dim() == 1 or (logits.dim() == 2 and logits.shape[1] == 1)):
        raise ValueError(
            f"num_class must be 1 or 2 with {loss_name}, which needs logits of shape (B,), (B, 1) "
            f"or (B, 2), but got {tuple(logits.shape)}; set num_class in the tower"
        )
    working = to_working_precision(logits)
    return working[:, 1] - working[:, 0] if two_class else working.reshape(-1)
