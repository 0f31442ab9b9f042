"""Parameters and optimizer state that are not finite: found before they get into a checkpoint.

A gradient may be NaN where the loss is finite, and nobody looks at gradients in a step. What it
moved is seen when it is to be saved.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from trainer.collectives import all_gather


def nonfinite_names(state: dict[str, Any], may_be_infinite: Collection[str]) -> list[str]:
    """The names of tensors that are not finite on some rank, on all ranks: a collective call.

    Args:
        state: nested dictionaries with tensors in them, of which a rank may have shards alone.
        may_be_infinite: names, with dots, of which only NaN counts: buffers may hold masks.
    """
    names: dict[torch.device, list[str]] = {}
    extremes: dict[torch.device, list[Tensor]] = {}
    for name, tensor in _local_tensors(state):
        if tensor.is_floating_point() and tensor.numel():
            least_and_most = torch.stack(torch.aminmax(tensor.detach())).double()
            names.setdefault(tensor.device, []).append(name)
            extremes.setdefault(tensor.device, []).append(least_and_most)  # NaN if any value is
    found = set()
    for device, of_device in extremes.items():
        for name, (least, most) in zip(names[device], torch.stack(of_device).tolist(), strict=True):
            is_nan, is_infinite = math.isnan(least), math.inf in (-least, most)
            if is_nan or (is_infinite and name not in may_be_infinite):
                found.add(name)
    return sorted(set().union(*all_gather(found)))


def _local_tensors(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """What this rank has of the tensors of nested dictionaries, with their names."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from _local_tensors(value, f"{name}.{key}" if name else str(key))
    elif hasattr(state, "local_shards"):
        for shard in state.local_shards():
            yield name, shard.tensor
    elif isinstance(state, Tensor):
        yield name, state
