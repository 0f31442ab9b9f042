"""TorchRec's pipeline trains what the plain loop does to the bit: two ranks, many steps."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.datasets import write_dataset
from tests.test_sequence_training import sequence_config, sequence_table
from tests.test_zero_collision import far, zch_config
from trainer.config import edit_config
from trainer.trainer import Trainer

STOP_AT = 4  # within the first of two epochs
PIPELINED: dict[str, Any] = {"train_config__pipeline_sparse_dist": True}
PLAIN: dict[str, Any] = {"train_config__pipeline_sparse_dist": False}
CASES: dict[str, dict[str, Any]] = {
    # PE-MTL, and evaluation on the way; some features have zero-collision ids.
    "evaluation": {
        "train_config__save_checkpoints_steps": 5,
        "train_config__evaluate_checkpoints": True,
    },
    "accumulation": {
        "model_config__use_pareto_loss_weight": False,
        "train_config__gradient_accumulation_steps": 2,
        "train_config__grad_scaler": {"init_scale": 64, "growth_interval": 2},
        "train_config__grad_clipping": {"clipping_type": "norm", "max_gradient": 0.1},
        "train_config__dense_optimizer__ema": {"decay": 0.9},
        "train_config__skip_nonfinite_batches": True,
    },
}


def run(folder: Path, case: str, model: str, edits: dict[str, Any]) -> dict[str, Any]:
    """Train, from the newest checkpoint on if there is one; what is left of it on this rank."""
    if case == "evaluation":
        config, data = zch_config(folder, model, "tight"), folder / "far"
    else:
        config, data = sequence_config(folder, model), folder / "data"
    edits = CASES[case] | edits
    edit_config(config, {name.replace("__", "."): value for name, value in edits.items()})
    config.train_input_path = config.eval_input_path = str(data)
    trainer = Trainer(config, torch.device("cpu"), continue_train=True)
    if case == "accumulation":
        trainer.model.register_forward_hook(spoiled)
    trainer.train()
    trainer.save()
    trainer.checkpoints.close()
    evaluation = trainer.evaluate()
    assert evaluation is not None
    history = [asdict(entry) for entry in trainer.recorder.history]
    names = ("step", "losses", "pareto_weights", "gradient_norm", "skipped_batches")
    return {
        "told": json.dumps(  # NaN equals NaN
            [[entry[name] for name in names] for entry in history] + [evaluation.metrics]
        ),
        "num_steps": len(history),
        "left out": sum(entry["skipped_batches"] for entry in history),
        "tensors": tensors(trainer),
        "ran ahead": trainer.pipeline is not None,
    }


def spoiled(_: Any, arguments: Any, result: Any) -> Any:
    """NaN is the loss of the third batch, on one rank."""
    loss, outputs = result
    is_spoiled = arguments[0].cursor.step == 2 and dist.get_rank() == 1
    return (loss * torch.nan, outputs) if is_spoiled else None


def tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Copies of this rank's parameters and of the optimizers' state."""
    found = dict(trainer.model.state_dict())
    for key, of_parameter in trainer.optimizer.state_dict()["parameters"].items():
        found |= {f"{key}/{name}": value for name, value in of_parameter.items()}
    copies = {}
    for name, value in found.items():
        shards = value.local_shards() if hasattr(value, "local_shards") else None
        for n, part in enumerate([value] if shards is None else [each.tensor for each in shards]):
            copies[f"{name}#{n}"] = part.detach().clone()
    return copies


def work(rank: int, folder: str) -> None:
    """Every case in the plain loop and in the pipeline; one stopped there and resumed."""
    torch.set_num_threads(1)
    path = Path(folder)
    store = dist.FileStore(str(path / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for case in CASES:
        results = {
            "plain": run(path, case, f"{case} plain", PLAIN),
            "pipelined": run(path, case, f"{case} pipelined", PIPELINED),
        }
        if case == "evaluation":
            stop = PIPELINED | {"train_config__num_steps": STOP_AT}
            run(path, case, "resumed", stop)
            results["resumed"] = run(path, case, "resumed", PIPELINED)
        torch.save(results, path / f"{case}.{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pipeline")
    write_dataset(path / "data", sequence_table())
    write_dataset(path / "far", far(sequence_table()))
    mp.spawn(work, args=(str(path),), nprocs=2)
    return path


@pytest.mark.parametrize(
    ("case", "model"), [*((case, "pipelined") for case in CASES), ("evaluation", "resumed")]
)
def test_the_pipeline_trains_what_the_plain_loop_trains(folder, case, model):
    for results in (torch.load(folder / f"{case}.{rank}") for rank in range(2)):
        plain, other = results["plain"], results[model]
        assert (plain["ran ahead"], other["ran ahead"]) == (False, True)
        assert plain["num_steps"] > 2 * STOP_AT
        assert plain["left out"] == (2 if case == "accumulation" else 0)  # one an epoch
        assert other["told"] == plain["told"]
        different = [
            name
            for name, value in plain["tensors"].items()
            if not torch.equal(value, other["tensors"][name])
        ]
        assert not different
