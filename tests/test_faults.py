"""Real ranks under torchrun: killed, stopped, moved to other ranks; the end is always the same."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset
from tests.test_training import ROOT, report
from trainer.checkpoints.checkpoint import list_checkpoints

pytestmark = pytest.mark.slow

EPOCHS, SAVE_STEPS = 3, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faults")
    write_dataset(path / "train", click_table(150, seed=1))
    write_dataset(path / "eval", click_table(60, seed=1))
    (path / "pipeline.config").write_text(TWO_TASKS)
    return path


class Job:
    """A torchrun job, whose output can be followed.

    Args:
        faults: as tests/faulty_train.py reads them.
        step_seconds: that each step takes at least.
        launcher: what starts the ranks, and takes their number from RANKS; torchrun without it.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        *flags: str,
        ranks: int = 2,
        restarts: int = 0,
        faults: list[dict[str, Any]] | None = None,
        step_seconds: float = 0.0,
        data: str = "train",
        launcher: str = "",
        **edits: object,
    ) -> None:
        edits = {
            "train_config__num_epochs": EPOCHS,
            "train_config__save_checkpoints_steps": SAVE_STEPS,
            "train_config__log_step_count_steps": 1,
        } | edits
        edit_json = json.dumps({name.replace("__", "."): value for name, value in edits.items()})
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        torchrun += [f"--nproc_per_node={ranks}", f"--max-restarts={restarts}"]
        command = [
            *(["bash", launcher] if launcher else torchrun),
            "tests/faulty_train.py",
            *("--pipeline_config_path", str(folder / "pipeline.config")),
            *("--train_input_path", str(folder / data)),
            *("--model_dir", str(folder / model)),
            *("--edit_config_json", edit_json),
            *flags,
        ]
        environment = {
            **os.environ,
            **{"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            **{"FAULTS": json.dumps(faults or []), "STEP_SECONDS": str(step_seconds)},
            **{"RANKS": str(ranks), "MAX_RESTARTS": str(restarts)},
        }
        self.said = ""
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def follow(self, pattern: str) -> None:
        """Wait for a line that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if re.match(pattern, line):
                return
        raise AssertionError(f"no line matches {pattern!r}:\n{self.said}")

    def rank_process(self, rank: int) -> int:
        """The process id of a rank."""
        for environment in Path("/proc").glob("[0-9]*/environ"):
            pid = environment.parent.name
            try:
                is_child = f"PPid:\t{self.process.pid}\n" in Path(f"/proc/{pid}/status").read_text()
                if is_child and f"RANK={rank}" in environment.read_text().split("\0"):
                    return int(pid)
            except OSError:  # it has ended meanwhile
                continue
        raise AssertionError(f"no rank {rank}")

    def end(self) -> int:
        """Wait for it; returns torchrun's exit status."""
        rest, _ = self.process.communicate(timeout=240)
        self.said += rest
        return self.process.returncode


def tensors(model_dir: Path) -> dict[str, torch.Tensor]:
    """Model and optimizer state of the newest checkpoint, by name."""
    dcp_to_torch_save(list_checkpoints(model_dir)[-1], model_dir / "whole.pt")
    content = torch.load(model_dir / "whole.pt", weights_only=False)
    return dict(_leaves(content))


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        elif isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}/")


def assert_same_end(folder: Path, model: str, whole: dict[str, torch.Tensor]) -> None:
    """Bitwise the same tensors, and the same losses on the way."""
    found = tensors(folder / model)
    assert found.keys() == whole.keys()
    different = [name for name in whole if not torch.equal(found[name], whole[name])]
    assert not different
    losses = [entry["losses"] for entry in report(folder, model)["history"]]
    assert losses == [entry["losses"] for entry in report(folder, "whole")["history"]]


@pytest.fixture(scope="module")
def whole(folder) -> dict[str, torch.Tensor]:
    """All tensors at the end of an undisturbed run on two ranks."""
    job = Job(folder, "whole")
    assert job.end() == 0, job.said
    found = tensors(folder / "whole")
    assert len(found) > 30
    return found


