"""ListNet, RankNet and RCR against float64 loops over sessions, written from the formulas alone."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from losses import ListNetLoss, RankNetLoss, RegressionCompatibleRankingLoss

ALPHA = 0.3


def list_net_session(f: Tensor, y: Tensor) -> Tensor:
    """-q_i * log softmax(f)_i of one session."""
    return -y / max(y.sum().item(), 1) * F.log_softmax(f, 0)


def rank_net_session(f: Tensor, y: Tensor) -> Tensor:
    """Mean over the rows of the other label of the pair's logistic loss."""
    rows = []
    for i in range(len(f)):
        sign = 1.0 if y[i] else -1.0
        costs = [
            F.softplus(-sign * (f[i] - f[j]), threshold=100.0)
            for j in range(len(f))
            if y[j] != y[i]
        ]
        rows.append(torch.stack(costs).mean() if costs else 0.0 * f[i])
    return torch.stack(rows) if rows else f  # f: an empty session


def rcr_session(f: Tensor, y: Tensor) -> Tensor:
    """(1 - alpha) * ce_i + alpha * ListCE of the session's sigmoids, the row's part."""
    cross_entropy = -y * f.sigmoid().log() - (1 - y) * (-f).sigmoid().log()
    share = f.sigmoid() / f.sigmoid().sum()
    return (1 - ALPHA) * cross_entropy - ALPHA * y / max(y.sum().item(), 1) * share.log()


LOSSES = {
    "list_net": (ListNetLoss, {}, list_net_session),
    "rank_net": (RankNetLoss, {}, rank_net_session),
    "rcr": (RegressionCompatibleRankingLoss, {"alpha": ALPHA}, rcr_session),
}
losses = pytest.mark.parametrize(
    ("loss", "arguments", "session"), LOSSES.values(), ids=LOSSES.keys()
)
# Working precision is float32 for the last three; the gradient is rounded to the logits' type.
TOLERANCE = {
    torch.float64: (1e-12, 1e-12),
    torch.float32: (2e-6, 2e-6),
    torch.bfloat16: (2e-6, 1e-2),
    torch.float16: (2e-6, 2e-3),
}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype)[6:])
LENGTHS = {
    "one row": [1],
    "singles": [1] * 7,
    "empty between": [0, 3, 0, 0, 2, 0],
    "uneven": [3, 1, 8, 2, 17],
    "long": [101],
    "skewed": [1, 1, 67, 1, 2],
}
lengths_ = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
mixes = pytest.mark.parametrize("positives", [0.0, 0.1, 0.5, 1.0])


