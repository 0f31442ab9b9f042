"""Files on any file system that Hadoop knows (local, HDFS, object stores), published atomically.

A dataset is assembled in a hidden staging folder beside its final place and renamed at the end,
its manifest last. What fails before that leaves the final place as it was. What a killed driver
can leave behind, beside the final place:

    .<name>.staging-*               safe to delete
    .<name>.old-*, and no <name>    killed while it replaced a dataset: `.old-*` is that dataset,
                                    and the next run to the same place puts it back first
    .<name>.old-*, and <name>       without a manifest, <name> is unfinished: rename `.old-*` to
                                    <name> in its stead, or run again; else `.old-*` is rubbish
"""

from __future__ import annotations

import posixpath
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import SparkSession

_GLOB = re.compile(r"[\[\]{}*?\\]")


def has_glob(path: str) -> bool:
    """Whether `path` has a character that Hadoop and Spark take for a pattern."""
    return _GLOB.search(path) is not None


def escape_glob(path: str) -> str:
    """A pattern that matches `path` alone, for Spark readers, which expand every path."""
    return _GLOB.sub(r"\\\g<0>", path)


class HadoopFiles:
    """Hadoop's FileSystem API over py4j, on path strings.

    Every call raises Py4JJavaError, with Java's message, when the file system itself fails.
    """

    def __init__(self, spark: SparkSession):
        self.spark = spark
        jvm: Any = spark._jvm
        self._path = jvm.org.apache.hadoop.fs.Path
        self._conf = spark._jsc.hadoopConfiguration()  # type: ignore[union-attr] # set in classic mode

    def _open(self, path: str) -> tuple[Any, Any]:
        java_path = self._path(path)
        return java_path.getFileSystem(self._conf), java_path

    def qualify(self, path: str) -> str:
        """`path` as an absolute URI without a trailing slash."""
        system, java_path = self._open(path)
        return system.makeQualified(java_path).toString()

    def expand(self, pattern: str) -> list[str]:
        """The path `pattern` itself, or else those that match it as a glob, as absolute URIs.

        Empty when there is none.
        """
        system, java_path = self._open(pattern)
        if system.exists(java_path):
            return [system.makeQualified(java_path).toString()]
        return [status.getPath().toString() for status in system.globStatus(java_path) or ()]

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at `path`."""
        system, java_path = self._open(path)
        return bool(system.exists(java_path))

    def total_bytes(self, path: str) -> int:
        """Bytes of the file, or of all files below the folder, `path`."""
        system, java_path = self._open(path)
        return int(system.getContentSummary(java_path).getLength())

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every entry of `folder` by its name."""
        system, java_path = self._open(folder)
        return {s.getPath().getName(): s.getLen() for s in system.listStatus(java_path)}

    def make_folder(self, path: str) -> None:
        """Make the folder `path` and its parents.

        Raises:
            OSError: the file system refused.
        """
        system, java_path = self._open(path)
        if not system.mkdirs(java_path):
            raise OSError(f"cannot make the folder {path}")

    def rename(self, source: str, target: str) -> None:
        """Move `source` to `target`, which must not exist (Hadoop would move into a folder).

        Raises:
            OSError: `target` exists, or the file system refused.
        """
        system, java_source = self._open(source)
        java_target = self._path(target)
        if system.exists(java_target) or not system.rename(java_source, java_target):
            raise OSError(f"cannot rename {source} to {target}; does the target exist?")

    def delete(self, path: str) -> None:
        """Delete `path` and all below it; nothing happens when it does not exist."""
        system, java_path = self._open(path)
        system.delete(java_path, True)

    def write_text(self, path: str, text: str) -> None:
        """Write `text` as UTF-8 to a new file `path`."""
        system, java_path = self._open(path)
        stream = system.create(java_path, False)
        try:
            stream.write(text.encode("utf-8"))
        finally:
            stream.close()


def sibling(path: str, purpose: str) -> str:
    """A hidden, unused name beside `path`: `.<name>.<purpose>-<random>`."""
    parent, name = posixpath.split(path)
    return f"{parent}/.{name}.{purpose}-{uuid.uuid4().hex[:12]}"


@contextmanager
def staging_folder(files: HadoopFiles, output: str) -> Iterator[str]:
    """A new hidden folder beside `output`, deleted at the end, whatever happened."""
    staging = sibling(output, "staging")
    files.make_folder(staging)
    try:
        yield staging
    finally:
        files.delete(staging)


def publish(files: HadoopFiles, staged: str, manifest: str, output: str) -> None:
    """Rename the folder `staged` to `output`, then the file `manifest` into it under its own name.

    A dataset already at `output` is moved aside first, deleted after, and moved back on failure.
    """
    old = sibling(output, "old") if files.exists(output) else None
    if old:
        files.rename(output, old)
    moved = False
    try:
        files.rename(staged, output)
        moved = True
        files.rename(manifest, posixpath.join(output, posixpath.basename(manifest)))
    except BaseException:
        if moved:
            files.delete(output)
        if old:
            files.rename(old, output)
        raise
    if old:
        files.delete(old)


def put_back_old(files: HadoopFiles, output: str) -> str | None:
    """Undo a replacement of `output` that was killed half-way; returns the place it came from.

    Nothing happens, and None is returned, when `output` is there or nothing was moved aside.

    Raises:
        ValueError: several datasets were moved aside.
    """
    parent, name = posixpath.split(output)
    folder = f"{parent}/"  # with its slash, also where it is the root
    if files.exists(output) or not files.exists(folder):
        return None
    old = sorted(entry for entry in files.sizes(folder) if entry.startswith(f".{name}.old-"))
    if not old:
        return None
    if len(old) > 1:
        raise ValueError(
            f"--output-path has no dataset, but killed runs left {', '.join(old)} in {parent}; "
            f"rename the one to keep to {name!r} and delete the others"
        )
    files.rename(f"{parent}/{old[0]}", output)
    return f"{parent}/{old[0]}"
