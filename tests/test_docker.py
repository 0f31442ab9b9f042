import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
SERVICES = YAML(typ="safe").load(ROOT / "docker" / "compose.yaml")["services"]


def run_python(*arguments: str) -> str:
    """Run a script of ours as the images do: from the root, the environment's programs first."""
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def scripts_and_flags(service: str) -> list[tuple[str, set[str]]]:
    """Return the Python scripts that a service runs, each with the flags it gives to it."""
    command = SERVICES[service]["command"]
    text = command if isinstance(command, str) else command[-1]
    _, *parts = re.split(r"(\S+\.py)\b", text)
    flags = (set(re.findall(r"(?<!\S)--[\w-]+", part)) for part in parts[1::2])
    return list(zip(parts[::2], flags, strict=True))


@pytest.mark.parametrize("service", SERVICES)
def test_the_flags_in_compose_are_the_scripts_own(service):
    scripts = scripts_and_flags(service)
    assert scripts
    for script, flags in scripts:
        assert flags
        assert flags <= set(re.findall(r"--[\w-]+", run_python(script, "--help")))


@pytest.mark.parametrize("image", ["trainer", "spark-job"])
def test_the_images_check_passes_here(image):
    if image == "trainer" and (ROOT / ".venv" / "ready-cuda").exists():
        pytest.skip("needs a GPU in the environment of CUDA packages")
    assert run_python("docker/check.py", image).splitlines()[-1] == "ok"


def test_the_job_image_has_the_projects_spark():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r"^ARG PYSPARK_VERSION=(.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert project["optional-dependencies"]["spark"] == [f"pyspark=={version}"]


def test_what_the_dockerfile_copies_is_in_its_context():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE):
        copied.update(shlex.split(line)[:-1])
    assert copied == kept
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_the_image_tag_is_the_projects_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tags = re.findall(r"image: \S+:([\d.]+)", (ROOT / "docker" / "compose.yaml").read_text())
    assert set(tags) == {version}
