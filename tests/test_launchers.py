"""What the launchers hand to torchrun, and the manifests; several machines: test_multi_node.py."""

import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig

from launch.kubernetes.render import render
from scripts.validate_kubernetes import documents, strict
from tests.test_training import ROOT

SCRIPTS = sorted(
    path
    for folder in ("launch", "docker", "examples", "scripts")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".sh", ".sbatch")
)
SAYS = '#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder whose programs are found first, with a torchrun that prints its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    add_program(folder, "torchrun", SAYS)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("NODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RANKS", "RANKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def add_program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def bash(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def arguments(*command: str, **environment: str) -> list[str]:
    """What a script gives to torchrun."""
    done = bash(*command, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_shellcheck_finds_nothing():
    assert len(SCRIPTS) > 5
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "-x", "-S", "warning", *SCRIPTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("gpus", "knobs", "ranks"),
    [(0, {}, "1"), (4, {}, "4"), (4, {"RANKS": "2"}, "2")],
    ids=["no gpu", "gpus", "stated"],
)
def test_one_node_runs_a_rank_per_gpu(programs, gpus, knobs, ranks):
    add_program(programs, "nvidia-smi", "#!/bin/sh\n" + "echo GPU\n" * gpus)
    found = arguments("launch/one_node.sh", "launch/train.py", "--model_dir", "a b", **knobs)
    expected = ["--standalone", "--max-restarts=3", f"--nproc-per-node={ranks}"]
    assert found == [*expected, "launch/train.py", "--model_dir", "a b"]


# Like torchrun: a rank, which is started again when it fails; SIGTERM ends both, with 1.
AGENT = """#!/usr/bin/env bash
trap 'kill -KILL $rank; echo agent ended; exit 1' TERM
for attempt in 0 1; do
    bash -c "$1" & rank=$!
    wait $rank && exit 0
done
exit 1
"""


@pytest.mark.parametrize(
    ("rank", "seconds", "status"),
    [
        ("trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done", "60", 0),
        ("echo ready; exec sleep 60", "60", 1),
        ("trap '' TERM; echo ready; while :; do sleep 0.1; done", "1", 1),
    ],
    ids=["saves", "dies", "hangs"],
)
def test_sigterm_to_one_node_goes_to_the_ranks_and_then_to_torchrun(
    programs, rank, seconds, status
):
    add_program(programs, "torchrun", AGENT.replace("$1", rank))
    environment = {**os.environ, "SAVE_SECONDS": seconds}
    command = ["bash", "launch/one_node.sh", "launch/train.py"]
    done = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None and done.stdout.readline() == "ready\n"
    done.terminate()
    said, _ = done.communicate(timeout=30)
    assert done.returncode == status
    assert ("saved" in said) == (status == 0)
    assert ("agent ended" in said) == (status == 1)


def test_sigterm_to_one_node_before_there_is_a_rank_ends_torchrun(programs):
    add_program(programs, "torchrun", "#!/bin/sh\necho ready\nexec sleep 60\n")
    command = ["bash", "launch/one_node.sh", "launch/train.py"]
    done = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None and done.stdout.readline() == "ready\n"
    done.terminate()
    assert done.wait(timeout=30) == 128 + 15


@pytest.mark.parametrize(
    ("has_torchrec", "knobs", "status"),
    [(True, {}, 0), (False, {}, 1), (False, {"WITHOUT_TORCHREC": "1"}, 0)],
    ids=["all", "nothing said", "allowed"],
)
def test_the_gpu_check_fails_where_it_cannot_train(programs, has_torchrec, knobs, status):
    python = f'case "$*" in *"import torchrec") exit {int(not has_torchrec)};; esac; echo "$@"'
    for name, text in (("nvidia-smi", "echo GPU"), ("python3", python), ("timeout", 'shift; "$@"')):
        add_program(programs, name, f"#!/bin/sh\n{text}\n")
    done = bash("scripts/gpu_check.sh", **knobs)
    assert done.returncode == status
    assert ("tests/test_gpu_training.py" in done.stdout) == has_torchrec
    assert "benchmarks/bench_losses.py" in done.stdout
    assert ("error: torchrec cannot be imported" in done.stderr) == (status == 1)


def test_several_nodes_hand_over_the_knobs(programs):
    knobs = {
        "MASTER_ADDR": "node-a",
        "NODES": "1:4",
        "LOST_SECONDS": "30",
        "LOCAL_ADDR": "10.0.0.7",
    }
    flags = arguments("launch/several_nodes.sh", "launch/train.py", NODE_RANK="2", **knobs)
    assert "--rdzv-endpoint=node-a:29400" in flags
    assert "--nnodes=1:4" in flags
    assert "--local-addr=10.0.0.7" in flags
    (conf,) = (flag for flag in flags if flag.startswith("--rdzv-conf="))
    assert {"is_host=false", "keep_alive_interval=10"} < set(conf.split("=", 1)[1].split(","))
    assert "--max-restarts=10" in flags
    assert flags[-1] == "launch/train.py"


