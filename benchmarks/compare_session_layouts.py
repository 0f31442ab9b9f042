"""What whole sessions are worth: JRC on batches of whole sessions, of cut ones, of shuffled rows.

    python -m benchmarks.compare_session_layouts \\
        --pipeline_config_path examples/trivago/jrc.config \\
        --train_input_path data/trivago/train_sorted --eval_input_path data/trivago/eval_sorted \\
        --output_path benchmarks/results/session-layouts-trivago.json

Same model, rows, batch size and number of epochs; the order of sessions or rows is drawn anew for
each epoch and seed. A session in two batches is two sessions to the loss:

    whole      sessions in random order; a batch takes as many whole ones as fit
    cut        sessions in random order; a batch takes batch_size rows, wherever that cuts
    shuffled   rows in random order; a batch takes batch_size rows
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from preprocessing.dataset_format import read_manifest, read_session_index
from tests.datasets import write_dataset
from trainer.config import load_config
from trainer.trainer import Trainer

LAYOUTS = ("whole", "cut", "shuffled")


def read_dataset(path: Path) -> tuple[pa.Table, NDArray[np.int64], str, str]:
    """All rows, the number of each row's session, and the names of session and time columns."""
    manifest = read_manifest(path)
    files = [str(path / file.name) for file in manifest.files]
    lengths = read_session_index(path, manifest).num_rows
    session = np.repeat(np.arange(len(lengths)), lengths)
    return pq.read_table(files), session, manifest.session_columns[0], manifest.timestamp_column


def lay_out(
    session: NDArray[np.int64], layout: str, batch_size: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One epoch: the order of rows, and of each row in that order what counts as its session."""
    num_rows = len(session)
    if layout == "shuffled":
        place = random.permutation(num_rows)  # of each row
    else:
        place_of_session = random.permutation(int(session[-1]) + 1)
        order = np.argsort(place_of_session[session], kind="stable")
        place = np.empty(num_rows, dtype=np.int64)
        place[order] = np.arange(num_rows)
    batch = np.zeros(num_rows, dtype=np.int64) if layout == "whole" else place // batch_size
    # A batch's rows of a session stand together, in time order: as a loss by session id sees them.
    first_place = np.full(int(session[-1]) + 1, num_rows)
    np.minimum.at(first_place, session, place)
    key = first_place[session] if layout == "whole" else session
    order = np.lexsort((np.arange(num_rows), key, batch))
    return order, (batch * (int(session[-1]) + 1) + session)[order]


def share_cut(session: NDArray[np.int64], pieces: NDArray[np.int64]) -> float:
    """Share of sessions that are in more than one piece."""
    pairs = np.unique(np.stack([session, pieces]), axis=1)
    return float((np.bincount(pairs[0]) > 1).mean())


def write_layout(
    table: pa.Table,
    session: NDArray[np.int64],
    names: tuple[str, str],
    path: Path,
    layout: str,
    options: dict[str, int],
) -> float:
    """Write all epochs one after the other as one dataset; returns the share of sessions cut."""
    random = np.random.default_rng(options["seed"])
    tables, cut, first = [], [], 0
    for _ in range(options["num_epochs"]):
        order, pieces = lay_out(session, layout, options["batch_size"], random)
        cut.append(share_cut(session[order], pieces))
        part = table.take(order)
        number = part.column_names.index(names[0])
        tables.append(part.set_column(number, names[0], pa.array(pieces + first)))
        first += int(pieces.max()) + 1
    rows = pa.concat_tables(tables)
    write_dataset(
        path, rows, session=names[0], timestamp=names[1], num_files=1, row_group_rows=1 << 16
    )
    return float(np.mean(cut))


def run(options: argparse.Namespace, layout: str, seed: int) -> dict[str, Any]:
    """Train on one layout and evaluate on whole sessions."""
    table, session, *names = read_dataset(options.train_input_path)
    config = load_config(str(options.pipeline_config_path))
    settings = {
        "seed": seed,
        "batch_size": config.data_config.batch_size,
        "num_epochs": options.num_epochs or config.train_config.num_epochs,
    }
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train"
        cut = write_layout(table, session, (names[0], names[1]), data, layout, settings)
        config.train_input_path, config.eval_input_path = str(data), str(options.eval_input_path)
        config.model_dir = f"{folder}/model"
        config.train_config.num_epochs, config.train_config.seed = 1, seed
        config.train_config.save_checkpoints_steps = 0
        config.train_config.log_step_count_steps = 0
        config.train_config.use_tensorboard = False
        config.data_config.shuffle = False
        trainer = Trainer(config, torch.device("cpu"))
        trainer.train()
        evaluation = trainer.evaluate()
    assert evaluation is not None
    metrics = {
        task: {name: round(found[name], 5) for name in ("gauc", "auc", "logloss")}
        for task, found in evaluation.metrics.items()
    }
    return {"layout": layout, "seed": seed, "sessions_cut": round(cut, 4), "metrics": metrics}


def main() -> None:
    """Run every layout with every seed; print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipeline_config_path", type=Path, required=True)
    parser.add_argument("--train_input_path", type=Path, required=True)
    parser.add_argument("--eval_input_path", type=Path, required=True)
    parser.add_argument("--num_epochs", type=int, help="default: the config's")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--output_path", type=Path)
    options = parser.parse_args()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    runs = []
    for seed in options.seeds:
        for layout in LAYOUTS:
            runs.append(run(options, layout, seed))
            print(json.dumps(runs[-1]), flush=True)
            if options.output_path:
                options.output_path.write_text(json.dumps(runs, indent=2) + "\n")
    for layout in LAYOUTS:
        mine = [each for each in runs if each["layout"] == layout]
        for task in mine[0]["metrics"]:
            values = {
                name: np.array([each["metrics"][task][name] for each in mine])
                for name in mine[0]["metrics"][task]
            }
            shown = "  ".join(f"{n} {v.mean():.4f} ± {v.std():.4f}" for n, v in values.items())
            print(f"{layout:9s} {task}  cut {mine[0]['sessions_cut']:.1%}  {shown}")


if __name__ == "__main__":
    main()
