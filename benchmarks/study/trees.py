"""LightGBM on the same rows: what a user would pick instead."""

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.study.datasets import Dataset, Rows, read_rows
from benchmarks.study.networks import measure, truth_of
from trainer.data.feature_config import used_features

NUM_TREES = 150
PARAMETERS: dict[str, Any] = {
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
OBJECTIVES = {"LightGBM, binary": "binary", "LightGBM, rank_xendcg": "rank_xendcg"}
CALIBRATION_SHARE = 0.1  # of the training sessions


def run_trees(
    dataset: Dataset, objective: str, seed: int, data: Path
) -> dict[str, dict[str, float]]:
    """Metrics per label on the evaluation rows: a model of its own for each."""
    train, evaluation = (
        read_rows(data / dataset.folder / f"{s}_sorted") for s in ("train", "eval")
    )
    found = {}
    for label in dataset.labels:
        prob = _probabilities(dataset, label, objective, seed, train, evaluation)
        labels = evaluation.table[label].to_numpy()
        truth = truth_of(dataset, label, evaluation.table)
        found[label] = measure(prob, labels, evaluation.session, truth)
    return found


def _probabilities(
    dataset: Dataset, label: str, objective: str, seed: int, train: Rows, evaluation: Rows
) -> NDArray[np.float64]:
    """Of the evaluation rows, [N].

    A ranker's scores are no probabilities: it is fitted on nine tenths of the training sessions,
    and Platt scaling, p = sigmoid(a * score + b), on the others.
    """
    names = feature_names(dataset, train)
    given = evaluation.table.select(names).to_pandas()
    if objective == "binary":
        model = _fit(dataset, label, objective, seed, train, slice(None), names)
        return np.asarray(model.predict(given))
    # Sessions lie in the order of a hash of their id, so the last tenth is a random one.
    last = int(len(train.lengths) * (1 - CALIBRATION_SHARE))
    first_row = int(train.lengths[:last].sum())
    model = _fit(dataset, label, objective, seed, train, slice(last), names)
    held_out = train.table.slice(first_row)
    scores = model.predict(held_out.select(names).to_pandas())
    return platt(scores, held_out[label].to_numpy(), model.predict(given))


def feature_names(dataset: Dataset, rows: Rows) -> list[str]:
    """The network's features and the dataset's further columns, in stored order."""
    features = {feature.name for feature in used_features(dataset.pipeline_config())}
    wanted = features.union(dataset.more_columns)
    return [name for name in rows.table.column_names if name in wanted]


def _fit(
    dataset: Dataset,
    label: str,
    objective: str,
    seed: int,
    rows: Rows,
    sessions: slice,
    names: list[str],
) -> lgb.Booster:
    """A model of the chosen sessions, the first ones in stored order."""
    lengths = rows.lengths[sessions]
    table = rows.table.slice(0, int(lengths.sum()))
    given = lgb.Dataset(
        table.select(names).to_pandas(),
        table[label].to_numpy(),
        group=lengths if objective != "binary" else None,
        categorical_feature=list(dataset.categories),
    )
    return lgb.train(PARAMETERS | {"objective": objective, "seed": seed}, given, NUM_TREES)


def platt(scores: Any, labels: NDArray, others: Any) -> NDArray[np.float64]:
    """Probabilities of `others` by a logistic regression of `labels` on `scores`, [N] each."""
    model = LogisticRegression(C=np.inf).fit(np.asarray(scores)[:, None], labels)
    return model.predict_proba(np.asarray(others)[:, None])[:, 1]
