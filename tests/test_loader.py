"""The loader over real files: whole sessions, every row once, exact values, resume."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.encode import ColumnSpec, DataError
from trainer.features import RawFeature, used_features
from trainer.loader import SessionLoader
from trainer.reader import SessionDataset
from trainer.tasks import parse_tasks

ROW = RawFeature("row", "row", 1, 0.0)


def spec(*extra: RawFeature) -> ColumnSpec:
    config = two_task_config()
    return ColumnSpec((*used_features(config), *extra), tuple(parse_tasks(config)))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return click_table(90)


@pytest.fixture(scope="module")
def dataset(table, tmp_path_factory) -> SessionDataset:
    path = tmp_path_factory.mktemp("loader") / "data"
    return SessionDataset.open(write_dataset(path, table, num_files=3, row_group_rows=50))


def loader(dataset: SessionDataset, rank: int = 0, world: int = 1, **kwargs) -> SessionLoader:
    kwargs = {"batch_size": 64, "shuffle": True, **kwargs}
    return SessionLoader(dataset, spec(ROW), rank=rank, world_size=world, **kwargs)


def rows_of(batch) -> list[int]:
    return batch.dense[:, -1].long().tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("read_ahead", [True, False])
def test_each_row_once_sessions_whole_same_steps(table, dataset, world, shuffle, read_ahead):
    ranks = [
        list(loader(dataset, r, world, shuffle=shuffle, read_ahead=read_ahead).batches(epoch=1))
        for r in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    for batches in zip(*ranks, strict=True):
        assert {b.global_rows for b in batches} == {sum(b.num_rows for b in batches)}
    rows = [row for batches in ranks for batch in batches for row in rows_of(batch)]
    assert sorted(rows) == list(range(table.num_rows))
    session = table["session_id"].to_numpy()
    for batches in ranks:
        for batch in batches:
            assert batch.num_rows <= 64 or len(batch.sessions) == 1
            offsets = batch.session_offsets.tolist()
            found = [rows_of(batch)[a:b] for a, b in itertools.pairwise(offsets)]
            for part in found:  # the very rows of one session, in their stored order
                assert part == np.flatnonzero(session == session[part[0]]).tolist()


def test_values_are_those_of_the_table(table, dataset):
    for batch in loader(dataset).batches():
        rows = rows_of(batch)
        expected = table.take(rows)
        ids = batch.ids.to_dict()
        assert ids["user_id"].values().tolist() == expected["user_id"].to_pylist()
        tags = [part.tolist() for part in ids["tags"].to_dense()]
        assert tags == expected["tags"].to_pylist()
        assert batch.dense[:, 0].tolist() == expected["price"].to_pylist()
        assert batch.labels["click"].tolist() == expected["click"].to_pylist()
        assert batch.labels["click"].dtype == torch.int64
        assert batch.groups["user_id"].tolist() == expected["user_id"].to_pylist()
        city = ids["city"].values()
        assert city.shape == (len(rows),)
        assert ((city >= 0) & (city < 50)).all()
        same_text = np.equal.outer(expected["city"].to_numpy(), expected["city"].to_numpy())
        assert (torch.eq(city[:, None], city[None]).numpy() >= same_text).all()


@pytest.mark.parametrize("first_step", [0, 1, 2])
def test_resume_reads_exactly_the_remaining_batches_on_another_world_size(dataset, first_step):
    whole = [list(loader(dataset, r, 4, num_lanes=4).batches(2)) for r in range(4)]
    assert len(whole[0]) > first_step
    for world in (1, 2, 4):
        rest = [
            list(loader(dataset, r, world, num_lanes=4).batches(2, first_step))
            for r in range(world)
        ]
        for step, parts in enumerate(zip(*rest, strict=True), start=first_step):
            expected = [row for batches in whole for row in rows_of(batches[step])]
            assert [row for part in parts for row in rows_of(part)] == expected
            assert parts[0].cursor == whole[0][step].cursor


def test_a_session_longer_than_the_batch_is_a_batch_of_its_own(tmp_path):
    lengths = [3, 30, 4]
    session = np.repeat(np.arange(3), lengths)
    table = click_table(20).slice(0, 37)
    for name, values in (("session_id", session), ("timestamp", np.arange(37))):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    data = SessionDataset.open(write_dataset(tmp_path / "d", table, num_files=1))
    sizes = [b.num_rows for b in loader(data, batch_size=8, shuffle=False).batches()]
    assert sizes == lengths
    assert loader(data, batch_size=8).plan(0).num_oversized == 1


def test_ranks_without_a_session_get_batches_without_rows(dataset):
    ranks = [list(loader(dataset, rank, 100, batch_size=8).batches()) for rank in range(100)]
    assert {len(batches) for batches in ranks} == {1}
    empty = [batches[0] for batches in ranks if batches[0].num_rows == 0]
    assert empty
    assert {batch.session_offsets.tolist() == [0] for batch in empty} == {True}
    assert sum(batches[0].num_rows for batches in ranks) == empty[0].global_rows
    assert empty[0].ids.keys() == ranks[0][0].ids.keys()


def test_drop_remainder_that_leaves_no_batch_is_an_error(dataset):
    with pytest.raises(ValueError, match="drop_remainder leaves none"):
        next(loader(dataset, batch_size=10_000, drop_remainder=True).batches())


@pytest.mark.parametrize("read_ahead", [True, False])
def test_errors_of_the_reading_thread_reach_the_caller(table, tmp_path, read_ahead):
    click = table["click"].to_numpy().copy()
    click[200] = 2
    number = table.column_names.index("click")
    bad = table.set_column(number, "click", pa.array(click))
    data = SessionDataset.open(write_dataset(tmp_path / "d", bad))
    with pytest.raises(DataError, match=r"`click` must be 0 or 1 for jrc_loss, but has: 2"):
        list(loader(data, read_ahead=read_ahead).batches())


def test_a_loader_left_early_ends_its_thread(dataset):
    import threading

    batches = loader(dataset).batches()
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name == "session-loader"]
