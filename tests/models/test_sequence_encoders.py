"""Sequence encoders against plain attention over each row's own values, in float64."""

from typing import Any

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from trainer.models.sequence import JaggedSequence, SequenceEncoder, build_encoder
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
}
WIDTH = 4


def build(text: str, query: int) -> tuple[SequenceEncoder, Any]:
    config = text_format.Parse(text, pb.SeqEncoderConfig())
    torch.manual_seed(0)
    encoder = build_encoder(config, "seq", {"seq.query": (query,), "seq.sequence": (1, WIDTH - 1)})
    return encoder.double(), getattr(config, config.WhichOneof("seq_module") or "")


def reference(encoder: Any, config: Any, query: Tensor, values: Tensor) -> Tensor:
    """One row: its query [Q] and its values [L, D]."""
    if config.max_seq_length:
        values = values[: config.max_seq_length]
    if len(values) == 0:
        return values.new_zeros(WIDTH)
    if isinstance(config, pb.PoolingEncoder):
        return values.mean(0) if config.pooling_type == "mean" else values.sum(0)
    if isinstance(config, pb.SimpleAttention):
        return torch.softmax(values @ query, dim=0) @ values
    q = torch.cat([query, query.new_zeros(WIDTH - len(query))])
    inputs = [torch.cat([q, s, q - s, q * s]) for s in values]
    return torch.softmax(encoder.score(torch.stack(inputs))[:, 0], dim=0) @ values


@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_equal_attention_over_each_row(name, case):
    query_width = 3 if name.startswith("din") else WIDTH
    encoder, config = build(ENCODERS[name], query_width)
    lengths = torch.tensor(LENGTHS[case], dtype=torch.int64)
    torch.manual_seed(1)
    values = torch.randn(int(lengths.sum()), WIDTH, dtype=torch.float64, requires_grad=True)
    query = torch.randn(len(lengths), query_width, dtype=torch.float64, requires_grad=True)
    inputs = {"seq.query": query, "seq.sequence": values, "seq.lengths": lengths}
    found = encoder(inputs)
    each = zip(query, values.split(lengths.tolist()), strict=True)
    expected = [reference(encoder, config, q, v) for q, v in each]
    stacked = torch.stack(expected) if expected else values.new_zeros(0, WIDTH)
    torch.testing.assert_close(found, stacked)
    upstream = torch.randn_like(found)
    sources = [values, query, *encoder.parameters()]
    gradients = torch.autograd.grad(found, sources, upstream, allow_unused=True)
    if not lengths.any():
        assert all(g is None or not g.any() for g in gradients)
        return
    wanted = torch.autograd.grad(
        (stacked * upstream).sum(), sources, allow_unused=True, materialize_grads=True
    )
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(torch.zeros_like(want) if gradient is None else gradient, want)


def test_scores_in_half_precision_do_not_overflow():
    sequence = JaggedSequence.of(torch.ones(3, WIDTH), torch.tensor([2, 1]))
    encoder, _ = build(ENCODERS["attention"], WIDTH)
    scores = torch.tensor([6e4, -6e4, 6e4], dtype=torch.float16)
    assert torch.equal(encoder.attend(scores, sequence), torch.ones(2, WIDTH))
