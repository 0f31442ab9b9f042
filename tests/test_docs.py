"""The documentation's code runs, its commands exist, and its site loads nothing from elsewhere."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.bench_serving import table_line
from tests.configs import two_task_config
from trainer.checks.config import check_config
from trainer.config import parse_config
from trainer.protos.pipeline_pb2 import EasyRecConfig

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *DOCS]
COMMAND = re.compile(
    r"^ *(?:[A-Z_]+=\S+ )*(?:\S*/)?(make|python|torchrun|spark-submit|bash|sbatch|docker)\b (.*)$",
    re.MULTILINE,
)


def code_blocks(page: Path, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path, language: str = r"\w*") -> list[tuple[str, str]]:
    """Each program with its arguments, in blocks; a line that ends in a backslash goes on."""
    text = "\n".join(code_blocks(page, language)).replace("\\\n", " ")
    return COMMAND.findall(text)


def inline_commands(page: Path) -> list[tuple[str, str]]:
    """The same between backticks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [found for code in re.findall(r"`([^`\n]+)`", text) for found in COMMAND.findall(code)]


# ------------------------------------------------------------------ commands


def flags_of(script: Path) -> set[str]:
    """The flags that a program of ours takes: those its sources name."""
    is_package = script.name == "__main__.py" or script.parent.name == "preprocessing"
    shared = script.parent / "flags.py"  # of the launchers
    files = script.parent.glob("*.py") if is_package else [script, *filter(Path.is_file, [shared])]
    return {flag for file in files for flag in re.findall(r'"(--[\w-]+)"', file.read_text())}


def faults(arguments: str) -> list[str]:
    """What is wrong with a command that runs a script or module of ours."""
    arguments = re.split(r" #| \|", arguments)[0]
    script = re.search(r"(?:-m (benchmarks\.\w+)|(?<!\S)(?:\./)?([a-z]\w*/[\w/]+\.py))", arguments)
    if script is None:
        return []
    path = ROOT / (script[2] or script[1].replace(".", "/") + ".py")
    if script[1] and not path.is_file():
        path = path.with_suffix("") / "__main__.py"
    if not path.is_file():
        return [f"there is no {path.relative_to(ROOT)}"]
    given = set(re.findall(r"(?<!\S)--[a-zA-Z][\w-]*", arguments[script.end() :]))
    return [f"{path.name} has no {flag}" for flag in sorted(given - flags_of(path))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_scripts_targets_and_flags_that_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = []
    for program, arguments in commands(page) + inline_commands(page):
        if program == "make":
            names = re.findall(r"(?<!\S)[a-z][a-z-]*(?!\S)", arguments.split("#")[0])
            found += [f"make has no {name}" for name in names if name not in targets]
        else:
            found += faults(arguments)
    assert found == []


# ------------------------------------------------------------------ how-tos


def test_the_loss_of_contributing_md():
    (source,) = code_blocks(ROOT / "docs" / "contributing.md", "python")
    names: dict = {"__name__": "hardest"}
    exec(source, names)
    scores = [0.3, -1.0, 2.0, 0.5, 1.5, -0.2, 4.0]
    labels = [1, 0, 0, 1, 1, 0, 0]  # sessions of rows 0-3, 4 (one row), 5-6 (one class)
    logits = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 4, 5, 7])
    loss = names["HardestNegativeLoss"]("none")(
        logits, torch.tensor(labels), session_offsets=offsets
    )
    expected = [math.log1p(math.exp(2.0 - 0.3)), 0, 0, math.log1p(math.exp(2.0 - 0.5)), 0, 0, 0]
    assert loss.tolist() == pytest.approx(expected)
    loss.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert logits.grad[4:].tolist() == [0, 0, 0]


TOWERS = """task_towers { tower_name: "ctr" label_name: "click" mlp { hidden_units: [8] }
    num_class: 1 losses { binary_cross_entropy {} } }"""
SNIPPETS = [
    line for line in code_blocks(ROOT / "docs" / "models.md", "")[2].splitlines() if line.strip()
]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda line: line.split()[0])
def test_a_models_snippet_is_read(snippet):
    parse_config(f"model_config {{ {snippet.replace('TOWERS', TOWERS)} }}")


def test_the_config_of_the_checks_is_whole():
    check_config(two_task_config())


# ------------------------------------------------------------------ migration


SCHEMA = EasyRecConfig.DESCRIPTOR.file.message_types_by_name


def table_of(header: str) -> list[list[list[str]]]:
    """Of each row of a table in migration.md, and each cell, the names in backticks."""
    text = (ROOT / "docs" / "migration.md").read_text()
    rows = text.split(f"| {header} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[re.findall(r"`(\w+)`", cell) for cell in row.strip("|").split("|")] for row in rows]


def test_what_migration_md_calls_unsupported_is_not_in_the_schema():
    messages, found = [], []
    for names, fields, *_ in table_of("message | not supported | instead"):
        messages = names or messages  # an empty cell: the message above
        for message in messages:
            known = SCHEMA[message].fields_by_name
            found += [f"{message}.{field}" for field in fields if field in known]
    assert found == ["IdFeature.zch"]  # of which one field is meant


def test_what_migration_md_calls_ours_is_in_the_schema():
    known = {field.name for message in SCHEMA.values() for field in message.fields}
    rows = table_of("message | ours")
    assert [field for _, fields in rows for field in fields if field not in known] == []


def test_what_the_schema_calls_ours_is_in_migration_md():
    text = (ROOT / "trainer" / "protos" / "pipeline.proto").read_text()
    comment, field = r"// Ours.*\n(?: *//.*\n)*", r" *(?:optional |repeated )?\S+ (\w+) = \d"
    ours = re.findall(comment + field, text)
    assert {"seed", "eps", "pareto_gradient", "custom", "contrast"} <= set(ours)
    told = {name for _, fields in table_of("message | ours") for name in fields}
    assert [name for name in ours if name not in told] == []


# ------------------------------------------------------------------ the site


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [Path(sys.executable).parent / "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a notice about another product
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return folder


def test_every_page_is_in_the_navigation(site):
    text = re.sub(r"!!python\S*", "", (ROOT / "mkdocs.yml").read_text())
    named = set(re.findall(r"[\w/]+\.md", str(yaml.safe_load(text)["nav"])))
    assert named == {page.name for page in DOCS}
    assert {page.stem for page in DOCS} <= {page.stem for page in site.glob("*.html")}


def test_the_site_loads_nothing_from_elsewhere(site):
    loading = r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="?(?:https?:)?//[^">]+'
    for page in site.rglob("*.html"):
        found = re.findall(loading, page.read_text())
        assert [tag for tag in found if 'rel="canonical"' not in tag] == [], page


def test_formulas_are_mathml(site):
    text = (site / "losses.html").read_text()
    assert text.count("<math") > 20
    assert "arithmatex" not in text and "\\frac" not in re.sub(r"<code.*?</code>", "", text)


def test_the_table_of_latencies_is_the_recorded_one():
    recorded = json.loads((ROOT / "benchmarks/results/serving-cpu.json").read_text())
    page = (ROOT / "docs/export.md").read_text()
    for result in recorded["results"]:
        assert table_line(result) in page
    assert f"{recorded['requests']} requests a line, {recorded['date']}" in page
