"""LightGBM on the trivago samples: what a user would pick instead, on the same features and split.

    .venv/bin/python benchmarks/trivago_lightgbm.py        # after `make trivago RAW=...`

Writes benchmarks/results/trivago-lightgbm.json and prints it.
"""

import json
import sys
import time

import lightgbm as lgb
import numpy as np
import pandas as pd
from record_examples import ROOT, machine

from trainer.config import load_config
from trainer.data.feature_config import used_features
from trainer.metrics import binary_metrics

MORE_COLUMNS = ("item_id", "city_id")  # beside the features of jrc.config
PARAMETERS = {
    "objective": "binary",
    "num_leaves": 31,
    "learning_rate": 0.05,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "seed": 0,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}
NUM_TREES = 300


def main() -> int:
    """Fit, evaluate, record; returns the exit status."""
    raw = ROOT / "data" / "trivago" / "raw"
    train, evaluation = (pd.read_parquet(raw / split) for split in ("train", "eval"))
    config = load_config(ROOT / "examples" / "trivago" / "jrc.config")
    wanted = {feature.name for feature in used_features(config)}.union(MORE_COLUMNS)
    features = [name for name in train.columns if name in wanted]
    started = time.monotonic()
    model = lgb.train(PARAMETERS, lgb.Dataset(train[features], train["label"]), NUM_TREES)
    seconds = time.monotonic() - started
    sessions = pd.factorize(evaluation["session_id"])[0]
    prob = pd.Series(np.asarray(model.predict(evaluation[features])), index=evaluation.index)
    by_list = prob.groupby([evaluation["session_id"], evaluation["step"]])
    scores = {
        "lightgbm": prob.to_numpy(),
        # One hotel of a list is clicked; LightGBM does not know, so its shares of the list's sum.
        "lightgbm_list_shares": (prob / by_list.transform("sum")).to_numpy(),
        # A probability that falls with the place in the list: only its ranking means anything.
        "position": 1.0 / (1.0 + evaluation["position"].to_numpy()),
    }
    results = {
        "machine": machine(),
        "lightgbm": lgb.__version__,
        "parameters": PARAMETERS | {"num_trees": NUM_TREES},
        "num_features": len(features),
        "fit_seconds": round(seconds, 1),
        "metrics": {
            name: binary_metrics(score, evaluation["label"].to_numpy(), sessions)
            for name, score in scores.items()
        },
    }
    text = json.dumps(results, indent=2)
    (ROOT / "benchmarks" / "results" / "trivago-lightgbm.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
