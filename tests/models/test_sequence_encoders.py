"""Sequence encoders against plain attention over each row's own values, in float64."""

from typing import Any

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor
from torch.export import Dim
from torch.nn import functional as F

from trainer.config import ConfigError
from trainer.data.jagged_sequence import JaggedSequence
from trainer.models.sequence import SequenceEncoder, build_encoder
from trainer.protos import pipeline_pb2 as pb

# Rows of each case: none at all, empty ones, one alone.
LENGTHS = {
    "uneven": [3, 0, 1, 5, 0],
    "empty": [0, 0],
    "no rows": [],
    "one": [1],
    "long": [40, 2],
}
ENCODERS = {
    "din": "din_encoder { attn_mlp { hidden_units: [5, 3] } }",
    "din cut": "din_encoder { max_seq_length: 2 attn_mlp { hidden_units: 4 use_ln: true } }",
    "attention": "simple_attention { }",
    "attention cut": "simple_attention { max_seq_length: 2 }",
    "mean": "pooling_encoder { }",
    "mean cut": "pooling_encoder { max_seq_length: 2 }",
    "sum": "pooling_encoder { pooling_type: 'sum' }",
    "windows": "multi_window_din_encoder { windows_len: [1, 2] attn_mlp { hidden_units: [5, 3] } }",
    "window": "multi_window_din_encoder { windows_len: 50 attn_mlp { hidden_units: 4 } }",
    "self": "self_attention_encoder { multihead_attn_dim: 6 num_heads: 3 }",
    "self cut": "self_attention_encoder { multihead_attn_dim: 6 num_heads: 2 max_seq_length: 2 }",
    "self first": "self_attention_encoder { multihead_attn_dim: 2 num_heads: 1 max_seq_length: 1 }",
}
WIDTH = 4


def build(text: str, query: int) -> tuple[SequenceEncoder, Any]:
    config = text_format.Parse(text, pb.SeqEncoderConfig())
    torch.manual_seed(0)
    encoder = build_encoder(config, "seq", {"seq.query": (query,), "seq.sequence": (1, WIDTH - 1)})
    return encoder.double(), getattr(config, config.WhichOneof("seq_module") or "")


def reference(encoder: Any, config: Any, query: Tensor, values: Tensor) -> Tensor:
    """One row: its query [Q] and its values [L, D]."""
    if isinstance(config, pb.MultiWindowDINEncoder):
        return windows(encoder, config, query, values)
    if config.max_seq_length:
        values = values[: config.max_seq_length]
    if len(values) == 0:
        return values.new_zeros(encoder.width)
    if isinstance(config, pb.SelfAttentionEncoder):
        return self_attention(encoder, config, values)
    if isinstance(config, pb.PoolingEncoder):
        return values.mean(0) if config.pooling_type == "mean" else values.sum(0)
    if isinstance(config, pb.SimpleAttention):
        return torch.softmax(values @ query, dim=0) @ values
    q = torch.cat([query, query.new_zeros(WIDTH - len(query))])
    inputs = [torch.cat([q, s, q - s, q * s]) for s in values]
    return torch.softmax(encoder.score(torch.stack(inputs))[:, 0], dim=0) @ values


def windows(encoder: Any, config: pb.MultiWindowDINEncoder, query: Tensor, s: Tensor) -> Tensor:
    q = torch.cat([query, query.new_zeros(WIDTH - len(query))])
    means, start = [], 0
    for length in config.windows_len:
        total, count = q.new_zeros(WIDTH), 0
        for value in s[start : start + length]:
            score = encoder.score[:2](torch.cat([value, q * value, q])[None])[0]
            slope = encoder.score[2].weight
            total = total + (score if score > 0 else slope * score) * value
            count += 1
        means.append(total / max(count, 1))
        start += length
    return torch.cat([*means, q])


def self_attention(encoder: Any, config: pb.SelfAttentionEncoder, s: Tensor) -> Tensor:
    """By PyTorch's own attention, with the last two layers of query, key and value as its input."""
    layers = [encoder.project[name] for name in "qkv"]
    q, k, v = (layer[0](s)[:, None] for layer in layers)
    attended, _ = F.multi_head_attention_forward(
        *(q, k, v, config.multihead_attn_dim, config.num_heads),
        in_proj_weight=torch.cat([layer[1].weight for layer in layers]),
        in_proj_bias=torch.cat([layer[1].bias for layer in layers]),
        **{"bias_k": None, "bias_v": None, "add_zero_attn": False, "dropout_p": 0.0},
        out_proj_weight=encoder.output.weight,
        out_proj_bias=encoder.output.bias,
    )
    return attended[:, 0].mean(0)


