"""Latency of a served model: raw features of one user's candidates in, scores out.

    python benchmarks/bench_serving.py                             a model of its own making
    python benchmarks/bench_serving.py --device cuda --requests 1000

The model: 16 id features, 1,000,000 rows of 16 in all; 8 prices; a sequence of 50 items attended to
by the candidate (DIN); MLP 256-128-64. One request is in flight at a time, as a column per
feature: the user's columns as one value each where they may be, the candidates' as NumPy arrays.
Before it is timed, each table type's probabilities are held against FP32's. Writes
benchmarks/results/serving-DEVICE.json and prints a table.
"""

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from benchmarks.machine import cpu_name
from trainer.checkpoints.restore import Run
from trainer.config import parse_config
from trainer.export import export_model
from trainer.objective import Objective
from trainer.parallel import build_parallel
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.serving import Scorer, load_scorer
from trainer.serving.tables import DTYPES
from trainer.tasks import parse_tasks

CANDIDATES = (1, 100, 1000)
USER, ITEM, PRICES = 4, 12, 8
BUCKETS, HISTORY = 62_500, 50
WARM_UP = 20
MOST_ERROR = {"FP32": 0.0, "FP16": 1e-4, "INT8": 1e-2}  # of probabilities, of untrained tables


def model_config() -> EasyRecConfig:
    """The config of the measured model."""
    ids = [f"user_{number}" for number in range(USER)] + [f"item_{i}" for i in range(ITEM)]
    numbers = [f"price_{number}" for number in range(PRICES)]
    features = [
        f'feature_configs {{ id_feature {{ feature_name: "{name}" hash_bucket_size: {BUCKETS} '
        f"embedding_dim: 16 }} }}"
        for name in ids
    ]
    features += [f'feature_configs {{ raw_feature {{ feature_name: "{n}" }} }}' for n in numbers]
    names = " ".join(f'feature_names: "{name}"' for name in ids + numbers)
    return parse_config(f"""
train_config {{ sparse_optimizer {{ sgd_optimizer {{ lr: 0.1 }} constant_learning_rate {{}} }}
               dense_optimizer {{ sgd_optimizer {{ lr: 0.1 }} constant_learning_rate {{}} }} }}
data_config {{ batch_size: 64 dataset_type: ParquetDataset fg_mode: FG_NORMAL
               label_fields: "click" }}
{" ".join(features)}
feature_configs {{ sequence_id_feature {{ feature_name: "history" embedding_name: "item_0_emb"
    hash_bucket_size: {BUCKETS} embedding_dim: 16 sequence_length: {HISTORY} }} }}
model_config {{
    feature_groups {{ group_name: "all" {names} group_type: DEEP }}
    feature_groups {{ group_name: "seq" feature_names: "item_0" feature_names: "history"
                     group_type: SEQUENCE }}
    multi_tower_din {{
        towers {{ input: "all" mlp {{ hidden_units: [256, 128] }} }}
        din_towers {{ input: "seq" attn_mlp {{ hidden_units: [32] }} }}
        final {{ hidden_units: [64] }}
    }}
    num_class: 2
    losses {{ jrc_loss {{ session_name: "session_id" }} }}
}}
""")


def write_checkpoint(config: EasyRecConfig, folder: Path) -> Run:
    """The model before training, as a checkpoint."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model, _ = build_parallel(config, parse_tasks(config), torch.device("cpu"))
    dcp.save({"model": model.state_dict()}, checkpoint_id=str(folder))
    assert isinstance(model.module, Objective)
    dist.destroy_process_group()
    return Run(config, folder)


def request(num_candidates: int, random: np.random.Generator) -> dict[str, Any]:
    """Raw features of one user and so many candidates."""
    user: dict[str, Any] = {f"user_{n}": int(random.integers(1 << 40)) for n in range(USER)}
    item = {f"item_{n}": random.integers(1 << 40, size=num_candidates) for n in range(ITEM)}
    prices = {f"price_{n}": random.random(num_candidates) for n in range(PRICES)}
    history = random.integers(1 << 40, size=HISTORY).tolist()
    return user | item | prices | {"history": [history] * num_candidates}


def measure(scorer: Scorer, num_candidates: int, num_requests: int) -> list[float]:
    """Milliseconds of each request, all of them different."""
    random = np.random.default_rng(0)
    milliseconds = []
    for number in range(WARM_UP + num_requests):
        features = request(num_candidates, random)
        started = time.perf_counter()
        scorer.score(features)
        if number >= WARM_UP:
            milliseconds.append(1e3 * (time.perf_counter() - started))
    return milliseconds


def check(scorer: Scorer, exact: Scorer, dtype: str) -> float:
    """The largest difference of a probability. Raises RuntimeError above what the type may have."""
    features = request(1000, np.random.default_rng(1))
    error = np.abs(scorer.score(features)["probs1"] - exact.score(features)["probs1"]).max()
    if not error <= MOST_ERROR[dtype]:
        raise RuntimeError(f"{dtype} changes a probability by {error:.2g}")
    return float(error)


def measure_all(folder: Path, device: str, num_requests: int) -> list[dict[str, Any]]:
    """Export, check and time every table type with every number of candidates."""
    run = write_checkpoint(model_config(), folder / "checkpoint")
    for dtype in DTYPES:
        export_model(run, folder / dtype, dtype, [])
    exact = load_scorer(folder / "FP32", device)
    results = []
    for dtype in DTYPES:
        scorer = load_scorer(folder / dtype, device)
        error = check(scorer, exact, dtype)
        size = sum(file.stat().st_size for file in (folder / dtype / "tables").iterdir())
        for num_candidates in CANDIDATES:
            times = measure(scorer, num_candidates, num_requests)
            cuts = statistics.quantiles(times, n=100, method="inclusive")
            results.append(
                {
                    "tables": dtype,
                    "table_mib": round(size / 2**20),
                    "candidates": num_candidates,
                    "largest_change_of_a_probability": error,
                    **{f"p{p}_ms": round(cuts[p - 1], 3) for p in (20, 50, 80, 99)},
                }
            )
            print(table_line(results[-1]), flush=True)
    return results


def table_line(result: dict[str, Any]) -> str:
    """A result as a line of docs/export.md's table."""
    return (
        f"| {result['tables']} | {result['table_mib']} | {result['candidates']:,} "
        f"| {result['p50_ms']:.2f} | {result['p99_ms']:.2f} "
        f"| {result['largest_change_of_a_probability']:.1e} |"
    )


def main() -> None:
    """Measure, print a table, and record it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--requests", type=int, default=300, help="timed ones, per line")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| tables | MiB | candidates | p50 ms | p99 ms | largest change of a probability |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        results = measure_all(Path(folder), args.device, args.requests)
    record = {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else cpu_name(),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "torch": torch.__version__,
        "requests": args.requests,
        "results": results,
    }
    path = Path(__file__).resolve().parent / "results" / f"serving-{args.device}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
