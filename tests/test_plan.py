"""The plan: invariants over many indexes, world sizes, batch sizes, seeds and epochs."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainer.data.plan import EpochPlan, GlobalBatch, Place, next_fit, share_bounds

WORLD_SIZES = [*range(1, 9), 12, 16, 24, 31, 48, 63, 64]


@st.composite
def plans(draw: st.DrawFn) -> EpochPlan:
    """A plan over blocks of some sessions each, some blocks without any."""
    blocks = draw(
        st.lists(st.lists(st.integers(1, 40), max_size=12), min_size=1, max_size=14).filter(any)
    )
    return EpochPlan(
        num_blocks=len(blocks),
        lengths_of_block=lambda block: np.array(blocks[block], dtype=np.int32),
        lane_rows=draw(st.integers(1, 60)),
        num_lanes=draw(st.sampled_from([1, 2, 3, 5, 8, 64])),
        shuffle=draw(st.booleans()),
        seed=draw(st.sampled_from([0, 1, 2**64 - 1])),
        epoch=draw(st.integers(0, 3)),
        window_blocks=draw(st.integers(1, 5)),
    )


def plan_of(lengths: list[list[int]] | list[np.ndarray], **options) -> EpochPlan:
    options = {"lane_rows": 50, "num_lanes": 2, "shuffle": True, "window_blocks": 2, **options}
    return EpochPlan(
        num_blocks=len(lengths),
        lengths_of_block=lambda block: np.asarray(lengths[block], dtype=np.int32),
        **options,
    )


def sessions_of(plan: EpochPlan, batch: GlobalBatch) -> list[tuple[int, int, int]]:
    """(block, number in it, rows) of each session of a batch."""
    blocks = plan.block_of_slot[batch.sessions.slot].tolist()
    numbers, rows = batch.sessions.number.tolist(), batch.sessions.num_rows.tolist()
    return list(zip(blocks, numbers, rows, strict=True))


def stored(plan: EpochPlan) -> list[tuple[int, int, int]]:
    """All sessions in stored order."""
    return [
        (block, number, int(rows))
        for block in range(plan.num_blocks)
        for number, rows in enumerate(plan.lengths_of_block(block))
    ]


@given(plans())
@settings(deadline=None, max_examples=300)
def test_every_session_is_in_exactly_one_batch_and_one_share(plan):
    batches = list(plan.batches())
    seen = [session for batch in batches for session in sessions_of(plan, batch)]
    assert sorted(seen) == stored(plan)
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert [batch.start.step for batch in batches] == list(range(len(batches)))
    for batch, following in itertools.pairwise(batches):
        assert batch.end == following.start
    for batch in batches:
        assert batch.num_rows == batch.sessions.num_rows.sum() > 0


@given(plans(), st.sampled_from(WORLD_SIZES))
@settings(deadline=None, max_examples=300)
def test_shares_of_any_world_size_are_the_whole_batch_and_balanced(plan, world):
    for batch in plan.batches():
        shares = [batch.share(rank, world) for rank in range(world)]
        seen = [s for share in shares for s in sessions_of(plan, replace(batch, sessions=share))]
        assert sorted(seen) == sorted(sessions_of(plan, batch))
        longest = batch.sessions.num_rows.max()
        even = -(-batch.num_rows // world)
        assert max(share.num_rows.sum() for share in shares) <= max(even + longest - 1, longest)


@given(plans())
@settings(deadline=None, max_examples=300)
def test_a_rank_has_at_most_batch_size_rows_in_the_world_that_began(plan):
    for batch in plan.batches():
        for rank in range(plan.num_lanes):
            share = batch.share(rank, plan.num_lanes)
            assert share.num_rows.sum() <= plan.lane_rows or len(share) == 1


@given(plans())
@settings(deadline=None, max_examples=300)
def test_half_the_ranks_have_at_most_twice_batch_size_rows(plan):
    assume(plan.num_lanes % 2 == 0)
    for batch in plan.batches():
        if batch.sessions.num_rows.max() <= plan.lane_rows:
            for rank in range(plan.num_lanes // 2):
                share = batch.share(rank, plan.num_lanes // 2)
                assert share.num_rows.sum() <= 2 * plan.lane_rows


@given(plans(), st.data())
@settings(deadline=None, max_examples=200)
def test_planning_from_the_place_of_any_step_gives_exactly_the_rest(plan, data):
    whole = list(plan.batches())
    step = data.draw(st.integers(0, len(whole) - 1))
    assert plan.place_of(step) == whole[step].start
    rest = list(plan.batches(whole[step].start))
    assert len(rest) == len(whole) - step
    for one, other in zip(rest, whole[step:], strict=True):
        assert (one.start, one.end, one.is_last) == (other.start, other.end, other.is_last)
        assert sessions_of(plan, one) == sessions_of(plan, other)


@given(plans())
@settings(deadline=None, max_examples=200)
def test_drop_remainder_leaves_out_a_last_batch_that_is_not_full_and_nothing_else(plan):
    kept = list(plan.batches())
    dropped = list(replace(plan, drop_remainder=True).batches())
    is_full = kept[-1].num_rows >= plan.lane_rows * plan.num_lanes
    assert len(dropped) == len(kept) - (not is_full)
    assert [sessions_of(plan, batch) for batch in dropped] == [
        sessions_of(plan, batch) for batch in kept[: len(dropped)]
    ]
    assert [batch.is_last for batch in dropped[-1:]] == [True] * bool(dropped)


@given(plans())
@settings(deadline=None, max_examples=200)
def test_a_batch_ends_only_where_the_next_session_does_not_fit(plan):
    """With one lane: the reference fills each batch session by session."""
    plan = replace(plan, num_lanes=1)
    batches: list[list[int]] = []
    for window in range(plan.num_windows):
        for rows in plan.window(window).num_rows.tolist():
            if not batches or sum(batches[-1]) + rows > plan.lane_rows:
                batches.append([])
            batches[-1].append(rows)
    planned = [sorted(batch.sessions.num_rows.tolist()) for batch in plan.batches()]
    assert planned == [sorted(batch) for batch in batches]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_share_bounds_make_the_longest_share_as_short_as_any_cut_can(lengths, world):
    bounds = share_bounds(np.array(lengths), world)
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    longest = max(sum(lengths[a:b]) for a, b in itertools.pairwise(bounds))
    inner = range(len(lengths) + 1)
    best = min(
        max(sum(lengths[a:b]) for a, b in itertools.pairwise([0, *cuts, len(lengths)]))
        for cuts in itertools.combinations_with_replacement(inner, world - 1)
    )
    assert longest == best


def test_next_fit_gives_a_long_session_a_run_of_its_own():
    starts = np.array([0, 3, 33, 37])
    assert next_fit(starts, 8, 9) == [0, 1, 2, 3]
    assert next_fit(starts, 40, 9) == [0, 3]
    assert next_fit(starts, 8, 2) == [0, 1, 2]


@pytest.mark.parametrize("num_lanes", [1, 2, 8, 64])
def test_batches_are_at_least_97_percent_full_when_sessions_are_short(num_lanes):
    """The longest session has just under 5 % of a rank's rows; lengths of three kinds."""
    lane_rows = 1000
    random = np.random.default_rng(0)
    for lengths in (
        random.integers(1, 50, (40, 3_000)),
        np.minimum(random.geometric(1 / 10, (40, 12_000)), 49),
        np.minimum((random.pareto(1.2, (40, 12_000)) + 1).astype(int), 49),
    ):
        plan = plan_of(list(lengths), lane_rows=lane_rows, num_lanes=num_lanes, window_blocks=8)
        rows = [batch.num_rows for batch in plan.batches() if not batch.is_last]
        assert np.mean(rows) >= 0.97 * lane_rows * num_lanes
        assert np.min(rows) >= 0.95 * lane_rows * num_lanes


