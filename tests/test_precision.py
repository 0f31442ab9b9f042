"""Mixed precision and averages in whole training runs, on one rank and real files."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.evaluate import Evaluation
from trainer.trainer import Trainer

TRAIN = "train_config__"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Callable[..., tuple[Trainer, Evaluation]]]:
    """Trains a config with edits on one rank."""
    folder = tmp_path_factory.mktemp("precision")
    write_dataset(folder / "train", click_table(150, seed=1))
    write_dataset(folder / "eval", click_table(60, seed=1))
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)

    def train(name: str, **edits: Any) -> tuple[Trainer, Evaluation]:
        paths = {"train_input_path": "train", "eval_input_path": "eval", "model_dir": name}
        given = {field: str(folder / path) for field, path in paths.items()}
        trainer = Trainer(two_task_config(**given, **edits), torch.device("cpu"))
        evaluation = trainer.train_and_evaluate()
        assert evaluation is not None
        return trainer, evaluation

    yield train
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def plain(run) -> tuple[Trainer, Evaluation]:
    return run("plain")


def losses(trainer: Trainer) -> list[float]:
    return [entry.losses["ctr/jrc_loss"] for entry in trainer.recorder.history]


@pytest.mark.parametrize("precision", ["BF16", "FP16"])
def test_mixed_precision_is_near_float32_and_learns(run, precision):
    edits = {"model_config__dbmtl__bottom_mlp__use_bn": True}
    trainer, evaluation = run(precision, **{TRAIN + "mixed_precision": precision}, **edits)
    reference, expected = run(f"{precision}-reference", **edits)
    assert losses(trainer) == pytest.approx(losses(reference), rel=0.05)
    assert losses(trainer) != losses(reference)
    assert losses(trainer)[-1] < losses(trainer)[0]
    gauc = evaluation.metrics["ctr"]["gauc"]
    assert gauc == pytest.approx(expected.metrics["ctr"]["gauc"], abs=0.02)
    state = trainer.optimizer.state_dict()["parameters"]
    tensors = [*trainer.model.state_dict().values()]
    tensors += [value for parameter in state.values() for value in parameter.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert (trainer.optimizer.scaler is not None) == (precision == "FP16")


def test_matrix_products_are_of_the_mixed_type(run):
    trainer, _ = run("types", **{TRAIN + "mixed_precision": "BF16", TRAIN + "num_steps": 1})
    seen = []
    layer = next(each for each in trainer.model.modules() if isinstance(each, torch.nn.Linear))
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    batch = next(iter(trainer.loader.batches()))
    loss, _ = trainer.model(batch)
    assert (seen, loss.dtype) == ([torch.bfloat16], torch.float32)


def test_evaluation_takes_the_averages_unless_told_otherwise(run, plain):
    ema = {TRAIN + "dense_optimizer__ema": {"decay": 0.9}}
    trainer, averaged = run("averaged", **ema)
    _, live = run("live", **ema, eval_config__use_dense_ema=False)
    assert live.metrics == plain[1].metrics
    assert averaged.metrics != plain[1].metrics
    with trainer.optimizer.averaged():
        trainer.optimizer.average = None
        again = trainer.evaluate()
    assert again is not None and again.metrics == averaged.metrics


def test_tensor_float_32_is_as_the_config_says(run):
    for allowed in (True, False):
        run(
            f"tf32-{allowed}",
            **{TRAIN + "cuda_matmul_allow_tf32": allowed, TRAIN + "cudnn_allow_tf32": not allowed},
            **{TRAIN + "num_steps": 1},
        )
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is not allowed
    torch.backends.cudnn.allow_tf32 = True
