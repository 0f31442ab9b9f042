"""Who may import whom: launch -> trainer -> losses -> kernels; trainer -> SHARED of the job."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Modules of the job that the trainer shares, so that both follow the same rules; they import the
# standard library alone.
SHARED = ("dataset_format", "normalizer", "vocabulary_ids")
# Our packages, or single modules of them, that each package may import, besides itself.
ALLOWED = {
    "launch": {"trainer"},
    "trainer": {"losses", *(f"preprocessing.{name}" for name in SHARED)},
    "losses": {"kernels"},
    "kernels": set(),
    "preprocessing": set(),
}
# Outside packages that only one of ours may import.
KEPT_IN = {"pyspark": "preprocessing", "triton": "kernels"}
# On a cluster the job's siblings travel with `--py-files` and are imported by their plain names.
SIBLINGS_BY_PLAIN_NAME = "preprocessing"


def imported_modules(path: Path, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield, per imported name, its line and the full module names that it may stand for.

    `from a.b import c` may mean the module `a.b.c` or a name in the module `a.b`: both are given.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, [alias.name]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.parts[: len(path.parts) - node.level]
                base = ".".join([*package, *filter(None, [base])])
            yield from ((node.lineno, [base, f"{base}.{alias.name}"]) for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"__import__", "import_module", "importlib.import_module"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, [str(node.args[0].value)]


def violations(path: Path, source: str, siblings: frozenset[str] = frozenset()) -> list[str]:
    """Return one line per import that breaks an arrow; `path` is relative to the root.

    `siblings` are the plain names of the modules in the job's own folder.
    """
    owner = path.parts[0]
    allowed = ALLOWED.get(owner, set(ALLOWED)) | {owner}
    found = []
    for line, names in imported_modules(path, source):
        top = names[0].partition(".")[0]
        if owner == SIBLINGS_BY_PLAIN_NAME and top in siblings:
            continue
        wrong = top in ALLOWED and not allowed.intersection({top, *names})
        # Examples, benchmarks and tests are users of the packages: only our packages are held.
        wrong |= owner in ALLOWED and KEPT_IN.get(top, owner) != owner
        # A module must not be reached around its package, by its plain name.
        wrong |= owner in ALLOWED and top in siblings
        if wrong:
            found.append(f"{path}:{line} imports {names[-1]}")
    return found


def test_our_packages_hold_the_arrows():
    siblings = frozenset(p.stem for p in (ROOT / SIBLINGS_BY_PLAIN_NAME).glob("[!_]*.py"))
    files = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]
    assert {path.relative_to(ROOT).parts[0] for path in files} == set(ALLOWED)
    found = [
        line
        for path in files
        for line in violations(path.relative_to(ROOT), path.read_text(), siblings)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kernels/jrc.py", "import losses"),
        ("kernels/jrc.py", "from losses.jrc import JRCLoss"),
        ("losses/jrc.py", "def late():\n    from trainer import config"),
        ("losses/jrc.py", "from ..trainer import config"),
        ("losses/jrc.py", "import triton.language as tl"),
        ("trainer/loop.py", "from launch.train import main"),
        ("trainer/loop.py", "from preprocessing import jrc_sort"),
        ("trainer/loop.py", "import preprocessing.jrc_sort"),
        ("trainer/loop.py", "from preprocessing import dataset_format, jrc_sort"),
        ("trainer/loop.py", "import kernels"),
        ("trainer/loop.py", "from pyspark.sql import SparkSession"),
        ("trainer/loop.py", "import importlib\nimportlib.import_module('launch.train')"),
        ("trainer/loop.py", "import dataset_format"),
        ("launch/train.py", "import losses"),
        ("preprocessing/jrc_sort.py", "from trainer.data.plan import Plan"),
        ("preprocessing/jrc_sort.py", "import triton"),
    ],
)
def test_a_wrong_import_is_caught(path, source):
    assert len(violations(Path(path), source, frozenset({"dataset_format", "jrc_sort"}))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kernels/jrc.py", "import torch\nimport triton\nfrom kernels.segment import reduce"),
        ("losses/jrc.py", "from kernels import segment\nfrom . import reduction"),
        ("trainer/loop.py", "from losses.jrc import JRCLoss\nfrom .plan import Plan"),
        ("trainer/loop.py", "from preprocessing import dataset_format"),
        ("trainer/loop.py", "from preprocessing.dataset_format import Manifest"),
        ("trainer/loop.py", "import preprocessing.dataset_format as format"),
        ("launch/train.py", "from trainer.loop import Trainer"),
        ("preprocessing/jrc_sort.py", "from pyspark.sql import SparkSession"),
        ("preprocessing/jrc_sort.py", "import dataset_format"),
        ("preprocessing/jrc_sort.py", "from dataset_format import Manifest"),
        ("preprocessing/jrc_sort.py", "from preprocessing.dataset_format import Manifest"),
    ],
)
def test_a_right_import_passes(path, source):
    assert violations(Path(path), source, frozenset({"dataset_format", "jrc_sort"})) == []
