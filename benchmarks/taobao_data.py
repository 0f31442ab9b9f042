"""Made samples with the columns of the Taobao display-advertising set, as a session dataset.

16 id columns with the table sizes of TorchEasyRec's taobao examples, labels `clk` and `buy`,
sessions by user. Rows a user: geometric with a mean of 23, as in the public set (26.6 million rows
of 1.14 million users). The ids of a user or an advertisement belong together, as they do there;
what is clicked depends on their segments, so that AUC rises well above 0.6 within a hundred steps
(knowing all there is to know: click 0.82, purchase 0.89).
"""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing import dataset_format as fmt

USER_ID = "user_id"
# Column -> number of ids: of the user (the same in all rows of a session) and of the row.
USER_COLUMNS = {
    USER_ID: 1_141_730,
    "cms_segid": 98,
    "cms_group_id": 14,
    "final_gender_code": 3,
    "age_level": 8,
    "pvalue_level": 5,
    "shopping_level": 5,
    "occupation": 3,
    "new_user_class_level": 6,
}
ROW_COLUMNS = {"pid": 2}
AD_COLUMNS = {
    "adgroup_id": 846_812,
    "cate_id": 12_961,
    "campaign_id": 423_438,
    "customer": 255_877,
    "brand": 461_498,
    "price": 101,
}
ID_COLUMNS = USER_COLUMNS | ROW_COLUMNS | AD_COLUMNS
LABELS = ("clk", "buy")
MEAN_SESSION_ROWS = 23
ROWS_PER_FILE = 300_000
AD_SKEW = 4.0  # the number of an advertisement is AD_COLUMNS["adgroup_id"] * u ** AD_SKEW


