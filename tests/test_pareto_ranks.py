"""PE-MTL under torchrun: two gloo ranks with different data weigh the tasks alike, and say so."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset
from tests.test_training import report, train

pytestmark = pytest.mark.slow

# Each rank prints the weights that it used in each step.
SCRIPT = """
import os, sys
from launch.train import main
from trainer.trainer import Trainer

forward = Trainer._forward
def loud_step(self, batch):
    loss, outputs = forward(self, batch)
    clicks = int(batch.labels["click"].sum())
    weights = " ".join(weight.hex() for weight in outputs.pareto_weights.tolist())
    line = f"rank {self.rank} clicks {clicks} weights {weights}\\n"
    os.write(1, line.encode())  # at once: both ranks write to one pipe
    return loss, outputs
Trainer._forward = loud_step
sys.exit(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pareto")
    write_dataset(path / "train", click_table(150, seed=1))
    write_dataset(path / "eval", click_table(20, seed=1))
    (path / "pipeline.config").write_text(TWO_TASKS)
    (path / "loud.py").write_text(SCRIPT)
    return path


@pytest.mark.parametrize("gradient", ["SHARED_PARAMETERS", "SHARED_REPRESENTATION"])
def test_ranks_with_different_data_print_identical_weights(folder, gradient):
    edits: dict[str, Any] = {
        "model_config__use_pareto_loss_weight": True,
        "model_config__pareto_gradient": gradient,
        "model_config__dbmtl__expert_mlp": {"hidden_units": [16]},
        "model_config__dbmtl__task_towers[1]__pareto_min_loss_weight": 0.1,
        "train_config__use_tensorboard": True,
        "train_config__num_epochs": 1,
    }
    done = train(folder, gradient, 2, script=str(folder / "loud.py"), **edits)
    assert done.returncode == 0, done.stderr
    printed = {
        rank: re.findall(rf"rank {rank} clicks (\d+) weights (\S+ \S+)", done.stdout)
        for rank in range(2)
    }
    steps = report(folder, gradient)["global_step"]
    assert len(printed[0]) == len(printed[1]) == steps > 8
    assert [weights for _, weights in printed[0]] == [weights for _, weights in printed[1]]
    assert [clicks for clicks, _ in printed[0]] != [clicks for clicks, _ in printed[1]]
    assert len({weights for _, weights in printed[0]}) > steps // 2  # not stuck at a bound

    history = report(folder, gradient)["history"]
    for entry in history:
        ctr, cvr = entry["pareto_weights"]["ctr"], entry["pareto_weights"]["cvr"]
        assert ctr + cvr == pytest.approx(1.0)
        assert cvr >= 0.1 - 1e-9
        assert f"ctr weight {ctr:.4f}  cvr weight {cvr:.4f}" in done.stdout
    assert next((folder / gradient / "tensorboard").iterdir()).stat().st_size > 0
