"""Features of hotel search impressions, each from what was known before the list was shown.

Pure functions from the raw action table to columns; `make_samples.py` reads, splits and writes.

    actions    one row per action, ordered by (session, step)
       |       explode_lists: a clickout row holds the list it was made from, `id|id|..`, `p|p|..`
       v
    rows       one row per shown item: list, item, position, price, label
       |       *_features: history through `EventLog`, strictly before the list's step (or second)
       v
    columns    integer buckets (int64), floats (float64)

The rule against leaks: from the clickout row itself come its time, its list and its search state
(city, platform, device, filters). Its `reference` makes the label and nothing else; for later lists
it is history.

Floats are scaled by fixed formulas (logs, caps), not by fitted statistics: a row's features depend
on its past alone, and evaluation rows cannot move training rows. All are within [-5, 5].

Shapes: `E` events of a log, `Q` queries.
"""

import numpy as np
import pandas as pd

RAW_COLUMNS = (
    "user_id",
    "session_id",
    "timestamp",
    "step",
    "action_type",
    "reference",
    "platform",
    "city",
    "device",
    "current_filters",
    "impressions",
    "prices",
)
CLICKOUT = "clickout item"
# Actions whose reference is an item; the suffix names the feature that counts them.
ITEM_ACTIONS = {
    "interaction item image": "image",
    "interaction item info": "info",
    "interaction item rating": "rating",
    "interaction item deals": "deals",
    "search for item": "search",
    CLICKOUT: "clickout",
}
ACTION_IDS = {
    name: i + 1
    for i, name in enumerate(
        [
            *ITEM_ACTIONS,
            "filter selection",
            "change of sort order",
            "search for destination",
            "search for poi",
        ]
    )
}
# Pressing the button opens the menu; the order chosen is the next "change of sort order".
SORT_BUTTON = "interaction sort button"
FILTER_FLAGS = {
    "Sort by Price": "filter_sort_price",
    "Focus on Distance": "filter_distance",
    "Best Value": "filter_best_value",
    "5 Star": "filter_5_star",
}
# Upper edges of the buckets, inclusive; one more bucket holds all above the last.
COUNT_EDGES = (0, 1, 2, 3, 5, 9, 20)
STEP_EDGES = (1, 2, 3, 5, 9, 16, 32, 64)
PRICE_EDGES = (30, 45, 60, 75, 90, 110, 130, 160, 200, 260, 350, 550)
MAX_POSITIONS = 25
MAX_HISTORY = 10  # actions
MOST_SECONDS = 600  # that an action counts for
NO_ITEM = -1


