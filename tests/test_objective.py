"""The objective on two gloo ranks gives the gradient and the Pareto weights of the global batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor, nn

from losses import JRCLoss, ListNetLoss, RankNetLoss, RegressionCompatibleRankingLoss
from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.data.batch import SessionBatch
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.data.loader import SessionLoader
from trainer.data.reader import SessionDataset
from trainer.models import ModelOutput, build_model
from trainer.objective import Objective, row_weight
from trainer.protos.pipeline_pb2 import LossConfig, ModelConfig
from trainer.tasks import Task, parse_tasks

WEIGHTED = {
    "data_config__sample_weight_fields": ["weight"],
    "model_config__dbmtl__task_towers[0]__sample_weight_name": "weight",
    "model_config__dbmtl__task_towers[0]__weight": 0.7,
    "model_config__dbmtl__task_towers[1]__task_space_indicator_label": "click",
    "model_config__dbmtl__task_towers[1]__out_task_space_weight": 0.25,
}
SESSION_LOSSES = {  # beside the JRC of each tower, with weights of their own
    "model_config__dbmtl__task_towers[0]__rcr_loss": {"session_name": "session_id"},
    "model_config__dbmtl__task_towers[0]__list_net_loss": {"session_name": "session_id"},
    "model_config__dbmtl__task_towers[0]__losses[0]__weight": 0.4,
    "model_config__dbmtl__task_towers[1]__task_space_indicator_label": "click",
    "model_config__dbmtl__task_towers[1]__rank_net_loss": {
        "session_name": "session_id",
        "exclude_out_of_task_space": True,
    },
}
CASES = {
    "plain": {},
    "batch norm": {"model_config__dbmtl__bottom_mlp__use_bn": True},
    "weighted": WEIGHTED,
    "pareto": {"model_config__use_pareto_loss_weight": True},
    "session losses": SESSION_LOSSES,
    "pareto of several losses": {
        "model_config__use_pareto_loss_weight": True,
        "model_config__pareto_gradient": "SHARED_REPRESENTATION",
        **SESSION_LOSSES,
    },
    "pareto weighted": {
        "model_config__use_pareto_loss_weight": True,
        "model_config__dbmtl__bottom_mlp__use_bn": True,  # its statistics travel in each backward
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
    model = build_model(config, tasks, tables_device="cpu")
    objective = Objective(model, tasks, config.model_config)
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
    assert any(name.startswith("grad/model.tables") for name in whole)
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


class FixedLogits(nn.Module):
    """A model of one task with a parameter per logit."""

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        logits = torch.randn(num_rows, 2, generator=torch.Generator().manual_seed(0))
        self.logits = nn.Parameter(2 * logits)

    def forward(self, batch: SessionBatch) -> ModelOutput:
        return ModelOutput({"cvr": self.logits}, [], [])


def batch_of(lengths: list[int], **labels: Tensor) -> SessionBatch:
    """A batch without features: sessions of these lengths."""
    batch = SessionBatch.__new__(SessionBatch)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    batch.dense, batch.session_offsets = torch.empty(int(offsets[-1]), 0), offsets
    batch.labels, batch.weights, batch.global_rows = labels, {}, batch.num_rows
    return batch


NAME = "session_name: 's' exclude_out_of_task_space: true"
IN_TASK_SPACE = {
    "jrc": (f"jrc_loss {{ {NAME} alpha: 0.3 }}", JRCLoss(0.3, "none"), 0.3),
    "jrc of the paper": (
        f"jrc_loss {{ {NAME} alpha: 0.3 contrast: SESSION }}",
        JRCLoss(0.3, "none", "session"),
        0.3,
    ),
    "list_net": (f"list_net_loss {{ {NAME} }}", ListNetLoss("none"), 0.0),
    "rank_net": (f"rank_net_loss {{ {NAME} }}", RankNetLoss("none"), 0.0),
    "rcr": (f"rcr_loss {{ {NAME} }}", RegressionCompatibleRankingLoss(0.5, "none"), 0.5),
}


@pytest.mark.parametrize(
    ("text", "loss", "pointwise"), IN_TASK_SPACE.values(), ids=IN_TASK_SPACE.keys()
)
def test_rows_outside_the_task_space_can_stay_out_of_the_competition(text, loss, pointwise):
    lengths = [4, 1, 7, 3]
    click = torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0])
    buy = torch.tensor([1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0])
    config = text_format.Parse(text, LossConfig())
    task = Task("cvr", "buy", 2, (config,), space_indicator="click", out_space_weight=0.25)
    model = FixedLogits(15)
    objective = Objective(model, [task], ModelConfig())  # pyright: ignore[reportArgumentType]
    total, _ = objective(batch_of(lengths, click=click, buy=buy))
    (grad,) = torch.autograd.grad(total, model.logits)

    inside = click == 1
    ids = torch.arange(4).repeat_interleave(torch.tensor(lengths))
    ranked = loss(model.logits[inside], buy[inside], session_ids=ids[inside])
    outside = nn.functional.cross_entropy(model.logits[~inside], buy[~inside], reduction="none")
    weight = inside.sum() + 0.25 * (~inside).sum()
    expected = (ranked.sum() + 0.25 * pointwise * outside.sum()) / weight
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, model.logits)[0])


def test_a_loss_counts_with_its_own_weight_and_the_towers():
    buy = torch.tensor([1, 0, 0, 1, 0])
    configs = [
        text_format.Parse(text, LossConfig())
        for text in (
            "binary_cross_entropy {} weight: 0.7",
            "list_net_loss { session_name: 's' } weight: 0.2",
            "jrc_loss { session_name: 's' alpha: 0.3 label_smoothing: 0.1 } weight: 0.5",
            "jrc_loss { session_name: 's' contrast: SESSION }",
        )
    ]
    task = Task("cvr", "buy", 2, tuple(configs), weight=3.0)
    model = FixedLogits(5)
    objective = Objective(model, [task], ModelConfig())  # pyright: ignore[reportArgumentType]
    batch = batch_of([2, 3], buy=buy)
    total, outputs = objective(batch)
    pointwise = nn.functional.cross_entropy(model.logits, buy)
    listwise, jrc, of_the_paper = (
        loss(model.logits, buy, session_offsets=batch.session_offsets)
        for loss in (ListNetLoss(), JRCLoss(0.3, label_smoothing=0.1), JRCLoss(contrast="session"))
    )
    expected = 3.0 * (0.7 * pointwise + 0.2 * listwise + 0.5 * jrc + of_the_paper)
    torch.testing.assert_close(total, expected)
    shown = {name: sums[0] / sums[1] for name, sums in outputs.losses.items()}
    assert list(shown) == [
        "cvr/binary_cross_entropy",
        "cvr/list_net_loss",
        "cvr/jrc_loss",
        "cvr/jrc_loss_2",
    ]
    torch.testing.assert_close(torch.stack(list(shown.values())).sum().float(), total)


def test_a_rank_without_rows_has_a_loss_of_zero():
    texts = [text for text, _, _ in IN_TASK_SPACE.values()]
    texts += ["binary_cross_entropy {}", "jrc_loss { session_name: 's' }"]
    configs = tuple(text_format.Parse(text, LossConfig()) for text in texts)
    task = Task("cvr", "buy", 2, configs, space_indicator="click")
    model = FixedLogits(0)
    objective = Objective(model, [task], ModelConfig())  # pyright: ignore[reportArgumentType]
    none = torch.zeros(0, dtype=torch.int64)
    total, outputs = objective(batch_of([], click=none, buy=none))
    total.backward()
    assert total.item() == 0.0
    assert len(outputs.losses) == 7
    assert model.logits.grad is not None and model.logits.grad.shape == (0, 2)
