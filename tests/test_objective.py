"""The objective on two gloo ranks gives the gradient and the Pareto weights of the global batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchrec import EmbeddingBagCollection

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.batch import SessionBatch
from trainer.encode import ColumnSpec
from trainer.features import used_features
from trainer.loader import SessionLoader
from trainer.models import build_model
from trainer.models.layers import embedding_tables
from trainer.objective import Objective, row_weight
from trainer.reader import SessionDataset
from trainer.tasks import parse_tasks

WEIGHTED = {
    "data_config__sample_weight_fields": ["weight"],
    "model_config__dbmtl__task_towers[0]__sample_weight_name": "weight",
    "model_config__dbmtl__task_towers[0]__weight": 0.7,
    "model_config__dbmtl__task_towers[1]__task_space_indicator_label": "click",
    "model_config__dbmtl__task_towers[1]__out_task_space_weight": 0.25,
}
CASES = {
    "plain": {},
    "batch norm": {"model_config__dbmtl__bottom_mlp__use_bn": True},
    "weighted": WEIGHTED,
    "pareto": {"model_config__use_pareto_loss_weight": True},
    "pareto weighted": {
        "model_config__use_pareto_loss_weight": True,
        "model_config__dbmtl__task_towers[1]__pareto_min_loss_weight": 0.2,
        **WEIGHTED,
    },
}
WORKER = """
import sys, torch, torch.distributed as dist
from tests.test_objective import step
rank, folder, case = int(sys.argv[1]), sys.argv[2], sys.argv[3]
store = f"file://{folder}/{case}.store"
dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
torch.save(step(folder + "/data", case, rank, 2), f"{folder}/{case}.{rank}")
dist.destroy_process_group()
"""


def step(path: str, case: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Gradients, losses and Pareto weights of the first global batch of two lanes, float64."""
    config = two_task_config(**CASES[case])
    tasks = parse_tasks(config)
    spec = ColumnSpec(tuple(used_features(config)), tuple(tasks))
    loader = SessionLoader(
        SessionDataset.open(path), spec, batch_size=60, rank=rank, world_size=world, num_lanes=2
    )
    batch = next(loader.batches())
    torch.manual_seed(0)
    model = build_model(config, tasks)
    model.inputs.embeddings = EmbeddingBagCollection(
        tables=embedding_tables(model.inputs.id_features), device=torch.device("cpu")
    )
    objective = Objective(model, tasks, config.model_config.use_pareto_loss_weight)
    loss, outputs = objective(batch)
    loss.backward()
    found = {f"grad/{name}": p.grad for name, p in objective.named_parameters()}
    found |= {f"loss/{name}": value for name, value in outputs.losses.items()}
    if outputs.pareto_weights is not None:
        found["pareto"] = outputs.pareto_weights
    return {name: value.double() for name, value in found.items() if value is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("objective")
    write_dataset(path / "data", click_table(40), num_files=1)
    return path


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_agree_with_one_process_on_the_global_batch(case, folder):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(folder), case], stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=180)
        assert worker.returncode == 0, errors.decode()
    first, second = (torch.load(folder / f"{case}.{rank}", weights_only=True) for rank in range(2))
    whole = step(str(folder / "data"), case, 0, 1)
    assert set(first) == set(second) == set(whole)
    assert any(name.startswith("grad/model.inputs") for name in whole)
    for name, expected in whole.items():
        if name == "pareto":
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], expected, atol=1e-4, rtol=0)
        elif name.startswith("loss/"):  # sums over rows: each rank had its own
            torch.testing.assert_close(first[name] + second[name], expected, rtol=1e-5, atol=0)
            assert first[name].min() > 0
            assert second[name].min() > 0
        else:  # data parallelism averages over ranks
            mean = (first[name] + second[name]) / 2
            torch.testing.assert_close(mean, expected, atol=2e-6, rtol=1e-4, msg=name)


def test_pareto_weights_differ_from_even_and_keep_their_minima(folder):
    weights = step(str(folder / "data"), "pareto weighted", 0, 1)["pareto"]
    assert weights.sum().item() == pytest.approx(1.0)
    assert weights[1] >= 0.2 - 1e-9
    assert (weights - 0.5).abs().max() > 0.01


def test_weights_of_rows_follow_the_task_space():
    config = two_task_config(**WEIGHTED)
    click, buy = parse_tasks(config)
    labels = {"click": torch.tensor([1, 0, 1]), "buy": torch.tensor([1, 0, 0])}
    batch = SessionBatch.__new__(SessionBatch)
    batch.labels, batch.weights = labels, {"weight": torch.tensor([1.0, 2.0, 3.0])}
    assert row_weight(buy, batch).tolist() == [1.0, 0.25, 1.0]  # pyright: ignore
    assert row_weight(click, batch).tolist() == [1.0, 2.0, 3.0]  # pyright: ignore
