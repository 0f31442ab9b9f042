"""Reading side of the dataset format, on folders made by hand (no Spark)."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing import dataset_format as df

LENGTHS = {"part-00000.parquet": [2, 1], "part-00001.parquet": [3]}  # rows of each session
REPOSITORY = Path(__file__).parents[2]


def write_index(folder: Path, name: str, starts: list[int], counts: list[int]) -> None:
    table = pa.table(
        {"row_start": pa.array(starts, "int64"), "num_rows": pa.array(counts, "int32")}
    )
    pq.write_table(table, folder / "_index" / name)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "dataset"
    (folder / "_index").mkdir(parents=True)
    files = []
    for name, counts in LENGTHS.items():
        rows = sum(counts)
        pq.write_table(pa.table({"u": [0] * rows, "t": range(rows)}), folder / name)
        starts = [sum(counts[:i]) for i in range(len(counts))]
        write_index(folder, name, starts, counts)
        size = (folder / name).stat().st_size
        files.append(df.DataFile(name, rows, len(counts), size))
    manifest = df.Manifest(
        session_columns=("u",),
        timestamp_column="t",
        tie_breakers=("i",),
        schema=(df.Column("u", "bigint"), df.Column("t", "bigint")),
        files=tuple(files),
        statistics=df.Statistics(6, 3, 3, 2, 3, 3, 0, 2.5),
        fingerprint="f00d",
    )
    (folder / "_manifest.json").write_text(manifest.to_json())
    return folder


def edit_manifest(folder: Path, change) -> None:
    fields = json.loads((folder / "_manifest.json").read_text())
    change(fields)
    (folder / "_manifest.json").write_text(json.dumps(fields))


def test_manifest_survives_the_round_trip(dataset):
    manifest = df.read_manifest(dataset)
    assert df.Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json() == (dataset / "_manifest.json").read_text()
    assert manifest.statistics.rows == 6
    assert manifest.files[1] == df.DataFile(
        "part-00001.parquet", 3, 1, (dataset / "part-00001.parquet").stat().st_size
    )


def test_index_lists_all_sessions_in_file_order(dataset):
    index = df.read_session_index(dataset, df.read_manifest(dataset))
    assert index.num_sessions == 3
    np.testing.assert_array_equal(index.file_index, np.array([0, 0, 1]))
    np.testing.assert_array_equal(index.row_start, np.array([0, 2, 0]))
    np.testing.assert_array_equal(index.num_rows, np.array([2, 1, 3]))
    dtypes = [index.file_index.dtype, index.row_start.dtype, index.num_rows.dtype]
    assert dtypes == [np.int32, np.int64, np.int32]


def test_module_loads_without_pyarrow_and_numpy():
    code = "import sys; sys.modules.update(pyarrow=None, numpy=None)"
    code += "; import preprocessing.dataset_format"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_file_names():
    assert df.data_file_name(12) == "part-00012.parquet"
    with pytest.raises(ValueError, match=r"must be in \[0, 100000\), but got 100000"):
        df.data_file_name(df.MAX_FILES)


def test_missing_folder(tmp_path):
    with pytest.raises(df.DatasetError, match=r"must be a folder, but there is none at .*nowhere"):
        df.read_manifest(tmp_path / "nowhere")


def test_folder_without_manifest_is_unfinished(dataset):
    (dataset / "_manifest.json").unlink()
    with pytest.raises(df.DatasetError, match=r"unfinished or not a session dataset.*jrc_sort\.py"):
        df.read_manifest(dataset)


def drop(key):
    return lambda fields: fields.pop(key)


def put(key, value):
    return lambda fields: fields.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format_version", 2), "format_version must be 1, but .* has 2"),
        (drop("fingerprint"), "lacks the key 'fingerprint'"),
        (lambda fields: fields["files"][0].pop("bytes"), "lacks the key 'bytes'"),
        (lambda fields: fields["statistics"].update(rows="6"), "'rows' has a wrong type, str"),
        (lambda fields: fields["statistics"].update(rows=7), "statistics.rows is 7, but .* has 6"),
        (put("tie_breakers", [1]), "'tie_breakers' must be a list of names"),
        (put("files", [1]), "'files' must be a list of JSON objects"),
        (lambda fields: fields["files"].reverse(), "must be in name order"),
        (put("timestamp_column", "time"), "lacks the key column 'time'"),
    ],
)
def test_damaged_manifest(dataset, change, message):
    edit_manifest(dataset, change)
    with pytest.raises(df.DatasetError, match=message):
        df.read_manifest(dataset)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "it is not JSON"), (b"[]", "must be a JSON object"), (b"\xff", "it is not UTF-8")],
)
def test_manifest_that_is_no_json_object(dataset, content, message):
    (dataset / "_manifest.json").write_bytes(content)
    with pytest.raises(df.DatasetError, match=message):
        df.read_manifest(dataset)


def test_empty_dataset(dataset):
    manifest = df.read_manifest(dataset)
    empty = replace(manifest, files=(), statistics=replace(manifest.statistics, rows=0, sessions=0))
    (dataset / "_manifest.json").write_text(empty.to_json())
    with pytest.raises(df.DatasetError, match=r"must have at least one row, but .* is empty"):
        df.read_manifest(dataset)


@pytest.mark.parametrize("name", ["part-00001.parquet", "_index/part-00000.parquet"])
def test_missing_file(dataset, name):
    (dataset / name).unlink()
    with pytest.raises(df.DatasetError, match=f"{name}: the manifest lists it, but it is missing"):
        df.read_manifest(dataset)


def test_file_of_another_size(dataset):
    with (dataset / "part-00000.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(df.DatasetError, match=r"part-00000.parquet: it must have \d+ bytes"):
        df.read_manifest(dataset)


@pytest.mark.parametrize(
    ("starts", "counts", "message"),
    [
        ([0], [3], "must list 2 sessions, but lists 1"),
        ([0, 1], [2, 1], "must cover the 3 rows"),  # overlap
        ([0, 2], [1, 1], "must cover the 3 rows"),  # gap
        ([0, 2], [2, 2], "must cover the 3 rows"),  # beyond the end
        ([0, 0], [0, 3], "must cover the 3 rows"),  # a session without rows
        ([1, 0], [2, 1], "must cover the 3 rows"),  # not in file order
    ],
)
def test_index_must_cover_the_file_exactly(dataset, starts, counts, message):
    write_index(dataset, "part-00000.parquet", starts, counts)
    with pytest.raises(df.DatasetError, match=message):
        df.read_session_index(dataset, df.read_manifest(dataset))


def test_index_file_that_is_no_index(dataset):
    manifest = df.read_manifest(dataset)
    (dataset / "_index/part-00000.parquet").write_bytes(b"hello")
    with pytest.raises(df.DatasetError, match="it is not an index file"):
        df.read_session_index(dataset, manifest)
    pq.write_table(pa.table({"other": [1]}), dataset / "_index/part-00000.parquet")
    with pytest.raises(df.DatasetError, match="it is not an index file"):
        df.read_session_index(dataset, manifest)
