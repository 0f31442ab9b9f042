"""A loss that is not finite: seen before backward, its rows named, its batch left out if wished."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.datasets import click_table, write_dataset
from tests.training_here import all_tensors, one_rank, trainer_here
from trainer.checkpoints.checkpoint import find_damage, list_checkpoints
from trainer.faults.finite_state import nonfinite_names
from trainer.faults.nonfinite import NonFiniteGuard
from trainer.metrics.training import TrainMetrics
from trainer.protos.pipeline_pb2 import MeanSquaredError, TrainMetricConfig
from trainer.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_rank")
assert one_rank  # a fixture that is imported to be used by name
ITEM, ROWS = 29, [100, 101, 103]  # only these rows have this item, whose embedding is NaN
TABLE = "item_id_emb"
UNSHUFFLED: dict[str, Any] = {"data_config__shuffle": False, "train_config__num_steps": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("nonfinite")
    write_dataset(path / "train", table_with_a_rare_item())
    return path


def table_with_a_rare_item() -> pa.Table:
    """tests.datasets.click_table, with ITEM in ROWS alone."""
    table = click_table(150, seed=1)
    item = np.asarray(table["item_id"]) % ITEM
    item[ROWS] = ITEM
    return table.set_column(table.column_names.index("item_id"), "item_id", pa.array(item))


def poisoned(folder: Path, model: str, **edits: Any) -> Trainer:
    trainer = trainer_here(folder, model, **UNSHUFFLED, **edits)
    state = trainer.model.state_dict()
    weight = next(value for name, value in state.items() if TABLE in name)
    table = weight.local_shards()[0].tensor if hasattr(weight, "local_shards") else weight
    table[ITEM] = torch.nan
    return trainer


def finite_part(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All tensors, without the poisoned row."""
    found = all_tensors(trainer)
    return {name: value[:ITEM] if TABLE in name else value for name, value in found.items()}


def test_the_rows_are_named_and_nothing_has_moved(folder):
    trainer = poisoned(folder, "error")
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    file = folder / "train" / "part-00000.parquet"
    assert f"epoch 0, batch 2 (rank 0: {file} rows 100-101, 103)" in str(error.value)
    assert "train_config.skip_nonfinite_batches" in str(error.value)
    assert trainer.state.global_step == 2
    assert all(value.isfinite().all() for value in finite_part(trainer).values())


@pytest.mark.parametrize("use_bn", [False, True], ids=["plain", "batch_norm"])
def test_a_batch_left_out_is_as_if_it_had_not_been_there(folder, capsys, use_bn, monkeypatch):
    edits = {"model_config__dbmtl__bottom_mlp__use_bn": use_bn}
    edits |= {"train_config__log_step_count_steps": 3}
    skip = {"train_config__skip_nonfinite_batches": True}
    trainer = poisoned(folder, f"skipping{use_bn}", **edits, **skip)
    trainer.train()
    assert [entry.skipped_batches for entry in trainer.recorder.history] == [1, 0]
    assert "1 batches left out (loss not finite)" in capsys.readouterr().out
    assert all(np.isfinite(list(e.losses.values())).all() for e in trainer.recorder.history)

    reference = poisoned(folder, f"reference{use_bn}", **edits)
    outputs = []

    def without_the_batch(self: Trainer, batch: Any) -> Any:
        if batch.cursor.step != 2:
            outputs.append(train_step(self, batch))
        return outputs[-1]

    train_step = Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", without_the_batch)
    reference.train()
    found, expected = finite_part(trainer), finite_part(reference)
    assert not [name for name in expected if not torch.equal(found[name], expected[name])]
    assert all(value.isfinite().all() for value in found.values())


def masking_guard(trainer: Trainer, skip: bool) -> NonFiniteGuard:
    """The guard of CUDA, on the CPU."""
    return NonFiniteGuard(
        trainer.model,
        trainer.optimizer.parameters,
        trainer.optimizer.kernels,
        trainer.optimizer.replicated.params.values(),
        trainer.train_data,
        skip=skip,
        looks=False,
    )


@pytest.mark.parametrize("sharding_type", ["table_wise", "data_parallel"])
@pytest.mark.parametrize("skip", [False, True])
def test_masks_keep_the_tables_still_where_nobody_looks(folder, skip, sharding_type):
    types = {"train_config__global_embedding_constraints__sharding_types": [sharding_type]}
    trainer = poisoned(folder, f"masks{skip}{sharding_type}", **types)
    trainer.guard = masking_guard(trainer, skip)
    moved = []
    for batch in trainer.loader.batches():
        before = finite_part(trainer)
        trainer.train_step(batch)
        after = finite_part(trainer)
        tables = [name for name in after if "embedding_bags" in name]
        moved.append(any(not torch.equal(before[name], after[name]) for name in tables))
        assert all(after[name].isfinite().all() for name in tables)
        if batch.cursor.step == 2 and not skip:
            break
    assert moved[:3] == [True, True, False]
    if skip:
        assert all(moved[3:])
        assert all(value.isfinite().all() for value in finite_part(trainer).values())
        assert trainer.guard.look() == 1
        assert trainer.guard.look() == 0
    else:
        with pytest.raises(FloatingPointError, match=r"batch 2 \(rank 0: .*part-00000.parquet"):
            trainer.guard.look()


