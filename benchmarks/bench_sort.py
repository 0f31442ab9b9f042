"""The layout job against plain SQL, DuckDB and Polars; its driver's memory; one giant session.

Hardware: any; the recorded run has 2 CPU cores and takes about 25 minutes, 10 GB of disk.

    python -m benchmarks.bench_sort                            # 20 million rows
    python -m benchmarks.bench_sort --rows 1000000 --repeats 1 # a look, 4 minutes

Each measurement is a process of its own, job and SQL by turns. `seconds` are without the start of
Spark, so that the same few seconds on both sides do not flatter the ratio. Events have 13 columns:
ids, text, floats, labels. Results: benchmarks/results/sort-cpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyspark

from benchmarks.machine import cpu_name

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "sort-cpu.json"
SPARK_SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"
KEYS = ["--session-column", "user_id", "--timestamp-column", "time_stamp"]
KEYS += ["--columns-regex", "(ds)?+.+", "--label-columns", "click,conversion"]
GIANT_CAP = 1000
PEERS = {
    "duckdb": """
import duckdb
db = duckdb.connect()
db.execute("SET threads = {cores}; SET memory_limit = '{gib}GB'; SET temp_directory = '{out}.tmp'")
db.execute("COPY (SELECT * EXCLUDE ds FROM read_parquet('{source}/*.parquet') "
           "ORDER BY user_id, time_stamp) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
""",
    "polars": """
import polars as pl
events = pl.scan_parquet("{source}/*.parquet").drop("ds").sort("user_id", "time_stamp")
events.sink_parquet("{out}", compression="zstd")
""",
}
# Of event i, number n of independent numbers is hash(i * 16 + n).
MAKE_EVENTS = """
import duckdb
def uniform(n, below):
    return f"(hash(i * 16 + {n}) % {below})"
duckdb.sql(f'''COPY (SELECT
    IF(i < GIANT, -1, {uniform(1, SESSIONS)}::BIGINT) AS user_id,
    (1700000000000 + {uniform(2, 86400000)})::BIGINT AS time_stamp,
    {uniform(3, 1000000)}::BIGINT AS item_id,
    {uniform(4, 50)}::INT AS position,
    'q' || {uniform(5, 20000)} AS query,
    'c' || {uniform(6, 300)} AS category,
    {uniform(7, 7)}::INT AS device,
    ({uniform(8, 10000)} / 100)::FLOAT AS price,
    ({uniform(9, 10000)} / 10000)::FLOAT AS ctr,
    ({uniform(10, 10000)} / 10000)::FLOAT AS cvr,
    ({uniform(11, 10)} = 0)::INT AS click,
    ({uniform(12, 100)} = 0)::INT AS conversion,
    '20240101' AS ds
FROM range(ROWS) AS t(i)) TO 'OUT' (FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES '64MB')''')
"""


@dataclass(frozen=True)
class Run:
    """A finished process: wall, measured and CPU seconds, and its peak memory.

    CPU seconds are of the process and its children, start included; they hold on a busy machine.
    """

    wall_seconds: float
    seconds: float
    cpu_seconds: float
    peak_rss_mib: float
    output: str


class Bench:
    """Runs measurements in a scratch folder that is deleted between them."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.work = Path(options.work)
        self.work.mkdir(parents=True, exist_ok=True)

    def events(self, name: str, sessions: int, giant_rows: int = 0) -> Path:
        """Events in a folder of `work`, made unless they are there."""
        path = self.work / f"{name}-{self.options.rows}-{sessions}"
        if not path.exists():
            code = MAKE_EVENTS.replace("GIANT", str(giant_rows)).replace("SESSIONS", str(sessions))
            code = code.replace("ROWS", str(self.options.rows))
            unfinished = self.output("events")
            measure([sys.executable, "-c", code.replace("OUT", str(unfinished))])
            unfinished.rename(path)
        return path

    def job(self, source: Path, *flags: str, master: str | None = None, **conf: str) -> Run:
        """The layout job; its own seconds are the sum of its phases."""
        out = self.output("job")
        script = ROOT / "preprocessing" / "jrc_sort.py"
        partitions = ["--num-partitions", self.options.partitions]
        arguments = ["--input-path", source, "--output-path", out, *KEYS, *partitions, *flags]
        run = self.spark(script, *arguments, master=master, **conf)
        phases = re.search(r"^seconds +(.*)$", run.output, re.MULTILINE)
        assert phases, f"the job must print its seconds, but printed: {run.output}"
        seconds = sum(float(number) for number in re.findall(r" ([\d.]+)(?:,|$)", phases[1]))
        return replace(run, seconds=seconds)

    def plain(self, source: Path) -> Run:
        """Plain SQL."""
        script = ROOT / "benchmarks" / "plain_sort.py"
        run = self.spark(script, source, self.output("plain"), self.options.partitions)
        found = re.search(r"^seconds ([\d.]+)$", run.output, re.MULTILINE)
        assert found, f"plain_sort.py must print its seconds, but printed: {run.output}"
        return replace(run, seconds=float(found[1]))

    def peer(self, name: str, source: Path) -> Run:
        """DuckDB or Polars; its seconds are those of the whole process."""
        code = PEERS[name].format(
            source=source,
            out=self.output(f"{name}.parquet"),
            cores=self.options.cores,
            gib=self.options.memory_gib,
        )
        return measure([sys.executable, "-c", code], POLARS_MAX_THREADS=str(self.options.cores))

    def spark(self, script: Path, *args: Any, master: str | None = None, **conf: str) -> Run:
        """A script by spark-submit on this machine."""
        settings = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
        settings |= {"spark.local.dir": str(self.work / "spill")} | conf
        command = [SPARK_SUBMIT, "--master", master or f"local[{self.options.cores}]"]
        command += ["--driver-memory", f"{self.options.memory_gib}g"]
        for name, value in settings.items():
            command += ["--conf", f"{name}={value}"]
        return measure([*command, script, *args])

    def output(self, name: str) -> Path:
        """A path for an output, free again."""
        path = self.work / f"out-{name}"
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        return path


def measure(command: Sequence[Any], **env: str) -> Run:
    """Run a process to its end; raises RuntimeError when it fails."""
    start, cpu_start = time.monotonic(), _children_cpu_seconds()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, **env},
    )
    peaks: list[float] = []
    watcher = threading.Thread(target=_watch_memory, args=(process, peaks))
    watcher.start()
    output, _ = process.communicate()
    wall = time.monotonic() - start
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed with {process.returncode}: {output[-2000:]}")
    cpu = _children_cpu_seconds() - cpu_start
    return Run(wall, wall, cpu, max(peaks, default=0.0), output)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _watch_memory(process: subprocess.Popen, peaks: list[float]) -> None:
    """Add the peak resident MiB of the process: spark-submit becomes the driver's JVM by exec."""
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        except (OSError, IndexError):
            pass
        time.sleep(0.2)


