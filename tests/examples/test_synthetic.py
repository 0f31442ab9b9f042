"""The synthetic data: what its probabilities promise, its split, its files."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.examples.scripts import load

generate = load("synthetic/generate.py")
SMALL = {"num_sessions": 3000, "num_users": 200, "num_items": 100, "seed": 3}
FLAGS = [f"--{name}={value}" for name, value in SMALL.items()]


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    table, start = generate.generate(**SMALL)
    return table.to_pandas().assign(start=start)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "out"
    assert generate.main([f"--output_path={path}", *FLAGS]) == 0
    return path


def files_of(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*.parquet")}


def test_same_seed_same_bytes(folder, tmp_path):
    assert generate.main([f"--output_path={tmp_path / 'again'}", *FLAGS]) == 0
    assert files_of(tmp_path / "again") == files_of(folder)


def test_other_seed_other_rows(events):
    table, _ = generate.generate(**{**SMALL, "seed": 4})
    assert not table.equals(generate.generate(**SMALL)[0])
    assert table.schema == generate.generate(**SMALL)[0].schema
    assert set(table.column_names) == set(events.columns) - {"start"}


def test_probabilities_are_valid_and_hit_their_targets(events):
    assert events["p_click"].between(0, 1, inclusive="neither").all()
    assert (events["p_purchase"] > 0).all()
    assert (events["p_purchase"] < events["p_click"]).all()
    assert events["p_click"].mean() == pytest.approx(0.11, abs=1e-6)
    assert events["p_purchase"].mean() == pytest.approx(0.11 * 0.2, abs=1e-6)


@pytest.mark.parametrize("task", ["click", "purchase"])
def test_labels_are_draws_from_the_true_probabilities(events, task):
    p, y = events[f"p_{task}"], events[task]
    decile = pd.qcut(p, 10, labels=False)
    # z = (clicks - sum p) / sqrt(sum p (1 - p)) is standard normal in every decile.
    excess = (y - p).groupby(decile).sum() / np.sqrt((p * (1 - p)).groupby(decile).sum())
    assert excess.abs().max() < 4
    assert (excess**2).sum() < 35  # chi-square of 10 degrees of freedom: one in ten thousand


def test_probabilities_follow_from_the_columns(events):
    # Rows that agree in every column a model may see agree in the truth: nothing else is known.
    seen = ["user_id", "item_id", "channel", "device", "hour", "query_words", "page", "position"]
    spread = events.groupby(seen)[["p_click", "p_purchase"]].agg(["min", "max"])
    for task in ("p_click", "p_purchase"):
        assert np.allclose(spread[task]["min"], spread[task]["max"], rtol=1e-12)


def test_purchase_implies_click(events):
    assert set(events["click"]) == set(events["purchase"]) == {0, 1}
    assert (events["purchase"] <= events["click"]).all()


def test_sessions_are_uneven_with_a_tail(events):
    length = events.groupby("session_id").size()
    assert length.index.size == SMALL["num_sessions"]
    assert length.min() == 1
    assert length.mean() == pytest.approx(10, rel=0.1)
    assert length.max() > 4 * length.mean()


def test_pages_tie_in_time_and_position_breaks_the_tie(events):
    by_page = events.groupby(["session_id", "timestamp"])
    assert (by_page["page"].nunique() == 1).all()
    assert (by_page.size() > 1).mean() > 0.5
    assert not events.duplicated(["session_id", "timestamp", "position"]).any()
    assert not events.duplicated(["session_id", "item_id"]).any()
    first = events.groupby("session_id")[["timestamp", "start"]].min()
    assert (first["timestamp"] == first["start"]).all()


def test_raw_rows_are_not_ordered_by_session(events):
    session = events["session_id"].to_numpy()
    runs = 1 + (session[1:] != session[:-1]).sum()
    assert runs > 3 * len(np.unique(session))


def test_split_is_by_time_and_keeps_sessions_whole(folder, events):
    train, held_out = pd.read_parquet(folder / "train"), pd.read_parquet(folder / "eval")
    assert not set(train["session_id"]) & set(held_out["session_id"])
    assert len(train) + len(held_out) == len(events)
    start = events.groupby("session_id")["start"].first()
    assert start[train["session_id"]].max() < start[held_out["session_id"]].min()
    assert held_out["session_id"].nunique() / len(start) == pytest.approx(0.2, abs=0.03)


def test_output_is_several_files_of_one_schema(folder):
    for part in ("train", "eval"):
        files = sorted((folder / part).iterdir())
        assert [f.name for f in files] == [f"part-{i:05d}.parquet" for i in range(4)]
        schemas = [pq.read_schema(f) for f in files]
        assert all(s == schemas[0] for s in schemas)
        assert schemas[0].field("session_id").type == pa.int64()
        assert schemas[0].field("timestamp").type == pa.int64()
    assert not list(folder.parent.glob(".*"))


def test_refuses_an_output_that_is_not_empty(folder, capsys):
    before = files_of(folder)
    assert generate.main([f"--output_path={folder}", *FLAGS, "--seed=9"]) == 1
    message = capsys.readouterr().err
    assert "--output_path must be empty" in message and "--overwrite" in message
    assert files_of(folder) == before


def test_overwrite_replaces_everything(tmp_path):
    out = tmp_path / "out"
    (out / "train").mkdir(parents=True)
    (out / "train" / "part-00009.parquet").write_text("stale")
    assert generate.main([f"--output_path={out}", *FLAGS, "--overwrite"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["eval", "train"]
    assert not (out / "train" / "part-00009.parquet").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_failure_leaves_nothing(tmp_path, capsys):
    flags = ["--num_sessions=2", "--eval_share=0.0001"]
    assert generate.main([f"--output_path={tmp_path / 'out'}", *flags]) == 1
    assert "--eval_share must leave sessions on both sides" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("x")
    assert generate.main([f"--output_path={tmp_path / 'out'}"]) == 1
    assert "--output_path must be a folder" in capsys.readouterr().err
    assert generate.main([f"--output_path={tmp_path / 'out' / 'below'}"]) == 1
    assert capsys.readouterr().err.startswith("generate.py: error: ")


@pytest.mark.parametrize(
    ("flag", "rule"),
    [
        ("--num_sessions=1", "--num_sessions must be at least 2, but got: 1"),
        ("--mean_rows=0.5", "--mean_rows must be at least 1, but got: 0.5"),
        ("--mean_rows=nan", "--mean_rows must be at least 1, but got: nan"),
        ("--num_items=3", "--num_items must be at least 24, but got: 3"),
        ("--click_rate=0.9", "--click_rate must be between 0 and 0.5, but got: 0.9"),
        ("--eval_share=1", "--eval_share must be between 0 and 1.0, but got: 1.0"),
        ("--num_file=2", "unrecognized arguments: --num_file=2"),
    ],
)
def test_bad_arguments(flag, rule, tmp_path, capsys):
    with pytest.raises(SystemExit):
        generate.main([f"--output_path={tmp_path}", flag])
    assert rule in capsys.readouterr().err
