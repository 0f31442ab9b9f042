import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from docker.run_with_buildah import in_order, interpolate, keep_running, read_services

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = [ROOT / "docker" / name for name in ("Dockerfile", "spark.Dockerfile")]
SERVICES = read_services()
WITH_SCRIPTS = [name for name, service in SERVICES.items() if ".py" in str(service["command"])]


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


def help_of(script: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a script says of its flags; ours in here, as each start of PyTorch takes seconds."""
    if not script.startswith("launch/"):
        return run_python(script, "--help")
    with pytest.raises(SystemExit):
        importlib.import_module(f"launch.{Path(script).stem}").parse_args(["--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("service", WITH_SCRIPTS)
def test_the_flags_in_compose_are_the_scripts_own(service, capsys):
    scripts = scripts_and_flags(service)
    assert scripts
    for script, flags in scripts:
        assert flags
        assert flags <= set(re.findall(r"--[\w-]+", help_of(script, capsys)))


@pytest.mark.parametrize("image", ["trainer", "spark-job"])
def test_the_images_check_passes_here(image):
    if image == "trainer" and (ROOT / ".venv" / "ready-cuda").exists():
        pytest.skip("needs a GPU in the environment of CUDA packages")
    assert run_python("docker/check.py", image).splitlines()[-1] == "ok"


def test_the_job_image_has_the_projects_spark():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pinned,) = project["optional-dependencies"]["spark"]
    text = DOCKERFILES[1].read_text()
    (version,) = re.findall(r"^ARG PYSPARK_VERSION=(.+)$", text, flags=re.MULTILINE)
    assert pinned == f"pyspark=={version}"
    assert f"sparkVersion: {version}" in (ROOT / "launch/kubernetes/sort.yaml").read_text()


def test_what_the_dockerfiles_copy_is_in_their_context():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    copied = set()
    for dockerfile in DOCKERFILES:
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE):
            copied.update(shlex.split(line)[:-1])
    assert copied == kept
    assert [path for path in copied if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_last_stage_has_no_build_tools_and_no_rights(path):
    _, last = path.read_text().rsplit("\nFROM ", 1)
    assert re.search(r"^USER sessionwise$", last, flags=re.MULTILINE)
    assert not re.search(r"install.*\b(gcc|g\+\+|python3-(pip|venv|dev))\b", last)


def test_the_image_tag_is_the_projects_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = [*(ROOT / "docker").glob("compose*.yaml"), ROOT / "launch/kubernetes/render.py"]
    tags = re.findall(r"sessionwise/[\w-]+:([\d.]+)", "".join(path.read_text() for path in files))
    assert set(tags) == {version}


def test_services_run_after_what_they_need():
    order = in_order(SERVICES, ["evaluate"])
    assert sorted(order) == sorted(SERVICES)
    assert order[-3:] == ["sort", "train", "evaluate"]
    assert order.index("spark-master") < order.index("spark-worker-2")
    assert keep_running(SERVICES) == {"spark-master", "spark-worker-1", "spark-worker-2"}


def test_knobs_of_compose_have_defaults(monkeypatch):
    monkeypatch.delenv("RANKS", raising=False)
    assert interpolate("${RANKS:-2} $$part $${part}") == "2 $part ${part}"
    monkeypatch.setenv("RANKS", "8")
    assert interpolate("${RANKS:-2}") == "8"


def test_a_node_of_several_has_the_launchers_knobs():
    node = YAML(typ="safe").load(ROOT / "docker" / "compose.cuda.yaml")["services"]["node"]
    passed = {name for name in node["environment"] if not name.startswith(("NCCL_", "GLOO_"))}
    launcher = (ROOT / "launch" / "several_nodes.sh").read_text()
    taken = set(re.findall(r"\$\{([A-Z_]+):[-?+]", launcher))
    assert passed == {name for name in taken if not name.startswith("PET_")}
    comment = launcher.split("# Knobs;")[1].split("\nset -")[0]
    assert passed - set(re.findall(r"\b[A-Z_]+\b", comment)) == set()


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_each_service_of_ours_has_an_image_that_compose_builds(name):
    services = YAML(typ="safe").load(ROOT / "docker" / name)["services"]
    parts = {**SERVICES, **{key: {**SERVICES.get(key, {}), **services[key]} for key in services}}
    assert [key for key, service in parts.items() if "build" not in service] == []


@pytest.fixture
def entry(tmp_path):
    """Runs an entry script; what it starts prints its name and arguments, or fails."""
    for name in ("python", "java", "spark-submit"):
        text = f'#!/usr/bin/env bash\n[[ {name} != "${{FAILS:-}}" ]] || exit 3\n'
        (tmp_path / name).write_text(text + f'printf "%s\\n" {name} "$@"\n')
        (tmp_path / name).chmod(0o755)

    def run(script: str, *arguments: str, **environment: str):
        return subprocess.run(
            [ROOT / "docker" / script, *arguments],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("script", ["trainer_entry.sh", "spark_entry.sh"])
def test_an_image_checks_itself_before_it_becomes_its_command(entry, script):
    done = entry(script, "echo", "a  b")
    assert (done.returncode, done.stdout) == (0, "a  b\n")
    assert "check.py" in done.stderr
    assert "check.py" not in entry(script, "echo", CHECK="0").stderr
    failed = entry(script, "echo", "a", FAILS="python")
    assert (failed.returncode, failed.stdout) == (3, "")
    assert "check.py" in entry(script, CHECK="0").stderr  # without a command, it is all


def test_the_job_image_is_what_spark_on_kubernetes_starts(entry):
    driver = entry("spark_entry.sh", "driver", "--class", "C", SPARK_DRIVER_BIND_ADDRESS="10.0.0.3")
    assert driver.stdout.splitlines()[:3] == ["spark-submit", "--deploy-mode", "client"]
    assert "spark.driver.bindAddress=10.0.0.3" in driver.stdout.splitlines()
    assert driver.stdout.splitlines()[-2:] == ["--class", "C"]
    names = ("DRIVER_URL", "EXECUTOR_ID", "EXECUTOR_CORES", "APPLICATION_ID", "EXECUTOR_POD_IP")
    names += ("RESOURCE_PROFILE_ID", "EXECUTOR_POD_NAME")
    given = {f"SPARK_{name}": name.lower() for name in names}
    given |= {f"SPARK_JAVA_OPT_{i}": f"-Dn{i}=a b" for i in range(11)}
    given |= {"SPARK_EXECUTOR_MEMORY": "16384m", "SPARK_HOME": "/spark"}
    executor = entry("spark_entry.sh", "executor", **given).stdout.splitlines()
    assert executor[:13] == ["java", *(f"-Dn{i}=a b" for i in range(11)), "-Xms16384m"]
    assert executor[executor.index("--driver-url") + 1] == "driver_url"
    assert executor[executor.index("--podName") + 1] == "executor_pod_name"
    assert executor[executor.index("-cp") + 1].startswith("/spark/jars/*")


def test_tritons_helper_is_compiled_without_a_gpu(tmp_path):
    if not shutil.which("gcc") or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("needs gcc and Python's headers, as the image's builder has them")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "docker/build_triton_helper.py"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    (module,) = tmp_path.glob("*/cuda_utils.*.so")
    assert b"cuLaunchKernelEx" in module.read_bytes()
