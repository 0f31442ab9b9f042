"""Compiles every kernel for the GPUs we know, without one, and fails on register spills.

    python scripts/compile_kernels.py [--arch 80 90 100]

The launchers run as they do in training, but each launch only compiles: what is compiled here is
what would be launched. Registers and spills are read from the machine code.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.pop("TRITON_INTERPRET", None)  # read when the kernels are imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from kernels.jrc import LARGE_BATCH, jrc_launch
from kernels.pointwise import pointwise_launch

SMALL, LARGE = 1000, LARGE_BATCH + 1


class NoDevice:
    """Stands in for the CUDA driver: says for which GPU to compile."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        """The GPU to compile for."""
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        """Triton keeps compiled kernels by device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Asked for before a launch; there is none."""
        return device


class Usage(NamedTuple):
    """What a kernel takes: registers of a thread, and instructions that spill and refill them."""

    kernel: str
    registers: int
    spills: int


def run_launchers() -> None:
    """Every kernel, over the types and options that give different machine code."""
    floats = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    for dtype, contrast in itertools.product(floats, ("opposite", "session")):
        _launch_jrc(LARGE, dtype, torch.int64, contrast, "mean")
    for contrast, reduction in itertools.product(("opposite", "session"), ("sum", "none")):
        _launch_jrc(SMALL, torch.float32, torch.int64, contrast, reduction)
    for label_type in (torch.float32, torch.bool):
        _launch_jrc(SMALL, torch.float32, label_type, "opposite", "sum")
    _launch_jrc(LARGE, torch.float32, torch.int64, "opposite", "sum", num_tasks=4)

    losses = (("binary_cross_entropy", 1), ("binary_cross_entropy", 2), ("binary_focal", 1))
    losses += (("l2", 1), ("softmax", 2), ("softmax", 100), ("softmax", 5000))
    for kind, columns in losses:
        for rows, dtype in (
            (SMALL, torch.float32),
            (LARGE, torch.bfloat16),
            (SMALL, torch.float64),
        ):
            rows = min(rows, LARGE // columns)
            logits = torch.zeros(rows, columns, dtype=dtype)
            labels, weight = torch.zeros(rows, dtype=torch.int64), torch.ones(rows)
            pointwise_launch(logits, labels, weight, kind, [0.1, 0.2], "mean", True)


def _launch_jrc(
    rows: int, dtype: torch.dtype, label_type: torch.dtype, contrast: str, reduction: str,
    num_tasks: int = 1,
) -> None:  # fmt: skip
    logits = [torch.zeros(rows, 2, dtype=dtype)] * num_tasks
    labels = [torch.zeros(rows, dtype=label_type)] * num_tasks
    weights = [torch.ones(rows)] * num_tasks if reduction == "mean" else []
    numbers = [0.5] * num_tasks
    jrc_launch(
        logits, labels, torch.tensor([0, 3, rows]), weights, numbers, numbers, contrast, reduction,
        reduction != "none",
    )  # fmt: skip


def compile_all(arch: int) -> list[Usage]:
    """Compiles what `run_launchers` launches."""
    kernels: dict[str, tuple[str, Any]] = {}
    launch = JITFunction.run

    def only_compile(self: Any, *args: Any, **options: Any) -> Any:
        kernel: Any = launch(self, *args, **(options | {"warmup": True}))
        kernels.setdefault(kernel.hash, (self.fn.__name__, kernel))
        return kernel

    JITFunction.run = only_compile
    triton.runtime.driver.set_active(NoDevice(arch))  # pyright: ignore[reportArgumentType]
    run_launchers()
    return [usage(name, kernel.asm["cubin"]) for name, kernel in kernels.values()]


def usage(name: str, cubin: bytes) -> Usage:
    """Reads the machine code."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", "-sass", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    registers = re.search(r"REG:(\d+)", text)
    assert registers is not None
    # Stores to and loads from local memory; these kernels have no local arrays.
    return Usage(name, int(registers[1]), len(re.findall(r"\b(?:STL|LDL)\b", text)))


def table(arch: int, usages: list[Usage]) -> Iterator[str]:
    """A line for each kernel: its number of variants and the most that any of them takes."""
    for name in sorted({each.kernel for each in usages}):
        found = [each for each in usages if each.kernel == name]
        registers = max(each.registers for each in found)
        spills = max(each.spills for each in found)
        yield (
            f"sm_{arch:<4} {name:<18} {len(found):>3} variants  {registers:>3} registers  "
            f"{spills:>3} spills"
        )


def main() -> None:
    """Compiles, prints a table, exits with 1 if any kernel spills."""
    parser = argparse.ArgumentParser(description="Compiles every kernel; fails on register spills.")
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90, 100])
    archs = parser.parse_args().arch
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = dict(zip(archs, pool.map(compile_all, archs), strict=True))
    for arch, usages in results.items():
        print(*table(arch, usages), sep="\n")
    spilled = sum(each.spills > 0 for usages in results.values() for each in usages)
    if spilled:
        sys.exit(f"{spilled} kernels spill registers; make their tiles smaller")


if __name__ == "__main__":
    main()
