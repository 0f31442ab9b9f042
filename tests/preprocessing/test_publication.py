"""One writer at a time; a dataset is the old one or the new one, whatever fails and when."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from preprocessing import dataset_format, hadoop_files, publication
from preprocessing.publication import Lock


@pytest.fixture
def files(spark):
    return hadoop_files.HadoopFiles(spark)


def manifest(*names: str) -> dataset_format.Manifest:
    return dataset_format.Manifest(
        session_columns=("u",),
        timestamp_column="t",
        tie_breakers=(),
        schema=(dataset_format.Column("u", "bigint"), dataset_format.Column("t", "bigint")),
        files=tuple(dataset_format.DataFile(name, 1, 1, 1) for name in names),
        statistics=dataset_format.Statistics(len(names), len(names), 1, 1, 1, 1, 0, 0),
        fingerprint=",".join(names),
    )


def stage(held: publication.Output, folder: str = "staged", text: str = "x") -> tuple[str, str]:
    """A staged dataset of one file; returns its folder and the file's name."""
    path = Path(held.staging.removeprefix("file:")) / folder
    name = dataset_format.data_file_name(0, held.generation)
    for sub in (".", "_index", "_quarantine"):
        (path / sub).mkdir(parents=True, exist_ok=True)
        (path / sub / name).write_text(text)
    return str(path), name


@pytest.fixture
def publish(files, tmp_path):
    """Publish one file with `text` to tmp_path/out."""

    def run(text: str = "x", overwrite: bool = True) -> None:
        with publication.locked_output(files, f"{tmp_path}/out", ("",), overwrite) as held:
            folder, name = stage(held, text=text)
            held.publish([("", folder)], {"": manifest(name)}, {"_report.json": text})

    return run


def publish_both(files, out: Path, text: str) -> None:
    with publication.locked_output(files, str(out), ("train", "eval"), True) as held:
        train, name = stage(held, "train", text)
        evaluation, _ = stage(held, "eval", text)
        both = {"train": manifest(name), "eval": manifest(name)}
        held.publish([("train", train), ("eval", evaluation)], both, {})


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def listed(folder: Path) -> dict[str, str]:
    """The dataset as a reader sees it: text of each file that the manifest lists."""
    found = json.loads((folder / "_manifest.json").read_text())
    return {file["name"]: (folder / file["name"]).read_text() for file in found["files"]}


def test_replacing_leaves_only_the_new_files(publish, tmp_path):
    out = tmp_path / "out"
    publish("one")
    assert listed(out) == {"part-00000.parquet": "one"}
    publish("two")
    assert listed(out) == {"part-00000-g2.parquet": "two"}
    name = "part-00000-g2.parquet"
    files_and_report = [f"_index/{name}", "_manifest.json", f"_quarantine/{name}", "_report.json"]
    assert tree(out) == [*files_and_report, name]
    publish("three")
    assert listed(out) == {"part-00000-g3.parquet": "three"}


class Dead(Exception):  # noqa: N818 - not an error, an end
    """The job ends here."""


def end(*args):
    raise Dead


