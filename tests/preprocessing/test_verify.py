"""The check of a written dataset finds every kind of damage, and nothing else."""

import itertools
import json
import random
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from preprocessing import dataset_facts, job_flags, jrc_sort, session_runs, verify
from preprocessing.hadoop_files import HadoopFiles
from preprocessing.session_layout import SortKeys
from tests.preprocessing.conftest import make_events

KEYS = SortKeys("u", "t", ("i",), identity=("u",), partition_by=("u",))
FLAGS = ["--session-column", "session_id", "--timestamp-column", "ts", "--num-partitions", "3"]
FLAGS += ["--tie-breaker", "position", "--columns-regex", "(ds)?+.+", "--row-group-bytes", "64"]


@pytest.fixture
def files(spark):
    return HadoopFiles(spark)


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory):
    """A dataset as the job publishes it, of several row groups in each of three files."""
    folder = tmp_path_factory.mktemp("published")
    pq.write_table(make_events(), folder / "events.parquet")
    paths = ["--input-path", str(folder / "events.parquet"), "--output-path", str(folder / "out")]
    jrc_sort.run_job(spark, job_flags.parse_arguments([*paths, *FLAGS]))
    return folder / "out"


@pytest.fixture
def dataset(published, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(published, tmp_path / "out"))


def rewrite(path: Path, change) -> None:
    """Replace the rows of a Parquet file, and let the manifest say the size of the new file."""
    table = pq.ParquetFile(path).read()
    pq.write_table(change(table), path)
    forget_checksum(path)
    if path.parent.name != "_index":
        edit_manifest(path.parent, "bytes", path.name, path.stat().st_size)


def forget_checksum(path: Path) -> None:
    """Hadoop's own checksums, of local files only, would find the damage before us."""
    (path.parent / f".{path.name}.crc").unlink(missing_ok=True)


def edit_manifest(folder: Path, key: str, name: str, value) -> None:
    manifest = json.loads((folder / "_manifest.json").read_text())
    for file in manifest["files"]:
        if file["name"] == name:
            file[key] = value
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    forget_checksum(folder / "_manifest.json")


def swap(table: pa.Table, one: int, other: int) -> pa.Table:
    places = list(range(len(table)))
    places[one], places[other] = other, one
    return table.take(places)


def adjacent(table: pa.Table, same_session: bool) -> int:
    """First row with another time than the one below it, in the same or another session."""
    rows = table.to_pylist()
    return next(
        n
        for n, (row, below) in enumerate(itertools.pairwise(rows))
        if (row["session_id"] == below["session_id"]) == same_session and row["ts"] != below["ts"]
    )


def problem(files: HadoopFiles, folder: Path) -> str:
    with pytest.raises(RuntimeError, match="is damaged: ") as caught:
        verify.check_dataset(files, str(folder))
    return str(caught.value)


def test_what_the_job_wrote_is_right(files, dataset):
    manifest = verify.check_dataset(files, str(dataset))
    assert manifest.statistics.sessions == 40
    assert all(file.content_hash is not None for file in manifest.files)


FIRST, SECOND = "part-00000.parquet", "part-00001.parquet"


def test_swapped_rows_are_found(files, dataset):
    place = adjacent(pq.ParquetFile(dataset / FIRST).read(), same_session=True)
    rewrite(dataset / FIRST, lambda table: swap(table, place, place + 1))
    found = problem(files, dataset)
    assert re.search(
        r"session \d+ has rows before the time of the row above them in part-00000", found
    )
    assert f"{FIRST} holds other rows than the job wrote" in found


def test_a_row_among_those_of_another_session_is_found(files, dataset):
    place = adjacent(pq.ParquetFile(dataset / FIRST).read(), same_session=False)
    rewrite(dataset / FIRST, lambda table: swap(table, place, place + 1))
    found = problem(files, dataset)
    assert re.search(r"session \d+ is not contiguous \(\d+ foreign rows\) in part-00000", found)


