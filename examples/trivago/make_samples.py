"""Turn raw hotel search actions (RecSys Challenge 2019, trivago) into click samples, split by time.

One sample per hotel of a list that ended in a clickout; label 1 for the hotel clicked. The last
20 % of sessions by start time are the evaluation set. README.md here has the recipe and columns.

    DIR/train/part-*.parquet   rows as made: order them with preprocessing/jrc_sort.py
    DIR/eval/part-*.parquet
    DIR/vocab.json             per id column: number of ids, and the raw values they stand for

Run:

    python examples/trivago/make_samples.py --raw_path trivago_actions.parquet --output_path DIR
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import trivago_features as features

# Run as a file, a script sees its own folder alone; what the examples share lies one above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from folders import new_folder

OUTPUT_FILES = ("train/*.parquet", "eval/*.parquet", "vocab.json")
KEY_COLUMNS = ["session_id", "timestamp", "step"]
LABEL = "label"
# The fewest training lists in which a value must be seen to earn an id of its own.
MIN_LISTS = {
    "platform_id": 25,
    "city_id": 25,
    "device_id": 1,
    "sort_order_id": 5,
    "item_id": 20,
    "filter_ids": 10,
}
# Ids that are numbers already: column -> number of ids.
CARDINALITIES = {
    "position": features.MAX_POSITIONS,
    "price_rank": features.MAX_POSITIONS,
    "price_bucket": len(features.PRICE_EDGES) + 1,
    "touch_bucket": len(features.COUNT_EDGES) + 1,
    "steps_since_bucket": len(features.STEP_EDGES) + 2,
    "touch_rank": 10,
    "last_touch_action": len(features.ACTION_IDS) + 1,
    "shown_bucket": len(features.COUNT_EDGES) + 1,
    "offset_to_touched": 2 * features.MAX_POSITIONS,
    "offset_to_clicked": 2 * features.MAX_POSITIONS,
    "actions_bucket": len(features.COUNT_EDGES) + 1,
    "clickouts_bucket": len(features.COUNT_EDGES) + 1,
    "last_action": len(features.ACTION_IDS) + 1,
    "moved_since": 2 * features.MAX_POSITIONS,
    "history__offset": 2 * features.MAX_POSITIONS,
    "history__action": len(features.ACTION_IDS) + 1,
    "history__age": len(features.STEP_EDGES) + 1,
}
# Id columns with any number of ids a row.
LISTS = ("filter_ids", "history__offset", "history__action", "history__age")


def build_samples(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Samples of all sessions, before any vocabulary.

    Args:
        raw: the challenge's action table, rows in any order.

    Returns:
        (samples, state): one row per impression each. `samples` has keys, `start`, `list`, `item`,
        `label`, integer buckets and floats; `state` has the raw strings still to be coded.
    """
    actions = features.order_actions(raw)
    rows = features.explode_lists(actions)
    if rows.empty:
        raise ValueError(
            f"the raw table must hold `{features.CLICKOUT}` rows whose reference is listed in "
            f"`impressions`, but none of its {len(raw)} rows is one; check --raw_path"
        )
    stride = int(actions["step"].max()) + 2
    columns: dict[str, Any] = dict(features.list_features(rows))
    columns |= features.touch_features(actions, rows, stride)
    columns |= features.anchor_features(actions, rows, stride)
    columns |= features.session_features(actions, rows, stride)
    columns |= features.popularity_features(actions, rows)
    columns |= features.attention_features(actions, rows, stride)
    columns |= features.previous_list_features(rows)
    columns |= features.history_features(actions, rows, stride)
    state = features.search_state(actions, rows, stride)
    filters = state["current_filters"].fillna("").str.split("|")
    num_filters = np.where(state["current_filters"].notna(), filters.str.len(), 0)
    columns["num_filters"] = np.log1p(num_filters) / 2.0
    for value, name in features.FILTER_FLAGS.items():
        columns[name] = np.array([value in chosen for chosen in filters], dtype=np.float64)
    keys = rows[[*KEY_COLUMNS, "start", "list", "item", "position", LABEL]]
    return pd.concat([keys, pd.DataFrame(columns)], axis=1), state


def split_by_start(samples: pd.DataFrame, eval_share: float) -> np.ndarray:
    """True for the rows of the last `eval_share` of sessions by start time: bool [N]."""
    start = samples.groupby("session_id", sort=True)["start"].first().sort_values(kind="stable")
    first_eval = round(len(start) * (1.0 - eval_share))
    if not 0 < first_eval < len(start):
        raise ValueError(
            f"--eval_share must leave sessions on both sides, but {eval_share} of {len(start)} "
            f"sessions puts {first_eval} into training; change it or pass more sessions"
        )
    return samples["session_id"].isin(start.index[first_eval:]).to_numpy()


def frequent_values(values: pd.Series, lists: pd.Series, min_lists: int) -> list:
    """Values seen in at least `min_lists` lists, most frequent first, ties by value."""
    seen = (
        pd.DataFrame({"value": values.to_numpy(), "list": lists.to_numpy()})
        .dropna()
        .drop_duplicates()
    )
    counts = seen.groupby("value").size().reset_index(name="lists")
    counts = counts[counts["lists"] >= min_lists]
    return counts.sort_values(["lists", "value"], ascending=[False, True])["value"].tolist()


