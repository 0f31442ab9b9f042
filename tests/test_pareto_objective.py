"""PE-MTL's loss on a small net: the gradients that count, and the gradient that is handed out."""

import pytest
import torch
from torch import Tensor, nn

from losses import pareto_weights
from trainer.models import ModelOutput
from trainer.pareto import ParetoObjective
from trainer.protos.pipeline_pb2 import SHARED_PARAMETERS, SHARED_REPRESENTATION

MINIMA = [0.1, 0.0, 0.2]


class Net(nn.Module):
    """Three tasks on a shared layer; the third also sees the second's tower."""

    def __init__(self, rows: int = 7) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.pooled = nn.Parameter(torch.randn(rows, 5))  # in place of the tables
        self.shared, self.frozen = nn.Linear(5, 4), nn.Linear(4, 4).requires_grad_(False)
        self.towers = nn.ModuleList(nn.Linear(4, 3) for _ in MINIMA)
        self.target = torch.randn(3, rows, 3)

    def forward(self) -> tuple[list[Tensor], ModelOutput]:
        pooled = self.pooled * 1.0  # no leaf, as behind an embedding lookup
        shared = self.frozen(self.shared(pooled).tanh())
        outputs = [tower(shared) for tower in self.towers]
        outputs[2] = outputs[2] * outputs[1].sigmoid()
        losses = [
            (task + 1) * (output - target).square().mean()
            for task, (output, target) in enumerate(zip(outputs, self.target, strict=True))
        ]
        return losses, ModelOutput({}, [pooled], [shared])

    def dense(self) -> list[nn.Parameter]:
        modules = (self.shared, self.frozen, *self.towers)
        return [parameter for module in modules for parameter in module.parameters()]


def gram_by_hand(net: Net, gradient: int) -> Tensor:
    """Inner products over what counts, named one by one."""
    losses, output = net()
    counted: list[Tensor] = [*net.shared.parameters(), *net.towers[1].parameters()]
    counted += output.embeddings
    if gradient == SHARED_REPRESENTATION:
        counted = output.shared
    rows = [
        torch.autograd.grad(loss, counted, retain_graph=True, materialize_grads=True)
        for loss in losses
    ]
    flat = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).double()
    return flat @ flat.T


@pytest.mark.parametrize("gradient", [SHARED_PARAMETERS, SHARED_REPRESENTATION])
def test_weights_and_gradients(gradient):
    net = Net()
    losses, output = net()
    total, weights = ParetoObjective(MINIMA, gradient)(losses, output, net.dense())
    expected = pareto_weights(gram_by_hand(net, gradient), torch.tensor(MINIMA))
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-5)
    assert ((weights > 0.01) & (weights < 0.99)).sum() >= 2  # a real choice

    (2.0 * total).backward()
    plain = Net()
    plain_losses, _ = plain()
    plain_total = sum(w * loss for w, loss in zip(weights.float(), plain_losses, strict=True))
    torch.testing.assert_close(total, plain_total)
    (2.0 * plain_total).backward()  # pyright: ignore[reportAttributeAccessIssue]  # three terms
    for (name, found), wanted in zip(net.named_parameters(), plain.parameters(), strict=True):
        if wanted.grad is None:
            assert found.grad is None, name
        else:
            assert found.grad is not None, name
            torch.testing.assert_close(found.grad, wanted.grad, msg=name)


@pytest.mark.parametrize("gradient", [SHARED_PARAMETERS, SHARED_REPRESENTATION])
def test_no_rows_on_a_rank_and_tasks_that_share_nothing(gradient):
    net = Net(rows=0)
    losses, output = net()
    zero = [0.0 * loss.nan_to_num() for loss in losses]
    total, weights = ParetoObjective(MINIMA, gradient)(zero, output, net.dense())
    total.backward()
    assert weights.sum().item() == pytest.approx(1.0)
    alone = [nn.Linear(2, 1) for _ in MINIMA]
    losses = [layer(torch.ones(1, 2)).sum() for layer in alone]
    dense = [parameter for layer in alone for parameter in layer.parameters()]
    nothing = ModelOutput({}, [], [])
    total, weights = ParetoObjective([0.0] * 3, gradient)(losses, nothing, dense)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3, dtype=torch.float64))
    total.backward()
    assert all(parameter.grad is not None for parameter in dense)
