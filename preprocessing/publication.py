"""One writer at a time, and a dataset that is the old one or the new one whenever a job dies.

    dataset/
      part-00000.parquet ...      what `_manifest.json` lists is the dataset
      part-00000-g2.parquet ...   files of the next publication, generation 2, beside them
      _index/, _quarantine/, _vocabulary/     files of the same names
      _manifest.json              replaced in one step: that moment publishes
      _staging-<random>/          where a job writes and verifies before anything is published
      _lock                       the job that is writing

Everything that the manifest does not list is rubbish, deleted after a publication, by the next job
otherwise. Who reads by the manifest therefore never sees a mixture; plain Parquet readers of the
folder see both generations between the first file's move and the last old file's deletion.
"""

from __future__ import annotations

import getpass
import json
import os
import posixpath
import re
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

if __package__:  # imported as preprocessing.publication
    from preprocessing import dataset_format
    from preprocessing.hadoop_files import HadoopFiles, many_at_once
else:  # run by spark-submit, see jrc_sort.py
    import dataset_format
    from hadoop_files import HadoopFiles, many_at_once

LOCK_NAME = "_lock"
JOB_VARIABLE = "SESSIONWISE_JOB"
STAGING_PREFIX = "_staging-"
QUARANTINE_FOLDER = "_quarantine"
VOCABULARY_FOLDER = "_vocabulary"
_MANIFEST = dataset_format.MANIFEST_NAME
_FILE_FOLDERS = (
    "",
    f"{dataset_format.INDEX_FOLDER}/",
    f"{QUARANTINE_FOLDER}/",
    f"{VOCABULARY_FOLDER}/",
)
_DATA_FILE = re.compile(r"part-\d{5}(?:-g(\d+))?\.parquet")


