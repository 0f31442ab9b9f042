"""Pointwise losses against their formulas in float64, with gradients and extreme logits."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from losses import BinaryCrossEntropyLoss, BinaryFocalLoss, L2Loss, SoftmaxCrossEntropyLoss

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6}
GRAD_TOLERANCE = {**TOLERANCE, torch.bfloat16: 1e-2, torch.float16: 2e-3}
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


def bce_rows(logit: Tensor, y: Tensor) -> Tensor:
    return -y * torch.log(torch.sigmoid(logit)) - (1 - y) * torch.log(torch.sigmoid(-logit))


def smoothed(y: Tensor, share: float) -> Tensor:
    return y * (1 - share) + 0.5 * share


def focal_rows(logit: Tensor, y: Tensor, gamma: float, alpha: float) -> Tensor:
    p = torch.sigmoid(logit)
    return -alpha * y * (1 - p) ** gamma * torch.log(p) - (1 - alpha) * (
        1 - y
    ) * p**gamma * torch.log(1 - p)


# name: loss, number of logit columns (0 is [B]), number of label values, rows by formula
CASES = {
    "bce [B]": (BinaryCrossEntropyLoss(0.0, "none"), 0, 2, lambda f, y: bce_rows(f, y)),
    "bce [B, 1]": (BinaryCrossEntropyLoss(0.0, "none"), 1, 2, lambda f, y: bce_rows(f[:, 0], y)),
    "bce [B, 2]": (
        BinaryCrossEntropyLoss(0.0, "none"),
        2,
        2,
        lambda f, y: F.cross_entropy(f, y.long(), reduction="none"),
    ),
    "bce smoothed": (
        BinaryCrossEntropyLoss(0.2, "none"),
        0,
        2,
        lambda f, y: bce_rows(f, smoothed(y, 0.2)),
    ),
    "focal": (BinaryFocalLoss(2.0, 0.5, "none"), 0, 2, lambda f, y: focal_rows(f, y, 2.0, 0.5)),
    "focal 0.5": (
        BinaryFocalLoss(0.5, 0.8, "none"),
        1,
        2,
        lambda f, y: focal_rows(f[:, 0], y, 0.5, 0.8),
    ),
    "focal gamma 0": (
        BinaryFocalLoss(0.0, 0.5, "none"),
        0,
        2,
        lambda f, y: 0.5 * bce_rows(f, y),
    ),
    "softmax": (
        SoftmaxCrossEntropyLoss(0.0, "none"),
        5,
        5,
        lambda f, y: f.logsumexp(1) - f.gather(1, y.long()[:, None])[:, 0],
    ),
    "softmax smoothed": (
        SoftmaxCrossEntropyLoss(0.1, "none"),
        3,
        3,
        lambda f, y: f.logsumexp(1) - 0.9 * f.gather(1, y.long()[:, None])[:, 0] - 0.1 * f.mean(1),
    ),
    "l2 [B]": (L2Loss("none"), 0, 9, lambda f, y: (f - y) ** 2),
    "l2 [B, 1]": (L2Loss("none"), 1, 9, lambda f, y: (f[:, 0] - y) ** 2),
}
cases = pytest.mark.parametrize(
    ("loss", "columns", "classes", "rows"), CASES.values(), ids=CASES.keys()
)


def make(num_rows: int, columns: int, classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_rows)
    shape = (num_rows, columns) if columns else (num_rows,)
    logits = 3 * torch.randn(shape, generator=generator)
    return logits.to(dtype), torch.randint(0, classes, (num_rows,), generator=generator)


@dtypes
@pytest.mark.parametrize("num_rows", [1, 37])
@cases
def test_rows_and_gradients_equal_the_formula(loss, columns, classes, rows, num_rows, dtype):
    logits, labels = make(num_rows, columns, classes, dtype)
    exact = logits.double().requires_grad_()
    expected = rows(exact, labels.double())
    upstream = torch.randn(num_rows, dtype=torch.float64)
    (expected_grad,) = torch.autograd.grad(expected, exact, upstream)

    logits.requires_grad_()
    for label_type in (torch.int64, torch.float32):
        actual = loss(logits, labels.to(label_type))
        assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        (grad,) = torch.autograd.grad(actual, logits, upstream.to(actual.dtype))
        assert grad.dtype == dtype
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)
        worst = (grad.double() - expected_grad).abs().max()
        assert worst <= GRAD_TOLERANCE[dtype] * expected_grad.abs().max().clamp(min=1.0)


@cases
def test_bool_labels_and_unused_sessions(loss, columns, classes, rows):
    logits, _ = make(9, columns, classes, torch.float64)
    labels = torch.arange(9) % 2
    offsets, ids = torch.tensor([0, 9]), torch.zeros(9, dtype=torch.int64)
    expected = rows(logits, labels.double())
    actual = loss(logits, labels.bool(), session_offsets=offsets, session_ids=ids)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
@dtypes
def test_focal_is_finite_at_any_logit(gamma, dtype):
    logits = torch.tensor([-1e4, -300.0, -90.0, -20.0, 0.0, 20.0, 90.0, 300.0, 1e4], dtype=dtype)
    logits = logits.repeat(2).requires_grad_()
    labels = torch.arange(18) // 9
    rows = BinaryFocalLoss(gamma, 0.5, "none")(logits, labels)
    rows.sum().backward()
    assert rows.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    # A sure and wrong row costs what cross-entropy would, with slope 1: half of it by alpha.
    assert rows[0].item() == 0.0
    assert rows[8].item() == pytest.approx(0.5 * float(logits.detach()[8]))
    assert logits.grad[8].item() == pytest.approx(0.5)


def test_focal_has_its_true_gradient():
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(9) % 2
    assert torch.autograd.gradcheck(lambda x: BinaryFocalLoss(2.0, 0.3, "none")(x, labels), logits)


@cases
def test_huge_logits_stay_finite(loss, columns, classes, rows):
    logits, labels = make(21, columns, classes, torch.float32)
    logits = (logits * 3e3).requires_grad_()
    result = loss(logits, labels)
    result.sum().backward()
    assert result.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@cases
def test_an_empty_batch_has_an_empty_result(loss, columns, classes, rows):
    logits, labels = make(0, columns, classes, torch.float32)
    result = loss(logits.requires_grad_(), labels)
    result.sum().backward()
    assert result.shape == (0,)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_weights_and_reduction(reduction):
    logits, labels = make(9, 0, 2, torch.float64)
    weight = torch.arange(9)
    rows = bce_rows(logits, labels.double())
    weighted = weight * rows
    expected = {
        "none": (rows, weighted),
        "sum": (rows.sum(), weighted.sum()),
        "mean": (rows.mean(), weighted.sum() / weight.sum()),
    }[reduction]
    loss = BinaryCrossEntropyLoss(reduction=reduction)
    torch.testing.assert_close(loss(logits, labels), expected[0])
    torch.testing.assert_close(loss(logits, labels, weight), expected[1])


def test_a_mean_of_nothing_is_zero_with_a_graph():
    logits = torch.zeros(0, requires_grad=True)
    empty = BinaryCrossEntropyLoss()(logits, torch.zeros(0))
    empty.backward()
    assert empty.item() == 0.0
    logits = torch.zeros(3, requires_grad=True)
    weightless = BinaryCrossEntropyLoss()(logits, torch.ones(3), torch.zeros(3))
    weightless.backward()
    assert weightless.item() == 0.0
    assert logits.grad is not None
    assert not math.isnan(float(logits.grad.sum()))
