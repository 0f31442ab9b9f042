"""Checkpoints: `model.ckpt-STEP/`, written under a temporary name and renamed when complete.

Model and optimizer state go through torch.distributed.checkpoint, each rank writing its shards;
`train_state.json` is written last and marks a checkpoint as complete. Any world size can load it.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from trainer.config import ConfigError
from trainer.plan import Place
from trainer.train_optimizer import TrainOptimizer

STATE_FILE = "train_state.json"
HISTORY_FILE = "history.json"
PREFIX = "model.ckpt-"


@dataclass(frozen=True)
class TrainState:
    """Where training stands: the next batch is the one of `epoch` that starts at `place`.

    The global batches depend on dataset_fingerprint, seed, shuffle, drop_remainder,
    global_batch_rows and num_lanes (ranks when training began) alone, not on the ranks that go on.
    """

    global_step: int
    epoch: int
    place: Place
    seed: int
    global_batch_rows: int
    num_lanes: int
    shuffle: bool
    drop_remainder: bool
    dataset_fingerprint: str

    @property
    def batch_size(self) -> int:
        """Most rows of a rank's batch when training began."""
        return self.global_batch_rows // self.num_lanes


def save_checkpoint(
    model_dir: Path,
    model: nn.Module,
    optimizer: TrainOptimizer,
    state: TrainState,
    history: list[dict[str, Any]],
    keep: int,
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
        for leftover in model_dir.glob(f".{PREFIX}*.tmp"):
            shutil.rmtree(leftover)
    dist.barrier()
    dcp.save(_tensors(model, optimizer), checkpoint_id=str(unfinished))
    if is_first:
        (unfinished / HISTORY_FILE).write_text(json.dumps(history))
        (unfinished / STATE_FILE).write_text(json.dumps(asdict(state), indent=2))
        unfinished.rename(final)
        for old in list_checkpoints(model_dir)[:-keep] if keep else ():
            shutil.rmtree(old)
    dist.barrier()
    return final


def read_state(path: Path) -> tuple[TrainState, list[dict[str, Any]]]:
    """Where training stood, and its logged history. Raises ConfigError for another release's."""
    fields = json.loads((path / STATE_FILE).read_text())
    try:
        state = TrainState(**{**fields, "place": Place(**fields["place"])})
    except (KeyError, TypeError):
        raise ConfigError(
            f"{path} must be of this release, but {STATE_FILE} has: {', '.join(sorted(fields))}; "
            f"train on with the release that wrote it, or start anew in another --model_dir"
        ) from None
    return state, json.loads((path / HISTORY_FILE).read_text())


def load_checkpoint(path: Path, model: nn.Module, optimizer: TrainOptimizer) -> None:
    """Restore model and optimizer in place. Raises ConfigError if the model has another shape."""
    optimizer.init_state()
    tensors = _tensors(model, optimizer)
    # Flattening drops the tables that are whole on other ranks; the planner then takes the
    # checkpoint for one of PyTorch 2.3, which named the scaler's state otherwise.
    planner = dcp.DefaultLoadPlanner(flatten_sharded_tensors=False)
    try:
        dcp.load(tensors, checkpoint_id=str(path), planner=planner)
    except CheckpointException as error:
        reasons = {str(each[0]) for each in error.failures.values()}
        raise ConfigError(
            f"{path} does not fit the model of the config: {'; '.join(sorted(reasons))}; "
            f"train on with the config it was written with (pipeline.config beside it)"
        ) from None
    model.load_state_dict(tensors["model"])
    optimizer.load_state_dict(tensors["optimizer"])


def list_checkpoints(model_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    complete = [
        path.parent
        for path in model_dir.glob(f"{PREFIX}*/{STATE_FILE}")
        if path.parent.name.removeprefix(PREFIX).isdigit()
    ]
    return sorted(complete, key=lambda path: int(path.name.removeprefix(PREFIX)))


def _tensors(model: nn.Module, optimizer: TrainOptimizer) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
