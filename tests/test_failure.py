"""A rank that fails to read ends the job: all ranks, with its error, within seconds."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
WORLD_SIZE = 3
MOST_SECONDS = 15  # from the failure to the last rank's end, on a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("failure")
    write_dataset(path / "good", click_table(400, seed=1), num_files=4)
    (path / "pipeline.config").write_text(TWO_TASKS)
    return path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(folder: Path, data_of_rank: list[Path], model: str) -> list[subprocess.Popen[str]]:
    """The ranks of one job, without torchrun, which would end them itself."""
    port = str(free_port())
    ranks = []
    for rank, data in enumerate(data_of_rank):
        environment = {
            **os.environ,
            **{"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(data_of_rank))},
        }
        edits = {"train_config.num_epochs": 1000, "train_config.save_checkpoints_steps": 0}
        command = [sys.executable, "launch/train.py", "--edit_config_json", json.dumps(edits)]
        command += ["--pipeline_config_path", str(folder / "pipeline.config")]
        command += ["--train_input_path", str(data), "--model_dir", str(folder / model)]
        ranks.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return ranks


def test_sigterm_ends_a_rank_that_waits_for_others(folder):
    """In C++, where Python's own signal handlers do not run."""
    first, other = start(folder, [folder / "good"] * 2, "waiting")
    other.kill()
    other.communicate()
    status = Path(f"/proc/{first.pid}/status")
    while not int(re.findall(r"SigCgt:\s+(\w+)", status.read_text())[0], 16) >> 14 & 1:
        assert first.poll() is None
        time.sleep(0.1)
    time.sleep(1)  # now it is in the rendezvous
    first.terminate()
    said, _ = first.communicate(timeout=MOST_SECONDS)
    assert first.returncode == 0
    assert "stopped by SIGTERM before training began; nothing was trained" in said


def ends(ranks: list[subprocess.Popen[str]]) -> tuple[list[str], float]:
    """What each rank said, and the seconds between the end of the first and of the last."""
    while not any(rank.poll() is not None for rank in ranks):
        time.sleep(0.1)
    began = time.monotonic()
    try:
        said = [rank.communicate(timeout=60)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return said, time.monotonic() - began


@pytest.mark.parametrize("fault", ["corrupt", "gone"])
def test_a_file_that_one_rank_cannot_read_ends_all_ranks_with_its_error(folder, fault):
    """As on a host with a bad disk: rank 1 has its own copy, whose files fail while it trains."""
    broken = folder / f"{fault}-copy"
    shutil.copytree(folder / "good", broken)
    if fault == "corrupt":
        for part in broken.glob("part-*.parquet"):
            content = bytearray(part.read_bytes())
            content[4:3000] = b"\xff" * 2996  # the first row group; the footer stays whole
            part.write_bytes(content)
    ranks = start(folder, [folder / "good", broken, folder / "good"], fault)
    if fault == "gone":
        assert ranks[0].stdout is not None
        for line in ranks[0].stdout:
            if line.startswith("step"):
                break
        for part in broken.glob("part-*.parquet"):
            part.unlink()
    said, seconds = ends(ranks)
    assert [rank.returncode for rank in ranks] == [1] * WORLD_SIZE, said
    assert seconds < MOST_SECONDS
    assert "error on rank 1: " in said[1]
    for other in (0, 2):
        assert f"rank {other} ends, as rank 1 failed: " in said[other], said
    for text in said:
        assert f"{broken}/part-0000" in text
        assert "cannot be read" in text
        assert "Traceback" not in text


def test_a_rank_that_is_killed_ends_the_others_of_its_store(folder):
    """Rank 0 keeps the store: the others learn of its end from that."""
    ranks = start(folder, [folder / "good"] * WORLD_SIZE, "killed")
    assert ranks[0].stdout is not None
    for line in ranks[0].stdout:
        if line.startswith("step"):
            break
    ranks[0].kill()
    said, seconds = ends(ranks)
    assert all(rank.returncode for rank in ranks), said
    assert seconds < MOST_SECONDS
