"""Turn MovieTweetings' ratings into samples: will this user like this film? Split by time.

One sample per rating; label 1 for a rating of at least 8 of 10. A session is a user. The last 20 %
of the ratings by time are the evaluation set. README.md here has the recipe and the columns.

    DIR/train/part-*.parquet   rows as made: order them with preprocessing/jrc_sort.py
    DIR/eval/part-*.parquet
    DIR/vocab.json             per id column: number of ids, and the raw values they stand for

Run:

    python examples/movietweetings/make_samples.py --raw_path ratings.dat --output_path DIR
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# Run as a file, a script sees its own folder alone; what the examples share lies one above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from folders import new_folder

OUTPUT_FILES = ("train/*.parquet", "eval/*.parquet", "vocab.json")
RAW_COLUMNS = ["user", "movie", "rating", "timestamp"]
LIKED_FROM, MOST_RATING = 8, 10
# The fewest training ratings with which a user or a film earns an id of its own.
MIN_RATINGS = {"user_id": 5, "movie_id": 5}
COUNT_EDGES = (0, 1, 2, 3, 5, 9, 16, 32, 64, 128)
CARDINALITIES = {
    "hour": 24,
    "weekday": 7,
    "user_bucket": len(COUNT_EDGES) + 1,
    "movie_bucket": len(COUNT_EDGES) + 1,
    "last_rating": MOST_RATING + 2,
}
# Means and shares are smoothed by so many ratings of the usual kind.
PRIOR_RATINGS, PRIOR_RATING, PRIOR_SHARE = 3.0, 0.73, 0.5
SECONDS_PER_DAY = 86_400


def read_raw(path: Path) -> pd.DataFrame:
    """Lines of `user::movie::rating::unix_seconds`, as int64 columns RAW_COLUMNS.

    Raises:
        ValueError: no such file, a line of another form, or a rating out of range.
    """
    if not path.is_file():
        raise ValueError(f"--raw_path must name the file of ratings, but {path} is not there")
    lines = path.read_text(encoding="utf-8").splitlines()
    values = []
    for number, line in enumerate(lines, start=1):
        parts = line.split("::")
        if len(parts) != len(RAW_COLUMNS) or not all(part.isdecimal() for part in parts):
            raise ValueError(
                f"line {number} of {path} must be `user::movie::rating::seconds`, all of them "
                f"integers, but is: {line!r}; remove it"
            )
        values.append([int(part) for part in parts])
    raw = pd.DataFrame(np.array(values, dtype=np.int64).reshape(-1, 4), columns=RAW_COLUMNS)
    if raw.empty or not raw["rating"].between(0, MOST_RATING).all():
        raise ValueError(f"{path} must hold ratings from 0 to {MOST_RATING}, at least one")
    return raw


def history(key: pd.Series, time: pd.Series, value: pd.Series) -> pd.DataFrame:
    """What was known of each row's key before its second.

    Returns:
        per row: `count` and `total` of the key's values in strictly earlier seconds; `last`, the
        latest of them, and `seconds` since then (both NaN where there is none).
    """
    events = pd.DataFrame({"key": key, "time": time, "value": value})
    events = events.sort_values(["key", "time"], kind="stable")
    of_key = events.groupby("key")
    known = pd.DataFrame(
        {
            "count": of_key.cumcount(),
            "total": of_key["value"].cumsum() - events["value"],
            "last": of_key["value"].shift(1),
            "seconds": events["time"] - of_key["time"].shift(1),
        }
    )
    # Rows of one second do not see each other: all know what the first of them knows.
    firsts = ~events.duplicated(["key", "time"])
    second = firsts.cumsum()
    return known[firsts.to_numpy()].iloc[second - 1].set_axis(known.index).loc[key.index]


def build_samples(raw: pd.DataFrame) -> pd.DataFrame:
    """Samples by time: keys, `user`, `movie`, `label`, integer buckets and floats."""
    raw = raw.sort_values(["timestamp", "user", "movie"], kind="stable", ignore_index=True)
    time, rating = raw["timestamp"], raw["rating"] / MOST_RATING
    label = (raw["rating"] >= LIKED_FROM).astype(np.int64)
    columns = {
        "hour": time // 3600 % 24,
        "weekday": time // SECONDS_PER_DAY % 7,
    }
    for name in ("user", "movie"):
        rated, liked = history(raw[name], time, rating), history(raw[name], time, label)
        smoothed = rated["count"] + PRIOR_RATINGS
        mean = (rated["total"] + PRIOR_RATING * PRIOR_RATINGS) / smoothed
        columns |= {
            f"{name}_bucket": np.searchsorted(COUNT_EDGES, rated["count"], side="left"),
            f"{name}_count": np.log1p(rated["count"]) / 5,
            f"{name}_mean": 10 * (mean - PRIOR_RATING),
            f"{name}_liked": (liked["total"] + PRIOR_SHARE * PRIOR_RATINGS) / smoothed,
            f"{name}_idle": np.log1p(rated["seconds"].fillna(0)) / 15,
        }
        if name == "user":
            last = rated["last"] * MOST_RATING + 1
            columns["last_rating"] = last.fillna(0).round().astype(np.int64)
    # How much more than others a user gives to the same films.
    surplus = history(raw["user"], time, 10 * (rating - PRIOR_RATING) - columns["movie_mean"])
    columns["user_surplus"] = surplus["total"] / (surplus["count"] + PRIOR_RATINGS)
    columns["expected"] = columns["movie_mean"] + columns["user_surplus"]
    keys = raw[["user", "movie", "timestamp"]].assign(label=label)
    return pd.concat([keys, pd.DataFrame(columns)], axis=1)


def split_by_time(samples: pd.DataFrame, eval_share: float) -> np.ndarray:
    """True for the last `eval_share` of the rows by time, from the start of a second: bool [N]."""
    first = min(round(len(samples) * (1.0 - eval_share)), len(samples) - 1)
    is_eval = (samples["timestamp"] >= samples["timestamp"].iloc[first]).to_numpy()
    if is_eval.all():
        raise ValueError(
            f"--eval_share must leave ratings on both sides, but {eval_share} of {len(samples)} "
            "leaves none to train on; change it or pass more ratings"
        )
    return is_eval


def code_ids(samples: pd.DataFrame, is_eval: np.ndarray) -> tuple[pd.DataFrame, dict]:
    """Ids of users and films, from a vocabulary of the training rows; 0 is everything else.

    Returns:
        (samples with all columns typed, {id column: {"num_ids": n, "values": [...] or absent}}).
    """
    vocab, ids = {}, {}
    for name, least in MIN_RATINGS.items():
        values = samples[name.removesuffix("_id")]
        counts = values[~is_eval].value_counts()
        words = sorted(counts.index[counts >= least].tolist())
        ids[name] = pd.Index(words, dtype=np.int64).get_indexer(pd.Index(values)) + 1
        vocab[name] = {"num_ids": len(words) + 1, "values": words}
    vocab |= {name: {"num_ids": count} for name, count in CARDINALITIES.items()}
    floats = [name for name in samples.columns if samples[name].dtype == np.float64]
    coded = samples.assign(**ids).rename(columns={"user": "session_id"})
    coded = coded.astype({name: np.float32 for name in floats})
    coded = coded.astype({name: np.int64 for name in vocab})
    return coded[["session_id", "timestamp", "movie", "label", *vocab, *floats]], vocab


def write_parts(samples: pd.DataFrame, folder: Path, num_files: int) -> None:
    """Write the rows as `num_files` Parquet files of about equal rows."""
    folder.mkdir()
    table = pa.Table.from_pandas(samples, preserve_index=False).replace_schema_metadata()
    edges = np.linspace(0, len(samples), num_files + 1).astype(int).tolist()
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        pq.write_table(table.slice(first, last - first), folder / f"part-{i:05d}.parquet")


def describe(name: str, samples: pd.DataFrame) -> str:
    """One line: rows, sessions, share of positives, share of rows in sessions with both labels."""
    by_session = samples.groupby("session_id")["label"]
    both = by_session.transform("max") > by_session.transform("min")
    return (
        f"{name:<6}{len(samples):>9,} rows {by_session.ngroups:>7,} sessions "
        f"{samples['label'].mean():>8.2%} positive {both.mean():>8.1%} of rows in sessions with "
        "both labels"
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; unknown flags are errors."""
    parser = argparse.ArgumentParser(
        description="Turn MovieTweetings' ratings into samples.", allow_abbrev=False
    )
    parser.add_argument("--raw_path", type=Path, required=True, help="ratings.dat")
    parser.add_argument("--output_path", type=Path, required=True, help="folder to make")
    parser.add_argument("--eval_share", type=float, default=0.2, help="share of ratings, by time")
    parser.add_argument("--num_files", type=int, default=2, help="Parquet files per folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    if not 0 < args.eval_share < 1:
        parser.error(f"--eval_share must be between 0 and 1, but got: {args.eval_share}")
    if args.num_files < 1:
        parser.error(f"--num_files must be at least 1, but got: {args.num_files}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Build, write, print a summary. Exit status 1 and one line on an error."""
    args = parse_args(argv)
    try:
        with new_folder(args.output_path, args.overwrite, OUTPUT_FILES) as folder:
            samples = build_samples(read_raw(args.raw_path))
            is_eval = split_by_time(samples, args.eval_share)
            samples, vocab = code_ids(samples, is_eval)
            write_parts(samples[~is_eval], folder / "train", args.num_files)
            write_parts(samples[is_eval], folder / "eval", args.num_files)
            (folder / "vocab.json").write_text(json.dumps(vocab, indent=1) + "\n", "utf-8")
    except (OSError, ValueError) as error:
        print(f"make_samples.py: error: {error}", file=sys.stderr)
        return 1
    print(describe("train", samples[~is_eval]))
    print(describe("eval", samples[is_eval]))
    print("ids:", ", ".join(f"{name} {entry['num_ids']}" for name, entry in vocab.items()))
    print(f"wrote {args.output_path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
