"""A first layer that computes what is the same in all rows of a session once a session.

Features of the user do not change within a session, and all rows of a session are in the batch. So

    features @ W  =  row columns @ W_rows  +  (session columns @ W_sessions)[session of the row]

where the last product has a row per session, not per row. Tables are asked for these features in a
session's first row alone, and get the sum of the session's gradients there: they move as before.
(RecD, Zhao et al., arXiv 2211.05239, removes the same duplicates from lookups.)

B rows, S sessions, R and C columns of features, O width of the layer's output.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from trainer.data.batch import SessionBatch
from trainer.models.linear import Linear, linear
from trainer.models.relu_chain import SessionBias


class Sessions(NamedTuple):
    """Where the sessions of a batch lie, and which features do not change within one."""

    features: frozenset[str]
    first_row: Tensor  # [S]
    of_row: Tensor  # [B], numbers from 0

    @classmethod
    def of(cls, batch: SessionBatch) -> "Sessions | None":
        """Of a batch; None if all its features change. Nothing is read on the host."""
        if not batch.session_features:
            return None
        starts, lengths = batch.session_offsets[:-1], batch.session_offsets.diff()
        number = torch.arange(len(starts), device=starts.device)
        of_row = torch.repeat_interleave(number, lengths, output_size=batch.num_rows)
        return cls(batch.session_features, starts, of_row)


def asked_once_a_session(batch: SessionBatch) -> KeyedJaggedTensor:
    """The batch's `ids`; those of its `session_features` in each session's first row alone."""
    ids, same = batch.ids, batch.session_features
    if not same:
        return ids
    first_rows = batch.session_offsets[:-1]
    lengths = ids.lengths().view(len(ids.keys()), -1)  # [K, B]
    lengths_once = torch.zeros_like(lengths[0]).index_fill_(0, first_rows, 1)
    values_left, lengths_left = [], []
    values_per_key = ids.values().split(ids.length_per_key())
    for key, values, of_rows in zip(ids.keys(), values_per_key, lengths, strict=True):
        values_left.append(values.index_select(0, first_rows) if key in same else values)
        lengths_left.append(lengths_once if key in same else of_rows)
    return KeyedJaggedTensor(
        ids.keys(),
        torch.cat(values_left),
        lengths=torch.cat(lengths_left),
        length_per_key=[len(values) for values in values_left],  # else TorchRec asks the device
    )


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
    if sessions is None or not any(is_same):
        return torch.cat(list(parts), dim=1)
    of_row = [part for part, same in zip(parts, is_same, strict=True) if not same]
    of_row = of_row or [parts[0][:, :0]]  # maybe no feature changes
    first, pairs = sessions.first_row, zip(parts, is_same, strict=True)
    of_session = [part.index_select(0, first) for part, same in pairs if same]
    return SplitFeatures(
        per_row=torch.cat(of_row, dim=1),
        per_session=torch.cat(of_session, dim=1),
        session_of_row=sessions.of_row,
        order=tuple((part.shape[1], same) for part, same in zip(parts, is_same, strict=True)),
    )


class SessionLinear(Linear):
    """nn.Linear, with the same parameters, that also takes SplitFeatures."""

    def forward(self, features: Tensor | SplitFeatures) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider
        """[B, O]."""
        if isinstance(features, Tensor):
            return super().forward(features)
        weight, bias = self.split(features)
        rows = linear(features.per_row, weight)  # [B, O]
        # The gradient of the bias is a sum over a session's rows, which 16 bits would not hold.
        wide = bias.values.to(torch.promote_types(bias.values.dtype, torch.float32))
        return rows.add_(wide.index_select(0, bias.of_row))

    def split(self, features: SplitFeatures) -> tuple[Tensor, SessionBias]:
        """The weight of what each row has, [O, R], and what its session adds."""
        columns = self.weight.split([width for width, _ in features.order], dim=1)
        same = [is_same for _, is_same in features.order]
        of_row = [each for each, once in zip(columns, same, strict=True) if not once]
        of_session = [each for each, once in zip(columns, same, strict=True) if once]
        of_row = of_row or [self.weight[:, :0]]
        once = linear(features.per_session, torch.cat(of_session, dim=1), self.bias)
        return torch.cat(of_row, dim=1), SessionBias(once, features.session_of_row)
