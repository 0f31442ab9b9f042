"""The trivago samples, on a raw table written here: recipe, features by hand, and no leak."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from tests.examples.scripts import load

make_samples = load("trivago/make_samples.py")
features = make_samples.features

COLUMNS = list(features.RAW_COLUMNS)
IMAGE, CLICKOUT = "interaction item image", "clickout item"
SORT, FILTER = "change of sort order", "filter selection"


def action(session, second, step, kind, reference, shown=None, prices=None, **given):
    row = dict.fromkeys(COLUMNS) | {"platform": "DE", "city": "Bern", "device": "mobile"}
    row |= {"user_id": f"user of {session}", "session_id": session, "timestamp": 1000 + second}
    row |= {"step": step, "action_type": kind, "reference": reference}
    return row | {"impressions": shown, "prices": prices} | given


def raw_table():
    """Session a: a touch, a clickout, a sort, a second list. b: later, time falls once. c: last."""
    return pd.DataFrame(
        [
            action("a", 0, 1, IMAGE, "20"),
            action("a", 5, 2, IMAGE, "20"),
            action("a", 5, 3, CLICKOUT, "10", "10|20|30", "100|50|200"),
            action("a", 40, 4, SORT, "interaction sort button"),
            action("a", 41, 5, SORT, "price only"),
            action("a", 60, 6, CLICKOUT, "30", "20|30|10|40", "50|200|100|80", city="Rome"),
            action("b", 100, 1, FILTER, "Hotel", current_filters="Hotel"),
            action("b", 90, 2, "interaction item info", "unknown"),
            action("b", 110, 3, CLICKOUT, "30", "30|50", "70|70", current_filters="Hotel|Motel"),
            action("b", 120, 4, CLICKOUT, "99", "30|50", "70|70"),
            action("c", 200, 1, CLICKOUT, "50", "50", "70", user_id="user of a", device=None),
        ],
        columns=COLUMNS,
    )


@pytest.fixture(scope="module")
def built():
    samples, state = make_samples.build_samples(raw_table())
    return pd.concat([samples, state], axis=1)


def one_list(built, session, step):
    return built[(built["session_id"] == session) & (built["step"] == step)]


def test_lists_become_rows_and_an_unlisted_reference_is_dropped(built):
    lists = built.groupby(["session_id", "step"])[["item", "position", "label"]].agg(list)
    assert lists.T.to_dict(orient="list") == {
        ("a", 3): [[10, 20, 30], [0, 1, 2], [1, 0, 0]],
        ("a", 6): [[20, 30, 10, 40], [0, 1, 2, 3], [0, 1, 0, 0]],
        ("b", 3): [[30, 50], [0, 1], [1, 0]],
        ("c", 1): [[50], [0], [1]],
    }


def test_timestamp_never_falls_inside_a_session():
    actions = features.order_actions(raw_table())
    assert actions.loc[actions["session_id"] == "b", "timestamp"].tolist() == [
        1100,
        1100,
        1110,
        1120,
    ]


def test_price_features_by_hand(built):
    rows = one_list(built, "a", 6)
    assert rows["price_rank"].tolist() == [0, 3, 2, 1]
    assert rows["price_rank_share"].tolist() == pytest.approx([0, 1, 2 / 3, 1 / 3])
    assert rows["price_to_min"].tolist() == pytest.approx(np.log([1, 4, 2, 1.6]))
    assert rows["price_to_median"].tolist() == pytest.approx(
        np.log(np.array([50, 200, 100, 80]) / 90)
    )
    assert rows["price_to_above"].tolist() == pytest.approx(
        [0, math.log(4), -math.log(2), math.log(0.8)]
    )
    assert rows["price_bucket"].tolist() == [2, 8, 5, 4]
    assert rows["list_length"].tolist() == [4 / 25] * 4
    assert one_list(built, "b", 3)["price_rank"].tolist() == [0, 0]


def test_touch_features_by_hand(built):
    first, second = one_list(built, "a", 3), one_list(built, "a", 6)
    assert first["touch_bucket"].tolist() == [0, 2, 0]
    assert first["touched_image"].tolist() == pytest.approx([0, math.log(3) / 2, 0])
    assert first["steps_since_touch"].tolist() == [0, 0.5, 0]
    # Item 20 was touched two steps and no second ago, at second 5.
    assert first["seconds_since_touch"].tolist() == [0, 1, 0]
    # Second list: 20 was seen at step 2 (four steps ago), 10 clicked out at step 3.
    assert second["touched"].tolist() == [1, 0, 1, 0]
    assert second["touched_clickout"].tolist() == pytest.approx([0, 0, math.log(2) / 2, 0])
    assert second["touch_rank"].tolist() == [2, 0, 1, 0]
    assert second["steps_since_bucket"].tolist() == [1 + 4 - 1, 0, 3, 0]
    assert second["last_touch_action"].tolist() == [
        features.ACTION_IDS[IMAGE],
        0,
        features.ACTION_IDS[CLICKOUT],
        0,
    ]
    assert second["seconds_since_touch"].tolist() == pytest.approx(
        [1 - math.log(56) / 10, 0, 1 - math.log(56) / 10, 0]
    )
    assert second["shown_bucket"].tolist() == [1, 1, 1, 0]


def test_anchor_features_by_hand(built):
    first, second = one_list(built, "a", 3), one_list(built, "a", 6)
    assert first["offset_to_touched"].tolist() == [24, 25, 26]
    assert first["is_last_touched"].tolist() == [0, 1, 0]
    assert first["price_to_touched"].tolist() == pytest.approx(np.log([2, 1, 4]))
    assert first["offset_to_clicked"].tolist() == [0, 0, 0]
    # The last touch before the second list is the clickout of item 10, now at position 2.
    assert second["offset_to_touched"].tolist() == [23, 24, 25, 26]
    assert second["offset_to_clicked"].tolist() == [23, 24, 25, 26]
    assert second["is_last_clicked"].tolist() == [0, 0, 1, 0]


def test_attention_by_hand(built):
    first, second = one_list(built, "a", 3), one_list(built, "a", 6)
    one = math.log(2) / 2
    assert first["touch_share"].tolist() == [0, 1, 0]
    assert first["seconds_spent"].tolist() == pytest.approx([0, math.log(6) / 6, 0])
    assert first["touched_above"].tolist() == pytest.approx([0, 0, one])
    assert first["touched_below"].tolist() == pytest.approx([one, 0, 0])
    assert first["above_is_touched"].tolist() == [0, 0, 1]
    assert first["below_is_touched"].tolist() == [1, 0, 0]
    assert first["price_to_others_touched"].tolist() == pytest.approx(np.log([2, 1, 4]))
    # Item 20 twice, 5 seconds; item 10 once, 35 seconds until the next action.
    assert second["touch_share"].tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0])
    assert second["seconds_share"].tolist() == pytest.approx([5 / 40, 0, 35 / 40, 0])
    usual = math.sqrt(50 * 100)
    ratios = [50 / 100, 200 / usual, 100 / 50, 80 / usual]
    assert second["price_to_others_touched"].tolist() == pytest.approx(np.log(ratios))


def test_previous_list_by_hand(built):
    first, second = one_list(built, "a", 3), one_list(built, "a", 6)
    assert first["has_earlier_list"].tolist() == first["moved_since"].tolist() == [0, 0, 0]
    assert second["has_earlier_list"].tolist() == [1, 1, 1, 1]
    assert second["moved_since"].tolist() == [24, 24, 27, 0]
    assert second["list_overlap"].tolist() == [0.75] * 4
    assert second["was_above_clicked"].tolist() == [0, 0, 0, 0]
    assert second["was_below_clicked"].tolist() == [1, 0.5, 0, 0]


def test_history_by_hand(built):
    names = ["history__offset", "history__action", "history__age"]
    first, second = one_list(built, "a", 3), one_list(built, "a", 6)
    image, clickout = (features.ACTION_IDS[kind] for kind in (IMAGE, CLICKOUT))
    assert [first[name].map(list).tolist() for name in names] == [
        [[24, 24], [25, 25], [26, 26]],  # twice item 20, at position 1
        [[image, image]] * 3,
        [[0, 1]] * 3,
    ]
    # Latest first: item 10 at position 2, item 20 twice at position 0.
    assert [second[name].map(list).tolist() for name in names] == [
        [[23, 25, 25], [24, 26, 26], [25, 27, 27], [26, 28, 28]],
        [[clickout, image, image]] * 4,
        [[2, 3, 3]] * 4,
    ]
    assert one_list(built, "b", 3)["history__offset"].map(list).tolist() == [[], []]


def test_session_features_by_hand(built):
    first, second = one_list(built, "a", 3).iloc[0], one_list(built, "a", 6).iloc[0]
    assert (first["actions_bucket"], second["actions_bucket"]) == (2, 4)
    assert (first["clickouts_bucket"], second["clickouts_bucket"]) == (0, 1)
    assert first["last_action"] == features.ACTION_IDS[IMAGE]
    assert second["last_action"] == features.ACTION_IDS[SORT]
    assert second["elapsed_seconds"] == pytest.approx(math.log(61) / 8)
    assert second["idle_seconds"] == pytest.approx(math.log(20) / 7)
    assert first["sort_order"] is None and second["sort_order"] == "price only"
    assert (first["city"], second["city"]) == ("Bern", "Rome")
    b = one_list(built, "b", 3).iloc[0]
    assert b["current_filters"] == "Hotel|Motel"
    assert b["num_filters"] == pytest.approx(math.log(3) / 2)
    # An interaction whose reference names no item touches no item.
    assert one_list(built, "b", 3)["touched"].tolist() == [0, 0]
    assert b["actions_bucket"] == 2


def test_popularity_counts_strictly_earlier_seconds(built):
    c = one_list(built, "c", 1).iloc[0]
    # Item 50 was shown once in a kept list before second 200 and never clicked.
    assert c["item_shown"] == pytest.approx(math.log(2) / 4)
    assert c["item_clicks"] == 0
    assert c["item_click_rate"] == pytest.approx(math.log(25 / 26))
    first = one_list(built, "a", 3)
    assert (first["item_shown"] == 0).all() and (first["item_clicks"] == 0).all()
    assert first["item_touches"].tolist() == pytest.approx([0, math.log(2) / 4, 0])


def random_table(seed, num_sessions=8):
    """Sessions with lists over a few items, drawn at random: every feature is in play."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(num_sessions):
        second = int(rng.integers(300))
        for step in range(1, int(rng.integers(2, 12))):
            second += int(rng.integers(0, 20))
            shown = rng.permutation(30)[: rng.integers(1, 12)].astype(str)
            kind = rng.choice([*features.ACTION_IDS, CLICKOUT, CLICKOUT])
            is_list = kind == CLICKOUT
            reference = str(rng.choice(shown) if kind in features.ITEM_ACTIONS else "some place")
            prices = "|".join(str(p) for p in rng.integers(20, 400, len(shown)))
            given = {"current_filters": "Hotel|Best Value"} if rng.random() < 0.3 else {}
            lists = ("|".join(shown), prices) if is_list else (None, None)
            given["user_id"] = f"user {s % 5}"
            rows.append(action(f"s{s:02d}", second, step, kind, reference, *lists, **given))
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize("seed", range(2))
def test_no_feature_sees_the_label_or_the_future(seed):
    raw = random_table(seed)
    before = pd.concat(make_samples.build_samples(raw), axis=1)
    keys = before[["session_id", "step"]].drop_duplicates().itertuples(index=False)
    for session, step in keys:
        own = raw["session_id"] == session
        row = raw[own & (raw["step"] == step)].iloc[0]
        # The world as it was: no later step here, nothing of this second or later elsewhere, and
        # another item clicked.
        known = np.where(own, raw["step"] <= step, raw["timestamp"] < row["timestamp"])
        past = raw[known].copy()
        for clicked in {row["impressions"].split("|")[0], row["impressions"].split("|")[-1]}:
            past.loc[own & (raw["step"] == step), "reference"] = clicked
            after = pd.concat(make_samples.build_samples(past), axis=1)
            hidden = ["label", "list"]
            pd.testing.assert_frame_equal(
                one_list(after, session, step).drop(columns=hidden).reset_index(drop=True),
                one_list(before, session, step).drop(columns=hidden).reset_index(drop=True),
                check_dtype=False,
            )


