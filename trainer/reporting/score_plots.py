"""Plots of the scores of a task of two classes, from the sums of BinaryMetrics.plots.

Each takes the sums of one model or, to compare, of several: a series each.

Shapes: `B` bins.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.metrics.calibration import LOG_ODDS_BINS, MAX_LOG_ODDS
from trainer.metrics.intervals import wilson_interval
from trainer.reporting import svg
from trainer.reporting.page import figure

Plots = Mapping[str, Any]
_EDGES = 1 / (1 + np.exp(-np.linspace(-MAX_LOG_ODDS, MAX_LOG_ODDS, LOG_ODDS_BINS + 1)))
INTERVAL = (
    "95 % Wilson score intervals of the observed rate, as if rows were independent: those of one "
    "session are not quite, so they are somewhat too narrow."
)


def reliability(task: str, models: Mapping[str, Plots]) -> str:
    """Observed rate by predicted probability, with the band that chance alone leaves."""
    tables = {name: _bins(of["reliability"]) for name, of in models.items()}
    means = np.concatenate([table[:, 1] / table[:, 0] for table in tables.values()])
    rates = np.concatenate([t[:, 2] / t[:, 0] for t in tables.values()])
    seen = np.concatenate([means, rates[(rates > 0) & (rates < 1)]])
    low, high = max(seen.min() / 1.5, 1e-6), 1 - max((1 - seen.max()) / 1.5, 1e-6)
    plot = svg.Plot(
        f"Reliability diagram of {task}: observed rate by mean predicted probability",
        svg.logit("mean predicted probability", low, high),
        svg.logit("observed rate", low, high),
    )
    plot.guide([low, high], [low, high])
    rows = [["model", "rows", "mean predicted", "observed", "95 % interval"]]
    for series, (name, table) in enumerate(tables.items()):
        count, predicted, positives = table.T
        mean, rate = predicted / count, positives / count
        ends = wilson_interval(positives, count)
        plot.band(mean, *ends, series)
        at_edge = (rate == 0) | (rate == 1)
        plot.line(mean, np.where(at_edge, math.nan, rate), series)
        plot.points(mean, rate, series, hollow=at_edge.tolist())
        rows += [
            [name, f"{n:,.0f}", _p(p), _p(y), f"{_p(lo)} to {_p(hi)}"]
            for n, p, y, lo, hi in zip(count, mean, rate, *ends, strict=True)
        ]
    note = f"A calibrated model lies on the dashed line. {INTERVAL} Hollow: none or only positives."
    return figure("Reliability", plot.svg(), rows, keys=_keys(models), note=note)


def histogram(task: str, of: Plots, model: str = "") -> str:
    """How the scores of positives and of negatives lie."""
    table = np.array(of["reliability"])
    used = np.flatnonzero(table[:, 0])
    inside = slice(used[0], used[-1] + 1)
    edges = _EDGES[inside.start : inside.stop + 1].tolist()
    count, _, positives = table[inside].T
    shares = [n / max(n.sum(), 1) for n in (count - positives, positives)]
    plot = svg.Plot(
        f"Scores of {task} by label: share of each label's rows by predicted probability",
        svg.logit("predicted probability", edges[0], edges[-1]),
        svg.linear("share of the label's rows", 0.0, max(s.max() for s in shares) * 1.05),
    )
    for series, share in enumerate(shares):
        plot.area(edges, share.tolist(), series)
    rows = [["predicted from", "to", "negatives", "positives"]] + [
        [_p(left), _p(right), f"{n - y:,.0f}", f"{y:,.0f}"]
        for left, right, n, y in zip(edges, edges[1:], count, positives, strict=False)
    ]
    title = f"Scores by label{f', {model}' if model else ''}"
    return figure(title, plot.svg(), rows, keys=("negatives", "positives"))


def gauc_by_length(task: str, models: Mapping[str, Plots]) -> str:
    """GAUC of sessions of 1, 2-3, 4-7, ... rows; empty if no session has both labels."""
    tables = {name: of["session_lengths"] for name, of in models.items()}
    names = {b["from"]: _span(b) for table in tables.values() for b in table}
    places = {first: k for k, first in enumerate(sorted(names))}
    ends = [b[end] for table in tables.values() for b in table for end in ("gauc", "low", "high")]
    ends = [value for value in ends if not _is_nan(value)]
    if not ends:
        return ""
    plot = svg.Plot(
        f"GAUC of {task} by session length",
        svg.categories("rows in the session", [names[first] for first in places]),
        svg.linear("GAUC", min(ends), max(ends), margin=0.05),
    )
    rows = [["model", "rows in the session", "GAUC", "95 % interval", "with both labels", "of"]]
    for series, (name, table) in enumerate(tables.items()):
        used = [b for b in table if not _is_nan(b["gauc"])]
        shift = (series - (len(tables) - 1) / 2) * 0.16
        at = [places[b["from"]] + shift for b in used]
        bars = [(_number(b["low"]), _number(b["high"])) for b in used]
        plot.line(at, [b["gauc"] for b in used], series)
        plot.intervals(at, bars, series)
        values, unsure = [b["gauc"] for b in used], [_is_nan(b["low"]) for b in used]
        plot.points(at, values, series, hollow=unsure)
        rows += [
            [
                *(name, names[b["from"]], _p(b["gauc"]), f"{_p(b['low'])} to {_p(b['high'])}"),
                *(f"{b['mixed_sessions']:,}", f"{b['sessions']:,} sessions"),
            ]
            for b in table
        ]
    note = (
        "Of the sessions with both labels, weighted by rows; 95 % normal intervals over sessions. "
        "Hollow: a single such session."
    )
    return figure("GAUC by session length", plot.svg(), rows, keys=_keys(models), note=note)


def session_lengths(data: str, of: Mapping[str, Any]) -> str:
    """How many sessions have 1, 2-3, 4-7, ... rows, as the layout job counted."""
    bins = of["histogram"]
    counts = [b["sessions"] for b in bins]
    plot = svg.Plot(
        f"Sessions of the {data} by length",
        svg.categories("rows in the session", [_span(b) for b in bins]),
        svg.linear("sessions", 0.0, max(counts) * 1.05),
    )
    plot.area([k - 0.5 for k in range(len(bins) + 1)], counts)
    rows = [["rows in the session", "sessions"]]
    rows += [[_span(b), f"{b['sessions']:,}"] for b in bins]
    return figure("Session length", plot.svg(), rows)


def calibration_by_field(task: str, field: str, of: Plots, rce: float | None) -> str:
    """PCOC of the values of a field with most rows."""
    values = of["fields"][field]["largest"]
    number = of["fields"][field]["values"]
    found = []
    for value in values:
        low, high = (float(end) for end in wilson_interval(value["positives"], value["rows"]))
        predicted = value["predicted"] / value["rows"]
        rate = value["positives"] / value["rows"]
        pcoc = predicted / rate if rate else math.nan
        found.append((value["value"], pcoc, predicted / high, predicted / max(low, 1e-12)))
    seen = [x for _, *xs in found for x in xs if not math.isnan(x)]
    low, high = max(min([0.8, *seen]), 0.1), min(max([1.25, *seen]), 10.0)
    label = f"PCOC of {task} by {field}, with 95 % intervals"
    plot = svg.Forest(label, svg.log("PCOC", low, high), found, guide=1.0)
    rows = [[field, "rows", "positives", "PCOC", "95 % interval"]] + [
        [name, f"{v['rows']:,}", f"{v['positives']:,}", _p(pcoc), f"{_p(lo)} to {_p(hi)}"]
        for v, (name, pcoc, lo, hi) in zip(values, found, strict=True)
    ]
    note = f"Predicted over observed positives; 1 is calibrated. Field-RCE: {_p(_number(rce))}. "
    if number > len(values):
        note += f"The {len(values)} of {number:,} values with most rows. "
    note += f"{INTERVAL} No dot: no positive."
    return figure(f"Calibration by {field}", plot.svg(), rows, note=note)


def _bins(table: Sequence[Sequence[float]]) -> np.ndarray:
    """The bins with rows, [B, 3]."""
    bins = np.array(table, dtype=np.float64)
    return bins[bins[:, 0] > 0]


def _keys(models: Mapping[str, Plots]) -> tuple[str, ...]:
    return tuple(models) if len(models) > 1 else ()


def _span(bucket: Mapping[str, int]) -> str:
    first, last = bucket["from"], bucket["to"]
    return f"{first:,}" if first == last else f"{first:,}-{last:,}"


def _number(value: float | None) -> float:
    """NaN for the None of JSON."""
    return math.nan if value is None else value


def _is_nan(value: float | None) -> bool:
    return math.isnan(_number(value))


def _p(value: float | None) -> str:
    value = _number(value)
    return "" if math.isnan(value) else f"{value:.4g}"
