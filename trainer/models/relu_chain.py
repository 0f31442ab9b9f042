"""An MLP of linear layers with ReLU as one operator: fewer passes over what they leave in memory.

    h[n] = relu(h[n-1] @ W[n].T + b[n])
    backward, of g = dL / dh[n]:   g = g where h[n] > 0, else 0
                                   dW[n] = g.T @ h[n-1]     db[n] = sum of g     g = g @ W[n]

On a CPU what is between the products is bound by memory. So the bias is where the product is added,
and both ReLU and its gradient work in place. The numbers are those of PyTorch's layers.

B rows, S sessions, I and O width of a layer's input and output.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.models.linear import add_product, affine, product

_mask = torch.ops.aten.threshold_backward.grad_input


class SessionBias(NamedTuple):
    """What the rows of a session add in the first layer, its bias included.

    values: [S, O]. of_row: the session of each row, [B].
    """

    values: Tensor
    of_row: Tensor


def relu_chain(
    features: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    session_bias: SessionBias | None = None,
) -> Tensor:
    """The last layer's output, [B, O].

    Args:
        features: [B, I], on a CPU.
        weights, biases: [O, I] and [O] of each layer.
        session_bias: in place of the first layer's bias.
    """
    first, of_row = session_bias or (biases[0], None)
    output: Any = _ReLUChain.apply(features, of_row, *weights, first, *biases[1:])
    return output


class _ReLUChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, of_row: Tensor | None, *parameters: Tensor) -> Tensor:
        weights = parameters[: len(parameters) // 2]
        biases = parameters[len(parameters) // 2 :]
        states = [features]
        for weight, bias in zip(weights, biases, strict=True):
            if len(states) == 1 and of_row is not None:
                state = add_product(bias.index_select(0, of_row), features, weight.t())
            else:
                state = affine(states[-1], weight, bias)
            states.append(state.relu_())
        ctx.num_sessions = len(biases[0])
        ctx.save_for_backward(of_row, *weights, *states)
        return states[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's
        of_row, *saved = ctx.saved_tensors
        weights, states = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        of_weights, of_biases = [], []
        (gradient,) = gradients
        for n in reversed(range(len(weights))):
            is_ours = n + 1 < len(weights)  # made below, so it may be written to
            out = gradient if is_ours else torch.empty_like(states[n + 1])
            gradient = _mask(gradient, states[n + 1], 0, grad_input=out)
            of_weights.append(product(gradient.t(), states[n]))
            if n == 0 and of_row is not None:
                of_sessions = gradient.new_zeros(ctx.num_sessions, gradient.shape[1])
                of_biases.append(of_sessions.index_add_(0, of_row, gradient))
            else:
                of_biases.append(gradient.sum(0))
            if n or ctx.needs_input_grad[0]:
                gradient = product(gradient, weights[n])
        of_features = gradient if ctx.needs_input_grad[0] else None
        return of_features, None, *reversed(of_weights), *reversed(of_biases)
