"""Compiles every kernel for the GPUs we know, without one, and fails on register spills.

    python scripts/compile_kernels.py [--arch 80 90 100] [--only NAME]

The launchers run as they do in training, but each launch only compiles: what is compiled here is
what would be launched. Registers, spills and shared memory are read from the machine code.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # read when the kernels are imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from kernels import jrc

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LABELS = (torch.int64, torch.float32, torch.bool)


class NoDevice:
    """Stands in for the CUDA driver: says for which GPU to compile."""

    def __init__(self, arch: int) -> None:
        self.target = GPUTarget("cuda", arch, 32)

    def get_current_target(self) -> GPUTarget:
        """The GPU to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """One per GPU, since Triton keeps compiled kernels by device."""
        return self.target.arch  # pyright: ignore[reportReturnType]  # an int for CUDA

    def get_current_stream(self, device: int) -> int:
        """No launch ever uses it."""
        return 0


def run_launchers() -> None:
    """Every launcher, over the types and options that give different machine code."""
    for floats in FLOATS:
        labels_types = LABELS if floats == torch.float32 else LABELS[:1]
        for labels_type in labels_types:
            for rows in (1000, 200_000):
                _run_jrc(floats, labels_type, rows)


def _run_jrc(floats: torch.dtype, labels_type: torch.dtype, rows: int) -> None:
    logits = [torch.zeros(rows, 2, dtype=floats)]
    labels = [torch.zeros(rows, dtype=labels_type)]
    offsets = torch.tensor([0, 3, rows])
    weights = [torch.ones(rows)]
    for contrast in ("opposite", "session"):
        for reduction, grads, weight in (
            ("mean", True, weights),
            ("sum", True, []),
            ("none", False, []),
        ):
            jrc.jrc_launch(
                logits, labels, offsets, weight, [0.5], [0.0], contrast, reduction, grads
            )
    jrc.jrc_launch(
        logits * 3, labels * 3, offsets, weights * 3, [0.5] * 3, [0.0] * 3, "opposite", "mean", True
    )


def usage(cubin: bytes) -> tuple[int, int, int]:
    """Registers, bytes of local memory per thread (spills) and of shared memory per block."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    numbers = {
        name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", text)
    }
    return numbers["REG"], numbers["STACK"] + numbers["LOCAL"], numbers["SHARED"]


def main() -> None:
    """Compiles, prints a table, exits with 1 if any kernel spills."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90, 100])
    arguments = parser.parse_args()
    compiled: dict[str, tuple[str, Any]] = {}
    original = JITFunction.run

    def only_compile(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = original(self, *args, grid=grid, warmup=True, **kwargs)
        compiled.setdefault(kernel.hash, (self.fn.__name__, kernel))
        return kernel

    JITFunction.run = only_compile
    spilled = 0
    for arch in arguments.arch:
        compiled.clear()
        triton.runtime.driver.set_active(NoDevice(arch))
        run_launchers()
        worst: dict[str, tuple[int, int, int, int]] = {}
        for name, kernel in compiled.values():
            registers, spills, _ = usage(kernel.asm["cubin"])
            shared = kernel.metadata.shared
            spilled += spills > 0
            count, *most = worst.get(name, (0, 0, 0, 0))
            worst[name] = (
                count + 1,
                *(max(pair) for pair in zip(most, (registers, spills, shared))),
            )
        for name, (count, registers, spills, shared) in worst.items():
            print(
                f"sm_{arch}  {name:<24} {count:>3} variants  {registers:>3} registers  "
                f"{spills:>3} B spilled  {shared:>6} B shared"
            )
    if spilled:
        sys.exit(f"{spilled} kernels spill registers; make their tiles smaller")


if __name__ == "__main__":
    main()
