"""How tables lie on two gloo ranks: trained alike, and loaded from each other's checkpoints."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.test_sequence_training import sequence_config, sequence_table
from tests.training_here import one_rank, trainer_here
from trainer.checkpoints.checkpoint import PLAN_FILE, list_checkpoints
from trainer.checkpoints.restore import find_run, restore
from trainer.checks.config import check_config
from trainer.config import ConfigError, edit_config
from trainer.models import build_model
from trainer.parallel import describe_sharding
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import parse_tasks
from trainer.trainer import Trainer

assert one_rank  # a fixture that is imported to be used by name
NUM_STEPS = 6
# A softmax does not see it: its gradient is rounding alone, from which Adam makes whole steps.
SHIFT = "encoders.all.0.score.1.bias"
SEQUENCE = (  # whose items and candidate share a table, and whose tags have one
    "feature_configs[5]__sequence_feature__features[0]__id_feature",
    "feature_configs[5]__sequence_feature__features[1]__id_feature",
    "feature_configs[6]__id_feature",
)
# Of tables that are pooled, and of the table of the sequence. On a CPU TorchRec has row_wise for
# the latter alone, FBGEMM data_parallel for the former.
LAYOUTS = {
    "refused": ("data_parallel", "data_parallel"),
    "table_wise": ("table_wise", "table_wise"),
    "column_wise": ("column_wise", "column_wise"),
    "row_wise": ("table_wise", "row_wise"),
    "data_parallel": ("data_parallel", "table_wise"),
}
CHAIN = {"table_wise": 2, "column_wise": 3, "row_wise": 4, "data_parallel": 5}  # until which step
ERRORS = {
    "column_wise": r"user_id_emb.momentum1 is \[20\] there, \[40\] here .*embedding_constraints",
    "refused": r"table `shared_items` of a sequence cannot be data_parallel on a CPU",
}
ADAGRAD = {"lr": 0.1, "initial_accumulator_value": 0.1}
CASES: dict[str, dict[str, Any]] = {
    "adagrad": {"train_config__sparse_optimizer__adagrad_optimizer": ADAGRAD},
    "rowwise": {
        "train_config__sparse_optimizer__rowwise_adagrad_optimizer": {"lr": 0.1},
        "train_config__grad_scaler": {"init_scale": 64, "growth_interval": 2},
        "train_config__gradient_accumulation_steps": 3,
        "train_config__pipeline_sparse_dist": True,
        "model_config__use_pareto_loss_weight": False,
    },
}


def laid_out(
    folder: Path, model: str, layout: str, edits: dict[str, Any], num_steps: int
) -> EasyRecConfig:
    """A config whose tables lie as the layout says."""
    pooled, of_sequence = LAYOUTS[layout]
    edits = edits | {
        "train_config__num_steps": num_steps,
        "feature_configs[0]__id_feature__embedding_dim": 256,  # enough to be cut in two
        "train_config__global_embedding_constraints__sharding_types": [pooled],
    }
    for feature in SEQUENCE:
        edits[f"{feature}__embedding_constraints__sharding_types"] = [of_sequence]
    config = sequence_config(folder, model)
    edit_config(config, {name.replace("__", "."): value for name, value in edits.items()})
    return config


def train(folder: Path, model: str, case: str, layout: str, num_steps: int) -> None:
    """Train, from the newest checkpoint on if there is one, and keep what is left of it."""
    config = laid_out(folder, model, layout, CASES[case], num_steps)
    trainer = Trainer(config, torch.device("cpu"), continue_train=True)
    trainer.train()
    path = trainer.save()
    trainer.checkpoints.close()
    if dist.get_rank() == 0:
        losses = [asdict(entry)["losses"] for entry in trainer.recorder.history]
        checkpoints = list_checkpoints(folder / model)
        plans = [json.loads((each / PLAN_FILE).read_text()) for each in checkpoints]
        types = [{each["sharding_type"] for each in of_tables(plan)} for plan in plans]
        torch.save({"losses": losses, "types": types}, folder / f"{model}.result")
        dcp_to_torch_save(path, folder / f"{model}.tensors")
    dist.barrier()


def of_tables(plan: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What a plan says of each table of each collection."""
    return [each for of_collection in plan.values() for each in of_collection.values()]


def restored(model_dir: Path) -> None:
    """How evaluation and prediction lay a checkpoint's tables."""
    run = find_run(None, str(model_dir))
    model: Any = restore(run, parse_tasks(run.config), torch.device("cpu"), averages=False)[0]
    (model_dir / f"restored.{dist.get_rank()}").write_text(describe_sharding(model))


