"""A config against a dataset: what does not fit is found before work starts, or by the reader."""

import pyarrow as pa
import pytest

from preprocessing.dataset_format import MANIFEST_NAME, DatasetError
from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.checks.config import check_data
from trainer.config import ConfigError
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.feature_config import used_features
from trainer.data.reader import SessionDataset
from trainer.tasks import parse_tasks

TOWER = "model_config__dbmtl__task_towers[0]"


def with_column(table: pa.Table, name: str, values: list) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, pa.array(values))
    return table.append_column(name, pa.array(values))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return click_table(30)


@pytest.fixture(scope="module")
def dataset(table, tmp_path_factory) -> SessionDataset:
    return SessionDataset.open(write_dataset(tmp_path_factory.mktemp("d") / "data", table))


def test_the_unedited_config_fits(dataset):
    check_data(two_task_config(), dataset)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (
            {"feature_configs[0]__id_feature__feature_name": "usr_id", "GROUP": "usr_id"},
            r"feature `usr_id`: .*data has no column `usr_id`; did you mean `user_id`\?",
        ),
        (
            {"data_config__label_fields": ["click", "bought"], "LABEL": "bought"},
            r"label of task `ctr`: .* has no column `bought`",
        ),
        (
            {f"{TOWER}__losses[0]__jrc_loss__session_name": "visit"},
            r"session_name of task `ctr`: .* has no column `visit`",
        ),
        (
            {f"{TOWER}__losses[0]__jrc_loss__session_name": "user_id"},
            r"session_name must be the session column of .*`session_id`, but got: `user_id`; "
            r"run preprocessing/jrc_sort.py with --session-column user_id",
        ),
        (
            {"feature_configs[0]__id_feature__feature_name": "price", "GROUP": "item_id"},
            r"is twice",
        ),
        (
            {"data_config__sample_weight_fields": ["w"], f"{TOWER}__sample_weight_name": "w"},
            r"task `ctr`: .* has no column `w`",
        ),
        (
            {f"{TOWER}__metrics[0]__grouped_auc__grouping_key": "nobody"},
            r"metrics of task `ctr`: .* has no column `nobody`",
        ),
        (
            {f"{TOWER}__metrics[0]__grouped_auc__grouping_key": "tags"},
            r"metrics of task `ctr`: column `tags` .* must hold .*, but holds: array<bigint>",
        ),
        (
            {"data_config__label_fields": ["click", "tags"], "LABEL": "tags"},
            r"label of task `ctr`: column `tags` of .* must hold .*, but holds: array<bigint>",
        ),
        (
            {"feature_configs[2]__id_feature__expression": "item:price"},
            r"feature `city`: column `price` of .* must hold tinyint, .*, but holds: float",
        ),
        (
            {"feature_configs[3]__id_feature__weighted": True},
            r"feature `tags`: column `tags` of .* must hold string \(id:weight\), .* array<bigint>",
        ),
        (
            {"feature_configs[4]__raw_feature__value_dim": 2},
            r"feature `price`: column `price` of .* must hold string or lists of value_dim = 2",
        ),
    ],
)
def test_columns_that_do_not_fit_are_named(dataset, edits, message):
    edits = dict(edits)
    if "GROUP" in edits:
        edits["model_config__feature_groups[0]__feature_names[0]"] = edits.pop("GROUP")
    if "LABEL" in edits:
        edits[f"{TOWER}__label_name"] = edits.pop("LABEL")
        edits["model_config__dbmtl__task_towers[1]__label_name"] = "click"
    with pytest.raises(ConfigError, match=message):
        check_data(two_task_config(**edits), dataset)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("click", 2, r"`click` must be 0 or 1 for jrc_loss, but has: 2; correct the data"),
        ("click", -1, r"`click` must be 0 or 1 for jrc_loss, but has: -1"),
        ("click", None, r"label column `click` of .* must have no null, but has 1"),
        ("user_id", 20, r"`user_id` must be in \[0, 20\), but got: 20; raise num_buckets"),
        ("item_id", -1, r"`item_id` must be in \[0, 30\), but got: -1"),
    ],
)
def test_bad_values_are_found_in_the_statistics_before_work(
    table, tmp_path, column, value, message
):
    values = table[column].to_pylist()
    values[17] = value
    data = SessionDataset.open(write_dataset(tmp_path / "d", with_column(table, column, values)))
    with pytest.raises(DataError, match=message):
        check_data(two_task_config(), data)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("click", 0.5, r"label column `click` must be 0 or 1 for jrc_loss, but has: 0.5"),
        ("click", None, r"column `click` must have no null, but has 1"),
        ("user_id", 20, r"`user_id` must be in \[0, 20\), but got: 20"),
        ("user_id", -3, r"`user_id` must be in \[0, 20\), but got: -3"),
        ("tags", [1, None], r"column `tags` must have no null inside its lists"),
        ("price", float("nan"), r"`price` must be finite, but has 1 NaN or infinite"),
        ("weight", -1.0, r"sample weight column `weight` must be >= 0, but got: -1"),
    ],
)
def test_the_reader_checks_every_value(table, column, value, message):
    values = table[column].to_pylist()
    values[17] = value
    config = two_task_config(
        data_config__sample_weight_fields=["weight"], **{f"{TOWER}__sample_weight_name": "weight"}
    )
    spec = ColumnSpec(tuple(used_features(config)), tuple(parse_tasks(config)))
    with pytest.raises(DataError, match=message):
        encode_rows(with_column(table, column, values), spec)


def test_large_integers_are_numbers(table):
    times = [1_700_000_001 + i for i in range(table.num_rows)]
    config = two_task_config()
    spec = ColumnSpec(tuple(used_features(config)), tuple(parse_tasks(config)))
    rows = encode_rows(with_column(table, "price", times), spec)
    assert rows.dense[:, 0].tolist() == pytest.approx(times, rel=1e-7)


def test_encoded_data_takes_ids_as_they_are(table):
    config = two_task_config(
        **{
            "data_config__fg_mode": "FG_NONE",
            "feature_configs[1]__id_feature__num_buckets": 0,
            "feature_configs[1]__id_feature__hash_bucket_size": 30,
            "model_config__feature_groups[0]__feature_names": ["item_id"],
        }
    )
    spec = ColumnSpec(tuple(used_features(config)), tuple(parse_tasks(config)))
    rows = encode_rows(table, spec)
    assert rows.names == ("item_id",)
    assert rows.scalars[0].tolist() == table["item_id"].to_pylist()


def test_list_widths_of_raw_features_are_checked(table):
    config = two_task_config(**{"feature_configs[4]__raw_feature__value_dim": 2})
    spec = ColumnSpec(tuple(used_features(config)), tuple(parse_tasks(config)))
    with pytest.raises(DataError, match=r"`price` must hold lists of value_dim = 2"):
        encode_rows(table, spec)
    pairs = [[1.0, 2.0]] * (table.num_rows - 1)
    assert encode_rows(with_column(table, "price", [*pairs, [3.0, 4.0]]), spec).dense.shape[1] == 2
    with pytest.raises(DataError, match=r"must have value_dim = 2 values, but 1 have not"):
        encode_rows(with_column(table, "price", [*pairs, [3.0]]), spec)


def test_an_unfinished_folder_is_an_error(dataset, tmp_path):
    (tmp_path / "part-00000.parquet").write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"no {MANIFEST_NAME}.*run preprocessing/jrc_sort.py"):
        SessionDataset.open(tmp_path)
