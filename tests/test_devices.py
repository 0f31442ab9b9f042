"""Training in the test's own process, the same tests on a CPU and, marked gpu, on CUDA.

On a CPU they show that the tests are right; on CUDA the trainer masks and looks later, scales the
loss on the device, and runs ahead on streams. Numbers there are near those of a CPU: additions are
atomic, in any order. TorchRec's pipeline is on everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.datasets import click_table, write_dataset
from tests.test_nonfinite import finite_part, poisoned, table_with_a_rare_item
from tests.test_sequence_training import sequence_config, sequence_table
from tests.test_zero_collision import far, zch_config
from tests.training_here import trainer_here
from trainer.config import edit_config
from trainer.trainer import Trainer

TRAIN = "train_config__"
NUM_STEPS, STOP_AT = 12, 6
STEPS: dict[str, Any] = {
    TRAIN + "num_epochs": 2,
    TRAIN + "num_steps": NUM_STEPS,
    TRAIN + "log_step_count_steps": 1,
    TRAIN + "pipeline_sparse_dist": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fp16": {TRAIN + "mixed_precision": "FP16", TRAIN + "grad_scaler": {"growth_interval": 4}},
    "batch norm": {"model_config__dbmtl__bottom_mlp__use_bn": True},
    "average and clipping": {
        TRAIN + "dense_optimizer__ema": {"decay": 0.9},
        TRAIN + "grad_clipping": {"clipping_type": "norm", "max_gradient": 0.1},
    },
    "accumulation": {TRAIN + "gradient_accumulation_steps": 3},
    "pe-mtl": {"model_config__use_pareto_loss_weight": True},
    "skipping": {TRAIN + "skip_nonfinite_batches": True},
    "copied tables": {
        TRAIN + "global_embedding_constraints__sharding_types": ["data_parallel"],
    },
}


@dataclass(frozen=True)
class Device:
    """Where a test trains, and how near two of its runs are."""

    torch: torch.device
    tolerance: float

    @contextmanager
    def without_waits(self) -> Iterator[None]:
        """In here the host must not wait for the device."""
        if self.torch.type == "cpu":
            yield
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="trains on an NVIDIA GPU"),
]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=ON_GPU)])
def device(request) -> Iterator[Device]:
    """The device, with the process group of one rank, as launch/process.py makes it."""
    is_cuda = request.param == "cuda"
    backend = "cpu:gloo,cuda:nccl" if is_cuda else "gloo"
    if is_cuda:
        torch.cuda.set_device(0)
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    where = torch.device("cuda", 0) if is_cuda else torch.device("cpu")
    yield Device(where, 1e-3 if is_cuda else 0.0)
    dist.destroy_process_group()


@pytest.fixture
def folder(tmp_path) -> Path:
    write_dataset(tmp_path / "train", click_table(150, seed=1))
    write_dataset(tmp_path / "eval", click_table(60, seed=1))
    return tmp_path


def trainer_on(where: torch.device, folder: Path, model: str, edits: dict[str, Any]) -> Trainer:
    return trainer_here(folder, model, "train", where, **edits)


def losses(trainer: Trainer) -> list[list[float]]:
    """Of each step."""
    return [list(entry.losses.values()) for entry in trainer.recorder.history]


def assert_near(found: list[list[float]], expected: list[list[float]], tolerance: float) -> None:
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_is_the_undisturbed_one_and_near_that_of_a_cpu(device, folder, variant):
    edits = STEPS | VARIANTS[variant]
    whole = trainer_on(device.torch, folder, "whole", edits)
    whole.train_and_evaluate()
    stopped = edits | {TRAIN + "num_steps": STOP_AT}
    trainer_on(device.torch, folder, "stopped", stopped).train_and_evaluate()
    resumed = trainer_on(device.torch, folder, "stopped", edits)
    assert resumed.state.global_step == STOP_AT
    resumed.train_and_evaluate()
    half = variant == "fp16"
    assert_near(losses(resumed), losses(whole), device.tolerance * (10 if half else 1))
    assert len(losses(whole)) == NUM_STEPS

    on_cpu = trainer_on(torch.device("cpu"), folder, "cpu", edits)
    on_cpu.train_and_evaluate()
    assert_near(losses(whole), losses(on_cpu), 0.05 if half else 0.01)
    assert (whole.optimizer.scaler is not None) == half
    if whole.optimizer.average is not None:
        assert whole.optimizer.state_dict()["average"]["num_updates"] == NUM_STEPS


@pytest.mark.parametrize("kind", ["sequences", "zero collision"])
def test_sequences_and_zero_collision_ids_resume(device, tmp_path, kind):
    """With PE-MTL, weighted ids and, in the second, ids that no table could hold."""
    write_dataset(tmp_path / "data", sequence_table())
    write_dataset(tmp_path / "far", far(sequence_table()))

    def run(model: str, steps: int, where: torch.device) -> Trainer:
        if kind == "sequences":
            config, data = sequence_config(tmp_path, model), "data"
        else:
            config, data = zch_config(tmp_path, model, "roomy"), "far"
        edits = STEPS | {TRAIN + "num_epochs": 4, TRAIN + "num_steps": steps}
        edit_config(config, {name.replace("__", "."): value for name, value in edits.items()})
        config.train_input_path = config.eval_input_path = str(tmp_path / data)
        trainer = Trainer(config, where, continue_train=True)
        trainer.train_and_evaluate()
        return trainer

    whole = run("whole", NUM_STEPS, device.torch)
    run("stopped", STOP_AT, device.torch)
    resumed = run("stopped", NUM_STEPS, device.torch)
    assert_near(losses(resumed), losses(whole), device.tolerance)
    assert_near(losses(whole), losses(run("cpu", NUM_STEPS, torch.device("cpu"))), 0.01)
    assert resumed.evaluation[1] is not None and whole.evaluation[1] is not None
    for task, expected in whole.evaluation[1].metrics.items():
        found = resumed.evaluation[1].metrics[task]
        assert found["logloss"] == pytest.approx(expected["logloss"], rel=0.01)


@pytest.mark.parametrize("skips", [True, False], ids=["skips", "raises"])
def test_a_batch_that_is_not_finite_moves_no_table(device, tmp_path, skips):
    write_dataset(tmp_path / "train", table_with_a_rare_item())
    edits = {TRAIN + "skip_nonfinite_batches": skips, TRAIN + "pipeline_sparse_dist": True}
    trainer = poisoned(tmp_path, "model", device=device.torch, **edits)
    if skips:
        trainer.train()
        trainer.recorder.look(trainer.guard)
        assert trainer.recorder.skipped_batches == 1
        tensors = finite_part(trainer)
    else:
        with pytest.raises(FloatingPointError, match=r"batch 2 .*part-00000.parquet rows "):
            trainer.train()
        tensors = {name: each for name, each in finite_part(trainer).items() if "emb" in name}
    assert tensors
    assert all(each.isfinite().all() for each in tensors.values())


def test_evaluation_in_the_middle_of_an_epoch_changes_nothing(device, folder):
    """Batches that are on their way wait for it."""
    whole = trainer_on(device.torch, folder, "whole", STEPS)
    whole.train_and_evaluate()
    edits = STEPS | {
        "eval_input_path": str(folder / "eval"),
        TRAIN + "save_checkpoints_steps": 5,
        TRAIN + "evaluate_checkpoints": True,
    }
    evaluated = trainer_on(device.torch, folder, "evaluated", edits)
    evaluated.train_and_evaluate()
    assert_near(losses(evaluated), losses(whole), device.tolerance)
    assert evaluated.evaluation[0] == NUM_STEPS


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_host_never_waits_for_a_step(device, folder, variant):
    edits = STEPS | VARIANTS[variant] | {TRAIN + "log_step_count_steps": 1000}
    trainer = trainer_on(device.torch, folder, "model", edits)
    trainer.model.train()
    trainer.stop.hold()
    steps = trainer.steps(trainer.loader.batches())
    done = [next(steps) for _ in range(4)]  # kernels are compiled, buckets are built anew
    with device.without_waits():
        for _ in range(4):
            batch, outputs = next(steps)
            trainer._advance(batch, outputs)
            done.append((batch, outputs))
    assert [batch.cursor.step for batch, _ in done] == list(range(8))
    assert all(loss.isfinite().all() for _, out in done for loss in out.losses.values())
    if trainer.pipeline:
        trainer.pipeline.stop()
    trainer.checkpoints.close()
