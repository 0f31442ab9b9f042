"""`launch/export.py` and `trainer.serving`: a served model scores as the trainer does."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

import trainer.export
from launch import export, predict
from tests.configs import TWO_TASKS, two_task_config
from tests.datasets import write_dataset
from tests.models.test_overfit import MODELS, config_of
from tests.test_sequence_training import sequence_config, sequence_table
from trainer.checkpoints.checkpoint import STATE_FILE
from trainer.config import ConfigError, parse_config
from trainer.data.columns import DataError
from trainer.data.encode import ColumnSpec, encode_rows
from trainer.data.feature_config import parse_features
from trainer.serving import Scorer, load_scorer
from trainer.serving.encoding import feature_from_json, feature_to_json
from trainer.trainer import Trainer

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SCORES = [f"{name}_{task}" for task in ("ctr", "cvr") for name in ("logits", "probs", "probs1")]
# Of logits: float16 keeps 11 bits; int8 a 1/255 of a row's range of values, over a few layers.
TOLERANCE = {"FP16": 2e-3, "INT8": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Runs, and what predict.py says of the data: `plain` (with moving averages), `sequence`, and
    `single`, whose ids are all single, so that training splits its first layer.
    """
    path = tmp_path_factory.mktemp("export")
    write_dataset(path / "data", sequence_table())
    plain = two_task_config(
        train_config__num_steps=3,
        train_config__dense_optimizer__ema__decay=0.5,
        train_input_path=str(path / "data"),
        eval_input_path=str(path / "data"),
        model_dir=str(path / "plain"),
    )
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    Trainer(plain, CPU).train_and_evaluate()
    plain.model_dir = str(path / "single")
    plain.model_config.feature_groups[0].feature_names.remove("tags")
    single = Trainer(plain, CPU)
    assert single.model.get_submodule("module.model").splits_sessions
    single.train_and_evaluate()
    Trainer(sequence_config(path, "sequence", train_config__num_steps=3), CPU).train_and_evaluate()
    for model in ("plain", "single", "sequence"):
        flags = ["--checkpoint_path", path / model, "--predict_input_path", path / "data"]
        flags += ["--predict_output_path", path / f"{model}_scores"]
        flags += ["--batch_size", "1000"]
        predict.predict_run(predict.parse_args([str(flag) for flag in flags]), CPU)
    dist.destroy_process_group()  # neither export nor serving needs one
    return path


def run_export(*flags: object) -> None:
    export.export_run(export.parse_args([str(flag) for flag in flags]))


def exported(folder: Path, model: str, dtype: str = "FP32") -> Scorer:
    path = folder / f"{model}_{dtype}"
    if not path.exists():
        run_export("--checkpoint_path", folder / model, "--export_dir", path, "--quant_emb", dtype)
    return load_scorer(path)


def table_of(folder: Path) -> pa.Table:
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


def scores_of(folder: Path, model: str) -> dict[str, np.ndarray]:
    table = table_of(folder / f"{model}_scores")
    return {name: np.stack(table[name].to_numpy()) for name in SCORES}


