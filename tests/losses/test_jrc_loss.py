"""JRC against a float64 loop over sessions that is written from the formula alone."""

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from losses import JRCLoss

CONTRASTS = ["opposite", "session"]
contrasts = pytest.mark.parametrize("contrast", CONTRASTS)

# Working precision is float32 for the last three; the gradient is rounded to the logits' type.
TOLERANCE = {
    torch.float64: {"loss": 1e-12, "grad": 1e-12},
    torch.float32: {"loss": 2e-6, "grad": 2e-6},
    torch.bfloat16: {"loss": 2e-6, "grad": 1e-2},
    torch.float16: {"loss": 2e-6, "grad": 2e-3},
}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype)[6:])

# Rows of each session. Odd sizes, single rows, one long session, many sessions.
SESSION_LENGTHS = {
    "one row": [1],
    "two rows": [2],
    "singles": [1] * 7,
    "uneven": [3, 1, 8, 2, 17],
    "long": [101],
    "skewed": [1, 1, 67, 1, 2],
    "many": [5] * 19 + [3],
}
# Share of positives: none and all are one-class batches.
POSITIVES = {"mixed": 0.4, "rare": 0.05, "none": 0.0, "all": 1.0}
shapes = pytest.mark.parametrize("lengths", SESSION_LENGTHS.values(), ids=SESSION_LENGTHS.keys())
mixes = pytest.mark.parametrize("positives", POSITIVES.values(), ids=POSITIVES.keys())


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


@dtypes
@mixes
@shapes
@contrasts
def test_rows_and_gradients_equal_the_loop(contrast, lengths, positives, dtype):
    logits, labels, ids, offsets = make_batch(lengths, positives, dtype)
    exact = logits.double().requires_grad_()
    logits.requires_grad_()
    expected = reference_rows(exact, labels, ids, 0.3, contrast)
    upstream = torch.randn(len(labels), generator=torch.Generator().manual_seed(9)).double()
    (expected_grad,) = torch.autograd.grad(expected, exact, upstream)

    rows = JRCLoss(0.3, "none", contrast)(logits, labels, session_offsets=offsets)
    assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    (grad,) = torch.autograd.grad(rows, logits, upstream.to(rows.dtype))
    assert grad.dtype == dtype
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        rows.double(), expected, rtol=tolerance["loss"], atol=tolerance["loss"]
    )
    scale = expected_grad.abs().max().clamp(min=1.0)
    assert (grad.double() - expected_grad).abs().max() <= tolerance["grad"] * scale


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@contrasts
def test_reductions_and_weights(contrast, reduction, weighted):
    logits, labels, ids, offsets = make_batch([3, 1, 8, 2], 0.4, torch.float64)
    logits.requires_grad_()
    weight = torch.rand(14, dtype=torch.float64) if weighted else None
    losses = reference_rows(logits, labels, ids, 0.5, contrast)
    w = torch.ones_like(losses) if weight is None else weight
    expected = {"none": w * losses, "sum": w @ losses, "mean": w @ losses / w.sum()}[reduction]
    loss = JRCLoss(reduction=reduction, contrast=contrast)
    for sessions in ({"session_ids": ids}, {"session_offsets": offsets}):
        actual = loss(logits, labels, **sessions, sample_weight=weight)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
        upstream = torch.randn_like(actual)
        (grad,) = torch.autograd.grad(actual, logits, upstream)
        (expected_grad,) = torch.autograd.grad(expected, logits, upstream, retain_graph=True)
        torch.testing.assert_close(grad, expected_grad, rtol=1e-11, atol=1e-12)


def test_value_of_torcheasyrec_on_its_own_vector():
    logits = torch.tensor(
        [0.9, 0.1, 0.5, 0.5, 0.3, 0.7, 0.2, 0.8, 0.8, 0.2, 0.55, 0.45, 0.33, 0.67, 0.55, 0.45]
    ).view(8, 2)
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    session_ids = torch.tensor([1, 1, 1, 1, 2, 2, 2, 2], dtype=torch.int8)
    loss = JRCLoss(alpha=0.5)(logits, labels, session_ids)
    assert round(loss.item(), 4) == 0.7199


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64]
)
def test_session_ids_of_any_integer_type_and_order(dtype):
    logits, labels, ids, offsets = make_batch([3, 1, 8, 2], 0.4, torch.float64)
    loss = JRCLoss(reduction="none")
    expected = loss(logits, labels, session_offsets=offsets)
    shuffle = torch.randperm(14, generator=torch.Generator().manual_seed(3))
    actual = loss(logits[shuffle], labels[shuffle], (ids + 5)[shuffle].to(dtype))
    torch.testing.assert_close(actual, expected[shuffle], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32])
def test_labels_of_any_type(dtype):
    logits, labels, _, offsets = make_batch([3, 8], 0.4, torch.float32)
    expected = JRCLoss()(logits, labels, session_offsets=offsets)
    assert JRCLoss()(logits, labels.to(dtype), session_offsets=offsets.int()) == expected


@contrasts
def test_gradcheck(contrast):
    logits, labels, ids, _ = make_batch([3, 1, 5], 0.4, torch.float64)
    loss = JRCLoss(0.3, "none", contrast)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, ids), logits.requires_grad_())


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    ids=st.lists(st.integers(-3, 3), min_size=0, max_size=12),
    seed=st.integers(0, 10**6),
    contrast=st.sampled_from(CONTRASTS),
    alpha=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_any_small_batch(ids, seed, contrast, alpha):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(ids), 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (len(ids),), generator=generator)
    session_ids = torch.tensor(ids, dtype=torch.int64)
    actual = JRCLoss(alpha, "none", contrast)(logits, labels, session_ids)
    expected = reference_rows(logits, labels, session_ids, alpha, contrast)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@contrasts
