"""The layout job against plain SQL, DuckDB and Polars; its driver's memory; one giant session.

Hardware: any; the recorded run has 2 CPU cores and takes half an hour, 10 GB of disk.

    python -m benchmarks.bench_sort                            # 20 million rows
    python -m benchmarks.bench_sort --part peers               # one part; results are merged
    python -m benchmarks.bench_sort --rows 1000000 --repeats 1 --output look.json

    events          makes the inputs of all parts, and measures nothing
    against_sql     job and plain SQL by turns
    peers           the same sort by DuckDB and Polars
    driver_memory   with one session per 20 rows, and with one per 2 rows
    giant_session   a tenth of the rows are one session, which the job cuts

Each measurement is a process of its own. `seconds` are without the start of Spark, so that the same
few seconds on both sides do not flatter the ratio. Events have 13 columns: ids, text, floats,
labels; a twentieth of the prices are null. Results: benchmarks/results/sort-cpu.json, each part
with its command, date and machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyspark

from benchmarks.machine import cpu_name
from benchmarks.measured_process import ROOT, Run, measure

RESULTS = ROOT / "benchmarks" / "results" / "sort-cpu.json"
SPARK_SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"
KEYS = ["--session-column", "user_id", "--timestamp-column", "time_stamp"]
KEYS += ["--columns-regex", "(ds)?+.+", "--label-columns", "click,conversion"]
GIANT_CAP = 1000
OPTIONS = ("rows", "repeats", "cores", "memory_gib", "partitions")
SMALL_DRIVER_MIB = 512  # a heap in which nothing per session could hide
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
    IF({uniform(13, 20)} = 0, NULL, {uniform(8, 10000)} / 100)::FLOAT AS price,
    ({uniform(9, 10000)} / 10000)::FLOAT AS ctr,
    ({uniform(10, 10000)} / 10000)::FLOAT AS cvr,
    ({uniform(11, 10)} = 0)::INT AS click,
    ({uniform(12, 100)} = 0)::INT AS conversion,
    '20240101' AS ds
FROM range(ROWS) AS t(i)) TO 'OUT' (FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES '64MB')''')
"""


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

    def few_sessions(self) -> Path:
        """Events of 20 rows per session."""
        return self.events("sessions", self.options.rows // 20)

    def many_sessions(self) -> Path:
        """Events of about 2 rows per session: ids are drawn, so that a fifth come in no event."""
        return self.events("sessions", self.options.rows * 2 // 3)

    def giant(self) -> Path:
        """Events of which a tenth are one session."""
        rows = self.options.rows
        return self.events("giant", rows // 20, giant_rows=rows // 10)

    def job(self, source: Path, *flags: Any, **spark: Any) -> Run:
        """The layout job, `spark` being arguments of `spark`; its seconds are of its phases."""
        out = self.output("job")
        script = ROOT / "preprocessing" / "jrc_sort.py"
        partitions = ["--num-partitions", self.options.partitions]
        arguments = ["--input-path", source, "--output-path", out, *KEYS, *partitions, *flags]
        run = self.spark(script, *arguments, **spark)
        phases = re.findall(r" ([\d.]+)(?:,|$)", printed(run, "seconds"))
        return replace(run, seconds=sum(map(float, phases)))

    def plain(self, source: Path) -> Run:
        """Plain SQL."""
        script = ROOT / "benchmarks" / "plain_sort.py"
        run = self.spark(script, source, self.output("plain"), self.options.partitions)
        return replace(run, seconds=float(printed(run, "seconds")))

    def peer(self, name: str, source: Path) -> Run:
        """DuckDB or Polars; its seconds are those of the whole process."""
        code = PEERS[name].format(
            source=source,
            out=self.output(f"{name}.parquet"),
            cores=self.options.cores,
            gib=self.options.memory_gib,
        )
        return measure([sys.executable, "-c", code], POLARS_MAX_THREADS=str(self.options.cores))

    def spark(
        self, script: Path, *args: Any, master: str = "", driver_mib: int = 0, **conf: str
    ) -> Run:
        """A script by spark-submit on this machine, by default as threads of one process."""
        settings = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
        settings |= {"spark.local.dir": str(self.work / "spill")} | conf
        command = [SPARK_SUBMIT, "--master", master or f"local[{self.options.cores}]"]
        command += ["--driver-memory", f"{driver_mib or self.options.memory_gib * 1024}m"]
        for name, value in settings.items():
            command += ["--conf", f"{name}={value}"]
        return measure([*command, script, *args])

    def output(self, name: str) -> Path:
        """A path for an output, free again."""
        path = self.work / f"out-{name}"
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        return path


def printed(run: Run, name: str) -> str:
    """The value of a line of `name` and value that the process printed."""
    found = re.search(rf"^{name} +(.*)$", run.output, re.MULTILINE)
    assert found, f"there must be a line of {name!r}, but the process printed: {run.output}"
    return found[1]


def make_events(bench: Bench) -> None:
    """The inputs of all parts."""
    for path in (bench.few_sessions(), bench.many_sessions(), bench.giant()):
        print(f"made {path}", flush=True)


def compare_with_sql(bench: Bench) -> dict[str, Any]:
    """Job and SQL by turns."""
    source = bench.few_sessions()
    job, plain = [], []
    for turn in range(bench.options.repeats):
        plain.append(bench.plain(source))
        job.append(bench.job(source))
        print(
            f"turn {turn}: SQL {plain[-1].seconds:.1f} s, job {job[-1].seconds:.1f} s", flush=True
        )
    medians = {"plain_sql": _median(plain), "job": _median(job)}
    ratios = {
        f"ratio_of_{key}": round(medians["job"][key] / medians["plain_sql"][key], 3)
        for key in ("seconds", "wall_seconds", "cpu_seconds")
    }
    return {**medians, "job_phases_of_last_turn": printed(job[-1], "seconds"), **ratios}


def compare_with_peers(bench: Bench) -> dict[str, Any]:
    """DuckDB and Polars sort into one file: no index, verification, statistics."""
    source = bench.few_sessions()
    return {
        name: _median([bench.peer(name, source) for _ in range(bench.options.repeats)])
        for name in PEERS
    }


def driver_memory(bench: Bench) -> dict[str, Any]:
    """The driver's memory by number of sessions, its executors being processes of their own."""
    found: dict[str, Any] = {"driver_heap_mib": SMALL_DRIVER_MIB}
    log, gib = bench.work / "gc.log", bench.options.memory_gib
    for source in (bench.few_sessions(), bench.many_sessions()):
        log.unlink(missing_ok=True)
        run = bench.job(
            source,
            master=f"local-cluster[1,{bench.options.cores},{gib * 1024}]",
            driver_mib=SMALL_DRIVER_MIB,
            **{
                "spark.executor.memory": f"{gib}g",
                "spark.driver.extraJavaOptions": f"-Xlog:gc:file={log}",
            },
        )
        after_gc = [int(n) for n in re.findall(r"->(\d+)M\(", log.read_text())]
        sessions = printed(run, "sessions")
        found[f"{sessions}_sessions"] = {
            "seconds": round(run.seconds, 1),
            "driver_peak_heap_after_gc_mib": max(after_gc),
            "driver_peak_rss_mib": round(run.peak_rss_mib),
        }
    return found


def giant_session(bench: Bench) -> dict[str, Any]:
    """A tenth of the rows are one session, cut into pieces."""
    run = bench.job(bench.giant(), "--max-session-rows", GIANT_CAP, "--long-sessions", "cut")
    return {
        "rows_of_one_session": bench.options.rows // 10,
        "cap": GIANT_CAP,
        "long_sessions": printed(run, "long sessions"),
        "session_rows": printed(run, "session rows"),
        **_median([run]),
    }


PARTS = {
    "events": make_events,
    "against_sql": compare_with_sql,
    "peers": compare_with_peers,
    "driver_memory": driver_memory,
    "giant_session": giant_session,
}


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    """Where, when, with what and how a part was measured."""
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    versions = {"pyspark": pyspark.__version__, "java": java.stderr.splitlines()[0]}
    versions |= {name: version(name) for name in PEERS}
    return {
        "command": f"python -m benchmarks.bench_sort {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "versions": versions,
        **{name: getattr(options, name) for name in OPTIONS},
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
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory-gib", type=int, default=6, help="of Spark, of DuckDB")
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--work", default="/tmp/bench_sort", help="scratch folder")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    bench = Bench(options)
    for name in options.part or PARTS:
        where = circumstances(options)
        found = PARTS[name](bench)
        if found is not None:
            print(json.dumps({name: found}, indent=2), flush=True)
            merge(options.output, name, {**found, "measured": where})


def merge(path: Path, name: str, found: dict[str, Any]) -> None:
    """Put a part's results into the file at `path`, beside those of other parts."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = found
    path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