STEPS = ("rename", "put_in_place", "delete")


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "failed"])
@pytest.mark.parametrize("step", STEPS)
def test_a_job_that_ends_at_any_step_leaves_old_or_new(
    files, publish, tmp_path, monkeypatch, step, is_killed
):
    """Each call that changes something is once the last; killed, not even clean-up runs."""
    out = tmp_path / "out"
    publish("old")
    ends = 0
    for last in range(1, 20):
        calls = 0
        right = getattr(hadoop_files.HadoopFiles, step)

        def counting(self, *args, right=right, last=last):
            nonlocal calls
            calls += 1
            if calls == last or (is_killed and calls > last):
                raise Dead
            return right(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(hadoop_files.HadoopFiles, step, counting)
            if is_killed:  # a killed process tidies nothing
                patch.setattr(publication, "_release", lambda held: None)
                patch.setattr(publication.Output, "delete_unlisted", lambda held: None)
            try:
                publish("new")
            except Dead:
                ends += 1
        content = listed(out)
        assert list(content.values()) in (["old"], ["new"])
        kill_lock(out)
        publish("old")
        assert list(listed(out).values()) == ["old"]
        assert len(tree(out)) == 5  # no rubbish survives the next job
        if calls < last:
            break
    assert ends >= {"rename": 3, "put_in_place": 1, "delete": 0}[step]  # deletion may fail


def kill_lock(out: Path) -> None:
    """Make the lock in `out`, if any, that of a process that has ended."""
    path = out / "_lock"
    if path.exists():
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        lock = replace(Lock(**json.loads(path.read_text())), pid=ended.pid)
        path.write_text(json.dumps(asdict(lock)))


def test_a_first_job_that_fails_leaves_nothing(files, tmp_path):
    def job():
        with publication.locked_output(files, f"{tmp_path}/out", ("",), False) as held:
            stage(held)
            raise Dead

    with pytest.raises(Dead):
        job()
    assert not (tmp_path / "out").exists()


def test_a_first_job_that_fails_while_it_publishes_leaves_nothing(files, tmp_path, monkeypatch):
    monkeypatch.setattr(hadoop_files.HadoopFiles, "put_in_place", end)
    with pytest.raises(Dead):
        publish_both(files, tmp_path / "out", "new")
    assert not (tmp_path / "out").exists()


def test_after_a_killed_first_job_no_flag_is_needed(files, publish, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(publication, "_release", lambda held: None)
        patch.setattr(publication.Output, "delete_unlisted", lambda held: None)
        patch.setattr(hadoop_files.HadoopFiles, "put_in_place", end)
        with pytest.raises(Dead):
            publish(overwrite=False)
    assert (out / "part-00000.parquet").exists()
    assert not (out / "_manifest.json").exists()
    kill_lock(out)
    publish("new", overwrite=False)
    assert listed(out) == {"part-00000-g2.parquet": "new"}
    assert len(tree(out)) == 5
    with pytest.raises(ValueError, match="exists; choose another or add --overwrite"):
        publish("newer", overwrite=False)


def test_a_killed_overwrite_does_not_allow_the_next_job_to_overwrite(publish, tmp_path):
    publish("old")
    (tmp_path / "out" / "_lock").write_text(json.dumps(asdict(Lock.of_this_process())))
    kill_lock(tmp_path / "out")
    with pytest.raises(ValueError, match="exists; choose another or add --overwrite"):
        publish("new", overwrite=False)
    assert listed(tmp_path / "out") == {"part-00000.parquet": "old"}


def test_train_and_eval_are_never_of_two_jobs(files, tmp_path, monkeypatch):
    out = tmp_path / "out"

    publish_both(files, out, "old")
    assert set(listed(out / "eval").values()) == {"old"}
    right, calls = hadoop_files.HadoopFiles.put_in_place, 0

    def second_fails(*args):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Dead
        right(*args)

    with monkeypatch.context() as patch:
        patch.setattr(hadoop_files.HadoopFiles, "put_in_place", second_fails)
        with pytest.raises(Dead):
            publish_both(files, out, "new")
    assert set(listed(out / "train").values()) == {"new"}
    assert not (out / "eval" / "_manifest.json").exists()
    publish_both(files, out, "newer")
    assert set(listed(out / "train").values()) == set(listed(out / "eval").values()) == {"newer"}


def test_a_second_writer_is_refused(files, publish, tmp_path):
    with publication.locked_output(files, f"{tmp_path}/out", ("",), False):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is checked below
            publish()
        message = str(caught.value)
        assert f"--output-path must have one writer, but process {os.getpid()} of " in message
        assert f"is writing to '{tmp_path}/out'; wait for it. If it is dead, delete " in message
        assert (tmp_path / "out" / "_lock").exists()
    publish()


@pytest.mark.parametrize(
    ("change", "is_dead"),
    [
        ({}, False),
        ({"process_start": "1"}, True),  # the number went to a later process
        ({"machine": "elsewhere"}, False),  # nobody can know
        ({"machine": "elsewhere", "pid": 2**22 + 1}, False),
    ],
)
def test_only_a_surely_dead_writer_is_dead(change, is_dead):
    assert replace(Lock.of_this_process(), **change).is_dead == is_dead


def test_a_process_that_ended_is_dead_also_before_its_parent_looks():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = publication._process_start(child.pid)
    lock = replace(Lock.of_this_process(), pid=child.pid, process_start=start)
    assert not lock.is_dead
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, still in the table
    assert lock.is_dead
    child.wait()
    assert lock.is_dead


@pytest.mark.parametrize(
    ("job", "machine", "is_taken_over"),
    [
        ("team/clicks", "the pod before", True),
        ("team/orders", "the pod before", False),
        ("", "the pod before", False),
        ("team/clicks", None, False),  # here, where it is seen to live
    ],
    ids=["retry", "other job", "no name", "alive"],
)
def test_a_retry_takes_over_the_lock_of_the_attempt_before(
    publish, tmp_path, monkeypatch, job, machine, is_taken_over
):
    """A driver that Kubernetes killed leaves its lock to a pod that is another machine."""
    monkeypatch.setenv("SESSIONWISE_JOB", job)
    lock = Lock.of_this_process()
    (tmp_path / "out" / "_staging-0").mkdir(parents=True)
    left = replace(lock, machine=machine or lock.machine)
    (tmp_path / "out" / "_lock").write_text(json.dumps(asdict(left)))
    monkeypatch.setenv("SESSIONWISE_JOB", "team/clicks")
    if is_taken_over:
        publish("new")
        assert len(tree(tmp_path / "out")) == 5
    else:
        with pytest.raises(ValueError, match="must have one writer"):
            publish("new")


def test_an_unreadable_lock_is_not_broken(publish, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_lock").write_text("")
    with pytest.raises(ValueError, match=r"another job is writing to .* delete .*_lock and run"):
        publish()


def test_a_job_whose_lock_was_taken_publishes_nothing(files, tmp_path):
    out = tmp_path / "out"

    def job():
        with publication.locked_output(files, str(out), ("",), False) as held:
            folder, name = stage(held)
            (out / "_lock").write_text(json.dumps(asdict(Lock.of_this_process())))
            held.publish([("", folder)], {"": manifest(name)}, {})

    with pytest.raises(RuntimeError, match=r"of this job was taken by process \d+ of .*, so not"):
        job()
    assert tree(out) == ["_lock"]  # the other job's


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_dataset_is_never_replaced(publish, tmp_path, overwrite):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    message = "holds other things: thesis.txt; delete it" if overwrite else "exists; choose another"
    with pytest.raises(ValueError, match=message):
        publish(overwrite=overwrite)
    assert tree(tmp_path) == ["out/thesis.txt"]


def test_an_empty_folder_may_be_filled(publish, tmp_path):
    (tmp_path / "out").mkdir()
    publish(overwrite=False)
    assert listed(tmp_path / "out")


def test_a_damaged_manifest_keeps_its_files_until_the_new_one_is_there(files, publish, tmp_path):
    out = tmp_path / "out"
    publish("old")
    (out / "_manifest.json").write_text("{")
    with pytest.raises(Dead), publication.locked_output(files, str(out), ("",), True):
        raise Dead
    assert (out / "part-00000.parquet").read_text() == "old"
    publish("new")
    assert listed(out) == {"part-00000-g2.parquet": "new"}


def test_output_that_is_a_file(publish, tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(ValueError, match=r"--output-path must be a folder, but .* is a file"):
        publish()


def test_replacing_by_hadoop_rename_works_where_the_file_system_is_not_local(files, tmp_path):
    """What HDFS gets; local files go another way, which Hadoop's own would not do in one step."""
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    files._rename_over(f"{tmp_path}/a", f"{tmp_path}/b")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("b", "new")]


def test_hadoop_reads_a_replaced_file_whatever_checksum_the_old_one_had(files, tmp_path):
    for name in ("old", "new"):
        files.write_text(f"{tmp_path}/{name}", name)
    assert (tmp_path / ".old.crc").exists()
    files.put_in_place(f"{tmp_path}/new", f"{tmp_path}/old")
    assert files.read_text(f"{tmp_path}/old") == "new"


def test_an_object_store_gets_the_whole_text_at_once(files, tmp_path, monkeypatch):
    """Its renames are copies; a file appears there when its upload is complete."""
    for name in ("old", "new"):
        files.write_text(f"{tmp_path}/{name}", name)
    monkeypatch.setattr(hadoop_files, "OBJECT_STORES", ("file",))
    files.put_in_place(f"{tmp_path}/new", f"{tmp_path}/old")
    assert (tmp_path / "old").read_text() == "new"


def test_a_disk_that_fills_up_while_publishing_keeps_train_and_eval(files, tmp_path, monkeypatch):
    out = tmp_path / "out"
    publish_both(files, out, "old")
    right = hadoop_files.HadoopFiles.write_text
    written = []

    def second_fails(self, path, *args):
        written.append(path)
        if len(written) == 2:
            raise OSError("No space left on device")
        right(self, path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(hadoop_files.HadoopFiles, "write_text", second_fails)
        with pytest.raises(OSError, match="No space left on device"):
            publish_both(files, out, "new")
    assert set(listed(out / "train").values()) == set(listed(out / "eval").values()) == {"old"}


def test_rename_never_moves_into_a_folder(files, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match=r"cannot rename .*/a to .*/b; does the target exist"):
        files.rename(str(tmp_path / "a"), str(tmp_path / "b"))


def test_folder_under_a_file_cannot_be_made(files, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Exception, match=r"cannot make the folder|[Nn]ot a directory"):
        files.make_folder(str(tmp_path / "file" / "folder"))


def test_only_one_of_two_can_create(files, tmp_path):
    files.create_text(f"{tmp_path}/a", "one")
    with pytest.raises(FileExistsError):
        files.create_text(f"{tmp_path}/a", "two")
    assert files.read_text(f"{tmp_path}/a") == "one"
