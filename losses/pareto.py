"""PE-MTL: task weights that make the weighted gradients of a multi-task model cancel best.

Lin et al., "A Pareto-Efficient Algorithm for Multiple Objective Optimization in E-Commerce
Recommendation", RecSys 2019 (doi 10.1145/3298689.3346998). With g_k the gradient of task k over
the shared parameters and G the Gram matrix G[k, l] = g_k . g_l, the weights are

    argmin_w  |sum_k w_k g_k|^2 = w' G w     subject to     sum_k w_k = 1,  w_k >= c_k

Shapes: `K` tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Least curvature of the problem, relative to each task's own. Where many weights are optimal
# (equal or dependent gradients) it selects the most even ones; it costs at most this share of the
# objective's scale.
_RIDGE = 1e-12
# Rounding of one inner product of up to 16 terms, in units of the sum of its absolute terms.
_ROUNDING = 32 * torch.finfo(torch.float64).eps
# Numbers of all gradients in float64 at a time: on a CPU 1 MiB, which stays in a core's cache;
# elsewhere 32 MiB, to launch few kernels.
_PIECE_CPU, _PIECE = 1 << 17, 1 << 22
# Minima that come from float32 configuration fields may sum to a little more than 1.
_SUM_TOLERANCE = 1e-6


def check_min_weights(min_weights: Sequence[float]) -> None:
    """Raises a ValueError unless the minima are non-negative, with a sum of at most 1."""
    if not min_weights:
        raise ValueError(
            "pareto_min_loss_weight must be given for at least one task, but got none; add "
            "task_towers, or turn use_pareto_loss_weight off"
        )
    for task, minimum in enumerate(min_weights):
        if not (minimum >= 0.0 and math.isfinite(minimum)):
            raise ValueError(
                f"pareto_min_loss_weight must be at least 0, but task {task} has {minimum}; use 0 "
                "for no minimum"
            )
    total = math.fsum(min_weights)
    if total > 1.0 + _SUM_TOLERANCE:
        raise ValueError(
            "pareto_min_loss_weight must sum to at most 1 over all towers, but "
            f"{' + '.join(f'{minimum:g}' for minimum in min_weights)} = {total:g}; lower some"
        )


def gram_matrix(gradients: Sequence[Tensor]) -> Tensor:
    """Inner products of all pairs of K gradients of one shape, float64 [K, K].

    Float64 tells nearly equal gradients apart; it is taken piece by piece, so that no float64
    copy of the gradients is ever whole.
    """
    num_tasks = len(gradients)
    total = gradients[0].new_zeros(num_tasks, num_tasks, dtype=torch.float64)
    size = (_PIECE_CPU if gradients[0].device.type == "cpu" else _PIECE) // num_tasks
    pieces = [gradient.reshape(-1).split(size) for gradient in gradients]
    for piece in zip(*pieces, strict=True):
        part = torch.stack(piece).double()  # [K, size]
        total.addmm_(part, part.T)
    return total


class ParetoLossWeights(nn.Module):
    """Pareto weights for tasks with fixed minima.

    Args:
        min_weights: `pareto_min_loss_weight` of each task, K numbers.

    Raises:
        ValueError: see `check_min_weights`.
    """

    min_weights: Tensor

    def __init__(self, min_weights: Sequence[float]) -> None:
        super().__init__()
        check_min_weights(min_weights)
        # Not in checkpoints: the minima are configuration.
        self.register_buffer(
            "min_weights", torch.tensor(min_weights, dtype=torch.float64), persistent=False
        )

    def forward(self, gram: Tensor) -> Tensor:
        """Weights [K] float64 for the Gram matrix [K, K] of the tasks' gradients."""
        return pareto_weights(gram, self.min_weights)


@torch.no_grad()
def pareto_weights(gram: Tensor, min_weights: Tensor) -> Tensor:
    """Solves the problem in this module's docstring exactly, by active sets, in float64.

    Dependent, equal and zero gradients are allowed; of several optimal weights the result is the
    most even. With minima that sum to 1 the result is the minima.

    On CUDA nothing stops for the host: the iterations are a fixed number, far above what a
    problem of this size takes. A result before convergence would still satisfy the constraints.

    Args:
        gram: [K, K] symmetric, positive semi-definite, any floating type.
        min_weights: [K], as accepted by `check_min_weights` (values are not checked here).

    Returns:
        [K] float64 weights with sum 1, none below its minimum. NaN if `gram` is not finite.

    Raises:
        ValueError: if the shapes do not fit.
    """
    num_tasks = gram.shape[0] if gram.dim() == 2 else 0
    if num_tasks < 1 or gram.shape[1] != num_tasks:
        raise ValueError(
            f"gram must have shape (K, K) with K >= 1, but got {tuple(gram.shape)}; pass the inner "
            "products of all pairs of task gradients"
        )
    if min_weights.shape != (num_tasks,):
        raise ValueError(
            f"min_weights must have shape ({num_tasks},), one per task of gram, but got "
            f"{tuple(min_weights.shape)}; give each task a pareto_min_loss_weight"
        )
    gram = gram.double()
    minima = min_weights.to(gram)
    minima = minima / minima.sum().clamp(min=1.0)
    slack = (1.0 - minima.sum()).clamp(min=0.0)
    # w = c + slack * u with u in the simplex turns w' G w into u' H u for the Gram matrix H of the
    # points J' c + slack * g_k:  H = M G M' with M = 1 c' + slack * I.
    identity = torch.eye(num_tasks, dtype=gram.dtype, device=gram.device)
    mix = minima.expand(num_tasks, num_tasks) + slack * identity
    shares = _shortest_convex_combination(mix @ gram @ mix.T)
    weights = minima + slack * shares
    return torch.where(gram.isfinite().all(), weights, math.nan)