def write_taobao_data(path: Path, num_rows: int, seed: int = 0, first_user: int = 0) -> Path:
    """Write about `num_rows` rows or more as a session dataset, unless it is there; returns `path`.

    Users are numbered from `first_user` on, so that two datasets can have no user in common.

    Raises:
        ValueError: what is there has fewer files.
    """
    num_files = math.ceil(num_rows / ROWS_PER_FILE)
    if (path / fmt.MANIFEST_NAME).exists():
        if (found := len(fmt.read_manifest(path).files)) < num_files:
            raise ValueError(f"{path} has {found} files, {num_files} are needed: remove it")
        return path
    (path / fmt.INDEX_FOLDER).mkdir(parents=True, exist_ok=True)
    files, lengths, columns = [], [], []
    for number in range(num_files):
        random = np.random.default_rng([seed, number])
        lengths.append(random.geometric(1 / MEAN_SESSION_ROWS, ROWS_PER_FILE // MEAN_SESSION_ROWS))
        table = _rows(lengths[-1], first_user, random)
        files.append(_write_file(path, number, table, lengths[-1]))
        first_user += len(lengths[-1])
        columns = table.schema.names
    _write_manifest(path, columns, files, np.concatenate(lengths))
    return path


def _rows(lengths: np.ndarray, first_user: int, random: np.random.Generator) -> pa.Table:
    """The rows of some new users, one session each."""
    num_rows = int(lengths.sum())
    users = np.arange(first_user, first_user + len(lengths)) * 7919 % USER_COLUMNS[USER_ID]
    ads = random.random(num_rows) ** AD_SKEW * AD_COLUMNS["adgroup_id"]
    columns = {
        **_attributes(np.repeat(users, lengths), USER_COLUMNS),
        **{name: random.integers(0, size, num_rows) for name, size in ROW_COLUMNS.items()},
        **_attributes(ads.astype(np.int64), AD_COLUMNS),
    }
    segment, category = _effects(columns["cms_segid"], 1), _effects(columns["cate_id"], 2)
    price, age = _effects(columns["price"], 3), _effects(columns["age_level"], 4)
    log_odds = -3.6 + 1.5 * segment + category + 1.5 * price + price * age
    clicks = random.random(num_rows) < _sigmoid(log_odds)
    buys = clicks & (random.random(num_rows) < _sigmoid(-1.0 + price + 2.0 * age))
    columns |= {"clk": clicks.astype(np.int64), "buy": buys.astype(np.int64)}
    return pa.table({**columns, "time_stamp": np.arange(num_rows)})


def _attributes(owners: np.ndarray, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """The owners' ids in the first column, and what belongs to each of them in the others."""
    (name, _), *others = sizes.items()
    columns = {name: owners}
    for number, (other, size) in enumerate(others, start=1):
        columns[other] = _mixed(owners, number) % size
    return columns


def _mixed(values: np.ndarray, number: int) -> np.ndarray:
    """Non-negative integers that look random, one for each value."""
    mixed = (values.astype(np.uint64) + np.uint64(number)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(20)).astype(np.int64)


def _effects(ids: np.ndarray, number: int) -> np.ndarray:
    """What an id does to the log-odds, in [-1, 1]."""
    return _mixed(ids, 100 + number) % 2001 / 1000 - 1


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _write_file(path: Path, number: int, table: pa.Table, lengths: np.ndarray) -> fmt.DataFile:
    name = fmt.data_file_name(number)
    pq.write_table(table, path / name, compression="zstd")
    index = {
        fmt.ROW_START: pa.array(np.cumsum(lengths) - lengths, pa.int64()),
        fmt.NUM_ROWS: pa.array(lengths, pa.int32()),
    }
    pq.write_table(pa.table(index), path / fmt.INDEX_FOLDER / name, compression="zstd")
    return fmt.DataFile(name, table.num_rows, len(lengths), (path / name).stat().st_size)


def _write_manifest(
    path: Path, columns: list[str], files: list[fmt.DataFile], lengths: np.ndarray
) -> None:
    p50, p90, p99 = (int(each) for each in np.percentile(lengths, (50, 90, 99)))
    rows = int(lengths.sum())
    manifest = fmt.Manifest(
        session_columns=(USER_ID,),
        timestamp_column="time_stamp",
        tie_breakers=(),
        schema=tuple(fmt.Column(name, "bigint") for name in columns),
        files=tuple(files),
        statistics=fmt.Statistics(
            rows=rows,
            sessions=len(lengths),
            max_session_rows=int(lengths.max()),
            session_rows_p50=p50,
            session_rows_p90=p90,
            session_rows_p99=p99,
            min_timestamp=0,
            max_timestamp=rows,
        ),
        fingerprint=f"taobao-{json.dumps([rows, len(lengths), len(files)])}",
    )
    (path / fmt.MANIFEST_NAME).write_text(manifest.to_json())


def dbmtl_jrc_config() -> str:
    """A pipeline config for this data: DBMTL with JRC, shaped as TorchEasyRec's dbmtl_taobao_jrc.

    Tables of width 16, fused Adagrad; bottom MLP 512, towers 256-128-64, relation MLP 64, Adam.
    """
    features = "".join(
        f"feature_configs {{ id_feature {{ feature_name: '{name}' num_buckets: {size} "
        f"embedding_dim: 16 }} }}\n"
        for name, size in ID_COLUMNS.items()
    )
    group = " ".join(f"feature_names: '{name}'" for name in ID_COLUMNS)
    towers = "".join(
        f"""task_towers {{
            tower_name: '{task}' label_name: '{label}' num_class: 2
            mlp {{ hidden_units: [256, 128, 64] }}
            metrics {{ auc {{}} }}
            losses {{ jrc_loss {{ session_name: '{USER_ID}' }} }}
            {relation}
        }}\n"""
        for task, label, relation in (
            ("ctr", "clk", ""),
            ("cvr", "buy", "relation_tower_names: 'ctr' relation_mlp { hidden_units: [64] }"),
        )
    )
    return f"""
        train_config {{
            sparse_optimizer {{ adagrad_optimizer {{ lr: 0.001 }} constant_learning_rate {{}} }}
            dense_optimizer {{ adam_optimizer {{ lr: 0.001 }} constant_learning_rate {{}} }}
            num_epochs: 1
            save_checkpoints_steps: 0
            use_tensorboard: false
        }}
        eval_config {{}}
        data_config {{
            fg_mode: FG_NONE
            dataset_type: ParquetDataset
            label_fields: ['clk', 'buy']
            shuffle: true
        }}
        {features}
        model_config {{
            feature_groups {{ group_name: 'all' {group} group_type: DEEP }}
            dbmtl {{ bottom_mlp {{ hidden_units: [512] }} {towers} }}
        }}
    """
