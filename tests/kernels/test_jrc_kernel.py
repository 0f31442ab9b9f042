"""The JRC kernel against a float64 loop over sessions, and against its eager twin."""

import pytest
import torch
from torch.library import opcheck

from losses import JRCLoss
from losses.jrc import jrc_losses
from tests.sessions import make_batch, reference_rows

contrasts = pytest.mark.parametrize("contrast", ["opposite", "session"])
dtypes = pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.bfloat16, torch.float16],
    ids=lambda dtype: str(dtype)[6:],
)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 3e-6, torch.float16: 3e-6}
# Rows of each session. The interpreter has tiles of 8 rows and shares out sessions above 64.
SESSION_LENGTHS = {
    "one row": [1],
    "within a tile": [3, 1, 5],
    "one tile, exactly": [8],
    "over edges": [7, 11, 2, 18, 1],
    "empty sessions": [0, 0, 5, 0, 17, 0, 0, 3, 0],
    "skewed": [1, 2, 50, 1, 1],
    "shared out": [5, 150, 2],
    "shared out twice": [65, 70],
    "shared out, alone": [130],
}
shapes = pytest.mark.parametrize("lengths", SESSION_LENGTHS.values(), ids=SESSION_LENGTHS.keys())


def loss_of(reduction="none", contrast="opposite", alpha=0.3, implementation="triton", **kwargs):
    return JRCLoss(alpha, reduction, contrast, implementation=implementation, **kwargs)