class EventLog:
    """Events of groups in order; answers "how many" and "which was last", strictly before a moment.

    Group 7 with events at steps 2, 2, 5: `count_before(7, 5)` is 2, `count_before(7, 2)` is 0.

    Args:
        group: int64 [E], who the event belongs to (say, a pair of session and item).
        order: int64 [E], not negative: its step, or its second.
        stride: larger than any order, of events and of queries.
    """

    def __init__(self, group: np.ndarray, order: np.ndarray, stride: int) -> None:
        key = group * stride + order
        self._stride = stride
        self._source = np.argsort(key, kind="stable")
        self._key = key[self._source]

    def count_before(self, group: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Number of the group's events of strictly smaller order: int64 [Q]."""
        first = np.searchsorted(self._key, group * self._stride, side="left")
        return np.searchsorted(self._key, group * self._stride + order, side="left") - first

    def total_before(self, values: np.ndarray, group: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Sum of the values [E] of the group's events of strictly smaller order: float64 [Q]."""
        total = np.concatenate([[0.0], np.cumsum(values[self._source])])
        first = np.searchsorted(self._key, group * self._stride, side="left")
        last = np.searchsorted(self._key, group * self._stride + order, side="left")
        return total[last] - total[first]

    def last_before(self, group: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Index of the group's last event of strictly smaller order, -1 where none: int64 [Q]."""
        if not len(self._key):
            return np.full(len(group), -1, dtype=np.int64)
        at = np.searchsorted(self._key, group * self._stride + order, side="left") - 1
        found = self.count_before(group, order) > 0
        return np.where(found, self._source[at], -1)


def order_actions(raw: pd.DataFrame) -> pd.DataFrame:
    """Actions ordered by (session, step), with integer keys.

    `timestamp` has ties and falls once inside a session, so `step` is the order and `timestamp`
    becomes its running maximum over the steps. `time` is that in seconds since the first action.

    Raises:
        ValueError: a column is missing, or a key column holds nulls.
    """
    missing = [c for c in RAW_COLUMNS if c not in raw.columns]
    if missing:
        raise ValueError(
            f"the raw table must have the columns {', '.join(RAW_COLUMNS)}, but lacks: "
            f"{', '.join(missing)}; pass the challenge's action table as --raw_path"
        )
    for name in ("user_id", "session_id", "timestamp", "step", "action_type"):
        nulls = int(raw[name].isna().sum())
        if nulls:
            raise ValueError(
                f"column `{name}` must not be null, but has {nulls} nulls; remove these rows"
            )
    actions = raw.sort_values(["session_id", "step", "timestamp"], kind="stable", ignore_index=True)
    actions["session"] = pd.factorize(actions["session_id"])[0]
    actions["user"] = pd.factorize(actions["user_id"])[0]
    actions["timestamp"] = actions.groupby("session")["timestamp"].cummax()
    actions["time"] = actions["timestamp"] - actions["timestamp"].min()
    actions["start"] = actions.groupby("session")["time"].transform("first")
    is_item = actions["action_type"].isin(list(ITEM_ACTIONS))
    item = pd.to_numeric(actions["reference"].where(is_item), errors="coerce")
    actions["item"] = item.fillna(NO_ITEM).astype(np.int64)
    return actions


def explode_lists(actions: pd.DataFrame) -> pd.DataFrame:
    """One row per item of a clickout's list; a clickout whose reference is not listed is dropped.

    Columns: `action` (row of the clickout in `actions`), `list` (0, 1, ...), its keys, `item`,
    `position` (0 = top), `price`, `label`.
    """
    clicks = actions[(actions["action_type"] == CLICKOUT) & actions["impressions"].notna()]
    items, prices = clicks["impressions"].str.split("|"), clicks["prices"].str.split("|")
    lengths = items.str.len().to_numpy()
    uneven = int((lengths != prices.str.len().to_numpy()).sum())
    if uneven:
        raise ValueError(
            f"`prices` must be as many as `impressions`, but are not in {uneven} clickouts; "
            "remove these rows"
        )
    if len(lengths) and lengths.max() > MAX_POSITIONS:
        raise ValueError(
            f"a list must have at most {MAX_POSITIONS} impressions, but one has {lengths.max()}; "
            "cut it, or raise MAX_POSITIONS"
        )
    at = np.repeat(np.arange(len(clicks)), lengths)
    rows = clicks[["session_id", "session", "user", "timestamp", "time", "start", "step"]].iloc[at]
    rows = rows.reset_index(drop=True)
    rows["action"] = clicks.index.to_numpy()[at]
    rows["list"] = at
    rows["item"] = np.concatenate(items.to_list() or [[]]).astype(np.int64)
    rows["price"] = np.concatenate(prices.to_list() or [[]]).astype(np.float64)
    rows["position"] = rows.groupby("list").cumcount()
    rows["label"] = (rows["item"].to_numpy() == clicks["item"].to_numpy()[at]).astype(np.int64)
    rows = rows[rows.groupby("list")["label"].transform("max") == 1].reset_index(drop=True)
    rows["list"] = pd.factorize(rows["list"])[0]
    return rows


def _log_scale(values: np.ndarray, divisor: float) -> np.ndarray:
    """log(1 + x) / divisor: the divisor brings the usual maximum to about 1-2."""
    return np.log1p(np.maximum(values, 0)) / divisor


def _bucket(values: np.ndarray, edges: tuple[int, ...]) -> np.ndarray:
    """Number of edges below the value: 0 up to and including the first edge."""
    return np.searchsorted(edges, values, side="left")


def list_features(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Price against the list it stands in, and the list's length."""
    by_list = rows.groupby("list")["price"]
    price = rows["price"].to_numpy()
    log_price = np.log(np.maximum(price, 1.0))
    rank = by_list.rank(method="min").to_numpy().astype(np.int64) - 1
    length = by_list.transform("size").to_numpy()
    to_min = np.maximum(by_list.transform("min").to_numpy(), 1.0)
    to_median = np.maximum(by_list.transform("median").to_numpy(), 1.0)
    above = rows.groupby("list")["price"].shift(1).to_numpy()
    return {
        "price_rank": np.minimum(rank, MAX_POSITIONS - 1),
        "price_bucket": _bucket(price, PRICE_EDGES),
        "log_price": log_price - 4.6,
        "price_rank_share": rank / np.maximum(length - 1, 1),
        "price_to_min": np.clip(log_price - np.log(to_min), 0, 4),
        "price_to_median": np.clip(log_price - np.log(to_median), -4, 4),
        "price_to_above": np.nan_to_num(np.clip(log_price - np.log(np.maximum(above, 1.0)), -4, 4)),
        "position_scaled": _log_scale(rows["position"].to_numpy(), 2.0),
        "list_length": length / MAX_POSITIONS,
    }


def touch_features(actions: pd.DataFrame, rows: pd.DataFrame, stride: int) -> dict[str, np.ndarray]:
    """What this session did with this item before: how often, how, how recently."""
    touches = actions[actions["item"] != NO_ITEM]
    items = pd.Index(pd.unique(rows["item"]))
    touches = touches[touches["item"].isin(items)]
    pair = touches["session"].to_numpy() * len(items) + items.get_indexer(pd.Index(touches["item"]))
    query = rows["session"].to_numpy() * len(items) + items.get_indexer(pd.Index(rows["item"]))
    step, now = rows["step"].to_numpy(), rows["time"].to_numpy()
    columns = {}
    for action, name in ITEM_ACTIONS.items():
        chosen = (touches["action_type"] == action).to_numpy()
        log = EventLog(pair[chosen], touches["step"].to_numpy()[chosen], stride)
        columns[f"touched_{name}"] = _log_scale(log.count_before(query, step), 2.0)
    log = EventLog(pair, touches["step"].to_numpy(), stride)
    count, last = log.count_before(query, step), log.last_before(query, step)
    touched = last >= 0
    steps_since = np.where(touched, step - _take(touches["step"], last), 0)
    seconds_since = np.where(touched, now - _take(touches["time"], last), 0)
    # Rank 1 is the item of the list touched last, 0 stands for "not touched".
    recency = pd.Series(np.where(touched, steps_since, np.nan)).groupby(rows["list"].to_numpy())
    rank = recency.rank(method="min").fillna(0).to_numpy().astype(np.int64)
    shown = EventLog(query, step, stride).count_before(query, step)
    return columns | {
        "touch_bucket": _bucket(count, COUNT_EDGES),
        "steps_since_bucket": np.where(touched, 1 + _bucket(steps_since, STEP_EDGES), 0),
        "touch_rank": np.minimum(rank, 9),
        "last_touch_action": np.where(
            touched, _take(touches["action_type"].map(ACTION_IDS), last), 0
        ),
        "touched": touched.astype(np.float64),
        "touch_count": _log_scale(count, 3.0),
        "steps_since_touch": np.where(touched, 1 / (1 + np.maximum(steps_since, 0)), 0.0),
        "seconds_since_touch": np.where(touched, 1 - _log_scale(seconds_since, 10.0), 0.0),
        "shown_before": _log_scale(shown, 2.0),
        "shown_bucket": _bucket(shown, COUNT_EDGES),
    }


def _take(values: pd.Series, at: np.ndarray) -> np.ndarray:
    """values[at], tolerant of -1 and of no values at all (the caller masks these places)."""
    taken = values.to_numpy()
    return taken[at] if len(taken) else np.zeros(len(at), dtype=np.int64)


def anchor_features(
    actions: pd.DataFrame, rows: pd.DataFrame, stride: int
) -> dict[str, np.ndarray]:
    """Place and price relative to the item the session touched last, and to its last clickout."""
    columns = {}
    position, session, step = (rows[c].to_numpy() for c in ("position", "session", "step"))
    is_item = actions["item"] != NO_ITEM
    for name, chosen in (
        ("touched", is_item),
        ("clicked", is_item & (actions["action_type"] == CLICKOUT)),
    ):
        events = actions[chosen]
        log = EventLog(events["session"].to_numpy(), events["step"].to_numpy(), stride)
        last = log.last_before(session, step)
        anchor = np.where(last >= 0, _take(events["item"], last), NO_ITEM)
        same = rows["item"].to_numpy() == anchor
        # A list names an item at most once: the maximum over the list is the anchor's value.
        by_list = rows["list"].to_numpy()
        at = pd.Series(np.where(same, position, -1)).groupby(by_list).transform("max").to_numpy()
        price = (
            pd.Series(np.where(same, rows["price"], 0.0))
            .groupby(by_list)
            .transform("max")
            .to_numpy()
        )
        listed = at >= 0
        offset = np.clip(position - at, 1 - MAX_POSITIONS, MAX_POSITIONS - 1)
        ratio = np.log(np.maximum(rows["price"], 1.0)) - np.log(np.maximum(price, 1.0))
        columns |= {
            f"offset_to_{name}": np.where(listed, offset + MAX_POSITIONS, 0),
            f"is_last_{name}": same.astype(np.float64),
            f"below_{name}": np.where(listed, np.sign(offset) * _log_scale(np.abs(offset), 2.0), 0),
            f"price_to_{name}": np.where(listed, np.clip(ratio, -4, 4), 0.0),
        }
    return columns


def session_features(
    actions: pd.DataFrame, rows: pd.DataFrame, stride: int
) -> dict[str, np.ndarray]:
    """How the session went before the list: the same value for all items of the list."""
    session, step, now = (rows[c].to_numpy() for c in ("session", "step", "time"))
    columns: dict[str, np.ndarray] = {}
    for name, chosen in (
        ("num_actions", actions["action_type"].notna()),
        ("num_clickouts", actions["action_type"] == CLICKOUT),
        ("num_poi_searches", actions["action_type"] == "search for poi"),
        ("num_destination_searches", actions["action_type"] == "search for destination"),
        ("num_filter_changes", actions["action_type"] == "filter selection"),
    ):
        events = actions[chosen]
        log = EventLog(events["session"].to_numpy(), events["step"].to_numpy(), stride)
        count = log.count_before(session, step)
        columns[name] = _log_scale(count, 3.0)
        if name == "num_actions":
            last = log.last_before(session, step)
            columns["actions_bucket"] = _bucket(count, COUNT_EDGES)
            columns["last_action"] = np.where(
                last >= 0, _take(events["action_type"].map(ACTION_IDS).fillna(0), last), 0
            ).astype(np.int64)
            idle = np.where(last >= 0, now - _take(events["time"], last), 0)
            columns["idle_seconds"] = _log_scale(idle, 7.0)
        if name == "num_clickouts":
            columns["clickouts_bucket"] = _bucket(count, COUNT_EDGES)
    columns["elapsed_seconds"] = _log_scale(now - rows["start"].to_numpy(), 8.0)
    return columns


def attention_features(
    actions: pd.DataFrame, rows: pd.DataFrame, stride: int
) -> dict[str, np.ndarray]:
    """The session's touches of an item, and the seconds spent on it, against the rest of the list.

    An action lasts until the session's next one, which is the list's clickout at the latest.
    """
    items = pd.Index(pd.unique(rows["item"]))
    lasts = actions.groupby("session")["time"].shift(-1) - actions["time"]
    touches = actions[actions["item"].isin(items)]
    pair = touches["session"].to_numpy() * len(items) + items.get_indexer(pd.Index(touches["item"]))
    query = rows["session"].to_numpy() * len(items) + items.get_indexer(pd.Index(rows["item"]))
    seconds = np.minimum(lasts[touches.index].fillna(0).to_numpy(), MOST_SECONDS)
    log = EventLog(pair, touches["step"].to_numpy(), stride)
    step = rows["step"].to_numpy()
    count, spent = log.count_before(query, step), log.total_before(seconds, query, step)
    frame = pd.DataFrame({"list": rows["list"], "count": count, "spent": spent})
    frame["touched"] = (count > 0).astype(np.float64)
    frame["log_price"] = np.log(np.maximum(rows["price"], 1.0)) * frame["touched"]
    by_list = frame.groupby("list")
    total = by_list[["count", "spent", "touched", "log_price"]].transform("sum")
    above = by_list["touched"].cumsum() - frame["touched"]
    below = total["touched"] - above - frame["touched"]
    others = np.maximum(total["touched"] - frame["touched"], 1)
    usual_price = (total["log_price"] - frame["log_price"]) / others
    own_price = np.log(np.maximum(rows["price"], 1.0))
    has_others = total["touched"] - frame["touched"] > 0
    return {
        "touch_share": count / np.maximum(total["count"].to_numpy(), 1),
        "seconds_spent": _log_scale(spent, 6.0),
        "seconds_share": spent / np.maximum(total["spent"].to_numpy(), 1.0),
        "touched_above": _log_scale(above.to_numpy(), 2.0),
        "touched_below": _log_scale(below.to_numpy(), 2.0),
        "above_is_touched": by_list["touched"].shift(1).fillna(0.0).to_numpy(),
        "below_is_touched": by_list["touched"].shift(-1).fillna(0.0).to_numpy(),
        "price_to_others_touched": np.where(has_others, np.clip(own_price - usual_price, -4, 4), 0),
    }


def previous_list_features(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Where the item stood in the session's list before, of a strictly smaller step, and which
    item of that one was clicked.
    """
    lists = rows.groupby("list").agg(session=("session", "first"), step=("step", "first"))
    clicked = rows[rows["label"] == 1].set_index("list")["position"]
    earlier = lists.index.to_series().groupby([lists["session"], lists["step"]]).transform("min")
    before = (earlier - 1).where(
        lists["session"].reindex(earlier - 1).to_numpy() == lists["session"].to_numpy(), NO_ITEM
    )
    items = pd.Index(pd.unique(rows["item"]))
    item = items.get_indexer(pd.Index(rows["item"]))
    keys = pd.Index(rows["list"].to_numpy() * len(items) + item)
    previous = before.to_numpy()[rows["list"].to_numpy()]
    at = keys.get_indexer(pd.Index(np.where(previous >= 0, previous * len(items) + item, -1)))
    was_listed = at >= 0
    position = rows["position"].to_numpy()
    moved = np.where(was_listed, position - position[at], 0)
    to_clicked = position[at] - clicked.reindex(previous).fillna(0).to_numpy()
    shared = pd.Series(was_listed.astype(np.float64)).groupby(rows["list"].to_numpy())
    return {
        "moved_since": np.where(was_listed, moved + MAX_POSITIONS, 0),
        "list_overlap": shared.transform("mean").to_numpy(),
        "was_above_clicked": (was_listed & (to_clicked < 0)).astype(np.float64),
        "was_below_clicked": np.where(
            was_listed & (to_clicked > 0), 1 / np.maximum(to_clicked, 1), 0.0
        ),
        "has_earlier_list": (previous >= 0).astype(np.float64),
    }


def history_features(
    actions: pd.DataFrame, rows: pd.DataFrame, stride: int
) -> dict[str, list[np.ndarray]]:
    """The session's last actions on items before the list, the latest first, seen from each row.

    Per action: `history__offset`, MAX_POSITIONS + places of the row below the action's item, 0
    where that is not listed; `history__action`; `history__age`, the bucket of steps since.
    """
    events = actions[actions["item"] != NO_ITEM]
    session, step = rows["session"].to_numpy(), rows["step"].to_numpy()
    log = EventLog(events["session"].to_numpy(), events["step"].to_numpy(), stride)
    last = log.last_before(session, step)
    length = np.minimum(log.count_before(session, step), MAX_HISTORY)
    ends = length.cumsum()
    row = np.repeat(np.arange(len(rows)), length)  # of each action of each row's history
    # `events` are ordered by (session, step), so the one before lies one place before.
    event = last[row] - (np.arange(len(row)) - (ends - length)[row])
    items = pd.Index(pd.unique(rows["item"]))
    keys = pd.Index(
        rows["list"].to_numpy() * len(items) + items.get_indexer(pd.Index(rows["item"]))
    )
    sought = items.get_indexer(pd.Index(_take(events["item"], event)))
    at = keys.get_indexer(pd.Index(rows["list"].to_numpy()[row] * len(items) + sought))
    position = rows["position"].to_numpy()
    offset = position[row] - position[at] + MAX_POSITIONS
    columns = {
        "history__offset": np.where((sought >= 0) & (at >= 0), offset, 0),
        "history__action": _take(events["action_type"].map(ACTION_IDS), event),
        "history__age": _bucket(step[row] - _take(events["step"], event), STEP_EDGES),
    }
    return {name: np.split(values.astype(np.int64), ends[:-1]) for name, values in columns.items()}


def popularity_features(actions: pd.DataFrame, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Clicks, touches and showings of the item in strictly earlier seconds, over all sessions.

    And how often this user touched the item in seconds before this session's first.
    """
    items = pd.Index(pd.unique(rows["item"]))
    item = items.get_indexer(pd.Index(rows["item"]))
    now, stride = rows["time"].to_numpy(), int(actions["time"].max()) + 2
    shown = EventLog(item, now, stride).count_before(item, now)
    known = actions[actions["item"].isin(items)]
    known_item = items.get_indexer(pd.Index(known["item"]))
    is_click = (known["action_type"] == CLICKOUT).to_numpy()
    time = known["time"].to_numpy()
    clicks = EventLog(known_item[is_click], time[is_click], stride).count_before(item, now)
    touches = EventLog(known_item[~is_click], time[~is_click], stride).count_before(item, now)
    # Smoothed by one click in 25 showings, the rate of the data.
    rate = (clicks + 1.0) / (shown + 25.0)
    # Clicks against those that its places would give any item: about one in six at the top.
    usual = 0.16 / (1.0 + rows["position"].to_numpy()) ** 0.7
    expected = EventLog(item, now, stride).total_before(usual, item, now)
    pair = known["user"].to_numpy() * len(items) + known_item
    query = rows["user"].to_numpy() * len(items) + item
    before = EventLog(pair, time, stride).count_before(query, rows["start"].to_numpy())
    return {
        "item_shown": _log_scale(shown, 4.0),
        "item_clicks": _log_scale(clicks, 2.0),
        "item_touches": _log_scale(touches, 4.0),
        "item_click_lift": np.clip(np.log((clicks + 1.0) / (expected + 1.0)), -4, 4),
        "item_click_rate": np.clip(np.log(rate * 25.0), -4, 4),
        "touched_in_earlier_session": _log_scale(before, 2.0),
    }


def search_state(actions: pd.DataFrame, rows: pd.DataFrame, stride: int) -> pd.DataFrame:
    """City, platform, device, filters and sort order in force at the list, as raw strings."""
    state = actions.loc[rows["action"], ["city", "platform", "device", "current_filters"]]
    state = state.reset_index(drop=True)
    sorts = actions[
        (actions["action_type"] == "change of sort order") & (actions["reference"] != SORT_BUTTON)
    ]
    log = EventLog(sorts["session"].to_numpy(), sorts["step"].to_numpy(), stride)
    last = log.last_before(rows["session"].to_numpy(), rows["step"].to_numpy())
    chosen = sorts["reference"].to_numpy(dtype=object)
    state["sort_order"] = pd.Series([chosen[i] if i >= 0 else None for i in last], dtype=object)
    return state
