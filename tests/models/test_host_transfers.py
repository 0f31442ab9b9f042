"""What a step computes with is made where the features are: a copy from the host stops it on CUDA.

Shown on the meta device, where as on CUDA a look at a value is an error.
"""

from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from trainer.models.layers import Dice, GlobalBatchNorm

FROM_HOST = ("new_tensor", "tensor", "as_tensor", "scalar_tensor", "asarray", "from_numpy")


class Transfers(TorchFunctionMode):
    """Collects the functions that make a tensor of another device from numbers of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in FROM_HOST and result.device.type != "cpu":
            self.found.append(func.__name__)
        return result


@pytest.mark.parametrize("layer", [GlobalBatchNorm(3), Dice(3)], ids=["batch norm", "dice"])
def test_layers_take_nothing_from_the_host(layer: nn.Module):
    layer = layer.to("meta").train()
    features = torch.empty(5, 3, device="meta", requires_grad=True)
    with Transfers() as transfers:
        features.new_tensor([1.0])
        layer(features).sum().backward()
    assert transfers.found == ["new_tensor"]  # the test's own