def test_a_long_session_takes_one_rank_and_leaves_the_others_their_rows():
    plan = plan_of([[500, *[5] * 40]], num_lanes=4, shuffle=False)
    first = next(plan.batches())
    assert [first.share(rank, 4).num_rows.sum() for rank in range(4)] == [500, 50, 50, 50]


def test_fewer_sessions_than_ranks_leave_ranks_without():
    (batch,) = plan_of([[3, 4]]).batches()
    assert [len(batch.share(rank, 5)) for rank in range(5)] == [1, 1, 0, 0, 0]


def test_epochs_and_seeds_differ_and_repeat_exactly():
    lengths = [[*range(1, 30)]] * 7

    def order(**options) -> list:
        plan = plan_of(lengths, **options)
        return [sessions_of(plan, batch) for batch in plan.batches()]

    cases = [{"seed": seed, "epoch": epoch} for seed in (0, 1, 2**32) for epoch in range(3)]
    orders = [order(**case) for case in cases]
    for one, other in itertools.combinations(orders, 2):
        assert one != other
    assert orders == [order(**case) for case in cases]


def test_at_most_some_blocks_more_than_a_rank_s_part_are_its_own():
    """64 ranks over windows of 64 blocks: two blocks a window and rank, at most three."""
    plan = plan_of([[1] * 2000] * 150, lane_rows=100, num_lanes=64, window_blocks=64)
    blocks: dict[tuple[int, int], set[int]] = {}
    for batch in plan.batches():
        for rank in range(64):
            for slot in np.unique(batch.share(rank, 64).slot).tolist():
                blocks.setdefault((rank, slot // 64), set()).add(slot)
    counts = [len(found) for (_, window), found in blocks.items() if window < 2]
    assert np.mean(counts) <= 2.6
    assert max(counts) <= 4


def test_shuffle_mixes_sessions_within_windows_of_whole_blocks():
    plan = plan_of([[1] * 20] * 10, window_blocks=4)
    windows = [plan.window(window) for window in range(plan.num_windows)]
    assert [len(set(window.slot)) for window in windows] == [4, 4, 2]
    assert all((np.diff(window.slot) < 0).any() for window in windows)
    assert sorted(plan.block_of_slot) == list(range(10)) != plan.block_of_slot.tolist()


def test_without_shuffle_the_stored_order_is_kept():
    plan = plan_of([[2, 3], [4], [], [5, 6, 7]], shuffle=False, lane_rows=7)
    seen = [session for batch in plan.batches() for session in sessions_of(plan, batch)]
    assert seen == stored(plan)
    shares = [batch.share(rank, 2) for batch in plan.batches() for rank in range(2)]
    assert [rows for share in shares for rows in share.num_rows] == [2, 3, 4, 5, 6, 7]


def test_a_step_that_the_epoch_does_not_have_is_an_error():
    with pytest.raises(ValueError, match="the epoch has fewer than 9 global batches"):
        plan_of([[1]]).place_of(9)


def test_the_first_batch_of_a_billion_rows_is_planned_within_seconds_and_megabytes():
    """10,000 blocks of 10,000 sessions of 10 rows in the mean, made when asked for."""
    asked = []

    def lengths_of_block(block: int) -> np.ndarray:
        asked.append(block)
        return np.random.default_rng(block).geometric(1 / 10, 10_000)

    plan = EpochPlan(10_000, lengths_of_block, 8192, 8, shuffle=True, window_blocks=64)
    started = time.monotonic()
    batches = plan.batches()
    first = next(batches)
    assert time.monotonic() - started < 10
    assert first.num_rows > 0.97 * 8192 * 8
    assert len(asked) == 64  # one window of the epoch's 157
    resumed = next(plan.batches(Place(90_000, window=150, session=77, rows=950_000_000)))
    assert resumed.start.step == 90_000
    assert len(asked) == 2 * 64
