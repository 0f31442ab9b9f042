"""Sources, sessions, splits and bad rows through the whole job."""

import os
import re
import resource
import subprocess
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from py4j.protocol import Py4JError
from pyarrow.dataset import dataset as arrow_dataset
from pyspark.errors import PySparkException

from preprocessing import dataset_format, spark_errors

SCRIPT = Path(__file__).parents[2] / "preprocessing" / "jrc_sort.py"


def sessions_of(folder: Path) -> list[list[dict]]:
    """Rows of every session, by the manifest and the index, in file order."""
    manifest = dataset_format.read_manifest(folder)
    index = dataset_format.read_session_index(folder, manifest)
    files = [pq.ParquetFile(folder / file.name).read().to_pylist() for file in manifest.files]
    places = zip(index.file_index, index.row_start, index.num_rows, strict=True)
    return [files[file][start : start + rows] for file, start, rows in places]


@pytest.fixture
def visits(write_input) -> Path:
    """User 1 comes three times, user 2 once: 30 minutes apart, in milliseconds."""
    minute = 60_000
    rows = [(1, 0), (1, 29), (1, 59), (1, 90), (1, 200), (2, 10), (2, 40)]
    table = {"user_id": [u for u, _ in rows], "ts": [m * minute for _, m in rows]}
    return write_input(pa.table({**table, "y": [0, 1, 0, 0, 1, 0, 0]}), "visits")


VISITS = ("--session-column", "user_id", "--session-gap", "30m", "--timestamp-unit", "ms")


