"""Pareto weights: optimal by the duality gap, never worse than SLSQP, on hard Gram matrices too."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from losses import ParetoLossWeights, gram_matrix, pareto_weights

KINDS = ["random", "magnitudes", "equal", "zero", "positive", "integer", "dependent", "tiny"]


def make_gradients(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Gradients [K, P] of 1 to 16 tasks; fewer parameters than tasks are common."""
    num_tasks, num_parameters = int(rng.integers(1, 17)), int(rng.integers(1, 20))
    grads = rng.standard_normal((num_tasks, num_parameters))
    some = rng.integers(0, num_tasks, num_tasks // 2)
    if kind == "magnitudes":
        grads *= 10.0 ** rng.uniform(-4, 4, (num_tasks, 1))
    elif kind == "equal":
        grads[some] = grads[0]
    elif kind == "zero":
        grads[some] = 0.0
    elif kind == "positive":
        grads = np.abs(grads)
    elif kind == "integer":
        grads = np.round(grads)
    elif kind == "dependent":
        grads = grads * 10.0 ** -np.arange(num_parameters)
    elif kind == "tiny":
        grads *= 1e-12
    return grads


def make_problem(seed: int, kind: str) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    grads = make_gradients(rng, kind)
    minima = rng.dirichlet(np.ones(len(grads))) * rng.choice([0.0, 0.3, 0.9])
    return torch.tensor(grads @ grads.T), torch.tensor(minima)


def duality_gap(gram: Tensor, minima: Tensor, weights: Tensor) -> float:
    """Upper bound of how far w' G w is from the optimum: max over feasible v of (w - v)' G w."""
    slopes = gram @ weights
    best = minima.clone()
    best[slopes.argmin()] += 1.0 - minima.sum()
    return float((weights - best) @ slopes)


@pytest.mark.parametrize("kind", KINDS)
def test_feasible_and_optimal(kind):
    for seed in range(60):
        gram, minima = make_problem(seed, kind)
        weights = pareto_weights(gram, minima)
        assert weights.dtype == torch.float64
        assert (weights >= minima).all()
        assert weights.sum().item() == pytest.approx(1.0, abs=1e-12)
        scale = float(gram.diagonal().max())
        assert duality_gap(gram, minima, weights) <= 2e-12 * scale


@pytest.mark.parametrize("kind", KINDS)  # 8 kinds: 1,000 problems
def test_never_above_slsqp(kind):
    for seed in range(1000, 1125):
        gram, minima = make_problem(seed, kind)
        scale = max(float(gram.diagonal().max()), 1e-300)
        g, c = gram.numpy() / scale, minima.numpy()
        solution = minimize(
            lambda w, g=g: w @ g @ w,
            c + (1 - c.sum()) / len(c),
            jac=lambda w, g=g: 2 * g @ w,
            bounds=[(low, 1.0) for low in c],
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-15, "maxiter": 500},
        ).x
        # Make it exactly feasible: bounds first, then the sum, by the free part.
        solution = np.maximum(solution, c) - c
        solution = c + solution * (1 - c.sum()) / max(solution.sum(), 1e-300)
        weights = pareto_weights(gram, minima).numpy()
        rounding = 2e-15  # of the two products, at a largest entry of 1
        assert weights @ g @ weights <= solution @ g @ solution + rounding


@pytest.mark.parametrize("num_tasks", [1, 2, 16])
def test_the_gram_matrix_of_large_gradients_is_exact_to_float64(num_tasks):
    torch.manual_seed(0)
    gradients = torch.randn(num_tasks, 7, 90_007)  # several pieces, not whole ones
    exact = gradients.double().flatten(1) @ gradients.double().flatten(1).T
    gram = gram_matrix(gradients.unbind())
    assert gram.dtype == torch.float64
    torch.testing.assert_close(gram, exact, rtol=1e-12, atol=1e-9)
    assert gram_matrix([torch.zeros(0)] * num_tasks).tolist() == [[0.0] * num_tasks] * num_tasks


def test_two_tasks_in_closed_form():
    # w1 = (|g2|^2 - g1.g2) / |g1 - g2|^2, cut to the bounds.
    gram = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    free = pareto_weights(gram, torch.zeros(2))
    torch.testing.assert_close(free, torch.tensor([0.25, 0.75], dtype=torch.float64))
    bound = pareto_weights(gram, torch.tensor([0.4, 0.4]))
    torch.testing.assert_close(bound, torch.tensor([0.4, 0.6]).double(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_two_tasks_agree_with_three_of_which_two_are_equal(kind):
    for seed in range(50):
        gradients = make_gradients(np.random.default_rng(seed), kind)[:2]
        if len(gradients) < 2:
            continue
        two = torch.tensor(gradients @ gradients.T)
        three = two[[0, 1, 1]][:, [0, 1, 1]]
        weights, split = pareto_weights(two, torch.zeros(2)), pareto_weights(three, torch.zeros(3))
        joined = torch.stack([split[0], split[1] + split[2]])
        scale = float(two.diagonal().max())
        objectives = [float(w @ two @ w) for w in (weights, joined)]
        assert objectives[0] == pytest.approx(objectives[1], rel=0, abs=2e-12 * scale)


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 16])
def test_equal_and_zero_gradients_get_even_weights(num_tasks):
    even = torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64)
    for gram in (torch.ones(num_tasks, num_tasks) * 7.3, torch.zeros(num_tasks, num_tasks)):
        weights = pareto_weights(gram, torch.zeros(num_tasks))
        torch.testing.assert_close(weights, even, rtol=1e-3, atol=0)


def test_the_slack_goes_to_a_zero_gradient():
    gram = torch.diag(torch.tensor([1.0, 0.0, 2.0]))
    weights = pareto_weights(gram, torch.tensor([0.2, 0.1, 0.3], dtype=torch.float64))
    expected = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("minima", [[1.0], [0.4, 0.6], [0.1] * 10, [1 / 3] * 3])
def test_minima_that_sum_to_one_are_the_weights(minima):
    torch.manual_seed(0)
    grads = torch.randn(len(minima), 4, dtype=torch.float64)
    weights = ParetoLossWeights(minima)(grads @ grads.T)
    torch.testing.assert_close(weights, torch.tensor(minima, dtype=torch.float64))


def test_minima_from_float32_configuration_may_exceed_one_by_rounding():
    minima = np.array([0.4, 0.4, 0.2], dtype=np.float32).tolist()
    assert math.fsum(minima) > 1.0
    weights = ParetoLossWeights(minima)(torch.eye(3))
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-12)


def test_minima_are_no_part_of_checkpoints():
    assert ParetoLossWeights([0.1, 0.2]).state_dict() == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gram_matrix_that_is_not_finite_shows(bad):
    gram = torch.eye(3)
    gram[1, 1] = bad
    assert pareto_weights(gram, torch.zeros(3)).isnan().all()


def test_the_same_input_gives_the_same_bits():
    gram, minima = make_problem(5, "random")
    assert torch.equal(pareto_weights(gram, minima), pareto_weights(gram.clone(), minima))


def test_nothing_on_a_device_is_read_on_the_host():
    # A meta tensor has no values: reading one raises.
    gram = torch.ones(5, 5, dtype=torch.float64, device="meta")
    assert pareto_weights(gram, torch.zeros(5, device="meta")).shape == (5,)