@pytest.mark.parametrize("looks", [True, False])
def test_a_batch_left_out_is_in_no_train_metric_nor_in_the_mean_of_its_group(folder, looks):
    """Batch 2 ends a group of three; by each guard it ends as a group of batches 0 and 1."""
    edits: dict[str, Any] = {
        "train_config__dense_optimizer__sgd_optimizer": {"lr": 0.1, "momentum": 0.0},
        # Tables move by a third of each batch's gradient in one run, by a half in the other.
        "train_config__sparse_optimizer__sgd_optimizer": {"lr": 0.0},
    }
    steps = "train_config__gradient_accumulation_steps"
    skip: dict[str, Any] = {"train_config__skip_nonfinite_batches": True}
    expected = poisoned(folder, f"two{looks}", **edits, **{steps: 2})
    found = poisoned(folder, f"three{looks}", **edits, **skip, **{steps: 3})
    before = all_tensors(found)
    metric = TrainMetricConfig(mean_squared_error=MeanSquaredError())
    for trainer in (expected, found):
        task = replace(trainer.tasks[0], train_metrics=(metric,))
        trainer.recorder.train_metrics = TrainMetrics([task])
    if not looks:
        found.guard = masking_guard(found, skip=True)
    for trainer, number in ((expected, 2), (found, 3)):
        batches = trainer.loader.batches()
        for _ in range(number):
            trainer.train_step(next(batches))
        batches.close()
    dense = {name: each for name, each in all_tensors(expected).items() if ".net." in name}
    for name, tensor in dense.items():
        torch.testing.assert_close(all_tensors(found)[name], tensor, rtol=1e-5, atol=1e-7)
    assert any((tensor - before[name]).abs().max() > 1e-3 for name, tensor in dense.items())
    values = [trainer.recorder.train_metrics.compute() for trainer in (found, expected)]
    assert values[0] == values[1] and len(values[0]) == 1


def test_masked_steps_are_those_of_a_guard_that_looks_under_pe_mtl_too(folder):
    """PE-MTL takes gradients before the loss is known: batch 2's flag must not mask batch 3's."""
    edits: dict[str, Any] = {
        "model_config__use_pareto_loss_weight": True,
        "train_config__dense_optimizer__sgd_optimizer": {"lr": 0.1, "momentum": 0.0},
        "train_config__skip_nonfinite_batches": True,
    }
    ends = []
    for name in ("looking", "masking"):
        trainer = poisoned(folder, name, **edits)
        if name == "masking":
            trainer.guard = masking_guard(trainer, skip=True)
        batches = trainer.loader.batches()
        weights = [trainer.train_step(next(batches)).pareto_weights for _ in range(4)]
        batches.close()
        ends.append(finite_part(trainer) | {"weights": weights[3]})
    torch.testing.assert_close(ends[1], ends[0])


# ------------------------------------------------------------------ a gradient that is not finite


def test_what_a_nan_gradient_has_moved_gets_into_no_checkpoint(folder):
    """The loss of step 8 is finite, its gradient is not; a checkpoint of it is due."""
    edits: dict[str, Any] = {
        "train_config__num_steps": 12,
        "train_config__save_checkpoints_steps": 4,
        "train_config__keep_checkpoint_max": 1,
    }
    trainer = trainer_here(folder, "gradient", **edits)
    name, parameter = next(
        (name, each) for name, each in trainer.optimizer.dense.params.items() if each.dim() == 2
    )
    parameter.register_hook(
        lambda gradient: gradient * (torch.nan if trainer.state.global_step == 7 else 1.0)
    )
    with pytest.raises(FloatingPointError) as error:
        trainer.train_and_evaluate()
    assert "after step 8 it is not: " in str(error.value)
    assert f"model.{name}" in str(error.value)
    assert f"optimizer.parameters.{name}.exp_avg" in str(error.value)
    assert "the newest is model.ckpt-4" in str(error.value)
    (kept,) = list_checkpoints(folder / "gradient")
    assert kept.name == "model.ckpt-4"
    assert find_damage(kept) is None
    resumed = trainer_here(folder, "gradient", **edits)
    resumed.train_and_evaluate()
    assert all(value.isfinite().all() for value in all_tensors(resumed).values())


def test_every_kind_of_tensor_is_looked_at_but_buffers_may_have_masks():
    mask = torch.full((3, 3), -torch.inf).triu(1)
    state: dict[str, Any] = {
        "model": {"mask": mask, "good": torch.ones(2), "none": torch.ones(0), "n": 3, "text": "x"},
        "ids": torch.tensor([torch.iinfo(torch.int64).max]),
    }
    assert nonfinite_names(state, {"model.mask"}) == []
    assert nonfinite_names(state, ()) == ["model.mask"]
    for value in (torch.nan, torch.inf, -torch.inf):
        for place in (0, 40, 99):
            for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
                bad = torch.randn(10, 10).to(dtype)
                bad.view(-1)[place] = value
                assert nonfinite_names({**state, "bad": bad}, {"model.mask"}) == ["bad"]
    mask[0, 0] = torch.nan
    assert nonfinite_names(state, {"model.mask"}) == ["model.mask"]
