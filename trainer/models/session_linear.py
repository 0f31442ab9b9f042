"""A first layer that computes what is the same in all rows of a session once a session.

Features of the user do not change within a session, and all rows of a session are in the batch. So

    features @ W  =  row columns @ W_rows  +  (session columns @ W_sessions)[session of the row]

where the last product has a row per session, not per row. Its gradient is a sum over the session,
and reaches a table by the session's first row alone: the table moves by the same sum as before.
(RecD, Zhao et al., arXiv 2211.05239, removes the same duplicates from lookups.)

B rows, S sessions, R and C columns of features, O width of the layer's output.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.data.batch import SessionBatch


class Sessions(NamedTuple):
    """Where the sessions of a batch lie, and which features do not change within one."""

    features: frozenset[str]
    first_row: Tensor  # [S]
    of_row: Tensor  # [B], numbers from 0

    @classmethod
    def of(cls, batch: SessionBatch) -> "Sessions":
        """Of a batch; nothing is read on the host."""
        starts, lengths = batch.session_offsets[:-1], batch.session_offsets.diff()
        number = torch.arange(len(starts), device=starts.device)
        of_row = torch.repeat_interleave(number, lengths, output_size=batch.num_rows)
        return cls(batch.session_features, starts, of_row)


class SplitFeatures(NamedTuple):
    """Features side by side, in two parts.

    per_row: [B, R]. per_session: [S, C]. session_of_row: [B].
    order: per feature, in the layer's order, its width and whether it is in `per_session`.
    """

    per_row: Tensor
    per_session: Tensor
    session_of_row: Tensor
    order: tuple[tuple[int, bool], ...]


def side_by_side(
    parts: Sequence[Tensor], names: Sequence[str], sessions: Sessions | None
) -> Tensor | SplitFeatures:
    """Features [B, D] each as [B, sum D], or in two parts where some do not change in a session."""
    is_same = [sessions is not None and name in sessions.features for name in names]
    if sessions is None or not any(is_same) or all(is_same):
        return torch.cat(list(parts), dim=1)
    of_session = [part for part, same in zip(parts, is_same, strict=True) if same]
    of_row = [part for part, same in zip(parts, is_same, strict=True) if not same]
    return SplitFeatures(
        per_row=torch.cat(of_row, dim=1),
        per_session=torch.cat(of_session, dim=1).index_select(0, sessions.first_row),
        session_of_row=sessions.of_row,
        order=tuple((part.shape[1], same) for part, same in zip(parts, is_same, strict=True)),
    )


class SessionLinear(nn.Linear):
    """nn.Linear, with the same parameters, that also takes SplitFeatures."""

    def forward(self, features: Tensor | SplitFeatures) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider
        """[B, O]."""
        if isinstance(features, Tensor):
            return super().forward(features)
        columns = self.weight.split([width for width, _ in features.order], dim=1)
        same = [is_same for _, is_same in features.order]
        of_row = torch.cat([c for c, is_same in zip(columns, same, strict=True) if not is_same], 1)
        of_session = torch.cat([c for c, is_same in zip(columns, same, strict=True) if is_same], 1)
        rows = F.linear(features.per_row, of_row, self.bias)  # [B, O]
        once = F.linear(features.per_session, of_session)  # [S, O]
        return rows + once.index_select(0, features.session_of_row)
