"""Resuming from a checkpoint of every kind of optimizer state, on the same ranks and on fewer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.tiny_training import Run, train_config

SAVED_AT, END = 3, 7
CASES = {
    "adam, cosine, average, scaler, clipping": """
        sparse_optimizer {
            adagrad_optimizer { initial_accumulator_value: 0.1 }
            cosine_annealing_learning_rate { T_max: 5 warmup_size: 2 }
        }
        dense_optimizer {
            adam_optimizer { lr: 0.01 amsgrad: true }
            exponential_decay_learning_rate { decay_size: 1 by_epoch: true }
            ema { decay: 0.9 }
        }
        grad_scaler { init_scale: 64 growth_interval: 2 }
        grad_clipping { clipping_type: "norm" max_gradient: 0.1 }""",
    "parts": """
        sparse_optimizer { rowwise_adagrad_optimizer {} }
        dense_optimizer {
            adamw_optimizer { lr: 0.01 weight_decay: 0.1 }
            part_optimizers {
                regex_pattern: "layers.0.*"
                sgd_optimizer { lr: 0.1 }
                manual_step_learning_rate { schedule_sizes: [2, 4] learning_rates: [0.2, 0.3] }
            }
            part_optimizers { regex_pattern: ".*bias" adagrad_optimizer { lr: 0.1 } }
        }""",
    "accumulation": """
        sparse_optimizer { adagrad_optimizer {} }
        dense_optimizer { rmsprop_optimizer { lr: 0.01 } }
        gradient_accumulation_steps: 3""",
    "adadelta": "dense_optimizer { adadelta_optimizer { lr: 0.5 } }",
    "no state": "",
}


def work(rank: int, folder: Path) -> None:
    """A rank of two: train each case through, then again from its middle; the same comes out."""
    _join(rank, 2, folder / "pair")
    for name, text in CASES.items():
        whole = Run(train_config(text))
        whole.train(SAVED_AT)
        whole.save(folder / name / "middle")
        whole.train(END - SAVED_AT)
        whole.save(folder / name / "end")
        resumed = Run(train_config(text))
        resumed.load(folder / name / "middle", SAVED_AT)
        resumed.train(END - SAVED_AT)
        assert resumed.optimizer.learning_rates().keys() >= {"sparse", "dense"}  # on both ranks
        resumed.save(folder / name / "resumed")
    dist.destroy_process_group()


def _join(rank: int, world: int, store: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries."""
    if not isinstance(state, dict):
        return {path: state}
    leaves: dict[str, Any] = {}
    for key, value in state.items():
        leaves |= flat(value, f"{path}/{key}")
    return leaves


def read(checkpoint: Path) -> dict[str, Any]:
    """All of a checkpoint on one rank."""
    dcp_to_torch_save(checkpoint, f"{checkpoint}.pt")
    return flat(torch.load(f"{checkpoint}.pt", weights_only=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """Checkpoints of two ranks; a world of one goes on."""
    path = tmp_path_factory.mktemp("resume")
    multiprocessing.spawn(work, (path,), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    _join(0, 1, path / "alone")
    yield path
    dist.destroy_process_group()


@pytest.mark.parametrize("case", CASES)
def test_resuming_on_the_same_ranks_is_exact(folder, case):
    whole, resumed = (read(folder / case / name) for name in ("end", "resumed"))
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, resumed[key]), key
        else:
            assert value == resumed[key], key


@pytest.mark.parametrize("case", CASES)
def test_resuming_on_one_rank_goes_on_as_two_did(folder, case):
    alone = Run(train_config(CASES[case]))
    alone.load(folder / case / "middle", SAVED_AT)
    alone.train(END - SAVED_AT)
    alone.save(folder / case / "alone")
    whole, alone_state = (read(folder / case / name) for name in ("end", "alone"))
    assert whole.keys() == alone_state.keys()
    for key, value in whole.items():
        torch.testing.assert_close(alone_state[key], value, rtol=1e-4, atol=1e-6, msg=key)