def work(rank: int, folder: str) -> None:
    """Whole runs; one whose tables lie otherwise after each stop; two that cannot go on."""
    torch.set_num_threads(1)
    path = Path(folder)
    store = dist.FileStore(str(path / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    train(path, "adagrad table_wise", "adagrad", "table_wise", NUM_STEPS)
    for layout in ("table_wise", "data_parallel"):
        train(path, f"rowwise {layout}", "rowwise", layout, NUM_STEPS)
    restored(path / "rowwise data_parallel")
    for layout, until in CHAIN.items():
        train(path, "chain", "adagrad", layout, until)
    train(path, "chain", "adagrad", "table_wise", NUM_STEPS)
    for layout in ERRORS:
        with pytest.raises(ConfigError) as error:
            train(path, "rowwise table_wise", "rowwise", layout, NUM_STEPS)
        (path / f"{layout}.{rank}").write_text(str(error.value))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sharding")
    write_dataset(path / "data", sequence_table())
    mp.spawn(work, args=(str(path),), nprocs=2)
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
        if SHIFT in name:
            continue
        # Adam takes whole steps, of lr 0.01, by gradients near 0 too: their rounding is in these.
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """The tensors of nested dictionaries."""
    if isinstance(state, dict):
        return {k: v for key, each in state.items() for k, v in flat(each, f"{path}/{key}").items()}
    return {path: state} if isinstance(state, torch.Tensor) else {}


def test_tables_of_which_each_rank_has_a_copy_move_as_the_others(folder):
    types = torch.load(folder / "rowwise data_parallel.result")["types"]
    assert types == [{"data_parallel", "table_wise"}]
    expect_same(folder, "rowwise data_parallel", "rowwise table_wise")


def test_scoring_keeps_one_of_the_copies(folder):
    plan = json.loads((folder / "rowwise data_parallel" / "restored.0").read_text())
    assert {each["sharding_type"] for each in of_tables(plan)} == {"table_wise"}


def test_a_checkpoint_loads_into_tables_that_lie_otherwise(folder):
    expected = [set(LAYOUTS[layout]) for layout in (*CHAIN, "table_wise")]
    assert torch.load(folder / "chain.result")["types"] == expected
    expect_same(folder, "chain", "adagrad table_wise")


@pytest.mark.parametrize("layout", ERRORS)
def test_what_cannot_be_is_an_error_that_says_what_to_pin(folder, layout):
    for rank in range(2):
        assert re.search(ERRORS[layout], (folder / f"{layout}.{rank}").read_text())


GRID: dict[str, Any] = {
    "train_config__global_embedding_constraints__sharding_types": ["grid_shard"]
}


@pytest.mark.usefixtures("one_rank")
def test_no_plan_fits_grid_shard_on_a_cpu(tmp_path):
    write_dataset(tmp_path / "train", click_table(20))
    told = "embedding constraints: no sharding plan fits: No available sharding type"
    with pytest.raises(ConfigError, match=told):
        trainer_here(tmp_path, "grid", **GRID)


def test_the_planner_has_grid_shard_for_pooled_tables_on_gpus_of_two_machines():
    config = two_task_config(**GRID)
    check_config(config)
    tables = build_model(config, parse_tasks(config)).tables
    types = list(config.train_config.global_embedding_constraints.sharding_types)
    names = [f"{name}_emb" for name in ("user_id", "item_id", "city", "tags")]
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=4, local_world_size=2, compute_device="cuda"),
        constraints={name: ParameterConstraints(sharding_types=types) for name in names},
    )
    sharders: list[Any] = [EmbeddingBagCollectionSharder()]
    plan: Any = planner.plan(tables, sharders).plan
    found = {name: each.sharding_type for part in plan.values() for name, each in part.items()}
    assert found == dict.fromkeys(names, "grid_shard")


@pytest.mark.usefixtures("one_rank")
def test_constraints_of_one_feature_hold_for_the_table_that_others_share(tmp_path):
    write_dataset(tmp_path / "train", click_table(20))
    edits: dict[str, Any] = {}
    for feature in range(2):
        edits[f"feature_configs[{feature}]__id_feature__embedding_name"] = "shared"
        edits[f"feature_configs[{feature}]__id_feature__num_buckets"] = 30
    types = "feature_configs[{}]__id_feature__embedding_constraints__sharding_types"
    for feature in range(2):
        chosen: dict[str, Any] = {types.format(feature): ["table_wise"]}
        trainer = trainer_here(tmp_path, f"model{feature}", **edits, **chosen)
        plan = json.loads(describe_sharding(trainer.model))
        assert plan["pooled"]["shared"]["sharding_type"] == "table_wise"
        assert plan["pooled"]["city_emb"]["sharding_type"] == "data_parallel"  # it is small
    both: dict[str, Any] = {types.format(0): ["table_wise"], types.format(1): ["row_wise"]}
    told = "`user_id` and `item_id` share embedding_name `shared`, so their embedding_constraints"
    with pytest.raises(ConfigError, match=told):
        trainer_here(tmp_path, "both", **edits, **both)
