"""Two machines under launch/several_nodes.sh; one goes and joins again; the end is always the same.

Where this process may make network namespaces, each machine is one, with a network between them;
elsewhere both are agents on 127.0.0.1.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.configs import TWO_TASKS
from tests.datasets import click_table, write_dataset
from tests.test_faults import assert_same_end, tensors
from tests.test_training import ROOT, report

PORT = "29477"
TIMEOUT_SECONDS = 120
EDITS = {
    "train_config.num_epochs": 2,
    "train_config.save_checkpoints_steps": 4,
    "train_config.log_step_count_steps": 1,
}


@dataclass(frozen=True)
class Machine:
    """Where an agent runs: a network namespace with an interface, or this machine's loopback."""

    address: str
    enter: list[str] = field(default_factory=list)
    interface: str = "lo"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Machine]]:
    names = [f"sessionwise-{os.getpid()}-{letter}" for letter in "ab"]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip(
            "link",
            "add",
            "veth0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "veth0",
            "netns",
            names[1],
        )
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no network namespaces here ({error}): both agents on 127.0.0.1")
        yield [Machine("127.0.0.1"), Machine("127.0.0.1")]
    else:
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.213.0.{number}/24", "dev", "veth0")
            ip("-n", name, "link", "set", "veth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [
            Machine(f"10.213.0.{number}", ["ip", "netns", "exec", name], "veth0")
            for number, name in enumerate(names, 1)
        ]
    finally:
        for name in made:
            ip("netns", "delete", name)


@contextmanager
def moved(machine: Machine, address: str) -> Iterator[None]:
    """The machine under another address: what it had connected is neither answered nor closed."""

    def change(old: str, new: str) -> None:
        here = "-n", machine.enter[-1], "address"
        ip(*here, "delete", f"{old}/24", "dev", machine.interface)
        ip(*here, "add", f"{new}/24", "dev", machine.interface)

    change(machine.address, address)
    try:
        yield
    finally:
        change(address, machine.address)


