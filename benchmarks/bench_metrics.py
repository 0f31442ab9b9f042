"""Evaluate many rows: time and memory of the metrics alone, and their error against exact ones.

    python benchmarks/bench_metrics.py --rows 10000000

Rows come in batches of made sessions, as evaluation gives them. Memory is this process's resident
set beside what it had before the first row; the exact AUC is computed at the end, from scores kept
on disk.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import cpu_name

from trainer.metrics import BinaryMetrics, Ranks, auc
from trainer.metrics.requests import Requests

BATCH_ROWS, SESSION_ROWS = 8192, 8
USERS, FIELD_VALUES = 500_000, 1_000


def resident_mib() -> float:
    """Memory of this process, in MiB."""
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) / 1024


def measure(rows: int, folder: Path) -> dict[str, object]:
    """Update and compute; memory every tenth of the rows."""
    asked = Requests(
        group_by=["user"], fields={"city": 0.01}, ndcg_at=[10], recall_at=[5], mrr=True
    )
    metrics = BinaryMetrics("click", asked)
    random = np.random.default_rng(0)
    before, seconds, resident = resident_mib(), 0.0, []
    for first in range(0, rows, BATCH_ROWS):
        size = min(BATCH_ROWS, rows - first)
        place = np.arange(first, first + size)
        prob = random.beta(0.6, 8.0, size).astype(np.float32)
        label = (random.random(size) < prob).astype(np.int64)
        session = place // SESSION_ROWS
        groups = {"user": session * 7919 % USERS, "city": place * 31 % FIELD_VALUES}
        for name, column in (("prob", prob), ("label", label.astype(np.int8))):
            with (folder / name).open("ab") as file:
                column.tofile(file)
        started = time.perf_counter()
        metrics.update(prob, label, session, groups)
        seconds += time.perf_counter() - started
        if (first + size) * 10 // rows > len(resident):
            resident.append(round(resident_mib() - before, 1))
    started = time.perf_counter()
    found = metrics.compute(Ranks.alone())
    compute_seconds = time.perf_counter() - started
    plots = metrics.plots(Ranks.alone())
    exact = auc(np.fromfile(folder / "prob", "f4"), np.fromfile(folder / "label", "i1"))
    return {
        "rows": rows,
        "update_seconds": round(seconds, 2),
        "update_rows_per_second": round(rows / seconds),
        "compute_seconds": round(compute_seconds, 2),
        "resident_mib_at_each_tenth": resident,
        "auc_error": abs(found["auc"] - exact),
        "plot_bytes": len(json.dumps(plots)),
        "metrics": found,
    }


def main() -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments.rows, Path(folder))
    print(json.dumps({"cpu": cpu_name(), **result}, indent=2))


if __name__ == "__main__":
    main()
