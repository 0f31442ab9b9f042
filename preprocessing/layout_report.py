"""What the job did and what its dataset is like: as a dictionary, JSON, and lines to print.

    rows read = rows of the datasets + bad_rows (set aside in _quarantine) + dropped_rows

`layout_page.py` draws the same as a page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import types as T

if __package__:  # imported as preprocessing.layout_report
    from preprocessing.dataset_facts import LabelFacts, nearest_rank
    from preprocessing.verify import Verified
else:  # run by spark-submit, see jrc_sort.py
    from dataset_facts import LabelFacts, nearest_rank
    from verify import Verified

REPORT_VERSION = 1
_PERCENTILES = (50, 90, 99)
_FILE_BINS = 12


@dataclass(frozen=True)
class JobFacts:
    """What happened to the rows on their way, by reason; `seconds` by phase, in order."""

    input_rows: int
    bad_rows: Mapping[str, int] = field(default_factory=dict)
    dropped_rows: Mapping[str, int] = field(default_factory=dict)
    long_sessions: int = 0
    long_policy: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def check_labels(schema: T.StructType, labels: Sequence[str]) -> None:
    """Check that label columns are there and are numbers.

    Raises:
        ValueError: one is not.
    """
    for name in labels:
        if name not in schema.names:
            raise ValueError(
                f"--label-columns must name columns of the dataset, but there is no {name!r}. "
                f"Columns: {', '.join(schema.names)}"
            )
        kind = schema[name].dataType
        if not isinstance(kind, T.NumericType | T.BooleanType):
            raise ValueError(
                f"--label-columns must be numbers, but {name!r} is a {kind.simpleString()}; cast "
                "it before, or read CSV and JSON with --schema"
            )


def summarize(datasets: Mapping[str, Verified], job: JobFacts) -> dict[str, Any]:
    """The report; `datasets` by name, "" for the only one."""
    return {
        "report_version": REPORT_VERSION,
        "input_rows": job.input_rows,
        "bad_rows": dict(job.bad_rows),
        "dropped_rows": dict(job.dropped_rows),
        "long_sessions": {"policy": job.long_policy, "sessions": job.long_sessions},
        "seconds": {phase: round(took, 3) for phase, took in job.seconds.items()},
        "datasets": {name or "all": _summarize_one(found) for name, found in datasets.items()},
    }


def to_json(report: Mapping[str, Any]) -> str:
    """The report as text."""
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def to_text(report: Mapping[str, Any]) -> str:
    """The report as lines of a name and a value, for a terminal."""
    lines: list[tuple[str, object]] = []
    for name, dataset in report["datasets"].items():
        lines += [] if name == "all" else [("dataset", name)]
        lines += _dataset_lines(dataset)
    lines += [("bad rows", f"{rows}, {why}") for why, rows in report["bad_rows"].items()]
    lines += [("dropped rows", f"{rows}, {why}") for why, rows in report["dropped_rows"].items()]
    if report["long_sessions"]["sessions"]:
        facts = report["long_sessions"]
        lines.append(("long sessions", f"{facts['sessions']}, policy {facts['policy']}"))
    took = (f"{phase} {seconds:.1f}" for phase, seconds in report["seconds"].items())
    lines.append(("seconds", ", ".join(took)))
    return "\n".join(f"{name:<13} {value}" for name, value in lines)


def _dataset_lines(dataset: Mapping[str, Any]) -> list[tuple[str, object]]:
    lengths, files = dataset["session_rows"], dataset["files"]
    percentiles = ", ".join(f"p{p} {lengths[f'p{p}']}" for p in _PERCENTILES)
    lines: list[tuple[str, object]] = [
        ("rows", dataset["rows"]),
        ("sessions", dataset["sessions"]),
        ("session rows", f"{percentiles}, max {lengths['max']}, mean {lengths['mean']:.2f}"),
        ("files", f"{files['count']}, of {files['min_rows']} to {files['max_rows']} rows"),
        ("timestamps", f"{dataset['min_timestamp']} to {dataset['max_timestamp']}"),
    ]
    for name, label in dataset["labels"].items():
        lines.append(
            (
                f"label {name}",
                f"positive rate {_percent(label['positive_rate'])}, sessions with both labels "
                f"{_percent(label['mixed_sessions_share'])}",
            )
        )
    nulls = {name: rows for name, rows in dataset["nulls"].items() if rows}
    if nulls:
        lines.append(("nulls", ", ".join(f"{name} {rows}" for name, rows in nulls.items())))
    if dataset["colliding_session_ids"]:
        lines.append(("id collisions", dataset["colliding_session_ids"]))
    return lines


def _summarize_one(found: Verified) -> dict[str, Any]:
    facts, by_rows = found.manifest.statistics, found.sessions.sessions_by_rows
    files = sorted(file.rows for file in found.manifest.files)
    return {
        "rows": facts.rows,
        "sessions": facts.sessions,
        "colliding_session_ids": found.colliding_ids,
        "min_timestamp": facts.min_timestamp,
        "max_timestamp": facts.max_timestamp,
        "session_rows": {
            "min": min(by_rows),
            **{f"p{p}": nearest_rank(by_rows, p) for p in _PERCENTILES},
            "max": max(by_rows),
            "mean": facts.rows / facts.sessions,
            "histogram": session_histogram(by_rows),
        },
        "labels": {
            label.name: _summarize_label(label, facts.rows, facts.sessions)
            for label in found.sessions.labels
        },
        "files": {
            "count": len(files),
            "bytes": sum(file.bytes for file in found.manifest.files),
            "min_rows": files[0],
            "median_rows": files[len(files) // 2],
            "max_rows": files[-1],
            "skew": files[-1] * len(files) / facts.rows,  # largest by mean
            "histogram": file_histogram(files),
        },
        "nulls": dict(found.sessions.nulls),
    }


def _summarize_label(label: LabelFacts, rows: int, sessions: int) -> dict[str, Any]:
    known = label.positives + label.negatives
    return {
        "positives": label.positives,
        "negatives": label.negatives,
        "nulls": rows - known,
        "positive_rate": label.positives / known if known else None,
        "mixed_sessions": label.mixed_sessions,
        "mixed_sessions_share": label.mixed_sessions / sessions,
        "mixed_rows_share": label.rows_in_mixed_sessions / rows,
    }


def session_histogram(by_rows: Mapping[int, int]) -> list[dict[str, int]]:
    """Sessions and their rows in bins of 1, 2-3, 4-7, 8-15, ... rows."""
    bins: list[dict[str, int]] = []
    for bit in range(max(by_rows).bit_length()):
        first, last = 1 << bit, (1 << bit + 1) - 1
        inside = {rows: count for rows, count in by_rows.items() if first <= rows <= last}
        bins.append(
            {
                "from": first,
                "to": last,
                "sessions": sum(inside.values()),
                "rows": sum(rows * count for rows, count in inside.items()),
            }
        )
    return bins


def file_histogram(rows_of_files: Sequence[int]) -> list[dict[str, int]]:
    """Files in bins of equally many rows; the last bin holds the largest file."""
    width = -(-(max(rows_of_files) + 1) // _FILE_BINS)
    counts = [0] * _FILE_BINS
    for rows in rows_of_files:
        counts[rows // width] += 1
    return [
        {"from": n * width, "to": (n + 1) * width - 1, "files": count}
        for n, count in enumerate(counts)
    ]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.3g} %"