def test_a_session_in_two_files_is_found(files, dataset):
    table = pq.ParquetFile(dataset / FIRST).read()
    moved = table.slice(adjacent(table, same_session=True), 1)
    rewrite(dataset / SECOND, lambda table: pa.concat_tables([table, moved]))
    session = moved["session_id"][0].as_py()
    assert f"session {session} is split over {FIRST} and {SECOND}" in problem(files, dataset)


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_lost_row_is_found(files, dataset, place):
    start = 1 if place == "first" else 0
    rows = pq.ParquetFile(dataset / FIRST).metadata.num_rows
    rewrite(dataset / FIRST, lambda table: table.slice(start, rows - 1))
    assert f"{FIRST} must have {rows} rows, but has {rows - 1}" in problem(files, dataset)


def test_an_altered_value_is_found(files, dataset):
    def alter(table: pa.Table) -> pa.Table:
        items = table["item"].to_pylist()
        return table.set_column(3, "item", pa.array([items[0] + 1, *items[1:]]))

    rewrite(dataset / SECOND, alter)
    assert problem(files, dataset).endswith(
        f"damaged: {SECOND} holds other rows than the job wrote"
    )


def test_missing_and_truncated_files_are_found(files, dataset):
    (dataset / FIRST).unlink()
    (dataset / "_index" / SECOND).unlink()
    (dataset / SECOND).write_bytes((dataset / SECOND).read_bytes()[:-1])
    size = (dataset / SECOND).stat().st_size
    assert problem(files, dataset).endswith(
        f"{FIRST} is missing; {SECOND} must have {size + 1} bytes, but has {size}; "
        f"_index/{SECOND} is missing"
    )


@pytest.mark.parametrize("has_checksum", [True, False])
def test_bytes_altered_in_place_are_found(files, dataset, has_checksum):
    data = bytearray((dataset / FIRST).read_bytes())
    data[40] ^= 0xFF
    (dataset / FIRST).write_bytes(data)
    if not has_checksum:
        forget_checksum(dataset / FIRST)
    with pytest.raises((Py4JError, PySparkException, RuntimeError), match=FIRST):
        verify.check_dataset(files, str(dataset))


INDEX_DAMAGE = {
    "start": lambda starts, rows: ([starts[0] + 1, *starts[1:]], rows),
    "rows": lambda starts, rows: (starts, [rows[0] + 1, *rows[1:]]),
    "lost": lambda starts, rows: (starts[1:], rows[1:]),
    "order": lambda starts, rows: (
        [starts[1], starts[0], *starts[2:]],
        [rows[1], rows[0], *rows[2:]],
    ),
}


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_a_wrong_index_is_found(files, dataset, damage):
    def change(table: pa.Table) -> pa.Table:
        starts, rows = INDEX_DAMAGE[damage](*(table[n].to_pylist() for n in table.column_names))
        return pa.table({"row_start": starts, "num_rows": pa.array(rows, pa.int32())})

    rewrite(dataset / "_index" / FIRST, change)
    message = f"damaged: the index of {FIRST} does not list the sessions of the file"
    assert problem(files, dataset).endswith(message)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("session_rows_p90", "the manifest states statistics Statistics(rows="),
        ("min_timestamp", "the manifest states statistics Statistics(rows="),
        ("fingerprint", "the manifest states fingerprint 7, but the files have '"),
    ],
)
def test_a_wrong_manifest_is_found(files, dataset, key, message):
    path = dataset / "_manifest.json"
    manifest = json.loads(path.read_text())
    if key == "fingerprint":
        manifest[key] = "7"
        message = message.replace("7", "'7'")
    else:
        manifest["statistics"][key] = 7
    path.write_text(json.dumps(manifest))
    forget_checksum(path)
    assert message in problem(files, dataset)


def test_other_columns_are_found(files, dataset):
    rewrite(dataset / FIRST, lambda table: table.drop_columns(["item"]).replace_schema_metadata())
    assert "the columns of the files must be" in problem(files, dataset)


def test_a_folder_without_manifest_is_no_dataset(files, tmp_path):
    with pytest.raises(ValueError, match=r"must be a session dataset, but has no _manifest\.json"):
        verify.check_dataset(files, str(tmp_path))


