"""Files on any file system that Hadoop knows: local, HDFS, object stores."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

_GLOB = re.compile(r"[\[\]{}*?\\]")
_CALLS_AT_ONCE = 32
Found = TypeVar("Found")
# On an object store a file appears whole, when its upload is complete, and a rename is a copy.
OBJECT_STORES = ("s3", "s3a", "s3n", "gs", "oss", "cosn", "obs", "wasb", "wasbs")


def has_glob(path: str) -> bool:
    """Whether `path` has a character that Hadoop and Spark take for a pattern."""
    return _GLOB.search(path) is not None


def escape_glob(path: str) -> str:
    """A pattern that matches `path` alone, for Spark readers, which expand every path."""
    return _GLOB.sub(r"\\\g<0>", path)


def many_at_once(call: Callable[..., Found], *arguments: Iterable[Any]) -> list[Found]:
    """`call` of each item of `arguments`, by threads: thousands of files answer slowly one by one.

    Returns or raises when no call is under way any more; after an error no further one begins.
    """
    with ThreadPoolExecutor(_CALLS_AT_ONCE) as pool:
        return list(pool.map(call, *arguments))


class HadoopFiles:
    """Hadoop's FileSystem API over py4j, on path strings.

    Every call raises Py4JJavaError, with Java's message, when the file system itself fails.
    """

    def __init__(self, spark: SparkSession):
        self.spark = spark
        jvm: Any = spark._jvm
        self._gateway: Any = spark.sparkContext._gateway
        self._path = jvm.org.apache.hadoop.fs.Path
        self._io = jvm.org.apache.hadoop.io.IOUtils
        self._file_context = jvm.org.apache.hadoop.fs.FileContext
        self._rename_option = getattr(jvm, "org.apache.hadoop.fs.Options$Rename")
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

    def is_file(self, path: str) -> bool:
        """Whether there is a file at `path`."""
        system, java_path = self._open(path)
        return bool(system.exists(java_path) and system.getFileStatus(java_path).isFile())

    def read_text(self, path: str) -> str:
        """The UTF-8 text of the file `path`."""
        system, java_path = self._open(path)
        stream = system.open(java_path)
        try:
            return bytes(self._io.readFullyToByteArray(stream)).decode("utf-8")
        finally:
            stream.close()

    def write_text(self, path: str, text: str, overwrite: bool = False) -> None:
        """Write `text` as UTF-8 to the file `path`, which must be new unless `overwrite`."""
        system, java_path = self._open(path)
        stream = system.create(java_path, overwrite)
        try:
            stream.write(text.encode("utf-8"))
        finally:
            stream.close()

    def create_text(self, path: str, text: str) -> None:
        """Make the file `path`, as one of several that try at once may do.

        Locally and on HDFS exactly one succeeds; object stores have no such promise.

        Raises:
            FileExistsError: `path` is there.
        """
        local = self._local(path)
        if local is not None:  # Hadoop's local file system looks first and creates then
            with open(local, "x", encoding="utf-8") as file:
                file.write(text)
            return
        try:
            self.write_text(path, text)
        except Py4JJavaError:
            if self.exists(path):
                raise FileExistsError(path) from None
            raise

    def put_in_place(self, source: str, target: str) -> None:
        """Move the file `source` to `target` in one step: readers see the old file or the new."""
        system, java_target = self._open(target)
        local_source, local_target = self._local(source), self._local(target)
        if str(java_target.toUri().getScheme() or system.getScheme()) in OBJECT_STORES:
            self.write_text(target, self.read_text(source), overwrite=True)
        elif local_source is not None and local_target is not None:
            self._delete_checksum(local_target)
            with open(local_source, "rb") as file:
                os.fsync(file.fileno())
            os.replace(local_source, local_target)
        else:
            self._rename_over(source, target)

    def _rename_over(self, source: str, target: str) -> None:
        context = self._file_context.getFileContext(self._path(target).toUri(), self._conf)
        options = self._gateway.new_array(self._rename_option, 1)
        options[0] = self._rename_option.OVERWRITE
        context.rename(self._path(source), self._path(target), options)

    def _local(self, path: str) -> str | None:
        """`path` as the operating system knows it, or None when it is not on this machine."""
        system, java_path = self._open(path)
        return str(java_path.toUri().getPath()) if system.getScheme() == "file" else None

    @staticmethod
    def _delete_checksum(local: str) -> None:
        """Hadoop's checksum of a file that is going to be replaced without Hadoop's knowing."""
        folder, name = os.path.split(local)
        with suppress(FileNotFoundError):
            os.remove(os.path.join(folder, f".{name}.crc"))
