import os
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")

# Cluster defaults that would break the layout if the job relied on defaults.
HOSTILE_DEFAULTS = {
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.files.maxRecordsPerFile": "7",
    "spark.sql.parquet.outputTimestampType": "INT96",
    "spark.sql.parquet.writeLegacyFormat": "true",
    "spark.sql.files.ignoreCorruptFiles": "true",
    "spark.sql.files.ignoreMissingFiles": "true",
    "spark.sql.session.timeZone": "Asia/Shanghai",
}


@pytest.fixture(scope="session")
def spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").appName("tests")
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",  # short runs: compile less
    }
    for name, value in {**settings, **HOSTILE_DEFAULTS}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def save():
    """Write a frame as input, by Spark, in files that the hostile defaults do not cut."""

    def write(df, folder, input_format: str = "parquet") -> None:
        writer = df.coalesce(2).write.option("maxRecordsPerFile", 0).option("header", "true")
        writer.format(input_format).save(str(folder))

    return write


@pytest.fixture(scope="session")
def frame(spark):
    """A frame from VALUES rows; cheaper than createDataFrame, which starts Python workers."""

    def build(columns: str, *rows: str):
        return spark.sql(f"SELECT * FROM VALUES {', '.join(rows)} AS v({columns})")

    return build


@pytest.fixture
def utc(spark):
    """The time zone that the job sets for itself."""
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    yield
    spark.conf.set("spark.sql.session.timeZone", before)


def make_events(num_sessions: int = 40, seed: int = 0) -> pa.Table:
    """Rows in random order: sessions of 1 to 12 rows, tied times, full duplicates, nulls, lists."""
    rng = random.Random(seed)
    rows = []
    for session in range(num_sessions):
        for _ in range(rng.randint(1, 12)):
            row = {
                "session_id": session,
                "ts": rng.randint(0, 4),
                "position": rng.choice([None, 0, 1]),
                "item": rng.randint(0, 5),
                "price": rng.choice([None, 0.5, 1.5]),
                "tags": [rng.randint(0, 2)] * rng.randint(0, 2),
                "ds": "20240101",
            }
            rows += [row] * rng.choice([1, 1, 2])
    rng.shuffle(rows)
    return pa.Table.from_pylist(rows)


@pytest.fixture
def events() -> pa.Table:
    return make_events()


@pytest.fixture
def write_input(tmp_path):
    """Write a table as a folder of `num_files` Parquet files; returns the folder."""

    def write(table: pa.Table, name: str = "input", num_files: int = 2) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        size = -(-len(table) // num_files) or 1
        for number in range(num_files):
            pq.write_table(table.slice(number * size, size), folder / f"{number}.parquet")
        return folder

    return write


@pytest.fixture
def run_job(spark, tmp_path):
    """The job in this process's Spark, with flags for `make_events` that a test can override."""
    from preprocessing import job_flags, jrc_sort

    def run(input_path, *flags: str, output: str = "out"):
        keys = ["--session-column", "session_id", "--timestamp-column", "ts"]
        argv = ["--input-path", str(input_path), "--output-path", str(tmp_path / output)]
        options = job_flags.parse_arguments([*argv, *keys, "--num-partitions", "3", *flags])
        return jrc_sort.run_job(spark, options)

    return run


@pytest.fixture
def read_rows():
    """Rows of a dataset folder by data file, each file in its own order."""

    def read(folder: Path) -> dict[str, list[dict]]:
        paths = sorted(Path(folder).glob("part-*.parquet"))
        return {path.name: pq.ParquetFile(path).read().to_pylist() for path in paths}

    return read
