"""Make synthetic session data whose true click and purchase probabilities are known.

    DIR/train/part-*.parquet   sessions that start in the first 80 % of the time
    DIR/eval/part-*.parquet    sessions that start later

Rows are raw events in order of arrival, as in a log: users interleave, so a session's rows are
scattered among its neighbours'. One row is one item shown. README.md here lists the columns.

How a row is drawn (s: sigmoid; rel_price: log of the price over what its category usually costs):

    intent     = channel + device + hour + 0.2 * query_words          one value per session
    match      = taste of the user . style of the item
    attraction = s(c1 + user bias + quality + match - thrift of the user * rel_price + intent)
    p_click    = (1 + position) ** -0.5 * 0.93 ** page * attraction
    p_buy      = s(c2 + quality / 2 + match - |rel_price - budget of the user| + intent / 2)
    p_purchase = p_click * p_buy                                      purchase only after a click

**What the oracle knows.** Every latent value is a fixed function of a column: taste, bias, thrift
and budget of `user_id`; style and quality of `item_id`; intent of `channel`, `device`, `hour` and
`query_words`. Nothing hidden is drawn per session or per row. So `p_click` and `p_purchase` are the
probabilities given the features themselves, labels are independent draws from them, and no model
can be better in expectation. With finite data no model gets there: a user has about 80 training
rows, nine of them clicks, to learn a taste from.

Run:

    python examples/synthetic/generate.py --output_path DIR
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Run as a file, a script sees its own folder alone; what the examples share lies one above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from folders import new_folder

OUTPUT_FILES = ("train/*.parquet", "eval/*.parquet")
FIRST_SECOND = 1_767_225_600  # 2026-01-01 00:00:00 UTC
DAY_SECONDS = 86_400
TASTE_DIMS = 3
NUM_CATEGORIES = 12
NUM_CHANNELS = 4
NUM_DEVICES = 3
MAX_QUERY_WORDS = 8
PAGE_SIZE = 10
LENGTH_SIGMA = 0.9  # of the log of a session's length: the longest 1 % hold about 7 % of the rows
MEAN_ARRIVAL_DELAY_SECONDS = 600.0
SAME_CATEGORY_SHARE = 0.7  # of a session's items; the others come from anywhere


@dataclass(frozen=True)
class World:
    """The latent values. `U` users, `I` items, `K` categories, `D` taste dims."""

    taste: np.ndarray  # [U, D]
    user_bias: np.ndarray  # [U]
    thrift: np.ndarray  # [U]
    budget: np.ndarray  # [U]
    activity: np.ndarray  # [U], sums to 1
    category: np.ndarray  # [I]
    style: np.ndarray  # [I, D]
    centre: np.ndarray  # [K, D], style of a category
    quality: np.ndarray  # [I]
    relative_price: np.ndarray  # [I], log of price over its category's usual price
    price: np.ndarray  # [I]
    rating: np.ndarray  # [I], what the shop shows: quality seen through noise
    popularity: np.ndarray  # [I]
    channel_intent: np.ndarray  # [NUM_CHANNELS]
    device_intent: np.ndarray  # [NUM_DEVICES]
    hour_intent: np.ndarray  # [24]


def make_world(rng: np.random.Generator, num_users: int, num_items: int) -> World:
    """Draw the latent values."""
    centre = rng.normal(size=(NUM_CATEGORIES, TASTE_DIMS)) / math.sqrt(TASTE_DIMS)
    # Every category has an item, so that a session can be about it.
    category = np.concatenate(
        [np.arange(NUM_CATEGORIES), rng.integers(NUM_CATEGORIES, size=num_items - NUM_CATEGORIES)]
    )
    noise = rng.normal(size=(num_items, TASTE_DIMS)) / math.sqrt(TASTE_DIMS)
    quality = rng.normal(0.0, 0.9, num_items)
    relative_price = rng.normal(0.0, 0.5, num_items)
    usual_log_price = rng.uniform(2.0, 5.0, NUM_CATEGORIES)
    activity = rng.gamma(1.5, size=num_users)
    hours = np.arange(24)
    return World(
        taste=rng.normal(0.0, 0.7, (num_users, TASTE_DIMS)),
        user_bias=rng.normal(0.0, 0.4, num_users),
        thrift=rng.normal(0.7, 0.4, num_users),
        budget=rng.normal(0.0, 0.5, num_users),
        activity=activity / activity.sum(),
        category=category,
        style=0.75 * centre[category] + 0.5 * noise,
        centre=centre,
        quality=quality,
        relative_price=relative_price,
        price=np.round(np.exp(usual_log_price[category] + relative_price), 2),
        rating=np.clip(3.7 + 0.5 * quality + rng.normal(0.0, 0.3, num_items), 1.0, 5.0),
        popularity=np.exp(0.5 * rng.normal(size=num_items)),
        channel_intent=np.array([0.7, 0.1, -0.3, -0.8]),
        device_intent=np.array([0.2, -0.1, 0.0]),
        hour_intent=0.3 * np.sin((hours - 14) / 24 * 2 * np.pi),
    )


def draw_sessions(
    rng: np.random.Generator, world: World, num_sessions: int, mean_rows: float, num_days: int
) -> dict[str, np.ndarray]:
    """One entry per session: who, when, from where, what about, how long."""
    users = rng.choice(len(world.activity), size=num_sessions, p=world.activity)
    # Few sessions at night, most in the evening.
    by_hour = 1.2 + np.sin((np.arange(24) - 13) / 24 * 2 * np.pi)
    hour = rng.choice(24, size=num_sessions, p=by_hour / by_hour.sum())
    day = rng.integers(num_days, size=num_sessions)
    start = FIRST_SECOND + day * DAY_SECONDS + hour * 3600 + rng.integers(3600, size=num_sessions)
    # A session is about a category: softmax(taste . centre), drawn by the Gumbel trick.
    leaning = 3.0 * world.taste[users] @ world.centre.T + rng.gumbel(
        size=(num_sessions, NUM_CATEGORIES)
    )
    # exp(mu + sigma^2 / 2) is the mean of a log-normal; the floor below takes half a row off.
    mu = math.log(mean_rows - 0.5) - LENGTH_SIGMA**2 / 2
    length = 1 + np.floor(rng.lognormal(mu, LENGTH_SIGMA, num_sessions)).astype(np.int64)
    # Ids of no meaning and no order, as a hash would give; distinct by construction.
    session_id = rng.permutation(num_sessions) * 104_729 + rng.integers(104_729, size=num_sessions)
    return {
        "session_id": session_id,
        "user_id": users,
        "hour": hour,
        "start": start,
        "about": leaning.argmax(axis=1),
        "length": np.minimum(length, len(world.quality) // 2),
        "channel": rng.choice(NUM_CHANNELS, size=num_sessions, p=[0.25, 0.35, 0.25, 0.15]),
        "device": rng.choice(NUM_DEVICES, size=num_sessions, p=[0.35, 0.55, 0.1]),
        "query_words": 1 + rng.binomial(MAX_QUERY_WORDS - 1, 0.3, num_sessions),
    }


def draw_items(
    rng: np.random.Generator, world: World, session: np.ndarray, about: np.ndarray
) -> np.ndarray:
    """An item per row, none twice in a session, the better ones rather on top: int64 [rows].

    Args:
        session: number of the row's session, ascending: [rows].
        about: category the row's session is about: [rows].
    """
    num_items = len(world.quality)
    order = np.argsort(world.category, kind="stable")  # items grouped by category
    weight = np.cumsum(world.popularity[order])
    counts = np.bincount(world.category, minlength=NUM_CATEGORIES)
    last = np.cumsum(counts)
    upper, lower = weight[last - 1], np.concatenate([[0.0], weight[last[:-1] - 1]])

    def draw(rows: np.ndarray, same_category: np.ndarray) -> np.ndarray:
        low = np.where(same_category, lower[about[rows]], 0.0)
        high = np.where(same_category, upper[about[rows]], weight[-1])
        at = np.searchsorted(weight, low + rng.random(len(rows)) * (high - low), side="right")
        return order[np.minimum(at, num_items - 1)]

    all_rows = np.arange(len(session))
    items = draw(all_rows, rng.random(len(session)) < SAME_CATEGORY_SHARE)
    while True:
        first = np.unique(session * num_items + items, return_index=True)[1]
        twice = np.setdiff1d(all_rows, first, assume_unique=True)
        if not len(twice):
            break
        items[twice] = draw(twice, np.zeros(len(twice), dtype=bool))
    # The shop's own ranker: weak, so that position and quality can be told apart.
    score = 0.5 * world.quality[items] + rng.normal(size=len(items))
    return items[np.lexsort((-score, session))]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def solve_intercept(mean_at: Callable[[float], float], target: float) -> float:
    """The c for which the increasing `mean_at(c)` is `target`, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_at(middle) < target else (low, middle)
    return (low + high) / 2


