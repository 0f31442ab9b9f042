"""The report of a run: report.json for programs, report.html (self-contained) for people.

The page shows what the JSON holds and nothing else, so a reader can check every plot.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from google.protobuf import text_format

from trainer.checkpoints.checkpoint import list_checkpoints, read_metrics, read_state, step_of
from trainer.checkpoints.restore import Run
from trainer.compare import Difference
from trainer.data.reader import SessionDataset
from trainer.evaluate import Evaluation, Scores
from trainer.metrics import BinaryMetrics, Ranks
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.reporting.compare_page import compare_page
from trainer.reporting.facts import data_facts, machine, name_values, versions
from trainer.reporting.progress import LogEntry
from trainer.reporting.report_page import report_page

if TYPE_CHECKING:
    from trainer.trainer import Trainer

PAGE = "report.html"


def write_report(trainer: "Trainer", evaluation: Evaluation | None, seconds: float) -> Path:
    """Write report.json and report.html into the model folder; returns the latter. On rank 0."""
    content = {
        "title": trainer.model_dir.name,
        "global_step": trainer.state.global_step,
        "seconds": round(seconds, 3),
        "train_rows": trainer.train_data.num_rows,
        "train_sessions": trainer.train_data.num_sessions,
        "skipped_batches": trainer.recorder.skipped_batches,
        "config": _text(trainer.config),
        **_about(trainer.device),
        "data": {"training data": data_facts(trainer.train_data)},
        "history": [asdict(entry) for entry in trainer.recorder.history],
        "evaluations": _evaluations(trainer.model_dir),
    }
    content |= _evaluated(evaluation, trainer.eval_data)
    if trainer.eval_data:
        content["data"]["evaluation data"] = data_facts(trainer.eval_data)
    return _write(trainer.model_dir / "report.json", content, trainer.model_dir / PAGE, report_page)


def write_evaluation_report(
    result: Path,
    config: EasyRecConfig,
    checkpoint: Path,
    dataset: SessionDataset,
    evaluation: Evaluation,
    device: torch.device,
    seconds: float,
) -> Path:
    """Write the result of launch/evaluate.py as JSON and, beside it, report.html; returns the
    latter. The curves are those of the training up to the checkpoint. On rank 0.
    """
    _, history = read_state(checkpoint)
    content = {
        "title": checkpoint.parent.name,
        "checkpoint": str(checkpoint),
        "eval_input_path": dataset.path,
        "global_step": step_of(checkpoint),
        "seconds": round(seconds, 3),
        "config": _text(config),
        **_about(device),
        "data": {"evaluation data": data_facts(dataset)},
        "history": [asdict(LogEntry(**entry)) for entry in history],
        "evaluations": _evaluations(checkpoint.parent),
        **_evaluated(evaluation, dataset),
    }
    return _write(result, content, result.with_name(PAGE), report_page)


def write_comparison(
    result: Path,
    runs: Sequence[Run],
    dataset: SessionDataset,
    scores: Mapping[str, tuple[Scores, Scores]],
    differences: Mapping[str, Mapping[str, Difference]],
    replicates: int,
    device: torch.device,
) -> Path:
    """Write the result of launch/compare.py as JSON and as a page beside it; returns the latter.

    Args:
        runs: of both models.
        scores: of both models, by task.
        differences: by task and metric.
    """
    names = [run.model_dir.name for run in runs]
    if names[0] == names[1]:
        names = [str(run.checkpoint) for run in runs]
    content = {
        key: {"name": name, "checkpoint": str(run.checkpoint), "config": _text(run.config)}
        for key, name, run in zip("ab", names, runs, strict=True)
    }
    content |= {
        "eval_input_path": dataset.path,
        "data": data_facts(dataset),
        "replicates": replicates,
        **_about(device),
        "differences": {
            task: {name: asdict(each) for name, each in of_task.items()}
            for task, of_task in differences.items()
        },
        "plots": {
            task: {key: _plots_of(each) for key, each in zip("ab", both, strict=True)}
            for task, both in scores.items()
        },
    }
    return _write(result, content, result.with_suffix(".html"), compare_page)


def _write(
    result: Path, content: dict[str, Any], page: Path, draw: Callable[[Any, str], str]
) -> Path:
    """Write content as JSON and as a page; returns the page's path."""
    content = finite_or_none(content)
    write_file(result, json.dumps(content, indent=2, allow_nan=False))
    return write_file(page, draw(content, result.name))


def write_file(path: Path, text: str) -> Path:
    """Write under a temporary name, then rename; a file that holds the text already stays.

    Raises:
        OSError: with the path, also where the system's own has none: on a full disk.
    """
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return path
    unfinished = path.with_suffix(path.suffix + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return unfinished.replace(path)


def finite_or_none(value: Any) -> Any:
    """The same structure with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite_or_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite_or_none(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def named_plots(plots: Mapping[str, Any], dataset: SessionDataset) -> dict[str, Any]:
    """What Evaluation.plots holds of a task, with the names of the fields' values."""
    fields = {
        name: {**of, "largest": name_values(dataset, name, of["largest"])}
        for name, of in plots["fields"].items()
    }
    return {**plots, "fields": fields}


def _about(device: torch.device) -> dict[str, Any]:
    return {
        "world_size": dist.get_world_size(),
        "device": device.type,
        "machine": machine(device),
        "versions": versions(),
    }


def _text(config: EasyRecConfig) -> str:
    return text_format.MessageToString(config)


def _plots_of(scores: Scores) -> dict[str, Any]:
    """What the plots of one model are made of, as Evaluation.plots."""
    metrics = BinaryMetrics()
    metrics.update(scores.prob, scores.label, scores.session)
    return metrics.plots(Ranks.alone())


def _evaluated(evaluation: Evaluation | None, dataset: SessionDataset | None) -> dict[str, Any]:
    if evaluation is None or dataset is None:
        return {"metrics": {}, "plots": {}}
    plots = {task: named_plots(of, dataset) for task, of in evaluation.plots.items()}
    return {"metrics": evaluation.metrics, "plots": plots}


def _evaluations(model_dir: Path) -> list[dict[str, Any]]:
    """Metrics of the checkpoints in a model folder that were evaluated while training."""
    found = [(step_of(path), read_metrics(path)) for path in list_checkpoints(model_dir)]
    return [{"step": step, "metrics": metrics} for step, metrics in found if metrics]
