"""The page of a run, from what its JSON holds."""

from collections.abc import Mapping
from typing import Any

from trainer.metrics.table import number, table, title
from trainer.reporting import curves, score_plots
from trainer.reporting.page import facts, folded, heading, page, plots, text
from trainer.reporting.page import table as html_table

Content = Mapping[str, Any]
SUMMARY = ("auc", "gauc", "logloss", "pcoc", "ece", "mse", "mae", "accuracy")
NO_EVALUATION = (
    "No evaluation: no evaluation data was given. Give --eval_input_path, or run "
    "launch/evaluate.py on the model folder."
)


def report_page(content: Content, source: str) -> str:
    """The page of report.json, or of a result of launch/evaluate.py; `source` is its name."""
    tasks = list(content["metrics"]) or _tasks_of(content["history"])
    body = [text(_what_is_shown(content, source)), *_summary(content["metrics"])]
    for task in tasks:
        body += [heading(2, f"Task {task}"), *_of_task(task, content)]
    body += [heading(2, "Training"), *_training(content)]
    body += [heading(2, "All metrics"), *_all_metrics(content["metrics"])]
    body += [heading(2, "Data"), *_data(content)]
    body += [heading(2, "Run"), *_run(content)]
    return page(f"Model {content['title']}", body)


def _what_is_shown(content: Content, source: str) -> str:
    where = content.get("checkpoint") or f"step {content['global_step']:,}"
    data = content.get("eval_input_path") or content["data"].get("evaluation data", {}).get("path")
    of = f", evaluated on {data}" if data and content["metrics"] else ""
    return f"{where}{of}. The numbers of this page: {source}."


def _summary(metrics: Content) -> list[str]:
    if not metrics:
        return [text(NO_EVALUATION)]
    found = []
    for task, values in metrics.items():
        shown = {title(n): number(n, values[n]) or "none" for n in SUMMARY if n in values}
        found += [heading(3, task), facts(shown)]
    return found


def _of_task(task: str, content: Content) -> list[str]:
    history, metrics = content["history"], content["metrics"].get(task, {})
    of, figures, notes = content["plots"].get(task), [], []
    if of and metrics["rows"]:
        figures += [score_plots.reliability(task, {"model": of}), score_plots.histogram(task, of)]
        by_length = score_plots.gauc_by_length(task, {"model": of})
        figures += [by_length] if by_length else []
        notes += [] if by_length else ["No session has both labels: there is no GAUC to show."]
        for field in of["fields"]:
            rce = metrics.get(f"field_rce[{field}]")
            figures.append(score_plots.calibration_by_field(task, field, of, rce))
        if not of["fields"]:
            notes.append(
                "Calibration by field: name a column in the task's metrics, "
                'metrics { field_calibration_error { field_name: "COLUMN" } }, or by '
                "launch/evaluate.py --calibration_fields COLUMN."
            )
    elif metrics:
        notes.append("Plots of scores are drawn for labels of two classes.")
    figures += curves.loss_curves(history, task)
    figures += curves.train_metric_curves(history, task)
    figures += curves.evaluation_curves(content["evaluations"], task)
    return [plots(figures), *map(text, notes)]


def _training(content: Content) -> list[str]:
    if not content["history"]:
        return [text("No step was logged: see train_config.log_step_count_steps.")]
    return [plots(curves.run_curves(content["history"]))]


def _all_metrics(metrics: Content) -> list[str]:
    return [html_table(table(dict(metrics)))] if metrics else [text(NO_EVALUATION)]


def _data(content: Content) -> list[str]:
    found = []
    for name, of in content["data"].items():
        found += [heading(3, name.capitalize()), text(of["path"]), facts(_sizes(of))]
        if "session_rows" in of:
            found.append(plots([score_plots.session_lengths(name, of["session_rows"])]))
        found += _labels(of, content["metrics"] if name == "evaluation data" else {})
    return found


def _sizes(of: Content) -> dict[str, str]:
    sizes = {
        "rows": f"{of['rows']:,}",
        "sessions": f"{of['sessions']:,}",
        "mean rows per session": f"{of['rows'] / of['sessions']:.2f}",
        "longest session, rows": f"{of['max_session_rows']:,}",
    }
    for share in (50, 90, 99):
        if f"session_rows_p{share}" in of:
            sizes[f"{share} % of sessions, rows"] = f"up to {of[f'session_rows_p{share}']:,}"
    sizes |= {
        "session": ", ".join(of["session_columns"]),
        "files": f"{of['files']:,}, {of['bytes'] / 2**20:,.1f} MiB",
    }
    if "min_timestamp" in of:
        sizes |= {"first time": str(of["min_timestamp"]), "last time": str(of["max_timestamp"])}
    return sizes


def _labels(of: Content, metrics: Content) -> list[str]:
    """Positive rates and sessions with both labels: as the layout job counted, or evaluation."""
    rows = [["label", "positive rate", "positives", "sessions with both", "rows in these"]]
    for name, label in of.get("labels", {}).items():
        shares = (label[f"mixed_{of_what}_share"] for of_what in ("sessions", "rows"))
        rate, positives = label["positive_rate"], f"{label['positives']:,}"
        rows.append([name, _percent(rate), positives, *map(_percent, shares)])
    for task, values in metrics.items() if len(rows) == 1 else ():
        if values.get("rows") and "positives" in values:
            rate, positives = values["positives"] / values["rows"], f"{values['positives']:,.0f}"
            shares = (values["gauc_unweighted_coverage"], values["gauc_coverage"])
            rows.append([f"of task {task}", _percent(rate), positives, *map(_percent, shares)])
    if len(rows) == 1:
        return [
            text("Labels were not counted: jrc_sort.py --label-columns A,B does so for this page.")
        ]
    return [html_table(rows), text("Sessions with both labels alone feed JRC's ranking term.")]


def _run(content: Content) -> list[str]:
    ranks = f"{content['world_size']} ({content['device']})"
    shown = {"steps": f"{content['global_step']:,}", "ranks": ranks}
    shown["seconds"] = f"{content['seconds']:,.1f}"
    if content.get("skipped_batches"):
        shown["batches left out, loss not finite"] = f"{content['skipped_batches']:,}"
    return [
        facts(shown),
        facts(content["machine"]),
        facts(content["versions"]),
        folded("Config", content["config"]),
    ]


def _tasks_of(history: list[Content]) -> list[str]:
    """Tasks in the order of the losses, where nothing was evaluated."""
    losses = history[0]["losses"] if history else {}
    return list(dict.fromkeys(name.rsplit("/", 1)[0] for name in losses))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.3g} %"
