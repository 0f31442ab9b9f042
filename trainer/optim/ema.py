"""Moving average of the dense parameters (`dense_optimizer.ema`), for evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class MovingAverage:
    """average = decay * average + (1 - decay) * parameter; the first update copies.

    Args:
        parameters: by name; read at each `update`.
        decay: 0 to 1.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.parameters, self.decay = dict(parameters), decay
        self.averages = {name: each.detach().clone() for name, each in parameters.items()}
        self.num_updates: int | Tensor = 0  # a tensor [] where the device knows it alone

    @torch.no_grad()
    def update(self, overflowed: Tensor | None = None) -> None:
        """Take the parameters of a step into the average.

        Args:
            overflowed: a tensor [] on the device, which the host does not look at: above 0 where a
                gradient overflowed; then the average stays, and the update does not count.
        """
        averages, parameters = list(self.averages.values()), list(self.parameters.values())
        if overflowed is not None:
            counts = (overflowed == 0).float()
            before = torch.zeros_like(counts) + self.num_updates
            weight = counts * torch.where(before == 0, 1.0, 1 - self.decay)
            for average, parameter in zip(averages, parameters, strict=True):
                average.lerp_(parameter, weight)
            self.num_updates = before + counts
            return
        if self.num_updates:
            torch._foreach_lerp_(averages, parameters, 1 - self.decay)
        else:
            torch._foreach_copy_(averages, parameters)
        self.num_updates += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages stand in the parameters' place inside the context."""
        kept = {name: each.detach().clone() for name, each in self.parameters.items()}
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"averages": self.averages, "num_updates": int(self.num_updates)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        for name, average in self.averages.items():
            average.copy_(state["averages"][name])
        self.num_updates = state["num_updates"]
