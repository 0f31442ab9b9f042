"""The project as a package: its wheel, its extras, its lock, and the files that a project has."""

import hashlib
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from tests.test_import_arrows import imported_modules

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("preprocessing", "trainer", "losses", "kernels", "launch")
LOCK = ROOT / "requirements" / "constraints.txt"


def run(*command: str | Path, **options) -> str:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# ------------------------------------------------------------------ wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT)
    (found,) = folder.iterdir()
    return found


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    assert wheel.name == f"sessionwise-{PROJECT['version']}-py3-none-any.whl"
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    expected = {
        str(path.relative_to(ROOT))
        for path in files
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == expected
    assert {"trainer/protos/pipeline.proto", "trainer/protos/pipeline_pb2.py"} <= inside


# The checkout is an editable install of this environment: its folders must not stand in.
IMPORT_ALL = """
import importlib, pathlib, sys
site = pathlib.Path(sys.argv[1])
checkouts = [path for path in sys.path if (pathlib.Path(path) / "pyproject.toml").exists()]
sys.path[:] = [str(site), *(path for path in sys.path if path not in checkouts)]
for path in sorted(site.glob("*/**/*.py")):
    name = ".".join(path.relative_to(site).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__) == path, (module.__file__, path)
"""


def test_the_wheel_installs_and_every_module_imports(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run(*install, "--no-compile", "--target", site, wheel)
    run(sys.executable, "-I", "-c", IMPORT_ALL, site, cwd=tmp_path)
    version = run(
        sys.executable,
        *("-c", "from importlib.metadata import version; print(version('sessionwise'))"),
        env={"PYTHONPATH": str(site)},
    )
    assert version.strip() == PROJECT["version"]


# ------------------------------------------------------------------ what is imported

# Of each folder, the extras that it may use besides `dependencies`.
EXTRAS = {**dict.fromkeys(PACKAGES, ()), "preprocessing": ("spark",), "kernels": ("cuda",)}
EXTRAS |= {"examples": ("examples",), "benchmarks": ("benchmarks", "examples", "spark")}
# What comes with another: the CPU's build by the stand-in of its name, and parts of a whole.
BROUGHT_BY = {"fbgemm-gpu-cpu": "fbgemm-gpu", "py4j": "pyspark", "torchmetrics": "torchrec"}
PEER = "tzrec"  # TorchEasyRec, which a benchmark takes from a path that it is given


def owner(distribution: str) -> str:
    name = canonicalize_name(distribution)
    return BROUGHT_BY.get(name, name)


def declared(folder: str) -> set[str]:
    texts = [PROJECT["optional-dependencies"][name] for name in EXTRAS[folder]]
    return {Requirement(text).name for part in (PROJECT["dependencies"], *texts) for text in part}


@pytest.mark.parametrize("folder", EXTRAS)
def test_what_a_folder_imports_is_declared(folder):
    ours = {path.stem for path in (ROOT / folder).rglob("*.py")} | {*EXTRAS, "tests"}
    ours |= {*sys.stdlib_module_names, PEER}
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        for line, (name, *_) in imported_modules(path.relative_to(ROOT), path.read_text()):
            found[name.partition(".")[0]] = f"{path.relative_to(ROOT)}:{line}"
    owners = packages_distributions()
    undeclared = {
        name: at
        for name, at in found.items()
        if name not in ours
        and not declared(folder).intersection(map(owner, owners.get(name, [name])))
    }
    assert undeclared == {}


# ------------------------------------------------------------------ extras and lock


def extra(name: str) -> dict[str, Requirement]:
    requirements = map(Requirement, PROJECT["optional-dependencies"][name])
    return {requirement.name: requirement for requirement in requirements}


def test_the_extras_of_the_devices_exclude_each_others_build():
    cpu, cuda = (extra(device)["fbgemm-gpu"].specifier for device in ("cpu", "cuda"))
    assert [cpu.contains(version) for version in ("1.8.0+cpu", "1.8.0")] == [True, False]
    assert [cuda.contains(version) for version in ("1.8.0+cpu", "1.8.0")] == [False, True]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_set_up_installs_by_the_lock(device):
    lines = (ROOT / "requirements" / f"{device}.txt").read_text().splitlines()
    assert [line for line in lines if line[0] == "-"] == [
        "-c constraints.txt",
        f"-e .[{device},dev]",
    ]


def locked() -> dict[NormalizedName, str]:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}


def test_what_is_installed_has_the_locked_version():
    # Not all of sys.path: setuptools, once imported, adds a folder of copies that it brings.
    installed = distributions(path=[sysconfig.get_path("purelib")])
    found = {canonicalize_name(dist.name): dist.version for dist in installed}
    differing = {
        f"{name}=={found[name]}, locked: {version}"
        for name, version in locked().items()
        if name in found and found[name].partition("+")[0] != version
    }
    assert differing == set(), "run `make setup`, or `make lock` after a change of dependencies"


def test_the_lock_has_every_requirement():
    listed = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    requirements = [Requirement(text) for texts in listed for text in texts]
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if name != "sessionwise":
            local = "+cpu" if "==1.8.0+cpu" in str(requirement.specifier) else ""  # the stand-in
            assert name in locked(), f"run `make lock`: it lacks {name}"
            assert requirement.specifier.contains(locked()[name] + local, prereleases=True), name


def test_the_lock_names_no_place():
    assert not re.search(r"://|/|@|--", LOCK.read_text().replace("`", ""))


# ------------------------------------------------------------------ files


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.md5(text).hexdigest() == "3b83ef96387f14655fc854ddc3c6bd57"  # apache.org's
    assert PROJECT["license"] == "Apache-2.0"


def test_the_changelog_has_this_version():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", PROJECT["version"]]


def test_the_pre_commit_hooks_are_the_environments_tools():
    run(Path(sys.executable).parent / "pre-commit", "validate-config", cwd=ROOT)
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    entries = " ".join(hook["entry"] for repo in config["repos"] for hook in repo["hooks"])
    programs = re.findall(r"\.venv/bin/(\S+)", entries)
    assert {"ruff", "pyright", "hadolint"} <= set(programs)
    assert [name for name in programs if not (ROOT / ".venv" / "bin" / name).exists()] == []
