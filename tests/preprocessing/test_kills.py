"""SIGKILL to the job of a real spark-submit, at random moments and while it publishes.

CI kills a few times. For 20, over the same range of time:

    make kill-test
"""

import os
import random
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest

from preprocessing import dataset_format

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "preprocessing" / "jrc_sort.py"
NUM_KILLS = int(os.environ.get("SESSIONWISE_KILLS", "3"))
SECONDS = 120  # for one job, at most
NUM_ROWS = 200


@pytest.fixture
def job(tmp_path):
    """Start the job that replaces tmp_path/out by the rows of version `label`."""
    for label in range(2):
        (tmp_path / f"in{label}").mkdir()
        rows = {"u": [n % 20 for n in range(NUM_ROWS)], "t": list(range(NUM_ROWS))}
        table = pa.table({**rows, "label": [label] * NUM_ROWS})
        pq.write_table(table, tmp_path / f"in{label}" / "a.parquet")

    def start(label: int) -> subprocess.Popen:
        spark_submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
        flags = ["--master", "local[2]", "--conf", "spark.ui.enabled=false"]
        flags += ["--driver-java-options", "-XX:TieredStopAtLevel=1", str(SCRIPT)]
        flags += ["--session-column", "u", "--timestamp-column", "t", "--num-partitions", "2"]
        flags += ["--input-path", f"{tmp_path}/in{label}", "--output-path", f"{tmp_path}/out"]
        env = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
        return subprocess.Popen(
            [spark_submit, *flags, "--overwrite"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def read_label(out: Path) -> int:
    """The version that a reader of the manifest finds; fails on anything but one whole version."""
    manifest = dataset_format.read_manifest(out)
    dataset_format.read_session_index(out, manifest)
    tables = [pq.ParquetFile(out / file.name).read() for file in manifest.files]
    labels = pa.concat_tables(tables)["label"].to_pylist()
    assert len(labels) == NUM_ROWS
    (label,) = set(labels)
    return label


def read_label_of_running_job(out: Path) -> int:
    """As `read_label`, again where the manifest was replaced between its reading and the files'."""
    while True:
        before = (out / "_manifest.json").read_bytes()
        try:
            return read_label(out)
        except (dataset_format.DatasetError, FileNotFoundError):
            assert (out / "_manifest.json").read_bytes() != before


def generations(out: Path) -> set[str]:
    return {match[1] for path in out.glob("*") if (match := re.search(r"-g(\d+)\.", path.name))}


def kill(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_killed_job_leaves_the_old_dataset_or_the_new_one(job, tmp_path):
    out, rng = tmp_path / "out", random.Random()
    begin = time.monotonic()
    process, locked = job(0), None
    while process.poll() is None and time.monotonic() - begin < SECONDS:
        locked = locked or ((out / "_lock").exists() and time.monotonic() - begin)
        time.sleep(0.005)
    assert process.returncode == 0, process.communicate()[0]
    process.communicate()
    took = time.monotonic() - begin
    assert locked

    label = 0
    for number in range(NUM_KILLS):
        wanted = 1 - label
        process, begin = job(wanted), time.monotonic()
        while_publishing = number % 2 == 1
        # From just before the lock to just after the end; or when files of the next generation
        # appear, some milliseconds into the publication.
        moment = rng.uniform(0.9 * locked, 1.02 * took)
        known = generations(out)
        while process.poll() is None and time.monotonic() - begin < SECONDS:
            if while_publishing:
                if generations(out) - known:
                    time.sleep(rng.uniform(0, 0.03))
                    break
            elif time.monotonic() - begin > moment:
                break
            else:
                assert read_label_of_running_job(out) in (label, wanted)
                time.sleep(0.02)
            time.sleep(0.001)
        kill(process)
        found = read_label(out)
        assert found in (label, wanted), f"kill {number} at {time.monotonic() - begin:.2f} s"
        print(f"kill after {time.monotonic() - begin:.2f} s of {took:.2f}: version {found}")
        label = found

    process = job(1 - label)  # nobody has to tidy up
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert read_label(out) == 1 - label
    listed = {file.name for file in dataset_format.read_manifest(out).files}
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == listed | {"_index", "_manifest.json", "_report.json", "_report.html"}
    assert {path.name for path in (out / "_index").glob("part-*")} == listed


def test_a_second_writer_is_refused_while_the_first_runs(job, run_job, tmp_path):
    process = job(0)
    begin = time.monotonic()
    while not (tmp_path / "out" / "_lock").exists() and time.monotonic() - begin < SECONDS:
        time.sleep(0.01)
    flags = ["--session-column", "u", "--timestamp-column", "t", "--overwrite"]
    with pytest.raises(ValueError, match=r"must have one writer, but process \d+ of .* is writing"):
        run_job(tmp_path / "in1", *flags)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert read_label(tmp_path / "out") == 0
