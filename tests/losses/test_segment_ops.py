"""Segment operations against a plain loop over sessions, with every gradient."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kernels.segment import (
    segment_broadcast,
    segment_logsumexp,
    segment_max,
    segment_sum,
    segments_from_offsets,
    sort_into_offsets,
)

LAYOUTS = {
    "no sessions": [0],
    "empty sessions only": [0, 0, 0],
    "one row": [0, 1],
    "one session": [0, 13],
    "empty at both ends and inside": [0, 0, 3, 3, 3, 4, 9, 9],
    "singles": list(range(8)),
    "uneven": [0, 1, 6, 7, 9, 20, 37],
}
layouts = pytest.mark.parametrize("offsets", LAYOUTS.values(), ids=LAYOUTS.keys())


def loop(reduce: Callable[[Tensor], Tensor], empty: float) -> Callable[[Tensor, list[int]], Tensor]:
    """The same reduction, session by session."""

    def over_sessions(values: Tensor, offsets: list[int]) -> Tensor:
        results = [values.new_zeros(0)]
        for start, end in pairwise(offsets):
            some = values[start:end]
            results.append(reduce(some)[None] if end > start else values.new_full((1,), empty))
        return torch.cat(results)

    return over_sessions


OPERATIONS = {
    "sum": (segment_sum, loop(torch.sum, 0.0)),
    "max": (segment_max, loop(torch.amax, float("-inf"))),
    "logsumexp": (segment_logsumexp, loop(lambda x: x.logsumexp(0), float("-inf"))),
}
operations = pytest.mark.parametrize("name", OPERATIONS)


@layouts
@operations
def test_equals_the_loop_in_value_and_gradient(name, offsets):
    operation, reference = OPERATIONS[name]
    torch.manual_seed(0)
    # Whole numbers, so that maxima tie.
    values = torch.randint(-3, 4, (offsets[-1],)).double().requires_grad_()
    segments = segments_from_offsets(torch.tensor(offsets), offsets[-1])
    upstream = torch.randn(len(offsets) - 1, dtype=torch.float64)
    actual, expected = operation(values, segments), reference(values, offsets)
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=1e-14)

    def total(result: Tensor) -> Tensor:
        return torch.where(upstream.isfinite() & result.isfinite(), result, 0.0) @ upstream

    (grad,) = torch.autograd.grad(total(actual), values)
    expected_total = total(expected)
    expected_grad = (
        torch.autograd.grad(expected_total, values)[0]
        if expected_total.requires_grad
        else torch.zeros_like(values)
    )
    torch.testing.assert_close(grad, expected_grad, rtol=1e-14, atol=1e-14)


@operations
def test_gradient_stays_finite_when_minus_infinity_is_an_answer(name):
    operation, _ = OPERATIONS[name]
    values = torch.tensor([float("-inf"), float("-inf"), 1.0], requires_grad=True)
    segments = segments_from_offsets(torch.tensor([0, 2, 2, 3]), 3)
    operation(values, segments).backward(torch.ones(3))
    assert values.grad is not None
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("operation", [segment_sum, segment_logsumexp])
def test_first_and_second_derivatives(operation):
    torch.manual_seed(1)
    segments = segments_from_offsets(torch.tensor([0, 1, 5, 9]), 9)
    values = torch.randn(9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: operation(x, segments), values)
    assert torch.autograd.gradgradcheck(lambda x: operation(x, segments), values)


@layouts
def test_broadcast_is_the_transpose_of_sum(offsets):
    torch.manual_seed(2)
    segments = segments_from_offsets(torch.tensor(offsets), offsets[-1])
    per_session = torch.randn(len(offsets) - 1, dtype=torch.float64, requires_grad=True)
    rows = segment_broadcast(per_session, segments)
    lengths = torch.tensor(offsets).diff()
    torch.testing.assert_close(rows, per_session.repeat_interleave(lengths), rtol=0, atol=0)
    upstream = torch.randn(offsets[-1], dtype=torch.float64)
    rows.backward(upstream)
    torch.testing.assert_close(per_session.grad, segment_sum(upstream, segments))


def test_a_long_float32_session_sums_exactly():
    # Accumulated in float32 this is 3 % off.
    num_rows = 20_000_000
    segments = segments_from_offsets(torch.tensor([0, num_rows]), num_rows)
    total = segment_sum(torch.full((num_rows,), 0.3), segments)
    torch.testing.assert_close(total, torch.tensor([0.3]) * num_rows, rtol=1e-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_sorting_makes_sessions_contiguous(dtype):
    ids = torch.tensor([7, 3, 7, 100, 3, 7]).to(dtype)
    order, offsets = sort_into_offsets(ids)
    assert order.tolist() == [1, 4, 0, 2, 5, 3]  # stable within a session
    assert offsets.tolist() == [0, 2, 5, 6, 6, 6, 6]  # surplus sessions are empty
