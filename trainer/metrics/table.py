"""Metrics as people read them: titles, numbers, a table on the screen."""

import math
import re

TITLES = {
    "auc": "AUC",
    "gauc": "GAUC",
    "logloss": "LogLoss",
    "normalized_entropy": "normalised entropy",
    "pcoc": "PCOC",
    "ece": "ECE",
    "mrr": "MRR",
    "ndcg": "NDCG",
    "mse": "MSE",
    "mae": "MAE",
    "xauc": "XAUC",
    "field_rce": "field-RCE",
    "multiclass_auc": "multi-class AUC",
}
COUNTS = ("rows", "positives")


def title(name: str) -> str:
    """`gauc_unweighted[user]` as `GAUC unweighted by user`."""
    base, option, column = re.fullmatch(r"(\w+)(@[^\[]+)?(?:\[(.*)\])?", name).groups()  # type: ignore[union-attr]
    known = max((key for key in TITLES if base == key or base.startswith(f"{key}_")), default="")
    words = base.removeprefix(known).replace("_", " ")
    return f"{TITLES.get(known, known)}{option or ''}{words}{f' by {column}' if column else ''}"


def number(name: str, value: float | None) -> str:
    """A value with as many digits as it deserves; nothing where it is not defined."""
    if value is None or math.isnan(value):
        return ""
    if name in COUNTS:
        return f"{value:,.0f}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def table(metrics: dict[str, dict[str, float]]) -> list[list[str]]:
    """A head and a row per metric: its title, then its number for each task.

    Error bounds and standard errors of 0 are left out: these metrics are exact.
    """
    names = dict.fromkeys(name for of_task in metrics.values() for name in of_task)
    rows = [["", *metrics]]
    for name in names:
        values = [of_task.get(name) for of_task in metrics.values()]
        if re.search(r"_(error_bound|stderr)\b", name) and not any(values):
            continue
        rows.append([title(name), *(number(name, value) for value in values)])
    return rows


def as_text(metrics: dict[str, dict[str, float]]) -> str:
    """The table for a screen: columns aligned, numbers to the right."""
    rows = table(metrics)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