def test_ranking_does_not_see_a_shift_of_a_channel_within_a_session(contrast):
    logits, labels, ids, offsets = make_batch([5, 9], 0.4, torch.float64)
    shift = torch.randn(2, 2, dtype=torch.float64).repeat_interleave(offsets.diff(), 0)
    loss = JRCLoss(0.0, "none", contrast)
    torch.testing.assert_close(loss(logits + shift, labels, ids), loss(logits, labels, ids))


@pytest.mark.parametrize("magnitude", [1e2, 1e4])
@dtypes
@contrasts
def test_huge_logits_stay_exact(contrast, dtype, magnitude):
    logits, labels, ids, offsets = make_batch([1, 7, 20], 0.4, dtype)
    logits = (logits.double() / 3 * magnitude).clamp(-4e4, 4e4).to(dtype).requires_grad_()
    rows = JRCLoss(0.5, "none", contrast)(logits, labels, session_offsets=offsets)
    rows.sum().backward()
    expected = reference_rows(logits.detach().double(), labels, ids, 0.5, contrast)
    torch.testing.assert_close(rows.detach().double(), expected, rtol=1e-6, atol=1e-5)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gap", [-50.0, -1.0, 19.0, 25.0, 39.0, 41.0])
def test_float64_is_exact_where_torchs_softplus_turns_linear(gap):
    logits = torch.tensor([[gap, 0.0], [gap, 0.0]], dtype=torch.float64)
    rows = JRCLoss(0.5, "none")(logits, torch.tensor([1, 0]), torch.tensor([0, 0]))
    # Positive: ce = softplus(gap), rank = log(2). Negative: ce = softplus(-gap), rank = log(2).
    ce = torch.logaddexp(torch.zeros(2).double(), torch.tensor([gap, -gap]).double())
    torch.testing.assert_close(rows, 0.5 * ce + 0.5 * math.log(2), rtol=1e-15, atol=1e-15)


def test_one_row_sessions_and_one_class_sessions_have_no_ranking_loss():
    logits, labels, ids, _ = make_batch([1, 1, 1], 0.5, torch.float32)
    for contrast in CONTRASTS:
        loss = JRCLoss(0.0, contrast=contrast)(logits, labels, ids)
        # "session" takes the logarithm of an exponential: 0 up to float32's rounding.
        assert loss == 0.0 if contrast == "opposite" else abs(loss) < 1e-7
    logits, labels, ids, _ = make_batch([4, 6], 1.0, torch.float32)
    assert JRCLoss(0.0)(logits, labels, ids) == 0.0


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@contrasts
def test_an_empty_batch_gives_zero_with_a_graph(contrast, reduction):
    loss = JRCLoss(reduction=reduction, contrast=contrast)
    for sessions in (
        {"session_ids": torch.zeros(0, dtype=torch.int64)},
        {"session_offsets": torch.zeros(1, dtype=torch.int64)},
        {"session_offsets": torch.zeros(4, dtype=torch.int64)},
    ):
        logits = torch.zeros(0, 2, requires_grad=True)
        result = loss(logits, torch.zeros(0), **sessions)
        result.sum().backward()
        assert result.sum() == 0.0
        assert logits.grad is not None
        assert logits.grad.shape == (0, 2)


def test_zero_total_weight_gives_zero_with_a_zero_gradient():
    logits, labels, ids, _ = make_batch([3, 4], 0.5, torch.float32)
    loss = JRCLoss()(logits.requires_grad_(), labels, ids, sample_weight=torch.zeros(7))
    loss.backward()
    assert loss == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0.0).all()


@contrasts
def test_a_session_of_200_000_rows_is_linear_in_memory_and_time(contrast):
    # A B x B matrix would take 160 GB.
    logits, labels, _, offsets = make_batch([200_000], 0.3, torch.float32)
    started = time.perf_counter()
    loss = JRCLoss(contrast=contrast)(logits.requires_grad_(), labels, session_offsets=offsets)
    loss.backward()
    assert time.perf_counter() - started < 10.0
    # By the formula, with one logsumexp per channel instead of one per row.
    exact = logits.detach().double()
    own = exact.gather(1, labels[:, None])[:, 0]
    field = torch.stack(
        [
            torch.logsumexp(exact[:, k] if contrast == "session" else exact[labels != k, k], 0)
            for k in (0, 1)
        ]
    )[labels]
    whole = field if contrast == "session" else torch.logaddexp(field, own)
    expected = 0.5 * (torch.logsumexp(exact, 1) - own).mean() + 0.5 * (whole - own).mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sessions", ["session_ids", "session_offsets"])
@contrasts
def test_nothing_on_a_device_is_read_on_the_host(contrast, sessions):
    # A meta tensor has no values: reading one, or making a shape depend on one, raises.
    logits = torch.zeros(9, 2, device="meta", requires_grad=True)
    labels = torch.zeros(9, device="meta")
    keys = torch.zeros(9, dtype=torch.int64, device="meta")
    loss = JRCLoss(contrast=contrast)(logits, labels, **{sessions: keys}, sample_weight=labels)
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad.shape == (9, 2)
