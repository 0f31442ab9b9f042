"""Gradients of what each rank has a copy of, added up in buckets that never change.

PyTorch's DDP lays its buckets anew after the first backward pass, in the order in which gradients
came. From three ranks on, the place of a gradient in its bucket decides in which order the ranks'
values are added up: a run that goes on from a checkpoint, with a first backward pass of its own,
would differ in the last bits. So the buckets are laid once, by the parameters' order alone.
"""

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.model_parallel import DataParallelWrapper
from torchrec.distributed.types import ShardingEnv


class FixedDataParallel(DataParallelWrapper):
    """DDP over all parameters that are not sharded, as TorchRec's own wrapper has it."""

    def wrap(self, dmp: DistributedModelParallel, env: ShardingEnv, device: torch.device) -> None:
        """Put the model of `dmp` into DDP, unless it has no such parameter or no other rank."""
        if env.world_size == 1:
            return
        module: Any = dmp._dmp_wrapped_module
        sharded = set(DistributedModelParallel._sharded_parameter_names(module))
        if not {name for name, _ in dmp.named_parameters()} - sharded:
            return
        _LastLayersFirst._set_params_and_buffers_to_ignore_for_model(module, sharded)
        with warnings.catch_warnings():  # torch 2.11 has no other name for broadcast_buffers
            warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
            dmp._dmp_wrapped_module = _LastLayersFirst(
                module.to(device),
                device_ids=None if device.type == "cpu" else [device],
                process_group=env.process_group,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,
                static_graph=True,
            )


class _LastLayersFirst(DistributedDataParallel):
    """Whose first buckets hold the parameters of the last layers: their gradients come first."""

    def _build_params_for_reducer(self) -> tuple[list[nn.Parameter], list[bool]]:
        parameters, are_sparse = super()._build_params_for_reducer()
        return parameters[::-1], are_sparse[::-1]


def fix_buckets(model: nn.Module) -> None:
    """Lay the buckets of a sharded model's DDP modules for good, before its first step.

    Those of tables of which each rank has a copy included; TorchRec keeps these in lists.
    """
    modules = [*model.modules()]
    modules += [lookup for module in modules for lookup in getattr(module, "_lookups", ())]
    for module in modules:
        if isinstance(module, DistributedDataParallel):
            module.reducer._push_all_rebuilt_params()  # as if all gradients had come, in order
            module.reducer._rebuild_buckets()
