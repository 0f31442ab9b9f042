"""What a resumed run finds as it was: parameters that no step has moved, the next log entry."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.training_here import all_tensors, one_rank
from trainer import objective
from trainer.config import ConfigError
from trainer.optim.train_optimizer import NOT_MOVED
from trainer.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_rank")
assert one_rank  # a fixture that is imported to be used by name
NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, widths, config, tasks):
        super().__init__()
        width = sum(sum(each) for each in widths.values())
        self.used = nn.ModuleDict({task.name: nn.Linear(width, 2) for task in tasks})
        self.unused = nn.Linear(3, 3)

    def forward(self, groups):
        inputs = torch.cat(list(groups.values()), 1)
        return {name: layer(inputs) for name, layer in self.used.items()}, None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("state")
    write_dataset(path / "train", click_table(150, seed=1))
    (path / "net.py").write_text(NETWORK)
    return path


def run(
    folder: Path,
    model: str,
    num_steps: int,
    *,
    lost: tuple[int, ...] = (),
    network: str = "",
    **edits: Any,
) -> Trainer:
    """Train until a step, the loss of some batches, by their number, being NaN.

    network: a file with a network of its own for both tasks.
    """
    config = two_task_config(
        train_input_path=str(folder / "train"),
        model_dir=str(folder / model),
        data_config__num_workers=0,
        train_config__num_steps=num_steps,
        **edits,
    )
    if network:
        towers = [*config.model_config.dbmtl.task_towers]
        custom = config.model_config.custom
        custom.class_name, custom.path = "Net", str(folder / network)
        for tower in towers:
            mine = custom.task_towers.add(tower_name=tower.tower_name, label_name=tower.label_name)
            mine.num_class = 2
            mine.losses.add().softmax_cross_entropy.SetInParent()
    trainer = Trainer(config, torch.device("cpu"), continue_train=True)
    admit = trainer.guard.admit

    def admit_nan(loss: torch.Tensor, outputs: Any, batch: Any) -> Any:
        return admit(loss * torch.nan if batch.cursor.step in lost else loss, outputs, batch)

    trainer.guard.admit = admit_nan
    trainer.train_and_evaluate()
    return trainer


# ------------------------------------------------------------------ dense parameters not moved


UNMOVED: dict[str, dict[str, Any]] = {
    "a parameter that is not used": {"network": "net.py"},
    "gradients that overflow": {
        "train_config__mixed_precision": "FP16",
        "train_config__grad_scaler__init_scale": 2.0**30,
        "train_config__dense_optimizer__ema__decay": 0.5,
        # A fused one makes its state, and then stands still.
        "train_config__dense_optimizer__adam_optimizer": {"lr": 0.01, "fused": False},
    },
    "batches that are left out": {
        "train_config__skip_nonfinite_batches": True,
        "lost": (0, 1, 2),
    },
}


@pytest.mark.parametrize("case", UNMOVED)
def test_a_run_goes_on_whose_dense_parameters_have_no_state_so_far(folder, case):
    edits = UNMOVED[case]
    whole = run(folder, f"whole {case}", 40, **edits)
    early = run(folder, f"stopped {case}", 3, **edits)
    assert early.optimizer.state_dict()[NOT_MOVED]
    stopped = run(folder, f"stopped {case}", 40, **edits)
    found, expected = all_tensors(stopped), all_tensors(whole)
    assert found.keys() == expected.keys()
    assert not [name for name in expected if not torch.equal(found[name], expected[name])]
    have_state = {name.split("/")[0] for name in expected if "/" in name}
    dense = {name for name in whole.optimizer.dense.params if ".unused." not in name}
    assert dense <= have_state
    assert len(have_state & {"model.net.unused.weight"}) == 0


def test_state_that_another_optimizer_never_kept_is_an_error(folder):
    plain: dict[str, Any] = {
        "train_config__dense_optimizer__sgd_optimizer": {"lr": 0.1, "momentum": 0.0}
    }
    run(folder, "plain", 3, **plain)
    assert run(folder, "plain", 4, **plain).state.global_step == 4
    with pytest.raises(ConfigError, match=r"it has no optimizer\.parameters\..*exp_avg"):
        run(folder, "plain", 5)


# ------------------------------------------------------------------ the next log entry


def test_a_stop_between_two_log_entries_loses_neither_losses_nor_batches_left_out(folder):
    edits: dict[str, Any] = {
        "train_config__log_step_count_steps": 5,
        "train_config__skip_nonfinite_batches": True,
        "lost": (1, 6),
    }
    whole = run(folder, "whole", 10, **edits)
    for num_steps in (3, 4, 8):
        run(folder, "between", num_steps, **edits)
    stopped = run(folder, "between", 10, **edits)
    for found, expected in zip(stopped.recorder.history, whole.recorder.history, strict=True):
        assert found.losses == expected.losses
        assert found.skipped_batches == expected.skipped_batches == 1
    report = json.loads((folder / "between" / "report.json").read_text())
    assert report["skipped_batches"] == 2


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_sums_of_three_ranks_go_on_on_any_number(world, monkeypatch):
    state = [{"loss": [1.0, 2.0]}, {"loss": [10.0, 20.0]}, {"loss": [100.0, 200.0]}]
    found = []
    for rank in range(world):
        monkeypatch.setattr(objective, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(objective, "world_size", lambda: world)
        meter = objective.LossMeter()
        meter.load_state(state, torch.device("cpu"))
        (part,) = meter.state()
        found.append(part["loss"])
    assert np.sum(found, axis=0).tolist() == [111, 222]
    if world == 3:
        assert found == [each["loss"] for each in state]