def compare_with_sql(bench: Bench, source: Path) -> dict[str, Any]:
    """Job and SQL by turns."""
    job, plain = [], []
    for turn in range(bench.options.repeats):
        plain.append(bench.plain(source))
        job.append(bench.job(source))
        print(
            f"turn {turn}: SQL {plain[-1].seconds:.1f} s, job {job[-1].seconds:.1f} s", flush=True
        )
    medians = {name: _median(runs) for name, runs in {"plain_sql": plain, "job": job}.items()}
    phases = re.search(r"^seconds +(.*)$", job[-1].output, re.MULTILINE)
    keys = ("seconds", "wall_seconds", "cpu_seconds")
    return {
        **medians,
        "job_phases_of_last_turn": phases[1] if phases else None,
        **{
            f"ratio_of_{key}": round(medians["job"][key] / medians["plain_sql"][key], 3)
            for key in keys
        },
    }


def compare_with_peers(bench: Bench, source: Path) -> dict[str, Any]:
    """DuckDB and Polars sort into one file: no index, verification, statistics, whole sessions."""
    return {name: _median([bench.peer(name, source)]) for name in PEERS}


def driver_memory(bench: Bench) -> dict[str, Any]:
    """The driver's memory, its executors being processes of their own, by number of sessions."""
    found = {}
    for sessions in (bench.options.rows // 20, bench.options.rows // 2):
        source = bench.events("sessions", sessions)
        log = bench.work / "gc.log"
        log.unlink(missing_ok=True)
        run = bench.job(
            source,
            master=f"local-cluster[1,{bench.options.cores},{bench.options.memory_gib * 1024}]",
            **{
                "spark.executor.memory": f"{bench.options.memory_gib}g",
                "spark.driver.extraJavaOptions": f"-Xlog:gc:file={log}",
            },
        )
        after_gc = [int(n) for n in re.findall(r"->(\d+)M\(", log.read_text())]
        count = re.search(r"^sessions +(\d+)$", run.output, re.MULTILINE)
        assert count, f"the job must print its sessions, but printed: {run.output}"
        found[count[1]] = {
            "seconds": round(run.seconds, 1),
            "driver_peak_heap_after_gc_mib": max(after_gc),
            "driver_peak_rss_mib": round(run.peak_rss_mib),
        }
        print(f"{count[1]} sessions: {found[count[1]]}", flush=True)
    return found


def giant_session(bench: Bench) -> dict[str, Any]:
    """A tenth of the rows are one session, cut into pieces."""
    giant_rows = bench.options.rows // 10
    source = bench.events("giant", bench.options.rows // 20, giant_rows)
    cap = ["--max-session-rows", str(GIANT_CAP), "--long-sessions", "cut"]
    run = bench.job(source, *cap)
    return {"rows_of_one_session": giant_rows, "cap": GIANT_CAP, **_median([run])}


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    versions = {"pyspark": pyspark.__version__, "java": java.stderr.splitlines()[0]}
    for name in PEERS:
        versions[name] = __import__(name).__version__
    return {
        "cpu": cpu_name(),
        "load_average_at_start": os.getloadavg()[0],
        "versions": versions,
    }


def _median(runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "seconds": round(statistics.median(run.seconds for run in runs), 2),
        "wall_seconds": round(statistics.median(run.wall_seconds for run in runs), 2),
        "cpu_seconds": round(statistics.median(run.cpu_seconds for run in runs), 2),
        "all_seconds": [round(run.seconds, 2) for run in runs],
        "peak_rss_mib": round(max(run.peak_rss_mib for run in runs)),
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Measure the layout job.", allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory-gib", type=int, default=6, help="of Spark's driver, of DuckDB")
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--work", default="/tmp/bench_sort", help="scratch folder")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    bench = Bench(options)
    results: dict[str, Any] = {
        "command": f"python -m benchmarks.bench_sort {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "options": {
            name: getattr(options, name)
            for name in ("rows", "repeats", "cores", "memory_gib", "partitions")
        },
    }
    source = bench.events("sessions", options.rows // 20)
    for name, part in (
        ("against_sql", lambda: compare_with_sql(bench, source)),
        ("peers", lambda: compare_with_peers(bench, source)),
        ("driver_memory_by_sessions", lambda: driver_memory(bench)),
        ("giant_session", lambda: giant_session(bench)),
    ):
        results[name] = part()
        print(json.dumps({name: results[name]}, indent=2), flush=True)
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