def make_batch(lengths: list[int], positives: float, seed: int = 0):
    """Scores [B] float64, labels [B] and offsets [S + 1] of contiguous sessions."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths, dtype=torch.int64)
    scores = 3 * torch.randn(int(counts.sum()), generator=generator, dtype=torch.float64)
    labels = (torch.rand(len(scores), generator=generator) < positives).long()
    return scores, labels, torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))


def by_session(session, scores: Tensor, labels: Tensor, offsets: Tensor) -> Tensor:
    """Losses of all rows by a loop over sessions."""
    bounds = offsets.tolist()
    parts = [
        session(scores[low:high], labels[low:high].to(scores.dtype))
        for low, high in pairwise(bounds)
    ]
    return torch.cat([scores.new_zeros(0), *parts])


@dtypes
@mixes
@lengths_
@losses
def test_rows_and_gradients_equal_the_loop(loss, arguments, session, lengths, positives, dtype):
    scores, labels, offsets = make_batch(lengths, positives)
    logits = scores.to(dtype).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    expected = by_session(session, exact, labels, offsets)
    rows = loss(**arguments, reduction="none")(logits, labels, session_offsets=offsets)
    assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    of_loss, of_grad = TOLERANCE[dtype]
    torch.testing.assert_close(rows.double(), expected, rtol=of_loss, atol=of_loss)
    upstream = torch.randn(len(rows), generator=torch.Generator().manual_seed(9)).double()
    (expected_grad,) = torch.autograd.grad(expected, exact, upstream)
    (grad,) = torch.autograd.grad(rows, logits, upstream.to(rows.dtype))
    assert grad.dtype == dtype
    torch.testing.assert_close(grad.double(), expected_grad, rtol=of_grad, atol=of_grad)


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0]])
@losses
def test_no_rows_cost_nothing(loss, arguments, session, offsets):
    logits = torch.zeros(0, 2, requires_grad=True)
    value = loss(**arguments)(logits, torch.zeros(0), session_offsets=torch.tensor(offsets))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None and logits.grad.shape == (0, 2)


@losses
def test_tiles_of_pairs_join_without_a_seam(loss, arguments, session):
    # RankNet cuts pairs into tiles of 8 x 16 and blocks of 2,048 tiles: many sizes around both.
    scores, labels, offsets = make_batch([15, 16, 17, 24, 25, 40, 7, 130], 0.5, seed=3)
    scores.requires_grad_()
    expected = by_session(session, scores, labels, offsets).sum()
    actual = loss(**arguments, reduction="sum")(scores, labels, session_offsets=offsets)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
    grads = [torch.autograd.grad(value, scores)[0] for value in (actual, expected)]
    torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-12)


@losses
def test_ids_in_any_order_give_the_same_rows(loss, arguments, session):
    scores, labels, offsets = make_batch([3, 1, 8, 2], 0.4)
    ids = torch.tensor([7, -2, 100, 3]).repeat_interleave(offsets.diff())
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    compute = loss(**arguments, reduction="none")
    rows = compute(scores, labels, session_offsets=offsets)
    shuffled = compute(scores[order], labels[order], session_ids=ids[order])
    torch.testing.assert_close(shuffled, rows[order], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@losses
def test_reductions_and_weights(loss, arguments, session, reduction, weighted):
    scores, labels, offsets = make_batch([3, 1, 8, 2], 0.4)
    rows = by_session(session, scores, labels, offsets)
    weight = torch.rand(14, dtype=torch.float64) if weighted else None
    w = torch.ones_like(rows) if weight is None else weight
    expected = {"none": w * rows, "sum": w @ rows, "mean": w @ rows / w.sum()}[reduction]
    actual = loss(**arguments, reduction=reduction)(
        scores, labels, session_offsets=offsets, sample_weight=weight
    )
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@losses
def test_one_column_and_two_classes_mean_the_same_score(loss, arguments, session):
    scores, labels, offsets = make_batch([3, 1, 8, 2], 0.4)
    compute = loss(**arguments)
    expected = compute(scores, labels, session_offsets=offsets)
    column = compute(scores[:, None], labels.bool(), session_offsets=offsets)
    shift = torch.randn(14, dtype=torch.float64)
    pair = torch.stack([shift, shift + scores], dim=1)
    two_class = compute(pair, labels.float(), session_offsets=offsets)
    assert torch.equal(column, expected)
    torch.testing.assert_close(two_class, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1e4, 1e30])
@losses
def test_huge_logits_stay_finite(loss, arguments, session, size):
    scores, labels, offsets = make_batch([1, 2, 9, 40], 0.4)
    logits = (size * scores).float().requires_grad_()
    rows = loss(**arguments, reduction="none")(logits, labels, session_offsets=offsets)
    (grad,) = torch.autograd.grad(rows.sum(), logits)
    assert rows.isfinite().all() and grad.isfinite().all()
    # A constant on top of huge logits changes neither ListNet nor RankNet: no digit is lost.
    shifted = torch.tensor([1e6, 1e6 + 1.0])
    small = torch.tensor([0.0, 1.0])
    if loss is not RegressionCompatibleRankingLoss:
        each = [
            loss()(f, torch.tensor([1, 0]), session_offsets=torch.tensor([0, 2]))
            for f in (shifted, small)
        ]
        assert torch.equal(*each)


def test_the_rows_of_a_session_add_up_to_its_rows_times_the_mean_pair():
    scores, labels, offsets = make_batch([30], 0.3)
    rows = RankNetLoss("none")(scores, labels, session_offsets=offsets)
    gaps = scores[labels == 0][:, None] - scores[labels == 1]
    torch.testing.assert_close(rows.sum(), 30 * F.softplus(gaps).mean(), rtol=1e-12, atol=0)


def test_list_net_is_cross_entropy_against_the_positives():
    scores, labels, offsets = make_batch([30], 0.3)
    target = labels.double() / labels.sum()
    expected = F.cross_entropy(scores[None], target[None])
    actual = ListNetLoss("sum")(scores, labels, session_offsets=offsets)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", [ListNetLoss, RegressionCompatibleRankingLoss])
def test_nothing_on_a_device_is_read_on_the_host(loss):
    # A meta tensor has no values: reading one raises.
    logits = torch.zeros(5, 2, device="meta", requires_grad=True)
    labels, offsets = torch.zeros(5, device="meta"), torch.zeros(3, device="meta").long()
    for sessions in ({"session_offsets": offsets}, {"session_ids": labels.long()}):
        loss()(logits, labels, **sessions).backward()
    assert logits.grad is not None and logits.grad.shape == (5, 2)


LONG_SESSION = """
import resource, torch
from losses import ListNetLoss, RankNetLoss, RegressionCompatibleRankingLoss
rows = 100_000
torch.manual_seed(0)
logits = torch.randn(rows, requires_grad=True)
labels = torch.rand(rows) < 0.01
offsets = torch.tensor([0, rows])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for loss in (ListNetLoss(), RankNetLoss(), RegressionCompatibleRankingLoss()):
    value = loss(logits, labels, session_offsets=offsets)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_session_of_100_000_rows_needs_no_matrix_of_pairs():
    done = subprocess.run(
        [sys.executable, "-c", LONG_SESSION], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # The pairs alone would be 400 MB in float32.
    assert int(done.stdout) < 100_000  # KiB


LOGITS, LABELS = torch.zeros(4), torch.zeros(4)
IDS, OFFSETS = torch.zeros(4, dtype=torch.int64), torch.tensor([0, 1, 4])
MESSAGES = {
    "reduction": (lambda: ListNetLoss("avg"), "reduction must be one of none, sum, mean"),
    "alpha": (
        lambda: RegressionCompatibleRankingLoss(1.5),
        "alpha must be between 0 and 1, but got 1.5",
    ),
    "classes": (
        lambda: ListNetLoss()(torch.zeros(4, 3), LABELS, IDS),
        "num_class must be 1 or 2 with list_net_loss, which needs logits of shape (B,), (B, 1) or "
        "(B, 2), but got (4, 3); set num_class",
    ),
    "integer logits": (lambda: RankNetLoss()(IDS, LABELS, IDS), "logits must be floating point"),
    "labels": (
        lambda: RankNetLoss()(LOGITS, LABELS[:3], IDS),
        "labels must have shape (4,), one value per row of logits, but got (3,)",
    ),
    "no sessions": (
        lambda: RankNetLoss()(LOGITS, LABELS),
        "rank_net_loss needs exactly one of session_ids and session_offsets, but got neither; pass",
    ),
    "both sessions": (
        lambda: RegressionCompatibleRankingLoss()(LOGITS, LABELS, IDS, OFFSETS),
        "rcr_loss needs exactly one of session_ids and session_offsets, but got both; pass",
    ),
    "id shape": (
        lambda: ListNetLoss()(LOGITS, LABELS, IDS[:2]),
        "session_ids must have shape (4,), one value per row of logits, but got (2,)",
    ),
    "float ids": (
        lambda: ListNetLoss()(LOGITS, LABELS, IDS.float()),
        "session_ids must be integers, but got torch.float32; cast them with session_ids.long()",
    ),
    "bool offsets": (
        lambda: ListNetLoss()(LOGITS, LABELS, None, OFFSETS.bool()),
        "session_offsets must be integers, but got torch.bool; cast them",
    ),
    "offset shape": (
        lambda: ListNetLoss()(LOGITS, LABELS, None, OFFSETS[:, None]),
        "session_offsets must have shape (S + 1,) with S >= 0, but got (3, 1); start with 0",
    ),
    "short offsets": (
        lambda: ListNetLoss()(LOGITS, LABELS, None, torch.tensor([0, 1, 3])),
        "session_offsets must rise from 0 to 4, the rows of logits, but go from 0 to 3 and fall 0 "
        "times; build them from the same batch",
    ),
    "falling offsets": (
        lambda: ListNetLoss()(LOGITS, LABELS, None, torch.tensor([0, 3, 1, 4])),
        "but go from 0 to 4 and fall 1 times",
    ),
}


@pytest.mark.parametrize(("call", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_message(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below, literally
        call()
    assert message in str(caught.value)
