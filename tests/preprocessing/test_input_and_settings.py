"""What the job reads and writes, when neither the input nor the cluster's settings mean well."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from preprocessing import dataset_writer, event_source, jrc_sort, session_layout, spark_errors

CSV = ("--input-format", "csv")


@pytest.fixture
def failing(run_job, tmp_path):
    """Run a job on CSV text that must fail, and give the reason."""

    def run(text: str, *flags: str) -> str:
        (tmp_path / "events.csv").write_text(text)
        with pytest.raises((PySparkException, Py4JError, ValueError)) as caught:
            run_job(tmp_path / "events.csv", *CSV, *flags)
        assert not (tmp_path / "out").exists()
        return spark_errors.spark_reason(caught.value)

    return run


def test_malformed_row_fails_also_when_columns_are_left_out(failing):
    text = "session_id,item,ts\n1,2,3\n8,9\n8,9,1,5\n"
    assert "Malformed CSV record: 8,9" in failing(text, "--drop-columns", "item")
    schema = "session_id INT, item INT, ts INT"
    reason = failing(text, "--schema", schema, "--drop-columns", "item")
    assert "Malformed CSV record: 8,9" in reason


def test_schema_must_name_the_columns_of_the_header(failing):
    reason = failing("ts,session_id\n1,2\n", "--schema", "session_id INT, ts INT")
    assert "CSV header does not conform to the schema" in reason
    assert "Expected: session_id but found: ts" in reason


def test_csv_of_a_header_alone_has_no_rows(failing):
    assert "input must have at least one row" in failing("session_id,ts\n")


def test_text_of_a_time_is_utc_whatever_the_cluster_says(run_job, tmp_path):
    (tmp_path / "events.csv").write_text("session_id,ts\n1,1970-01-01 00:00:00\n")
    report = run_job(tmp_path / "events.csv", *CSV, "--schema", "session_id INT, ts TIMESTAMP")
    assert report.manifest.statistics.min_timestamp == "1970-01-01T00:00:00Z"
    (path,) = (tmp_path / "out").glob("part-*.parquet")
    assert pq.ParquetFile(path).read()["ts"].cast("int64").to_pylist() == [0]


def test_corrupt_file_among_good_ones_is_an_error(events, write_input, run_job):
    source = write_input(events)
    (source / "0.parquet").write_text("not Parquet")
    with pytest.raises(ValueError, match=r"0\.parquet is not a Parquet file"):
        run_job(source)


def test_file_that_turns_out_corrupt_while_it_is_read_is_an_error(spark, events, write_input):
    source = write_input(events)
    df = event_source.read_files(spark, [str(source)], "parquet", None)
    (source / "0.parquet").write_text("not Parquet any more")
    with pytest.raises((PySparkException, Py4JError), match=r"0\.parquet"):
        df.count()


def test_file_that_vanishes_is_an_error(spark, events, write_input):
    source = write_input(events)
    df = event_source.read_files(spark, [str(source)], "parquet", None)
    (source / "0.parquet").unlink()
    with pytest.raises((PySparkException, Py4JError), match=r"0\.parquet"):
        df.count()


def test_orc_columns_that_only_some_files_have_are_kept(spark, tmp_path):
    for name, columns in {"a": "1L session_id, 5L old", "b": "1L session_id, 7L new"}.items():
        spark.sql(f"SELECT {columns}").coalesce(1).write.orc(str(tmp_path / name))
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (path,) = (tmp_path / name).glob("part-*")
        path.rename(tmp_path / "in" / f"{name}.orc")
    df = event_source.read_files(spark, [str(tmp_path / "in")], "orc", None)
    assert sorted(df.columns) == ["new", "old", "session_id"]


def test_input_path_that_exists_is_taken_literally(events, write_input, run_job, tmp_path):
    write_input(events[:5], "in1", num_files=1)
    report = run_job(write_input(events[:3], "in[1]", num_files=1))
    assert report.manifest.statistics.rows == 3
    report = run_job(tmp_path / "in[12]", output="other")  # there is none: a pattern
    assert report.manifest.statistics.rows == 5


@pytest.mark.parametrize("name", ["out[1]", "{a}", "a*", "a?", r"a\b"])
def test_output_path_with_glob_characters_is_refused(events, write_input, run_job, name):
    with pytest.raises(ValueError, match=r"--output-path must be free of \[\]\{\}\*\?"):
        run_job(write_input(events, num_files=1), output=name)


def test_row_groups_are_as_small_as_asked(events, write_input, run_job, tmp_path):
    flags = ["--num-partitions", "1", "--row-group-bytes"]
    source = write_input(events)
    run_job(source, *flags, "64", output="small")
    run_job(source, *flags, str(1 << 20), output="large")
    small, large = (
        pq.ParquetFile(tmp_path / name / "part-00000.parquet") for name in ("small", "large")
    )
    assert (small.num_row_groups > 1, large.num_row_groups) == (True, 1)
    # Not writeLegacyFormat, whose lists are `bag.array`.
    paths = [large.schema.column(n).path for n in range(len(large.schema))]
    assert "tags.list.element" in paths


def test_settings_hold_while_rows_are_written(spark, events, write_input, run_job, monkeypatch):
    """Adaptive execution leaves `repartition(n, key)` alone today; that is not for us to trust."""
    seen = {}

    class Spy:
        sparkSession = spark  # noqa: N815 - Spark's name

        def __init__(self, df):
            self.df, self.schema = df, df.schema

        @property
        def write(self):
            seen.update({name: spark.conf.get(name) for name in dataset_writer.WRITE_CONF})
            return self.df.write

    right = session_layout.lay_out

    def spied(*args):
        layout = right(*args)
        return replace(layout, rows=Spy(layout.rows))

    monkeypatch.setattr(session_layout, "lay_out", spied)
    run_job(write_input(events))
    assert seen["spark.sql.adaptive.enabled"] == "false"
    assert seen["spark.sql.files.maxRecordsPerFile"] == "0"
    assert spark.conf.get("spark.sql.adaptive.enabled") == "true"  # as it was


def test_fingerprint_is_of_every_value_and_its_place(write_input, run_job):
    def fingerprint(name: str, labels: list) -> str:
        # Times differ, so that the rows have one order whatever the labels.
        table = pa.table({"session_id": [1, 1, 1], "ts": [1, 2, 3], "label": labels})
        source = write_input(table, name, num_files=1)
        return run_job(source, output=f"out_{name}").manifest.fingerprint

    labels = {"zeros": [0, 0, 0], "ones": [1, 1, 1], "first": [1, 0, 0], "last": [0, 0, 1]}
    assert len({fingerprint(*item) for item in labels.items()}) == len(labels)
    assert fingerprint("again", [0, 0, 0]) == fingerprint("and_again", [0, 0, 0])


class FakeSession:
    """What `main` uses of a SparkSession; one that died cannot even be stopped."""

    class sparkContext:  # noqa: N801 - Spark's name
        @staticmethod
        def setLogLevel(level):  # noqa: N802 - Spark's name
            assert level == "OFF"

    def stop(self):
        raise Py4JError("the driver is gone")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("a\nb"), r"unexpected KeyError: 'a\nb'"),
        (OverflowError("too far\nfrom here"), "unexpected OverflowError: too far"),
        (OSError("cannot rename\nthis"), "cannot rename this"),
        (Py4JError("An error occurred.\n: a.B: c\n\tat d"), "Spark failed: B: c"),
    ],
)
def test_any_exception_is_one_line_and_exit_status_1(monkeypatch, capsys, error, line):
    def fail(spark, options):
        raise error

    monkeypatch.setattr(jrc_sort.SparkSession.Builder, "getOrCreate", lambda self: FakeSession())
    monkeypatch.setattr(jrc_sort, "run_job", fail)
    needed = ["--input-path=a", "--output-path=b", "--session-column=u", "--timestamp-column=t"]
    assert jrc_sort.main(needed) == 1
    assert capsys.readouterr().err == f"jrc_sort.py: error: {line}\n"