@dataclass(frozen=True)
class Lock:
    """What `_lock` says of the job that writes; `machine` is one in which `pid` has a meaning.

    `job` is the name under which a cluster starts this job again, one attempt after the other, as
    the environment variable SESSIONWISE_JOB gives it; "" without one.
    """

    identity: str
    user: str
    host: str
    machine: str
    pid: int
    process_start: str
    since: str
    job: str = ""

    @classmethod
    def of_this_process(cls) -> Lock:
        """A new lock."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(
            identity=uuid.uuid4().hex,
            user=_user(),
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            process_start=_process_start(os.getpid()) or "",
            since=now,
            job=os.environ.get(JOB_VARIABLE, ""),
        )

    @property
    def is_dead(self) -> bool:
        """Whether its process surely ended.

        On its own machine that is known; elsewhere the next attempt of the same job knows it.
        """
        if self.machine == _machine():
            return _process_start(self.pid) != self.process_start
        return bool(self.job) and self.job == os.environ.get(JOB_VARIABLE)


@dataclass(frozen=True)
class Output:
    """The locked folder `path`; `datasets` are its sub-folders with one each, or `("",)`."""

    files: HadoopFiles
    path: str
    datasets: tuple[str, ...]
    lock: Lock
    staging: str
    generation: int

    def folder(self, dataset: str) -> str:
        """Where `dataset` will be."""
        return posixpath.join(self.path, dataset) if dataset else self.path

    def check_lock(self) -> None:
        """Check that no other job took the lock away.

        Raises:
            RuntimeError: one did.
        """
        found = _read_lock(self.files, self.path)
        if found is None or found.identity != self.lock.identity:
            raise RuntimeError(
                f"the lock {self.path}/{LOCK_NAME} of this job was "
                f"{'deleted' if found is None else f'taken by {_holder(found)}'} while it ran, so "
                "nothing was published; run one job at a time for one --output-path"
            )

    def publish(
        self,
        staged: Iterable[tuple[str, str]],
        manifests: Mapping[str, dataset_format.Manifest],
        reports: Mapping[str, str],
    ) -> None:
        """Move staged files into place, let the manifests list them, and add `reports` by name.

        `staged` are datasets and folders of their files, with dataset "" for what stands above
        train and eval; `manifests` are by dataset. Of several datasets all but the first lose
        their old manifest for the moment in which the first changes: a job that dies just then
        leaves them unfinished, not two that do not belong together.
        """
        try:
            for dataset, folder in staged:
                self._move_into_place(folder, self.folder(dataset))
            # All is written, a full disk included, before anything that readers see changes.
            texts = {self._manifest_path(name): m.to_json() for name, m in manifests.items()}
            texts |= {f"{self.path}/{name}": text for name, text in reports.items()}
            sources = {path: f"{self.staging}/text-{n}" for n, path in enumerate(texts)}
            for path, text in texts.items():
                self.files.write_text(sources[path], text)
            self.check_lock()
            for dataset in list(manifests)[1:]:
                self.files.delete(self._manifest_path(dataset))
            for path, source in sources.items():
                self.files.put_in_place(source, path)
        finally:
            with suppress(Exception):  # rubbish that stays is deleted by the next job
                self.delete_unlisted()

    def delete_unlisted(self) -> None:
        """Delete data, index and quarantine files of other generations than the manifest lists.

        Without a readable manifest only files of this job's own generation are deleted.
        """
        listed = [published_generation(self.files, self.folder(d)) for d in self.datasets]
        for dataset, generation in zip(self.datasets, listed, strict=True):
            self._keep(self.folder(dataset), generation)
        if self.datasets != ("",):  # the quarantine above them
            self._keep(self.path, max((g for g in listed if g is not None), default=None))

    def _keep(self, folder: str, listed: int | None) -> None:
        for sub in _FILE_FOLDERS:
            rubbish = []
            for name in _entries(self.files, f"{folder}/{sub}".rstrip("/")):
                found = _generation(name)
                is_rubbish = found == self.generation if listed is None else found != listed
                if found is not None and is_rubbish:
                    rubbish.append(f"{folder}/{sub}{name}")
            many_at_once(self.files.delete, rubbish)

    def _manifest_path(self, dataset: str) -> str:
        return f"{self.folder(dataset)}/{_MANIFEST}"

    def _move_into_place(self, staged: str, target: str) -> None:
        for folder in reversed(_FILE_FOLDERS):  # an index before its data file
            source = f"{staged}/{folder}".rstrip("/")
            if not self.files.exists(source):
                continue
            self.files.make_folder(f"{target}/{folder}".rstrip("/"))
            names = [name for name in self.files.sizes(source) if _DATA_FILE.fullmatch(name)]
            sources = (f"{source}/{name}" for name in names)
            many_at_once(self.files.rename, sources, (f"{target}/{folder}{n}" for n in names))


@contextmanager
def locked_output(
    files: HadoopFiles, output: str, datasets: Sequence[str], overwrite: bool
) -> Iterator[Output]:
    """Hold the folder `output` for this job alone, with a new staging folder inside.

    What killed jobs left there is deleted first; lock and staging folder at the end, whatever
    happened, and `output` itself where it is then empty.

    Raises:
        ValueError: `output` exists and may not be replaced, or another job writes to it.
    """
    is_stale = _check_lock_is_free(files, output)
    check_replaceable(files, output, datasets, overwrite, is_stale)
    files.make_folder(output)
    if is_stale:
        files.delete(f"{output}/{LOCK_NAME}")
    lock = Lock.of_this_process()
    try:
        files.create_text(f"{output}/{LOCK_NAME}", json.dumps(asdict(lock), indent=2) + "\n")
    except FileExistsError:
        _check_lock_is_free(files, output)
        raise ValueError(f"{output}/{LOCK_NAME} changed just now; run the job again") from None
    held = Output(
        files=files,
        path=output,
        datasets=tuple(datasets),
        lock=lock,
        staging=f"{output}/{STAGING_PREFIX}{uuid.uuid4().hex[:12]}",
        generation=1 + max(_generations_present(files, output, datasets), default=0),
    )
    try:
        # Once more, for what another job published before this one had the lock.
        check_replaceable(files, output, datasets, overwrite, is_stale)
        _delete_staging_folders(files, output)
        held.delete_unlisted()
        files.make_folder(held.staging)
        yield held
    finally:
        _release(held)


def check_replaceable(
    files: HadoopFiles, output: str, datasets: Sequence[str], overwrite: bool, after_killed: bool
) -> None:
    """Check that there is nothing at `output` but what this job may replace.

    That is a dataset with `overwrite`, and `after_killed` what a killed job had not published yet.

    Raises:
        ValueError: there is.
    """
    if not files.exists(output):
        return
    if files.is_file(output):
        raise ValueError(f"--output-path must be a folder, but {output!r} is a file")
    entries = set(files.sizes(output))
    if not {name for name in entries if not _is_rubbish(name)}:
        return
    folders = [posixpath.join(output, dataset).rstrip("/") for dataset in datasets]
    is_unfinished = after_killed and not any(_has(files, f, _MANIFEST) for f in folders)
    if not overwrite and not is_unfinished:
        raise ValueError(
            f"--output-path must be new, but {output!r} exists; choose another or add --overwrite"
        )
    wanted = [_has(files, folder, _MANIFEST, dataset_format.INDEX_FOLDER) for folder in folders]
    if not any(wanted):
        kind = "a session dataset" if tuple(datasets) == ("",) else " and ".join(datasets)
        raise ValueError(
            f"--overwrite must find {kind} to replace, but {output!r} holds other things: "
            f"{', '.join(sorted(entries)[:5])}; delete it yourself or choose another output"
        )


def published_generation(files: HadoopFiles, folder: str) -> int | None:
    """Generation of the dataset that the manifest in `folder` lists; None without a sound one."""
    path = f"{folder}/{_MANIFEST}"
    if not files.exists(path):
        return None
    try:
        manifest = dataset_format.Manifest.from_json(files.read_text(path), path)
    except dataset_format.DatasetError:
        return None
    generations = {_generation(file.name) for file in manifest.files}
    return generations.pop() if len(generations) == 1 else None


def _has(files: HadoopFiles, folder: str, *names: str) -> bool:
    return any(files.exists(f"{folder}/{name}") for name in names)


def _is_rubbish(name: str) -> bool:
    return name == LOCK_NAME or name.startswith(STAGING_PREFIX)


def _generation(name: str) -> int | None:
    match = _DATA_FILE.fullmatch(name)
    return int(match[1] or 1) if match else None


def _entries(files: HadoopFiles, folder: str) -> list[str]:
    return list(files.sizes(folder)) if files.exists(folder) else []


def _generations_present(files: HadoopFiles, output: str, datasets: Sequence[str]) -> set[int]:
    folders = {f"{output}/{d}/{sub}".rstrip("/") for d in ("", *datasets) for sub in _FILE_FOLDERS}
    names = (name for folder in folders for name in _entries(files, folder))
    return {number for name in names if (number := _generation(name))}


def _delete_staging_folders(files: HadoopFiles, output: str) -> None:
    for name in files.sizes(output):
        if name.startswith(STAGING_PREFIX):
            files.delete(f"{output}/{name}")


def _release(held: Output) -> None:
    """Delete staging folder, lock, and folders that are empty, each as far as it can be."""
    files = held.files
    with suppress(Exception):  # a driver whose Java died cannot tidy up; the next job does
        files.delete(held.staging)
    with suppress(Exception):
        found = _read_lock(files, held.path)
        if found is None or found.identity != held.lock.identity:
            return
        files.delete(f"{held.path}/{LOCK_NAME}")
        for dataset in dict.fromkeys((*held.datasets, "")):
            for sub in reversed(_FILE_FOLDERS):
                folder = f"{held.folder(dataset)}/{sub}".rstrip("/")
                if files.exists(folder) and not files.sizes(folder):
                    files.delete(folder)


def _check_lock_is_free(files: HadoopFiles, output: str) -> bool:
    """False where there is no lock, True where its job is dead.

    Raises:
        ValueError: the lock's job lives, or is not known to be dead.
    """
    path = f"{output}/{LOCK_NAME}"
    if not files.exists(path):
        return False
    found = _read_lock(files, output)
    if found is not None and found.is_dead:
        return True
    raise ValueError(
        f"--output-path must have one writer, but {_holder(found)} is writing to {output!r}; "
        f"wait for it. If it is dead, delete {path} and run again"
    )


def _read_lock(files: HadoopFiles, output: str) -> Lock | None:
    try:
        return Lock(**json.loads(files.read_text(f"{output}/{LOCK_NAME}")))
    except Exception:  # gone, or written only in part
        return None


def _holder(lock: Lock | None) -> str:
    if lock is None:
        return "another job"
    return f"process {lock.pid} of {lock.user}@{lock.host}, since {lock.since},"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return str(os.getuid())


def _machine() -> str:
    """Host, boot and process namespace: where all three agree, process ids mean the same."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            parts.append(file.read().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _process_start(pid: int) -> str | None:
    """When `pid` started, in the kernel's ticks; "" where only that it lives is known."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # another user's
        pass
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if state == "Z" else fields[18]