@pytest.mark.parametrize(("knobs", "seconds"), [({}, "270"), ({"SAVE_SECONDS": "900"}, "900")])
@pytest.mark.parametrize("script", ["one_node.sh", "several_nodes.sh"])
def test_torchrun_gives_ranks_the_time_to_save(programs, script, knobs, seconds):
    add_program(programs, "torchrun", '#!/bin/sh\necho "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT"\n')
    knobs |= {"MASTER_ADDR": "node-a", "NODE_RANK": "0"}
    assert arguments(f"launch/{script}", "launch/train.py", **knobs) == [seconds]


@pytest.mark.skipif(torch.__version__ < "2.12", reason="there torchrun always gives 30 s")
def test_torchrun_reads_the_time_to_save(monkeypatch):
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "270")
    assert LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1).shutdown_timeout == 270


def test_several_nodes_take_what_kubeflow_says(programs):
    says = {"ADDR": "job-node-0-0.job", "PORT": "29500"}
    knobs = {f"PET_MASTER_{name}": value for name, value in says.items()}
    knobs |= {"PET_NNODES": "3", "PET_NODE_RANK": "0", "PET_NPROC_PER_NODE": "8"}
    flags = arguments("launch/several_nodes.sh", "launch/train.py", **knobs)
    expected = {"--rdzv-endpoint=job-node-0-0.job:29500", "--nnodes=3", "--nproc-per-node=8"}
    assert expected < set(flags)
    assert "is_host=true" in next(flag for flag in flags if flag.startswith("--rdzv-conf="))


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "NODE_RANK"])
def test_several_nodes_ask_for_what_has_no_default(programs, missing):
    knobs = {name: "0" for name in ("MASTER_ADDR", "NODE_RANK") if name != missing}
    done = bash("launch/several_nodes.sh", "launch/train.py", **knobs)
    assert done.returncode == 1
    assert f"or {missing} must" in done.stderr


@pytest.mark.parametrize("script", ["one_node.sh", "several_nodes.sh"])
def test_without_a_command_launchers_say_how(programs, script):
    done = bash(f"launch/{script}")
    assert done.returncode == 2
    assert "usage:" in done.stderr


@pytest.fixture
def slurm(programs) -> dict[str, str]:
    """The environment of a job on two nodes, whose srun says its flags."""
    add_program(programs, "scontrol", "#!/bin/sh\necho node-7\necho node-9\n")
    # Like Slurm's: after its own flags, the command on each node, which knows its number.
    add_program(
        programs,
        "srun",
        '#!/usr/bin/env bash\nwhile [[ $1 != bash ]]; do echo "srun $1"; shift; done\n'
        'for i in 0 1; do SLURM_NODEID=$i "$@" || exit; done\n',
    )
    return {
        **{"SLURM_JOB_NODELIST": "node-[7,9]", "SLURM_JOB_NUM_NODES": "2"},
        **{"SLURM_JOB_ID": "70123", "SLURM_CPUS_PER_TASK": "64"},
    }


@pytest.mark.parametrize("image", ["", "registry/trainer:1"])
def test_slurm_starts_an_agent_on_each_node(slurm, image):
    command = "launch/slurm/train.sbatch", "launch/train.py", "--model_dir", "/data/a b"
    said = arguments(*command, VENV="no-such", IMAGE=image, **slurm)
    assert said.count("--rdzv-endpoint=node-7:20123") == 2
    assert said.count("--rdzv-id=70123") == said.count("--nnodes=2") == 2
    assert [line.split(",")[0] for line in said if "is_host" in line] == [
        "--rdzv-conf=is_host=true",
        "--rdzv-conf=is_host=false",
    ]
    assert said.count("/data/a b") == 2
    assert "srun --cpus-per-task=64" in said
    assert (f"srun --container-image={image}" in said) == bool(image)


@pytest.mark.parametrize("is_absolute", [True, False], ids=["absolute", "relative"])
def test_slurm_takes_the_environment_that_venv_names(slurm, tmp_path, is_absolute):
    (tmp_path / "environment" / "bin").mkdir(parents=True)
    add_program(
        tmp_path / "environment" / "bin", "torchrun", "#!/bin/sh\necho of the environment\n"
    )
    folder = tmp_path / "environment"
    slurm["VENV"] = str(folder if is_absolute else os.path.relpath(folder, ROOT))
    said = arguments("launch/slurm/train.sbatch", "launch/train.py", **slurm)
    assert said.count("of the environment") == 2


def test_manifests_are_what_kubernetes_takes(monkeypatch):
    command = [sys.executable, "scripts/validate_kubernetes.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GPUS": "4"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "its job is valid" in done.stdout


def test_manifests_take_their_knobs(monkeypatch):
    monkeypatch.setenv("NODES", "4")
    monkeypatch.setenv("EXECUTORS", "64")
    by_kind = {document["kind"]: document for document in documents()}
    assert by_kind["TrainJob"]["spec"]["trainer"]["numNodes"] == 4
    assert by_kind["SparkApplication"]["spec"]["executor"]["instances"] == 64
    assert "$" not in render("train")


def test_a_field_that_a_custom_kind_does_not_name_is_refused():
    names = {"type": "object", "properties": {"nodes": {"type": "integer"}}}
    schema = strict({"type": "object", "properties": {"spec": names}})
    jsonschema.validate({"metadata": {"name": "a"}, "spec": {"nodes": 2}}, schema)
    with pytest.raises(jsonschema.ValidationError, match="'node' was unexpected"):
        jsonschema.validate({"metadata": {"name": "a"}, "spec": {"node": 2}}, schema)
