"""Rows per second of the reader, against bare Parquet decoding of the same columns.

    python -m benchmarks.bench_reader --output_path benchmarks/results/reader-cpu.json

16 id columns and a label, zstd, sessions of 10 rows in the mean, batches of 8,192 rows, 1 process.
Each measurement is a process of its own, start-up and first use of its memory included; the cases
take turns. Before anything is timed, the sums of all columns must be those of the bare decoding.

    bare        ParquetFile.iter_batches(8192), files one after the other; 1 worker: in the calling
                thread (use_threads=False), more: PyArrow's pool of that many (use_threads=True)
    stored      SessionLoader in stored order: whole sessions, checked ids, KeyedJaggedTensor;
                num_workers threads read, one more makes batches
    shuffled    SessionLoader with shuffle
    torcheasyrec  with --torcheasyrec CHECKOUT: its reader and parser in the calling thread, rows
                not shuffled, sessions cut where a batch ends
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks import torcheasyrec_reader
from benchmarks.click_data import ID_COLUMNS, NUM_IDS, write_click_data
from benchmarks.machine import cpu_name
from trainer.data.encode import ColumnSpec
from trainer.data.features import IdFeature, Ids
from trainer.data.loader import SessionLoader
from trainer.data.reader import SessionDataset
from trainer.protos.pipeline_pb2 import BinaryCrossEntropy, LossConfig
from trainer.tasks import Task

BATCH_SIZE = 8192
COLUMNS = [*ID_COLUMNS, "click"]
CASES = ("bare", "stored", "shuffled")
MEMORY_SAMPLES = 20


def column_spec() -> ColumnSpec:
    """The 16 id columns, checked against their tables, and the label."""
    task = Task("ctr", "click", 1, (LossConfig(binary_cross_entropy=BinaryCrossEntropy()),))
    features = [IdFeature(name, name, f"{name}_emb", 8, NUM_IDS, Ids()) for name in ID_COLUMNS]
    return ColumnSpec(tuple(features), (task,))


def batches(case: str, path: Path, workers: int, torcheasyrec: Path | None = None) -> Iterator[Any]:
    """All batches of an epoch: record batches of "bare", TorchEasyRec's own, or SessionBatches."""
    if torcheasyrec and case == "torcheasyrec":
        yield from torcheasyrec_reader.parsed_batches(
            torcheasyrec, path, ID_COLUMNS, "click", BATCH_SIZE, NUM_IDS
        )
        return
    if case == "bare":
        for file in sorted(path.glob("part-*.parquet")):
            yield from pq.ParquetFile(file).iter_batches(
                BATCH_SIZE, columns=COLUMNS, use_threads=workers > 1
            )
        return
    yield from SessionLoader(
        SessionDataset.open(path),
        column_spec(),
        batch_size=BATCH_SIZE,
        shuffle=case == "shuffled",
        num_workers=workers,
    ).batches()


def check_sums(path: Path, workers: int) -> None:
    """The gate: every case gives the same rows, by the sums of all columns."""
    expected = np.zeros(len(COLUMNS), dtype=np.int64)
    for batch in batches("bare", path, workers):
        expected += [np.sum(batch.column(name).to_numpy()) for name in COLUMNS]
    for case in ("stored", "shuffled"):
        found = np.zeros(len(COLUMNS), dtype=np.int64)
        for batch in batches(case, path, workers):
            ids = batch.ids.values().reshape(len(ID_COLUMNS), -1).sum(dim=1).tolist()
            found += [*ids, int(batch.labels["click"].sum())]
        assert found.tolist() == expected.tolist(), f"{case} must give the rows of {path}"


def measure(options: argparse.Namespace, workers: int) -> dict[str, Any]:
    """Read as many epochs as give `rows` rows in this process."""
    case, num_rows = options.case, options.rows
    pa.set_cpu_count(workers)
    if case == "torcheasyrec":  # import it before anything is timed
        next(batches(case, options.data_path, workers, options.torcheasyrec))
    memory, rows, due, epochs = [], 0, 0, 0
    started, cpu_started = time.perf_counter(), time.process_time()
    while rows < num_rows:
        epochs += 1
        for batch in batches(case, options.data_path, workers, options.torcheasyrec):
            rows += len(batch.labels["click"]) if case == "torcheasyrec" else batch.num_rows
            if rows >= due:
                memory.append(resident_mib())
                due += num_rows // MEMORY_SAMPLES
    seconds = time.perf_counter() - started
    return {
        "rows": rows,
        "epochs": epochs,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "cpu_ns_per_row": (time.process_time() - cpu_started) / rows * 1e9,
        "resident_mib": memory,
    }


