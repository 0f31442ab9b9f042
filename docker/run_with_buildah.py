"""Run the services of compose.yaml in their order, without a container engine.

For images of docker/build_with_buildah.sh; needs root, like that. Containers are mere chroots here:
they share the machine's network and memory, so that limits and devices of the services are not
tested; their images, commands, environment, volumes, healthchecks and order are.

    python docker/run_with_buildah.py                 # `evaluate`, with all that comes before it
    python docker/run_with_buildah.py --data data spark-master sort
"""

import argparse
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

COMPOSE = Path(__file__).with_name("compose.yaml")
STORAGE = Path(os.environ.get("STORAGE", "/var/tmp/sessionwise-images"))
BUILDAH = ["buildah", "--root", str(STORAGE / "root"), "--runroot", str(STORAGE / "run")]
IMAGE_UID = 1000  # of the images' user
HEALTHY_SECONDS = 120
# Executors under one address look for each other's shuffle files in their own /tmp.
TEMPORARY = STORAGE / "tmp"


def interpolate(text: str) -> str:
    """Compose's `${NAME:-default}` and `$$`."""

    def value(found: re.Match[str]) -> str:
        return os.environ.get(found[1]) or found[2] if found[1] else "$"

    return re.sub(r"\$\{(\w+):-([^}]*)\}|\$\$", value, text)


def read_services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, by name."""
    return YAML(typ="safe").load(interpolate(COMPOSE.read_text()))["services"]


def in_order(services: dict[str, dict[str, Any]], last: list[str]) -> list[str]:
    """The services that `last` need, and these, each after what it depends on."""
    order: list[str] = []
    for name in last:
        needed = in_order(services, list(services[name].get("depends_on", {})))
        order += [each for each in [*needed, name] if each not in order]
    return order


def keep_running(services: dict[str, dict[str, Any]]) -> set[str]:
    """Services that others need while they run, not when they have ended."""
    found = set()
    for service in services.values():
        for name, needed in service.get("depends_on", {}).items():
            if needed["condition"] != "service_completed_successfully":
                found.add(name)
    return found


def buildah(*arguments: str) -> str:
    """Run buildah; returns what it prints."""
    done = subprocess.run([*BUILDAH, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


class Container:
    """A service in a container of its own, which is running.

    Args:
        service: of compose.yaml.
        data: folder that it sees as /data.
        hosts: names that mean this machine.
    """

    def __init__(self, service: dict[str, Any], data: Path, hosts: list[str]) -> None:
        resolved = [f"--add-host={host}:127.0.0.1" for host in hosts]
        self._name = buildah("from", *resolved, service["image"])
        flags = [f"--env={key}={value}" for key, value in service.get("environment", {}).items()]
        flags += [
            f"--volume={data}:/data",
            f"--volume={TEMPORARY}:/tmp",
            f"--hostname={service.get('hostname', 'localhost')}",
        ]
        self._run = [*BUILDAH, "run", "--isolation=chroot", *flags, self._name, "--"]
        entry = json.loads(buildah("inspect", self._name))["OCIv1"]["config"]["Entrypoint"]
        command = service["command"]
        words = command.split() if isinstance(command, str) else command
        self.process = subprocess.Popen([*self._run, *entry, *words])

    def wait_until_healthy(self, check: dict[str, Any]) -> None:
        """Repeat a service's healthcheck until it succeeds."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while subprocess.run(
            [*self._run, *check["test"][1:]], stderr=subprocess.DEVNULL
        ).returncode:
            if time.monotonic() > deadline:
                raise SystemExit(f"not healthy after {HEALTHY_SECONDS} s: {check['test']}")
            time.sleep(1)

    def end(self) -> int:
        """Wait for its end; returns its exit status."""
        status = self.process.wait()
        buildah("rm", self._name)
        return status


def main() -> None:
    """Run; ends with the status of the first service that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("services", nargs="*", default=["evaluate"], help="default: evaluate")
    parser.add_argument("--data", type=Path, default=Path("data"), help="default: data")
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    for folder in (args.data, TEMPORARY):
        os.chown(folder, IMAGE_UID, IMAGE_UID)
    services = read_services()
    hosts = [service["hostname"] for service in services.values() if "hostname" in service]
    daemons: list[Container] = []
    try:
        for name in in_order(services, args.services):
            print(f"== {name}", flush=True)
            begun = time.monotonic()
            container = Container(services[name], args.data.absolute(), hosts)
            if name in keep_running(services):
                daemons.append(container)
                if check := services[name].get("healthcheck"):
                    container.wait_until_healthy(check)
            elif status := container.end():
                raise SystemExit(f"{name} has failed with status {status}")
            print(f"== {name}: {time.monotonic() - begun:.0f} s", flush=True)
    finally:
        for container in reversed(daemons):
            container.process.terminate()
            container.end()


if __name__ == "__main__":
    main()
