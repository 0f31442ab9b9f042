"""A trained model from its checkpoint, to evaluate or to predict: at any world size, on any device.

Only parameters are read; what the optimizers keep is not, and neither takes memory.
"""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from trainer.checkpoints.checkpoint import BEST_FILE, CONFIG_FILE, STATE_FILE, list_checkpoints
from trainer.checkpoints.newest import damage_of, newest_undamaged
from trainer.checkpoints.reader import CheckpointReader
from trainer.collectives import rank
from trainer.config import ConfigError, edit_config, load_config
from trainer.parallel import build_parallel
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


@dataclass(frozen=True)
class Run:
    """A config and one of the checkpoints that were trained with it."""

    config: pb.EasyRecConfig
    checkpoint: Path

    @property
    def model_dir(self) -> Path:
        """The folder of the checkpoint."""
        return self.checkpoint.parent


def find_run(
    pipeline_config_path: str | None,
    checkpoint_path: str | None,
    edits: str | None = None,
    *,
    to_export: bool = False,
) -> Run:
    """The config and the checkpoint that a command names, one of which may be left out.

    All ranks call this together, and share the reading of the checkpoint's files.

    Args:
        pipeline_config_path: default: pipeline.config in the checkpoint.
        checkpoint_path: a checkpoint, or a model folder with some, of which the newest is taken
            that is not damaged; default: the config's model_dir.
        edits: see edit_config.
        to_export: of a model folder with an export_config of exporter_type best, the checkpoint
            that best_checkpoint.json names is taken, where there is that file.

    Raises:
        ConfigError: there is no such config or no complete checkpoint, or it is damaged.
    """
    config = load_config(pipeline_config_path) if pipeline_config_path else None
    path = checkpoint_path or (config.model_dir if config else "")
    if not path:
        raise ConfigError(
            "checkpoint_path must be set, by --checkpoint_path or by the model_dir of the config, "
            "but is missing"
        )
    checkpoint = _checkpoint_at(Path(path))
    if config is None:
        config = load_config(checkpoint / CONFIG_FILE)
    if edits:
        edit_config(config, edits)
    best = Path(path) / BEST_FILE
    if to_export and config.export_config.exporter_type == "best" and best.is_file():
        checkpoint = _checkpoint_at(best.with_name(json.loads(best.read_text())["checkpoint"]))
    return Run(config, checkpoint)


def _checkpoint_at(path: Path) -> Path:
    """The checkpoint at a path, or the newest one of a model folder. Raises ConfigError."""
    if not path.is_dir():
        raise ConfigError(f"checkpoint_path must be a folder, but there is none at: {path}")
    if (path / STATE_FILE).is_file():
        damage = damage_of(path)
        if damage:
            raise ConfigError(
                f"checkpoint_path must be a checkpoint that is as it was written, but {path} is "
                f"damaged: {damage}; copy it again, or give its folder for the newest one that is "
                f"not damaged"
            )
        return path
    newest, _ = newest_undamaged(path, _say)
    if newest is not None:
        return newest
    others = ", ".join(each.name for each in list_checkpoints(path.parent))
    raise ConfigError(
        f"checkpoint_path must be a complete checkpoint or a folder of some, but {path} has no "
        f"{STATE_FILE}: its writing was not finished, or it is another folder; "
        f"complete ones beside it: {others or 'none'}"
    )


def _say(line: str) -> None:
    if rank() == 0:
        print(line, file=sys.stderr, flush=True)


def restore(
    run: Run, tasks: list[Task], device: torch.device, *, averages: bool
) -> tuple[nn.Module, AbstractContextManager[None]]:
    """The sharded model with a checkpoint's parameters, on all ranks. A collective call.

    Returns:
        the model, and a context in which its dense parameters are their moving averages where
        `averages` asks for these.

    Raises:
        ConfigError: the checkpoint is of a model of other parameters.
    """
    config = pb.EasyRecConfig()
    config.CopyFrom(run.config)
    train = config.train_config
    train.sparse_optimizer.sgd_optimizer.SetInParent()  # keeps nothing, and is for every device
    train.dense_optimizer.sgd_optimizer.momentum = 0.0
    del train.dense_optimizer.part_optimizers[:]
    model, optimizer = build_parallel(config, tasks, device, is_trained=False)
    state: dict[str, Any] = {"model": model.state_dict()}
    metadata = CheckpointReader(run.checkpoint).read_metadata()
    check_same_model(metadata, state["model"], run.checkpoint)
    if averages and optimizer.average is not None:
        state["optimizer"] = {"average": {"averages": optimizer.average.averages}}
    dcp.load(state, storage_reader=CheckpointReader(run.checkpoint))
    model.load_state_dict(state["model"])
    model.eval()
    return model, optimizer.averaged() if averages else nullcontext()


def check_same_model(metadata: Metadata, model: dict[str, Any], checkpoint: Path) -> None:
    """Raises ConfigError unless the checkpoint has the model's tensors and no other."""
    saved = {
        name.removeprefix("model."): tuple(entry.size)
        for name, entry in metadata.state_dict_metadata.items()
        if name.startswith("model.") and isinstance(entry, TensorStorageMetadata)
    }
    own = {name: tuple(tensor.size()) for name, tensor in model.items()}
    faults = [f"it has no {name}" for name in own if name not in saved]
    faults += [f"it also has {name}" for name in saved if name not in own]
    faults += [
        f"{name} is {list(saved[name])} there and {list(own[name])} here"
        for name in own
        if name in saved and saved[name] != own[name]
    ]
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ConfigError(
            f"{checkpoint} does not fit the model of the config: {'; '.join(faults[:3])}{more}; "
            f"use the config it was written with ({CONFIG_FILE} beside it)"
        )
