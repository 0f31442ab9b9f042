"""How tables lie on two gloo ranks: trained alike, and loaded from each other's checkpoints."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.datasets import write_dataset
from tests.test_sequence_training import sequence_config, sequence_table
from trainer.checkpoints.checkpoint import PLAN_FILE
from trainer.config import ConfigError
from trainer.trainer import Trainer

STOP_AT, NUM_STEPS = 3, 6
WIDE: dict[str, Any] = {"feature_configs[0]__id_feature__embedding_dim": 256}  # has two columns
TYPES = ["table_wise", "column_wise", "data_parallel"]
ALL_KINDS: dict[str, Any] = {
    "train_config__sparse_optimizer__adagrad_optimizer": {
        "lr": 0.1,
        "initial_accumulator_value": 0.1,
    },
    "train_config__grad_scaler": {"init_scale": 64, "growth_interval": 2},
    "train_config__gradient_accumulation_steps": 3,
    "model_config__use_pareto_loss_weight": False,
}
CASES: dict[str, dict[str, Any]] = {
    "adagrad": ALL_KINDS,
    "rowwise": {"train_config__sparse_optimizer__rowwise_adagrad_optimizer": {"lr": 0.1}},
    "sgd": {
        "train_config__sparse_optimizer__sgd_optimizer": {"lr": 0.1},
        "train_config__pipeline_sparse_dist": True,
    },
}


def train(folder: Path, model: str, case: str, sharding_type: str, num_steps: int) -> None:
    """Train, from the newest checkpoint on if there is one, and keep what is left of it."""
    config = sequence_config(
        folder, model, train_config__num_steps=num_steps, **WIDE, **CASES[case]
    )
    constraints = config.train_config.global_embedding_constraints
    constraints.sharding_types.append(sharding_type)
    trainer = Trainer(config, torch.device("cpu"), continue_train=True)
    trainer.train()
    path = trainer.save()
    trainer.checkpoints.close()
    if dist.get_rank() == 0:
        losses = [asdict(entry)["losses"] for entry in trainer.recorder.history]
        plan = json.loads((path / PLAN_FILE).read_text())
        types = {each["sharding_type"] for each in plan.values()}
        torch.save({"losses": losses, "types": types}, folder / f"{model}.result")
        dcp_to_torch_save(path, folder / f"{model}.tensors")
    dist.barrier()


def go_on(folder: Path, source: str, case: str, sharding_type: str) -> None:
    """Copy a run that stopped, and go on with it with tables that lie otherwise."""
    model = f"{source} to {sharding_type}" + " alone" * (dist.get_world_size() == 1)
    if dist.get_rank() == 0:
        shutil.copytree(folder / source, folder / model)
    dist.barrier()
    train(folder, model, case, sharding_type, NUM_STEPS)


def work(rank: int, folder: str, world: int) -> None:
    torch.set_num_threads(1)
    path = Path(folder)
    store = dist.FileStore(str(path / f"store.{world}"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    if world == 1:
        go_on(path, "data_parallel stopped", "adagrad", "table_wise")
        dist.destroy_process_group()
        return
    for case in CASES:
        for sharding_type in TYPES if case == "adagrad" else TYPES[::2]:
            train(path, f"{case} {sharding_type}", case, sharding_type, NUM_STEPS)
    for sharding_type in TYPES:
        train(path, f"{sharding_type} stopped", "adagrad", sharding_type, STOP_AT)
        for other in TYPES:
            go_on(path, f"{sharding_type} stopped", "adagrad", other)
    try:
        go_on(path, "rowwise table_wise", "rowwise", "column_wise")
    except ConfigError as error:
        (path / f"error.{rank}").write_text(str(error))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sharding")
    write_dataset(path / "data", sequence_table())
    mp.spawn(work, args=(str(path), 2), nprocs=2)
    mp.spawn(work, args=(str(path), 1), nprocs=1)
    return path


def expect_same(folder: Path, model: str, reference: str) -> None:
    """The losses of all steps, the parameters and the optimizers' state at the end."""
    found, expected = (torch.load(folder / f"{each}.result") for each in (model, reference))
    assert len(found["losses"]) == NUM_STEPS
    for mine, theirs in zip(found["losses"], expected["losses"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    found, expected = (
        flat(torch.load(folder / f"{each}.tensors", weights_only=False))
        for each in (model, reference)
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """The tensors of nested dictionaries."""
    if isinstance(state, dict):
        return {k: v for key, each in state.items() for k, v in flat(each, f"{path}/{key}").items()}
    return {path: state} if isinstance(state, torch.Tensor) else {}


@pytest.mark.parametrize("case", CASES)
def test_tables_of_which_each_rank_has_a_copy_move_as_the_others(folder, case):
    types = torch.load(folder / f"{case} data_parallel.result")["types"]
    assert types == {"data_parallel"}
    expect_same(folder, f"{case} data_parallel", f"{case} table_wise")


@pytest.mark.parametrize("now", TYPES)
@pytest.mark.parametrize("before", TYPES)
def test_a_checkpoint_loads_into_tables_that_lie_otherwise(folder, before, now):
    model = f"{before} stopped to {now}"
    assert now in torch.load(folder / f"{model}.result")["types"]
    expect_same(folder, model, "adagrad table_wise")


def test_copies_go_on_as_whole_tables_on_one_rank(folder):
    model = "data_parallel stopped to table_wise alone"
    expect_same(folder, model, "adagrad table_wise")


def test_state_that_cannot_be_converted_is_an_error_that_says_what_to_pin(folder):
    message = (folder / "error.0").read_text()
    assert "rowwise_adagrad" in message and "table_wise" in message
    assert (folder / "error.1").read_text() == message