def resident_mib() -> int:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def in_process(
    case: str, path: Path, workers: int, rows: int, torcheasyrec: Path | None = None
) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_reader", "--case", case]
    command += ["--data_path", str(path), "--rows", str(rows), "--workers", str(workers)]
    if torcheasyrec:
        command += ["--torcheasyrec", str(torcheasyrec)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(path: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every case with every number of workers in turn, `repeats` times."""
    settings = [(case, workers) for workers in options.workers for case in CASES]
    if options.torcheasyrec:
        settings.append(("torcheasyrec", 1))
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {setting: [] for setting in settings}
    for _ in range(options.repeats):
        for case, workers in settings:
            run = in_process(case, path, workers, options.rows, options.torcheasyrec)
            runs[case, workers].append(run)
            print(f"{case:9s} {workers} {run['rows_per_second']:12,.0f} rows/s", flush=True)
    found = [
        {"case": case, "workers": workers, **percentiles(of_setting)}
        for (case, workers), of_setting in runs.items()
    ]
    bare = {
        each["workers"]: each["rows_per_second_p50"] for each in found if each["case"] == "bare"
    }
    for each in found:
        each["share_of_bare"] = round(each["rows_per_second_p50"] / bare[each["workers"]], 3)
    return found


def percentiles(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Speed, processor time and memory over the repeats of one setting."""
    speeds = [run["rows_per_second"] for run in runs]
    p20, p50, p80 = (round(float(each)) for each in np.percentile(speeds, [20, 50, 80]))
    return {
        "rows_per_second_p20": p20,
        "rows_per_second_p50": p50,
        "rows_per_second_p80": p80,
        "cpu_ns_per_row_p50": round(float(np.median([r["cpu_ns_per_row"] for r in runs])), 1),
        "resident_mib_max": max(max(run["resident_mib"]) for run in runs),
    }


def scale(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Shuffled epochs of growing size: cost per row and memory."""
    found = []
    for dataset_rows in options.scale:
        path = write_click_data(folder / f"rows-{dataset_rows}", dataset_rows)
        rows = max(dataset_rows, options.rows)
        run = in_process("shuffled", path, max(options.workers), rows)
        shutil.rmtree(path)
        memory = run.pop("resident_mib")
        quarter = len(memory) // 4
        run |= {
            "dataset_rows": dataset_rows,
            "resident_mib_max": max(memory),
            "resident_mib_second_quarter": round(float(np.mean(memory[quarter : 2 * quarter]))),
            "resident_mib_last_quarter": round(float(np.mean(memory[-quarter:]))),
        }
        found.append(run)
        print(json.dumps(run), flush=True)
    return found


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_path", type=Path, help="JSON with the results")
    parser.add_argument("--rows", type=int, default=20_000_000, help="least rows of a measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument(
        "--scale", type=int, nargs="*", default=[1_000_000, 10_000_000, 100_000_000]
    )
    parser.add_argument("--torcheasyrec", type=Path, help="its checkout, protos compiled")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--data_path", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure all cases, print them, write them."""
    options = parse_args()
    if options.case:
        (workers,) = options.workers
        print(json.dumps(measure(options, workers)))
        return
    load_average = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        path = write_click_data(Path(folder) / "data", options.rows)
        for workers in options.workers:
            check_sums(path, workers)
        results = {
            "command": " ".join(["python -m benchmarks.bench_reader", *sys.argv[1:]]),
            "date": date.today().isoformat(),
            "machine": f"{os.cpu_count()} cores, {cpu_name()}",
            "load_average_before": load_average,
            "versions": {"pyarrow": pa.__version__, "torch": torch.__version__},
            "rows": options.rows,
            "batch_size": BATCH_SIZE,
            "cases": compare(path, options),
            "scale": scale(options, Path(folder)),
        }
    print(json.dumps(results, indent=2))
    if options.output_path:
        options.output_path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
