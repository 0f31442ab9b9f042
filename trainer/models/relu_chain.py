"""MLPs of linear layers with ReLU as one operator: fewer passes over what they leave in memory.

    h[n] = relu(h[n-1] @ W[n].T + b[n])
    backward, of g = dL / dh[n]:   g = g where h[n] > 0, else 0
                                   dW[n] = g.T @ h[n-1]     db[n] = sum of g     g = g @ W[n]

On a CPU what is between the products is bound by memory. So the bias is where the product is added,
and both ReLU and its gradient work in place. MLPs of the same features, as the towers of tasks, are
one operator too: the gradient of the features is where their products add up. The numbers are those
of PyTorch's layers.

B rows, S sessions, I and O width of a layer's input and output.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.models.linear import add_product, affine, product

_mask = torch.ops.aten.threshold_backward.grad_input


class Chain(NamedTuple):
    """The parameters of an MLP's layers: [O, I] and [O] each.

    Where sessions are given, the first bias is what the rows of each add there, [S, O].
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]


def relu_chains(
    features: Tensor, chains: Sequence[Chain], session_of_row: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The last layer's output of each MLP, [B, O].

    Args:
        features: [B, I], on a CPU.
        session_of_row: [B], where the first biases are of sessions.
    """
    depths = accumulate((len(chain.weights) for chain in chains), initial=0)
    places = [range(start, end) for start, end in pairwise(depths)]  # of each chain's layers
    weights = [weight for chain in chains for weight in chain.weights]
    biases = [bias for chain in chains for bias in chain.biases]
    return _ReLUChains.apply(features, session_of_row, places, *weights, *biases)  # pyright: ignore[reportReturnType]  # tensors


class _ReLUChains(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, of_row: Tensor | None, places: list[range], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        weights = parameters[: len(parameters) // 2]
        biases = parameters[len(parameters) // 2 :]
        states = []
        for layers in places:
            state = features
            for n in layers:
                if n == layers[0] and of_row is not None:
                    before = biases[n].index_select(0, of_row)
                    state = add_product(before, state, weights[n].t())
                else:
                    state = affine(state, weights[n], biases[n])
                states.append(state.relu_())
        ctx.places, ctx.num_sessions = places, len(biases[0])
        ctx.set_materialize_grads(False)  # no work for an MLP that the loss does not need
        ctx.save_for_backward(features, of_row, *weights, *states)
        return tuple(states[layers[-1]] for layers in places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's
        features, of_row, *saved = ctx.saved_tensors
        weights, states = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        of_weights: list[Tensor | None] = [None] * len(weights)
        of_biases: list[Tensor | None] = [None] * len(weights)
        of_features = None
        for layers, of_output in zip(ctx.places, gradients, strict=True):
            if of_output is None:
                continue
            gradient = of_output
            for n in reversed(layers):
                is_first, is_last = n == layers[0], n == layers[-1]
                # Only a gradient that was made below may be written to.
                out = torch.empty_like(states[n]) if is_last else gradient
                gradient = _mask(gradient, states[n], 0, grad_input=out)
                of_weights[n] = product(gradient.t(), features if is_first else states[n - 1])
                if is_first and of_row is not None:
                    of_sessions = gradient.new_zeros(ctx.num_sessions, gradient.shape[1])
                    of_biases[n] = of_sessions.index_add_(0, of_row, gradient)
                else:
                    of_biases[n] = gradient.sum(0)
                if not is_first:
                    gradient = product(gradient, weights[n])
            if ctx.needs_input_grad[0]:
                weight = weights[layers[0]]
                if of_features is None:
                    of_features = product(gradient, weight)
                else:
                    of_features = add_product(of_features, gradient, weight)
        return of_features, None, None, *of_weights, *of_biases
