"""report.html and the page of a comparison: what is in them, and how a browser shows them."""

import html
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from launch import compare, evaluate
from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.config import ConfigError
from trainer.reporting import svg
from trainer.reporting.compare_page import compare_page, verdict
from trainer.reporting.report import _write, write_file
from trainer.reporting.report_page import report_page
from trainer.trainer import Trainer

CPU = torch.device("cpu")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
NASTY = '<script>alert("1")&<b>'  # a name that must be escaped wherever it stands
RUN_PLOTS = [
    "Reliability diagram of ctr: observed rate by mean predicted probability",
    "Scores of ctr by label: share of each label's rows by predicted probability",
    "GAUC of ctr by session length",
    "PCOC of ctr by city, with 95 % intervals",
    "Reliability diagram of cvr: observed rate by mean predicted probability",
    "ctr/jrc_loss by step",
    "cvr/jrc_loss by step",
    "ctr/auc of the last steps, by step",
    "LogLoss of ctr on the evaluation data, by step",
    "Weight of each task by step",
    "Throughput by step",
    "Sessions of the training data by length",
]
EVALUATED_PLOTS = [
    *RUN_PLOTS[:-1],  # without the training data
    "PCOC of ctr by user_id, with 95 % intervals",
    "PCOC of cvr by user_id, with 95 % intervals",
]
COMPARE_PLOTS = [
    "Differences of the metrics of ctr, b - a, with 95 % bootstrap intervals",
    "Reliability diagram of ctr: observed rate by mean predicted probability",
    "GAUC of ctr by session length",
    "Scores of ctr by label: share of each label's rows by predicted probability",
]
PAGES = {
    "trained.html": RUN_PLOTS,
    f"{NASTY}/report.html": EVALUATED_PLOTS,
    "b/compare.html": COMPARE_PLOTS,
}
WIDTHS = [390, 1400]
JOB_REPORT = {
    "datasets": {
        "all": {
            "session_rows": {"histogram": [{"from": 1, "to": 1, "sessions": 7}]},
            "labels": {
                "click": {
                    "positives": 21,
                    "positive_rate": 0.125,
                    "mixed_sessions_share": 0.25,
                    "mixed_rows_share": 0.5,
                }
            },
        }
    }
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data, and two short runs; the first is evaluated again, and both are compared."""
    path = tmp_path_factory.mktemp("report")
    write_dataset(path / "train", click_table(100, seed=1))
    (path / "train" / "_report.json").write_text(json.dumps(JOB_REPORT))
    write_dataset(path / "eval", click_table(60, seed=1))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    for name, steps in ((NASTY, 8), ("b", 2)):
        config = two_task_config(
            train_config__num_steps=steps,
            train_config__log_step_count_steps=2,
            train_config__save_checkpoints_steps=4,
            train_config__evaluate_checkpoints=True,
            model_config__use_pareto_loss_weight=True,
            train_input_path=str(path / "train"),
            eval_input_path=str(path / "eval"),
            model_dir=str(path / name),
        )
        tower = config.model_config.dbmtl.task_towers[0]
        tower.metrics.add().field_calibration_error.field_name = "city"
        tower.train_metrics.add(decay_step=2).auc.SetInParent()
        Trainer(config, CPU).train_and_evaluate()
    shutil.copy(path / NASTY / "report.html", path / "trained.html")
    flags = ["--checkpoint_path", path / NASTY / "model.ckpt-4", "--eval_input_path", path / "eval"]
    flags += ["--calibration_fields", "user_id"]
    evaluate.evaluate_run(evaluate.parse_args([str(flag) for flag in flags]), CPU)
    flags = [path / NASTY, path / "b", "--eval_input_path", path / "eval", "--replicates", 20]
    compare.compare_runs(compare.parse_args([str(flag) for flag in flags]), CPU)
    dist.destroy_process_group()
    return path


class Page(HTMLParser):
    """The text of a page, the labels of its plots, and whether every tag is closed in its order."""

    VOID = ("meta",)
    ALONE = ("path", "circle")  # written <path ... />

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.plots = "", []
        self.feed(page.read_text())
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "img", "b")
        values = dict(attrs)
        assert not {"src", "href", "xlink:href"} & set(values)
        assert not any(name.startswith("on") for name in values)
        if tag == "svg":
            assert values["role"] == "img"
            self.plots.append(values["aria-label"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.ALONE

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def squeezed(page: Path) -> str:
    return " ".join(Page(page).text.split())


# ------------------------------------------------------------------ what is in the pages


def test_the_page_after_training_has_every_plot_and_fact(folder):
    page = folder / "trained.html"
    assert [label for label in RUN_PLOTS if label not in Page(page).plots] == []
    text = squeezed(page)
    report = json.loads((folder / NASTY / "report.json").read_text())
    for task in ("ctr", "cvr"):
        assert f"{report['metrics'][task]['gauc']:.4f}" in text
    assert f"Model {NASTY}" in text  # escaped, so it is text
    assert "12.5 %" in text and "25 %" in text  # of the layout job: positive rate, both labels
    assert "click_rate" not in text and 'jrc_loss { session_name: "session_id" }' in text
    assert "processor" in text and torch.__version__ in text
    assert report["data"]["training data"]["rows"] == report["train_rows"]
    assert page.stat().st_size < 300_000


def test_the_json_holds_what_the_plots_show(folder):
    report = json.loads((folder / NASTY / "report.json").read_text())
    table, plots = click_table(60, seed=1), report["plots"]["ctr"]
    city, click = table["city"].to_numpy(zero_copy_only=False), table["click"].to_numpy()
    values = {each["value"]: each for each in plots["fields"]["city"]["largest"]}
    assert set(values) == set(city)  # names, not hashes
    for name, each in values.items():
        mine = city == name
        assert (each["rows"], each["positives"]) == (mine.sum(), click[mine].sum())
    bins = np.array(plots["reliability"])
    metrics = report["metrics"]["ctr"]
    assert bins[:, 0].sum() == table.num_rows and bins[:, 2].sum() == click.sum()
    assert bins[:, 1].sum() / click.sum() == pytest.approx(metrics["pcoc"])
    lengths = plots["session_lengths"]
    assert sum(each["sessions"] for each in lengths) == 60
    assert [e["step"] for e in report["evaluations"]] == [4, 8]
    assert report["evaluations"][-1]["metrics"]["ctr"] == metrics


def test_the_page_after_evaluation_is_of_that_checkpoint(folder):
    page = folder / NASTY / "report.html"
    plots, text = Page(page).plots, squeezed(page)
    assert "PCOC of ctr by user_id, with 95 % intervals" in plots
    assert "PCOC of cvr by user_id, with 95 % intervals" in plots
    assert "model.ckpt-4" in text and "eval_result.json" in text
    result = json.loads((folder / NASTY / "eval_result.json").read_text())
    assert result["global_step"] == 4 and len(result["history"]) == 2
    assert f"{result['metrics']['ctr']['auc']:.4f}" in text
    known = {str(user) for user in click_table(60, seed=1)["user_id"].to_pylist()}
    largest = result["plots"]["ctr"]["fields"]["user_id"]["largest"]
    assert {each["value"] for each in largest} <= known
    assert "The 15 of " in text


def test_the_page_of_a_comparison(folder):
    page = folder / "b" / "compare.html"
    assert [label for label in COMPARE_PLOTS if label not in Page(page).plots] == []
    found = json.loads((folder / "b" / "compare.json").read_text())
    text = squeezed(page)
    assert f"a: {NASTY}" in text and "b: b" in text
    for each in found["differences"]["cvr"].values():
        assert f"{each['b'] - each['a']:+.4f}" in text
    trained = json.loads((folder / "b" / "report.json").read_text())["plots"]["ctr"]
    compared = found["plots"]["ctr"]["b"]
    assert np.array(compared["reliability"]) == pytest.approx(np.array(trained["reliability"]))


def test_calibration_fields_that_are_not_there_are_an_error(folder):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    flags = ["--checkpoint_path", str(folder / "b"), "--calibration_fields", "town"]
    with pytest.raises(ConfigError, match=r"metrics of task `ctr`: .* has no column `town`"):
        evaluate.evaluate_run(evaluate.parse_args(flags), CPU)
    dist.destroy_process_group()


def content(folder: Path, **changes: object) -> dict:
    return {**json.loads((folder / NASTY / "report.json").read_text()), **changes}


def test_without_data_there_is_a_sentence_and_no_plot(folder, tmp_path):
    cases = {
        "no evaluation": content(folder, metrics={}, plots={}),
        "nothing logged": content(folder, history=[]),
    }
    one_class = content(folder)
    for each in one_class["plots"]["ctr"]["session_lengths"]:
        each.update(mixed_sessions=0, gauc=None, low=None, high=None)
    cases["one class"] = one_class
    pages = {}
    for name, each in cases.items():
        write_file(tmp_path / "page.html", report_page(each, "report.json"))
        pages[name] = Page(tmp_path / "page.html")
    assert "No evaluation: no evaluation data was given." in pages["no evaluation"].text
    assert not any("Reliability" in label for label in pages["no evaluation"].plots)
    assert "ctr/jrc_loss by step" in pages["no evaluation"].plots
    assert "No step was logged" in pages["nothing logged"].text
    assert "Throughput by step" not in pages["nothing logged"].plots
    assert "GAUC of ctr by session length" not in pages["one class"].plots
    assert "No session has both labels" in pages["one class"].text


def test_a_comparison_on_one_class_has_no_verdict(folder, tmp_path):
    compared = json.loads((folder / "b" / "compare.json").read_text())
    compared["differences"]["ctr"]["auc"] = {"a": None, "b": None, "low": None, "high": None}
    for of in compared["plots"]["ctr"].values():
        for each in of["session_lengths"]:
            each.update(gauc=None, low=None, high=None)
    write_file(tmp_path / "page.html", compare_page(compared, "compare.json"))
    page = Page(tmp_path / "page.html")
    assert "nan" not in page.text and COMPARE_PLOTS[0] in page.plots
    assert "GAUC of ctr by session length" not in page.plots


def test_numbers_that_json_has_not_are_null(tmp_path):
    numbers = {"a": [1.5, math.inf, -math.inf], "b": {"c": math.nan, "d": np.float64("inf")}}
    _write(tmp_path / "out.json", numbers, tmp_path / "out.html", lambda *_: "")
    text = (tmp_path / "out.json").read_text()
    assert json.loads(text) == {"a": [1.5, None, None], "b": {"c": None, "d": None}}


def test_long_runs_are_thinned_to_a_small_page(folder):
    report = content(folder)
    entry = report["history"][0]
    report["history"] = [{**entry, "step": step} for step in range(5, 100_000, 5)]
    page = report_page(report, "report.json")
    assert len(page) < 1_000_000
    assert "99,995" in page  # the last step


# ------------------------------------------------------------------ parts


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("auc", 0.1, 0.2, "b is better"),
        ("gauc", -0.2, -0.1, "a is better"),
        ("logloss", 0.1, 0.2, "a is better"),
        ("ece_equal_mass", -0.2, -0.1, "b is better"),
        ("pcoc", 0.1, 0.2, "they differ"),
        ("auc", -0.1, 0.2, "not sure"),
        ("auc", None, None, ""),
    ],
)
def test_verdicts(metric, low, high, expected):
    assert verdict(metric, low, high) == expected


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 5), (0.7391, 0.7402), (5, 5), (0, 4e4)])
def test_ticks_are_few_and_inside(low, high):
    scale = svg.linear("x", low, high)
    assert 2 <= len(scale.ticks) <= 7
    assert all(0 <= scale.place(value) <= 1 for value, _ in scale.ticks)
    assert len({text for _, text in scale.ticks}) == len(scale.ticks)


def test_scales_are_even_in_ratios_and_log_odds():
    log, logit = svg.log("x", 0.01, 100), svg.logit("p", 0.001, 0.999)
    assert [log.place(x) for x in (0.01, 0.1, 1, 100, 1000)] == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert logit.place(0.5) == pytest.approx(0.5)
    assert logit.place(0.1) == pytest.approx(1 - logit.place(0.9))
    assert (logit.place(0.0), logit.place(1.0)) == (0, 1)


def test_marks_stay_inside_the_drawing():
    plot = svg.Plot("a < b", svg.linear("x", 0, 1), svg.linear("y", 0, 1))
    plot.line([-5, 0.5, 9], [-1, float("nan"), 7])
    plot.band([0, 1], [-9, 0], [9, 9])
    plot.points([0.5], [44])
    text = plot.svg()
    assert 'aria-label="a &lt; b"' in text and "nan" not in text
    places = re.findall(r"(?:[ML]|cx=\")(-?[\d.]+)(?:,|\" cy=\")(-?[\d.]+)", text)
    assert len(places) > 5
    assert all(0 <= float(x) <= svg.WIDTH and 0 <= float(y) <= svg.HEIGHT for x, y in places)


# ------------------------------------------------------------------ in a browser

WATCH = "<script>faults = []; addEventListener('error', e => faults.push(e.message))</script>"
LOOK = """<script>
for (const each of document.querySelectorAll('details')) each.open = true;
const plots = [...document.querySelectorAll('svg')].map(each => {
  const box = each.getBoundingClientRect();
  return {label: each.getAttribute('aria-label'), width: box.width, height: box.height,
          right: box.right, marks: each.querySelectorAll('.line,.area,.dot,.hollow').length};
});
const root = document.documentElement, style = getComputedStyle(document.body);
const seen = {plots, faults, inner: innerWidth, scroll: root.scrollWidth,
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
  ink: style.color, page: style.backgroundColor};
parent.document.documentElement.setAttribute('data-' + window.name, JSON.stringify(seen));
</script></body>"""


@pytest.fixture(scope="module")
def seen(folder, tmp_path_factory) -> dict[tuple[str, int, bool], dict]:
    """What a browser shows of each page, by page, width and whether it is dark."""
    where = tmp_path_factory.mktemp("browser")
    views = [(page, width) for page in PAGES for width in WIDTHS]
    pages = [(folder / page, width) for page, width in views]
    return {
        (*view, dark): shown
        for dark in (True, False)
        for view, shown in zip(views, look(pages, dark, where), strict=True)
    }


def look(pages: list[tuple[Path, int]], dark: bool, folder: Path) -> list[dict]:
    """What a browser shows of pages, each in a frame of a width, every fold opened.

    Windows of Chromium are at least 500 pixels wide, frames are not.
    """
    frames = ""
    for number, (page, width) in enumerate(pages):
        text = page.read_text().replace("<head>", f"<head>{WATCH}").replace("</body>", LOOK)
        style = f'style="border:0;width:{width}px;height:900px"'
        frames += f'<iframe name="seen{number}" {style} srcdoc="{html.escape(text)}"></iframe>'
    watched = folder / "watched.html"
    watched.write_text(f'<!doctype html><meta charset="utf-8">{frames}')
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"),
            f"--blink-settings=preferredColorScheme={int(not dark)}",
            *("--window-size=1600,1000", watched.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    found = dict(re.findall(r'data-seen(\d+)="([^"]*)"', done.stdout))
    assert len(found) == len(pages), done.stdout[-2_000:]
    return [json.loads(html.unescape(found[str(number)])) for number in range(len(pages))]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES, ids=["trained", "evaluated", "compared"])
def test_a_browser_shows_every_plot(seen, page, width, dark):
    view = seen[page, width, dark]
    assert view["faults"] == []
    assert (view["inner"], view["dark"]) == (width, dark)
    assert view["scroll"] <= width  # the page itself does not scroll sideways
    shown = {each["label"]: each for each in view["plots"]}
    assert [label for label in PAGES[page] if label not in shown] == []
    for each in view["plots"]:
        assert each["marks"] > 0, each
        assert each["width"] > 300 and each["height"] > 60, each
        assert each["right"] <= width
    light = [sum(map(int, re.findall(r"\d+", view[part])[:3])) for part in ("ink", "page")]
    assert (light[0] > light[1]) == dark
