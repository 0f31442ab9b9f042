"""The optimizers of a config: TorchRec's fused ones for tables, PyTorch's for dense parameters.

Names and defaults are TorchEasyRec's. docs/optimizers.md has what each supports where.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import WeightDecayMode
from torch import nn
from torchrec.optim import optimizers as fused
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from trainer.config import ConfigError
from trainer.optim.sgd import ZeroStartSGD
from trainer.protos import pipeline_pb2 as pb

_SPARSE: dict[str, Any] = {
    "sgd_optimizer": fused.SGD,
    "adagrad_optimizer": fused.Adagrad,
    "rowwise_adagrad_optimizer": RowWiseAdagrad,
    "adam_optimizer": fused.Adam,
    "partial_rowwise_adam_optimizer": fused.PartialRowWiseAdam,
    "lamb_optimizer": fused.LAMB,
    "partial_rowwise_lamb_optimizer": fused.PartialRowWiseLAMB,
    "lars_sgd_optimizer": fused.LarsSGD,
}
_CPU_SPARSE = ("sgd_optimizer", "adagrad_optimizer", "rowwise_adagrad_optimizer")
_DENSE: dict[str, Any] = {
    "sgd_optimizer": ZeroStartSGD,
    "adagrad_optimizer": torch.optim.Adagrad,
    "adam_optimizer": torch.optim.Adam,
    "adamw_optimizer": torch.optim.AdamW,
    "adadelta_optimizer": torch.optim.Adadelta,
    "rmsprop_optimizer": torch.optim.RMSprop,
}


def optimizer_of(config: Any) -> tuple[str, Any]:
    """The kind of a sparse, dense or part optimizer, and its message."""
    kind = config.WhichOneof("optimizer")
    return kind, getattr(config, kind)


# ------------------------------------------------------------------ tables


def clips_pooled_gradients(config: pb.SparseOptimizer) -> bool:
    """Whether FBGEMM clips each element of the gradient of each pooled embedding."""
    kind = config.WhichOneof("optimizer")
    return kind is not None and getattr(config, kind).gradient_clipping


def sparse_optimizer(
    config: pb.SparseOptimizer, device: torch.device
) -> tuple[Any, dict[str, Any]]:
    """TorchRec's class and FBGEMM's arguments. Raises ConfigError for what the device lacks."""
    kind, message = optimizer_of(config)
    if device.type == "cpu":
        _check_cpu(kind, message)
    arguments = _fields(message)
    arguments.pop("initial_accumulator_value", None)  # set_accumulators does it
    if "weight_decay_mode" in arguments:
        arguments["weight_decay_mode"] = WeightDecayMode(arguments["weight_decay_mode"])
    return _SPARSE[kind], arguments


def _check_cpu(kind: str, message: Any) -> None:
    where = f"train_config.sparse_optimizer.{kind}"
    if kind not in _CPU_SPARSE:
        raise ConfigError(
            f"{where}: FBGEMM has it for CUDA alone; "
            f"train on a GPU, or choose one of {', '.join(_CPU_SPARSE)}"
        )
    if getattr(message, "weight_decay", 0):
        raise ConfigError(
            f"{where}.weight_decay: FBGEMM has none on a CPU; train on a GPU, or remove the field"
        )


def fused_kernels(optimizer: Any) -> list[Any]:
    """FBGEMM's modules beneath a sharded model's fused optimizer, each once.

    TorchRec keeps them out of `model.modules()`; only the optimizers lead to all of them.
    """
    if isinstance(optimizer, CombinedOptimizer):
        found = [kernel for _, each in optimizer.optimizers for kernel in fused_kernels(each)]
        return list({id(kernel): kernel for kernel in found}.values())
    return [optimizer._emb_module]


@torch.no_grad()
def set_accumulators(optimizer: Any, config: pb.SparseOptimizer) -> None:
    """Start the accumulators of Adagrad's tables at `initial_accumulator_value`.

    Args:
        optimizer: the sharded model's fused optimizer; its state shares FBGEMM's memory.
    """
    value = config.adagrad_optimizer.initial_accumulator_value
    if not value:
        return
    for state in optimizer.state.values():
        for accumulator in state.values():
            if hasattr(accumulator, "local_shards"):
                for shard in accumulator.local_shards():
                    shard.tensor.fill_(value)
            else:
                accumulator.fill_(value)


# ------------------------------------------------------------------ dense parameters


class DensePart(NamedTuple):
    """Parameters with an optimizer of their own; `config` has its kind, lr and schedule."""

    name: str
    config: Any
    optimizer: KeyedOptimizerWrapper


def keeps_state(config: Any) -> bool:
    """Whether a dense or part optimizer keeps anything of a parameter once that has moved."""
    kind, message = optimizer_of(config)
    return kind != "sgd_optimizer" or message.momentum != 0


def dense_optimizers(
    config: pb.DenseOptimizer, parameters: Mapping[str, nn.Parameter], device: torch.device
) -> list[DensePart]:
    """One optimizer per entry of `part_optimizers`, then one of all other parameters.

    Raises:
        ConfigError: a pattern matches no parameter that an earlier one left.
    """
    left, parts = dict(parameters), []
    for n, part in enumerate(config.part_optimizers):
        matched = {k: p for k, p in left.items() if re.fullmatch(part.regex_pattern, k)}
        if not matched:
            raise ConfigError(
                f"dense_optimizer.part_optimizers[{n}].regex_pattern must match the whole name of "
                f"a parameter, but `{part.regex_pattern}` matches none of: {', '.join(left)}"
            )
        left = {name: each for name, each in left.items() if name not in matched}
        parts.append((f"dense[{part.regex_pattern}]", part, matched))
    if left:
        parts.append(("dense", config, left))
    return [DensePart(name, each, _keyed(each, matched, device)) for name, each, matched in parts]


def _keyed(
    config: Any, parameters: dict[str, nn.Parameter], device: torch.device
) -> KeyedOptimizerWrapper:
    kind, message = optimizer_of(config)
    arguments = _fields(message)
    if "beta1" in arguments:
        arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
    if "fused" in arguments:
        arguments["fused"] = _use_fused(kind, message, device)
    return KeyedOptimizerWrapper(parameters, lambda params: _DENSE[kind](params, **arguments))


def _use_fused(kind: str, message: Any, device: torch.device) -> bool:
    """Whether to take PyTorch's fused kernel: where there is one, unless the config says."""
    operator = f"aten::_fused_{kind.removesuffix('_optimizer')}_"
    exists = torch._C._dispatch_has_kernel_for_dispatch_key(operator, device.type.upper())
    if message.fused and not exists:
        raise ConfigError(
            f"dense_optimizer.{kind}.fused: PyTorch {torch.__version__} has no fused kernel of it "
            f"for {device.type}; remove the field"
        )
    has_dampening = kind == "sgd_optimizer" and message.dampening != 0
    if message.fused and has_dampening:
        raise ConfigError(
            f"dense_optimizer.sgd_optimizer: fused cannot be true with dampening "
            f"({message.dampening:g}); remove one of them"
        )
    return message.fused if message.HasField("fused") else exists and not has_dampening


def _fields(message: Any) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
