"""The README's commands run: those of the quick start as they stand, on small data."""

import json
import os
import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.examples.scripts import load
from tests.test_docs import code_blocks, commands, inline_commands
from trainer.serving import load_scorer

ROOT = Path(__file__).resolve().parents[1]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
QUICK_START = ROOT / "docs" / "quick_start.md"
# What the quick start does not run: where else each runs, or why it cannot run in CI.
ELSEWHERE = {
    "make demo": "tests/examples/test_runs.py",
    "make test": "CI itself",
    "make docs": "a part of `make test`; test_docs.py builds the site too",
    "make gpu-check": "needs a GPU, which CI lacks; its tests skip without one",
    # Needs a Docker engine, and packages from the network. tests/test_docker.py has its services,
    # docker/run_with_buildah.py runs them.
    "docker compose -f docker/compose.yaml run --rm evaluate": "needs a Docker engine",
}
RECORD = ROOT / "benchmarks" / "results" / "examples-cpu.json"


def words(command: tuple[str, str]) -> str:
    return " ".join(" ".join(command).split("#")[0].split())


def test_every_command_of_the_readme_runs_in_a_test():
    run = {words(command) for command in commands(QUICK_START, "bash")}
    left = {words(command) for command in commands(README) + inline_commands(README)} - run
    assert left == set(ELSEWHERE)


@pytest.mark.parametrize("command", [command for command in ELSEWHERE if command[:4] == "make"])
def test_make_knows_what_it_would_do(command):
    program, target = command.split()
    done = subprocess.run([program, "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ".venv/bin" in done.stdout


def test_both_readmes_have_the_same_code():
    assert code_blocks(README) == code_blocks(CHINESE)
    assert inline_commands(README) == inline_commands(CHINESE)


@pytest.mark.parametrize(
    ("page", "metrics"),
    [
        ("README.md", ("auc", "gauc", "gauc_unweighted", "gauc_coverage", "logloss", "pcoc")),
        ("examples/synthetic/README.md", ("auc", "gauc", "logloss", "pcoc")),
    ],
)
def test_the_demos_figures_are_those_recorded(page, metrics):
    tasks = json.loads(RECORD.read_text())["demo"]["jrc"]["metrics"]
    text = (ROOT / page).read_text()
    for task, found in tasks.items():
        (row,) = re.findall(rf"^\W*{task}\W+model\b(.*)$", text, re.MULTILINE)
        assert re.findall(r"[\d.]+", row) == [f"{found[name]:.4f}" for name in metrics]


@pytest.mark.slow
def test_the_quick_start_runs(tmp_path):
    for name in ("preprocessing", "trainer", "losses", "kernels", "launch", "examples", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    events, _ = load("synthetic/generate.py").generate(
        num_sessions=600, num_users=200, num_items=100, seed=3
    )
    (tmp_path / "raw").mkdir()
    pq.write_table(events, tmp_path / "raw" / "events.parquet")
    script = "set -e\n" + "".join(code_blocks(QUICK_START, "bash"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    held_out = ds.dataset(tmp_path / "data" / "clicks" / "eval").to_table()
    scores = ds.dataset(tmp_path / "data" / "scores").to_table()
    assert scores["item_id"].equals(held_out["item_id"])
    assert "probs1_click" in scores.column_names
    request = held_out.drop_columns(["click", "purchase"]).slice(0, 5)
    exported = load_scorer(tmp_path / "exported" / "mine").score(request)["probs1_click"]
    assert pa.array(exported).to_pylist() == pytest.approx(
        scores["probs1_click"][:5].to_pylist(), rel=1e-5
    )
