"""nn.Linear, multiplied on a CPU by the faster of two libraries.

PyTorch's builds for x86 multiply float32 by Intel's MKL, which is not tuned for AMD. There NumPy's
OpenBLAS is 5 to 15 % faster on wide layers (benchmarks/bench_gemm.py). The choice hangs on the
processor alone, never on a timing, so a run repeats bit by bit. Elsewhere, on other devices and
types, under autocast and without gradients it is nn.Linear: an exported model scores as the trainer
does.

B rows, I and O width of the layer's input and output.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Linear(nn.Linear):
    """nn.Linear, with the same parameters."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, I] -> [B, O]."""
        return linear(input, self.weight, self.bias)


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear."""
    if _by_openblas(features):
        return _OpenBLASLinear.apply(features, weight, bias)  # pyright: ignore[reportReturnType]  # a tensor
    return F.linear(features, weight, bias)


def _by_openblas(features: Tensor) -> bool:
    return trains_rows_on_cpu(features) and _is_for_openblas(features)


def trains_rows_on_cpu(features: Tensor) -> bool:
    """Whether these are rows [B, I] on a CPU, in training, to be computed as they are."""
    return (
        features.device.type == "cpu"
        and features.dim() == 2
        and not torch.is_autocast_enabled("cpu")
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def _is_for_openblas(features: Tensor) -> bool:
    return features.dtype == torch.float32 and openblas_is_faster()


@cache
def openblas_is_faster() -> bool:
    """Whether the processor is AMD's and NumPy has OpenBLAS."""
    information = Path("/proc/cpuinfo")  # Linux
    if not information.exists() or "AuthenticAMD" not in information.read_text():
        return False
    libraries: Any = np.show_config(mode="dicts")
    return "openblas" in libraries["Build Dependencies"]["blas"]["name"]


class _OpenBLASLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight)
        return affine(features, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's
        features, weight = ctx.saved_tensors
        of_features, of_weight, of_bias = ctx.needs_input_grad
        (gradient,) = gradients  # [B, O]
        return (
            product(gradient, weight) if of_features else None,
            product(gradient.t(), features) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


# ------------------------------------------------------------------ without gradients


def affine(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """features @ weight.T + bias, by the faster library."""
    if not _is_for_openblas(features):
        return F.linear(features, weight, bias)
    output = openblas_product(features, weight.t())
    return output if bias is None else output.add_(bias)


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, by the faster library."""
    return openblas_product(left, right) if _is_for_openblas(left) else left @ right


def add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """total += left @ right, by the faster library."""
    if _is_for_openblas(left):
        return total.add_(openblas_product(left, right))
    return total.addmm_(left, right)


def openblas_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, by NumPy; strides that BLAS does not know are copied away."""
    product = torch.empty(left.shape[0], right.shape[1])
    np.matmul(_known(left).numpy(), _known(right).numpy(), out=product.numpy())
    return product


def _known(matrix: Tensor) -> Tensor:
    """The matrix with rows or columns that lie dense in memory."""
    matrix = matrix.detach()
    return matrix if 1 in matrix.stride() and 0 not in matrix.stride() else matrix.contiguous()
