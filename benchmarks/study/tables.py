"""The recorded runs as Markdown tables, put between the marks of a page."""

import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from scipy import stats

from benchmarks.study.datasets import DATASETS
from benchmarks.study.records import Record
from benchmarks.study.trees import OBJECTIVES

TRUTH = "true probability"
BASELINE = "cross-entropy"
COLUMNS = {"gauc": "GAUC", "auc": "AUC", "logloss": "LogLoss", "pcoc": "PCOC", "ece": "ECE"}
OF_TRUTH = {"excess": "KL to the truth", "gap": "mean error of p"}
BETTER = {"gauc": 1, "auc": 1, "logloss": -1}  # 1: more is better


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t; infinite for a single value."""
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return mean, math.inf
    error = statistics.stdev(values) / math.sqrt(count)
    return mean, float(stats.t.ppf(0.975, count - 1)) * error


def cell(values: list[float], sign: str = "") -> str:
    """`0.8742 ± 0.0011`; without the interval where there is one value alone."""
    mean, half = interval(values)
    return f"{mean:{sign}.4f}" + (f" ± {half:.4f}" if math.isfinite(half) else "")


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(records: list[Record], dataset: str, label: str) -> str:
    """A row per loss: seeds, and each metric with its interval over them."""
    runs = _by_loss(records, dataset, label)
    if not runs:
        return "No run is recorded yet."
    columns = dict(COLUMNS)
    if DATASETS[dataset].truth:
        columns |= OF_TRUTH
    rows = [
        [loss, str(len(of_seed)), *(cell([m[name] for m in of_seed.values()]) for name in columns)]
        for loss, of_seed in runs.items()
    ]
    return markdown(["", "seeds", *columns.values()], rows)


def differences(records: list[Record], dataset: str, label: str) -> str:
    """Against cross-entropy with the same seed: mean difference, its interval, and what it says."""
    runs = _by_loss(records, dataset, label)
    if not runs:
        return "No run is recorded yet."
    base = next(loss for loss in runs if loss.startswith(BASELINE))
    rows = []
    for loss, of_seed in runs.items():
        shared = sorted(set(of_seed) & set(runs[base]))
        if loss in (base, TRUTH) or not shared:
            continue
        row = [loss]
        for name, direction in BETTER.items():
            values = [of_seed[seed][name] - runs[base][seed][name] for seed in shared]
            row += [f"{cell(values, '+')} {verdict(values, direction)}".strip()]
        rows.append(row)
    names = [f"{COLUMNS[name]} - {base}'s" for name in BETTER]
    return markdown(["", *names], rows)


def verdict(values: list[float], direction: int) -> str:
    """`better` or `worse` where the interval leaves 0 out."""
    mean, half = interval(values)
    if abs(mean) <= half:
        return ""
    return "better" if mean * direction > 0 else "worse"


def _by_loss(
    records: list[Record], dataset: str, label: str
) -> dict[str, dict[int, dict[str, float]]]:
    """Per loss, in the study's order, and seed: the metrics of the label."""
    order = [*DATASETS[dataset].losses, *OBJECTIVES, TRUTH]
    found: dict[str, dict[int, dict[str, float]]] = {loss: {} for loss in order}
    for record in records:
        if record.dataset == dataset and record.loss in found:
            found[record.loss][record.seed] = record.metrics[label]
    return {loss: of_seed for loss, of_seed in found.items() if of_seed}


KINDS: dict[str, Callable[[list[Record], str, str], str]] = {
    "table": table,
    "differences": differences,
}
MARKED = re.compile(
    r"(<!-- (?P<kind>\w+): (?P<dataset>[^;]+); (?P<label>\w+) -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def filled(page: str, records: list[Record]) -> str:
    """The page with its tables, each between `<!-- table: trivago; label -->` and `<!-- end -->`.

    Raises:
        ValueError: a mark names no table or no dataset.
    """

    def fill(found: re.Match[str]) -> str:
        kind, dataset, label = found["kind"], found["dataset"], found["label"]
        if kind not in KINDS or dataset not in DATASETS:
            raise ValueError(
                f"a mark must be one of {', '.join(KINDS)} of one of {', '.join(DATASETS)}, "
                f"but is: {found[1].strip()}"
            )
        return found[1] + KINDS[kind](records, dataset, label) + "\n" + found["end"]

    return MARKED.sub(fill, page)


def write_tables(page: Path, records: list[Record]) -> None:
    """Put the tables of the recorded runs into a page."""
    page.write_text(filled(page.read_text(), records))