def test_killed_ranks_end_with_the_weights_of_the_undisturbed_run(folder, whole):
    """Three kills in one job: at any moment, halfway through a checkpoint, and before its name."""
    faults = [
        {"attempt": 1, "rank": 1, "at": "write", "step": 24},
        {"attempt": 2, "rank": 0, "at": "rename", "step": 28},
    ]
    job = Job(folder, "killed", restarts=3, faults=faults, step_seconds=0.05)
    seed = random.randrange(2**32)
    rank, seconds = seed % 2, random.Random(seed).uniform(0, 0.9)
    print(f"seed {seed}: rank {rank} is killed after {seconds:.3f} s of training")
    job.follow("training on")
    time.sleep(seconds)  # 0 to about 18 of 40 steps
    os.kill(job.rank_process(rank), signal.SIGKILL)
    assert job.end() == 0, job.said
    continued = [int(step) for step in re.findall(r"model.ckpt-(\d+) \(step", job.said)]
    # The killer of attempt 1 leaves step 20 as the newest, that of attempt 2 step 24.
    assert continued[-2:] == [20, 24], job.said
    assert all(step < 20 and step % SAVE_STEPS == 0 for step in continued[:-2])
    assert_same_end(folder, "killed", whole)
    assert not list((folder / "killed").glob(".model*"))


def test_sigterm_saves_and_ends_all_ranks_and_the_job_goes_on_later(folder, whole):
    job = Job(folder, "stopped", step_seconds=0.05)
    job.follow("step +6")
    job.process.send_signal(signal.SIGTERM)  # as a cluster does; torchrun passes it on
    status = job.end()
    stopped = re.search(r"stopped by SIGTERM after step (\d+); checkpoint: (\S+);", job.said)
    assert stopped, job.said
    assert status == 1  # torchrun's own; see docs/checkpoints.md
    for rank in range(2):
        assert f"rank {rank} ends with status 0" in job.said
    assert Path(stopped[2]).name == f"model.ckpt-{stopped[1]}"
    assert 6 <= int(stopped[1]) < 20
    job = Job(folder, "stopped", "--continue_train", step_seconds=0.05)
    job.follow(rf"continuing from {re.escape(stopped[2])} ")
    job.follow("step +16")
    os.kill(job.rank_process(1), signal.SIGTERM)  # one rank alone: torchrun's status is theirs
    assert job.end() == 0, job.said
    assert "stopped by SIGTERM after step" in job.said
    job = Job(folder, "stopped", "--continue_train")
    assert job.end() == 0, job.said
    assert_same_end(folder, "stopped", whole)


def test_the_launcher_of_one_machine_ends_with_0_when_its_ranks_have_saved(folder):
    job = Job(folder, "launched", launcher="launch/one_node.sh", restarts=3, step_seconds=0.05)
    job.follow("step +6")
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == 0, job.said
    assert "stopped by SIGTERM after step" in job.said
    assert "Traceback" not in job.said
    assert [path.name for path in list_checkpoints(folder / "launched")][-1] in job.said


def test_a_kill_while_the_report_is_written_costs_a_restart_and_no_more(folder, whole):
    faults = [{"attempt": 0, "rank": 0, "at": "SIGKILL", "in": "write_report"}]
    job = Job(folder, "reported", restarts=1, faults=faults)
    assert job.end() == 0, job.said
    steps = report(folder, "whole")["global_step"]
    assert f"model.ckpt-{steps} (step {steps})" in job.said
    assert_same_end(folder, "reported", whole)
    assert not (folder / "reported" / ".may_restart").exists()


def test_a_kill_while_a_checkpoint_is_evaluated_costs_a_restart_and_no_more(folder, whole):
    faults = [{"attempt": 0, "rank": 1, "at": "SIGKILL", "in": "evaluate_dataset"}]
    flags = ["--eval_input_path", str(folder / "eval")]
    edits: dict[str, Any] = {"train_config__evaluate_checkpoints": True}
    job = Job(folder, "evaluated", *flags, restarts=1, faults=faults, **edits)
    assert job.end() == 0, job.said
    assert report(folder, "evaluated")["metrics"]["ctr"]["rows"] > 0
    assert_same_end(folder, "evaluated", whole)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("where", ["build_parallel", "evaluate_dataset"])
