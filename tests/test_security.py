"""Files from elsewhere are data: reading one never runs what stands in it (SECURITY.md)."""

import ast
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml
from torch.distributed.checkpoint import metadata
from torch.distributed.checkpoint.api import CheckpointException

from trainer.checkpoints.reader import CheckpointReader
from trainer.config import ConfigError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("preprocessing", "trainer", "losses", "kernels", "launch")


class Trap:
    """Makes a folder where it is unpickled by what runs anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint of a tensor, and a value that is none, as a loss scaler has."""
    state = {"weight": torch.arange(6.0).reshape(3, 2), "scaler": {"scale": 65536.0}}
    dcp.save(state, checkpoint_id=str(tmp_path / "checkpoint"), no_dist=True)
    return tmp_path / "checkpoint"


def loaded(path: Path) -> dict:
    state = {"weight": torch.zeros(3, 2), "scaler": {"scale": 0.0}}
    dcp.load(state, storage_reader=CheckpointReader(path), no_dist=True)
    return state


def test_a_checkpoint_is_read(checkpoint):
    state = loaded(checkpoint)
    assert torch.equal(state["weight"], torch.arange(6.0).reshape(3, 2))
    assert state["scaler"] == {"scale": 65536.0}


def test_a_list_of_tensors_that_names_a_function_is_refused(checkpoint, tmp_path):
    (checkpoint / ".metadata").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ConfigError, match=r"it names posix.mkdir, which is no record of one"):
        CheckpointReader(checkpoint).read_metadata()
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(AttributeError):
        dcp.FileSystemReader(str(checkpoint)).read_metadata()
    assert (tmp_path / "sprung").exists()  # the trap works: DCP's own reader springs it


class Attribute:
    """Is unpickled as an attribute of an object: so Python 3.11.2 writes a member of an enum."""

    def __init__(self, owner: object, name: str) -> None:
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


def test_a_list_of_tensors_may_name_members_of_its_enum_and_no_other_attribute(checkpoint):
    encoding = Attribute(metadata._MEM_FORMAT_ENCODING, "TORCH_CONTIGUOUS_FORMAT")
    (checkpoint / ".metadata").write_bytes(pickle.dumps(metadata.Metadata({}, encoding, {})))
    found = CheckpointReader(checkpoint).read_metadata()
    assert found.planner_data is metadata._MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT
    for owner, name in ((metadata.Metadata, "__init__"), ([], "append")):
        attribute = Attribute(owner, name)
        (checkpoint / ".metadata").write_bytes(pickle.dumps(attribute))
        with pytest.raises(ConfigError, match=f"it asks for {name} of .*, which is no enum"):
            CheckpointReader(checkpoint).read_metadata()


def test_a_value_that_names_a_function_is_refused(tmp_path):
    trapped = {"scaler": Trap(tmp_path / "sprung")}
    dcp.save(trapped, checkpoint_id=str(tmp_path / "checkpoint"), no_dist=True)
    reader = CheckpointReader(tmp_path / "checkpoint")
    with pytest.raises(CheckpointException, match="Weights only load failed"):
        dcp.load({"scaler": 0.0}, storage_reader=reader, no_dist=True)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("contents", [b"", b"garbage", pickle.dumps({"a": 1})])
def test_a_damaged_list_of_tensors_is_a_clear_error(checkpoint, contents):
    (checkpoint / ".metadata").write_bytes(contents)
    with pytest.raises(ConfigError, match="must be a checkpoint's list of tensors, but"):
        CheckpointReader(checkpoint).read_metadata()


# ------------------------------------------------------------------ what our code calls

# Calls that run what they read, and where one is right: a restricted subclass, PyTorch's archive.
FORBIDDEN = re.compile(
    r"(eval|exec|compile|os\.system|os\.popen|pickle\.loads?|torch\.load|yaml\.load|marshal\.loads?"
    r"|dcp\.FileSystemReader|subprocess\.\w+\(.*shell=True.*)"
)


def calls(path: Path) -> list[str]:
    """Every call of a file, as `name.of.function`."""
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [ast.unparse(node.func) for node in found]
    return names + [f"{ast.unparse(node)}" for node in found if "shell=True" in ast.unparse(node)]


def test_our_packages_call_nothing_that_runs_what_it_reads():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in calls(path)
        if FORBIDDEN.fullmatch(name)
    }
    assert found == set()


# A value of these, in a file that goes into an image, would be a secret.
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|(?i:(?:password|secret|token)\s*[:=]\s*['\"]?\w{12,})"
)


def test_containers_run_without_rights_and_hold_no_secret():
    files = [path for path in (ROOT / "docker").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.search(path.read_text(errors="replace"))] == []
    for path in files:
        if "Dockerfile" in path.name:
            users = re.findall(r"^USER (\S+)", path.read_text(), re.MULTILINE)
            assert users and set(users).isdisjoint({"root", "0"}), path
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored  # only what is named after it goes into an image


def test_yaml_of_the_repository_is_plain_data():
    files = [*ROOT.glob("*.y*ml"), *(ROOT / "docker").glob("*.y*ml")]
    assert files
    for path in files:
        list(yaml.safe_load_all(path.read_text()))
