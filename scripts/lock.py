"""Write requirements/constraints.txt: the versions that this environment holds.

    python scripts/lock.py

Public versions without their local part, so that one file serves CPU and CUDA packages.
"""

from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements" / "constraints.txt"
HEADER = """\
# The development environment's versions, written by `make lock`. Set-up installs these and no
# others; packages that are not named here (CUDA's own libraries) follow from torch's pins.
"""
NOT_LOCKED = {"sessionwise", "pip"}  # the project, and what its virtual environment came with


def installed() -> dict[str, str]:
    """Normalised name and public version of each distribution in this environment."""
    found = {dist.name.lower().replace("_", "-"): dist.version for dist in distributions()}
    return {name: found[name].partition("+")[0] for name in sorted(found.keys() - NOT_LOCKED)}


def main() -> None:
    """Write the file."""
    lines = [f"{name}=={version}\n" for name, version in installed().items()]
    LOCK.write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
