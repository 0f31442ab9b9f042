"""Which checkpoint of a folder is used: the newest one that is as it was written.

Ranks look together, and share the reading of the files; one process alone needs no process group.
"""

from collections.abc import Callable
from pathlib import Path

from trainer.checkpoints.checkpoint import checkpoint_folders, find_damage
from trainer.collectives import all_gather, from_first_rank, rank, world_size
from trainer.config import ConfigError


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, on all ranks; None if nothing is."""
    faults = all_gather(find_damage(checkpoint, rank(), world_size()))
    return next((fault for fault in faults if fault), None)


def newest_undamaged(model_dir: Path, say: Callable[[str], None]) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint without damage, if any, and those that are newer; these are told.

    Raises:
        ConfigError: there are checkpoints, but all of them are damaged.
    """
    damaged: dict[Path, str] = {}
    newest = None
    for checkpoint in reversed(from_first_rank(checkpoint_folders(model_dir))):
        fault = damage_of(checkpoint)
        if fault is None:
            newest = checkpoint
            break
        damaged[checkpoint] = fault
    if damaged and newest is None:
        told = "; ".join(f"{path}: {fault}" for path, fault in damaged.items())
        raise ConfigError(
            f"all checkpoints of {model_dir} are damaged, nothing to go on from ({told}); "
            f"restore one of them, or start anew in another --model_dir"
        )
    for path, fault in damaged.items():
        say(f"warning: {path} is damaged ({fault}); going on from {newest and newest.name} instead")
    return newest, list(damaged)
