"""The report of a run: report.json for programs, report.html (self-contained) for people."""

import base64
import html
import io
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import torch
import torchrec
from google.protobuf import text_format

from trainer.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainer.trainer import Trainer

METRIC_NAMES = {
    "auc": "AUC",
    "gauc": "GAUC",
    "gauc_unweighted": "GAUC unweighted",
    "gauc_coverage": "GAUC coverage",
    "logloss": "LogLoss",
    "pcoc": "PCOC",
}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>sessionwise: {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 960px }}
body {{ margin: 2rem auto; padding: 0 1rem }}
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
the diagonal. The size of a point grows with its rows.</p>{calibration}
<h2>Training</h2>{curves}
<h2>Config</h2><pre>{config}</pre>
</html>
"""


def write_report(trainer: "Trainer", evaluation: Evaluation | None, seconds: float) -> Path:
    """Write report.json and report.html into the model folder; returns the latter."""
    folder = trainer.model_dir
    statistics = trainer.train_data.manifest.statistics
    content = {
        "global_step": trainer.state.global_step,
        "seconds": round(seconds, 3),
        "train_rows": statistics.rows,
        "train_sessions": statistics.sessions,
        "world_size": trainer.world_size,
        "device": trainer.device.type,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchrec": torchrec.__version__,
        },
        "metrics": evaluation.metrics if evaluation else {},
        "reliability": evaluation.reliability if evaluation else {},
        "history": [asdict(entry) for entry in trainer.history],
    }
    _write(folder / "report.json", json.dumps(content, indent=2))
    facts = (
        f"{statistics.rows:,} training rows, {statistics.sessions:,} sessions, "
        f"{trainer.state.global_step:,} steps on {trainer.world_size} ranks "
        f"({trainer.device.type}), {seconds:,.1f} s; torch {torch.__version__}"
    )
    page = _PAGE.format(
        title=html.escape(folder.name),
        facts=html.escape(facts),
        metrics=_metric_table(evaluation),
        calibration=_image(_calibration_figure(evaluation)) if evaluation else "",
        curves=_image(_loss_figure(trainer)) if trainer.history else "<p>No step was logged.</p>",
        config=html.escape(text_format.MessageToString(trainer.config)),
    )
    return _write(folder / "report.html", page)


def _write(path: Path, text: str) -> Path:
    unfinished = path.with_suffix(path.suffix + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    return unfinished.replace(path)


def _metric_table(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.metrics:
        return "<p>No evaluation data was given.</p>"
    names = list(METRIC_NAMES) + sorted(
        {n for m in evaluation.metrics.values() for n in m if n.startswith("gauc[")}
    )
    head = "".join(f"<th>{html.escape(METRIC_NAMES.get(name, name))}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{html.escape(task)}</td>"
        + "".join(f"<td>{values.get(name, float('nan')):.4f}</td>" for name in names)
        for task, values in evaluation.metrics.items()
    )
    return f"<table><tr><th>task</th>{head}</tr>{rows}</table>"


def _calibration_figure(evaluation: Evaluation) -> "Figure":
    figure = _figure(max(len(evaluation.reliability), 1))
    for axes, (task, table) in zip(figure.axes, evaluation.reliability.items(), strict=False):
        bins = [(n, p / n, y / n) for n, p, y in table if n > 0]
        most = max((n for n, _, _ in bins), default=1)
        axes.plot([1e-5, 1], [1e-5, 1], color="0.6", linewidth=1)
        axes.scatter(
            [p for _, p, _ in bins],
            [y for _, _, y in bins],
            s=[6 + 90 * n / most for n, _, _ in bins],
        )
        axes.set(xscale="log", yscale="log", title=task)
        axes.set(xlabel="mean predicted probability", ylabel="observed rate")
    return figure


def _loss_figure(trainer: "Trainer") -> "Figure":
    figure = _figure(len(trainer.history[0].losses))
    steps = [entry.step for entry in trainer.history]
    for axes, name in zip(figure.axes, trainer.history[0].losses, strict=True):
        axes.plot(steps, [entry.losses[name] for entry in trainer.history])
        axes.set(title=name, xlabel="step", ylabel="loss of the global batch")
    return figure


def _figure(count: int) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count, 3.8), layout="constrained")
    for number in range(count):
        figure.add_subplot(1, count, number + 1).grid(alpha=0.3)
    return figure


def _image(figure: "Figure") -> str:
    with matplotlib.rc_context({"svg.hashsalt": "sessionwise"}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="plot" src="data:image/svg+xml;base64,{encoded}">'
