"""The study: its harness on a tiny dataset, tables by hand, and its page against its records."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.study import __main__ as study
from benchmarks.study.datasets import DATASETS, Dataset
from benchmarks.study.losses import SINGLE_TASK, TWO_TASKS
from benchmarks.study.records import Record, read_records
from benchmarks.study.tables import (
    TRUTH,
    cell,
    differences,
    filled,
    interval,
    table,
)
from benchmarks.study.trees import OBJECTIVES, platt
from tests.datasets import click_table, write_dataset
from tests.training_here import one_rank
from trainer.checks.config import check_config

assert one_rank  # a fixture that is imported to be used by name
CONFIG = """
train_config { sparse_optimizer { adagrad_optimizer { lr: 0.05 } }
               dense_optimizer { adam_optimizer { lr: 0.01 } } }
data_config { batch_size: 128 dataset_type: ParquetDataset fg_mode: FG_NONE label_fields: "click" }
feature_configs { id_feature { feature_name: "item_id" num_buckets: 30 embedding_dim: 4 } }
feature_configs { raw_feature { feature_name: "price" } }
model_config {
    feature_groups { group_name: "all" feature_names: "item_id" feature_names: "price"
                     group_type: DEEP }
    multi_tower { towers { input: "all" mlp { hidden_units: [8] } } final { hidden_units: [4] } }
    losses { binary_cross_entropy {} }
}
"""
CHOSEN = ("cross-entropy", "JRC, session, alpha 0.5")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> tuple[Path, dict[str, Dataset]]:
    """A folder of data, and the study of one small dataset whose truth is known."""
    data = tmp_path_factory.mktemp("study")
    for seed, split in enumerate(("train", "eval")):
        rows = click_table(num_sessions=150, seed=seed)
        user, item = rows["user_id"].to_numpy(), rows["item_id"].to_numpy()
        logit = 2 * (np.sin(user * 1.7) + np.cos(item * 2.3) - 0.5)  # as click_table draws
        rows = rows.append_column("p", pa.array(1 / (1 + np.exp(-logit))))
        write_dataset(data / "tiny" / f"{split}_sorted", rows)
    (data / "tiny.config").write_text(CONFIG)
    dataset = Dataset(
        "tiny",
        data / "tiny.config",
        num_epochs=2,
        labels=("click",),
        truth={"click": "p"},
        more_columns=("user_id",),
        losses={name: SINGLE_TASK[name] for name in CHOSEN},
    )
    return data, {"tiny": dataset}


def test_every_row_is_run_once_and_a_second_call_goes_on(one_rank, tiny, monkeypatch):
    data, datasets = tiny
    results = data / "study.jsonl"
    assert study.run(datasets, 2, data, results, minutes=-1) == 2 * 4 + 1  # nothing was begun
    assert study.run(datasets, 1, data, results, minutes=5) == 0
    first = read_records(results)
    assert [record.key for record in first] == [
        ("tiny", name, 1) for name in (*CHOSEN, *OBJECTIVES, TRUTH)
    ]
    assert study.run(datasets, 2, data, results, minutes=5) == 0
    records = read_records(results)
    assert records[: len(first)] == first
    assert [record.key for record in records[len(first) :]] == [
        ("tiny", name, 2) for name in (*CHOSEN, *OBJECTIVES)
    ]
    found = {record.loss: record.metrics["click"] for record in first}
    best = found.pop(TRUTH)
    assert best["excess"] == best["gap"] == 0.0
    for metrics in found.values():
        assert 0.5 < metrics["auc"] < best["auc"] and metrics["excess"] > 0.001
    monkeypatch.setitem(DATASETS, "tiny", datasets["tiny"])
    lines = table(records, "tiny", "click").splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        *([f"| {name}", "2"] for name in (*CHOSEN, *OBJECTIVES)),
        [f"| {TRUTH}", "1"],
    ]


def test_interval_and_cell_by_hand():
    mean, half = interval([1.0, 2.0, 3.0])
    # Student's t of two degrees of freedom: 4.3027; the standard error of the mean: 1 / sqrt(3).
    assert (mean, half) == (2.0, pytest.approx(4.302653 / np.sqrt(3), rel=1e-6))
    assert cell([0.5]) == "0.5000" and cell([0.1, 0.1], "+") == "+0.1000 ± 0.0000"


def test_differences_pair_seeds_and_say_what_is_better():
    gauc = {"cross-entropy": (0.60, 0.70, 0.80), "JRC, opposite, alpha 0.5": (0.61, 0.712, 0.811)}
    records = [
        Record(
            "trivago",
            loss,
            seed,
            {"label": {"gauc": value, "auc": value, "logloss": value}},
            1.0,
            "",
        )
        for loss, values in gauc.items()
        for seed, value in enumerate(values, start=1)
    ]
    (line,) = differences(records, "trivago", "label").splitlines()[2:]
    cells = line.strip("| ").split(" | ")
    assert cells[0] == "JRC, opposite, alpha 0.5"
    assert [each.split()[-1] for each in cells[1:]] == ["better", "better", "worse"]
    assert cells[1].startswith("+0.0110 ± 0.0025")  # 4.3027 * 0.001 / sqrt(3)
    noisy = [record for record in records if record.seed < 3]
    (line,) = differences(noisy, "trivago", "label").splitlines()[2:]
    assert "better" not in line and "worse" not in line


def test_platt_finds_the_probabilities():
    random = np.random.default_rng(0)
    scores = random.normal(size=20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-(1.5 * scores - 2)))
    found = platt(scores, labels, np.array([-1.0, 0.0, 2.0]))
    assert found == pytest.approx(1 / (1 + np.exp([3.5, 2.0, -1.0])), abs=0.02)


@pytest.mark.parametrize("name", DATASETS)
def test_every_loss_gives_a_config_that_is_accepted(name, tmp_path):
    for loss in DATASETS[name].losses.values():
        config = DATASETS[name].pipeline_config()
        loss.put_into(config)
        config.model_dir = str(tmp_path)
        check_config(config)
    assert len(SINGLE_TASK) == 2 + 2 * 9 + 3 and len(TWO_TASKS) == 10


def test_a_dataset_without_runs_says_so():
    for kind in ("table", "differences"):
        mark = f"<!-- {kind}: trivago; label -->\n"
        page = filled(f"{mark}old\n<!-- end -->", [])
        assert page == f"{mark}No run is recorded yet.\n<!-- end -->"


def test_a_mark_of_an_unknown_dataset_is_an_error():
    with pytest.raises(ValueError, match=r"a mark must be one of .* but is: <!-- table: mars; l"):
        filled("<!-- table: mars; label -->\n<!-- end -->", [])


def test_the_page_shows_what_was_recorded():
    page = study.RESULTS_PAGE.read_text()
    assert all(f"<!-- table: {name}; " in page for name in DATASETS)
    assert filled(page, read_records()) == page
