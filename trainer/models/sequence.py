"""Encoders of a behaviour sequence: T values of all rows in, one vector a row out.

Sequences stay jagged: no value is padding, so nothing is computed for any, and the device never
stops to tell the host the longest length; but SelfAttentionEncoder pads. B rows, T values of all of
them, D their width, Q <= D the width of the query (the candidate item). JaggedSequence draws them.

A row without values gets zeros, with MultiWindowDINEncoder the query and zeros. Sizes are read as
`shape[0]`, since torch.export would take what `len` gives for a constant.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config import ConfigError
from trainer.data.jagged_sequence import JaggedSequence
from trainer.models.layers import required_mlp
from trainer.protos import pipeline_pb2 as pb


class SequenceEncoder(nn.Module):
    """What all encoders share: the group they read, and how much of it.

    Attributes:
        group: name of the sequence group.
        width: of the vector that a row's sequence becomes.
        max_length: values of a row that count, from its first on; 0 is all.
    """

    def __init__(self, group: str, width: int, max_length: int = 0) -> None:
        super().__init__()
        self.group, self.width, self.max_length = group, width, max_length

    def forward(self, groups: dict[str, Tensor]) -> Tensor:
        """[B, width] from `GROUP.query` [B, Q], `GROUP.sequence` [T, D], `GROUP.lengths` [B]."""
        values, lengths = groups[f"{self.group}.sequence"], groups[f"{self.group}.lengths"]
        return self.encode(groups.get(f"{self.group}.query"), JaggedSequence.of(values, lengths))

    def encode(self, query: Tensor | None, sequence: JaggedSequence) -> Tensor:
        """[B, width] from the query and the sequence of each row."""
        raise NotImplementedError

    def attend(self, scores: Tensor, sequence: JaggedSequence) -> Tensor:
        """The values of each row, weighted by the softmax of their scores [T]; [B, D]."""
        scores = scores.float() if scores.dtype != torch.float64 else scores  # not in half
        if self.max_length:
            scores = scores.masked_fill(sequence.positions >= self.max_length, -torch.inf)
        return sequence.weighted_sum(sequence.softmax(scores))


class DINEncoder(SequenceEncoder):
    """Deep interest network (Zhou et al., KDD 2018): an MLP scores each value for the query.

    score = MLP(q, s, q - s, q * s); the query's missing columns, D - Q, are zeros.
    """

    def __init__(self, group: str, query: int, width: int, config: pb.DINEncoder) -> None:
        super().__init__(group, width, config.max_seq_length)
        _check_query(group, "din_encoder", query, 1, width)
        self.padding = width - query
        hidden, hidden_width = required_mlp(4 * width, config, "attn_mlp")
        self.score = nn.Sequential(hidden, nn.Linear(hidden_width, 1))

    def encode(self, query: Tensor | None, sequence: JaggedSequence) -> Tensor:
        """Attention of the query to each value."""
        assert query is not None  # checked with the widths
        s = sequence.values
        q = F.pad(query, (0, self.padding)).index_select(0, sequence.rows)  # [T, D]
        scores = self.score(torch.cat([q, s, q - s, q * s], dim=1)).squeeze(1)
        return self.attend(scores, sequence)


class SimpleAttention(SequenceEncoder):
    """A value's score is its inner product with the query."""

    def __init__(self, group: str, query: int, width: int, config: pb.SimpleAttention) -> None:
        super().__init__(group, width, config.max_seq_length)
        _check_query(group, "simple_attention", query, width, width)

    def encode(self, query: Tensor | None, sequence: JaggedSequence) -> Tensor:
        """Attention of the query to each value."""
        assert query is not None  # checked with the widths
        scores = (query.index_select(0, sequence.rows) * sequence.values).sum(1)
        return self.attend(scores, sequence)


class PoolingEncoder(SequenceEncoder):
    """The sum or the mean of the values."""

    def __init__(self, group: str, query: int, width: int, config: pb.PoolingEncoder) -> None:
        super().__init__(group, width, config.max_seq_length)
        if config.pooling_type not in ("sum", "mean"):
            raise ConfigError(
                f"pooling_encoder.pooling_type must be sum or mean, but got: "
                f"`{config.pooling_type}`"
            )
        self.is_mean = config.pooling_type == "mean"

    def encode(self, query: Tensor | None, sequence: JaggedSequence) -> Tensor:
        """Pool each row's values."""
        return sequence.pooled(is_mean=self.is_mean, max_length=self.max_length)


