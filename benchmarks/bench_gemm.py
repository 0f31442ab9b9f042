"""Matrix products of a step on one core: PyTorch's (MKL) and NumPy's (OpenBLAS), billions a second.

    OMP_NUM_THREADS=1 python -m benchmarks.bench_gemm --output_path benchmarks/results/gemm-cpu.json

The shapes are those of bench_train.py's model at batch 4,096: per layer the output, the gradient of
its input and that of its weight. Libraries take turns. `best` is the fastest of all repetitions:
what the core can do; the medians are what it does on average. Gate: both give the same product.
`bound` is the samples a second of a step that did nothing but its products, at each library's
median speeds, with (`split`) and without computing a session's features once.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import cpu_name
from benchmarks.taobao_data import ID_COLUMNS, MEAN_SESSION_ROWS, USER_COLUMNS
from trainer.models.linear import openblas_product

ROWS = 4096
WIDTH = 16  # of an embedding
# Input and output width of a layer, and how often the model has it, beyond the first.
LAYERS = {(512, 256): 2, (256, 128): 2, (128, 64): 3}
FIRST = 512  # output width of the first layer


def products(rows: int, width_in: int, width_out: int) -> dict[str, tuple[torch.Tensor, ...]]:
    """The factors of a layer's three products."""
    x, w = torch.randn(rows, width_in), torch.randn(width_out, width_in)
    g = torch.randn(rows, width_out)
    return {"output": (x, w.t()), "input gradient": (g, w), "weight gradient": (g.t(), x)}


def time_layer(rows: int, width_in: int, width_out: int, repeat: int) -> dict[str, Any]:
    """Billions of floating-point operations a second of each product and library."""
    operations = 2 * rows * width_in * width_out / 1e9
    found: dict[str, Any] = {}
    for name, (left, right) in products(rows, width_in, width_out).items():
        out = torch.empty(left.shape[0], right.shape[1])
        libraries: dict[str, Callable[[], Any]] = {
            "mkl": lambda left=left, right=right, out=out: torch.mm(left, right, out=out),
            "openblas": lambda left=left, right=right: openblas_product(left, right),
        }
        torch.testing.assert_close(libraries["openblas"](), libraries["mkl"](), rtol=0, atol=1e-2)
        seconds: dict[str, list[float]] = {library: [] for library in libraries}
        for _ in range(repeat):
            for library, multiply in libraries.items():
                started = time.perf_counter()
                multiply()
                seconds[library].append(time.perf_counter() - started)
        found[name] = {
            library: {
                "median": round(operations / float(np.median(each)), 1),
                "best": round(operations / min(each), 1),
            }
            for library, each in seconds.items()
        }
    return found


def main() -> None:
    """Time all layers, derive the bounds, write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_path", type=Path, help="JSON with the results")
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    torch.manual_seed(0)
    of_row, of_session = len(ID_COLUMNS) - len(USER_COLUMNS), len(USER_COLUMNS)
    num_sessions = ROWS // MEAN_SESSION_ROWS
    # Rows, input and output width -> how often, of a step without and with the split.
    plain = {(ROWS, *widths): times for widths, times in LAYERS.items()}
    plain[ROWS, WIDTH * len(ID_COLUMNS), FIRST] = 1
    split = {(ROWS, *widths): times for widths, times in LAYERS.items()}
    split |= {(ROWS, WIDTH * of_row, FIRST): 1, (num_sessions, WIDTH * of_session, FIRST): 1}
    speeds = {shape: time_layer(*shape, options.repeat) for shape in plain | split}
    results: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {cpu_name()}",
        "threads": torch.get_num_threads(),
        "gflops": {" x ".join(map(str, shape)): each for shape, each in speeds.items()},
        "bound": {},
    }
    for name, shapes in (("plain", plain), ("split", split)):
        for library in ("mkl", "openblas"):
            seconds = sum(
                times * 2 * np.prod(shape) / 1e9 / each[library]["median"]
                for shape, times in shapes.items()
                for each in speeds[shape].values()
            )
            results["bound"][f"{name} {library}"] = round(ROWS / seconds)
    print(json.dumps(results, indent=2))
    if options.output_path:
        options.output_path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