@pytest.mark.parametrize("model", ["plain", "single", "sequence"])
def test_scores_are_exactly_the_trainers(folder, model):
    found = exported(folder, model).score(table_of(folder / "data"))
    expected = scores_of(folder, model)
    assert list(found) == SCORES
    for name in SCORES:
        assert found[name].dtype == np.float32
        # Attention's batched products may round a row by where it lies in memory (MKL, AVX-512).
        rtol = 1e-6 if model == "sequence" else 0
        np.testing.assert_allclose(found[name], expected[name], rtol, rtol / 10, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_exports_with_the_same_logits(name):
    config = config_of(name, "jrc")
    if name == "pepnet":
        config.model_config.pepnet.ClearField("domain_input_name")
        config.model_config.pepnet.ClearField("task_domain_num")
    torch.manual_seed(0)
    model = trainer.export.build_model(config, trainer.export.parse_tasks(config), "cpu")
    dense = trainer.export.DensePart(model).eval()
    served = trainer.export._exported(dense).module()
    inputs = trainer.export._inputs(dense, rows=11, per_row=4)
    with torch.no_grad():
        expected, found = dense(*inputs), served(*inputs)
    assert list(found) == list(expected)
    for task, logits in expected.items():
        assert logits.shape == (11, 2) and logits.std() > 0
        torch.testing.assert_close(found[task], logits)


@pytest.mark.parametrize("dtype", ["FP16", "INT8"])
def test_quantised_tables_change_scores_little(folder, dtype):
    scorer = exported(folder, "sequence", dtype)
    found, expected = scorer.score(table_of(folder / "data")), scores_of(folder, "sequence")
    for name in SCORES:
        error = np.abs(found[name] - expected[name]).max()
        assert 0 < error < TOLERANCE[dtype], name
    size = {kind: table_bytes(folder, kind) for kind in ("FP32", dtype)}
    assert size[dtype] < 0.55 * size["FP32"]


def test_export_config_says_whether_averages_are_exported(folder):
    rows = table_of(folder / "data")

    def scores(**use_dense_ema: bool) -> np.ndarray:
        edits = {f"{part}_config.use_dense_ema": used for part, used in use_dense_ema.items()}
        path = folder / f"averages_{use_dense_ema}"
        flags = ["--checkpoint_path", folder / "plain", "--export_dir", path]
        run_export(*flags, "--edit_config_json", json.dumps(edits))
        return load_scorer(path).score(rows)["logits_ctr"]

    averages, parameters = scores(export=True), scores(export=False)
    assert np.abs(averages - parameters).max() > 1e-5
    np.testing.assert_array_equal(averages, scores_of(folder, "plain")["logits_ctr"])
    np.testing.assert_array_equal(scores(eval=False), parameters)
    np.testing.assert_array_equal(scores(eval=False, export=True), averages)


def table_bytes(folder: Path, dtype: str) -> int:
    exported(folder, "sequence", dtype)
    files = (folder / f"sequence_{dtype}" / "tables").glob("*.safetensors")
    return sum(tensor.nbytes for file in files for tensor in load_file(file).values())


def test_raw_features_come_as_lists_arrays_or_single_values(folder):
    scorer = exported(folder, "sequence")
    rows = table_of(folder / "data").select(scorer.columns).slice(0, 7)
    rows = rows.set_column(
        rows.column_names.index("user_id"), "user_id", pa.array([5] * rows.num_rows)
    )
    expected = scorer.score(rows)
    lists = rows.to_pydict()
    arrays = {name: rows[name].to_numpy(zero_copy_only=False) for name in ("price", "item_id")}
    for request in (lists, {**lists, **arrays}, {**lists, "user_id": 5, "not_read": object()}):
        found = scorer.score(request)
        for name in SCORES:
            np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("model", ["plain", "sequence"])
def test_a_row_scores_alike_alone_and_among_others(folder, model):
    scorer = exported(folder, model)
    rows, together = table_of(folder / "data"), scores_of(folder, model)
    for row in (0, 1, 5):
        alone = scorer.score(rows.slice(row, 1).to_pydict())
        for name in SCORES:
            assert alone[name] == pytest.approx(together[name][row : row + 1], abs=1e-6)


def test_missing_values_are_those_of_the_trainer(folder):
    scorer = exported(folder, "sequence")
    full = table_of(folder / "data").select(scorer.columns).slice(0, 2).to_pydict()
    empty = {**full, "price": [None, None], "tags": [None, None], "clicks__item": [[], []]}
    empty["clicks__price"] = [[], []]
    zero = {**empty, "price": [0.0, 0.0], "tags": [[], []]}
    found, expected = scorer.score(empty), scorer.score(zero)
    np.testing.assert_array_equal(found["probs1_ctr"], expected["probs1_ctr"])


def test_requests_that_do_not_fit_are_errors(folder):
    scorer = exported(folder, "plain")
    good = table_of(folder / "data").select(scorer.columns).slice(0, 2).to_pydict()
    for change, kind, said in (
        ({"price": None}, ConfigError, "feature `price`: the request has no column `price`"),
        ({"item_id": [1, 2, 3]}, DataError, "must be equally long, but are: .*item_id 3"),
        ({"item_id": [1, 99]}, DataError, "item_id"),
        ({"item_id": [1.5, 2.5]}, ConfigError, "feature `item_id`: column .* holds: double"),
        ({name: [] for name in good}, DataError, "must have at least one row"),
    ):
        request = {**good, **change}
        request = {name: value for name, value in request.items() if value is not None}
        with pytest.raises(kind, match=said):
            scorer.score(request)


SERVE = """
import json, sys
from trainer.serving import load_scorer
scorer = load_scorer(sys.argv[1])
scores = scorer.score(json.loads(sys.argv[2]))
assert not any(name.split(".")[0] in ("torchrec", "pyspark") for name in sys.modules)
print(json.dumps(scores["probs1_ctr"].tolist()))
"""


def test_a_serving_process_needs_no_torchrec(folder):
    scorer = exported(folder, "plain")
    rows = table_of(folder / "data").select(scorer.columns).slice(0, 3).to_pydict()
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(folder / "plain_FP32"), json.dumps(rows)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = scorer.score(rows)["probs1_ctr"]
    assert json.loads(done.stdout) == pytest.approx(found.tolist(), rel=1e-6)


def test_the_folder_tells_what_it_is(folder, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("a\n")
    flags = ["--checkpoint_path", folder / "plain", "--export_dir", tmp_path / "out"]
    run_export(*flags, "--asset_files", tmp_path / "words.txt")
    assert "model.ckpt-3 exported in" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"signature.json", "dense.pt2", "tables", "pipeline.config", "words.txt"}
    signature = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert signature["columns"] == ["user_id", "item_id", "city", "tags", "price"]
    assert signature["scores"] == SCORES


# ------------------------------------------------------------------ errors


def message_of(*flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        run_export(*flags)
    return str(caught.value)


def test_exports_that_cannot_be_are_errors(folder, tmp_path, monkeypatch, capsys):
    flags = ["--checkpoint_path", folder / "plain", "--export_dir", tmp_path / "out"]
    assert "quant_emb must be one of FP32, FP16, INT8, but got: INT3" in message_of(
        *flags, "--quant_emb", "INT3"
    )
    assert "export_dir must be new, but" in message_of(*flags[:3], folder / "data")
    assert "there is none at: nowhere" in message_of(*flags, "--asset_files", "nowhere")
    unfinished = tmp_path / "run" / "model.ckpt-3"
    shutil.copytree(folder / "plain" / "model.ckpt-3", unfinished)
    (unfinished / STATE_FILE).unlink()
    found = message_of("--checkpoint_path", unfinished, *flags[2:])
    assert "its writing was not finished" in found
    (tmp_path / "other.config").write_text(
        TWO_TASKS.replace("hidden_units: [16]", "hidden_units: [8]")
    )
    found = message_of(*flags, "--pipeline_config_path", tmp_path / "other.config")
    assert "does not fit the model of the config" in found
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "run it by python, without torchrun" in message_of(*flags)
    assert export.main([str(flag) for flag in flags]) == 1
    assert "error: export needs one process" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_nothing_under_its_name(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    flags = ["--checkpoint_path", folder / "plain", "--export_dir", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer.export, "_write_table", full)
        with pytest.raises(OSError, match="no space"):
            run_export(*flags)
    assert not (tmp_path / "out").exists()
    run_export(*flags)  # the leftover is no hindrance
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_no_exported_model_is_an_error(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"must be a folder with signature.json"):
        load_scorer(tmp_path)
    (tmp_path / "signature.json").write_text('{"format_version": 99}')
    with pytest.raises(ConfigError, match=r"must have format_version 1, but has: 99"):
        load_scorer(tmp_path)


class Branches(torch.nn.Module):
    def forward(self, groups):
        rows = groups["all"]
        return {"click": rows * 2 if rows.sum() > 0 else rows}, None


class FixesRows(torch.nn.Module):
    def forward(self, groups):
        return {"click": groups["all"] * len(groups["all"])}, None


@pytest.mark.parametrize("network", [Branches(), FixesRows()], ids=["branches", "fixes_rows"])
def test_a_network_that_cannot_be_traced_is_an_error(network):
    config = two_task_config()
    model = trainer.export.build_model(config, trainer.export.parse_tasks(config))
    model.net = network
    with pytest.raises(ConfigError, match=r"cannot be exported by torch\.export: .*not len\(x\)"):
        trainer.export._exported(trainer.export.DensePart(model))


ALL_CODINGS = """
data_config { fg_mode: FG_NORMAL }
feature_configs { id_feature { feature_name: "a" vocab_list: ["x", "y"] embedding_dim: 4
                               default_bucketize_value: 1 } }
feature_configs { id_feature { feature_name: "b" vocab_dict { key: "x" value: 3 } embedding_dim: 4
                               default_bucketize_value: 2 default_value: "x" } }
feature_configs { id_feature { feature_name: "c" hash_bucket_size: 9 embedding_dim: 4 } }
feature_configs { raw_feature { feature_name: "d" boundaries: [1, 2.5] embedding_dim: 4
                                normalizer: "method=minmax,min=0,max=2" } }
feature_configs { raw_feature { feature_name: "e" default_value: "3"
                                normalizer: "method=zscore,mean=1,standard_deviation=2" } }
feature_configs { combo_feature { feature_name: "f" expression: ["user:a", "item:b"]
                                  hash_bucket_size: 50 embedding_dim: 4 } }
feature_configs { expr_feature { feature_name: "g" expression: "d ^ 2 - e" default_value: "7"
                                 variables: ["user:d", "item:e"] } }
"""


def test_features_encode_alike_after_json():
    table = pa.table({name: ["x", "y", "z", None] for name in "abc"})
    for name in "de":
        table = table.append_column(name, pa.array([0.5, 3.0, 7.0, None]))
    features = parse_features(parse_config(ALL_CODINGS))
    restored = [feature_from_json(json.loads(json.dumps(feature_to_json(f)))) for f in features]
    rows, again = (encode_rows(table, ColumnSpec(tuple(f), ())) for f in (features, restored))
    assert rows.names == again.names and len(set(rows.scalars[0])) > 1
    np.testing.assert_array_equal(again.scalars, rows.scalars)
    np.testing.assert_array_equal(again.dense, rows.dense)


def test_a_coding_that_the_scorer_does_not_know_is_an_error():
    feature = parse_features(parse_config(ALL_CODINGS))[0]
    with pytest.raises(ConfigError, match=r"feature `a` cannot be exported yet: .* made by str"):
        feature_to_json(dataclasses.replace(feature, coding="another"))
