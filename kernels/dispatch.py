"""Which implementation computes a loss: the Triton kernel or its eager twin.

CUDA tensors take the kernel, all others the twin. The environment variable SESSIONWISE_KERNELS
(or the argument `implementation` of a loss) forces one of the two. A forced kernel that cannot run
is an error: nothing ever falls back in silence.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

from torch import Tensor

Implementation = Literal["auto", "triton", "eager"]
ENVIRONMENT_VARIABLE = "SESSIONWISE_KERNELS"


def check_implementation(name: str, value: str) -> Implementation:
    """Returns `value`, or raises a ValueError that lists the choices."""
    if value not in get_args(Implementation):
        raise ValueError(
            f"{name} must be one of {', '.join(get_args(Implementation))}, but got {value!r}; "
            "'auto' takes the Triton kernel on CUDA and the eager twin elsewhere"
        )
    return value  # pyright: ignore[reportReturnType]  # narrowed by the test above


def use_triton(tensor: Tensor, implementation: Implementation = "auto") -> bool:
    """Whether the kernel computes on `tensor`; `implementation` goes before the environment.

    Raises:
        ValueError: if the environment variable is none of the choices, or the kernel is forced
            for a tensor outside CUDA without Triton's interpreter (TRITON_INTERPRET=1).
    """
    if implementation == "auto":
        forced = os.environ.get(ENVIRONMENT_VARIABLE, "auto")
        implementation = check_implementation(ENVIRONMENT_VARIABLE, forced)
    if implementation == "auto":
        return tensor.is_cuda
    if implementation == "triton" and not tensor.is_cuda and not interpreted():
        raise ValueError(
            f"logits must be on CUDA for the Triton kernel, but are on {tensor.device}; move them, "
            "use the eager twin, or set TRITON_INTERPRET=1 to interpret the kernel"
        )
    return implementation == "triton"


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU; it looks once, when `kernels` are imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"
