"""`torchrun launch/train.py` as real processes: two gloo ranks, resume, world sizes, errors."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from preprocessing.dataset_format import MANIFEST_NAME
from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset
from trainer.checkpoint import list_checkpoints

ROOT = Path(__file__).parent.parent
STOP_AT = 8  # within the first epoch: resuming crosses the edge of an epoch


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("training")
    write_dataset(path / "train", click_table(150, seed=1))
    write_dataset(path / "eval", click_table(60, seed=1))
    (path / "pipeline.config").write_text(TWO_TASKS)
    return path


def train(
    folder: Path, model: str, ranks: int = 2, *flags: str, data: str = "train", **edits: object
) -> subprocess.CompletedProcess[str]:
    """Run the trainer to its end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}"]
    command = [*launcher, "--standalone"] if ranks > 1 else [sys.executable]
    command += [
        "launch/train.py",
        *("--pipeline_config_path", str(folder / "pipeline.config")),
        *("--train_input_path", str(folder / data)),
        *("--eval_input_path", str(folder / "eval")),
        *("--model_dir", str(folder / model)),
        *("--edit_config_json", json.dumps({k.replace("__", "."): v for k, v in edits.items()})),
        *flags,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def report(folder: Path, model: str) -> dict:
    return json.loads((folder / model / "report.json").read_text())


@pytest.fixture(scope="module")
def whole(folder) -> dict:
    """The report of an undisturbed run on two ranks."""
    done = train(folder, "whole")
    assert done.returncode == 0, done.stderr
    return report(folder, "whole")


@pytest.fixture(scope="module")
def stopped(folder) -> Path:
    """A run on two ranks that ended early."""
    done = train(folder, "stopped", train_config__num_steps=STOP_AT)
    assert done.returncode == 0, done.stderr
    return folder / "stopped"


def test_two_ranks_train_and_report(folder, whole):
    assert whole["world_size"] == 2
    first, last = whole["history"][0]["losses"], whole["history"][-1]["losses"]
    assert last["ctr/jrc_loss"] < first["ctr/jrc_loss"]
    assert whole["metrics"]["ctr"]["gauc"] > 0.6
    assert whole["metrics"]["ctr"]["rows"] == click_table(60, seed=1).num_rows
    assert 0 < whole["metrics"]["cvr"]["gauc[user_id]"] < 1
    page = (folder / "whole" / "report.html").read_text()
    assert page.count("<img") == 2
    assert list_checkpoints(folder / "whole")[-1].name == f"model.ckpt-{whole['global_step']}"
    assert "jrc_loss" in (folder / "whole" / "pipeline.config").read_text()


def test_resume_equals_the_undisturbed_run_exactly(folder, whole, stopped):
    shutil.copytree(stopped, folder / "resumed")
    done = train(folder, "resumed", 2, "--continue_train")
    assert done.returncode == 0, done.stderr
    assert f"(step {STOP_AT})" in done.stdout
    resumed = report(folder, "resumed")
    assert resumed["global_step"] == whole["global_step"]
    assert resumed["metrics"] == whole["metrics"]
    rest = [entry["losses"] for entry in whole["history"] if entry["step"] > STOP_AT]
    assert [entry["losses"] for entry in resumed["history"]] == rest


def test_resume_on_one_rank_follows_the_same_global_batches(folder, whole, stopped):
    shutil.copytree(stopped, folder / "fewer")
    done = train(folder, "fewer", 1, "--continue_train")
    assert done.returncode == 0, done.stderr
    fewer = report(folder, "fewer")
    assert fewer["global_step"] == whole["global_step"]
    rest = [entry for entry in whole["history"] if entry["step"] > STOP_AT]
    for mine, theirs in zip(fewer["history"], rest, strict=True):
        assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-3)
    for task, metrics in whole["metrics"].items():
        assert fewer["metrics"][task] == pytest.approx(metrics, rel=1e-3)


def test_a_model_dir_with_checkpoints_is_not_mixed_up(folder, whole):
    done = train(folder, "whole", 1)
    assert done.returncode == 1
    assert "give --continue_train to go on from it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkpoint_does_not_continue_on_other_data_or_batches(folder, stopped):
    write_dataset(folder / "other", click_table(151, seed=1))
    done = train(folder, "stopped", 1, "--continue_train", data="other")
    assert done.returncode == 1
    assert "dataset_fingerprint must be as in the checkpoint" in done.stderr
    done = train(folder, "stopped", 1, "--continue_train", data_config__batch_size=50)
    assert "batch_size must be as in the checkpoint, 48, but is: 50" in done.stderr


def test_more_ranks_than_sessions_ends_with_a_clear_error(folder):
    write_dataset(folder / "single", click_table(150, seed=1).slice(0, 1), num_files=1)
    done = train(folder, "none", 2, data="single")
    assert done.returncode != 0
    assert "at least as many sessions as ranks, but got: 1 sessions for 2 ranks" in done.stderr


def test_a_rank_that_fails_ends_the_job_with_its_error(folder):
    table = click_table(150, seed=1)
    price = table["price"].to_pylist()
    price[-1] = float("nan")
    number = table.column_names.index("price")
    write_dataset(folder / "nan", table.set_column(number, "price", pa.array(price, pa.float32())))
    done = train(folder, "failed", 2, data="nan")
    assert done.returncode != 0
    assert "column `price` must be finite, but has 1 NaN" in done.stderr
    assert "error on rank" in done.stderr


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: (path / MANIFEST_NAME).unlink(), "no _manifest.json: unfinished"),
        (lambda path: shutil.rmtree(path), "dataset must be a folder, but there is none"),
    ],
)
def test_unfinished_and_missing_datasets_are_errors(folder, break_it, message):
    broken = folder / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(folder / "train", broken)
    break_it(broken)
    done = train(folder, "none", 1, data="broken")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "none").exists()
