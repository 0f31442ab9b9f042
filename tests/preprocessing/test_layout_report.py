"""The report adds up, and its page stands alone."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest
from pyspark.sql import types as T

from preprocessing import dataset_format, layout_page, layout_report
from preprocessing.dataset_facts import LabelFacts, SessionFacts
from preprocessing.verify import Verified

BY_ROWS = {1: 5, 2: 3, 3: 1, 9: 2}  # 32 rows, 11 sessions


def verified(by_rows: dict[int, int], nulls: dict[str, int]) -> Verified:
    rows, sessions = sum(n * c for n, c in by_rows.items()), sum(by_rows.values())
    files = (
        dataset_format.DataFile("part-00000.parquet", rows - 2, sessions - 1, 900, 1),
        dataset_format.DataFile("part-00001.parquet", 2, 1, 100, 2),
    )
    statistics = dataset_format.Statistics(rows, sessions, max(by_rows), 2, 9, 9, 10, 20)
    columns = tuple(dataset_format.Column(name, "bigint") for name in nulls)
    manifest = dataset_format.Manifest(("u",), "t", (), columns, files, statistics, "f")
    labels = (LabelFacts("click", 8, 20, 4, 24), LabelFacts("<buy>", 0, 0, 0, 0))
    return Verified(manifest, SessionFacts(by_rows, labels, nulls), colliding_ids=0)


@pytest.fixture
def report():
    job = layout_report.JobFacts(
        input_rows=40,
        bad_rows={"no session": 5},
        dropped_rows={"older rows of long sessions": 3},
        long_sessions=2,
        long_policy="newest",
        seconds={"check": 0.25, "sort and write": 1.5},
    )
    return layout_report.summarize({"": verified(BY_ROWS, {"u": 0, "price": 7})}, job)


def test_every_row_is_accounted_for(report):
    written = sum(dataset["rows"] for dataset in report["datasets"].values())
    away = sum(report["bad_rows"].values()) + sum(report["dropped_rows"].values())
    assert written + away == report["input_rows"]


def test_figures_of_a_dataset(report):
    found = report["datasets"]["all"]
    lengths = found["session_rows"]
    assert [lengths[key] for key in ("min", "p50", "p90", "p99", "max")] == [1, 2, 9, 9, 9]
    assert lengths["mean"] == pytest.approx(32 / 11)
    assert [(b["from"], b["to"], b["sessions"], b["rows"]) for b in lengths["histogram"]] == [
        (1, 1, 5, 5),
        (2, 3, 4, 9),
        (4, 7, 0, 0),
        (8, 15, 2, 18),
    ]
    click = found["labels"]["click"]
    assert (click["positive_rate"], click["nulls"]) == (8 / 28, 4)
    assert (click["mixed_sessions_share"], click["mixed_rows_share"]) == (4 / 11, 24 / 32)
    assert found["labels"]["<buy>"]["positive_rate"] is None
    assert (found["files"]["skew"], found["files"]["bytes"]) == (30 / 16, 1000)
    assert found["nulls"] == {"u": 0, "price": 7}


@pytest.mark.parametrize("by_rows", [{1: 1}, {7: 3, 8: 1}, {1000: 1}, {n: n for n in range(1, 99)}])
def test_histograms_lose_nothing(by_rows):
    bins = layout_report.session_histogram(by_rows)
    assert sum(b["sessions"] for b in bins) == sum(by_rows.values())
    assert sum(b["rows"] for b in bins) == sum(n * c for n, c in by_rows.items())
    assert all(a["to"] + 1 == b["from"] for a, b in itertools.pairwise(bins))
    files = [n * c for n, c in by_rows.items()]
    bins = layout_report.file_histogram(files)
    assert sum(b["files"] for b in bins) == len(files)
    assert bins[-1]["to"] >= max(files) >= bins[0]["from"]


def test_json_and_lines(report):
    assert json.loads(layout_report.to_json(report)) == report
    lines = layout_report.to_text(report).splitlines()
    assert lines[:3] == [
        "rows          32",
        "sessions      11",
        "session rows  p50 2, p90 9, p99 9, max 9, mean 2.91",
    ]
    assert "label click   positive rate 28.6 %, sessions with both labels 36.4 %" in lines
    assert "bad rows      5, no session" in lines
    assert "dropped rows  3, older rows of long sessions" in lines
    assert "long sessions 2, policy newest" in lines
    assert "nulls         price 7" in lines
    assert lines[-1] == "seconds       check 0.2, sort and write 1.5"


class Page(HTMLParser):
    """Text, and whether every tag is closed in its order."""

    VOID = ("meta", "rect", "wbr")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}
        assert tag not in ("script", "link", "iframe")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_is_whole_and_needs_nothing_else(report):
    page = layout_page.to_html(report)
    text = Page(page).text
    assert "Where the 40 rows read went" in text
    assert "<buy>" in text  # escaped
    assert "http" not in page
    widths = [float(width) for width in re.findall(r'class="bar" width="([\d.]+)%"', page)]
    assert max(widths) == 100.0
    assert 21.88 in widths  # 7 of 32 rows are null


def test_page_of_two_datasets():
    datasets = {"train": verified(BY_ROWS, {"u": 0}), "eval": verified({1: 2, 2: 1}, {"u": 0})}
    report = layout_report.summarize(datasets, layout_report.JobFacts(input_rows=36))
    text = Page(layout_page.to_html(report)).text
    assert "written, train" in text
    assert "written, eval" in text
    assert text.count("No column has a null.") == 2
    lines = layout_report.to_text(report).splitlines()
    assert [line for line in lines if line.startswith("dataset")] == [
        "dataset       train",
        "dataset       eval",
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["click", "buy"], "there is no 'buy'. Columns: click, text"),
        (["text"], "--label-columns must be numbers, but 'text' is a string; cast it before"),
    ],
)
def test_labels_that_are_none(labels, message):
    schema = T.StructType().add("click", T.IntegerType()).add("text", T.StringType())
    layout_report.check_labels(schema, ["click"])
    with pytest.raises(ValueError, match=re.escape(message)):
        layout_report.check_labels(schema, labels)
