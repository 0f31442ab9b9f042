"""Training in the test's own process, a world of one rank: quick, where ranks do not matter."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.configs import two_task_config
from trainer.trainer import Trainer


@pytest.fixture(scope="module")
def one_rank() -> Iterator[None]:
    """The process group of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trainer_here(
    folder: Path,
    model: str,
    data: str = "train",
    device: torch.device | None = None,
    **edits: Any,
) -> Trainer:
    """A trainer of the two tasks, on a CPU if not told otherwise; goes on from its checkpoints."""
    config = two_task_config(
        train_input_path=str(folder / data),
        model_dir=str(folder / model),
        data_config__num_workers=0,
        **edits,
    )
    return Trainer(config, device or torch.device("cpu"), continue_train=True)


def all_tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Copies of the parameters and of the optimizers' state."""
    found = {name: _local(value) for name, value in trainer.model.state_dict().items()}
    for key, of_parameter in trainer.optimizer.state_dict()["parameters"].items():
        found |= {f"{key}/{name}": _local(value) for name, value in of_parameter.items()}
    return found


def _local(value: Any) -> torch.Tensor:
    shards = value.local_shards() if hasattr(value, "local_shards") else []
    return (shards[0].tensor if shards else value).detach().clone()