def test_datasets_of_older_releases_can_be_checked(files, dataset):
    path = dataset / "_manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["identity_columns"]
    for file in manifest["files"]:
        del file["content_hash"]
    manifest["fingerprint"] = "of another kind"
    path.write_text(json.dumps(manifest))
    forget_checksum(path)
    verify.check_dataset(files, str(dataset))


# ------------------------------------------------------------------ against a reference


def write_parts(folder: Path, parts: list[list[dict]]) -> list[str]:
    schema = pa.schema(
        [("u", pa.string()), ("t", pa.float64()), ("i", pa.int64()), ("y", pa.int32())]
    )
    folder.mkdir()
    names = [f"part-{n:05d}.parquet" for n in range(len(parts))]
    for name, rows in zip(names, parts, strict=True):
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / name, row_group_size=7)
    return names


def random_parts(seed: int) -> list[list[dict]]:
    """Files in which some sessions are right and others split, interleaved or out of order."""
    rng = random.Random(seed)
    parts: list[list[dict]] = [[], [], []]
    for session in range(60):
        rows = [
            {"u": f"u{session}", "t": rng.randint(0, 3) / 2, "i": rng.choice([None, 0, 1])}
            for _ in range(rng.randint(1, 6))
        ]
        rows = [{**row, "y": rng.choice([None, 0, 1])} for row in rows]
        if rng.random() < 0.8:
            rows.sort(key=order_key)
        rng.choice(parts).extend(rows)
    for _ in range(8):  # in the middle of another session, and perhaps in another file
        row = rng.choice(rng.choice(parts))
        target = rng.choice(parts)
        target.insert(rng.randrange(len(target)), dict(row))
    return parts


def order_key(row: dict) -> tuple:
    return row["t"], -1 if row["i"] is None else row["i"]  # nulls first


def reference(parts: list[list[dict]]) -> dict[str, str]:
    """Session -> what is wrong with it, by brute force."""
    places: dict[str, list[tuple[int, int]]] = {}
    for part, rows in enumerate(parts):
        for place, row in enumerate(rows):
            places.setdefault(row["u"], []).append((part, place))
    wrong = {}
    for session, found in places.items():
        first, last = found[0], found[-1]
        rows = [parts[part][place] for part, place in found]
        if first[0] != last[0]:
            wrong[session] = "split"
        elif last[1] - first[1] + 1 != len(found):
            wrong[session] = "not contiguous"
        elif rows != sorted(rows, key=order_key):
            wrong[session] = "disordered"
    return wrong


@pytest.mark.parametrize("seed", range(4))
def test_sessions_are_judged_as_by_brute_force(spark, files, tmp_path, seed):
    parts = random_parts(seed)
    names = write_parts(tmp_path / "parts", parts)
    schema = spark.read.parquet(str(tmp_path / "parts" / names[0])).schema
    with dataset_facts.open_runs(
        files, str(tmp_path / "parts"), names, schema, KEYS, ["y"]
    ) as found:
        assert found.runs.rdd.getNumPartitions() == len(names)
        judged = found.runs.select(
            "*",
            F.when(session_runs.is_split(), "split")
            .when(session_runs.foreign_rows() != 0, "not contiguous")
            .when(session_runs.is_disordered(), "disordered")
            .alias("wrong"),
        ).collect()
        facts = dataset_facts.session_facts(found, ["y"])
        per_file = dataset_facts.facts_per_file(found)
    expected = reference(parts)
    assert {"split", "not contiguous", "disordered"} <= {*expected.values()}
    assert {row.session_0: row.wrong for row in judged if row.wrong} == expected
    assert sum(found.broken for found in per_file.values()) == len(expected)

    sessions: dict[str, list] = {}
    for row in (row for rows in parts for row in rows):
        sessions.setdefault(row["u"], []).append(row["y"])
    labels = [label for session in sessions.values() for label in session]
    mixed = [session for session in sessions.values() if {0, 1} <= set(session)]
    (label,) = facts.labels
    assert (label.positives, label.negatives) == (labels.count(1), labels.count(0))
    assert label.mixed_sessions == len(mixed)
    assert label.rows_in_mixed_sessions == sum(map(len, mixed))
    assert facts.nulls["y"] == labels.count(None)
    assert (facts.nulls["u"], facts.nulls["t"]) == (0, 0)
    by_rows = [len(session) for session in sessions.values()]
    assert facts.sessions_by_rows == {n: by_rows.count(n) for n in sorted(set(by_rows))}


