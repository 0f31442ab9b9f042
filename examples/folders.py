"""Output folders of the example scripts: either complete or not there."""

import contextlib
import fnmatch
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path


@contextlib.contextmanager
def new_folder(path: Path, overwrite: bool, contents: Collection[str]) -> Iterator[Path]:
    """A temporary sibling of `path`: renamed to it if the block ends well, else removed.

    Args:
        path: the script's --output_path.
        overwrite: replace an earlier output. If that fails, the earlier one is put back.
        contents: patterns of the files that the script writes, as "train/*.parquet". A folder with
            any other file is none of its outputs and never replaced.

    Raises:
        ValueError: `path` may not be replaced.
    """
    _check_replaceable(path, overwrite, contents)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    new, old = holder / "new", holder / "old"
    try:
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(holder, ignore_errors=True)


def _check_replaceable(path: Path, overwrite: bool, contents: Collection[str]) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise ValueError(f"--output_path must be a folder, but {path} is a file; choose another")
    if not overwrite and any(path.iterdir()):
        raise ValueError(
            f"--output_path must be empty, but {path} is not; choose another or pass --overwrite"
        )
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())
    for name in names:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in contents):
            raise ValueError(
                f"--overwrite must find an output of this script, but {path} holds {name}; "
                "delete it yourself or choose another --output_path"
            )
