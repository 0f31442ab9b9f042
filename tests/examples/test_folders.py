"""Output folders: only a script's own output is replaced, and only by a complete one."""

from pathlib import Path

import pytest

from tests.examples.scripts import load

new_folder = load("folders.py").new_folder
CONTENTS = ("train/*.parquet", "vocab.json")


@pytest.fixture
def output(tmp_path):
    """An earlier output."""
    folder = tmp_path / "out"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "part-00000.parquet").write_text("old")
    return folder


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", ["notes.txt", "train/image.png", "photos/vocab.json"])
def test_a_folder_with_anything_else_is_not_replaced(output, name):
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).touch()
    rule = f"--overwrite must find an output of this script, but .*/out holds {name}; delete it"
    with pytest.raises(ValueError, match=rule), new_folder(output, True, CONTENTS):
        pytest.fail("must not start")
    assert names(output) == sorted([name, "train/part-00000.parquet"])


def test_an_error_while_writing_keeps_the_old_folder(output):
    def write():
        with new_folder(output, True, CONTENTS) as new:
            (new / "missing" / "file").touch()

    with pytest.raises(FileNotFoundError):
        write()
    assert names(output.parent) == ["out/train/part-00000.parquet"]


def test_a_failed_publish_puts_the_old_folder_back(output, monkeypatch):
    rename = Path.rename

    def fail_for_new(self, target):
        if self.name == "new":
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(OSError, match="disk gone"), new_folder(output, True, CONTENTS) as new:
        (new / "vocab.json").touch()
    assert names(output.parent) == ["out/train/part-00000.parquet"]


def test_an_empty_folder_needs_no_overwrite(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", False, CONTENTS) as new:
        (new / "vocab.json").touch()
    assert names(tmp_path) == ["out/vocab.json"]