def _shortest_convex_combination(gram: Tensor) -> Tensor:
    """argmin u' H u over u >= 0, sum(u) = 1: the convex hull's point nearest to the origin.

    A primal active-set method. `support` holds the entries of u that may be positive. Each round
    finds the best point of the support's affine hull; it either walks there, or as far as
    the first entry that reaches 0, which leaves the support. Arrived, it lets in the entry along
    which the objective falls fastest, and is done when there is none. Every arrival is at a lower
    objective than the one before, so no support comes twice.
    """
    num_tasks = gram.shape[0]
    gram = _with_ridge(gram)
    if num_tasks == 2:
        return _between_two(gram)
    size = gram.abs()
    # Entries are chosen by comparison with `index`: indexing by a scalar would stop the host.
    index = torch.arange(num_tasks, device=gram.device)
    support = index == gram.diagonal().argmin()  # the shortest single gradient
    shares = support.to(gram.dtype)
    done = torch.zeros((), dtype=torch.bool, device=gram.device)
    for _ in range(_max_rounds(num_tasks)):
        target = _affine_minimiser(gram, support)
        # The largest step in (0, 1] that keeps u + step * (target - u) >= 0.
        falls = support & (target < 0)
        steps = torch.where(falls, shares / torch.where(falls, shares - target, 1.0), math.inf)
        step, blocking = steps.min(dim=0)
        arrives = step > 1.0  # only when nothing falls
        moved = shares + step.clamp(max=1.0) * (target - shares)
        shares = torch.where(done, shares, moved.clamp(min=0.0) * support)

        # Slope towards each entry, (H u)_k - u' H u, against the rounding error of its terms.
        slope = gram @ shares - shares @ gram @ shares
        noise = _ROUNDING * (size @ shares + shares @ size @ shares)
        fall, steepest = torch.where(support, math.inf, slope + noise).min(dim=0)
        grows = arrives & (fall < 0)
        done = done | (arrives & ~grows)
        if done.device.type == "cpu" and bool(done):  # on CUDA the look would stop the host
            break
        entering = grows & (index == steepest)
        leaving = ~arrives & (index == blocking)
        support = torch.where(done, support, (support | entering) & ~leaving)
        shares = torch.where(leaving & ~done, 0.0, shares)
    return shares / shares.sum()


def _between_two(gram: Tensor) -> Tensor:
    """The same for two tasks: u1 = (|g2|^2 - g1.g2) / |g1 - g2|^2 within [0, 1], and u2 alike.

    On CUDA the rounds of the general method would launch hundreds of kernels for it.
    """
    gains = (gram.diagonal().flip(0) - gram[0, 1]).clamp(min=0.0)
    return gains / gains.sum()


def _max_rounds(num_tasks: int) -> int:
    """Above the most seen over thousands of random and degenerate problems (3 K), with room."""
    return 4 * num_tasks + 8


def _with_ridge(gram: Tensor) -> Tensor:
    """Adds the ridge that makes `gram` positive definite, whatever its scale or rank."""
    own = gram.diagonal()
    own = torch.where(own.max() > 0, own, 1.0)  # all gradients zero: any weights do, take even ones
    return gram + torch.diag(_RIDGE * own.clamp(min=_RIDGE * own.max()))


def _affine_minimiser(gram: Tensor, support: Tensor) -> Tensor:
    """argmin v' H v over sum(v) = 1, v = 0 outside `support`: v is proportional to H^-1 1."""
    inside = support.to(gram.dtype)
    scale = gram.diagonal().rsqrt() * inside  # unit diagonal: tasks of any magnitude together
    scaled = scale[:, None] * gram * scale + torch.diag(1.0 - inside)
    direction = scale * torch.linalg.solve_ex(scaled, scale)[0]
    return direction / direction.sum()
