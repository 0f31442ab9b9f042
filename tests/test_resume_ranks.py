"""Three gloo ranks, of which the order matters in which their gradients are added up."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.test_sharding_types import flat
from trainer.trainer import Trainer

RANKS, STOP, NUM_STEPS = 3, 3, 8
CASES: dict[str, dict[str, Any]] = {
    "sharded tables": {
        "train_config__global_embedding_constraints__sharding_types": ["table_wise"]
    },
    # Ones that are summed up and ones of means.
    "copied tables": {
        "train_config__global_embedding_constraints__sharding_types": ["data_parallel"]
    },
}
TWO_BUCKETS: dict[str, Any] = {"model_config__dbmtl__bottom_mlp__hidden_units": [600, 600]}


def trainer_of(folder: Path, case: str, model: str, num_steps: int) -> Trainer:
    """Going on from the newest checkpoint if there is one."""
    config = two_task_config(
        train_input_path=str(folder / "train"),
        model_dir=str(folder / case / model),
        data_config__num_workers=0,
        data_config__batch_size=32,
        train_config__num_steps=num_steps,
        **CASES[case],
        **TWO_BUCKETS,
    )
    return Trainer(config, torch.device("cpu"), continue_train=True)


def train(folder: Path, case: str, model: str, num_steps: int) -> None:
    """Train, and keep what it ends with."""
    trainer = trainer_of(folder, case, model, num_steps)
    trainer.train()
    path = trainer.save()
    trainer.checkpoints.close()
    if dist.get_rank() == 0:
        dcp_to_torch_save(path, folder / case / f"{model}.tensors")
        losses = [entry.losses for entry in trainer.recorder.history]
        (folder / case / f"{model}.losses").write_text(json.dumps(losses))
    dist.barrier()


def poison(folder: Path) -> None:
    """Have a value that is not finite on one rank alone, and keep what each rank says of it."""
    trainer = trainer_of(folder, "sharded tables", "whole", NUM_STEPS)
    tables = [each for each in trainer.model.state_dict().values() if hasattr(each, "local_shards")]
    if dist.get_rank() == RANKS - 1:
        shards = [shard for table in tables for shard in table.local_shards()]
        shards[0].tensor[1, 1] = torch.inf
    with pytest.raises(FloatingPointError) as error:
        trainer.save()
    (folder / f"poison.{dist.get_rank()}").write_text(str(error.value))


def work(rank: int, folder: str) -> None:
    """Each case through, and once more with a stop."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    for case in CASES:
        train(Path(folder), case, "whole", NUM_STEPS)
        for num_steps in (STOP, NUM_STEPS):
            train(Path(folder), case, "stopped", num_steps)
    poison(Path(folder))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    write_dataset(path / "train", click_table(150, seed=1))
    mp.spawn(work, args=(str(path),), nprocs=RANKS)
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_of_three_ranks_ends_with_the_same_bits(folder, case):
    whole, stopped = (
        flat(torch.load(folder / case / f"{model}.tensors", weights_only=False))
        for model in ("whole", "stopped")
    )
    assert whole.keys() == stopped.keys() and len(whole) > 30
    assert not [name for name in whole if not torch.equal(whole[name], stopped[name])]


@pytest.mark.parametrize("case", CASES)
def test_a_log_entry_has_the_steps_before_the_stop_too(folder, case):
    whole, stopped = (
        json.loads((folder / case / f"{model}.losses").read_text())
        for model in ("whole", "stopped")
    )
    assert len(whole) == 1
    assert stopped == whole


def test_what_is_not_finite_on_one_rank_is_refused_by_all(folder):
    told = [(folder / f"poison.{rank}").read_text() for rank in range(RANKS)]
    assert re.search(r"after step 8 it is not: model\.model\.tables\.\S+_emb.weight;", told[0])
    assert told == told[:1] * RANKS
