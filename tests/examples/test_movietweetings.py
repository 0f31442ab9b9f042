"""The MovieTweetings samples, on ratings written here: recipe, history by hand, and no leak."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.examples.scripts import load

make_samples = load("movietweetings/make_samples.py")


def ratings(num_rows=400, seed=0):
    """Random ratings; many of them share their second."""
    random = np.random.default_rng(seed)
    columns = {
        "user": random.integers(1, 30, num_rows),
        "movie": random.integers(1, 40, num_rows),
        "rating": random.integers(0, 11, num_rows),
        "timestamp": 1_400_000_000 + random.integers(0, 150, num_rows) * 5_000,
    }
    return pd.DataFrame(columns).drop_duplicates(["user", "movie", "timestamp"], ignore_index=True)


def write(path, raw):
    lines = ["::".join(map(str, row)) for row in raw[make_samples.RAW_COLUMNS].to_numpy().tolist()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_label_and_history_by_hand():
    raw = pd.DataFrame(
        {
            "user": [1, 1, 1, 2],
            "movie": [5, 6, 7, 5],
            "rating": [8, 4, 10, 7],
            "timestamp": [100, 100, 700, 800],
        }
    )
    rows = make_samples.build_samples(raw)
    assert rows["label"].tolist() == [1, 0, 1, 0]
    assert rows["user_bucket"].tolist() == [0, 0, 2, 0]  # one second: neither knows the other
    assert rows["movie_bucket"].tolist() == [0, 0, 0, 1]
    assert rows["last_rating"].tolist() == [0, 0, 5, 0]  # the rating 4, as 1 + 4
    assert rows["user_liked"].tolist() == pytest.approx([0.5, 0.5, (1 + 1.5) / 5, 0.5])
    assert rows["movie_mean"].iloc[3] == pytest.approx(10 * ((0.8 + 0.73 * 3) / 4 - 0.73))
    assert rows["user_idle"].iloc[2] == pytest.approx(np.log1p(600) / 15)


def test_features_do_not_know_the_rows_second_or_what_comes_later():
    raw = ratings()
    whole = make_samples.build_samples(raw)
    moment = int(raw["timestamp"].quantile(0.6))
    other = raw.copy()
    random = np.random.default_rng(1)
    later = other["timestamp"] >= moment
    other.loc[later, "rating"] = random.integers(0, 11, int(later.sum()))
    changed = make_samples.build_samples(other)
    features = [name for name in whole.columns if name != "label"]
    seen = whole["timestamp"] <= moment
    assert (whole["timestamp"] == moment).any()
    pd.testing.assert_frame_equal(whole.loc[seen, features], changed.loc[seen, features])
    assert not whole["label"].equals(changed["label"])


def test_the_split_is_by_time_and_ids_are_of_training_rows(tmp_path):
    raw = write(tmp_path / "ratings.dat", ratings())
    output = tmp_path / "samples"
    arguments = ["--raw_path", str(raw), "--output_path", str(output)]
    assert make_samples.main(arguments) == 0
    train, evaluation = (pq.read_table(output / split).to_pandas() for split in ("train", "eval"))
    assert train["timestamp"].max() < evaluation["timestamp"].min()
    assert len(evaluation) >= 0.2 * (len(train) + len(evaluation))
    vocab = json.loads((output / "vocab.json").read_text())
    for name, entry in vocab.items():
        for rows in (train, evaluation):
            assert rows[name].between(0, entry["num_ids"] - 1).all(), name
    films = train["movie"].value_counts()
    assert vocab["movie_id"]["values"] == sorted(films.index[films >= 5].tolist())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1::2::3\n", "line 1 of .* must be `user::movie::rating::seconds`"),
        ("1::2::11::5\n", "ratings from 0 to 10"),
        ("", "ratings from 0 to 10"),
        ("1::2::8::5\n", "must leave ratings on both sides"),
    ],
)
def test_bad_files_are_one_line(tmp_path, capsys, text, message):
    raw = tmp_path / "ratings.dat"
    raw.write_text(text)
    arguments = ["--raw_path", str(raw), "--output_path", str(tmp_path / "samples")]
    assert make_samples.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("make_samples.py: error: ")
    assert pd.Series([error.strip()]).str.contains(message, regex=True).all(), error
    assert not (tmp_path / "samples").exists()