def true_probabilities(
    world: World, rows: dict[str, np.ndarray], click_rate: float, purchase_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """p_click and p_buy by the formulas of the module's docstring: two float64 [rows].

    Args:
        click_rate: mean of p_click; sets c1.
        purchase_rate: share of clicks that are followed by a purchase; sets c2.
    """
    user, item = rows["user_id"], rows["item_id"]
    intent = (
        world.channel_intent[rows["channel"]]
        + world.device_intent[rows["device"]]
        + world.hour_intent[rows["hour"]]
        + 0.2 * rows["query_words"]
    )
    match = np.einsum("nd,nd->n", world.taste[user], world.style[item])
    price = world.relative_price[item]
    appeal = (
        world.user_bias[user] + world.quality[item] + match - world.thrift[user] * price + intent
    )
    seen = (1.0 + rows["position"]) ** -0.5 * 0.93 ** rows["page"]
    c1 = solve_intercept(lambda c: float((seen * sigmoid(c + appeal)).mean()), click_rate)
    p_click = seen * sigmoid(c1 + appeal)
    need = world.quality[item] / 2 + match - np.abs(price - world.budget[user]) + intent / 2
    clicks = p_click / p_click.sum()
    c2 = solve_intercept(lambda c: float((clicks * sigmoid(c + need)).sum()), purchase_rate)
    return p_click, sigmoid(c2 + need)


def generate(
    *,
    num_sessions: int = 20_000,
    mean_rows: float = 10.0,
    num_users: int = 2_000,
    num_items: int = 1_000,
    num_days: int = 14,
    click_rate: float = 0.11,
    purchase_rate: float = 0.2,
    seed: int = 0,
) -> tuple[pa.Table, np.ndarray]:
    """Events by order of arrival, and when each row's session started: (table, int64 [rows])."""
    rng = np.random.default_rng(seed)
    world = make_world(rng, num_users, num_items)
    sessions = draw_sessions(rng, world, num_sessions, mean_rows, num_days)
    session = np.repeat(np.arange(num_sessions), sessions["length"])
    rows = {name: values[session] for name, values in sessions.items()}
    rows["item_id"] = draw_items(rng, world, session, rows["about"])
    place = np.arange(len(session)) - np.repeat(
        np.cumsum(sessions["length"]) - sessions["length"], sessions["length"]
    )
    rows["page"], rows["position"] = place // PAGE_SIZE, place % PAGE_SIZE
    # A page's items share their second; the next page comes 5 to 60 seconds later.
    wait = np.where((rows["position"] == 0) & (place > 0), rng.integers(5, 61, len(session)), 0)
    waited = np.cumsum(wait)
    first_row = np.concatenate([[0], np.cumsum(sessions["length"])[:-1]])
    rows["timestamp"] = rows["start"] + waited - waited[first_row][session]
    p_click, p_buy = true_probabilities(world, rows, click_rate, purchase_rate)
    click = rng.random(len(session)) < p_click
    purchase = click & (rng.random(len(session)) < p_buy)
    item = rows["item_id"]
    columns = {
        **{
            name: rows[name]
            for name in ("session_id", "timestamp", "page", "position", "user_id", "item_id")
        },
        "category_id": world.category[item],
        **{name: rows[name] for name in ("channel", "device", "hour", "query_words")},
        "price": world.price[item],
        "log_price": np.log(world.price[item]),
        "rating": world.rating[item],
        "click": click.astype(np.int64),
        "purchase": purchase.astype(np.int64),
        "p_click": p_click,
        "p_purchase": p_click * p_buy,
    }
    delay = rng.exponential(MEAN_ARRIVAL_DELAY_SECONDS, len(session))
    arrival = np.argsort(rows["timestamp"] + delay, kind="stable")
    return pa.table({name: values[arrival] for name, values in columns.items()}), rows["start"][
        arrival
    ]


def write_parts(table: pa.Table, folder: Path, num_files: int) -> None:
    """Write the rows as `num_files` Parquet files of about equal rows."""
    folder.mkdir()
    edges = np.linspace(0, table.num_rows, num_files + 1).astype(int).tolist()
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        pq.write_table(table.slice(first, last - first), folder / f"part-{i:05d}.parquet")


def describe(name: str, table: pa.Table) -> str:
    """One line: rows, sessions, rates."""
    length = np.unique(table["session_id"].to_numpy(), return_counts=True)[1]
    clicks, purchases = table["click"].to_numpy().mean(), table["purchase"].to_numpy().mean()
    return (
        f"{name:<6}{table.num_rows:>9,} rows {len(length):>7,} sessions of {length.min()} to "
        f"{length.max()} rows {clicks:>7.2%} clicks {purchases:>7.2%} purchases"
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; unknown flags and values out of range are errors."""
    parser = argparse.ArgumentParser(description="Make synthetic session data.", allow_abbrev=False)
    parser.add_argument("--output_path", type=Path, required=True, help="folder to make")
    parser.add_argument("--num_sessions", type=int, default=20_000)
    parser.add_argument("--mean_rows", type=float, default=10.0, help="mean rows of a session")
    parser.add_argument("--num_users", type=int, default=2_000)
    parser.add_argument("--num_items", type=int, default=1_000)
    parser.add_argument("--num_days", type=int, default=14, help="days over which sessions start")
    parser.add_argument(
        "--eval_share", type=float, default=0.2, help="last share of the time, held out"
    )
    parser.add_argument("--click_rate", type=float, default=0.11, help="mean of p_click")
    parser.add_argument("--purchase_rate", type=float, default=0.2, help="purchases per click")
    parser.add_argument("--num_files", type=int, default=4, help="Parquet files per folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    least = {"num_sessions": 2, "mean_rows": 1, "num_users": 1, "num_items": 2 * NUM_CATEGORIES}
    least |= {"num_days": 1, "num_files": 1, "seed": 0}
    for name, smallest in least.items():
        if not getattr(args, name) >= smallest:
            parser.error(f"--{name} must be at least {smallest}, but got: {getattr(args, name)}")
    for name, largest in (("eval_share", 1.0), ("click_rate", 0.5), ("purchase_rate", 1.0)):
        if not 0 < getattr(args, name) < largest:
            parser.error(
                f"--{name} must be between 0 and {largest}, but got: {getattr(args, name)}"
            )
    return args


def main(argv: list[str] | None = None) -> int:
    """Generate, split, write, print a summary. Exit status 1 and one line on an error."""
    args = vars(parse_args(argv))
    output, overwrite, num_files = (
        args.pop("output_path"),
        args.pop("overwrite"),
        args.pop("num_files"),
    )
    eval_share = args.pop("eval_share")
    try:
        with new_folder(output, overwrite, OUTPUT_FILES) as folder:
            events, start = generate(**args)
            is_eval = start >= FIRST_SECOND + args["num_days"] * DAY_SECONDS * (1.0 - eval_share)
            if is_eval.all() or not is_eval.any():
                raise ValueError(
                    f"--eval_share must leave sessions on both sides, but {eval_share} of "
                    f"{args['num_sessions']} sessions does not; change it or --num_sessions"
                )
            train, held_out = events.filter(pa.array(~is_eval)), events.filter(pa.array(is_eval))
            write_parts(train, folder / "train", num_files)
            write_parts(held_out, folder / "eval", num_files)
    except (OSError, ValueError) as error:
        print(f"generate.py: error: {error}", file=sys.stderr)
        return 1
    print(describe("train", train))
    print(describe("eval", held_out))
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
