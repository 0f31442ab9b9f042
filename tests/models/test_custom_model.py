"""A user's own network: the worked example of docs/models.md, as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.checks.config import check_config
from trainer.config import ConfigError, parse_config
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.data.loader import SessionLoader
from trainer.data.reader import SessionDataset
from trainer.models import MODELS, build_model
from trainer.objective import Objective
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import parse_tasks

DOC = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
SECTION = DOC[DOC.index("## Your own model") :]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gated.py"
    path.write_text(block("python"))
    return path


def config_of(text: str) -> EasyRecConfig:
    config = two_task_config()
    config.ClearField("model_config")
    config.MergeFrom(parse_config(text))
    return config


def test_the_documented_model_trains(source, tmp_path):
    config = config_of(block("textproto"))
    check_config(config)
    tasks = parse_tasks(config)
    data = SessionDataset.open(write_dataset(tmp_path / "data", click_table(12), num_files=1))
    spec = ColumnSpec(tuple(used_features(config)), tuple(tasks))
    (batch,) = SessionLoader(data, spec, batch_size=1000).batches()
    torch.manual_seed(0)
    objective = Objective(build_model(config, tasks, "cpu"), tasks, config.model_config)
    bias = objective.get_parameter("model.net.layers.0.bias")
    assert len(bias) == 16  # as `parameters` says
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss, _ = objective(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"gated.py"', '"other.py"', r"custom.path must be a Python file, but got: `other.py`"),
        ('"Gated"', '"Gate"', r"class_name must be .* did you mean `Gated`\? There are: Gated"),
        (
            "hidden",
            "hiden",
            r"must fit Gated\(widths, config, tasks, \*, hidden, dropout\), but:.*",
        ),
        ("{", "[", r"custom.parameters must be a JSON object"),
        ('{"hidden": 16}', "[]", r"custom.parameters must be a JSON object, but got: \[\]"),
        ("custom {", "custom { wide_embedding_dim: 8", r"custom.wide_embedding_dim: there is no"),
    ],
)
def test_faults_of_a_custom_model_are_named(source, old, new, message):
    text = block("textproto")
    at = text.index("custom {")
    changed = text[:at] + (
        text[at:].replace(old, new, 1) if old != "{" else text[at:].replace("'{", "'[", 1)
    )
    with pytest.raises(ConfigError, match=message):
        check_config(config_of(changed))


def test_a_file_that_cannot_be_imported_is_an_error(source):
    source.write_text("import no_such_module")
    with pytest.raises(ConfigError, match=r"gated.py cannot be imported: No module named"):
        check_config(config_of(block("textproto")))


def test_every_snippet_is_a_valid_model():
    snippets = DOC[DOC.index("## Snippets") : DOC.index("## Your own model")]
    tower, models = re.findall(r"```\n(.*?)```", snippets, re.DOTALL)
    found = set()
    for line in models.splitlines():
        config = parse_config(f"model_config {{ {line.replace('TOWERS', tower)} }}")
        found.add(config.model_config.WhichOneof("model"))
    assert found == set(MODELS)
