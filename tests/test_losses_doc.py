"""docs/losses.md cannot rot: its snippets pass the checks, and it names every field of a loss."""

import re
from pathlib import Path

import pytest

from tests.configs import two_task_config
from trainer.checks.config import check_config
from trainer.config import parse_config
from trainer.protos.pipeline_pb2 import EasyRecConfig, LossConfig
from trainer.tasks import Task, parse_tasks

TEXT = (Path(__file__).parent.parent / "docs" / "losses.md").read_text()
SNIPPETS = re.findall(r"```protobuf\n(.*?)```", TEXT, re.DOTALL)
KINDS = [field.name for field in LossConfig.DESCRIPTOR.oneofs_by_name["loss"].fields]
TOWER = "multi_tower { towers { input: all } final { hidden_units: [8] } }"


def whole_config(snippet: str) -> EasyRecConfig:
    """The snippet in place of the same parts of a whole config."""
    given, config = parse_config(snippet), two_task_config()
    if given.HasField("model_config"):
        config.model_config.ClearField("dbmtl")
        if given.model_config.WhichOneof("model") is None:
            config.MergeFrom(parse_config(f"model_config {{ {TOWER} }}"))
    config.MergeFrom(given)
    return config


def tasks_of(snippet: str) -> list[Task]:
    config = whole_config(snippet)
    check_config(config)
    return parse_tasks(config)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_is_accepted(snippet):
    assert tasks_of(snippet)


def test_every_loss_has_a_snippet_and_a_row_of_the_table():
    losses = [loss for snippet in SNIPPETS for task in tasks_of(snippet) for loss in task.losses]
    assert {loss.WhichOneof("loss") for loss in losses} == set(KINDS)
    assert re.findall(r"^\| `(\w+_\w+)` \|", TEXT, re.MULTILINE) == [
        "binary_cross_entropy",
        "binary_focal_loss",
        "softmax_cross_entropy",
        "l2_loss",
        "jrc_loss",
        "list_net_loss",
        "rank_net_loss",
        "rcr_loss",
    ]


def test_every_field_of_a_loss_is_named():
    configs = [getattr(LossConfig(), kind) for kind in KINDS]
    fields = {field.name for config in configs for field in config.DESCRIPTOR.fields}
    assert {name for name in fields if not re.search(rf"\b{name}\b", TEXT)} == set()
