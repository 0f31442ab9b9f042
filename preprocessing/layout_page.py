"""The report of layout_report.py as one HTML page that needs no script and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d8dde3;
  --page: #ffffff; --bar: #2f6fb5; --track: #eef1f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --line: #333a42;
  --page: #15181c; --bar: #6ea8e6; --track: #22272d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr));
  gap: .75rem; }
.facts div { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .75rem; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1rem; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: .85rem; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
td:first-child { min-width: 7.5rem; } .wide td + td { white-space: nowrap; }
td.bar { width: 45%; } @media (max-width: 40rem) { td.bar { width: 20%; } }
td.bar svg { display: block; width: 100%; height: 1rem; }
rect.track { fill: var(--track); } rect.bar { fill: var(--bar); }
p { color: var(--soft); margin: .25rem 0; }
"""


def to_html(report: Mapping[str, Any]) -> str:
    """The page of a report of layout_report.py."""
    body = ["<h1>Session dataset</h1>", _rows_section(report)]
    for name, dataset in report["datasets"].items():
        body.append(f"<h2>{'Dataset' if name == 'all' else escape(name)}</h2>")
        body += _dataset_sections(dataset)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Session dataset</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _rows_section(report: Mapping[str, Any]) -> str:
    written = {f"written, {name}": d["rows"] for name, d in report["datasets"].items()}
    if list(report["datasets"]) == ["all"]:
        written = {"written": report["datasets"]["all"]["rows"]}
    fates = {
        **written,
        **{f"quarantined: {why}": rows for why, rows in report["bad_rows"].items()},
        **{f"dropped: {why}": rows for why, rows in report["dropped_rows"].items()},
    }
    long = report["long_sessions"]
    cut = f"<p>{_count(long['sessions'])} sessions exceed the cap; policy: {long['policy']}.</p>"
    took = ", ".join(f"{escape(phase)} {s:.1f} s" for phase, s in report["seconds"].items())
    return (
        f"<h2>Where the {_count(report['input_rows'])} rows read went</h2>"
        + _bars(("what", "rows"), [(name, rows) for name, rows in fates.items()])
        + (cut if long["sessions"] else "")
        + f"<p>Time: {took}.</p>"
    )


def _dataset_sections(dataset: Mapping[str, Any]) -> list[str]:
    lengths, files, labels = dataset["session_rows"], dataset["files"], dataset["labels"]
    sessions = [(_span(b["from"], b["to"]), b["sessions"]) for b in lengths["histogram"]]
    sizes = [(_span(b["from"], b["to"]), b["files"]) for b in files["histogram"]]
    sections = [
        _facts(
            {
                "rows": _count(dataset["rows"]),
                "sessions": _count(dataset["sessions"]),
                "mean rows per session": f"{lengths['mean']:.2f}",
                "longest session": _count(lengths["max"]),
                "files": _count(files["count"]),
                "largest file / mean": f"{files['skew']:.2f}",
                "size": f"{files['bytes'] / (1 << 20):,.1f} MiB",
                "first time": _time(dataset["min_timestamp"]),
                "last time": _time(dataset["max_timestamp"]),
                "colliding session ids": _count(dataset["colliding_session_ids"]),
            }
        ),
        "<h3>Session length, rows</h3>",
        f"<p>Half of the sessions have at most {_count(lengths['p50'])} rows, 90 % at most "
        f"{_count(lengths['p90'])}, 99 % at most {_count(lengths['p99'])}.</p>",
        _bars(("rows in a session", "sessions"), sessions),
    ]
    if labels:
        sections += ["<h3>Labels</h3>", _labels(labels)]
    sections += ["<h3>Rows per file</h3>", _bars(("rows in a file", "files"), sizes)]
    nulls = [(name, rows) for name, rows in dataset["nulls"].items() if rows]
    sections.append("<h3>Nulls</h3>")
    sections.append(
        _bars(("column", "null rows"), nulls, whole=dataset["rows"])
        if nulls
        else "<p>No column has a null.</p>"
    )
    return sections


def _labels(labels: Mapping[str, Mapping[str, Any]]) -> str:
    head = ("label", "positive rate", "positives", "negatives", "nulls", "sessions with both")
    rows = [
        (
            _name(name),
            _percent(label["positive_rate"]),
            _count(label["positives"]),
            _count(label["negatives"]),
            _count(label["nulls"]),
            _percent(label["mixed_sessions_share"]),
        )
        for name, label in labels.items()
    ]
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><tr>{"".join(f"<th>{h}</th>" for h in head)}</tr>{cells}'
        "</table></div><p>Only sessions with both labels feed the ranking term of the JRC loss.</p>"
    )


def _facts(facts: Mapping[str, str]) -> str:
    boxes = (f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return f'<dl class="facts">{"".join(boxes)}</dl>'


def _bars(head: tuple[str, str], rows: Sequence[tuple[str, int]], whole: int | None = None) -> str:
    """A table whose rows have a bar; the longest one is `whole`, or the greatest value."""
    longest = max(whole or 0, *(value for _, value in rows), 1)
    cells = "".join(
        f'<tr><td>{_name(name)}</td><td class="bar"><svg role="img" aria-label="{_count(value)}">'
        f'<rect class="track" width="100%" height="100%"/><rect class="bar" '
        f'width="{100 * value / longest:.2f}%" height="100%"/></svg></td>'
        f"<td>{_count(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table><tr><th>{head[0]}</th><th></th><th>{head[1]}</th></tr>{cells}</table>"


def _span(first: int, last: int) -> str:
    return _count(first) if first == last else f"{_count(first)} to {_count(last)}"


def _name(text: str) -> str:
    """Text in which a line may break after each underscore."""
    return escape(text).replace("_", "_<wbr>")


def _time(value: int | float | str) -> str:
    """A timestamp of the manifest, which a line can break between date and time."""
    return str(value).replace("T", " ")


def _count(number: int) -> str:
    return f"{number:,}"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.3g} %"