@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_equal_attention_over_each_row(name, case):
    query_width = 3 if name.startswith(("din", "window")) else WIDTH
    encoder, config = build(ENCODERS[name], query_width)
    lengths = torch.tensor(LENGTHS[case], dtype=torch.int64)
    torch.manual_seed(1)
    values = torch.randn(int(lengths.sum()), WIDTH, dtype=torch.float64, requires_grad=True)
    query = torch.randn(len(lengths), query_width, dtype=torch.float64, requires_grad=True)
    inputs = {"seq.query": query, "seq.sequence": values, "seq.lengths": lengths}
    found = encoder(inputs)
    each = zip(query, values.split(lengths.tolist()), strict=True)
    expected = [reference(encoder, config, q, v) for q, v in each]
    stacked = torch.stack(expected) if expected else values.new_zeros(0, encoder.width)
    torch.testing.assert_close(found, stacked)
    upstream = torch.randn_like(found)
    sources = [values, query, *encoder.parameters()]
    gradients = torch.autograd.grad(found, sources, upstream, allow_unused=True)
    if not lengths.any() and not name.startswith("window"):  # whose query is seen in any row
        assert all(g is None or not g.any() for g in gradients)
        return
    wanted = [torch.zeros_like(each) for each in sources]
    if expected:
        total = (stacked * upstream).sum()
        wanted = torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True)
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(torch.zeros_like(want) if gradient is None else gradient, want)


def test_scores_in_half_precision_do_not_overflow():
    sequence = JaggedSequence.of(torch.ones(3, WIDTH), torch.tensor([2, 1]))
    encoder, _ = build(ENCODERS["attention"], WIDTH)
    scores = torch.tensor([6e4, -6e4, 6e4], dtype=torch.float16)
    assert torch.equal(encoder.attend(scores, sequence), torch.ones(2, WIDTH))


def test_dropout_of_self_attention_keeps_the_mean_and_ends_with_training():
    config = "self_attention_encoder { multihead_attn_dim: 6 num_heads: 2 dropout: 0.5 }"
    encoder, _ = build(config, WIDTH)
    torch.manual_seed(1)
    values = torch.randn(9, WIDTH, dtype=torch.float64)
    inputs = {"seq.sequence": values, "seq.lengths": torch.tensor([9])}
    drawn = torch.stack([encoder(inputs)[0] for _ in range(4000)])
    exact = encoder.eval()(inputs)[0]
    assert torch.equal(encoder(inputs)[0], exact)
    standard_error = drawn.std(0) / len(drawn) ** 0.5
    assert (standard_error > 0).all()
    assert ((drawn.mean(0) - exact).abs() < 5 * standard_error).all()


@pytest.mark.parametrize("name", ["windows", "self", "self cut"])
def test_encoders_are_exported_for_sequences_of_any_length(name):
    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = build(ENCODERS[name], WIDTH)[0].float()

        def forward(self, query: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
            names = ("seq.query", "seq.sequence", "seq.lengths")
            return self.encoder(dict(zip(names, (query, values, lengths), strict=True)))

    def inputs(rows: int, per_row: int) -> tuple[Tensor, ...]:
        sizes = torch.full((rows,), per_row)
        return torch.randn(rows, WIDTH), torch.randn(rows * per_row, WIDTH), sizes

    model = Exported().eval()
    rows = [[Dim.AUTO, Dim.STATIC], [Dim.AUTO, Dim.STATIC], [Dim.AUTO]]
    served = torch.export.export(model, inputs(3, 2), dynamic_shapes=tuple(rows)).module()
    for each in (inputs(1, 0), inputs(1, 1), inputs(5, 7)):
        torch.testing.assert_close(served(*each), model(*each))


@pytest.mark.parametrize(
    ("text", "query", "message"),
    [
        ("multi_window_din_encoder { attn_mlp { hidden_units: 2 } }", 4, r"windows_len must have"),
        (
            "multi_window_din_encoder { windows_len: [2, 0] attn_mlp { hidden_units: 2 } }",
            4,
            r"sequence group `seq`: multi_window_din_encoder.windows_len .* got: \[2, 0\]",
        ),
        (
            "multi_window_din_encoder { windows_len: 2 attn_mlp { hidden_units: 2 } }",
            0,
            r"multi_window_din_encoder needs features that are no sequences, 1 to 4 wide",
        ),
        ("multi_window_din_encoder { windows_len: 2 }", 4, r"attn_mlp must be set"),
        (
            "self_attention_encoder { num_heads: 3 }",
            4,
            r"`seq`: self_attention_encoder.multihead_attn_dim must be .* got: 512 and 3",
        ),
        ("self_attention_encoder { num_heads: 0 }", 4, r"got: 512 and 0"),
        ("self_attention_encoder { multihead_attn_dim: 0 }", 4, r"got: 0 and 8"),
        (
            "self_attention_encoder { dropout: 1.5 }",
            4,
            r"dropout must be .* below 1, .* 1.5",
        ),
    ],
)
def test_faulty_encoders(text, query, message):
    with pytest.raises(ConfigError, match=message):
        build(text, query)
