"""From which checkpoint training goes on: the newest one that is as it was written.

A job that torchrun restarts goes on by itself. A file `.may_restart` tells a restart of this job
from a new job in a folder that happens to hold another run's checkpoints.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist

from trainer.checkpoints.checkpoint import PREFIX, TrainState, checkpoint_folders
from trainer.checkpoints.newest import damage_of, newest_undamaged
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
    newest, damaged = newest_undamaged(model_dir, say)
    for checkpoint in damaged:
        _set_aside(checkpoint)
    return newest


def find_checkpoint(path: str, say: Callable[[str], None]) -> Path:
    """The checkpoint at a path, or the newest undamaged one of a folder; all ranks together.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    folder = Path(path)
    if folder.name.startswith(PREFIX):
        damage = damage_of(folder)
        if damage:
            raise ConfigError(f"fine_tune_checkpoint {folder} is damaged: {damage}")
        return folder
    found, _ = newest_undamaged(folder, say)
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


def _set_aside(checkpoint: Path) -> None:
    """Rename a damaged checkpoint: this run writes one of its step again."""
    if dist.get_rank() == 0:
        aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)


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
