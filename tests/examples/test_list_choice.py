"""The trivago example's network: the probabilities of a list are a softmax over its rows."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.examples.scripts import load

list_choice = load("trivago/list_choice.py")
LENGTHS = [3, 1, 25, 2, 7]


def list_of_row(lengths):
    return torch.repeat_interleave(torch.arange(1, len(lengths) + 1), torch.tensor(lengths))


def test_odds_are_those_of_a_softmax_over_the_list():
    torch.manual_seed(0)
    utility = (4 * torch.randn(sum(LENGTHS), dtype=torch.float64)).requires_grad_()
    odds = list_choice.log_odds(utility, list_of_row(LENGTHS))
    parts = utility.split(LENGTHS)
    expected = torch.cat([part.softmax(0) for part in parts])
    expected = torch.where(expected == 1, 1 - 1e-6, expected)  # the list of one row
    torch.testing.assert_close(odds.sigmoid(), expected)
    upstream = torch.randn(len(utility), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(odds, utility, upstream)
    logits = torch.cat([(p / (1 - p)).log() for p in (part.softmax(0) for part in parts)])
    several = torch.cat([torch.full((n,), n > 1) for n in LENGTHS])
    (expected_gradient,) = torch.autograd.grad(logits[several], utility, upstream[several])
    torch.testing.assert_close(gradient[several], expected_gradient[several])


def test_sure_rows_are_finite():
    utility = torch.tensor([900.0, -900.0, 3.0, 0.0, 0.0], requires_grad=True)
    odds = list_choice.log_odds(utility, torch.tensor([1, 1, 2, 3, 3]))
    assert odds[:3].tolist() == pytest.approx([math.log(1e6), -1800.0, math.log(1e6)], rel=1e-3)
    odds.sum().backward()
    assert utility.grad is not None and torch.isfinite(utility.grad).all()


@pytest.mark.parametrize("names", [["label"], ["mean", "first", "second"]])
def test_lists_begin_where_the_place_is_0(names):
    torch.manual_seed(0)
    tasks: Any = [SimpleNamespace(name=name) for name in names]
    network = list_choice.ListChoice({"all": (2, 3), "place": (1,)}, None, tasks, hidden=[4])
    place = torch.cat([torch.arange(n) for n in LENGTHS]).unsqueeze(1).float()
    features = torch.randn(sum(LENGTHS), 5)
    logits, _ = network({"all": features, "place": place})
    assert list(logits) == names
    for each in logits.values():
        assert each.shape == (sum(LENGTHS), 1)
        sums = torch.stack([part.sum() for part in each.detach().sigmoid().split(LENGTHS)])
        torch.testing.assert_close(sums, torch.ones(len(LENGTHS)))
    empty, _ = network({"all": features[:0], "place": place[:0]})
    assert empty[names[0]].shape == (0, 1)


def test_the_first_of_several_tasks_is_the_mean_and_trains_nothing():
    torch.manual_seed(0)
    tasks: Any = [SimpleNamespace(name=name) for name in ("mean", "first", "second")]
    network = list_choice.ListChoice({"all": (5,), "place": (1,)}, None, tasks, hidden=[4])
    place = torch.cat([torch.arange(n) for n in LENGTHS]).unsqueeze(1).float()
    logits, _ = network({"all": torch.randn(sum(LENGTHS), 5), "place": place})
    first, second = logits["first"].sigmoid(), logits["second"].sigmoid()
    assert not torch.allclose(first, second)
    torch.testing.assert_close(logits["mean"].sigmoid(), ((first + second) / 2).detach())
    assert logits["first"].requires_grad and not logits["mean"].requires_grad