class MultiWindowDINEncoder(SequenceEncoder):
    """Mean of the values of each window of places, weighted by an MLP; and the query.

    weight = PReLU(MLP(s, q * s, q)), without a softmax. windows_len [2, 3] takes the values 0 and 1
    and the values 2 to 4; the others do not count. A window's mean is over the values it has.
    """

    def __init__(
        self, group: str, query: int, width: int, config: pb.MultiWindowDINEncoder
    ) -> None:
        windows = list(config.windows_len)
        if not windows or not all(windows):
            raise ConfigError(
                f"sequence group `{group}`: multi_window_din_encoder.windows_len must have lengths "
                f"above 0, but got: {windows}"
            )
        super().__init__(group, width * (len(windows) + 1))
        _check_query(group, "multi_window_din_encoder", query, 1, width)
        self.padding, self.num_windows = width - query, len(windows)
        hidden, hidden_width = required_mlp(3 * width, config, "attn_mlp")
        self.score = nn.Sequential(hidden, nn.Linear(hidden_width, 1), nn.PReLU())
        window_of = [number for number, length in enumerate(windows) for _ in range(length)]
        window_of.append(len(windows))  # of the values that do not count
        self.register_buffer("window_of", torch.tensor(window_of), persistent=False)

    window_of: Tensor

    def encode(self, query: Tensor | None, sequence: JaggedSequence) -> Tensor:
        """[B, (windows + 1) * D]."""
        assert query is not None  # checked with the widths
        query, s = F.pad(query, (0, self.padding)), sequence.values
        q = query.index_select(0, sequence.rows)  # [T, D]
        weights = self.score(torch.cat([s, q * s, q], dim=1))  # [T, 1]
        last = self.window_of.shape[0] - 1
        window = self.window_of[sequence.positions.clamp(max=last)]
        per_row = self.num_windows + 1
        place = sequence.rows * per_row + window
        num_places = query.shape[0] * per_row
        total = s.new_zeros(num_places, s.shape[1]).index_add(0, place, (weights * s).to(s.dtype))
        count = s.new_zeros(num_places).index_add(0, place, torch.ones_like(place, dtype=s.dtype))
        means = (total / count.clamp(min=1)[:, None]).view(-1, per_row, s.shape[1])[:, :-1]
        return torch.cat([means.flatten(1), query], dim=1)


class SelfAttentionEncoder(SequenceEncoder):
    """Multi-head attention of each value to all values of its row; then their mean.

    Query, key and value are each two linear layers, as TorchEasyRec has them. This one pads to the
    longest sequence, whose length the host asks the device for.
    """

    def __init__(self, group: str, query: int, width: int, config: pb.SelfAttentionEncoder) -> None:
        inner, heads = config.multihead_attn_dim, config.num_heads
        if not heads or not inner or inner % heads:
            raise ConfigError(
                f"sequence group `{group}`: self_attention_encoder.multihead_attn_dim must be a "
                f"multiple of num_heads, but got: {inner} and {heads}"
            )
        if not 0 <= config.dropout < 1:
            raise ConfigError(
                f"sequence group `{group}`: self_attention_encoder.dropout must be from 0 to below "
                f"1, but got: {config.dropout:g}"
            )
        super().__init__(group, inner, config.max_seq_length)
        self.num_heads, self.dropout = heads, config.dropout
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, inner), nn.Linear(inner, inner))
                for name in "qkv"
            }
        )
        self.output = nn.Linear(inner, inner)

    def encode(self, query: Tensor | None, sequence: JaggedSequence) -> Tensor:
        """[B, multihead_attn_dim]."""
        lengths = sequence.lengths
        if self.max_length:
            lengths = lengths.clamp(max=self.max_length)
        size: Any = torch.cat([lengths, lengths.new_full((1,), 2)]).max().item()
        torch._check(size >= 2)  # torch.export must know that it is no size to broadcast
        q, k, v = (self._padded(project, sequence, size) for project in self.project.values())
        is_value = torch.arange(size, device=lengths.device) < lengths[:, None]  # [B, L]
        first = torch.arange(size, device=lengths.device) == 0  # so that no softmax is of nothing
        mask = (is_value | first)[:, None, None]
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(q, k, v, mask, dropout)  # [B, H, L, D / H]
        total = (found * is_value[:, None, :, None]).sum(2).flatten(1)
        mean = total / lengths.clamp(min=1)[:, None]  # the last layer is linear: of the mean alone
        return self.output(mean) * (lengths > 0)[:, None]

    def _padded(self, project: nn.Module, sequence: JaggedSequence, size: int) -> Tensor:
        """The projected values by row, head and place, [B, H, L, D / H]; zeros where is none."""
        values = project(sequence.values)  # [T, D]
        places = sequence.positions.clamp(max=size)  # the last is of the values that do not count
        padded = values.new_zeros(sequence.lengths.shape[0], size + 1, self.width)
        padded = padded.index_put((sequence.rows, places), values)[:, :-1]
        return padded.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


_ENCODERS: dict[str, type[SequenceEncoder]] = {
    "din_encoder": DINEncoder,
    "simple_attention": SimpleAttention,
    "pooling_encoder": PoolingEncoder,
    "multi_window_din_encoder": MultiWindowDINEncoder,
    "self_attention_encoder": SelfAttentionEncoder,
}


def build_encoder(
    config: pb.SeqEncoderConfig, group: str, widths: dict[str, tuple[int, ...]]
) -> SequenceEncoder:
    """The encoder of a sequence group, from the widths of its query and its sequence."""
    kind = config.WhichOneof("seq_module") or ""
    query, width = sum(widths[f"{group}.query"]), sum(widths[f"{group}.sequence"])
    build = _ENCODERS[kind]
    return build(group, query, width, getattr(config, kind))  # pyright: ignore[reportArgumentType, reportCallIssue]  # each encoder takes its own message


def _check_query(group: str, kind: str, query: int, low: int, high: int) -> None:
    if not low <= query <= high:
        rule = str(high) if low == high else f"{low} to {high}"
        raise ConfigError(
            f"sequence group `{group}`: {kind} needs features that are no sequences, {rule} wide "
            f"together (its sequence features are {high} wide), but they are {query} wide"
        )