def test_no_row_moves_between_tasks(spark, files, published, capsys):
    """One exchange, of what is left of each session, and one task per file."""
    names = [path.name for path in sorted(published.glob("part-*.parquet"))]
    schema = spark.read.parquet(str(published / names[0])).schema
    keys = SortKeys("session_id", "ts", (), identity=("session_id",), partition_by=())
    with dataset_facts.open_runs(files, str(published), names, schema, keys) as found:
        found.runs.explain()
    plan = capsys.readouterr().out
    assert len(re.findall(r"\bExchange\b", plan)) == 1
    assert re.search(r"\bExchange .*\n.*partial_count", plan)


def test_nulls_are_counted_in_more_columns_than_a_number_has_bits(spark, files, tmp_path):
    names = [f"c{n}" for n in range(70)]
    nulls = {0, 61, 62, 63, 64, 69}
    values = {
        name: pa.array([None if n in nulls else 1, 1], pa.int64()) for n, name in enumerate(names)
    }
    (tmp_path / "parts").mkdir()
    path = tmp_path / "parts" / "part-00000.parquet"
    pq.write_table(pa.table({"u": [1, 1], "t": [1, 2], **values}), path)
    schema = spark.read.parquet(str(path)).schema
    keys = SortKeys("u", "t", (), identity=("u",), partition_by=("u",))
    with dataset_facts.open_runs(files, str(path.parent), [path.name], schema, keys) as found:
        counts = dataset_facts.session_facts(found).nulls
    assert {name: count for name, count in counts.items() if count} == {f"c{n}": 1 for n in nulls}
    assert list(counts) == schema.names


def test_colliding_session_ids_are_counted(spark, files, tmp_path):
    (tmp_path / "parts").mkdir()
    path = tmp_path / "parts" / "part-00000.parquet"
    pq.write_table(pa.table({"a": [1, 1, 2, 3], "id": [7, 7, 7, 8], "t": [1, 2, 1, 1]}), path)
    keys = SortKeys("id", "t", (), identity=("a",), partition_by=("a",), session_id="id")
    schema = spark.read.parquet(str(path)).schema
    verified = verify.verify_and_index(files, str(path.parent), schema, keys)
    assert verified.colliding_ids == 1
    assert verified.manifest.session_columns == ("id",)
    assert verified.manifest.identity_columns == ("a",)
    assert pq.ParquetFile(tmp_path / "parts" / "_index" / path.name).read()[
        "num_rows"
    ].to_pylist() == [2, 1, 1]


def test_only_a_few_violations_are_shown(spark, files, tmp_path):
    rows = [{"u": f"u{n:02d}", "t": time, "i": 0} for n in range(40) for time in (2.0, 1.0)]
    write_parts(tmp_path / "parts", [rows])
    schema = spark.read.parquet(str(tmp_path / "parts")).schema
    with pytest.raises(RuntimeError, match="nothing was published") as caught:
        verify.verify_and_index(files, str(tmp_path / "parts"), schema, KEYS)
    assert str(caught.value).count("has rows before") == 5
    assert "; and 35 more sessions. Run the job again" in str(caught.value)
    assert not (tmp_path / "parts" / "_index").exists()


def test_the_script_says_what_is_wrong_and_exits_with_1(dataset, capsys, monkeypatch):
    monkeypatch.setattr("pyspark.sql.SparkSession.stop", lambda self: None)  # that of the tests
    assert verify.main([str(dataset)]) == 0
    assert re.match(r"right: \d+ rows, 40 sessions, 3 files\n", capsys.readouterr().out)
    shutil.move(dataset / SECOND, dataset / "_gone")
    assert verify.main([str(dataset)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("verify.py: error: ")
    assert error.endswith(f"is damaged: {SECOND} is missing\n")
