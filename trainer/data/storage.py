"""Folders of datasets, on this machine or remote: paths, wildcards, opening files.

A path is a local one or a URL. PyArrow's own file systems come first (file, s3, gs, hdfs, ...);
any other scheme goes through fsspec (memory, http, and what its plugins bring).
"""

import posixpath
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import fsspec
import pyarrow as pa
from pyarrow import fs

from preprocessing.dataset_format import DatasetError


class Storage:
    """A folder; names are paths inside it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._filesystem, self._root = _locate(url)
        self._listed = cache(self._list)

    def __str__(self) -> str:
        return self.url

    @property
    def is_remote(self) -> bool:
        """Whether reads go over a network, and had better be few and large."""
        return not isinstance(self._filesystem, fs.LocalFileSystem)

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name, or the folder itself."""
        found = self._filesystem.get_file_info(self._path(name))
        return found.type != fs.FileType.NotFound

    def size(self, name: str) -> int:
        """Bytes of a file, from one listing of its folder. Raises FileNotFoundError."""
        folder, base = posixpath.split(name)
        sizes = self._listed(folder)
        if base not in sizes:
            raise FileNotFoundError(f"{self.url}/{name}")
        return sizes[base]

    def files(self) -> list[str]:
        """Names of the files right in the folder, sorted; none where there is no folder."""
        return sorted(self._listed(""))

    def read_bytes(self, name: str) -> bytes:
        """What a file holds. Raises OSError."""
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> pa.NativeFile:
        """A file to read at any place in it. Raises OSError."""
        return self._filesystem.open_input_file(self._path(name))

    def _list(self, folder: str) -> dict[str, int]:
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        found = self._filesystem.get_file_info(selector)
        return {info.base_name: info.size for info in found if info.type == fs.FileType.File}

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root


def expand_paths(paths: str) -> list[str]:
    """The folders that a setting names: separated by commas, the last part may have wildcards.

    `days/2026-11-*` is every folder of that name, in name order. Raises DatasetError for a pattern
    that nothing matches.
    """
    found: list[str] = []
    for path in filter(None, (part.strip() for part in paths.split(","))):
        found += _glob(path) if set(path) & set("*?[") else [path]
    if not found:
        raise DatasetError(f"dataset must be a folder or a list of folders, but got: {paths!r}")
    return found


def _glob(path: str) -> list[str]:
    parent, _, pattern = path.rstrip("/").rpartition("/")
    if set(parent) & set("*?["):
        raise DatasetError(f"wildcards must be in the last part of a path, but got: {path}")
    filesystem, root = _locate(parent or ".")
    infos = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
    names = [info.base_name for info in infos if info.type == fs.FileType.Directory]
    chosen = sorted(name for name in names if fnmatch(name, pattern))
    if not chosen:
        raise DatasetError(f"dataset must be a folder, but no folder matches {path}")
    return [f"{parent}/{name}" if parent else name for name in chosen]


def _locate(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URL, and the path on it."""
    if "://" not in url:
        return fs.LocalFileSystem(), str(Path(url).absolute())
    if url.startswith("file://"):
        return fs.LocalFileSystem(), fs.FileSystem.from_uri(url)[1]
    try:
        return fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid:  # not one of PyArrow's own
        pass
    try:
        remote, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DatasetError(f"dataset {url!r} cannot be reached: {error}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(remote)), path
