"""SGD of dense parameters, whose momentum starts at 0."""

from typing import Any

import torch
from torch import Tensor


class ZeroStartSGD(torch.optim.SGD):
    """PyTorch's SGD; without dampening a momentum that starts at 0 moves the parameters alike.

    Its fused kernel fills the momentum in the first step. Where a gradient overflowed, the kernel
    leaves that step out, and the momentum would be what the memory held.
    """

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffer_list: list[Tensor | None],
    ) -> bool:
        has_sparse = super()._init_group(group, params, grads, momentum_buffer_list)
        if group["fused"]:
            for n, buffer in enumerate(momentum_buffer_list):
                if buffer is None:
                    momentum_buffer_list[n] = torch.zeros_like(params[n])
        return has_sparse
