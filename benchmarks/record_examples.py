"""Run the examples from their raw data and record wall times and metrics, with the machine.

    .venv/bin/python benchmarks/record_examples.py --trivago path/to/trivago_actions.parquet

Writes benchmarks/results/examples-DEVICE.json and prints it. Wall times include Spark's and
torchrun's start; set-up is not counted.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import cpu_name

ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def run(command: list[str], runs: dict[str, Path], **environment: str) -> dict[str, Any]:
    """Run a command; its wall time, and of each run its metrics and training speed."""
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True)
    seconds = time.monotonic() - started
    found: dict[str, Any] = {"command": " ".join(command), "wall_seconds": round(seconds, 1)}
    for name, folder in runs.items():
        report = json.loads((ROOT / folder / "report.json").read_text())
        speeds = sorted(entry["rows_per_second"] for entry in report["history"])
        found[name] = {
            "train_rows": report["train_rows"],
            "global_step": report["global_step"],
            "ranks": report["world_size"],
            "train_and_evaluate_seconds": report["seconds"],
            "median_rows_per_second": round(speeds[len(speeds) // 2]),
            "metrics": report["metrics"],
        }
    return found


def main() -> int:
    """Record both examples; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trivago", type=Path, help="raw file; left out without it")
    args = parser.parse_args()
    results = {"machine": machine()}
    results["demo"] = run(["make", "demo"], {"jrc": Path("runs/demo")}, AGAIN="1")
    if args.trivago:
        folders = {name: Path("runs/trivago") / name for name in ("jrc", "bce")}
        results["trivago"] = run(["make", "trivago", f"RAW={args.trivago.resolve()}"], folders)
        results["trivago"]["command"] = "make trivago RAW=trivago_actions.parquet"
    device = "cuda" if results["machine"]["gpu"] else "cpu"
    text = json.dumps(results, indent=2)
    (ROOT / "benchmarks" / "results" / f"examples-{device}.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
