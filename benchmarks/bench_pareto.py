"""What PE-MTL costs: time of a training step with it, in both modes, against a step without.

    .venv/bin/torchrun --nproc_per_node=2 benchmarks/bench_pareto.py

Two ranks on the CPU (gloo), 1 minute on two free cores. The model is a DBMTL with sharded tables
and JRC in each tower; batches are made up. Gate first: both ranks must hold the same weights, with
a sum of 1. The modes take turns, so that a noisy neighbour hits all alike; CPU time
hardly feels one. Writes benchmarks/results/pareto-cpu.json and prints a table.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torchrec import KeyedJaggedTensor

from trainer.config import parse_config
from trainer.data.batch import SessionBatch
from trainer.parallel import build_parallel
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import parse_tasks

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "pareto-cpu.json"
FEATURES, WIDTH, IDS = 16, 16, 100_000
MODES = {
    "off": "",
    "parameters": "use_pareto_loss_weight: true",
    "representation": "use_pareto_loss_weight: true pareto_gradient: SHARED_REPRESENTATION",
}


def config_of(num_tasks: int, mode: str) -> EasyRecConfig:
    """A DBMTL: 16 tables of 100,000 x 16, bottom MLP 512-256, towers 128-64."""
    names = [f"f{number}" for number in range(FEATURES)]
    features = "".join(
        f"feature_configs {{ id_feature {{ feature_name: {name} num_buckets: {IDS} "
        f"embedding_dim: {WIDTH} }} }}\n"
        for name in names
    )
    group = " ".join(f"feature_names: {name}" for name in names)
    labels = "".join(f"label_fields: label{task} " for task in range(num_tasks))
    towers = "".join(
        f"task_towers {{ tower_name: task{task} label_name: label{task} num_class: 2 "
        f"mlp {{ hidden_units: [128, 64] }} losses {{ jrc_loss {{ session_name: s }} }} }}\n"
        for task in range(num_tasks)
    )
    return parse_config(
        f"""train_config {{
            sparse_optimizer {{ adagrad_optimizer {{ lr: 0.01 }} constant_learning_rate {{}} }}
            dense_optimizer {{ adam_optimizer {{ lr: 0.001 }} constant_learning_rate {{}} }}
        }}
        data_config {{ {labels} }}
        {features}
        model_config {{
            feature_groups {{ group_name: all {group} }}
            dbmtl {{ bottom_mlp {{ hidden_units: [512, 256] }} {towers} }}
            {MODES[mode]}
        }}"""
    )


def make_batch(rows: int, num_tasks: int, rank: int, world: int) -> SessionBatch:
    """Random ids and labels in sessions of 10 rows; each rank its own."""
    generator = torch.Generator().manual_seed(rank)
    ids = torch.randint(0, IDS, (FEATURES * rows,), generator=generator)
    labels = {
        f"label{task}": (torch.rand(rows, generator=generator) < 0.1).long()
        for task in range(num_tasks)
    }
    offsets = torch.tensor([*range(0, rows, 10), rows])
    cursor: Any = None  # in no plan
    return SessionBatch(
        ids=KeyedJaggedTensor(
            [f"f{number}" for number in range(FEATURES)],
            ids,
            lengths=torch.ones(FEATURES * rows, dtype=torch.int32),
        ),
        dense=torch.empty(rows, 0),
        labels=labels,
        weights={},
        groups={},
        session_offsets=offsets,
        sessions=torch.arange(len(offsets) - 1),
        global_rows=rows * world,
        cursor=cursor,
    )


class Step:
    """A training step of one mode, timed."""

    def __init__(self, num_tasks: int, mode: str) -> None:
        config = config_of(num_tasks, mode)
        self.model, self.optimizer = build_parallel(
            config, parse_tasks(config), torch.device("cpu")
        )
        self.wall: list[float] = []  # milliseconds
        self.cpu: list[float] = []  # of this process

    def __call__(self, batch: SessionBatch) -> torch.Tensor | None:
        """Run the step on all ranks together; returns the Pareto weights."""
        dist.barrier()
        started, cpu = time.perf_counter(), time.process_time()
        self.optimizer.zero_grad()
        loss, outputs = self.model(batch)
        loss.backward()
        self.optimizer.step()
        dist.barrier()
        self.wall.append(1e3 * (time.perf_counter() - started))
        self.cpu.append(1e3 * (time.process_time() - cpu))
        return outputs.pareto_weights


def gate(weights: torch.Tensor | None) -> None:
    """The weights must be the same on all ranks, to the bit, and sum to 1."""
    if weights is None:
        return
    each = [torch.empty_like(weights) for _ in range(dist.get_world_size())]
    dist.all_gather(each, weights)
    if any(not torch.equal(other, weights) for other in each):
        raise SystemExit(f"ranks weigh the tasks differently: {each}")
    if abs(weights.sum().item() - 1) > 1e-12:
        raise SystemExit(f"weights must sum to 1, but are: {weights.tolist()}")


def measure(num_tasks: int, rows: int, steps: int) -> dict[str, Any]:
    """Milliseconds of a step per mode, after five that warm up."""
    batch = make_batch(rows, num_tasks, dist.get_rank(), dist.get_world_size())
    each = {mode: Step(num_tasks, mode) for mode in MODES}
    for number in range(5 + steps):
        for step in each.values():
            weights = step(batch)
            if number == 0:
                gate(weights)
    found: dict[str, Any] = {"tasks": num_tasks, "rows_per_rank": rows, "steps": steps}
    for mode, step in each.items():
        tenths = statistics.quantiles(step.wall[5:], n=10)
        found[mode] = {f"p{share}_ms": round(tenths[share // 10 - 1], 1) for share in (20, 50, 80)}
        found[mode]["cpu_ms"] = round(statistics.median(step.cpu[5:]), 1)
    for mode in MODES:
        for name in ("p50", "cpu"):
            ratio = found[mode][f"{name}_ms"] / found["off"][f"{name}_ms"]
            found[mode][f"{name}_times_off"] = round(ratio, 2)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Cost of PE-MTL in a training step.")
    parser.add_argument("--rows", type=int, default=2048, help="of each rank's batch")
    parser.add_argument("--steps", type=int, default=30, help="timed, per mode")
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8])
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    runs = [measure(num_tasks, args.rows, args.steps) for num_tasks in args.tasks]
    if dist.get_rank() == 0:
        result = {
            "date": datetime.date.today().isoformat(),
            "ranks": dist.get_world_size(),
            "threads_per_rank": 1,
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "torch": torch.__version__,
            "runs": runs,
        }
        columns = ("p20_ms", "p50_ms", "p80_ms", "p50_times_off", "cpu_ms", "cpu_times_off")
        print(f"{'tasks':>5} {'mode':<14} " + " ".join(f"{column:>13}" for column in columns))
        for run in runs:
            for mode in MODES:
                row = " ".join(f"{run[mode][column]:13.2f}" for column in columns)
                print(f"{run['tasks']:>5} {mode:<14} {row}")
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
