"""Training on one GPU: the real command, with the kernels, against the same run in eager torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="trains on an NVIDIA GPU"),
]


def train(folder: Path, model: str, kernels: str) -> dict:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", "--standalone"]
    command += ["launch/train.py", "--pipeline_config_path", str(folder / "pipeline.config")]
    command += ["--train_input_path", str(folder / "train")]
    command += ["--eval_input_path", str(folder / "eval"), "--model_dir", str(folder / model)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "SESSIONWISE_KERNELS": kernels}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / model / "report.json").read_text())


def test_kernels_train_like_eager_torch(tmp_path):
    write_dataset(tmp_path / "train", click_table(300, seed=1))
    write_dataset(tmp_path / "eval", click_table(60, seed=1))
    (tmp_path / "pipeline.config").write_text(TWO_TASKS)
    by_kernel, by_eager = train(tmp_path, "triton", "auto"), train(tmp_path, "eager", "eager")
    first, last = by_kernel["history"][0]["losses"], by_kernel["history"][-1]["losses"]
    assert sum(last.values()) < sum(first.values())
    for ours, theirs in zip(by_kernel["history"], by_eager["history"], strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-2)
