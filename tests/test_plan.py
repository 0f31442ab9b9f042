"""The plan: invariants over many indexes, lane counts and seeds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.plan import EpochPlan, plan_epoch


@st.composite
def indexes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Session lengths and the (nondecreasing) block of each session."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=80))
    jumps = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    block = np.cumsum([0, *jumps[1:]])
    return np.array(lengths, dtype=np.int64), block.astype(np.int64)


def make(index: tuple[np.ndarray, np.ndarray], lanes: int, rows: int, **kwargs) -> EpochPlan:
    kwargs = {"shuffle": True, "window_blocks": 2, **kwargs}
    return plan_epoch(*index, lane_rows=rows, num_lanes=lanes, **kwargs)


@given(indexes(), st.integers(1, 6), st.integers(1, 60), st.booleans(), st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_every_session_is_once_in_a_lane_of_at_most_lane_rows(index, lanes, rows, shuffle, seed):
    plan = make(index, lanes, rows, shuffle=shuffle, seed=seed)
    lengths = index[0][plan.order]
    assert sorted(plan.order) == list(range(len(lengths)))
    flat = plan.bounds.reshape(-1)
    assert flat[0] == 0
    assert flat[-1] == len(lengths)
    assert (np.diff(flat) >= 0).all()  # contiguous: each lane ends where the next one starts
    assert (plan.bounds[1:, 0] == plan.bounds[:-1, -1]).all()
    for step in plan.bounds:
        for start, stop in itertools.pairwise(step):
            assert lengths[start:stop].sum() <= rows or stop - start == 1
    assert plan.rows.sum() == lengths.sum()
    assert plan.num_oversized == (lengths > rows).sum()


@given(indexes(), st.integers(1, 60), st.sampled_from([(1, 2), (1, 3), (2, 4), (4, 8), (3, 6)]))
@settings(deadline=None, max_examples=100)
def test_world_sizes_that_divide_the_lanes_read_the_same_global_batches(index, rows, worlds):
    lanes = max(worlds)
    plan = make(index, lanes, rows)
    seen = []
    for world in worlds:
        shares = [plan.share(rank, world) for rank in range(world)]
        steps = [
            np.concatenate([plan.order[first[k] : last[k]] for first, last in shares])
            for k in range(plan.num_steps)
        ]
        seen.append(steps)
    for one, other in zip(*seen, strict=True):
        assert one.tolist() == other.tolist()


def test_only_the_last_global_batch_is_not_full_and_its_lanes_are_balanced():
    index = (np.full(103, 5, dtype=np.int64), np.zeros(103, dtype=np.int64))
    plan = make(index, lanes=4, rows=50)
    rows_of_lanes = np.diff(plan.bounds, axis=1) * 5
    assert (rows_of_lanes[:-1] == 50).all()
    assert rows_of_lanes[-1].max() - rows_of_lanes[-1].min() <= 15  # 23 sessions as 6 6 6 5
    assert rows_of_lanes[-1].max() == 30


def test_drop_remainder_leaves_out_the_last_global_batch_only():
    index = (np.full(103, 5, dtype=np.int64), np.zeros(103, dtype=np.int64))
    kept, dropped = make(index, 4, 50), make(index, 4, 50, drop_remainder=True)
    assert dropped.num_steps == kept.num_steps - 1
    assert (dropped.bounds == kept.bounds[:-1]).all()


def test_fewer_sessions_than_lanes_leaves_lanes_empty():
    plan = make((np.array([3, 4]), np.array([0, 0])), lanes=5, rows=10)
    assert plan.num_steps == 1
    assert np.diff(plan.bounds[0]).tolist() == [1, 1, 0, 0, 0]


def test_epochs_and_seeds_differ_and_repeat_exactly():
    index = (np.arange(1, 200) % 7 + 1, np.arange(199) // 20)
    orders = {
        (seed, epoch): make(index, 2, 30, seed=seed, epoch=epoch).order.tolist()
        for seed in range(3)
        for epoch in range(3)
    }
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    for (seed, epoch), order in orders.items():
        assert make(index, 2, 30, seed=seed, epoch=epoch).order.tolist() == order


def test_shuffle_mixes_sessions_within_windows_of_whole_blocks():
    block = np.arange(400) // 20
    plan = make((np.ones(400, dtype=np.int64), block), 2, 30, window_blocks=4)
    windows = np.split(plan.order, plan.window_starts[1:])
    assert [len(set(block[window])) for window in windows] == [4] * 5
    assert all((np.diff(window) < 0).any() for window in windows)


def test_without_shuffle_the_stored_order_is_kept():
    plan = make((np.arange(1, 50), np.arange(49) // 5), 3, 60, shuffle=False)
    assert plan.order.tolist() == list(range(49))


def test_a_world_that_does_not_divide_the_lanes_is_an_error():
    plan = make((np.ones(9, dtype=np.int64), np.zeros(9, dtype=np.int64)), lanes=4, rows=2)
    with pytest.raises(ValueError, match=r"world size must divide the 4 lanes .* got: 3"):
        plan.share(0, 3)
