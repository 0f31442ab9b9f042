"""A run in the test's own process, predicted and served."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from launch import export, predict
from trainer.serving import load_scorer


def expect_served_as_predicted(folder: Path) -> None:
    """The run `model` has the same scores for the data `train` from predict.py and the scorer."""
    flags = ["--checkpoint_path", folder / "model", "--predict_input_path", folder / "train"]
    flags += ["--predict_output_path", folder / "scores", "--batch_size", 1000]
    predict.predict_run(predict.parse_args([str(flag) for flag in flags]), torch.device("cpu"))
    flags = ["--checkpoint_path", folder / "model", "--export_dir", folder / "out"]
    export.export_run(export.parse_args([str(flag) for flag in flags]))
    found = load_scorer(folder / "out").score(_read(folder / "train"))
    expected = _read(folder / "scores")
    for name in ("logits_ctr", "probs1_cvr"):
        assert np.std(found[name]) > 0
        np.testing.assert_allclose(found[name], np.stack(expected[name].to_numpy()), rtol=1e-5)


def _read(folder: Path) -> pa.Table:
    files = sorted(folder.glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])
