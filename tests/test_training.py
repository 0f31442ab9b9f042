"""`torchrun launch/train.py` as real processes: two gloo ranks, resume, world sizes, errors."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from preprocessing.dataset_format import MANIFEST_NAME
from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset
from trainer.checkpoints.checkpoint import list_checkpoints

ROOT = Path(__file__).parent.parent
STOP_AT = 10  # a logged step of the first epoch: resuming crosses the edge of an epoch


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("training")
    write_dataset(path / "train", click_table(150, seed=1))
    write_dataset(path / "eval", click_table(60, seed=1))
    (path / "pipeline.config").write_text(TWO_TASKS)
    return path


def train(
    folder: Path,
    model: str,
    ranks: int = 2,
    *flags: str,
    data: str = "train",
    script: str = "launch/train.py",
    **edits: object,
) -> subprocess.CompletedProcess[str]:
    """Run the trainer to its end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}"]
    command = [*launcher, "--standalone"] if ranks > 1 else [sys.executable]
    command += [
        script,
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
    assert page.count("<svg") > 8
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
    assert [e["losses"] for e in resumed["history"]] == [e["losses"] for e in whole["history"]]


def test_resume_is_exact_with_dropout_batch_norm_and_a_scaler_at_any_step(folder):
    edits = {
        "model_config__dbmtl__bottom_mlp__dropout_ratio": [0.3],
        "model_config__dbmtl__bottom_mlp__use_bn": True,
        "train_config__seed": 2**64 - 1,
        "train_config__grad_scaler": {"growth_interval": 4},
    }
    done = train(folder, "noisy", **edits)
    assert done.returncode == 0, done.stderr
    done = train(folder, "noisy_stopped", **edits, train_config__num_steps=8)
    assert done.returncode == 0, done.stderr
    done = train(folder, "noisy_stopped", 2, "--continue_train", **edits)
    assert done.returncode == 0, done.stderr
    whole, resumed = report(folder, "noisy"), report(folder, "noisy_stopped")
    assert resumed["metrics"] == whole["metrics"]
    assert [e["step"] for e in resumed["history"]] == [e["step"] for e in whole["history"]]
    assert resumed["history"][-1]["losses"] == whole["history"][-1]["losses"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_resume_on_other_ranks_follows_the_same_global_batches(folder, whole, stopped, ranks):
    model = f"resumed-on-{ranks}"
    shutil.copytree(stopped, folder / model)
    done = train(folder, model, ranks, "--continue_train")
    assert done.returncode == 0, done.stderr
    other = report(folder, model)
    assert other["global_step"] == whole["global_step"]
    for mine, theirs in zip(other["history"], whole["history"], strict=True):
        assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-3)
    for task, metrics in whole["metrics"].items():
        assert other["metrics"][task] == pytest.approx(metrics, rel=1e-3)


def test_changed_data_can_start_a_fresh_epoch(folder, stopped):
    shutil.copytree(stopped, folder / "next_day")
    write_dataset(folder / "day_2", click_table(80, seed=2))
    flags = ["--continue_train", "--on_changed_data=fresh_epoch"]
    done = train(folder, "next_day", 2, *flags, data="day_2", train_config__num_epochs=1)
    assert done.returncode == 0, done.stderr
    history = report(folder, "next_day")["history"]
    assert [entry["step"] for entry in history][:2] == [STOP_AT // 2, STOP_AT]
    fresh = train(folder, "day_2_alone", 2, data="day_2", train_config__num_epochs=1)
    assert fresh.returncode == 0, fresh.stderr
    steps = report(folder, "day_2_alone")["global_step"]
    assert report(folder, "next_day")["global_step"] == STOP_AT + steps


def test_days_train_as_one_dataset(folder):
    for day in (1, 2):
        write_dataset(folder / f"days/{day}", click_table(40, seed=day))
    done = train(folder, "days_model", 2, data="days/*", train_config__num_steps=1)
    assert done.returncode == 0, done.stderr
    rows = sum(click_table(40, seed=day).num_rows for day in (1, 2))
    assert report(folder, "days_model")["train_rows"] == rows


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
    assert "start an epoch on this one with --on_changed_data=fresh_epoch" in done.stderr
    done = train(folder, "stopped", 1, "--continue_train", data_config__batch_size=50)
    assert "batch_size must be as in the checkpoint, 48, but is: 50" in done.stderr
    done = train(folder, "stopped", 1, "--continue_train", data_config__shuffle=False)
    assert "shuffle must be as in the checkpoint, True, but is: False" in done.stderr
    wider: dict[str, Any] = {"feature_configs[0]__id_feature__embedding_dim": 16}
    done = train(folder, "stopped", 1, "--continue_train", data="train", **wider)
    assert "does not fit the model of the config" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluation_data_may_have_fewer_sessions_than_ranks(folder):
    write_dataset(folder / "one", click_table(150, seed=1).slice(0, 1), num_files=1)
    flags = ["--eval_input_path", str(folder / "one")]
    done = train(folder, "one_eval", 2, *flags, train_config__num_steps=1)
    assert done.returncode == 0, done.stderr
    assert report(folder, "one_eval")["metrics"]["ctr"]["rows"] == 1
    assert report(folder, "one_eval")["metrics"]["ctr"]["auc"] is None  # one class: not defined


def test_regression_and_three_classes_train_and_report(folder):
    towers = "model_config__dbmtl__task_towers"
    done = train(
        folder,
        "kinds",
        1,
        data_config__label_fields=["stay", "user_id", "click"],
        train_config__num_epochs=6,
        **{
            f"{towers}[0]__num_class": 1,
            f"{towers}[0]__label_name": "stay",
            f"{towers}[0]__losses[0]__l2_loss": {},
            f"{towers}[0]__metrics": [],
            f"{towers}[1]__num_class": 20,
            f"{towers}[1]__label_name": "user_id",
            f"{towers}[1]__losses[0]__softmax_cross_entropy": {},
            f"{towers}[1]__metrics": [],
        },
    )
    assert done.returncode == 0, done.stderr
    metrics = report(folder, "kinds")["metrics"]
    assert set(metrics["ctr"]) == {"l2_loss", "mse", "mae", "rows"}
    assert metrics["ctr"]["mse"] == pytest.approx(metrics["ctr"]["l2_loss"], rel=1e-5)
    assert metrics["cvr"]["softmax_cross_entropy"] < 2.6  # ln 20 = 3.0 without learning
    assert metrics["cvr"]["logloss"] == pytest.approx(metrics["cvr"]["softmax_cross_entropy"])
    assert metrics["cvr"]["accuracy"] > 0.05


def test_ranks_without_a_session_train_along(folder):
    write_dataset(folder / "single", click_table(150, seed=1).slice(0, 1), num_files=1)
    alone, two = (train(folder, f"single-{n}", n, data="single") for n in (1, 2))
    assert (alone.returncode, two.returncode) == (0, 0), alone.stderr + two.stderr
    for task, metrics in report(folder, "single-1")["metrics"].items():
        assert report(folder, "single-2")["metrics"][task] == pytest.approx(metrics, rel=1e-4)


def test_a_fault_of_one_rank_alone_is_told_too(folder):
    """Rank 1 sees another train_input_path, as on a host where a folder is not mounted."""
    script = """
import os, sys
from launch.train import main
if os.environ["RANK"] == "1":
    sys.argv += ["--train_input_path", "not_mounted"]
sys.exit(main())
"""
    (folder / "one_sided.py").write_text(script)
    done = train(folder, "one_sided", 2, script=str(folder / "one_sided.py"))
    assert done.returncode != 0
    assert "error on rank 1: dataset must be a folder, but there is none at" in done.stderr


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
