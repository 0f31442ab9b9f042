"""Click models: a SessionBatch in, logits per task out.

SessionBatch -> EmbeddingTables -> FeatureGroups -> a network of trainer/models -> logits per task
                (sharded)          (dense parameters, the same on all ranks)
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.data.batch import SessionBatch
from trainer.data.feature_config import used_features
from trainer.models.custom import build_custom
from trainer.models.dbmtl import DBMTL
from trainer.models.dcn import DCNV1, DCNV2
from trainer.models.deepfm import DeepFM
from trainer.models.dlrm import DLRM
from trainer.models.embeddings import EmbeddingTables
from trainer.models.groups import FeatureGroups, plan_groups
from trainer.models.mask_net import MaskNet
from trainer.models.mmoe import MMoE
from trainer.models.multi_tower import MultiTower
from trainer.models.multi_tower_din import MultiTowerDIN
from trainer.models.pepnet import PEPNet
from trainer.models.ple import PLE
from trainer.models.session_linear import Sessions
from trainer.models.simple_multi_task import SimpleMultiTask
from trainer.models.wide_and_deep import WideAndDeep
from trainer.models.wukong import WuKong
from trainer.optim.optimizers import clips_pooled_gradients
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import Task

MODELS: dict[str, type[nn.Module]] = {
    "multi_tower": MultiTower,
    "multi_tower_din": MultiTowerDIN,
    "wide_and_deep": WideAndDeep,
    "deepfm": DeepFM,
    "dcn_v1": DCNV1,
    "dcn_v2": DCNV2,
    "dlrm": DLRM,
    "mask_net": MaskNet,
    "wukong": WuKong,
    "simple_multi_task": SimpleMultiTask,
    "mmoe": MMoE,
    "ple": PLE,
    "dbmtl": DBMTL,
    "pepnet": PEPNet,
}


class ModelOutput(NamedTuple):
    """What a model makes of B rows.

    logits: per task, [B, num_class].
    embeddings: as the tables gave them: [B, E] pooled, and [T, D] per sequence feature.
    shared: the features from which the task towers start, [B, ...]: the embeddings where tasks
        share no layer.
    """

    logits: dict[str, Tensor]
    embeddings: list[Tensor]
    shared: list[Tensor]


class ClickModel(nn.Module):
    """Embedding tables, feature groups, and a network from the groups to logits.

    A network is called with the inputs of trainer/models/groups.py, and `LABEL.label` [B] for each
    label in its attribute `label_inputs`, if it has one. It returns the logits per task,
    [B, num_class], and the features that all its towers share, if any layer made them.
    """

    def __init__(
        self,
        tables: EmbeddingTables,
        groups: FeatureGroups,
        net: nn.Module,
        splits_sessions: bool = True,
    ) -> None:
        super().__init__()
        self.tables, self.groups, self.net = tables, groups, net
        self.label_inputs: tuple[str, ...] = getattr(net, "label_inputs", ())
        self.splits_sessions = splits_sessions and getattr(net, "splits_sessions", False)
        tables.asks_once_a_session = self.splits_sessions

    def dense_parameters(self) -> Iterator[nn.Parameter]:
        """Those that lie whole on every rank."""
        yield from self.groups.parameters()
        yield from self.net.parameters()

    def forward(self, batch: SessionBatch) -> ModelOutput:
        """Logits per task, and what they came from."""
        embedded = self.tables(batch)
        splits = self.splits_sessions and self.training  # scores have an exported model's rounding
        sessions = Sessions.of(batch) if splits else None
        inputs = self.groups(embedded, sessions)
        inputs |= {f"{name}.label": batch.labels[name] for name in self.label_inputs}
        logits, shared = self.net(inputs)
        return ModelOutput(
            logits, embedded.trained, embedded.trained if shared is None else [shared]
        )


def build_model(
    config: EasyRecConfig, tasks: list[Task], tables_device: str | torch.device = "meta"
) -> ClickModel:
    """The model of a config; its embedding tables get their memory by sharding."""
    kind = config.model_config.WhichOneof("model") or ""
    features = used_features(config)
    plans = plan_groups(features, config.model_config)
    groups = FeatureGroups(plans)
    build: Any = build_custom if kind == "custom" else MODELS[kind]
    net = build(groups.widths, getattr(config.model_config, kind), tasks)
    lookups = [lookup for plan in plans for lookup in plan.lookups]
    tables = EmbeddingTables(features, lookups, tables_device)
    # PE-MTL compares tasks by the gradient of each row's embeddings, and gradient_clipping clips
    # that: it must be as it is without the split.
    is_clipped = clips_pooled_gradients(config.train_config.sparse_optimizer)
    splits_sessions = not (config.model_config.use_pareto_loss_weight or is_clipped)
    return ClickModel(tables, groups, net, splits_sessions)
