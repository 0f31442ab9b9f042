"""Curves of a run over its steps, from the log entries of report.json."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.metrics.table import title
from trainer.reporting import svg
from trainer.reporting.page import figure

FEW_POINTS = 20  # are drawn as dots too
MAX_POINTS = 200  # of a curve; of more log entries, means of neighbours
EVALUATED = ("auc", "gauc", "logloss", "pcoc", "mse")  # drawn over checkpoints
Entries = Sequence[Mapping[str, Any]]


def loss_curves(history: Entries, task: str) -> list[str]:
    """Each loss of a task."""
    return [
        _curve(f"Loss: {loss}", f"{name} by step", "mean since the last point", history, values)
        for name, loss, values in _of_task(history, "losses", task)
    ]


def train_metric_curves(history: Entries, task: str) -> list[str]:
    """Each of the train_metrics of a task."""
    return [
        _curve(
            f"While training: {title(metric)}",
            f"{name} of the last steps, by step",
            title(metric),
            history,
            values,
        )
        for name, metric, values in _of_task(history, "train_metrics", task)
    ]


def evaluation_curves(evaluations: Entries, task: str) -> list[str]:
    """Metrics of the checkpoints that were evaluated, where there are two or more."""
    of_task = [entry["metrics"].get(task, {}) for entry in evaluations]
    names = [name for name in EVALUATED if any(each.get(name) is not None for each in of_task)]
    return [
        _curve(
            f"Evaluation: {title(name)}",
            f"{title(name)} of {task} on the evaluation data, by step",
            title(name),
            evaluations,
            {title(name): [each.get(name) for each in of_task]},
        )
        for name in names
        if len(evaluations) > 1
    ]


def run_curves(history: Entries) -> list[str]:
    """Pareto weights, throughput, learning rates, gradient norm, time spent on waiting."""
    found = []
    if history and history[0].get("pareto_weights"):
        weights = {
            task: [(entry["pareto_weights"] or {}).get(task) for entry in history]
            for task in history[0]["pareto_weights"]
        }
        label = "Weight of each task by step"
        found.append(_curve("Pareto weights", label, "weight", history, weights, from_zero=True))
    single = (
        ("Throughput", "rows_per_second", "rows per second, all ranks"),
        ("Waiting for data", "data_wait_share", "share of the time"),
        ("Gradient norm", "gradient_norm", "L2 norm of dense gradients"),
    )
    for name, key, unit in single:
        values = [entry.get(key) for entry in history]
        if any(value is not None for value in values):
            label, series = f"{name} by step", {key: values}
            found.append(_curve(name, label, unit, history, series, from_zero=True))
    rates = {part: [e["learning_rates"].get(part) for e in history] for part in _parts(history)}
    if rates:
        label = "Learning rate of each part by step"
        found.append(_curve("Learning rates", label, "learning rate", history, rates))
    return found


def _parts(history: Entries) -> list[str]:
    return list(history[0].get("learning_rates") or {}) if history else []


def _of_task(
    history: Entries, key: str, task: str
) -> Iterator[tuple[str, str, dict[str, list[float | None]]]]:
    """What entries have under `key` of a task: `task/name`, `name`, and the values by the first."""
    for name in history[0][key] if history else ():
        if name.startswith(f"{task}/"):
            values = [entry[key].get(name) for entry in history]
            yield name, name.removeprefix(f"{task}/"), {name: values}


def _curve(
    caption: str,
    label: str,
    unit: str,
    entries: Entries,
    series: Mapping[str, Sequence[float | None]],
    *,
    from_zero: bool = False,
) -> str:
    """A line per series over the entries' steps; the axis starts at 0 where 0 is near, or asked."""
    names = list(series)[: svg.SERIES]
    columns = [[entry.get("step", entry.get("global_step", 0)) for entry in entries]]
    columns += [[math.nan if v is None else v for v in series[name]] for name in names]
    steps, *lines = _thinned(np.array(columns, dtype=np.float64))
    values = np.array(lines)[np.isfinite(lines)]
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    low = 0.0 if low > 0 and (from_zero or low < 0.35 * high) else low
    plot = svg.Plot(
        label,
        svg.linear("step", float(steps[0]), float(steps[-1])),
        svg.linear(unit, float(low), float(high), margin=0.0 if low == 0 else 0.04),
    )
    for number, line in enumerate(lines):
        plot.line(steps.tolist(), line.tolist(), number)
        if len(steps) <= FEW_POINTS:
            plot.points(steps.tolist(), line.tolist(), number)
    rows = [["step", *names]] + [
        [f"{step:,.0f}", *("" if math.isnan(v) else f"{v:.5g}" for v in each)]
        for step, *each in zip(steps, *lines, strict=True)
    ]
    return figure(caption, plot.svg(), rows, keys=names if len(names) > 1 else ())


def _thinned(columns: np.ndarray) -> np.ndarray:
    """Columns [C, N] with at most MAX_POINTS entries: means of neighbours; steps are the last."""
    count = columns.shape[1]
    if count <= MAX_POINTS:
        return columns
    starts = np.arange(MAX_POINTS) * count // MAX_POINTS
    means = np.add.reduceat(columns, starts, axis=1) / np.diff(starts, append=count)
    means[0] = columns[0, np.append(starts[1:], count) - 1]
    return means
