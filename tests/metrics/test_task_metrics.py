"""The metrics of a task by the kind of its label, and what they say of bad rows."""

import math

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    roc_auc_score,
    top_k_accuracy_score,
)

from tests.metrics.loops import pairwise_xauc
from trainer.config import ConfigError, parse_config
from trainer.metrics import BinaryMetrics, MulticlassMetrics, Ranks, RegressionMetrics, gauc
from trainer.metrics.requests import (
    BINARY,
    MULTICLASS,
    REGRESSION,
    Requests,
    check_train_metrics,
    parse_requests,
)

ALONE = Ranks.alone()


def asked(text: str, kind: str = BINARY) -> Requests:
    """The options of metrics in config text."""
    config = parse_config(f"model_config {{ {text} }}")
    return parse_requests(config.model_config.metrics, kind, "task `click`")


def click_rows(num_rows: int, seed: int):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 50, num_rows) / 50
    session = np.sort(rng.integers(0, num_rows // 6, num_rows))
    return score, (rng.random(num_rows) < score).astype(np.int64), session


def batches(session, size: int) -> list[np.ndarray]:
    """Rows of whole sessions, about `size` at a time."""
    cuts = [i for i in range(1, len(session)) if session[i] != session[i - 1]]
    return np.split(np.arange(len(session)), cuts[:: max(size // 6, 1)])


def test_binary_metrics_by_default_and_by_choice():
    score, label, session = click_rows(1_000, 0)
    user = np.random.default_rng(1).integers(0, 40, 1_000)
    wanted = asked(
        'metrics { auc { thresholds: 1000 } } metrics { grouped_auc { grouping_key: "user" } } '
        'metrics { grouped_auc { grouping_key: "session" } } metrics { normalized_entropy {} } '
        'metrics { field_calibration_error { field_name: "user" } } metrics { ndcg {} } '
        "metrics { recall_at_k {} } metrics { mrr {} } metrics { accuracy { threshold: 0.3 } } "
        "metrics { calibration_error { num_bins: 5 } }"
    )
    metrics = BinaryMetrics("click", wanted, ("session",))
    for some in batches(session, 100):
        metrics.update(score[some], label[some], session[some], {"user": user[some]})
    found = metrics.compute(ALONE)
    assert list(found) == [
        *("auc", "auc_error_bound"),
        *("gauc", "gauc_unweighted", "gauc_coverage", "gauc_unweighted_coverage"),
        *("logloss", "normalized_entropy", "pcoc", "ece", "ece@5"),
        *("ece_equal_mass", "ece_equal_mass@5"),
        *("gauc[user]", "gauc_unweighted[user]", "gauc_coverage[user]"),
        *("gauc_unweighted_coverage[user]", "gauc_stderr[user]"),
        *("gauc[session]", "gauc_unweighted[session]", "gauc_coverage[session]"),
        *("gauc_unweighted_coverage[session]", "gauc_stderr[session]"),
        *("field_rce[user]", "field_rce_stderr[user]"),
        *("ndcg@10", "mrr", "recall@5", "sessions_with_positive"),
        *("accuracy@0.3", "rows", "positives"),
    ]
    assert found["auc"] == pytest.approx(roc_auc_score(label, score))
    assert found["gauc"] == pytest.approx(gauc(score, label, session).weighted)
    assert found["gauc[session]"] == found["gauc"]
    assert found["gauc[user]"] == pytest.approx(gauc(score, label, user).weighted)
    assert found["gauc_unweighted[user]"] == pytest.approx(gauc(score, label, user).unweighted)
    assert found["accuracy@0.3"] == pytest.approx(accuracy_score(label, score > 0.3))
    assert (found["rows"], found["positives"]) == (1_000, label.sum())
    assert metrics.compute(ALONE) == found  # computing does not consume
    table = np.array(metrics.plots(ALONE)["reliability"])
    assert table.sum(axis=0) == pytest.approx([1_000, score.sum(), label.sum()])


def test_multiclass_metrics_equal_sklearn():
    rng = np.random.default_rng(2)
    score = rng.dirichlet(np.ones(4), 801)
    label = np.array([rng.choice(4, p=p) for p in score])
    wanted = asked(
        "metrics { multiclass_auc {} } metrics { multiclass_auc { average: 'weighted' } } "
        "metrics { accuracy {} } metrics { accuracy { top_k: 2 } }",
        MULTICLASS,
    )
    metrics = MulticlassMetrics("kind", 4, wanted)
    for some in np.array_split(np.arange(801), 3):
        metrics.update(score[some], label[some], some)
    found = metrics.compute(ALONE)
    for name, average in (("multiclass_auc", "macro"), ("multiclass_auc_weighted", "weighted")):
        expected = roc_auc_score(label, score, multi_class="ovr", average=average)
        assert found[name] == pytest.approx(expected, abs=1e-12)
        assert found[f"{name}_error_bound"] == 0.0
    assert found["accuracy"] == pytest.approx(accuracy_score(label, score.argmax(axis=1)))
    assert found["accuracy@2"] == pytest.approx(top_k_accuracy_score(label, score, k=2))
    assert found["logloss"] == pytest.approx(log_loss(label, score))


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_multiclass_auc_of_two_classes_equals_sklearn(average):
    score, label, session = click_rows(500, 5)
    wanted = asked(f"metrics {{ multiclass_auc {{ average: '{average}' }} }}")
    metrics = BinaryMetrics("click", wanted)
    metrics.update(score, label, session)
    found = metrics.compute(ALONE)
    name = {"macro": "multiclass_auc", "weighted": "multiclass_auc_weighted"}[average]
    of_class = np.stack([1 - score, score], axis=1)
    expected = roc_auc_score(np.eye(2)[label], of_class, average=average)
    assert found[name] == pytest.approx(expected, abs=1e-12)
    assert found[f"{name}_error_bound"] == 0.0


def test_multiclass_auc_of_one_class_is_nan():
    metrics = BinaryMetrics("click", asked("metrics { multiclass_auc {} }"))
    metrics.update(np.array([0.2, 0.4]), np.zeros(2), np.arange(2))
    assert math.isnan(metrics.compute(ALONE)["multiclass_auc"])


def test_a_class_without_rows_has_no_share_in_the_mean():
    metrics = MulticlassMetrics("kind", 3, asked("metrics { multiclass_auc {} }", MULTICLASS))
    score = np.array([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0]])
    metrics.update(score, np.array([0, 1]), np.arange(2))
    assert metrics.compute(ALONE)["multiclass_auc"] == 1.0


def test_equal_probabilities_of_classes_are_right_by_chance():
    metrics = MulticlassMetrics("kind", 4)
    metrics.update(np.full((8, 4), 0.25), np.arange(8) % 4, np.arange(8))
    assert metrics.compute(ALONE)["accuracy"] == pytest.approx(0.25)


def test_regression_metrics_equal_sklearn_and_loops():
    rng = np.random.default_rng(3)
    score, label = rng.normal(size=120).round(1), rng.normal(size=120).round(1)
    group = rng.integers(0, 10, 120)
    wanted = asked(
        'metrics { xauc {} } metrics { grouped_xauc { grouping_key: "user" } }', REGRESSION
    )
    metrics = RegressionMetrics("stay", wanted)
    for some in np.array_split(np.arange(120), 3):
        metrics.update(score[some], label[some], some, {"user": group[some]})
    found = metrics.compute(ALONE)
    assert found["mse"] == pytest.approx(mean_squared_error(label, score))
    assert found["mae"] == pytest.approx(mean_absolute_error(label, score))
    assert found["xauc"] == pytest.approx(pairwise_xauc(score, label))
    of_group = [pairwise_xauc(score[group == g], label[group == g]) for g in range(10)]
    expected = np.average(of_group, weights=np.bincount(group))
    assert found["xauc[user]"] == pytest.approx(expected)
    assert found["xauc_stderr"] == found["xauc_stderr[user]"] == 0.0


def test_xauc_of_too_many_rows_is_that_of_some_rows():
    rng = np.random.default_rng(4)
    label = rng.normal(size=20_000)
    score, session = label + rng.normal(size=20_000), np.arange(20_000) // 4
    exact, sampled = (RegressionMetrics("stay", Requests(xauc=True), n) for n in (30_000, 4_000))
    for metrics in (exact, sampled):
        metrics.update(score, label, session)
    expected, found = exact.compute(ALONE), sampled.compute(ALONE)
    assert expected["xauc_stderr"] == 0.0
    assert 0 < found["xauc_stderr"] < 0.02
    assert abs(found["xauc"] - expected["xauc"]) < 4 * found["xauc_stderr"]


def test_what_rows_do_not_define_is_nan():
    for metrics in (BinaryMetrics(), MulticlassMetrics("kind", 3), RegressionMetrics("stay")):
        found = metrics.compute(ALONE)
        assert found["rows"] == 0.0
        assert math.isnan(next(iter(found.values())))


def updated(metrics, score, label) -> None:
    score, label = np.array(score), np.array(label)
    metrics.update(score, label, np.arange(len(score)))
    good = np.zeros_like(score[:1]), np.zeros_like(label[:1])
    metrics.update(*good, np.arange(1))  # does not hide the bad one
    metrics.compute(ALONE)


MESSAGES = {
    "NaN score": (
        lambda: updated(BinaryMetrics("click"), [math.nan, 0.5], [0, 1]),
        "scores of task 'click' must not be NaN, but 1 of 3 are; look for a diverged loss",
    ),
    "logits": (
        lambda: updated(BinaryMetrics("click"), [3.0, 0.5], [0, 1]),
        "probabilities of task 'click' must be in [0, 1], but 1 of 3 are not; apply a sigmoid",
    ),
    "labels of two classes": (
        lambda: updated(BinaryMetrics("click"), [0.2, 0.5], [0.5, 1]),
        "labels of task 'click' must be 0 or 1, but 1 of 3 are not; correct the label column",
    ),
    "labels of classes": (
        lambda: updated(MulticlassMetrics("kind", 3), np.full((2, 3), 1 / 3), [0, 3]),
        "labels of task 'kind' must be 0 ... 2, but 1 of 3 are not",
    ),
    "infinite prediction": (
        lambda: updated(RegressionMetrics("stay"), [-math.inf, 0.5], [0, 1]),
        "scores of task 'stay' must be finite, but 1 of 3 are not",
    ),
    "NaN label": (
        lambda: updated(RegressionMetrics("stay"), [0.5, 0.5], [0, math.nan]),
        "labels of task 'stay' must be finite, but 1 of 3 are not",
    ),
    "shapes": (
        lambda: updated(BinaryMetrics("click"), [0.5, 0.5], [0]),
        "labels of task 'click' must have shape (2,), one per row, but got (1,)",
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize(("call", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_message(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below, literally
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "train_metrics { auc {} decay_step: 10 } train_metrics { auc {} decay_step: 99 }",
        "train_metrics { accuracy { threshold: 0.1 } } train_metrics { accuracy {} }",
        "train_metrics { recall_at_k { top_k: 3 } } train_metrics { recall_at_k { top_k: 3 } }",
    ],
)
def test_train_metrics_of_one_name_are_an_error(text):
    metrics = parse_config(f"model_config {{ {text} }}").model_config.train_metrics
    with pytest.raises(ConfigError, match=r"task `click`: train_metrics must have each metric onc"):
        check_train_metrics(metrics, BINARY, "task `click`")


def test_train_metrics_of_several_k_are_several():
    text = "train_metrics { recall_at_k { top_k: 3 } } train_metrics { recall_at_k { top_k: 5 } }"
    metrics = parse_config(f"model_config {{ {text} }}").model_config.train_metrics
    check_train_metrics(metrics, BINARY, "task `click`")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("metrics {}", BINARY, "each `metrics` must name a metric, but one is empty"),
        (
            "metrics { auc {} }",
            REGRESSION,
            "metrics: auc needs a loss for two classes, but the task's label is a real number; "
            "there are: mean_absolute_error, mean_squared_error, xauc, grouped_xauc",
        ),
        ("metrics { mrr {} }", MULTICLASS, "mrr needs a loss for two classes"),
        ("metrics { grouped_auc {} }", BINARY, "grouping_key must name a column, but is missing"),
        ("metrics { recall_at_k { top_k: 0 } }", BINARY, "top_k must be positive, but got: 0"),
        ("metrics { calibration_error { num_bins: 0 } }", BINARY, "num_bins must be positive"),
        ("metrics { normalized_entropy { eta: 0.5 } }", BINARY, "eta must be in (0, 0.5)"),
        ("metrics { accuracy { threshold: 2 } }", BINARY, "threshold must be in [0, 1], got: 2"),
        ("metrics { multiclass_auc { average: micro } }", MULTICLASS, "macro or weighted"),
        (
            "metrics { field_calibration_error { field_name: x epsilon: 0 } }",
            BINARY,
            "epsilon must be positive, but got: 0",
        ),
    ],
)
def test_config_message(text, kind, message):
    with pytest.raises(ConfigError) as caught:
        asked(text, kind)
    assert message in str(caught.value)
    assert "task `click`" in str(caught.value)
