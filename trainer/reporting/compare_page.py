"""The page of two models on the same rows, from what its JSON holds."""

import math
from collections.abc import Mapping
from typing import Any

from trainer.metrics.table import title
from trainer.reporting import score_plots, svg
from trainer.reporting.page import facts, figure, folded, heading, page, plots, table, text

Content = Mapping[str, Any]
MORE_IS_BETTER, LESS_IS_BETTER = ("auc", "gauc", "gauc_unweighted"), ("logloss", "ece_equal_mass")


def compare_page(content: Content, source: str) -> str:
    """The page of a result of launch/compare.py; `source` is the name of its JSON."""
    a, b = content["a"], content["b"]
    body = [
        text(f"a: {a['checkpoint']}"),
        text(f"b: {b['checkpoint']}"),
        text(f"On the same rows of {content['eval_input_path']}. Numbers: {source}."),
    ]
    for task, differences in content["differences"].items():
        body += [heading(2, f"Task {task}"), *_of_task(task, differences, content)]
    data = content["data"]
    body += [
        heading(2, "Run"),
        facts(
            {
                "rows": f"{data['rows']:,}",
                "sessions": f"{data['sessions']:,}",
                "bootstrap replicates": f"{content['replicates']:,}",
                **content["machine"],
                **content["versions"],
            }
        ),
        folded("Config of a", a["config"]),
        folded("Config of b", b["config"]),
    ]
    return page(f"{a['name']} and {b['name']}", body)


def verdict(metric: str, low: float | None, high: float | None) -> str:
    """Which model is better, where the interval of b - a leaves 0 out."""
    if low is None or high is None:
        return ""
    if low <= 0 <= high:
        return "not sure"
    if metric in MORE_IS_BETTER:
        return "b is better" if low > 0 else "a is better"
    if metric in LESS_IS_BETTER:
        return "b is better" if high < 0 else "a is better"
    return "they differ"


def _of_task(task: str, differences: Content, content: Content) -> list[str]:
    models = {f"{key}: {content[key]['name']}": content["plots"][task][key] for key in ("a", "b")}
    figures = [_forest(task, differences), score_plots.reliability(task, models)]
    figures += filter(None, [score_plots.gauc_by_length(task, models)])
    figures += [score_plots.histogram(task, of, name) for name, of in models.items()]
    rows = [["metric", "a", "b", "b - a", "95 % interval", ""]]
    rows += [
        [title(name), *_row(each), verdict(name, each["low"], each["high"])]
        for name, each in differences.items()
    ]
    note = (
        "The interval holds 95 % of the differences when whole sessions are drawn anew, with both "
        "models measured on the same draws. PCOC is best at 1."
    )
    return [table(rows), text(note), plots(figures)]


def _forest(task: str, differences: Content) -> str:
    """Each metric's difference over the far end of its own interval: units differ."""
    rows, hollow = [], []
    for name, each in differences.items():
        low, high = (math.nan if each[end] is None else each[end] for end in ("low", "high"))
        far = max(abs(low), abs(high)) or 1.0
        value = math.nan if each["a"] is None or each["b"] is None else each["b"] - each["a"]
        rows.append((title(name), value / far, low / far, high / far))
        hollow.append(low <= 0 <= high)
    label = f"Differences of the metrics of {task}, b - a, with 95 % bootstrap intervals"
    scale = svg.linear("b - a, each metric on its own scale", -1.0, 1.0, margin=0.05)
    plot = svg.Forest(label, svg.without_ticks(scale), rows, guide=0.0, hollow=hollow)
    note = "Hollow: 0 is inside the interval, the sign of the difference is not sure."
    numbers = [["metric", "b - a", "95 % interval"]]
    numbers += [[title(name), *_row(each)[2:]] for name, each in differences.items()]
    return figure("Differences, b - a", plot.svg(), numbers, note=note)


def _row(each: Content) -> list[str]:
    """Both values, the difference, its interval."""
    a, b, low, high = (each[key] for key in ("a", "b", "low", "high"))
    if None in (a, b, low, high):
        return [*("" if value is None else f"{value:.4f}" for value in (a, b)), "", ""]
    return [f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}", f"{low:+.4f} to {high:+.4f}"]
