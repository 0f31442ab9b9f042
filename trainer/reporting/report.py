"""The report of a run: report.json for programs, report.html (self-contained) for people."""

import base64
import html
import io
import json
import math
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import torch
import torchrec
from google.protobuf import text_format

from trainer.evaluate import Evaluation
from trainer.metrics.table import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainer.trainer import Trainer

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>sessionwise: {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; padding: 1rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #8884 }}
th:first-child, td:first-child {{ text-align: left }}
div.wide {{ overflow-x: auto }}
img {{ max-width: 100%; background: #fff; border-radius: 6px }}
pre {{ overflow: auto; max-height: 24rem; padding: .8rem; background: #8881; border-radius: 6px }}
</style>
<h1>{title}</h1>
<p>{facts}</p>
<h2>Evaluation</h2><div class="wide">{metrics}</div>
<h2>Calibration</h2><p>Each point is a bin of predicted probability; a calibrated model lies on
the diagonal. The size of a point grows with its rows; a hollow one, at the bottom, had no
positive row.</p>{calibration}
<h2>Training</h2>{curves}
<h2>Config</h2><pre>{config}</pre>
</html>
"""


def write_report(trainer: "Trainer", evaluation: Evaluation | None, seconds: float) -> Path:
    """Write report.json and report.html into the model folder; returns the latter."""
    folder = trainer.model_dir
    content = {
        "global_step": trainer.state.global_step,
        "seconds": round(seconds, 3),
        "train_rows": trainer.train_data.num_rows,
        "train_sessions": trainer.train_data.num_sessions,
        "skipped_batches": trainer.recorder.skipped_batches,
        "world_size": trainer.world_size,
        "device": trainer.device.type,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchrec": torchrec.__version__,
        },
        "metrics": evaluation.metrics if evaluation else {},
        "reliability": evaluation.reliability if evaluation else {},
        "history": [asdict(entry) for entry in trainer.recorder.history],
    }
    write_file(folder / "report.json", json.dumps(without_nan(content), indent=2))
    facts = (
        f"{content['train_rows']:,} training rows, {content['train_sessions']:,} sessions, "
        f"{trainer.state.global_step:,} steps on {trainer.world_size} ranks "
        f"({trainer.device.type}), {seconds:,.1f} s; torch {torch.__version__}"
    )
    page = _PAGE.format(
        title=html.escape(folder.name),
        facts=html.escape(facts),
        metrics=_metric_table(evaluation),
        calibration=_image(_calibration_figure(evaluation), "calibration plot")
        if evaluation
        else "",
        curves=_image(_loss_figure(trainer), "loss curves")
        if trainer.recorder.history
        else "<p>No step was logged.</p>",
        config=html.escape(text_format.MessageToString(trainer.config)),
    )
    return write_file(folder / "report.html", page)


def write_file(path: Path, text: str) -> Path:
    """Write under a temporary name, then rename."""
    unfinished = path.with_suffix(path.suffix + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    return unfinished.replace(path)


def without_nan(value: Any) -> Any:
    """The same structure with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _metric_table(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.metrics:
        return "<p>No evaluation data was given.</p>"
    head, *rows = table(evaluation.metrics)
    cells = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(cells)}</table>"


def _row(tag: str, values: list[str]) -> str:
    cells = "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)
    return f"<tr>{cells}</tr>"


def _calibration_figure(evaluation: Evaluation) -> "Figure":
    figure = _figure(max(len(evaluation.reliability), 1))
    for axes, (task, bin_rows) in zip(figure.axes, evaluation.reliability.items(), strict=False):
        bins = [(n, p / n, y / n) for n, p, y in bin_rows if n > 0]
        most = max((n for n, _, _ in bins), default=1)
        low = min((min(p, y) for _, p, y in bins if y > 0), default=1e-3) / 2
        axes.plot([low, 1], [low, 1], color="0.6", linewidth=1)
        for hollow in (False, True):  # the axis has no zero: no positives lie at its bottom
            points = [(n, p, y or low) for n, p, y in bins if (y == 0) == hollow]
            axes.scatter(
                [p for _, p, _ in points],
                [y for _, _, y in points],
                s=[6 + 90 * n / most for n, _, _ in points],
                facecolors="none" if hollow else "tab:blue",
                edgecolors="tab:blue",
            )
        axes.set(xscale="log", yscale="log", title=task)
        axes.set(xlabel="mean predicted probability", ylabel="observed rate")
    return figure


def _loss_figure(trainer: "Trainer") -> "Figure":
    weighs_tasks = trainer.recorder.history[0].pareto_weights is not None
    figure = _figure(len(trainer.recorder.history[0].losses) + weighs_tasks)
    steps = [entry.step for entry in trainer.recorder.history]
    if weighs_tasks:
        weights = [entry.pareto_weights or {} for entry in trainer.recorder.history]
        axes = figure.axes[-1]
        for task in weights[0]:
            axes.plot(steps, [each.get(task, math.nan) for each in weights], label=task)
        axes.set(title="Pareto weight of the task", xlabel="step", ylim=(0, 1))
        axes.legend()
    for axes, name in zip(figure.axes, trainer.recorder.history[0].losses, strict=False):
        axes.plot(steps, [entry.losses[name] for entry in trainer.recorder.history])
        axes.set(title=name, xlabel="step", ylabel="mean over the rows since the last point")
    return figure


def _figure(count: int) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count, 3.8), layout="constrained")
    for number in range(count):
        figure.add_subplot(1, count, number + 1).grid(alpha=0.3)
    return figure


def _image(figure: "Figure", title: str) -> str:
    with matplotlib.rc_context({"svg.hashsalt": "sessionwise"}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{title}" src="data:image/svg+xml;base64,{encoded}">'
