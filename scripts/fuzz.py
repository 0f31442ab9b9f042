"""Fuzz the readers of tests/fuzz/targets.py for a time each; record what was done.

    python scripts/fuzz.py --seconds 600 [--only manifest] [--output benchmarks/results/fuzz.json]

Hypothesis makes the inputs, from a new random seed each round. An exception that a reader does not
document ends the run with the smallest input that raises it.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, seed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `tests` is not installed

from tests.fuzz.targets import TARGETS, Target, fuzz_settings

EXAMPLES_PER_ROUND = 500


def one_round(target: Target, counts: dict[str, int]) -> Callable[[], None]:
    """A test of new random inputs, which adds to `counts`."""

    @seed(random.getrandbits(64))
    @fuzz_settings(max_examples=EXAMPLES_PER_ROUND, derandomize=False)
    @given(target.inputs)
    def run(data: bytes) -> None:
        counts["refused"] += not target.run(data)
        counts["inputs"] += 1

    return run


def fuzz(target: Target, seconds: float) -> dict[str, int]:
    """Rounds until the time is over; returns how many inputs there were, and how many refused."""
    counts = {"inputs": 0, "refused": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        one_round(target, counts)()
    return counts


def record(path: Path, name: str, seconds: float, counts: dict[str, int]) -> None:
    """Add a target's run to what the file has of it."""
    runs = json.loads(path.read_text()) if path.exists() else {}
    found = {"seconds": round(seconds), **counts}
    before = runs.get(name, {})
    total = {key: before.get(key, 0) + value for key, value in found.items()}
    runs[name] = {"last": f"{datetime.now(UTC):%Y-%m-%d}", **total}
    path.write_text(json.dumps(runs, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Fuzz the targets one after the other."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of untrusted input.")
    parser.add_argument("--seconds", type=float, default=600, help="per target; default: 600")
    parser.add_argument("--only", choices=TARGETS, action="append", help="default: all targets")
    parser.add_argument("--output", type=Path, help="a JSON file to add the runs to")
    args = parser.parse_args()
    for name in args.only or TARGETS:
        start = time.monotonic()
        counts = fuzz(TARGETS[name], args.seconds)
        seconds = time.monotonic() - start
        print(
            f"{name:<10} {counts['inputs']:>9,} inputs in {seconds:.0f} s, "
            f"{counts['refused']:,} refused as documented, no other error",
            flush=True,
        )
        if args.output:
            record(args.output, name, seconds, counts)


if __name__ == "__main__":
    main()
