"""`trainable: false` on gloo ranks: fine-tuned tables that do not move, resume, table layouts."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.datasets import click_table, write_dataset
from tests.test_sequence_training import sequence_config, sequence_table
from tests.test_sharding_types import flat
from tests.training_here import all_tensors, one_rank, trainer_here
from trainer.config import ConfigError, edit_config, parse_config
from trainer.trainer import Trainer

assert one_rank  # a fixture that is imported to be used by name
STOP_AT, NUM_STEPS = 2, 4
FEATURE = "feature_configs[{}].id_feature."
FROZEN = {  # by what freezes them: how they lie in the second case
    FEATURE.format(0): "column_wise",  # user_id, wide enough to be cut in two
    FEATURE.format(1): "data_parallel",  # item_id
    FEATURE.format(6): "table_wise",  # candidate and clicks__item
    "feature_configs[5].sequence_feature.features[0].id_feature.": "table_wise",
}
MOVING = ("brands_emb", "city_emb", "clicks__tag_emb", "item_clicks_emb", "tags_emb")
TABLES = ("user_id_emb", "item_id_emb", "shared_items", "shared_items_again")
SCHEDULE = {"warmup_size": 2, "warmup_learning_rate": 0.05, "decay_size": 2}
COMMON = {
    FEATURE.format(0) + "embedding_dim": 256,
    "train_config.sparse_optimizer.exponential_decay_learning_rate": SCHEDULE,
}
CASES: dict[str, dict[str, Any]] = {
    "adagrad": {},
    "sgd": {
        "train_config.sparse_optimizer.sgd_optimizer": {"lr": 0.1},
        "train_config.grad_scaler": {"init_scale": 64},
        "train_config.pipeline_sparse_dist": True,
        "model_config.use_pareto_loss_weight": False,
        **{f"{f}embedding_constraints.sharding_types": [t] for f, t in FROZEN.items()},
    },
}
AGAIN = """sequence_groups { group_name: again embedding_name_suffix: "again"
                             feature_names: candidate feature_names: clicks__item }
           sequence_encoders { pooling_encoder { input: again } }"""


def train(folder: Path, model: str, case: str, num_steps: int, tunes: str = "") -> None:
    """Train, from the newest checkpoint on if there is one; frozen where it `tunes` another."""
    edits = {**COMMON, **CASES[case], "train_config.num_steps": num_steps}
    if tunes:
        edits["train_config.fine_tune_checkpoint"] = str(folder / tunes)
        edits |= {f"{feature}trainable": False for feature in FROZEN}
    config = sequence_config(folder, model)
    groups = config.model_config.feature_groups
    groups[0].sequence_groups[0].group_name = "clicks"
    for encoder in groups[0].sequence_encoders:
        getattr(encoder, encoder.WhichOneof("seq_module") or "").input = "clicks"
    other = parse_config(f"model_config {{ feature_groups {{ {AGAIN} }} }}")
    groups[0].MergeFrom(other.model_config.feature_groups[0])
    edit_config(config, edits)
    trainer = Trainer(config, torch.device("cpu"), continue_train=True)
    trainer.train()
    rates: list[Any] = [None] * dist.get_world_size()
    mine = {group["lr"] for group in trainer.optimizer.fused.param_groups}
    dist.all_gather_object(rates, mine)
    path = trainer.save()
    trainer.checkpoints.close()
    if dist.get_rank() == 0:
        losses = [asdict(entry)["losses"] for entry in trainer.recorder.history]
        torch.save({"losses": losses, "rates": set().union(*rates)}, folder / f"{model}.result")
        dcp_to_torch_save(path, folder / f"{model}.tensors")
    dist.barrier()


def work(rank: int, folder: str, world: int) -> None:
    """Per case a run of all tables, and one that goes on from it with some frozen, and stops."""
    torch.set_num_threads(1)
    path = Path(folder)
    store = dist.FileStore(str(path / f"store{world}"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    for case in CASES:
        if world == 1:
            train(path, f"{case} alone", case, NUM_STEPS, tunes=f"{case} all")
            continue
        train(path, f"{case} all", case, STOP_AT)
        train(path, f"{case} tuned", case, NUM_STEPS, tunes=f"{case} all")
        train(path, f"{case} stopped", case, STOP_AT, tunes=f"{case} all")
        train(path, f"{case} stopped", case, NUM_STEPS, tunes=f"{case} all")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("frozen")
    write_dataset(path / "data", sequence_table())
    for world in (2, 1):
        mp.spawn(work, args=(str(path), world), nprocs=world)
    return path


def tensors(folder: Path, model: str) -> dict[str, torch.Tensor]:
    return flat(torch.load(folder / f"{model}.tensors", weights_only=False))


@pytest.mark.parametrize("run", ["tuned", "alone"])
@pytest.mark.parametrize("case", CASES)
def test_frozen_tables_stand_still_and_others_move(folder, case, run):
    before, after = tensors(folder, f"{case} all"), tensors(folder, f"{case} {run}")
    kept, moved = [], []
    for name, value in after.items():
        if name.startswith("/model/") and re.search(r"\.embedding(_bag)?s\.", name):
            (kept if torch.equal(value, before[name]) else moved).append(name.split(".")[-2])
    assert (sorted(kept), sorted(moved)) == (sorted(TABLES), sorted(MOVING))
    states = [name for name in after if "/optimizer/" in name]
    assert not any(table in name for table in TABLES for name in states)


@pytest.mark.parametrize("case", CASES)
def test_training_with_frozen_tables_resumes_exactly(folder, case):
    whole, stopped = (tensors(folder, f"{case} {run}") for run in ("tuned", "stopped"))
    assert whole.keys() == stopped.keys()
    for name, value in whole.items():
        assert torch.equal(stopped[name], value), name
    results = [torch.load(folder / f"{case} {run}.result") for run in ("tuned", "stopped")]
    assert len(results[0]["losses"]) == NUM_STEPS
    assert results[0]["losses"] == results[1]["losses"]


@pytest.mark.parametrize("case", CASES)
def test_the_schedule_leaves_their_rate_at_zero(folder, case):
    rates = torch.load(folder / f"{case} tuned.result")["rates"]
    assert len(rates) == 2 and min(rates) == 0.0


USER = "feature_configs[0]__id_feature__trainable"


@pytest.mark.usefixtures("one_rank")
def test_tables_freeze_on_going_on_but_do_not_melt(tmp_path):
    write_dataset(tmp_path / "train", click_table(20))
    frozen: dict[str, Any] = {USER: False}
    for num_steps, edits in ((2, {}), (4, frozen)):
        trainer = trainer_here(tmp_path, "model", train_config__num_steps=num_steps, **edits)
        before = all_tensors(trainer)
        trainer.train_and_evaluate()
        after = all_tensors(trainer)
        for table, is_frozen in (("user_id_emb", num_steps == 4), ("item_id_emb", False)):
            name = f"model.tables.pooled.embedding_bags.{table}.weight"
            assert torch.equal(after[name], before[name]) == is_frozen
    with pytest.raises(ConfigError, match=r"it has no optimizer.parameters.*user_id_emb.momentum1"):
        trainer_here(tmp_path, "model", train_config__num_steps=6)


@pytest.mark.usefixtures("one_rank")
def test_task_weights_do_not_see_frozen_tables(tmp_path):
    write_dataset(tmp_path / "train", click_table(20))
    cases: list[tuple[dict[str, Any], list[int]]] = [({}, [24]), ({USER: False}, [8, 4, 4])]
    for edits, widths in cases:
        trainer = trainer_here(tmp_path, "model", **edits)
        objective: Any = trainer.model.module
        found = objective.model.tables(next(trainer.loader.batches()))
        assert [each.shape[1] for each in found.trained] == widths