def test_sessions_built_from_user_and_time(visits, run_job, tmp_path):
    report = run_job(visits, *VISITS, "--label-columns", "y")
    visits = sessions_of_out(tmp_path)
    found = {(rows[0]["user_id"], *(row["ts"] // 60_000 for row in rows)) for rows in visits}
    assert found == {(1, 0, 29, 59), (1, 90), (1, 200), (2, 10, 40)}
    manifest = report.manifest
    assert manifest.session_columns == ("session_id64",)
    assert manifest.schema[-1] == dataset_format.Column("session_id64", "bigint")


def sessions_of_out(tmp_path: Path) -> list[list[dict]]:
    return sessions_of(tmp_path / "out")


def test_composite_sessions_have_one_id_each(events, write_input, run_job, tmp_path):
    run_job(write_input(events), "--session-column", "session_id,item")
    found = sessions_of_out(tmp_path)
    ids = [{row["session_id64"] for row in session} for session in found]
    keys = [{(row["session_id"], row["item"]) for row in session} for session in found]
    assert all(len(each) == 1 for each in (*ids, *keys))
    wanted = Counter((row["session_id"], row["item"]) for row in events.to_pylist())
    assert len(set.union(*ids)) == len(wanted) == len(found)
    assert {key: len(s) for s, (key,) in zip(found, keys, strict=True)} == wanted


@pytest.mark.parametrize("policy", ["cut", "newest", "drop"])
def test_long_sessions_are_counted(events, write_input, run_job, tmp_path, policy):
    lengths = Counter(events["session_id"].to_pylist())
    flags = ["--max-session-rows", "6", "--long-sessions", policy]
    report = run_job(write_input(events), *flags)
    found = sessions_of_out(tmp_path)
    assert max(len(session) for session in found) == 6
    long_ones = [n for n in lengths.values() if n > 6]
    kept = {
        "cut": len(events),
        "newest": sum(min(n, 6) for n in lengths.values()),
        "drop": sum(n for n in lengths.values() if n <= 6),
    }[policy]
    assert sum(len(session) for session in found) == kept
    assert report.report["long_sessions"] == {"policy": policy, "sessions": len(long_ones)}
    assert sum(report.report["dropped_rows"].values()) == len(events) - kept


def test_one_session_with_a_tenth_of_all_rows(spark, save, run_job, tmp_path):
    columns = ["if(id % 10 = 0, -1L, id div 20) AS session_id", "id AS ts", "id % 7 AS x"]
    save(spark.range(300_000).selectExpr(*columns), tmp_path / "in")
    report = run_job(tmp_path / "in", "--max-session-rows", "1000")
    assert report.manifest.statistics.rows == 300_000
    assert report.manifest.statistics.max_session_rows == 1000
    assert report.report["long_sessions"]["sessions"] == 1


@pytest.mark.parametrize(
    "flags",
    [
        ("--eval-from", "3"),
        ("--eval-fraction", "0.3"),
        ("--eval-fraction", "0.5", "--split-column", "item"),
    ],
    ids=["time", "session", "column"],
)
def test_train_and_eval_are_datasets_without_a_common_session(
    events, write_input, run_job, tmp_path, flags
):
    report = run_job(write_input(events), *flags)
    out = tmp_path / "out"
    assert list(report.manifests) == ["train", "eval"]
    found = {side: sessions_of(out / side) for side in ("train", "eval")}
    ids = {side: {s[0]["session_id"] for s in sessions} for side, sessions in found.items()}
    assert all(ids.values())
    assert not ids["train"] & ids["eval"]
    rows = [row for sessions in found.values() for session in sessions for row in session]
    assert Counter(map(str, rows)) == Counter(map(str, events.to_pylist()))
    if flags[0] == "--eval-from":
        assert max(row["ts"] for session in found["train"] for row in session) < 3
        assert min(max(row["ts"] for row in session) for session in found["eval"]) >= 3
    assert {path.name for path in out.iterdir()} >= {"train", "eval"}
    run_job(tmp_path / "input", *flags, "--overwrite")
    assert sessions_of(out / "eval") == found["eval"]


def test_an_empty_side_is_an_error(events, write_input, run_job, tmp_path):
    with pytest.raises(ValueError, match="train and eval must both have sessions, but eval has no"):
        run_job(write_input(events), "--eval-from", "1000")
    assert not (tmp_path / "out").exists()


def test_a_cap_that_drops_every_session_is_an_error(events, write_input, run_job, tmp_path):
    flags = ["--max-session-rows", "1", "--long-sessions", "drop", "--where", "session_id = 0"]
    with pytest.raises(ValueError, match="must have a session, but all were dropped as too long"):
        run_job(write_input(events), *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--eval-from", "tomorrow"], "--eval-from must be a date or time like 2026-01-31"),
        (["--eval-from", "2026-01-31"], "--eval-from needs the unit of --timestamp-column"),
        (["--session-gap", "5m"], "--session-gap needs the unit of --timestamp-column"),
    ],
)
def test_times_that_do_not_fit_are_found_before_rows_are_read(dirty, run_job, flags, message):
    with pytest.raises(ValueError, match=message):  # else the bad rows would be the error
        run_job(dirty, *flags)


def test_a_split_dataset_does_not_replace_a_plain_one(events, write_input, run_job, tmp_path):
    source = write_input(events)
    run_job(source)
    with pytest.raises(ValueError, match=r"must find train and eval to replace, but .*out' holds"):
        run_job(source, "--eval-fraction", "0.3", "--overwrite")
    assert dataset_format.read_manifest(tmp_path / "out").statistics.rows == len(events)


@pytest.fixture
def dirty(write_input) -> Path:
    table = {
        "session_id": pa.array([1, None, 1, 2, None, 2], "int64"),
        "ts": pa.array([5, 5, -1, None, 7, 1], "int64"),
        "x": list("abcdef"),
    }
    return write_input(pa.table(table), "dirty")


def test_bad_rows_fail_the_job(dirty, run_job, tmp_path):
    message = (
        "every row must have a session and a possible time, but 4 of 6 rows do not: session column "
        "'session_id' is null (2 rows); timestamp column 'ts' is null (1 rows); timestamp column "
        "'ts' is negative (1 rows); filter them with --where, or set them aside with --on-bad-rows "
        "quarantine"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        run_job(dirty)
    assert not (tmp_path / "out").exists()


def test_bad_rows_are_set_aside_with_their_reason(dirty, run_job, tmp_path):
    report = run_job(dirty, "--on-bad-rows", "quarantine")
    assert {row["x"] for session in sessions_of_out(tmp_path) for row in session} == {"a", "f"}
    aside = [
        row
        for path in sorted((tmp_path / "out" / "_quarantine").glob("part-*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    assert {row["x"]: row["bad_row_reason"] for row in aside} == {
        "b": "session column 'session_id' is null",
        "c": "timestamp column 'ts' is negative",
        "d": "timestamp column 'ts' is null",
        "e": "session column 'session_id' is null",
    }
    assert sum(report.report["bad_rows"].values()) == 4
    assert "bad rows      2, session column 'session_id' is null" in str(report)
    assert arrow_dataset(tmp_path / "out").count_rows() == 2  # not the bad ones
    run_job(dirty, "--where", "session_id IS NOT NULL AND ts >= 0", "--overwrite")
    assert not list((tmp_path / "out" / "_quarantine").glob("part-*"))


def test_where_chooses_rows_also_by_columns_that_are_left_out(events, write_input, run_job, bad):
    source = write_input(events)
    report = run_job(source, "--where", "ds = '20240101' AND ts < 2", "--drop-columns", "ds")
    wanted = sum(ts < 2 for ts in events["ts"].to_pylist())
    assert report.manifest.statistics.rows == wanted
    assert "ds" not in [column.name for column in report.manifest.schema]
    assert "input must have at least one row" in bad(source, "--where", "ts > 99")
    message = bad(source, "--where", "day = 1")
    assert "--where must be a SQL condition on the input's columns, like " in message
    assert "`day`" in message
    assert "\n" not in message


@pytest.fixture
def bad(run_job):
    """Run a job that must fail, and give the message."""

    def run(*args: str, **more) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - each caller checks the message
            run_job(*args, output="bad", **more)
        return str(caught.value)

    return run


def test_a_table_of_the_catalog(spark, events, write_input, run_job, bad, tmp_path):
    source = write_input(events)
    spark.sql(f"CREATE TABLE clicks USING parquet LOCATION '{source}'")
    try:
        report = run_job("clicks", "--input-format", "table", "--where", "session_id < 20")
        wanted = sum(session < 20 for session in events["session_id"].to_pylist())
        assert report.manifest.statistics.rows == wanted
    finally:
        spark.sql("DROP TABLE clicks")
    message = bad("clicks", "--input-format", "table")
    assert (
        "--input-path must name a table, but Spark cannot read 'clicks': [TABLE_OR_VIEW" in message
    )
    message = bad("clicks", "--input-format", "table", "--input-path", "views")
    assert "must go with one --input-path, the table's name" in message


@pytest.mark.parametrize("input_format", ["parquet", "orc", "csv", "json"])
def test_every_format_gives_the_same_dataset(spark, save, run_job, tmp_path, input_format):
    rows = spark.range(500).selectExpr("id % 50 AS session_id", "id AS ts", "id % 3 AS x")
    folder = f"{tmp_path}/{input_format}"
    save(rows, folder, input_format)
    schema = "session_id BIGINT, ts BIGINT, x BIGINT"
    more = ["--schema", schema] if input_format in ("csv", "json") else []
    run_job(folder, "--input-format", input_format, *more)
    found = sessions_of_out(tmp_path)
    assert len(found) == 50
    assert all([row["ts"] % 50 for row in s] == [s[0]["session_id"]] * 10 for s in found)


def test_a_new_day_is_a_dataset_beside_the_old_ones(events, write_input, run_job, tmp_path):
    source = write_input(events)
    (tmp_path / "days").mkdir()
    run_job(source, "--where", "ts < 2", output="days/2026-01-01")
    first = tmp_path / "days" / "2026-01-01"
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    run_job(source, "--where", "ts >= 2", output="days/2026-01-02")
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    days = [dataset_format.read_manifest(day) for day in sorted((tmp_path / "days").iterdir())]
    assert sum(day.statistics.rows for day in days) == len(events)


def test_mixed_schemas_are_an_error_before_anything_is_written(write_input, bad, tmp_path):
    one = write_input(pa.table({"session_id": [1], "ts": [1], "x": [1]}), "one", num_files=1)
    write_input(pa.table({"session_id": [1], "ts": [1], "x": ["a"]}), "two", num_files=1)
    message = bad(one, "--input-path", f"{tmp_path}/two")
    assert "--input-path must hold parquet files, but Spark cannot read" in message
    assert "CANNOT_MERGE" in message
    assert "\n" not in message
    assert not (tmp_path / "bad").exists()


def test_a_truncated_file_is_an_error_and_names_the_file(events, write_input, run_job, tmp_path):
    """Its footer is whole, its pages are not: found only while rows are read."""
    source = write_input(events)
    path = source / "1.parquet"
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises((PySparkException, Py4JError, ValueError)) as caught:
        run_job(source)
    reason = spark_errors.spark_reason(caught.value)
    assert "1.parquet" in reason
    assert "\n" not in reason
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_dataset(spark, save, events, write_input, run_job, tmp_path):
    """No file may grow beyond 6 MB: what a full disk does, at the same calls, to a writer."""
    run_job(write_input(events))
    before = sessions_of_out(tmp_path)
    # Random text, which no codec makes small.
    columns = ["id % 1000 AS session_id", "id AS ts", "sha2(string(id), 256) AS x"]
    save(spark.range(600_000).selectExpr(*columns), tmp_path / "large")
    limit = 6_000_000  # Spark unpacks its own libraries, of two megabytes, first
    spark_submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    command = [spark_submit, "--master", "local[2]", "--conf", "spark.ui.enabled=false", SCRIPT]
    command += ["--session-column", "session_id", "--timestamp-column", "ts", "--overwrite"]
    command += ["--input-path", f"{tmp_path}/large", "--output-path", f"{tmp_path}/out"]
    done = subprocess.run(
        [*command, "--num-partitions", "2"],
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    (line,) = (row for row in printed.splitlines() if row.startswith("jrc_sort.py: error: "))
    assert "File too large" in line
    assert sessions_of_out(tmp_path) == before
    assert not list((tmp_path / "out").glob("_lock")) + list((tmp_path / "out").glob("_staging-*"))


def test_a_vocabulary_is_written_beside_the_data(write_input, run_job, tmp_path):
    words = ["a", "a", "a", "b", "b", "c"]
    table = pa.table({"session_id": [1] * 6, "ts": list(range(6)), "word": words})
    source = write_input(table)
    for suffix, more in (("", []), ("-g2", ["--overwrite"])):
        run_job(source, "--vocabulary", "word=2", *more)
        (path,) = (tmp_path / "out" / "_vocabulary").glob("part-*.parquet")
        assert path.name == f"part-00000{suffix}.parquet"
        found = pq.ParquetFile(path).read().to_pylist()
        assert {row["value"] for row in found} == {"a", "b"}  # c is below the floor
        (session,) = sessions_of_out(tmp_path)
        assert [row["word"] for row in session] == [1, 1, 1, 2, 2, 0]
    later = write_input(table.set_column(2, "word", [["c", "c", "b", "b", "b", "d"]]), "later")
    earlier = ["--vocabulary-from", str(tmp_path / "out"), "--vocabulary", "word=2"]
    run_job(later, *earlier, output="day2")
    (session,) = sessions_of(tmp_path / "day2")
    assert [row["word"] for row in session] == [3, 3, 2, 2, 2, 0]
    run_job(later, *earlier, "--overwrite")  # the output may be the one whose ids it keeps
    assert sessions_of_out(tmp_path) == [session]
