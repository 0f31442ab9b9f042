"""What the study trains on: the examples' datasets and networks."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import text_format
from numpy.typing import NDArray

from benchmarks.study.losses import LIST_SOFTMAX, SINGLE_TASK, TWO_TASKS, Loss
from preprocessing.dataset_format import read_manifest, read_session_index
from trainer.config import load_config
from trainer.protos.pipeline_pb2 import EasyRecConfig

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NETWORK = """multi_tower {
    towers { input: "all" mlp { hidden_units: [128] } }
    final { hidden_units: [64] }
}"""


@dataclass(frozen=True)
class Dataset:
    """A dataset, the network that is trained on it, and for how long.

    Attributes:
        folder: under the study's data folder; has `train_sorted` and `eval_sorted`.
        config: an example's pipeline config, under examples/.
        num_epochs: of every loss.
        labels: the tasks' label columns; fewer than the config's make a single-task model of it.
        truth: per label the column of its true probability, where that is known.
        more_columns: what LightGBM sees beside the network's features.
        categories: columns that LightGBM takes for categories.
        losses: the rows of the table.
    """

    folder: str
    config: Path
    num_epochs: int
    labels: tuple[str, ...] = ("label",)
    truth: dict[str, str] = field(default_factory=dict)
    more_columns: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    losses: dict[str, Loss] = field(default_factory=lambda: SINGLE_TASK)

    def pipeline_config(self) -> EasyRecConfig:
        """The example's config for these labels."""
        config = load_config(self.config)
        if list(self.labels) != list(config.data_config.label_fields):
            config.data_config.label_fields[:] = self.labels
            text_format.Merge(NETWORK, config.model_config)  # in place of the towers
        return config


DATASETS = {
    "trivago": Dataset(
        "trivago",
        EXAMPLES / "trivago/bce.config",
        num_epochs=2,
        more_columns=("item_id", "city_id"),
    ),
    "trivago, best model": Dataset(
        "trivago",
        EXAMPLES / "trivago/choice.config",
        num_epochs=4,
        more_columns=("item_id", "city_id"),
        losses=LIST_SOFTMAX,
    ),
    "movietweetings": Dataset(
        "movietweetings",
        EXAMPLES / "movietweetings/jrc.config",
        num_epochs=3,
        categories=("user_id", "movie_id"),
    ),
    "synthetic": Dataset(
        "synthetic",
        EXAMPLES / "synthetic/jrc.config",
        num_epochs=3,
        labels=("click",),
        truth={"click": "p_click"},
        more_columns=("price",),
        categories=("user_id", "item_id", "category_id", "channel", "device"),
    ),
    "synthetic, two tasks": Dataset(
        "synthetic",
        EXAMPLES / "synthetic/jrc.config",
        num_epochs=3,
        labels=("click", "purchase"),
        truth={"click": "p_click", "purchase": "p_purchase"},
        more_columns=("price",),
        categories=("user_id", "item_id", "category_id", "channel", "device"),
        losses=TWO_TASKS,
    ),
}


@dataclass(frozen=True)
class Rows:
    """A laid-out dataset in memory; sessions are numbered from 0 in stored order.

    Attributes:
        table: all columns.
        session: of each row, int64 [N].
        lengths: rows of each session, [S].
    """

    table: pa.Table
    session: NDArray[np.int64]
    lengths: NDArray[np.int32]


def read_rows(path: Path) -> Rows:
    """All rows of a laid-out dataset, in stored order."""
    manifest = read_manifest(path)
    lengths = read_session_index(path, manifest).num_rows
    table = pa.concat_tables(pq.read_table(path / file.name) for file in manifest.files)
    return Rows(table, np.repeat(np.arange(len(lengths)), lengths), lengths)
