"""Training on one GPU: the real command, with the kernels, against the same run in eager torch.

How trainers behave on CUDA, in the test's own process, is in test_devices.py.
"""

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gpu")
    write_dataset(path / "train", click_table(300, seed=1))
    write_dataset(path / "eval", click_table(60, seed=1))
    (path / "pipeline.config").write_text(TWO_TASKS)
    return path


@pytest.fixture(scope="module")
def by_kernel(folder) -> dict:
    """The report of a run as it is by default on CUDA."""
    return train(folder, "triton", "auto")


def train(folder: Path, model: str, kernels: str, **edits: object) -> dict:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", "--standalone"]
    command += ["launch/train.py", "--pipeline_config_path", str(folder / "pipeline.config")]
    command += ["--train_input_path", str(folder / "train")]
    command += ["--eval_input_path", str(folder / "eval"), "--model_dir", str(folder / model)]
    command += [
        "--edit_config_json",
        json.dumps({k.replace("__", "."): v for k, v in edits.items()}),
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "SESSIONWISE_KERNELS": kernels}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / model / "report.json").read_text())


def test_kernels_train_like_eager_torch(folder, by_kernel):
    by_eager = train(folder, "eager", "eager")
    first, last = by_kernel["history"][0]["losses"], by_kernel["history"][-1]["losses"]
    assert sum(last.values()) < sum(first.values())
    for ours, theirs in zip(by_kernel["history"], by_eager["history"], strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-2)


def test_the_pipeline_trains_like_the_plain_loop(folder, by_kernel):
    plain = train(folder, "plain", "auto", train_config__pipeline_sparse_dist=False)
    for ours, theirs in zip(by_kernel["history"], plain["history"], strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-3)  # atomic additions


def test_tables_of_which_each_rank_has_a_copy_train_like_the_others(folder, by_kernel):
    types = {"train_config__global_embedding_constraints__sharding_types": ["data_parallel"]}
    copies = train(folder, "copies", "auto", **types)
    for ours, theirs in zip(by_kernel["history"], copies["history"], strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-3)
