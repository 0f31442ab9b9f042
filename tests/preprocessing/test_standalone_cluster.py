"""The job on a real cluster: a master and two workers as processes, the job by spark-submit."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest

from preprocessing import dataset_format, verify
from preprocessing.hadoop_files import HadoopFiles

FOLDER = Path(__file__).parents[2] / "preprocessing"
SPARK = Path(pyspark.__file__).parent
TIMEOUT_SECONDS = 120
FLAGS = ["--session-column", "session_id", "--timestamp-column", "ts", "--num-partitions", "5"]
# A task may run twice at a time, on both machines, and whoever is first wins.
SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "10ms",
    "spark.speculation.multiplier": "1.0",
    "spark.speculation.quantile": "0.1",
    "spark.speculation.minTaskRuntime": "0ms",
}


LOGGING = """
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
"""


class Daemon:
    """A process of Spark with its log."""

    def __init__(self, log: Path, *args: str):
        self.log = log
        logging = log.with_suffix(".properties")
        logging.write_text(LOGGING)
        env = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
        env["SPARK_DAEMON_JAVA_OPTS"] = f"-Dlog4j2.configurationFile={logging}"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [SPARK / "bin" / "spark-class", *args], stdout=out, stderr=out, env=env
            )

    def wait_for(self, text: str) -> str:
        """The line of the log that has `text`."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                if text in line:
                    return line
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise TimeoutError(f"{text!r} did not come: {self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def cluster(tmp_path) -> Iterator[tuple[str, list[Daemon]]]:
    """The URL of a master with two workers, of one core each."""
    package = "org.apache.spark.deploy"
    ports = ["--port", "0", "--webui-port", "0"]
    master = Daemon(
        tmp_path / "master.log", f"{package}.master.Master", "--host", "127.0.0.1", *ports
    )
    daemons = [master]
    try:
        url = master.wait_for("Starting Spark master at").split()[-1]
        for name in ("a", "b"):
            size = ["--cores", "1", "--memory", "1g", "--work-dir", str(tmp_path / f"work-{name}")]
            log = tmp_path / f"worker-{name}.log"
            daemons.append(Daemon(log, f"{package}.worker.Worker", *size, *ports, url))
        for worker in daemons[1:]:
            worker.wait_for("Successfully registered with master")
        yield url, daemons[1:]
    finally:
        for daemon in reversed(daemons):
            daemon.stop()


def make_events() -> pa.Table:
    rng = random.Random(0)
    rows = [
        {"session_id": f"s{session}", "ts": rng.randint(0, 9), "item": rng.randint(0, 99)}
        for session in range(300)
        for _ in range(rng.randint(1, 9))
    ]
    rng.shuffle(rows)
    return pa.Table.from_pylist(rows)


def submit(master: str, conf: dict[str, str], script: Path, *flags: str) -> str:
    """Run spark-submit with the siblings of the script by --py-files; returns what it printed."""
    siblings = [
        path for path in FOLDER.glob("*.py") if path.name not in ("__init__.py", script.name)
    ]
    settings = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2", **conf}
    command = [SPARK / "bin" / "spark-submit", "--master", master]
    command += ["--driver-memory", "512m", "--executor-memory", "600m"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += ["--py-files", ",".join(map(str, siblings)), script, *flags]
    env = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=script.parent, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_cluster_writes_what_one_machine_writes(cluster, spark, tmp_path, run_job):
    url, workers = cluster
    source = tmp_path / "events"
    source.mkdir()
    events = make_events()
    for number, start in enumerate(range(0, len(events), 300)):
        pq.write_table(events.slice(start, 300), source / f"{number}.parquet")
    alone = tmp_path / "elsewhere" / "jrc_sort.py"  # its siblings are not beside it
    alone.parent.mkdir()
    shutil.copy(FOLDER / "jrc_sort.py", alone)

    paths = ["--input-path", str(source), "--output-path", str(tmp_path / "clustered")]
    printed = submit(url, SPECULATION, alone, *paths, *FLAGS)
    assert "sessions      300" in printed
    for worker in workers:
        worker.wait_for("Asked to launch executor")  # both had work

    local = run_job(source, *FLAGS, output="local").manifest
    manifest = dataset_format.read_manifest(tmp_path / "clustered")
    assert manifest.fingerprint == local.fingerprint
    assert [file.rows for file in manifest.files] == [file.rows for file in local.files]
    for file in manifest.files:
        clustered, alone_file = (
            pq.ParquetFile(tmp_path / name / file.name).read() for name in ("clustered", "local")
        )
        assert clustered.equals(alone_file)
    verify.check_dataset(HadoopFiles(spark), str(tmp_path / "clustered"))
