"""A first layer that computes what is the same in all rows of a session once a session.

Features of the user do not change within a session, and all rows of a session are in the batch. So

    features @ W  =  row columns @ W_rows  +  (session columns @ W_sessions)[session of the row]

where the last product has a row per session, not per row. Tables are asked for these features in a
session's first row alone, and get the sum of the session's gradients there: they move as before.
(RecD, Zhao et al., arXiv 2211.05239, removes the same duplicates from lookups.)

B rows, S sessions, R and C columns of features, O width of the layer's output.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from trainer.data.batch import SessionBatch
from trainer.models.linear import Linear, linear


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
    order: widths of neighbours in the layer's order that are in the same part, and whether that
        is `per_session`.
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
    of_session = [part for part, same in zip(parts, is_same, strict=True) if same]
    per_session: Any = _JoinedAtRows.apply(sessions.first_row, *of_session)
    return SplitFeatures(
        per_row=torch.cat(of_row, dim=1),
        per_session=per_session,
        session_of_row=sessions.of_row,
        order=tuple(
            (sum(part.shape[1] for part, _ in run), same)
            for same, run in groupby(zip(parts, is_same, strict=True), key=itemgetter(1))
        ),
    )


class _JoinedAtRows(torch.autograd.Function):
    """Some rows of parts [B, D] side by side; one gradient is laid out for all parts."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows, ctx.widths = len(parts[0]), [part.shape[1] for part in parts]
        return torch.cat([part.index_select(0, rows) for part in parts], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # PyTorch's way
        (rows,), (gradient,) = ctx.saved_tensors, gradients
        of_parts = gradient.new_zeros(ctx.num_rows, gradient.shape[1])
        return None, *of_parts.index_copy_(0, rows, gradient).split(ctx.widths, dim=1)


class SessionLinear(Linear):
    """nn.Linear, with the same parameters, that also takes SplitFeatures."""

    def forward(self, features: Tensor | SplitFeatures) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider
        """[B, O]."""
        if isinstance(features, Tensor):
            return super().forward(features)
        weight, of_session = self.split(features)
        rows = linear(features.per_row, weight)  # [B, O]
        # The gradient of the bias is a sum over a session's rows, which 16 bits would not hold.
        wide = of_session.to(torch.promote_types(of_session.dtype, torch.float32))
        return rows.add_(wide.index_select(0, features.session_of_row))

    def split(self, features: SplitFeatures) -> tuple[Tensor, Tensor]:
        """The weight of what each row has, [O, R], and what its session adds, [S, O]."""
        columns = self.weight.split([width for width, _ in features.order], dim=1)
        of_row, of_session = (
            [part for part, (_, same) in zip(columns, features.order, strict=True) if same == once]
            for once in (False, True)
        )
        added = linear(features.per_session, _joined(of_session), self.bias)
        return _joined(of_row or [self.weight[:, :0]]), added


def _joined(columns: list[Tensor]) -> Tensor:
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)
