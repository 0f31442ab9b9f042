"""The examples as a user runs them: configs that fit their samples, the demo end to end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.test_trivago import make_samples, raw_table
from trainer.checks.config import check_config
from trainer.config import load_config
from trainer.data.feature_config import used_features
from trainer.data.features import IdFeature
from trainer.protos.pipeline_pb2 import EasyRecConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "examples").glob("*/*.config"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_config_is_whole(path):
    check_config(load_config(path))


@pytest.mark.parametrize("loss", ["jrc", "bce"])
def test_trivago_configs_read_columns_that_the_samples_have(loss, tmp_path):
    samples, _ = make_samples.build_samples(raw_table())
    config = load_config(ROOT / "examples" / "trivago" / f"{loss}.config")
    vocabulary = {"platform_id", "device_id", "sort_order_id", "last_action", "last_touch_action"}
    columns = {f.column for f in used_features(config)} - vocabulary
    assert columns <= set(samples.columns), columns - set(samples.columns)
    for feature in used_features(config):
        if isinstance(feature, IdFeature) and feature.column in samples.columns:
            assert samples[feature.column].between(0, feature.num_embeddings - 1).all()


def test_the_two_trivago_configs_differ_in_their_loss_alone():
    jrc, bce = (load_config(ROOT / "examples" / "trivago" / f"{n}.config") for n in ("jrc", "bce"))
    for config in (jrc, bce):
        config.model_config.ClearField("losses")
        config.model_config.ClearField("num_class")
    assert EasyRecConfig.SerializeToString(jrc) == EasyRecConfig.SerializeToString(bce)


STAND_INS = {
    "python": "",
    "spark-submit": """
while [[ $1 != --output-path ]]; do shift; done
[[ $2 != */${FAIL_AT:-nothing} ]] || exit 1
mkdir -p "$2" && touch "$2/_manifest.json"
""",
    "torchrun": 'mkdir -p "$MODEL_DIR/model.ckpt-1"',
}


@pytest.fixture
def run_script(tmp_path):
    """Run an example's script, its programs replaced: (result, whether it made data)."""
    (tmp_path / "bin").mkdir()
    for name, body in STAND_INS.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/usr/bin/env bash\necho "$*" >> "$CALLS"\n{body}')
        program.chmod(0o755)
    folders = {"DATA": "data", "MODEL_DIR": "run", "RUNS": "runs", "CALLS": "calls"}
    fixed = {name: str(tmp_path / path) for name, path in folders.items()}
    fixed["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def run(*command, **knobs):
        (tmp_path / "calls").write_text("")
        result = subprocess.run(
            ["bash", *command], cwd=ROOT, env=fixed | knobs, capture_output=True, text=True
        )
        return result, "generate.py" in (tmp_path / "calls").read_text()

    return run


DEMO = "examples/synthetic/run.sh"


def test_the_demo_makes_its_data_anew_where_other_data_is_asked_for(run_script, tmp_path):
    knobs = [{}, {}, {"SESSIONS": "999"}, {"SESSIONS": "999"}, {}, {"AGAIN": "1"}, {}]
    made = [run_script(DEMO, **each)[1] for each in knobs]
    assert made == [True, False, True, False, True, True, False]
    (tmp_path / "data" / "eval_sorted" / "_manifest.json").unlink()
    result, made = run_script(DEMO)
    assert made and (result.returncode, result.stderr) == (0, "")


def test_an_interrupted_demo_leaves_no_old_half(run_script, tmp_path):
    run_script(DEMO)
    result, _ = run_script(DEMO, SESSIONS="999", FAIL_AT="eval_sorted")
    assert result.returncode != 0
    manifests = (tmp_path / "data").glob("*/_manifest.json")
    assert [path.parent.name for path in manifests] == ["train_sorted"]
    for knobs in ({"SESSIONS": "999", "FAIL_AT": "eval_sorted"}, {"FAIL_AT": "eval_sorted"}):
        assert run_script(DEMO, **knobs)[1]


@pytest.mark.parametrize(
    "command", [[DEMO], ["examples/trivago/run.sh", "raw.parquet"]], ids=["demo", "trivago"]
)
def test_a_folder_that_no_run_wrote_is_not_deleted(run_script, tmp_path, command):
    folder = tmp_path / "runs" / "jrc"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    result, _ = run_script(*command, MODEL_DIR=str(folder))
    assert result.returncode == 1
    assert f"{folder} must be new or the folder of an earlier run" in result.stderr
    assert (tmp_path / "calls").read_text() == ""
    assert (folder / "notes.txt").exists()


@pytest.mark.slow
def test_the_demo_runs_from_raw_events_to_its_table(tmp_path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATA": str(tmp_path / "data"),
        "MODEL_DIR": str(tmp_path / "run"),
        "SESSIONS": "4000",
    }
    command = ["bash", "examples/synthetic/run.sh"]
    first = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert first.returncode == 0, first.stdout + first.stderr
    rows = re.findall(r"^(click|purchase) +(model|truth)[^0-9]*([\d. ]+)$", first.stdout, re.M)
    assert [row[:2] for row in rows] == [
        ("click", "model"),
        ("click", "truth"),
        ("purchase", "model"),
        ("purchase", "truth"),
    ]
    gauc = {(task, who): float(numbers.split()[1]) for task, who, numbers in rows}
    assert 0.55 < gauc["click", "model"] < gauc["click", "truth"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert f"checkpoint  {tmp_path}/run/model.ckpt-" in first.stdout
    again = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1/4 and 2/4 are done" in again.stdout
    table = first.stdout[first.stdout.index("== 4/4") :]
    assert table in again.stdout  # the same data and seed give the same numbers
