"""Click models: a SessionBatch in, logits per task out."""

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


class ClickModel(nn.Module):
    """Features (sharded tables and raw values), then a dense network from groups to logits."""

    def __init__(self, inputs: FeatureGroups, net: nn.Module) -> None:
        super().__init__()
        self.inputs, self.net = inputs, net

    def forward(self, batch: SessionBatch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Logits [B, num_class] per task, and the pooled embeddings [B, E] they came from."""
        groups, pooled = self.inputs(batch)
        return self.net(groups), pooled


def build_model(config: EasyRecConfig, tasks: list[Task]) -> ClickModel:
    """The model of a config, its embedding tables on the meta device."""
    kind = config.model_config.WhichOneof("model") or ""
    inputs = FeatureGroups(used_features(config), list(config.model_config.feature_groups))
    return ClickModel(
        inputs, MODELS[kind](inputs.widths, getattr(config.model_config, kind), tasks)
    )