class Agent:
    """The launcher on one machine.

    Args:
        model: name of the model_dir.
        log: where its output goes.
        knobs: of the launcher.
    """

    def __init__(
        self,
        machines: list[Machine],
        number: int,
        folder: Path,
        model: str,
        log: Path,
        knobs: dict[str, str],
    ) -> None:
        machine = machines[number]
        environment = {
            **os.environ,
            **{"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "STEP_SECONDS": "0.05"},
            **{"MASTER_ADDR": machines[0].address, "MASTER_PORT": PORT, "NODES": "2"},
            **{"NODE_RANK": str(number), "RANKS_PER_NODE": "1", "LOST_SECONDS": "3"},
            **{"LOCAL_ADDR": machine.address, "NETWORK_INTERFACE": machine.interface},
            **knobs,
        }
        command = [*machine.enter, "bash", "launch/several_nodes.sh", *training(folder, model)]
        self.log, self.model_dir = log, folder / model
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*command, "--continue_train"], cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    def wait_for_checkpoint(self, step: int) -> None:
        """Until the checkpoint of a step has its name."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (self.model_dir / f"model.ckpt-{step}").exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def drain(self) -> None:
        """SIGTERM to the agent, as a cluster does before it takes the machine away."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the agent and to its ranks, as when the machine goes."""
        agent = self.process.pid
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        for pid in (agent, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """Wait for it; returns its exit status."""
        return self.process.wait(timeout=TIMEOUT_SECONDS)


def training(folder: Path, model: str) -> list[str]:
    """A launcher's arguments: the training of the two tasks, with steps that take a while."""
    return [
        "tests/faulty_train.py",
        *("--pipeline_config_path", str(folder / "pipeline.config")),
        *("--train_input_path", str(folder / "train")),
        *("--model_dir", str(folder / model)),
        *("--edit_config_json", json.dumps(EDITS)),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("nodes")
    write_dataset(path / "train", click_table(150, seed=1))
    (path / "pipeline.config").write_text(TWO_TASKS)
    return path


@pytest.fixture
def start(machines, folder) -> Iterator[Callable[..., Agent]]:
    """Starts the launcher on a machine, by number, for a model; ends it with the test."""
    agents = []

    def start_agent(number: int, model: str, **knobs: str) -> Agent:
        log = folder / f"{model}-{len(agents)}.log"
        agents.append(Agent(machines, number, folder, model, log, knobs))
        return agents[-1]

    yield start_agent
    for agent in agents:
        if agent.process.poll() is None:
            agent.kill()


@pytest.fixture(scope="module")
def whole(folder) -> dict:
    """All tensors at the end of an undisturbed run, two ranks on one machine."""
    command = ["bash", "launch/one_node.sh", *training(folder, "whole")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RANKS": "2"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tensors(folder / "whole")


@pytest.mark.long
def test_machines_that_die_and_join_again_change_nothing(start, folder, whole):
    first, second = start(0, "joined"), start(1, "joined")
    first.wait_for_checkpoint(4)
    second.kill()
    second = start(1, "joined")  # the other agent waits for it
    first.wait_for_checkpoint(12)
    first.kill()  # the rendezvous goes with it: all end, all start again
    assert second.end() == 1
    agents = start(0, "joined"), start(1, "joined")
    assert [agent.end() for agent in agents] == [0, 0], agents[0].log.read_text()
    joined, started_again = (
        [int(step) for step in re.findall(r"model.ckpt-(\d+) \(step", log.read_text())]
        for log in (first.log, agents[0].log)
    )
    assert len(joined) == len(started_again) == 1
    assert 4 <= joined[0] < 12 <= started_again[0] < 27
    assert_same_end(folder, "joined", whole)


@pytest.mark.long
def test_a_machine_that_is_drained_does_not_end_the_training(start, folder, whole):
    first, second = start(0, "drained"), start(1, "drained")
    first.wait_for_checkpoint(4)
    second.drain()
    assert second.end() == 1
    (stopped,) = re.findall(r"stopped by SIGTERM after step (\d+)", first.log.read_text())
    second = start(1, "drained")  # the other agent waits for it
    first.wait_for_checkpoint(12)
    first.drain()  # the rendezvous goes with it: all end, all start again
    assert [first.end(), second.end()] == [1, 1]
    agents = start(0, "drained"), start(1, "drained")
    assert [agent.end() for agent in agents] == [0, 0], agents[0].log.read_text()
    assert "ends with status 75" in first.log.read_text()
    assert f"model.ckpt-{stopped} (step" in first.log.read_text()
    assert_same_end(folder, "drained", whole)


@pytest.mark.long
def test_with_min_and_max_the_others_go_on_without_a_machine(start, folder, whole):
    knobs = {"NODES": "1:2", "LAST_CALL_SECONDS": "15"}
    first, second = start(0, "alone", **knobs), start(1, "alone", **knobs)
    first.wait_for_checkpoint(4)
    second.drain()
    assert (second.end(), first.end()) == (1, 0), first.log.read_text()
    assert re.findall(r"(\d) ranks", first.log.read_text()) == ["2", "1"]
    mine, theirs = (report(folder, model)["history"] for model in ("alone", "whole"))
    assert len(mine) == len(theirs)
    for entry, expected in zip(mine, theirs, strict=True):
        assert entry["losses"] == pytest.approx(expected["losses"], rel=1e-5), entry["step"]


@pytest.mark.long
def test_a_machine_that_is_gone_without_a_word_is_replaced(machines, start, folder, whole):
    if not machines[1].enter:
        pytest.skip("needs network namespaces: on one machine every connection is closed")
    first, second = start(0, "replaced"), start(1, "replaced")
    first.wait_for_checkpoint(4)
    with moved(machines[1], "10.213.0.3"):
        second.kill()
        second = start(1, "replaced", LOCAL_ADDR="10.213.0.3")
        # The other's rank waits in a collective: its agent kills it after 30 s.
        assert [first.end(), second.end()] == [0, 0], first.log.read_text()
    assert "forcefully exiting" in first.log.read_text()
    assert_same_end(folder, "replaced", whole)
