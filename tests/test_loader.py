"""The loader over real files: whole sessions, every row once, exact values, resume."""

import itertools
import os
import threading
from pathlib import Path
from typing import cast

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torchrec.streamable import Pipelineable

from preprocessing.dataset_format import DatasetError
from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.data.features import RawFeature
from trainer.data.loader import SessionLoader
from trainer.data.plan import Place
from trainer.data.reader import SessionDataset
from trainer.tasks import parse_tasks

ROW = RawFeature("row", "row")


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
@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_each_row_once_sessions_whole_same_steps(table, dataset, world, shuffle, num_workers):
    ranks = [
        list(loader(dataset, r, world, shuffle=shuffle, num_workers=num_workers).batches(epoch=1))
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


@pytest.mark.parametrize("step", [0, 1, 2])
def test_resume_reads_exactly_the_remaining_batches_on_any_world_size(dataset, step):
    whole = [list(loader(dataset, r, 4, num_lanes=4).batches(2)) for r in range(4)]
    assert len(whole[0]) > step
    for world in (1, 2, 3, 4, 7):
        rest = [
            list(loader(dataset, r, world, num_lanes=4).batches(2, whole[0][step].cursor.place))
            for r in range(world)
        ]
        for at, parts in enumerate(zip(*rest, strict=True), start=step):
            expected = [row for batches in whole for row in rows_of(batches[at])]
            assert sorted(row for part in parts for row in rows_of(part)) == sorted(expected)
            assert parts[0].cursor == whole[0][at].cursor


def test_a_cursor_leads_from_batch_to_batch_and_into_the_next_epoch(dataset):
    epoch, place = 0, Place()
    for batch in loader(dataset).batches():
        assert (batch.cursor.epoch, batch.cursor.place) == (epoch, place)
        epoch, place = batch.cursor.after()
    assert (epoch, place) == (1, Place())


def test_several_folders_are_one_dataset(tmp_path):
    tables = [click_table(30, seed=seed) for seed in (1, 2, 3)]
    for day, part in enumerate(tables):
        write_dataset(tmp_path / f"day-{day}", part)
    first_two = SessionDataset.open(f"{tmp_path}/day-0, {tmp_path}/day-1")
    assert first_two.num_rows == tables[0].num_rows + tables[1].num_rows
    every = SessionDataset.open(f"{tmp_path}/day-*")
    assert every.num_sessions == 90
    batches = list(loader(every, shuffle=False).batches())
    expected = [row for part in tables for row in part["row"].to_pylist()]
    assert [row for batch in batches for row in rows_of(batch)] == expected
    sessions = torch.cat([batch.sessions for batch in batches])
    assert sessions.tolist() == list(range(90))
    assert len({first_two.fingerprint, every.fingerprint}) == 2


def test_folders_that_differ_are_not_read_as_one(tmp_path):
    write_dataset(tmp_path / "a", click_table(9))
    write_dataset(tmp_path / "b", click_table(9).drop_columns(["stay"]))
    write_dataset(tmp_path / "c", click_table(9), session="user_id")
    with pytest.raises(DatasetError, match=r"same columns, but .*a and .*b differ in: stay float"):
        SessionDataset.open(f"{tmp_path}/a,{tmp_path}/b")
    with pytest.raises(DatasetError, match=r"a has session_id and .*c has user_id"):
        SessionDataset.open(f"{tmp_path}/a,{tmp_path}/c")
    with pytest.raises(DatasetError, match=r"no folder matches .*/x\*"):
        SessionDataset.open(f"{tmp_path}/x*")
    with pytest.raises(DatasetError, match=r"wildcards must be in the last part"):
        SessionDataset.open(f"{tmp_path}/*/a")


def test_null_ids_and_lists_survive_every_cut(tmp_path):
    """Null ids are rows without an id, in some blocks only; null lists are empty ones."""
    table = click_table(60)
    user = table["user_id"].to_pylist()
    tags = table["tags"].to_pylist()
    for row in (*range(5, 60, 7), *range(200, 210)):
        user[row] = None
        tags[row + 1] = None
    for name, values in (("user_id", user), ("tags", tags)):
        number = table.column_names.index(name)
        table = table.set_column(number, name, pa.array(values, table.schema.field(name).type))
    data = SessionDataset.open(write_dataset(tmp_path / "d", table, row_group_rows=40))
    for world in (1, 3):
        for rank in range(world):
            for batch in loader(data, rank, world).batches():
                ids = batch.ids.to_dict()
                rows = rows_of(batch)
                found = [part.tolist() for part in ids["user_id"].to_dense()]
                assert found == [[] if user[row] is None else [user[row]] for row in rows]
                found = [part.tolist() for part in ids["tags"].to_dense()]
                assert found == [tags[row] or [] for row in rows]


def test_each_rank_reads_about_its_own_part(tmp_path, monkeypatch):
    """Row groups of 16 sessions, 64 in a window: 4 ranks read little more than each once."""
    table = click_table(2_000, mean_rows=4)
    data = SessionDataset.open(write_dataset(tmp_path / "d", table, row_group_rows=64))
    read_block, read = SessionDataset.read_block, []

    def counting(self: SessionDataset, block: int, columns: list[str]):
        read.append(block)
        return read_block(self, block, columns)

    monkeypatch.setattr(SessionDataset, "read_block", counting)
    for rank in range(4):
        for _ in loader(data, rank, 4, batch_size=400).batches():
            pass
    assert len(set(read)) == len(data.blocks)
    assert len(read) <= 1.5 * len(data.blocks)


def test_a_session_longer_than_the_batch_is_a_batch_of_its_own(tmp_path):
    lengths = [3, 30, 4]
    session = np.repeat(np.arange(3), lengths)
    table = click_table(20).slice(0, 37)
    for name, values in (("session_id", session), ("timestamp", np.arange(37))):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    data = SessionDataset.open(write_dataset(tmp_path / "d", table, num_files=1))
    sizes = [b.num_rows for b in loader(data, batch_size=8, shuffle=False).batches()]
    assert sizes == lengths


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


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_errors_of_the_reading_thread_reach_the_caller(table, tmp_path, num_workers):
    click = table["click"].to_numpy().copy()
    click[200] = 2
    number = table.column_names.index("click")
    bad = table.set_column(number, "click", pa.array(click))
    data = SessionDataset.open(write_dataset(tmp_path / "d", bad))
    with pytest.raises(DataError, match=r"`click` must be 0 or 1 for jrc_loss, but has: 2"):
        list(loader(data, num_workers=num_workers).batches())


@pytest.mark.parametrize("break_it", ["corrupt", "one bit", "shorter", "gone"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(table, tmp_path, break_it):
    path = write_dataset(tmp_path / "d", table, num_files=2)
    data = SessionDataset.open(path)
    part = path / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    if break_it == "gone":
        part.unlink()
    elif break_it == "shorter":  # another file in its place
        pq.write_table(pq.read_table(path / "part-00000.parquet").slice(0, 9), part)
    elif break_it == "one bit":  # of a number, which stays a number: only the checksum tells
        group = pq.ParquetFile(part).metadata.row_group(0)
        prices = group.column(table.column_names.index("price"))
        content[prices.dictionary_page_offset + prices.total_compressed_size // 2] ^= 1
        part.write_bytes(content)
    else:
        content[4:2000] = b"\xff" * 1996  # pages; the footer at the end stays whole
        part.write_bytes(content)
    with pytest.raises(DatasetError, match=r"part-00001.parquet cannot be read \(.*copy it again"):
        list(loader(data).batches())


def test_a_disk_that_fails_under_an_open_file_is_an_error(tmp_path):
    """Not the end of the process by SIGBUS, as it is for a file mapped into memory."""
    data = SessionDataset.open(write_dataset(tmp_path / "d", click_table(3_000), num_files=1))
    parquet = data.files[0].parquet()
    os.truncate(tmp_path / "d" / "part-00000.parquet", 100_000)
    with pytest.raises(OSError, match="File too short"):
        parquet.read()


def test_a_loader_left_early_ends_its_threads(dataset):
    batches = loader(dataset, num_workers=4).batches()
    next(batches)
    batches.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("session-")]


def remote_copy(path: Path, target: str) -> str:
    """Copy a folder to fsspec's memory; returns its URL."""
    memory = fsspec.filesystem("memory")
    memory.put(str(path), f"/{target}", recursive=True)
    return f"memory://{target}"


def test_remote_folders_give_the_same_batches(dataset, tmp_path):
    local = Path(dataset.path)
    urls = [f"file://{local}", remote_copy(local, f"remote/{tmp_path.name}")]
    expected = [rows_of(batch) for batch in loader(dataset).batches()]
    for url in (*urls, f"memory://remote/{tmp_path.name[:-1]}*"):
        remote = SessionDataset.open(url)
        assert [rows_of(batch) for batch in loader(remote).batches()] == expected
    with pytest.raises(DatasetError, match="there is none at 'memory://remote/nowhere'"):
        SessionDataset.open("memory://remote/nowhere")
    with pytest.raises(DatasetError, match="'nope://x' cannot be reached: Protocol not known"):
        SessionDataset.open("nope://x")


def test_a_block_is_one_record_batch_over_the_edges_of_row_groups(table, dataset):
    for block in range(len(dataset.blocks)):
        read, first_row, num_rows = dataset.read_block(block, ["row", "user_id"])
        assert {column.num_chunks for column in read.columns} == {1}
        assert read.num_rows == first_row[-1] + num_rows[-1]


def test_memory_of_arrow_is_kept_for_the_next_block(dataset):
    loader(dataset)
    assert pa.default_memory_pool().backend_name == "jemalloc"


def test_a_copy_stream_gets_every_tensor_of_a_batch(dataset, monkeypatch):
    batch = next(loader(dataset, num_workers=0).batches())
    recorded = []
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, stream: recorded.append(tensor.data_ptr())
    )
    assert isinstance(batch, Pipelineable)
    batch.record_stream(cast(torch.Stream, "a stream"))
    tensors = [batch.dense, batch.session_offsets, batch.sessions, batch.ids.values()]
    tensors += [batch.ids.lengths(), *batch.labels.values(), *batch.weights.values()]
    tensors += batch.groups.values()
    assert {tensor.data_ptr() for tensor in tensors} <= set(recorded)
