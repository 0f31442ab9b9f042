"""export_config's choice of the best checkpoint, by TorchEasyRec's names of metrics."""

import numpy as np
import pytest

from tests.configs import two_task_config
from trainer.checkpoints.best_metric import best_metric
from trainer.checks.config import check_config
from trainer.config import ConfigError, edit_config, parse_config
from trainer.evaluate import task_metrics
from trainer.metrics import Ranks
from trainer.tasks import parse_tasks

BINARY = """losses { binary_cross_entropy {} } metrics { auc {} }
    metrics { grouped_auc { grouping_key: "user_id" } } metrics { normalized_entropy {} }
    metrics { multiclass_auc {} } metrics { recall_at_k { top_k: 3 } } metrics { ndcg {} }
    metrics { mrr {} } metrics { calibration_error { num_bins: 9 } }
    metrics { field_calibration_error { field_name: "user_id" } }"""
LABELS = {
    "binary": f"{BINARY} metrics {{ accuracy {{}} }}",
    "at another threshold": f"{BINARY} metrics {{ accuracy {{ threshold: 0.25 }} }}",
    "classes": """num_class: 3 losses { softmax_cross_entropy {} }
        metrics { multiclass_auc { average: "weighted" } } metrics { accuracy {} }""",
    "top classes": """num_class: 3 losses { softmax_cross_entropy {} }
        metrics { multiclass_auc {} } metrics { accuracy { top_k: 2 } }""",
    "numbers": """losses { l2_loss {} } metrics { mean_squared_error {} } metrics { xauc {} }
        metrics { mean_absolute_error {} } metrics { grouped_xauc { grouping_key: "user_id" } }""",
}


def config_of(label: str, is_multi_task: bool):
    config = two_task_config()
    config.ClearField("model_config")
    group = 'feature_groups { group_name: "all" feature_names: "price" }'
    if is_multi_task:
        tower = f"task_towers {{ tower_name: ctr label_name: click {LABELS[label]} }}"
        model = f"simple_multi_task {{ {tower} }}"
    else:
        model = f"{LABELS[label]} dcn_v1 {{ final {{ hidden_units: 4 }} }}"
    config.MergeFrom(parse_config(f"model_config {{ {group} {model} }}"))
    return config


@pytest.mark.parametrize("is_multi_task", [False, True])
@pytest.mark.parametrize("label", LABELS)
def test_each_metric_and_loss_of_a_config_is_one_of_an_evaluation(label, is_multi_task):
    config = config_of(label, is_multi_task)
    (task,) = parse_tasks(config)
    metrics = task_metrics(task, ("session",))
    rows = np.arange(6)
    score = np.full((6, 3), 1 / 3) if "classes" in label else rows / 8
    metrics.update(score, rows % 2, rows // 3, {"user_id": rows // 3})
    losses = [loss.WhichOneof("loss") for loss in task.losses]
    known = {f"{task.name}/{name}" for name in [*metrics.compute(Ranks.alone()), *losses]}
    kinds = [metric.WhichOneof("metric") for metric in task.metrics]
    found = set()
    for kind in [*kinds, *losses]:
        name = f"{kind}_ctr" if is_multi_task else kind
        config.export_config.exporter_type = "best"
        config.export_config.best_exporter_metric = name
        metric, larger_is_better = best_metric(config)
        assert metric in known and larger_is_better
        found.add(metric)
    assert len(found) == len(kinds) + len(losses)


@pytest.mark.parametrize(
    ("export", "expected"),
    [
        ({}, ("", True)),
        ({"exporter_type": "latest", "best_exporter_metric": "auc_ctr"}, ("", True)),
        ({"exporter_type": "best", "best_exporter_metric": "auc_ctr"}, ("ctr/auc", True)),
        (
            {"exporter_type": "best", "best_exporter_metric": "grouped_auc_cvr"},
            ("cvr/gauc_unweighted[user_id]", True),
        ),
        (
            {
                "exporter_type": "best",
                "best_exporter_metric": "jrc_loss_cvr",
                "metric_larger_is_better": False,
            },
            ("cvr/jrc_loss", False),
        ),
    ],
)
def test_names_of_torcheasyrec_become_ours(export, expected):
    config = two_task_config()
    edit_config(config, {"export_config": export})
    check_config(config)
    assert best_metric(config) == expected


def test_without_export_config_train_config_says():
    config = two_task_config(
        train_config__best_checkpoint_metric="ctr/ece",
        train_config__best_checkpoint_larger_is_better=False,
    )
    assert best_metric(config) == ("ctr/ece", False)


def test_the_only_task_needs_no_name_of_a_metric():
    config = config_of("binary", is_multi_task=False)
    config.export_config.exporter_type = "best"
    assert best_metric(config) == ("click/auc", True)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"export_config.exporter_type": "bset"}, r"must be latest or best, but got: `bset`"),
        (
            {"export_config.exporter_type": "best"},  # of several tasks none is meant
            r"best_exporter_metric must be a metric or loss .* got: `auc`; .*There are: auc_ctr, "
            r"jrc_loss_ctr, grouped_auc_cvr, jrc_loss_cvr",
        ),
        (
            {
                "export_config": {"exporter_type": "best", "best_exporter_metric": "auc_cvr"},
            },
            r"but got: `auc_cvr`; did you mean `auc_ctr`\? There are: ",
        ),
        (
            {
                "export_config.exporter_type": "best",
                "train_config.best_checkpoint_metric": "ctr/auc",
            },
            r"only one of train_config.best_checkpoint_metric and export_config.exporter_type: bes",
        ),
    ],
)
def test_faulty_choices_are_named(edits, message):
    config = two_task_config()
    edit_config(config, edits)
    with pytest.raises(ConfigError, match=message):
        check_config(config)