def to_ids(values: pd.Series, vocabulary: list) -> np.ndarray:
    """1 + place in the vocabulary; 0 for null and for values outside it: int64 [N]."""
    return (pd.Index(vocabulary).get_indexer(pd.Index(values)) + 1).astype(np.int64)


def code_ids(
    samples: pd.DataFrame, state: pd.DataFrame, is_eval: np.ndarray
) -> tuple[pd.DataFrame, dict]:
    """Replace raw strings and items by ids whose vocabulary is counted on the training rows only.

    Returns:
        (samples with all columns typed, {id column: {"num_ids": n, "values": [...] or absent}}).
    """
    train_lists = samples["list"][~is_eval]
    raw = {
        "platform_id": state["platform"],
        "city_id": state["city"],
        "device_id": state["device"],
        "sort_order_id": state["sort_order"],
        "item_id": samples["item"],
    }
    ids, vocab = {}, {}
    for name, values in raw.items():
        words = frequent_values(values[~is_eval], train_lists, MIN_LISTS[name])
        ids[name] = to_ids(values, words)
        vocab[name] = {"num_ids": len(words) + 1, "values": words}
    filters = state["current_filters"].fillna("").str.split("|")
    used = filters[~is_eval].explode()
    used = used[used != ""]
    words = frequent_values(used, train_lists.loc[used.index], MIN_LISTS["filter_ids"])
    place = {word: i + 1 for i, word in enumerate(words)}
    ids["filter_ids"] = [[place.get(word, 0) for word in chosen if word] for chosen in filters]
    vocab["filter_ids"] = {"num_ids": len(words) + 1, "values": words}
    vocab |= {name: {"num_ids": count} for name, count in CARDINALITIES.items()}
    floats = [c for c in samples.columns if samples[c].dtype == np.float64]
    samples = samples.assign(**ids).astype({c: np.float32 for c in floats})
    integers = [name for name in vocab if name not in LISTS]
    order = [*KEY_COLUMNS, *integers, LABEL, *LISTS, *floats]
    return samples[order], vocab


def check_samples(samples: pd.DataFrame, vocab: dict) -> None:
    """Our own invariants: ids in range, floats finite and small."""
    for name, entry in vocab.items():
        ids = samples[name].explode().dropna() if name in LISTS else samples[name]
        assert ids.between(0, entry["num_ids"] - 1).all(), name
    for name in samples.columns[samples.dtypes == np.float32]:
        assert np.isfinite(samples[name]).all() and samples[name].abs().max() <= 10, name


def write_parts(samples: pd.DataFrame, folder: Path, num_files: int) -> None:
    """Write the rows as `num_files` Parquet files of about equal rows."""
    folder.mkdir()
    table = pa.Table.from_pandas(samples, preserve_index=False).replace_schema_metadata()
    # pandas 3 hands over `large_string`: one type, whatever the version.
    table = table.set_column(0, "session_id", table["session_id"].cast(pa.string()))
    edges = np.linspace(0, len(samples), num_files + 1).astype(int).tolist()
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        pq.write_table(table.slice(first, last - first), folder / f"part-{i:05d}.parquet")


def read_raw(path: Path) -> pd.DataFrame:
    """The raw action table; a clear error when it is not there."""
    if not path.exists():
        raise ValueError(
            f"--raw_path must name the Parquet file of raw actions, but {path} is not there"
        )
    return pd.read_parquet(path)


def describe(name: str, samples: pd.DataFrame) -> str:
    """One line: rows, sessions, share of positives, share of sessions with both labels."""
    by_session = samples.groupby("session_id")[LABEL]
    both = (by_session.max() > by_session.min()).mean()
    return (
        f"{name:<6}{len(samples):>9,} rows {by_session.ngroups:>7,} sessions "
        f"{samples[LABEL].mean():>8.2%} positive {both:>8.1%} of sessions with both labels"
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; unknown flags are errors."""
    parser = argparse.ArgumentParser(
        description="Turn raw hotel search actions into click samples.", allow_abbrev=False
    )
    parser.add_argument("--raw_path", type=Path, required=True, help="trivago_actions.parquet")
    parser.add_argument("--output_path", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--eval_share", type=float, default=0.2, help="share of sessions, by start time"
    )
    parser.add_argument("--num_files", type=int, default=2, help="Parquet files per folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    if not 0 < args.eval_share < 1:
        parser.error(f"--eval_share must be between 0 and 1, but got: {args.eval_share}")
    if args.num_files < 1:
        parser.error(f"--num_files must be at least 1, but got: {args.num_files}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Build, check, write, print a summary. Exit status 1 and one line on an error."""
    args = parse_args(argv)
    try:
        with new_folder(args.output_path, args.overwrite, OUTPUT_FILES) as folder:
            samples, state = build_samples(read_raw(args.raw_path))
            is_eval = split_by_start(samples, args.eval_share)
            samples, vocab = code_ids(samples, state, is_eval)
            check_samples(samples, vocab)
            write_parts(samples[~is_eval], folder / "train", args.num_files)
            write_parts(samples[is_eval], folder / "eval", args.num_files)
            text = json.dumps(vocab, ensure_ascii=False, indent=1)
            (folder / "vocab.json").write_text(text + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"make_samples.py: error: {error}", file=sys.stderr)
        return 1
    print(describe("all", samples))
    print(describe("train", samples[~is_eval]))
    print(describe("eval", samples[is_eval]))
    print("ids:", ", ".join(f"{name} {entry['num_ids']}" for name, entry in vocab.items()))
    print(f"wrote {args.output_path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
