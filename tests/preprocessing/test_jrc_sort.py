"""The whole job in this process's Spark, whose defaults are hostile (conftest.py)."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JError
from pyarrow.dataset import dataset as arrow_dataset
from pyspark.errors import PySparkException

from preprocessing import (
    dataset_format,
    event_source,
    job_flags,
    jrc_sort,
    session_layout,
    spark_errors,
)


def content(rows: list[dict]) -> Counter:
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def by_session(files: dict[str, list[dict]]) -> dict:
    sessions: dict = {}
    for rows in files.values():
        for row in rows:
            sessions.setdefault(row["session_id"], []).append(row)
    return sessions


def snapshot(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def order_key(row: dict) -> tuple:
    return row["ts"], -1 if row["position"] is None else row["position"]  # nulls first


@pytest.mark.parametrize("session_type", ["int64", "string"])
def test_every_session_is_whole_and_in_order(
    events, write_input, run_job, read_rows, tmp_path, session_type
):
    keys = events["session_id"].cast(session_type)
    events = events.set_column(0, "session_id", keys)
    flags = ["--tie-breaker", "position", "--columns-regex", "(ds)?+.+", "--row-group-bytes", "64"]
    report = run_job(write_input(events), *flags)

    files = read_rows(tmp_path / "out")
    written = [dict(row) for rows in files.values() for row in rows]
    ids = {row["session_id"]: row.pop("session_id64", None) for row in written}
    assert (len(set(ids.values())) == 40) == (session_type == "string")
    assert content(written) == content(events.drop_columns(["ds"]).to_pylist())

    manifest = dataset_format.read_manifest(tmp_path / "out")
    index = dataset_format.read_session_index(tmp_path / "out", manifest)
    assert manifest == report.manifest
    assert [file.name for file in manifest.files] == [f"part-{n:05d}.parquet" for n in range(3)]
    seen = []
    for place in range(index.num_sessions):
        rows = files[manifest.files[index.file_index[place]].name]
        start = index.row_start[place]
        session = rows[start : start + index.num_rows[place]]
        assert len({row["session_id"] for row in session}) == 1
        assert session == sorted(session, key=order_key)
        seen.append(session[0]["session_id"])
    assert sorted(seen) == sorted(set(keys.to_pylist()))  # each session has one place

    lengths = sorted(Counter(keys.to_pylist()).values())
    facts = manifest.statistics
    assert (facts.rows, facts.sessions) == (len(events), 40)
    assert (facts.max_session_rows, facts.session_rows_p50) == (lengths[-1], lengths[19])
    assert (facts.min_timestamp, facts.max_timestamp) == (0, 4)
    assert (manifest.session_columns, manifest.timestamp_column) == (("session_id",), "ts")
    assert manifest.tie_breakers == ("position",)
    assert dataset_format.Column("tags", "array<bigint>") in manifest.schema
    assert str(report).splitlines()[1] == "sessions      40"
    assert arrow_dataset(tmp_path / "out").count_rows() == len(events)  # plain Parquet


def test_order_depends_on_rows_and_partitions_only(
    events, write_input, run_job, read_rows, tmp_path
):
    first = run_job(write_input(events, "a", num_files=1), output="one")
    backwards = events.take(list(reversed(range(len(events)))))
    second = run_job(write_input(backwards, "b", num_files=4), output="two")
    other = run_job(tmp_path / "a", "--num-partitions", "5", output="other")

    assert read_rows(tmp_path / "one") == read_rows(tmp_path / "two")
    assert first.manifest.fingerprint == second.manifest.fingerprint
    assert first.manifest.fingerprint != other.manifest.fingerprint
    sessions = by_session(read_rows(tmp_path / "other"))
    assert sessions == by_session(read_rows(tmp_path / "one"))


def test_rerun_writes_the_same_bytes(events, write_input, run_job, tmp_path):
    source = write_input(events)
    first = run_job(source)
    before = snapshot(tmp_path / "out")
    again = run_job(source, "--overwrite")
    assert again.manifest.fingerprint == first.manifest.fingerprint
    # Only the names tell: the second generation was written beside the first.
    after = {name.replace("-g2", ""): data for name, data in snapshot(tmp_path / "out").items()}
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if not name.startswith("_"))
    assert {path.name for path in tmp_path.iterdir()} == {"input", "out"}
    assert dataset_format.read_manifest(tmp_path / "out") == again.manifest


def test_partitions_without_rows_leave_no_file(write_input, run_job, tmp_path):
    events = pa.table(
        {"session_id": [5, 5, 9], "ts": pa.array([3, 1, 2], pa.timestamp("us", "UTC"))}
    )
    run_job(write_input(events), "--num-partitions", "16")
    manifest = dataset_format.read_manifest(tmp_path / "out")
    assert [file.name for file in manifest.files] == ["part-00000.parquet", "part-00001.parquet"]
    assert sum(file.rows for file in manifest.files) == 3
    times = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").schema.column(1)
    assert times.physical_type == "INT64"  # not INT96, this Spark's default
    assert manifest.statistics.max_timestamp == "1970-01-01T00:00:00.000003Z"


def test_columns_that_only_some_files_have_are_kept(write_input, run_job, tmp_path):
    old = write_input(pa.table({"session_id": [1], "ts": [1]}), "old", num_files=1)
    write_input(pa.table({"session_id": [1], "ts": [2], "new": [7]}), "new", num_files=1)
    run_job(old, "--input-path", f"{tmp_path}/n*")
    (path,) = (tmp_path / "out").glob("part-*.parquet")
    assert pq.ParquetFile(path).read()["new"].to_pylist() == [None, 7]


@pytest.mark.parametrize("input_format", ["orc", "json"])
def test_other_formats(spark, tmp_path, input_format):
    rows = "VALUES (1L, 2L), (1L, 3L) AS v(session_id, ts)"
    spark.sql(f"SELECT * FROM {rows}").write.format(input_format).save(str(tmp_path / "in"))
    df = event_source.read_files(spark, [str(tmp_path / "in")], input_format, None)
    assert df.dtypes == [("session_id", "bigint"), ("ts", "bigint")]
    assert df.count() == 2


def test_default_partitions_follow_the_input_size_in_coarse_steps():
    gib, mib = 1 << 30, 1 << 20
    sizes = [0, 1, gib, gib + 1, 9 * gib, 9 * gib + 5 * mib, 1 << 60]
    found = [job_flags.default_num_partitions(size, 128 * mib) for size in sizes]
    assert found == [8, 8, 8, 16, 128, 128, 100_000]
    assert job_flags.default_num_partitions(64 * gib, gib) == 64


def test_target_file_size_sets_the_number_of_files(spark, save, tmp_path):
    save(spark.range(9000).selectExpr("id AS session_id", "id AS ts"), tmp_path / "in")
    total = sum(path.stat().st_size for path in (tmp_path / "in").glob("part-*"))
    flags = ["--input-path", f"{tmp_path}/in", "--output-path", f"{tmp_path}/out"]
    flags += ["--session-column", "session_id", "--timestamp-column", "ts"]
    options = job_flags.parse_arguments([*flags, "--target-file-size", f"{total // 10}"])
    report = jrc_sort.run_job(spark, options)
    assert len(report.manifest.files) == 16  # 10 or 11, rounded up to a power of two


def test_wrong_layout_is_not_published(events, write_input, run_job, tmp_path, monkeypatch):
    source = write_input(events)
    run_job(source)
    before = snapshot(tmp_path / "out")
    right = session_layout.lay_out

    def splits_sessions(*args):
        layout = right(*args)
        return replace(layout, rows=layout.rows.repartition(3))

    monkeypatch.setattr(session_layout, "lay_out", splits_sessions)
    with pytest.raises(RuntimeError, match=r"nothing was published: session 0 is split over part-"):
        run_job(source, "--overwrite")
    assert snapshot(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"input", "out"}


def test_lost_rows_are_found(events, write_input, run_job, tmp_path, monkeypatch):
    right = session_layout.lay_out
    monkeypatch.setattr(
        session_layout, "lay_out", lambda df, *rest: right(df.where("session_id > 0"), *rest)
    )
    with pytest.raises(RuntimeError, match=r"\d+ rows were read but \d+ were written"):
        run_job(write_input(events))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bad(run_job):
    """Run a job that must fail, and give the message."""

    def run(*args: str, **more) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - each caller checks the message
            run_job(*args, **more)
        return str(caught.value)

    return run


def test_bad_paths(events, write_input, bad, tmp_path):
    source = write_input(events, num_files=1)
    assert "--input-path must exist, but nothing is at" in bad(tmp_path / "nowhere")
    assert "are the same or inside one another" in bad(source, output="input")
    assert "are the same or inside one another" in bad(source, output="input/sorted")
    assert "are the same or inside one another" in bad(source / "0.parquet", output="input")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    assert "exists; choose another or add --overwrite" in bad(source, output="home")
    message = bad(source, "--overwrite", output="home")
    assert "--overwrite must find a session dataset to replace, but" in message
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_bad_input_files(events, write_input, bad, tmp_path):
    source = write_input(events, num_files=1)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.parquet").write_text("hello")
    message = bad(tmp_path / "text")
    assert "--input-path must hold parquet files, but Spark cannot read" in message
    assert "a.parquet is not a Parquet file" in message
    assert "\n" not in message
    (tmp_path / "nothing").mkdir()
    assert "UNABLE_TO_INFER_SCHEMA" in bad(tmp_path / "nothing")
    assert "--schema must go with csv or json" in bad(source, "--schema", "a INT")
    message = bad(source, "--input-format", "json", "--schema", "a BONGO")
    assert "--schema must be a DDL string" in message
    assert "BONGO" in message
    assert "input must have at least one row" in bad(write_input(events[:0], "empty"))


def test_malformed_line_fails_instead_of_turning_into_nulls(run_job, tmp_path):
    (tmp_path / "events.csv").write_text("session_id,ts,item\n1,2,3\n8,9\n")
    with pytest.raises((PySparkException, Py4JError)) as caught:
        run_job(tmp_path / "events.csv", "--input-format", "csv")
    reason = spark_errors.spark_reason(caught.value)
    assert "events.csv" in reason
    assert "Malformed CSV record: 8,9" in reason
    assert "\n" not in reason
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-partitions", "0"], "must be at least 1, but got 0"),
        (["--num-partitions", "100001"], "must be at most 100000, but got 100001"),
        (["--row-group-bytes", "-5"], "must be at least 1, but got -5"),
        (["--sesion-column", "u"], "unrecognized arguments: --sesion-column u"),
        (["--input-format", "avro"], "invalid choice: 'avro'"),
        (["--session-gap", "30"], "--session-gap: must be a duration like 45s, 30m, 12h or 2d"),
        (["--row-group-bytes", "big"], "must be a size like 16MB, 1GB or a number of bytes"),
        (["--session-column", "a,,b"], "must be names like a,b, but got 'a,,b'"),
        (["--num-partitions", "many"], "must be a whole number, but got 'many'"),
        (["--eval-fraction", "1"], "must be a number between 0 and 1, but got '1'"),
        (["--eval-fraction", "tenth"], "must be a number between 0 and 1, but got 'tenth'"),
        (["--split-column", "u"], "--split-column must go with --eval-fraction"),
        (["--eval-from", "5", "--eval-fraction", "0.5"], "are two ways to split; give one"),
        (["--long-sessions", "cut"], "--long-sessions must go with --max-session-rows"),
    ],
)
def test_wrong_flags(capsys, flags, message):
    needed = ["--input-path=a", "--output-path=b", "--session-column=u", "--timestamp-column=t"]
    with pytest.raises(SystemExit, match="2"):
        job_flags.parse_arguments([*needed, *flags])
    assert message in capsys.readouterr().err


def test_reason_of_a_spark_error_leaves_the_stack_trace_out():
    text = "An error occurred.\n: x.SparkException: [FAILED_READ_FILE.NO_HINT] Reading f. X\n\tat y"
    text += "\nCaused by: z.E: [MALFORMED_RECORD_IN_PARSING] Bad.\n\tat z"
    reason = spark_errors.spark_reason(RuntimeError(text))
    assert reason == "[FAILED_READ_FILE.NO_HINT] Reading f. X; [MALFORMED_RECORD_IN_PARSING] Bad."
    plain = (
        "An error occurred.\n: java.io.IOException: disk\n is full\n\tat x\n\tSuppressed: a.B: c"
    )
    plain += "\nCaused by: a.NullPointerException\n\tat y\n\t... 3 more"
    plain += "\nCaused by: java.io.FileNotFoundException: no space\n\tat y"
    reason = spark_errors.spark_reason(RuntimeError(plain))
    assert reason == "IOException: disk is full; FileNotFoundException: no space"
    last = spark_errors.spark_reason(RuntimeError(plain.rpartition("\nCaused by")[0]))
    assert last == "IOException: disk is full; NullPointerException"
    parsed = "[TABLE_NOT_FOUND] No x.;\n'Project [a]\n\nJVM stacktrace:\na.B: c\n\tat d"
    assert spark_errors.spark_reason(RuntimeError(parsed)) == "[TABLE_NOT_FOUND] No x.;"
    long = "An error occurred.\n: a.B: first " + "x" * 999 + " last\n\tat y"
    assert re.fullmatch(
        r"B: first x+ \.\.\. x+ last", spark_errors.spark_reason(RuntimeError(long))
    )
