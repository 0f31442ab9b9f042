"""Checkpoints: `model.ckpt-STEP/`, written under a temporary name and renamed when complete.

Model and optimizer state go through torch.distributed.checkpoint, each rank writing its shards;
`train_state.json` is written last and marks a checkpoint as complete. Any world size that divides
the plan's lanes can load it.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torchrec.optim.keyed import CombinedOptimizer

STATE_FILE = "train_state.json"
PREFIX = "model.ckpt-"


@dataclass(frozen=True)
class TrainState:
    """Where training stands: the next batch is step `step` of `epoch` in the plan of the rest."""

    global_step: int
    epoch: int
    step: int
    seed: int
    batch_size: int
    num_lanes: int
    dataset_fingerprint: str


def save_checkpoint(
    model_dir: Path, model: nn.Module, optimizer: CombinedOptimizer, state: TrainState, keep: int
) -> Path:
    """Write a checkpoint with all ranks; keep the newest `keep` (0: all). Returns its folder.

    A checkpoint of this step that is there already stays as it is.
    """
    final = model_dir / f"{PREFIX}{state.global_step}"
    if final in list_checkpoints(model_dir):
        return final
    unfinished = model_dir / f".{final.name}.tmp"
    is_first = dist.get_rank() == 0
    if is_first:
        shutil.rmtree(unfinished, ignore_errors=True)
    dist.barrier()
    dcp.save(_tensors(model, optimizer), checkpoint_id=str(unfinished))
    if is_first:
        (unfinished / STATE_FILE).write_text(json.dumps(asdict(state), indent=2))
        unfinished.rename(final)
        for old in list_checkpoints(model_dir)[:-keep] if keep else ():
            shutil.rmtree(old)
    dist.barrier()
    return final


def load_checkpoint(path: Path, model: nn.Module, optimizer: CombinedOptimizer) -> TrainState:
    """Restore model and optimizer in place, and say where training stood."""
    for _, each in optimizer.optimizers:
        if hasattr(each, "init_state"):
            each.init_state()
    tensors = _tensors(model, optimizer)
    dcp.load(tensors, checkpoint_id=str(path))
    model.load_state_dict(tensors["model"])
    state_dict = optimizer.state_dict()
    optimizer.load_state_dict({**state_dict, "state": tensors["optimizer"]})
    return TrainState(**json.loads((path / STATE_FILE).read_text()))


def list_checkpoints(model_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    complete = [path.parent for path in model_dir.glob(f"{PREFIX}*/{STATE_FILE}")]
    return sorted(complete, key=lambda path: int(path.name.removeprefix(PREFIX)))


def _tensors(model: nn.Module, optimizer: CombinedOptimizer) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()["state"]}
