"""The rows of the study's tables: what is minimised, all else equal."""

import re
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf import text_format

from trainer.config import task_towers
from trainer.protos.pipeline_pb2 import EasyRecConfig

ALPHAS = tuple(tenths / 10 for tenths in range(1, 10))


@dataclass(frozen=True)
class Loss:
    """A loss of each task, the tasks' weights, and what else is changed for it.

    Attributes:
        num_class: logits per row.
        text: the `losses` entries, as in a config.
        weights: of the tasks, where there are several; all 1 without.
        pareto_minimum: the least weight of a task under PE-MTL; None for fixed weights.
        network: a network in place of the config's, as in a config; feature groups that it does
            not name are left out.
        without: a pattern of the names of features that are left out.
    """

    num_class: int
    text: str
    weights: tuple[float, ...] = ()
    pareto_minimum: float | None = None
    network: str = ""
    without: str = ""

    def put_into(self, config: EasyRecConfig) -> None:
        """Train every task of the config with this loss in place of its own."""
        model = config.model_config
        if self.network:
            text_format.Merge(self.network, model)
            used = [
                group for group in model.feature_groups if f'"{group.group_name}"' in self.network
            ]
            del model.feature_groups[:]
            model.feature_groups.extend(used)
        if self.without:
            leave_out(config, self.without)
        tasks: Any = task_towers(config) or [model]
        for number, task in enumerate(tasks):
            task.ClearField("losses")
            text_format.Merge(self.text, task)
            task.num_class = self.num_class
            if self.weights:
                task.weight = self.weights[number]
            if self.pareto_minimum is not None:
                task.pareto_min_loss_weight = self.pareto_minimum
        if self.pareto_minimum is not None:
            model.use_pareto_loss_weight = True


def leave_out(config: EasyRecConfig, pattern: str) -> None:
    """Take the features whose whole name matches out of the config."""
    kept = [each for each in config.feature_configs if not re.fullmatch(pattern, _name(each))]
    del config.feature_configs[:]
    config.feature_configs.extend(kept)
    for group in config.model_config.feature_groups:
        names = [name for name in group.feature_names if not re.fullmatch(pattern, name)]
        group.feature_names[:] = names


def _name(feature: Any) -> str:
    return getattr(feature, feature.WhichOneof("feature")).feature_name


CROSS_ENTROPY = "losses { binary_cross_entropy {} }"


def jrc(alpha: float, contrast: str) -> str:
    """The entry of a JRC loss."""
    fields = f"session_name: 'session_id' alpha: {alpha} contrast: {contrast}"
    return f"losses {{ jrc_loss {{ {fields} }} }}"


def beside_cross_entropy(name: str) -> str:
    """Cross-entropy and another session loss, half and half."""
    other = f"{name} {{ session_name: 'session_id' }}"
    return f"losses {{ binary_cross_entropy {{}} weight: 0.5 }} losses {{ {other} weight: 0.5 }}"


# With these two numbers focal loss is -log p of the positives alone: where p is a softmax over a
# list, the likelihood of the list's click.
CHOICE = "losses { binary_focal_loss { gamma: 0.0 alpha: 1.0 } }"
RANK_NET = "losses {{ rank_net_loss {{ session_name: 'session_id' }} weight: {weight} }}"
# The widths of ListChoice, a sigmoid per row.
ROW_BY_ROW = """multi_tower {
    towers { input: "all" mlp { hidden_units: [128] } }
    final { hidden_units: [64] }
}"""
# Numbers by bucket, beside the numbers; the columns that are buckets from the start stay.
BUCKETS = r"(?!(price|touch|steps_since|shown|actions|clickouts)_bucket).*_bucket"
# Not in jrc.config: of the other hotels, of the list before, of clicks against the place's usual.
LATE_COLUMNS = (
    "(item_click_lift|touch_share|seconds_(spent|share)|touched_(above|below)"
    "|(above|below)_is_touched|price_to_others_touched|list_overlap|was_(above|below)_clicked"
    "|has_earlier_list|moved_since)(_bucket)?"
)
LIST_SOFTMAX = {
    "list softmax": Loss(1, CHOICE),
    "list softmax + RankNet": Loss(1, CHOICE + RANK_NET.format(weight=0.1)),
    "list softmax + RankNet, weight 0.3": Loss(1, CHOICE + RANK_NET.format(weight=0.3)),
    "list softmax, without the late columns": Loss(1, CHOICE, without=LATE_COLUMNS),
    "list softmax, without buckets": Loss(1, CHOICE, without=BUCKETS),
    "list softmax, loss cross-entropy": Loss(1, CROSS_ENTROPY),
    "sigmoid per row, cross-entropy": Loss(1, CROSS_ENTROPY, network=ROW_BY_ROW),
    "sigmoid per row, JRC, session, alpha 0.1": Loss(2, jrc(0.1, "SESSION"), network=ROW_BY_ROW),
}
WEIGHINGS: dict[str, dict[str, Any]] = {
    "weights 1 and 1": {"weights": (1.0, 1.0)},
    "weights 0.4 and 1.6": {"weights": (0.4, 1.6)},
    "weights 1.6 and 0.4": {"weights": (1.6, 0.4)},
    "PE-MTL": {"pareto_minimum": 0.0},
    "PE-MTL, least weight 0.3": {"pareto_minimum": 0.3},
}
SINGLE_TASK = {
    "cross-entropy": Loss(1, CROSS_ENTROPY),
    "focal, gamma 2": Loss(1, "losses { binary_focal_loss { gamma: 2.0 alpha: 0.5 } }"),
    **{
        f"JRC, {contrast.lower()}, alpha {alpha}": Loss(2, jrc(alpha, contrast))
        for contrast in ("OPPOSITE", "SESSION")
        for alpha in ALPHAS
    },
    "cross-entropy + RankNet": Loss(1, beside_cross_entropy("rank_net_loss")),
    "cross-entropy + ListNet": Loss(1, beside_cross_entropy("list_net_loss")),
    "RCR, alpha 0.5": Loss(1, "losses { rcr_loss { session_name: 'session_id' alpha: 0.5 } }"),
}
TWO_TASKS = {
    f"{name}, {how}": replace(loss, **weighing)
    for name, loss in (
        ("cross-entropy", Loss(1, CROSS_ENTROPY)),
        ("JRC, opposite, alpha 0.8", Loss(2, jrc(0.8, "OPPOSITE"))),
    )
    for how, weighing in WEIGHINGS.items()
}
