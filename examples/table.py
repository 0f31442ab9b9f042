"""Print the evaluation metrics of runs side by side, and of true probabilities where known.

python examples/table.py JRC=runs/jrc BCE=runs/bce
python examples/table.py model=runs/demo --dataset data/eval --truth click=p_click
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from preprocessing.dataset_format import read_manifest, read_session_index
from trainer.metrics import binary_metrics

COLUMNS = {
    "auc": "AUC",
    "gauc": "GAUC",
    "gauc_unweighted": "unweighted",
    "gauc_coverage": "coverage",
    "logloss": "LogLoss",
    "pcoc": "PCOC",
}
Metrics = dict[str, dict[str, float]]


def run_metrics(model_dir: str) -> Metrics:
    """Metrics per task of a finished run."""
    report = Path(model_dir) / "report.json"
    if not report.is_file():
        raise ValueError(
            f"{model_dir} must be the model_dir of a finished run; it has no {report.name}"
        )
    return json.loads(report.read_text())["metrics"]


def true_metrics(dataset: str, probability_of: dict[str, str]) -> Metrics:
    """Metrics per label of columns that hold its true probability: the best any model can reach."""
    manifest = read_manifest(dataset)
    files = [str(Path(dataset) / file.name) for file in manifest.files]
    columns = [*probability_of, *probability_of.values()]
    table = pq.ParquetDataset(files).read(columns=columns)
    lengths = read_session_index(dataset, manifest).num_rows
    groups = np.repeat(np.arange(len(lengths)), lengths)
    return {
        label: binary_metrics(table[truth].to_numpy(), table[label].to_numpy(), groups)
        for label, truth in probability_of.items()
    }


def format_table(runs: dict[str, Metrics]) -> str:
    """A row per task and run."""
    rows = [["task", "", *COLUMNS.values()]]
    for task in dict.fromkeys(task for metrics in runs.values() for task in metrics):
        for name, metrics in runs.items():
            if task in metrics:
                rows.append([task, name, *(_number(metrics[task].get(key)) for key in COLUMNS)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def pairs(values: list[str]) -> dict[str, str]:
    """["a=b"] -> {"a": "b"}."""
    faulty = [value for value in values if "=" not in value]
    if faulty:
        raise ValueError(f"arguments must be NAME=VALUE, but got: {faulty[0]}")
    return dict(value.split("=", 1) for value in values)


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", help="NAME=MODEL_DIR")
    parser.add_argument("--dataset", help="session dataset with true probabilities")
    parser.add_argument("--truth", nargs="+", default=[], help="LABEL=PROBABILITY_COLUMN")
    args = parser.parse_args()
    if args.truth and not args.dataset:
        parser.error("--truth needs --dataset")
    try:
        runs = {name: run_metrics(folder) for name, folder in pairs(args.runs).items()}
        if args.truth:
            runs["truth (best possible)"] = true_metrics(args.dataset, pairs(args.truth))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
