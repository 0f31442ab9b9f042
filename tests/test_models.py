"""Every model learns a tiny set by heart, in one process, through the whole objective."""

import pytest
import torch
from torchrec import EmbeddingBagCollection

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.config import parse_config
from trainer.encode import ColumnSpec
from trainer.features import used_features
from trainer.loader import SessionLoader
from trainer.models import build_model
from trainer.models.layers import embedding_tables
from trainer.objective import Objective
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.reader import SessionDataset
from trainer.tasks import parse_tasks

TOWERS = """
    task_towers { tower_name: ctr label_name: click num_class: CLASSES
                  mlp { hidden_units: [32] MLP } losses { LOSS } }
    task_towers { tower_name: cvr label_name: buy num_class: CLASSES losses { LOSS } }
"""
RELATED = TOWERS.replace(
    "label_name: buy", "label_name: buy relation_tower_names: ctr relation_mlp { hidden_units: 8 }"
)
MODELS = {
    "simple_multi_task": f"simple_multi_task {{ {TOWERS} }}",
    "dbmtl": f"dbmtl {{ bottom_mlp {{ hidden_units: [32] }} {RELATED} }}",
    "dbmtl with experts": f"""dbmtl {{ expert_mlp {{ hidden_units: [32] }} num_expert: 4
        gate_mlp {{ hidden_units: [8] }} {TOWERS} }}""",
    "multi_tower": """feature_groups { group_name: users feature_names: user_id }
        multi_tower { towers { input: all mlp { hidden_units: [32] MLP } } towers { input: users }
                      final { hidden_units: [16] } }
        losses { LOSS } num_class: CLASSES""",
}
LOSSES = {
    "jrc": ("jrc_loss { session_name: session_id }", 2),
    "jrc of the paper": ("jrc_loss { session_name: session_id contrast: SESSION }", 2),
    "softmax": ("softmax_cross_entropy {}", 2),
    "binary cross-entropy": ("binary_cross_entropy {}", 1),
    "binary cross-entropy on two logits": ("binary_cross_entropy {}", 2),
    "focal": ("binary_focal_loss {}", 1),
    "l2": ("l2_loss {}", 1),
    "jrc and cross-entropy": (
        "jrc_loss { session_name: session_id } } losses { binary_cross_entropy {}",
        2,
    ),
}


def config_of(model: str, loss: str, mlp: str = "") -> EasyRecConfig:
    config = two_task_config()
    config.model_config.ClearField("dbmtl")
    text, classes = LOSSES[loss]
    body = MODELS[model].replace("LOSS", text).replace("CLASSES", str(classes)).replace("MLP", mlp)
    config.MergeFrom(parse_config(f"model_config {{ {body} }}"))
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SessionDataset:
    path = tmp_path_factory.mktemp("models") / "data"
    return SessionDataset.open(write_dataset(path, click_table(12), num_files=1))


def overfit(config: EasyRecConfig, data: SessionDataset, steps: int = 120) -> tuple[float, float]:
    """The loss before and after training on one batch."""
    tasks = parse_tasks(config)
    spec = ColumnSpec(tuple(used_features(config)), tuple(tasks))
    (batch,) = SessionLoader(data, spec, batch_size=10_000).batches()
    torch.manual_seed(0)
    model = build_model(config, tasks)
    model.inputs.embeddings = EmbeddingBagCollection(
        tables=embedding_tables(model.inputs.id_features), device=torch.device("cpu")
    )
    objective = Objective(model, tasks, config.model_config)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.03)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss, _ = objective(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mlp", ["", "use_ln: true", 'use_bn: true activation: "nn.SiLU"'])
def test_each_model_overfits(model, mlp, data):
    first, last = overfit(config_of(model, "softmax", mlp), data)
    assert last < 0.15 * first


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_trains(loss, data):
    # The paper's form ranks positives against positives too: their number bounds it from below.
    target = 0.85 if loss == "jrc of the paper" else 0.15
    first, last = overfit(config_of("dbmtl", loss), data)
    assert last < target * first


@pytest.mark.parametrize("model", ["simple_multi_task", "dbmtl"])
def test_pareto_weights_train_too(model, data):
    config = config_of(model, "jrc")
    config.model_config.use_pareto_loss_weight = True
    first, last = overfit(config, data)
    assert last < 0.2 * first
