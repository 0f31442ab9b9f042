"""A model_dir is of one job at a time; the lock goes with the process that has it."""

import errno
import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset
from tests.test_training import ROOT, train
from tests.training_here import one_rank
from trainer.checkpoints.lock import LOCK_FILE, ModelDirLock
from trainer.config import ConfigError

assert one_rank  # a fixture that is imported to be used by name
HOLDER = """
import sys, time
import torch.distributed as dist
from trainer.checkpoints.lock import ModelDirLock
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
ModelDirLock(sys.argv[1]).take(make_folder=True)
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock of tmp_path/model."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "model")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_a_second_job_is_told_and_deletes_nothing(tmp_path, holder):
    write_dataset(tmp_path / "train", click_table(20, seed=1))
    write_dataset(tmp_path / "eval", click_table(20, seed=1))
    (tmp_path / "pipeline.config").write_text(TWO_TASKS)
    written = tmp_path / "model" / ".model.ckpt-8.tmp"  # by the first job, which is about to end
    written.mkdir()
    done = train(tmp_path, "model", 1)
    assert done.returncode == 1
    assert f"another one trains in {tmp_path}/model (process {holder.pid} on " in done.stderr
    assert "wait for its end, or choose another model_dir" in done.stderr
    assert "Traceback" not in done.stderr
    assert written.exists()
    holder.kill()
    holder.wait()
    done = train(tmp_path, "model", 1, train_config__num_steps=1)
    assert done.returncode == 0, done.stderr
    assert not written.exists()


@pytest.mark.usefixtures("one_rank")
def test_a_lock_goes_with_its_process_and_is_waited_for(tmp_path, holder):
    lock = ModelDirLock(str(tmp_path / "model"))
    with pytest.raises(ConfigError, match=rf"model_dir must be of one .* delete .*/{LOCK_FILE}"):
        ModelDirLock(str(tmp_path / "model")).take(wait_seconds=0)
    subprocess.Popen(["sh", "-c", f"sleep 1; kill -{signal.SIGKILL:d} {holder.pid}"])
    began = time.monotonic()
    lock.take(wait_seconds=20)
    assert 0.5 < time.monotonic() - began < 10
    lock.take(wait_seconds=0)  # it has it


@pytest.mark.usefixtures("one_rank")
def test_without_locks_one_is_warned(tmp_path, monkeypatch, capsys):
    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    ModelDirLock(str(tmp_path)).take()
    said = capsys.readouterr().out
    assert f"warning: the file system of {tmp_path} has no locks (Operation not supp" in said


@pytest.mark.usefixtures("one_rank")
def test_a_folder_is_made_only_where_that_is_asked(tmp_path):
    lock = ModelDirLock(str(tmp_path / "a" / "model"))
    lock.take()
    assert not (tmp_path / "a").exists()
    lock.take(make_folder=True)
    assert (tmp_path / "a" / "model" / LOCK_FILE).exists()
    ModelDirLock("").take(make_folder=True)
    assert not Path(LOCK_FILE).exists()
