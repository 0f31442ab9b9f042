"""Gradient accumulation: groups as a pure function, and its meaning in real training runs."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset
from tests.test_training import report, train
from trainer.accumulation import group_step, scale_to_mean
from trainer.checkpoints.checkpoint import list_checkpoints

ROWS = 6  # of each session: every global batch is full, so that batches weigh the same
SGD: dict[str, Any] = {
    "train_config__dense_optimizer__sgd_optimizer": {"lr": 0.1, "momentum": 0.0},
    # Fused tables move in each backward pass; here they stand still.
    "train_config__sparse_optimizer__sgd_optimizer": {"lr": 0.0},
    "data_config__shuffle": False,
}

# PE-MTL may run beside it; minima that leave nothing to choose weigh both runs alike.
PARETO: dict[str, Any] = {
    "model_config__use_pareto_loss_weight": True,
    "model_config__dbmtl__task_towers[0]__pareto_min_loss_weight": 0.5,
    "model_config__dbmtl__task_towers[1]__pareto_min_loss_weight": 0.5,
}


def cursor(step: int, num_steps: int) -> Any:
    """What a group needs to know of a batch's place in the plan."""
    after = (1, None) if step + 1 == num_steps else (0, None)
    return SimpleNamespace(epoch=0, step=step, after=lambda: after)


@given(num_steps=st.integers(1, 50), steps=st.integers(0, 9))
def test_groups_partition_an_epoch(num_steps, steps):
    places = [group_step(cursor(step, num_steps), steps) for step in range(num_steps)]
    assert places[0].is_first and places[-1].is_last
    assert [place.is_first for place in places[1:]] == [place.is_last for place in places[:-1]]
    sizes = [place.number + 1 for place in places if place.is_last]
    assert sum(sizes) == num_steps
    assert set(sizes[:-1]) <= {max(steps, 1)}
    assert sizes[-1] <= max(steps, 1)


def test_a_short_group_has_the_mean_of_its_batches():
    layer = torch.nn.Linear(3, 2)
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    last = group_step(cursor(4, 5), 3)  # 0 1 2 | 3 4
    assert (last.number, last.is_last) == (1, True)
    for batch in inputs:
        (layer(batch).square().mean() / last.steps).backward()
    scale_to_mean(layer.parameters(), last)
    expected = torch.autograd.grad(layer(inputs.flatten(0, 1)).square().mean(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, expected[0])


@pytest.mark.parametrize("left_out", [{1}, {0, 2}, {0, 1, 2}], ids=str)
def test_a_group_has_the_mean_of_the_batches_that_were_not_left_out(left_out):
    layer = torch.nn.Linear(3, 2)
    inputs = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0))
    places = [group_step(cursor(step, 3), 3) for step in range(3)]
    for step, batch in enumerate(inputs):
        loss = layer(batch).square().mean() / places[step].steps
        (loss * (step not in left_out)).backward()
    scale_to_mean(layer.parameters(), places[-1], torch.tensor(len(left_out)))
    kept = [layer(batch).square().mean() for n, batch in enumerate(inputs) if n not in left_out]
    expected = torch.zeros_like(layer.weight)
    if kept:
        (expected,) = torch.autograd.grad(torch.stack(kept).mean(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("accumulation")
    table = click_table(200, seed=2).slice(0, 160 * ROWS)
    session = pa.array(np.repeat(np.arange(160), ROWS))
    table = table.set_column(table.column_names.index("session_id"), "session_id", session)
    write_dataset(path / "train", table)
    write_dataset(path / "eval", table)
    (path / "pipeline.config").write_text(TWO_TASKS)
    return path


def parameters(model_dir: Path) -> dict[str, torch.Tensor]:
    """All parameters of the newest checkpoint."""
    checkpoint = list_checkpoints(model_dir)[-1]
    dcp_to_torch_save(checkpoint, model_dir / "whole.pt")
    return torch.load(model_dir / "whole.pt", weights_only=False)["model"]


def test_two_steps_are_one_step_of_the_double_batch(folder):
    runs = {"double": (16 * ROWS, 1), "accumulated": (8 * ROWS, 2), "half": (8 * ROWS, 1)}
    for name, (batch_size, steps) in runs.items():
        edits: dict[str, Any] = (
            SGD
            | PARETO
            | {
                "train_config__num_epochs": 1,
                "train_config__gradient_accumulation_steps": steps,
                "data_config__batch_size": batch_size,
            }
        )
        done = train(folder, name, 1, **edits)
        assert done.returncode == 0, done.stderr
    assert [report(folder, name)["global_step"] for name in runs] == [10, 20, 20]
    expected, found, plain = (parameters(folder / name) for name in runs)
    dense = [name for name in expected if ".net." in name]
    assert len(dense) == 12
    for name in dense:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert any((plain[name] - expected[name]).abs().max() > 1e-2 for name in dense)


def test_training_stops_and_saves_at_the_end_of_a_group_and_resumes_exactly(folder):
    edits: dict[str, Any] = SGD | {
        "train_config__gradient_accumulation_steps": 3,
        "train_config__save_checkpoints_steps": 4,
        "train_config__log_step_count_steps": 1,
        "data_config__batch_size": 8 * ROWS,
    }
    done = train(folder, "whole", 1, **edits)
    assert done.returncode == 0, done.stderr
    # 20 steps an epoch: groups end at 3, 6, ... 18, 20, 23 ... 38, 40.
    names = [path.name for path in list_checkpoints(folder / "whole")]
    steps = [6, 9, 12, 18, 20, 26, 29, 32, 38, 40]
    assert names == [f"model.ckpt-{step}" for step in steps]
    done = train(folder, "cut", 1, **edits, train_config__num_steps=7)
    assert done.returncode == 0, done.stderr
    assert report(folder, "cut")["global_step"] == 9
    shutil.copytree(folder / "cut", folder / "resumed")
    done = train(folder, "resumed", 1, "--continue_train", **edits)
    assert done.returncode == 0, done.stderr
    whole, resumed = report(folder, "whole"), report(folder, "resumed")
    assert resumed["metrics"] == whole["metrics"]
    assert [e["losses"] for e in resumed["history"]] == [e["losses"] for e in whole["history"]]
    assert json.dumps(resumed["global_step"]) == "40"
