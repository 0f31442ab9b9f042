"""The script as users run it: `spark-submit preprocessing/jrc_sort.py` in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from preprocessing import dataset_format

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "preprocessing"
SIBLINGS = [p.stem for p in FOLDER.glob("*.py") if p.stem not in ("jrc_sort", "__init__")]
EVENTS = "user_id,time,item,ds\n007,3,a,1\n7,1,b,1\n007,2,c,1\n"
FLAGS = ["--input-format", "csv", "--session-column", "user_id", "--timestamp-column", "time"]


@pytest.fixture
def submit(tmp_path):
    """Run spark-submit with `tmp_path` as working directory; returns the finished process."""

    def run(script: Path, *flags: str, spark_flags: tuple[str, ...] = ()):
        spark_submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
        settings = ["--master", "local[2]", "--conf", "spark.ui.enabled=false"]
        settings += ["--conf", "spark.sql.shuffle.partitions=2", *spark_flags]
        settings += ["--driver-java-options", "-XX:TieredStopAtLevel=1"]  # short runs
        command = [spark_submit, *settings, script, *FLAGS, *flags]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )

    (tmp_path / "events.csv").write_text(EVENTS)
    return run


def test_client_mode_needs_no_extra_flag(submit, tmp_path):
    done = submit(
        FOLDER / "jrc_sort.py",
        *[
            "--input-path",
            "events.csv",
            "--schema",
            "user_id STRING, time INT, item STRING, ds INT",
        ],
        *["--columns-regex", "(ds)?+.+", "--output-path", "out"],
    )
    assert done.returncode == 0, done.stderr
    assert "sessions      2" in done.stdout
    manifest = dataset_format.read_manifest(tmp_path / "out")
    names = [column.name for column in manifest.schema]
    assert names == ["user_id", "time", "item", "session_id64"]  # the last for text keys
    assert manifest.statistics.rows == 3


def test_siblings_can_come_by_py_files(submit, tmp_path):
    script = tmp_path / "elsewhere" / "jrc_sort.py"
    script.parent.mkdir()
    shutil.copy(FOLDER / "jrc_sort.py", script)
    shipped = ",".join(str(FOLDER / f"{name}.py") for name in SIBLINGS)
    done = submit(
        script,
        *["--input-path", "events.csv", "--output-path", "out"],
        spark_flags=("--py-files", shipped),
    )
    assert done.returncode == 0, done.stderr
    manifest = dataset_format.read_manifest(tmp_path / "out")
    assert manifest.statistics.sessions == 1  # without --schema both keys are the number 7


@pytest.mark.parametrize(
    ("events", "output", "message"),
    [
        (EVENTS + ",4,d,1\n", "out", "1 of 4 rows do not: session column 'user_id' is null"),
        (EVENTS, "events.csv", "are the same or inside one another"),
        (EVENTS + "1,2\n", "out", "[MALFORMED_CSV_RECORD] Malformed CSV record: 1,2"),
    ],
    ids=["null session", "output is input", "malformed row"],
)
def test_errors_are_one_line_and_a_nonzero_exit(submit, tmp_path, events, output, message):
    (tmp_path / "events.csv").write_text(events)
    script = FOLDER / "jrc_sort.py"
    done = submit(script, "--input-path", "events.csv", "--output-path", output)
    assert done.returncode == 1, done.stderr
    printed = done.stdout + done.stderr  # spark-submit passes a script's stderr on as stdout
    (line,) = (row for row in printed.splitlines() if row.startswith("jrc_sort.py: error: "))
    assert message in line
    assert "Traceback" not in printed
    assert "\tat " not in printed.replace("\\t", "\t")  # also not as JSON of PySpark's logger
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


def test_no_java_is_one_clear_line(tmp_path):
    script, keys = FOLDER / "jrc_sort.py", ["--session-column", "u", "--timestamp-column", "t"]
    command = [sys.executable, script, "--input-path", "in", "--output-path", "out", *keys]
    env = {**os.environ, "JAVA_HOME": str(tmp_path / "nowhere")}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "jrc_sort.py: error: Spark did not start (it needs Java 17 or later): [JAVA_GATEWAY_EXITED]"
    )
    assert "Traceback" not in done.stderr
