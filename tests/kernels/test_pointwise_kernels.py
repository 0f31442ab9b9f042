"""The pointwise kernels against their eager twins in float64, which other tests hold to truth."""

import pytest
import torch
from torch.library import opcheck

from losses import BinaryCrossEntropyLoss, BinaryFocalLoss, L2Loss, SoftmaxCrossEntropyLoss

# name: class, arguments, columns of the logits (0 is [B]), label values
CASES = {
    "bce [B]": (BinaryCrossEntropyLoss, {}, 0, 2),
    "bce [B, 1] smoothed": (BinaryCrossEntropyLoss, {"label_smoothing": 0.2}, 1, 2),
    "bce [B, 2]": (BinaryCrossEntropyLoss, {"label_smoothing": 0.1}, 2, 2),
    "focal": (BinaryFocalLoss, {"gamma": 2.0, "alpha": 0.3}, 0, 2),
    "focal 0.5": (BinaryFocalLoss, {"gamma": 0.5, "alpha": 0.8}, 1, 2),
    "focal 0": (BinaryFocalLoss, {"gamma": 0.0}, 0, 2),
    "l2": (L2Loss, {}, 1, 9),
    "softmax 2": (SoftmaxCrossEntropyLoss, {}, 2, 2),
    "softmax 5 smoothed": (SoftmaxCrossEntropyLoss, {"label_smoothing": 0.1}, 5, 5),
    "softmax 40": (SoftmaxCrossEntropyLoss, {"label_smoothing": 0.3}, 40, 40),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
dtypes = pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.bfloat16, torch.float16],
    ids=lambda dtype: str(dtype)[6:],
)
ROUNDING = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6}


def make(case, num_rows, dtype):
    kind, arguments, columns, values = case
    generator = torch.Generator().manual_seed(num_rows)
    shape = (num_rows, columns) if columns else (num_rows,)
    logits = (3 * torch.randn(shape, generator=generator)).to(dtype)
    labels = torch.randint(0, values, (num_rows,), generator=generator)
    return lambda **kw: kind(**arguments, **kw), logits, labels


def run(loss, logits, labels, device, weight=None):
    x = logits.to(device).requires_grad_()
    value = loss(x, labels.to(device), None if weight is None else weight.to(device))
    upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(2))
    (grad,) = torch.autograd.grad(value, x, upstream.to(value))
    assert grad.dtype == logits.dtype
    assert grad.shape == logits.shape
    return value.detach().cpu(), grad.cpu()


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@cases
def test_equals_the_eager_twin(device, case, reduction, weighted):
    make_loss, logits, labels = make(case, 37, torch.float64)
    weight = torch.rand(37) if weighted else None
    expected = run(
        make_loss(reduction=reduction, implementation="eager"), logits, labels, "cpu", weight
    )
    actual = run(
        make_loss(reduction=reduction, implementation="triton"), logits, labels, device, weight
    )
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-13)


@dtypes
@cases
def test_low_precision_is_at_most_twice_as_wrong_as_eager(device, case, dtype):
    make_loss, logits, labels = make(case, 41, dtype)
    exact = run(make_loss(implementation="eager"), logits.double(), labels, "cpu")
    eager = run(make_loss(implementation="eager"), logits, labels, "cpu")
    kernel = run(make_loss(implementation="triton"), logits, labels, device)
    for is_exact, by_eager, by_kernel in zip(exact, eager, kernel, strict=True):
        allowed = 2 * (by_eager.double() - is_exact).abs().max()
        allowed += ROUNDING[dtype] * is_exact.abs().max()
        assert (by_kernel.double() - is_exact).abs().max() <= allowed


@pytest.mark.parametrize("label_type", [torch.bool, torch.uint8, torch.int32, torch.float32])
@cases
def test_labels_of_any_type(device, case, label_type):
    make_loss, logits, labels = make(case, 19, torch.float32)
    labels = labels % 2
    loss = make_loss(implementation="triton")
    expected, _ = run(loss, logits, labels, device)
    assert run(loss, logits, labels.to(label_type), device)[0] == expected


@cases
def test_huge_logits_stay_finite(device, case):
    make_loss, logits, labels = make(case, 21, torch.float32)
    value, grad = run(make_loss(implementation="triton"), logits * 3e3, labels, device)
    assert value.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@cases
def test_an_empty_batch_gives_zero_with_a_graph(device, case, reduction):
    make_loss, logits, labels = make(case, 0, torch.float32)
    value, grad = run(
        make_loss(implementation="triton", reduction=reduction), logits, labels, device
    )
    assert value.sum() == 0.0
    assert grad.shape == logits.shape


def test_a_label_that_is_no_class_is_nan_and_reads_nothing(device):
    logits = torch.zeros(3, 4, device=device)
    loss = SoftmaxCrossEntropyLoss(reduction="none", implementation="triton")
    rows = loss(logits, torch.tensor([1, 4, -1], device=device))
    assert rows.isnan().tolist() == [False, True, True]


@cases
def test_operators_are_registered_in_full(device, case):
    from kernels import pointwise_ops

    make_loss, logits, labels = make(case, 11, torch.float32)
    loss = make_loss()
    x, y = logits.to(device).requires_grad_(), labels.to(device)
    weight = torch.rand(11, device=device)
    kernel = (loss.kind, list(loss.parameters_of_kernel()))
    opcheck(pointwise_ops.pointwise_reduced, (x, y, weight, *kernel, "mean", True))
    opcheck(pointwise_ops.pointwise_rows, (x, y, *kernel))
    opcheck(pointwise_ops.pointwise_row_grads, (weight, x.detach(), y, *kernel))


@pytest.mark.parametrize("implementation", ["triton", "eager"])
@cases
def test_compiles_without_a_graph_break(device, case, implementation):
    make_loss, logits, labels = make(case, 11, torch.float32)
    module, labels = make_loss(implementation=implementation), labels.to(device)
    torch._dynamo.reset()  # it stops compiling a function that was compiled often
    # Not inductor: what it makes of the surrounding code is not ours to test.
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    grads = []
    for function in (module, compiled):
        x = logits.to(device).requires_grad_()
        function(x, labels).backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[1], grads[0])
