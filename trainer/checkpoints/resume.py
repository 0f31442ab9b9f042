"""From which checkpoint training goes on: the newest one that is as it was written.

A job that torchrun restarts goes on by itself. A file `.may_restart` tells a restart of this job
from a new job in a folder that happens to hold another run's checkpoints.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from trainer.checkpoints.checkpoint import PREFIX, TrainState, checkpoint_folders, find_damage
from trainer.config import ConfigError

RESTART_MARK = ".may_restart"


def is_restart() -> bool:
    """Whether torchrun has started this process in place of one that ended too early."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def checkpoint_to_continue(
    model_dir: Path, continue_train: bool, say: Callable[[str], None]
) -> Path | None:
    """The checkpoint to go on from, the same on all ranks, which call this together.

    Raises:
        ConfigError: there are checkpoints, but training shall not go on from them; or all of them
            are damaged.
    """
    if dist.get_rank() == 0:
        mark, checkpoints = model_dir / RESTART_MARK, checkpoint_folders(model_dir)
        if checkpoints and not continue_train and not (is_restart() and mark.exists()):
            mark.unlink(missing_ok=True)
            raise ConfigError(
                f"model_dir must hold no checkpoint of another run, but {model_dir} has "
                f"{checkpoints[-1].name}; give --continue_train to go on from it, or another "
                f"model_dir"
            )
    return _newest_undamaged(model_dir, say, set_aside=True)


def find_checkpoint(path: str, say: Callable[[str], None]) -> Path:
    """The checkpoint at a path, or the newest undamaged one of a folder; all ranks together.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    folder = Path(path)
    if folder.name.startswith(PREFIX):
        damage = _from_first_rank(find_damage(folder))
        if damage:
            raise ConfigError(f"fine_tune_checkpoint {folder} is damaged: {damage}")
        return folder
    found = _newest_undamaged(folder, say, set_aside=False)
    if found is None:
        raise ConfigError(
            f"fine_tune_checkpoint must be a checkpoint ({PREFIX}STEP) or a folder of them, but "
            f"got: {folder}"
        )
    return found


def allow_restart(model_dir: Path, allowed: bool) -> None:
    """Whether a restart by torchrun may go on from the checkpoints of model_dir (rank 0)."""
    if allowed:
        (model_dir / RESTART_MARK).touch()
    else:
        (model_dir / RESTART_MARK).unlink(missing_ok=True)


def _newest_undamaged(
    model_dir: Path, say: Callable[[str], None], *, set_aside: bool
) -> Path | None:
    """The newest checkpoint without damage; newer ones are told, and set aside if wished.

    All ranks call this together, and share the reading of the files.

    Raises:
        ConfigError: there are checkpoints, but all of them are damaged.
    """
    damaged: dict[Path, str] = {}
    newest = None
    for checkpoint in reversed(_from_first_rank(checkpoint_folders(model_dir))):
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(
            found, find_damage(checkpoint, dist.get_rank(), dist.get_world_size())
        )
        faults = [fault for fault in found if fault]
        if not faults:
            newest = checkpoint
            break
        damaged[checkpoint] = faults[0]
    if damaged and newest is None:
        told = "; ".join(f"{path}: {fault}" for path, fault in damaged.items())
        raise ConfigError(
            f"all checkpoints of {model_dir} are damaged, nothing to go on from ({told}); "
            f"restore one of them, or start anew in another --model_dir"
        )
    for path, fault in damaged.items():
        say(f"warning: {path} is damaged ({fault}); going on from {newest and newest.name} instead")
        if set_aside:
            _set_aside(path)
    return newest


def _set_aside(checkpoint: Path) -> None:
    """Rename a damaged checkpoint: this run writes one of its step again."""
    if dist.get_rank() == 0:
        aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)


def _from_first_rank(value: Any) -> Any:
    """Rank 0's value, on all ranks: file systems may show each rank another state."""
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def continued_state(
    saved: TrainState, fresh: TrainState, path: str, on_changed_data: str
) -> TrainState:
    """The state to go on with: the checkpoint's, or a fresh epoch where the data is another.

    A checkpoint's place in the plan only holds for the data and the batches it came from.
    """
    if saved.dataset_fingerprint != fresh.dataset_fingerprint and on_changed_data == "fresh_epoch":
        return replace(fresh, global_step=saved.global_step)
    for name, cure in (
        (
            "dataset_fingerprint",
            "train on the same dataset, start an epoch on this one with "
            "--on_changed_data=fresh_epoch, or start anew in another --model_dir",
        ),
        ("seed", "set train_config.seed as it was"),
        ("batch_size", "set data_config.batch_size as it was"),
        ("shuffle", "set data_config.shuffle as it was"),
        ("drop_remainder", "set data_config.drop_remainder as it was"),
    ):
        before, now = getattr(saved, name), getattr(fresh, name)
        if before != now:
            raise ConfigError(
                f"cannot continue on {path}: {name} must be as in the checkpoint, {before}, "
                f"but is: {now}; {cure}"
            )
    return saved
