"""Tasks that fail and are tried again, or fail for good."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing import dataset_format

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]

# Every task fails at its third row, once or always: on the map side of the shuffle, and amid
# writing a file. That it has failed stands in a property of Java, which local tasks share.
PROGRAM = """
import sys
from dataclasses import replace
from pyspark.sql import SparkSession
from preprocessing import event_source, job_flags, jrc_sort, session_layout, spark_errors

how_often, flags = sys.argv[1], sys.argv[2:]
conf = {"spark.ui.enabled": "false", "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}
spark = SparkSession.builder.master("local[2,3]").config(map=conf).getOrCreate()
spark.sparkContext.setLogLevel("OFF")

def flaky(df, side):
    task = f"concat('{side}', spark_partition_id())"
    had_failed = f"java_method('java.lang.System', 'setProperty', {task}, 'failed') IS NOT NULL"
    allowed = had_failed if how_often == "once" else "false"
    is_third = "(monotonically_increasing_id() & 8589934591) = 2"
    return df.where(
        f"CASE WHEN {is_third} AND NOT {allowed} THEN raise_error('this task fails') ELSE true END"
    )

read, lay_out = event_source.choose_rows, session_layout.lay_out
event_source.choose_rows = lambda df, where: flaky(read(df, where), "read")

def flaky_lay_out(*args):
    layout = lay_out(*args)
    return replace(layout, rows=flaky(layout.rows, "written"))

session_layout.lay_out = flaky_lay_out
try:
    report = jrc_sort.run_job(spark, job_flags.parse_arguments(flags))
    failed = spark._jvm.System.getProperties().toString().count("=failed")
    print("RESULT", failed, report.manifest.fingerprint)
except Exception as error:
    print("RESULT", spark_errors.spark_reason(error))
spark.stop()
"""


def run(how_often: str, input_path: Path, output: Path, *more: str) -> str:
    flags = ["--input-path", str(input_path), "--output-path", str(output)]
    flags += ["--session-column", "session_id", "--timestamp-column", "ts"]
    flags += ["--num-partitions", "3", *more]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-c", PROGRAM, how_often, *flags]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    (line,) = (row for row in done.stdout.splitlines() if row.startswith("RESULT "))
    return line.removeprefix("RESULT ")


def test_tasks_that_fail_once_change_nothing(events, write_input, run_job, read_rows, tmp_path):
    source = write_input(events, num_files=2)
    expected = run_job(source, output="calm").manifest
    # Two tasks read, three write.
    assert run("once", source, tmp_path / "flaky") == f"5 {expected.fingerprint}"
    assert read_rows(tmp_path / "flaky") == read_rows(tmp_path / "calm")
    found = dataset_format.read_manifest(tmp_path / "flaky")
    assert json.loads(found.to_json()) == json.loads(expected.to_json())


def test_tasks_that_fail_for_good_leave_the_old_dataset(
    events, write_input, run_job, read_rows, tmp_path
):
    run_job(write_input(events))
    before = read_rows(tmp_path / "out")
    (tmp_path / "new").mkdir()
    pq.write_table(pa.table({"session_id": [1, 2, 3, 4], "ts": [1] * 4}), tmp_path / "new" / "a")
    reason = run("always", tmp_path / "new" / "a", tmp_path / "out", "--overwrite")
    assert "this task fails" in reason
    assert "\n" not in reason
    assert read_rows(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"input", "out", "new"}
    assert not list((tmp_path / "out").glob("_lock")) + list((tmp_path / "out").glob("_staging-*"))
