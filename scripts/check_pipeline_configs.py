"""Tries pipeline configs without their data: which load, and train?

    python scripts/check_pipeline_configs.py path/to/*.config

Each config is read as it is, its tables are cut by an override, and 20 steps are trained on two
ranks of this machine (gloo, CPU), on made-up rows with the columns that it reads. Prints a line per
config; the exit status is 1 if one failed.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from scripts.made_data import cut_tables, write_made_data
from trainer.config import edit_config, load_config
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.trainer import Trainer

NUM_RANKS = 2
TABLE_ROWS = 100
BATCH_SIZE = 256
NUM_ROWS = 384  # one global batch, with room for sessions that do not fill a rank's part
NUM_STEPS = 20
OVERRIDES = {
    "data_config.batch_size": BATCH_SIZE,
    "data_config.num_workers": 0,
    "train_config.num_epochs": NUM_STEPS,  # an epoch is one global batch
    "train_config.num_steps": NUM_STEPS,
    "train_config.log_step_count_steps": 1,
    "train_config.use_tensorboard": False,
}


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="pipeline configs, text format")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        results = try_configs([str(path.resolve()) for path in args.files], Path(folder))
    width = max(len(name) for name in results)
    print(f"{'config':{width}}  {'loss of step 1':>14}  {f'of step {NUM_STEPS}':>10}  result")
    for name, result in results.items():
        if isinstance(result, str):
            print(f"{name:{width}}  {'':>14}  {'':>10}  {result}")
        else:
            print(f"{name:{width}}  {result[0]:>14.4f}  {result[-1]:>10.4f}  ok")
    return int(any(isinstance(result, str) for result in results.values()))


def try_configs(paths: list[str], folder: Path) -> dict[str, list[float] | str]:
    """Per config the loss of each step, all tasks together, or what went wrong."""
    mp.spawn(_train_all, args=(paths, str(folder)), nprocs=NUM_RANKS)
    return json.loads((folder / "results.json").read_text())


def _train_all(rank: int, paths: list[str], folder: str) -> None:
    """One rank's part: every config, one after the other."""
    torch.set_num_threads(1)
    os.environ["LOCAL_WORLD_SIZE"] = str(NUM_RANKS)  # TorchRec asks for it
    results: dict[str, list[float] | str] = {}
    for number, path in enumerate(paths):
        where = Path(folder) / str(number)
        where.mkdir(exist_ok=True)
        store = dist.FileStore(str(where / "store"), NUM_RANKS)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=NUM_RANKS)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                results[path] = _train(prepare(path, where))
        except Exception as error:
            results[path] = _reason(error)
        dist.destroy_process_group()
    if rank == 0:
        (Path(folder) / "results.json").write_text(json.dumps(results))


def _train(config: EasyRecConfig) -> list[float]:
    """The loss of each step."""
    if dist.get_rank() == 0:
        write_made_data(Path(config.train_input_path), config, NUM_ROWS)
    dist.barrier()
    trainer = Trainer(config, torch.device("cpu"))
    trainer.train()
    return [sum(entry.losses.values()) for entry in trainer.recorder.history]


def prepare(path: str, folder: Path) -> EasyRecConfig:
    """The config of a file with its overrides."""
    config = load_config(path)
    cut_tables(config, TABLE_ROWS)
    edit_config(config, OVERRIDES)
    config.train_input_path, config.eval_input_path = str(folder / "data"), ""
    config.model_dir = str(folder / "model")
    return config


def _reason(error: Exception) -> str:
    """What the user sees of an error; of one that is not ours also where it was."""
    if isinstance(error, ValueError):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error))


if __name__ == "__main__":
    sys.exit(main())