def test_split_takes_the_sessions_that_start_last():
    samples, _ = make_samples.build_samples(raw_table())
    is_eval = make_samples.split_by_start(samples, 0.4)
    assert samples["session_id"][is_eval].unique().tolist() == ["c"]
    with pytest.raises(ValueError, match="--eval_share must leave sessions on both sides"):
        make_samples.split_by_start(samples, 0.9)


def test_vocabularies_come_from_training_rows_alone(monkeypatch):
    monkeypatch.setattr(make_samples, "MIN_LISTS", dict.fromkeys(make_samples.MIN_LISTS, 1))
    samples, state = make_samples.build_samples(raw_table())
    is_eval = samples["session_id"].isin(["b", "c"]).to_numpy()
    coded, vocab = make_samples.code_ids(samples, state, is_eval)
    assert vocab["item_id"] == {"num_ids": 5, "values": [10, 20, 30, 40]}
    assert vocab["city_id"]["values"] == ["Bern", "Rome"]
    assert vocab["sort_order_id"] == {"num_ids": 2, "values": ["price only"]}
    assert vocab["filter_ids"] == {"num_ids": 1, "values": []}
    b = coded[coded["session_id"] == "b"]
    assert b["item_id"].tolist() == [3, 0]
    assert b["filter_ids"].tolist() == [[0, 0], [0, 0]]
    assert coded[coded["session_id"] == "c"]["device_id"].tolist() == [0]
    assert coded[coded["session_id"] == "a"]["sort_order_id"].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_files(tmp_path, capsys):
    random_table(5, num_sessions=30).to_parquet(tmp_path / "raw.parquet")
    flags = [f"--raw_path={tmp_path / 'raw.parquet'}", f"--output_path={tmp_path / 'out'}"]
    assert make_samples.main(flags) == 0
    out = capsys.readouterr().out
    train, held_out = (pd.read_parquet(tmp_path / "out" / part) for part in ("train", "eval"))
    assert f"{len(train):,} rows" in out
    assert not set(train["session_id"]) & set(held_out["session_id"])
    assert not pd.concat([train, held_out]).isna().any().any()
    vocab = json.loads((tmp_path / "out" / "vocab.json").read_text())
    for name, entry in vocab.items():
        ids = train[name].explode().dropna()
        assert ids.astype(int).between(0, entry["num_ids"] - 1).all()
    floats = train.select_dtypes("float32")
    assert len(floats.columns) > 30 and np.isfinite(floats).all().all()
    order = train.sort_values(["session_id", "step", "position"])
    assert (order.groupby("session_id")["timestamp"].diff().dropna() >= 0).all()
    assert make_samples.main(flags) == 1
    assert "--output_path must be empty" in capsys.readouterr().err
    assert make_samples.main([*flags, "--overwrite"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw.parquet"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda raw: raw.drop(columns=["prices", "step"]), "but lacks: step, prices"),
        (lambda raw: raw.assign(timestamp=None), "column `timestamp` must not be null, but has 11"),
        (lambda raw: raw.assign(prices="1|2"), "are not in 3 clickouts; remove these rows"),
        (lambda raw: raw[raw["action_type"] != CLICKOUT], "but none of its 6 rows is one"),
        (
            lambda raw: raw.assign(impressions="|".join("1" * 26), prices="|".join("2" * 26)),
            "at most 25 impressions, but one has 26",
        ),
    ],
    ids=["missing columns", "null key", "uneven prices", "no clickout", "long list"],
)
def test_bad_tables(change, rule):
    with pytest.raises(ValueError, match=rule):
        make_samples.build_samples(change(raw_table()))


def test_missing_file_and_bad_flags(tmp_path, capsys):
    flags = [f"--raw_path={tmp_path / 'no'}", f"--output_path={tmp_path / 'out'}"]
    assert make_samples.main(flags) == 1
    assert "--raw_path must name the Parquet file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        make_samples.main([*flags, "--eval_share=2"])
    assert "--eval_share must be between 0 and 1, but got: 2.0" in capsys.readouterr().err
