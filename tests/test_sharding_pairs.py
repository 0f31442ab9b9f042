"""Each way in which tables may lie, loaded from each other's checkpoints, on one rank and two."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.datasets import write_dataset
from tests.test_sequence_training import sequence_table
from tests.test_sharding_types import LAYOUTS, flat, laid_out
from trainer.checkpoints.checkpoint import read_state
from trainer.checkpoints.loader import checkpoint_tensors, load_checkpoint
from trainer.config import ConfigError
from trainer.trainer import Trainer

pytestmark = pytest.mark.slow
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd_optimizer": {"lr": 0.1},
    "adagrad_optimizer": {"lr": 0.1, "initial_accumulator_value": 0.1},
    "rowwise_adagrad_optimizer": {"lr": 0.1},
}
TYPES = [layout for layout in LAYOUTS if layout != "refused"]
RANKS = (1, 2)
NUM_TABLES = 8


def trainer_of(folder: Path, model: str, optimizer: str, layout: str) -> Trainer:
    """A trainer that starts anew, whose tables lie as the layout says."""
    edits = {f"train_config__sparse_optimizer__{optimizer}": OPTIMIZERS[optimizer]}
    return Trainer(laid_out(folder, model, layout, edits, num_steps=2), torch.device("cpu"))


def tensors_of(checkpoint: Path, file: Path) -> None:
    """Keep all of a checkpoint in one file; rank 0 does."""
    if dist.get_rank() == 0:
        dcp_to_torch_save(checkpoint, file)


def fill(state: Any) -> None:
    """Give all tensors of nested dictionaries a value that nothing has."""
    if isinstance(state, dict):
        for each in state.values():
            fill(each)
    elif hasattr(state, "local_shards"):
        for shard in state.local_shards():
            shard.tensor.fill_(-7)
    elif isinstance(state, torch.Tensor):
        state.detach().fill_(-7)


def save(folder: Path) -> None:
    """Two steps of each optimizer, with tables in each layout."""
    world = dist.get_world_size()
    for optimizer, layout in product(OPTIMIZERS, TYPES):
        model = f"{optimizer} {layout} {world}"
        trainer = trainer_of(folder, model, optimizer, layout)
        trainer.train()
        checkpoint = trainer.save()
        trainer.checkpoints.close()
        tensors_of(checkpoint, folder / f"{model}.saved")


def load(folder: Path) -> None:
    """Each of those checkpoints into each layout, and out again."""
    world = dist.get_world_size()
    for optimizer, layout in product(OPTIMIZERS, TYPES):
        trainer = trainer_of(folder, f"fresh {optimizer} {layout} {world}", optimizer, layout)
        for saved_layout, saved_world in product(TYPES, RANKS):
            model = f"{optimizer} {saved_layout} {saved_world}"
            name = f"{model} to {layout} {world}"
            checkpoint = folder / model / "model.ckpt-2"
            assert read_state(checkpoint)[0].global_step == 2
            fill(checkpoint_tensors(trainer.model, trainer.optimizer))  # nothing is right by chance
            try:
                load_checkpoint(checkpoint, trainer.model, trainer.optimizer, set())
            except ConfigError as error:
                (folder / f"{name}.error").write_text(str(error))
                continue
            dcp.save(
                checkpoint_tensors(trainer.model, trainer.optimizer),
                checkpoint_id=str(folder / name),
            )
            tensors_of(folder / name, folder / f"{name}.loaded")


def work(rank: int, folder: str, world: int, task: Any) -> None:
    """A rank of one or two, with one thing to do."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/{task.__name__}.{world}", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    task(Path(folder))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs")
    write_dataset(path / "data", sequence_table())
    for task in (save, load):
        for world in RANKS:
            mp.spawn(work, args=(str(path), world, task), nprocs=world)
    return path


@pytest.mark.parametrize("ranks", product(RANKS, RANKS), ids=lambda pair: "{}_to_{}".format(*pair))
@pytest.mark.parametrize("layout", TYPES)
@pytest.mark.parametrize("saved_layout", TYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_was_saved_is_what_is_loaded(folder, optimizer, saved_layout, layout, ranks):
    saved = f"{optimizer} {saved_layout} {ranks[0]}"
    loaded = f"{saved} to {layout} {ranks[1]}"
    of_columns = [each == "column_wise" for each in (saved_layout, layout)]
    if optimizer == "rowwise_adagrad_optimizer" and of_columns[0] != of_columns[1]:
        error = (folder / f"{loaded}.error").read_text()  # a value for each part of the columns
        assert "user_id_emb.momentum1 is [" in error and "by embedding_constraints" in error
        return
    found, expected = (
        flat(torch.load(folder / file, weights_only=False))
        for file in (f"{loaded}.loaded", f"{saved}.saved")
    )
    assert found.keys() == expected.keys()
    kept = [name for name in expected if "momentum1" in name]
    assert len(kept) == (0 if optimizer == "sgd_optimizer" else NUM_TABLES)
    assert not [name for name in expected if not torch.equal(found[name], expected[name])]
