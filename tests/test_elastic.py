"""Real gloo processes over real files: killed at a random step, gone on with on other ranks."""

import json
import random
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.datasets import click_table, write_dataset
from tests.test_loader import ROW, rows_of, spec
from trainer.data.loader import SessionLoader
from trainer.data.plan import Place
from trainer.data.reader import SessionDataset

pytestmark = pytest.mark.slow

BATCH_SIZE, NUM_LANES, NUM_EPOCHS, CHECKPOINT_STEPS = 40, 4, 3, 3
WORKER = """
import sys
from tests.test_elastic import work
work(*sys.argv[1:])
"""


def work(folder: str, run: str, rank_text: str, world_text: str) -> None:
    """One rank: all epochs from the newest state on; a line of rows per step, synchronised."""
    import torch
    import torch.distributed as dist

    rank, world = int(rank_text), int(world_text)
    store = f"file://{folder}/{run}.store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    state = json.loads((Path(folder) / "state.json").read_text())
    epoch, place = state["epoch"], Place(**state["place"])
    loader = SessionLoader(
        SessionDataset.open(f"{folder}/data"),
        spec(ROW),
        batch_size=BATCH_SIZE,
        num_lanes=NUM_LANES,
        rank=rank,
        world_size=world,
        shuffle=True,
        num_workers=2,
    )
    log = (Path(folder) / f"{run}.{rank}.log").open("w", buffering=1)
    while epoch < NUM_EPOCHS:
        for batch in loader.batches(epoch, place):
            rows = torch.tensor(float(batch.num_rows))
            dist.all_reduce(rows)
            assert int(rows) == batch.global_rows
            print(json.dumps([epoch, batch.cursor.step, rows_of(batch)]), file=log)
            epoch, place = batch.cursor.after()
            if place.step % CHECKPOINT_STEPS == 0:
                dist.barrier()  # every rank has logged all steps of the state
                if rank == 0:
                    text = json.dumps({"epoch": epoch, "place": asdict(place)})
                    (Path(folder) / "state.tmp").write_text(text)
                    (Path(folder) / "state.tmp").rename(Path(folder) / "state.json")
                dist.barrier()
            time.sleep(0.02)
    dist.destroy_process_group()


def run_ranks(folder: Path, run: str, world: int, kill_at: int | None) -> None:
    """Run `world` ranks to their end, or kill -9 all once rank 0 has logged `kill_at` steps."""
    command = [sys.executable, "-c", WORKER, str(folder), run]
    ranks = [
        subprocess.Popen([*command, str(rank), str(world)], stderr=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    log = folder / f"{run}.0.log"
    while kill_at and not (log.exists() and log.read_text().count("\n") >= kill_at):
        assert ranks[0].poll() is None, ranks[0].communicate()[1]
        time.sleep(0.01)
    for rank in ranks if kill_at else ():
        rank.kill()
    for rank in ranks:
        _, error = rank.communicate(timeout=600)
        assert kill_at or rank.returncode == 0, error


def logged(folder: Path, run: str, world: int) -> dict[tuple[int, int], list[int]]:
    """Rows of each global batch that all ranks logged."""
    found: dict[tuple[int, int], list[list[int]]] = {}
    for rank in range(world):
        text = (folder / f"{run}.{rank}.log").read_text()
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                epoch, step, rows = json.loads(line)
                found.setdefault((epoch, step), []).append(rows)
    whole = {key: parts for key, parts in found.items() if len(parts) == world}
    return {key: sorted(row for part in parts for row in part) for key, parts in whole.items()}


@pytest.mark.parametrize("worlds", [(4, 3), (2, 4)], ids=str)
def test_rows_seen_over_kills_and_world_sizes_are_the_planned_batches(tmp_path, worlds):
    table = click_table(400, seed=3)
    write_dataset(tmp_path / "data", table, num_files=3, row_group_rows=100)
    (tmp_path / "state.json").write_text(json.dumps({"epoch": 0, "place": asdict(Place())}))
    data = SessionDataset.open(tmp_path / "data")
    loader = SessionLoader(
        data, spec(ROW), batch_size=BATCH_SIZE, num_lanes=NUM_LANES, shuffle=True
    )
    planned = {
        (epoch, batch.cursor.step): sorted(rows_of(batch))
        for epoch in range(NUM_EPOCHS)
        for batch in loader.batches(epoch)
    }
    for epoch in range(NUM_EPOCHS):  # the plan itself: each row once
        rows = [row for key, batch in planned.items() if key[0] == epoch for row in batch]
        assert sorted(rows) == list(range(table.num_rows))

    seed = random.randrange(2**32)
    print(f"seed {seed}")
    steps = random.Random(seed)
    seen: dict[tuple[int, int], list[int]] = {}
    for number, world in enumerate(worlds):
        is_last = number == len(worlds) - 1
        began = json.loads((tmp_path / "state.json").read_text())
        run_ranks(tmp_path, f"run{number}", world, None if is_last else steps.randint(4, 14))
        steps_done = logged(tmp_path, f"run{number}", world)
        assert all(planned[key] == rows for key, rows in steps_done.items())
        first = (began["epoch"], began["place"]["step"])
        assert first in steps_done
        seen = {key: rows for key, rows in seen.items() if key < first} | steps_done
    assert seen == planned