@shapes
@contrasts
def test_rows_and_gradients_equal_the_loop(device, contrast, lengths):
    logits, labels, ids, offsets = make_batch(lengths, 0.4, torch.float64)
    exact = logits.clone().requires_grad_()
    expected = reference_rows(exact, labels, ids, 0.3, contrast)
    upstream = torch.randn(len(labels), dtype=torch.float64)
    (expected_grad,) = torch.autograd.grad(expected, exact, upstream)

    on_device = logits.to(device).requires_grad_()
    rows = loss_of("none", contrast)(
        on_device, labels.to(device), session_offsets=offsets.to(device)
    )
    (grad,) = torch.autograd.grad(rows, on_device, upstream.to(device))
    torch.testing.assert_close(rows.cpu(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad.cpu(), expected_grad, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("positives", [0.0, 1.0], ids=["all negative", "all positive"])
@contrasts
def test_batches_of_one_class(device, contrast, positives):
    logits, labels, ids, offsets = make_batch([10, 1, 70], positives, torch.float64)
    expected = reference_rows(logits, labels, ids, 0.3, contrast)
    logits = logits.to(device).requires_grad_()
    rows = loss_of("none", contrast)(logits, labels.to(device), session_offsets=offsets.to(device))
    rows.sum().backward()
    torch.testing.assert_close(rows.detach().cpu(), expected, rtol=1e-12, atol=1e-12)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@contrasts
def test_reductions_weights_and_smoothing(device, contrast, reduction, weighted):
    logits, labels, _, offsets = make_batch([3, 1, 10, 2], 0.4, torch.float64)
    weight = torch.rand(16) if weighted else None
    results = []
    for implementation, where in (("eager", torch.device("cpu")), ("triton", device)):
        loss = loss_of(reduction, contrast, implementation=implementation, label_smoothing=0.2)
        x = logits.to(where).requires_grad_()
        value = loss(
            x,
            labels.to(where),
            session_offsets=offsets.to(where),
            sample_weight=None if weight is None else weight.to(where),
        )
        upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(2))
        (grad,) = torch.autograd.grad(value, x, upstream.to(value))
        results.append((value.detach().cpu(), grad.cpu()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-11, atol=1e-12)


@dtypes
@contrasts
def test_low_precision_is_at_most_twice_as_wrong_as_eager(device, contrast, dtype):
    logits, labels, ids, offsets = make_batch([7, 12, 2, 70], 0.4, dtype)
    exact = logits.double().requires_grad_()
    expected = reference_rows(exact, labels, ids, 0.3, contrast).mean()
    (expected_grad,) = torch.autograd.grad(expected, exact)
    errors = {}
    for implementation in ("eager", "triton"):
        x = logits.to(device).requires_grad_()
        loss = loss_of("mean", contrast, implementation=implementation)
        value = loss(x, labels.to(device), session_offsets=offsets.to(device))
        (grad,) = torch.autograd.grad(value, x)
        assert grad.dtype == dtype
        errors[implementation] = (
            (value.double().cpu() - expected).abs().item(),
            (grad.double().cpu() - expected_grad).abs().max().item(),
        )
    rounding = TOLERANCE[dtype]
    assert errors["triton"][0] <= 2 * errors["eager"][0] + rounding
    assert errors["triton"][1] <= 2 * errors["eager"][1] + rounding * expected_grad.abs().max()


@pytest.mark.parametrize(
    "label_type", [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.bfloat16]
)
def test_labels_of_any_type(device, label_type):
    logits, labels, _, offsets = make_batch([3, 21], 0.4, torch.float32)
    logits, labels, offsets = logits.to(device), labels.to(device), offsets.to(device)
    expected = loss_of("mean")(logits, labels, session_offsets=offsets)
    assert loss_of("mean")(logits, labels.to(label_type), session_offsets=offsets) == expected


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_sessions_in_any_order(device, reduction):
    logits, labels, ids, offsets = make_batch([3, 1, 18, 2], 0.4, torch.float64)
    shuffle = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    weight = torch.rand(24)
    expected = loss_of(reduction)(
        logits.to(device), labels.to(device), None, offsets.to(device), weight.to(device)
    )
    actual = loss_of(reduction)(
        *(each[shuffle].to(device) for each in (logits, labels, ids)),
        sample_weight=weight[shuffle].to(device),
    )
    expected = expected[shuffle.to(device)] if reduction == "none" else expected
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("magnitude", [1e2, 1e4])
@contrasts
def test_huge_logits_stay_exact(device, contrast, magnitude):
    logits, labels, ids, offsets = make_batch([1, 7, 11, 66], 0.4, torch.float32)
    logits = (logits / 3 * magnitude).clamp(-4e4, 4e4)
    expected = reference_rows(logits.double(), labels, ids, 0.5, contrast)
    logits = logits.to(device).requires_grad_()
    rows = loss_of("none", contrast, 0.5)(
        logits, labels.to(device), session_offsets=offsets.to(device)
    )
    rows.sum().backward()
    torch.testing.assert_close(rows.detach().double().cpu(), expected, rtol=1e-6, atol=1e-5)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_tasks_of_a_batch_share_one_launch(device, monkeypatch):
    from kernels import jrc

    launches = []
    launch = jrc.launch
    monkeypatch.setattr(
        jrc, "launch", lambda *args, **kw: (launches.append(args), launch(*args, **kw))
    )
    batches = [make_batch([3, 1, 25], 0.2 * k, torch.float32, seed=k) for k in (1, 2, 3)]
    offsets = batches[0][3].to(device)
    losses = [loss_of(alpha=0.2 * k, label_smoothing=0.1 * k) for k in (1, 2, 3)]
    logits = [batch[0].to(device).requires_grad_() for batch in batches]
    labels = [batch[1].to(device) for batch in batches]
    weights = [torch.rand(29, device=device) for _ in batches]

    together = jrc_losses(losses, logits, labels, offsets, weights)
    assert len(launches) == 1
    grads = torch.autograd.grad(together @ torch.tensor([1.0, -2.0, 3.0], device=device), logits)
    for k, (module, x, y, w) in enumerate(zip(losses, logits, labels, weights, strict=True)):
        module.reduction = "sum"
        alone = module(x, y, session_offsets=offsets, sample_weight=w)
        torch.testing.assert_close(together[k], alone)
        (grad,) = torch.autograd.grad((1.0, -2.0, 3.0)[k] * alone, x)
        torch.testing.assert_close(grads[k], grad)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_an_empty_batch_gives_zero_with_a_graph(device, reduction):
    logits = torch.zeros(0, 2, device=device, requires_grad=True)
    labels = torch.zeros(0, device=device)
    offsets = torch.zeros(4, dtype=torch.int64, device=device)
    result = loss_of(reduction)(logits, labels, session_offsets=offsets)
    result.sum().backward()
    assert result.sum() == 0.0
    assert logits.grad is not None


def test_no_total_weight_gives_zero_with_a_zero_gradient(device):
    logits, labels, _, offsets = make_batch([3, 20], 0.5, torch.float32)
    logits = logits.to(device).requires_grad_()
    loss = loss_of("mean")(
        logits, labels.to(device), None, offsets.to(device), torch.zeros(23, device=device)
    )
    loss.backward()
    assert loss == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0.0).all()


def test_operators_are_registered_in_full(device):
    from kernels import jrc_ops

    logits, labels, _, offsets = make_batch([3, 9], 0.4, torch.float32)
    x = [logits.to(device).requires_grad_(), (logits + 1).to(device).requires_grad_()]
    y, offsets = [labels.to(device)] * 2, offsets.to(device)
    weights = [torch.rand(12, device=device)] * 2
    reduced = (x, y, offsets, weights, [0.3, 0.4], [0.0, 0.1], "opposite", "mean", True)
    opcheck(jrc_ops.jrc_reduced, reduced)
    opcheck(jrc_ops.jrc_rows, (x[0], y[0], offsets, 0.3, 0.1, "session"))
    grad_args = (weights[0], x[0].detach(), y[0], offsets, 0.3, 0.1, "session")
    opcheck(jrc_ops.jrc_row_grads, grad_args)


@pytest.mark.parametrize("implementation", ["triton", "eager"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_compiles_without_a_graph_break(device, reduction, implementation):
    logits, labels, _, offsets = make_batch([3, 9], 0.4, torch.float32)
    labels, offsets = labels.to(device), offsets.to(device)
    module = loss_of(reduction, implementation=implementation)

    def twice(x):
        return 2 * module(x, labels, session_offsets=offsets).sum()

    grads, values = [], []
    torch._dynamo.reset()  # it stops compiling a function that was compiled often
    # Not inductor: what it makes of the surrounding code is not ours to test.
    for function in (twice, torch.compile(twice, fullgraph=True, backend="aot_eager")):
        x = logits.to(device).requires_grad_()
        value = function(x)
        value.backward()
        values.append(value.detach())
        grads.append(x.grad)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs an NVIDIA GPU")
def test_is_captured_in_a_cuda_graph():
    logits, labels, _, offsets = make_batch([3, 9, 300], 0.4, torch.float32)
    x, y, o = logits.cuda().requires_grad_(), labels.cuda(), offsets.cuda()
    module = loss_of("mean")

    def step():
        loss = module(x, y, session_offsets=o)
        return loss, torch.autograd.grad(loss, x)[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, grad = step()
    for seed in (1, 2):
        with torch.no_grad():
            x.copy_(make_batch([3, 9, 300], 0.4, torch.float32, seed)[0])
        graph.replay()
        expected_loss, expected_grad = step()
        assert loss == expected_loss
        assert (grad == expected_grad).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a launch at full size needs a GPU")
@pytest.mark.parametrize("lengths", [[200_000], [10] * 20_000, [1, 70_000, 3] * 2], ids=str)
@contrasts
def test_large_batches_at_the_tiles_of_production(contrast, lengths):
    logits, labels, _, offsets = make_batch(lengths, 0.3, torch.float32)
    results = []
    for implementation, where, dtype in (
        ("eager", "cpu", torch.float64),
        ("triton", "cuda", torch.float32),
    ):
        x = logits.to(where, dtype).requires_grad_()
        loss = loss_of("mean", contrast, implementation=implementation)
        value = loss(x, labels.to(where), session_offsets=offsets.to(where))
        (grad,) = torch.autograd.grad(value, x)
        results.append((value.double().cpu(), grad.double().cpu() * len(logits)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
