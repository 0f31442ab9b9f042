"""Click models: a SessionBatch in, logits per task out."""

from typing import NamedTuple

from torch import Tensor, nn

from trainer.batch import SessionBatch
from trainer.features import used_features
from trainer.models.dbmtl import DBMTL
from trainer.models.layers import FeatureGroups
from trainer.models.multi_tower import MultiTower
from trainer.models.simple_multi_task import SimpleMultiTask
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import Task

MODELS = {"multi_tower": MultiTower, "simple_multi_task": SimpleMultiTask, "dbmtl": DBMTL}


class ModelOutput(NamedTuple):
    """What a model makes of B rows.

    logits: per task, [B, num_class].
    pooled: the pooled embeddings, [B, E]; None without id features.
    shared: the features from which the task towers start, [B, ...]: the pooled embeddings where
        tasks share no layer.
    """

    logits: dict[str, Tensor]
    pooled: Tensor | None
    shared: Tensor | None


class ClickModel(nn.Module):
    """Features (sharded tables and raw values), then a dense network from groups to logits."""

    def __init__(self, inputs: FeatureGroups, net: nn.Module) -> None:
        super().__init__()
        self.inputs, self.net = inputs, net

    def forward(self, batch: SessionBatch) -> ModelOutput:
        """Logits per task, and what they came from."""
        groups, pooled = self.inputs(batch)
        logits, shared = self.net(groups)
        return ModelOutput(logits, pooled, pooled if shared is None else shared)


def build_model(config: EasyRecConfig, tasks: list[Task]) -> ClickModel:
    """The model of a config, its embedding tables on the meta device."""
    kind = config.model_config.WhichOneof("model") or ""
    inputs = FeatureGroups(used_features(config), list(config.model_config.feature_groups))
    return ClickModel(
        inputs, MODELS[kind](inputs.widths, getattr(config.model_config, kind), tasks)
    )