def test_sigterm_to_one_rank_outside_of_training_ends_all_in_good_order(folder, where, rank):
    faults = [{"attempt": 0, "rank": rank, "at": "SIGTERM", "in": where}]
    model, flags = f"{where}-{rank}", ["--eval_input_path", str(folder / "eval")]
    job = Job(folder, model, *flags, faults=faults, train_config__num_steps=5)
    assert job.end() == 0, job.said
    assert job.said.count("stopped by SIGTERM") == 1
    assert not (folder / model / "report.json").exists()
    if where == "build_parallel":
        assert "before training began; nothing was trained" in job.said
        assert not (folder / model).exists()
    else:
        checkpoint = folder / model / "model.ckpt-5"
        assert f"after the last step; checkpoint: {checkpoint}; evaluate it" in job.said
        job = Job(folder, model, "--continue_train", *flags, train_config__num_steps=5)
        assert job.end() == 0, job.said
        assert report(folder, model)["metrics"]["ctr"]["rows"] > 0


def test_two_then_one_then_four_ranks_follow_the_same_loss_curve(folder, whole):
    for ranks, steps in ((2, 13), (1, 26), (4, 1000)):
        flags = ["--continue_train"] if ranks != 2 else []
        job = Job(folder, "moved", *flags, ranks=ranks, train_config__num_steps=steps)
        assert job.end() == 0, job.said
    mine, theirs = (report(folder, model)["history"] for model in ("moved", "whole"))
    assert len(mine) == len(theirs) > 30
    for entry, expected in zip(mine, theirs, strict=True):
        assert entry["losses"] == pytest.approx(expected["losses"], rel=1e-5), entry["step"]


def test_a_restart_on_a_disk_still_full_trains_on_and_tells_so(folder):
    """What the first attempt wrote is not written again; a new model_dir needs room."""
    full = {"at": "disk_full", "step": 0, "until": 1000, "rank": 0}
    faults = [full | {"attempt": 1}, full | {"attempt": 0, "step": 8}]
    edits: dict[str, Any] = {"step_seconds": 0.3, "train_config__num_steps": 12}
    job = Job(folder, "crowded", restarts=1, faults=faults, **edits)
    assert job.end() == 1, job.said
    model = folder / "crowded"
    _, _, again = job.said.partition(f"continuing from {model}/model.ckpt-4 (step 4)")
    assert f"warning: {model}/model.ckpt-8 could not be written: " in again, job.said
    last = re.escape(f"{model}/model.ckpt-12")
    assert re.search(rf"error on rank \d: {last} could not be written: ", again), job.said
    job = Job(folder, "no_room", ranks=1, faults=[full | {"attempt": 0}])
    assert job.end() == 1
    path = f"{folder}/no_room/pipeline.config"
    assert re.search(rf"error on rank 0: .*(too large|No space).*'{re.escape(path)}'", job.said)
    assert [each.name for each in (folder / "no_room").iterdir()] == [".lock"]


NAN = [{"attempt": 0, "rank": 1, "at": "nan", "step": 7, "until": 8}]


def test_a_nan_on_one_rank_ends_both_with_its_rows(folder):
    job = Job(folder, "nan", faults=NAN)
    assert job.end() == 1
    message = (
        rf"the loss must be finite, but is not in epoch 0, batch 6 "
        rf"\(rank 1: {re.escape(str(folder))}/train/part-\d+.parquet rows \d+"
    )
    assert re.search(r"error on rank \d: " + message, job.said), job.said
    assert "rank 0: /" not in job.said  # its rows are in order


def test_a_nan_on_one_rank_is_left_out_by_both(folder, whole):
    job = Job(folder, "left_out", faults=NAN, train_config__skip_nonfinite_batches=True)
    assert job.end() == 0, job.said
    assert "1 batches left out" in job.said
    done = report(folder, "left_out")
    assert done["skipped_batches"] == 1
    theirs = report(folder, "whole")["history"]
    before = [entry["losses"] for entry in done["history"][:6]]
    assert before == [entry["losses"] for entry in theirs[:6]]
    assert done["history"][7]["losses"] != theirs[7]["losses"]
    assert all(tensor.isfinite().all() for tensor in tensors(folder / "left_out").values())
