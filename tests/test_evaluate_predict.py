"""`launch/evaluate.py` and `launch/predict.py`: in this process, and on two ranks."""

import json
import os
import re
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist

import trainer.prediction.input
import trainer.prediction.predict
from launch import compare, evaluate, export, predict
from tests.configs import TWO_TASKS, two_task_config
from tests.datasets import click_table, write_dataset
from trainer.checkpoints.checkpoint import STATE_FILE, list_checkpoints
from trainer.checks.config import check_paths
from trainer.config import ConfigError
from trainer.data.encode import DataError
from trainer.metrics import auc, binary_metrics
from trainer.prediction.output import JOB_FILE
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.trainer import Trainer

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_rank():
    """This process as the only rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data, and a short run on it in `run/`."""
    path = tmp_path_factory.mktemp("serving")
    write_dataset(path / "train", click_table(100, seed=1))
    write_dataset(path / "eval", click_table(60, seed=1))
    (path / "other.config").write_text(TWO_TASKS.replace("hidden_units: [16]", "hidden_units: [8]"))
    config = two_task_config(
        train_config__num_steps=6,
        train_config__dense_optimizer__ema__decay=0.5,  # evaluated in place of the parameters
        train_input_path=str(path / "train"),
        eval_input_path=str(path / "eval"),
        model_dir=str(path / "run"),
    )
    metrics = config.model_config.dbmtl.task_towers[0]
    metrics.metrics.add().field_calibration_error.field_name = "city"
    metrics.metrics.add().ndcg.top_k = 3
    metrics.metrics.add().grouped_auc.grouping_key = "session_id"
    metrics.train_metrics.add(decay_step=2).auc.SetInParent()
    Trainer(config, CPU).train_and_evaluate()
    return path


def run_evaluate(*flags: object) -> None:
    evaluate.evaluate_run(evaluate.parse_args([str(flag) for flag in flags]), CPU)


def run_compare(*flags: object) -> None:
    compare.compare_runs(compare.parse_args([str(flag) for flag in flags]), CPU)


def run_predict(*flags: object) -> None:
    predict.predict_run(predict.parse_args([str(flag) for flag in flags]), CPU)


def table_of(folder: Path) -> pa.Table:
    """The rows of a folder in the order of its file names."""
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


def without_losses(metrics: dict) -> dict:
    return {name: v for name, v in metrics.items() if not name.endswith("_loss")}


# ------------------------------------------------------------------ evaluate


def test_a_checkpoint_evaluates_as_at_the_end_of_training(folder, capsys):
    run_evaluate("--checkpoint_path", folder / "run")
    result = json.loads((folder / "run" / "eval_result.json").read_text())
    trained = json.loads((folder / "run" / "report.json").read_text())
    assert result["metrics"] == trained["metrics"]
    assert result["checkpoint"].endswith("model.ckpt-6")
    found = result["metrics"]["ctr"]
    assert found["gauc[session_id]"] == found["gauc"]
    assert {"ndcg@3", "field_rce[city]", "normalized_entropy", "ece"} <= set(found)
    screen = capsys.readouterr().out
    assert re.search(rf"^GAUC +{found['gauc']:.4f}", screen, re.MULTILINE)
    assert "ctr" in screen and "field-RCE by city" in screen and "eval_result.json" in screen


def test_train_metrics_stand_in_the_log(folder):
    history = json.loads((folder / "run" / "report.json").read_text())["history"]
    assert [0 < entry["train_metrics"]["ctr/auc"] <= 1 for entry in history] == [True]


def test_one_class_and_few_rows_evaluate_to_nothing_where_not_defined(folder):
    table = click_table(60, seed=1).filter(ds.field("click") == 0)
    write_dataset(folder / "one_class", table)
    where = folder / "one_class.json"
    flags = ["--eval_input_path", folder / "one_class", "--eval_result_filename", where]
    run_evaluate("--checkpoint_path", folder / "run" / "model.ckpt-6", *flags)
    found = json.loads(where.read_text())["metrics"]["ctr"]
    assert found["auc"] is None and found["gauc"] is None and found["gauc_coverage"] == 0
    assert found["logloss"] > 0 and found["rows"] == table.num_rows


def torchrun(script: str, *flags: object) -> str:
    """Run a launcher on two ranks, as docs/predict.md says; returns what it printed."""
    command = ["torchrun", "--standalone", "--nproc_per_node=2", f"launch/{script}"]
    done = subprocess.run(
        [*command, *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_ranks_give_the_metrics_and_scores_of_one(folder):
    run = ["--checkpoint_path", folder / "run"]
    result = folder / "on_two" / "two_ranks.json"
    result.parent.mkdir()
    printed = torchrun("evaluate.py", *run, "--eval_result_filename", result)
    assert f"result: {result}\nreport: {result.parent / 'report.html'}" in printed
    assert (result.parent / "report.html").read_text().count("<svg") > 4
    data = ["--predict_input_path", folder / "eval", "--predict_output_path", folder / "two_ranks"]
    torchrun("predict.py", *run, *data, "--reserved_columns", "row", "--batch_size", "50")
    two = json.loads(result.read_text())
    one = json.loads((folder / "run" / "report.json").read_text())
    assert (two["world_size"], one["world_size"]) == (2, 1)
    for task, metrics in one["metrics"].items():
        found = without_losses(two["metrics"][task])
        assert found == pytest.approx(without_losses(metrics), rel=1e-4)
    by_length = two["plots"]["ctr"]["session_lengths"]
    for found, expected in zip(by_length, one["plots"]["ctr"]["session_lengths"], strict=True):
        assert found["gauc"] == pytest.approx(expected["gauc"], rel=1e-4)

    flags = ["--predict_input_path", folder / "eval", "--predict_output_path", folder / "one_rank"]
    run_predict("--checkpoint_path", folder / "run", *flags, "--reserved_columns", "row")
    first, second = table_of(folder / "one_rank"), table_of(folder / "two_ranks")
    assert first["row"] == second["row"]
    for name in ("probs1_ctr", "probs1_cvr"):
        assert second[name].to_numpy() == pytest.approx(first[name].to_numpy(), rel=1e-5)


# ------------------------------------------------------------------ compare


def test_two_models_are_compared_by_task(folder, capsys):
    result = folder / "compare.json"
    models = [folder / "run", folder / "run" / "model.ckpt-6"]
    flags = ["--eval_input_path", folder / "eval", "--result_filename", result]
    flags += ["--replicates", 5]
    run_compare(*models, *flags)
    found = json.loads(result.read_text())
    trained = json.loads((folder / "run" / "report.json").read_text())["metrics"]
    for task in ("ctr", "cvr"):
        for name in ("auc", "gauc", "logloss", "pcoc"):
            each = found["differences"][task][name]
            assert each["a"] == pytest.approx(trained[task][name], rel=1e-5)
            assert (each["low"], each["high"]) == (0, 0)
    assert "95 % interval" in capsys.readouterr().out


# ------------------------------------------------------------------ predict


@pytest.fixture(scope="module")
def scores(folder) -> pa.Table:
    """All scores of the evaluation data, by one rank."""
    flags = ["--predict_input_path", folder / "eval", "--predict_output_path", folder / "scores"]
    kept = ["--reserved_columns", "ALL_COLUMNS"]
    run_predict("--checkpoint_path", folder / "run" / "model.ckpt-6", *flags, *kept)
    return table_of(folder / "scores")


def test_scores_are_those_of_evaluation_and_rows_keep_their_order(folder, scores):
    source = table_of(folder / "eval")
    assert scores.select(source.column_names).equals(source)
    found = json.loads((folder / "run" / "report.json").read_text())["metrics"]
    for task, label in (("ctr", "click"), ("cvr", "buy")):
        columns = (scores[name].to_numpy() for name in (f"probs1_{task}", label, "session_id"))
        expected = binary_metrics(*columns)
        actual = {name: found[task][name] for name in expected}
        assert actual == pytest.approx(expected, rel=1e-5)


def test_columns_are_named_and_shaped_as_torcheasyrecs(scores):
    pairs = pa.list_(pa.float32())
    for task in ("ctr", "cvr"):
        types = [scores.schema.field(f"{n}_{task}").type for n in ("logits", "probs", "probs1")]
        assert types == [pairs, pairs, pa.float32()]
        probs = np.stack(scores[f"probs_{task}"].to_numpy())
        assert probs.sum(axis=1) == pytest.approx(np.ones(len(probs)))
        assert probs[:, 1] == pytest.approx(scores[f"probs1_{task}"].to_numpy())


def test_any_parquet_folder_is_read_and_chosen_columns_written(folder):
    table = click_table(60, seed=1)
    features = table.select(["price", "tags", "user_id", "city", "item_id"])  # no label, no session
    (folder / "plain").mkdir()
    pq.write_table(features.slice(0, 100), folder / "plain" / "b.parquet", row_group_size=30)
    pq.write_table(features.slice(100), folder / "plain" / "c.parquet")
    flags = ["--predict_input_path", folder / "plain", "--predict_output_path", folder / "chosen"]
    chosen = ["--output_columns", "probs1_cvr", "--batch_size", "37"]
    run_predict("--checkpoint_path", folder / "run", *flags, *chosen)
    found = table_of(folder / "chosen")
    assert found.column_names == ["probs1_cvr"]
    again = ["--predict_input_path", folder / "eval", "--predict_output_path", folder / "again"]
    run_predict("--checkpoint_path", folder / "run", *again, "--output_columns", "probs1_cvr")
    expected = table_of(folder / "again")["probs1_cvr"].to_numpy()
    assert found["probs1_cvr"].to_numpy() == pytest.approx(expected, rel=1e-5)


def session_model(folder: Path, name: str, **edits: object) -> EasyRecConfig:
    """The trivago example's network: probabilities of a session, a list, add up to one."""
    config = two_task_config(
        train_config__num_steps=2,
        data_config__label_fields=["click"],
        train_input_path=str(folder / "train"),
        eval_input_path=str(folder / "eval"),
        model_dir=str(folder / name),
        **edits,
    )
    config.feature_configs.add().raw_feature.feature_name = "timestamp"  # 0 begins a session
    model = config.model_config
    model.feature_groups.add(group_name="place", feature_names=["timestamp"])
    model.custom.path = str(ROOT / "examples" / "trivago" / "list_choice.py")
    model.custom.class_name = "ListChoice"
    model.losses.add().binary_cross_entropy.SetInParent()
    return config


def test_a_model_that_looks_at_the_session_scores_as_in_evaluation(folder, monkeypatch):
    Trainer(session_model(folder, "lists"), CPU).train_and_evaluate()
    monkeypatch.setattr(trainer.prediction.input, "ROWS_PER_PART", 100)  # of row groups of 64 rows
    flags = ["--checkpoint_path", folder / "lists", "--predict_input_path", folder / "eval"]
    flags += ["--predict_output_path", folder / "list_scores", "--batch_size", "7"]
    run_predict(*flags, "--reserved_columns", "session_id,row,click")
    found = table_of(folder / "list_scores")
    assert len(list((folder / "list_scores").glob("*.parquet"))) > 3
    assert found["row"] == table_of(folder / "eval")["row"]
    of_session = found.group_by("session_id").aggregate([("probs", "sum")])["probs_sum"].to_numpy()
    assert of_session == pytest.approx(np.ones(60), abs=1e-5)
    columns = (found[name].to_numpy() for name in ("probs", "click", "session_id"))
    metrics = json.loads((folder / "lists" / "report.json").read_text())["metrics"]["click"]
    for name, value in binary_metrics(*columns).items():
        assert metrics[name] == pytest.approx(value, rel=1e-5), name


def test_labels_that_the_model_reads_are_read(folder):
    config = two_task_config(
        train_config__num_steps=2,
        data_config__label_fields=["click", "buy", "weekday"],
        model_dir=str(folder / "domains"),
    )
    for name in ("train", "eval"):
        table = table_of(folder / name)
        weekday = pa.array(table["item_id"].to_numpy() % 2)
        write_dataset(folder / f"{name}_domains", table.append_column("weekday", weekday))
        setattr(config, f"{name}_input_path", str(folder / f"{name}_domains"))
    towers = list(config.model_config.dbmtl.task_towers)
    pepnet = config.model_config.pepnet
    pepnet.domain_input_name, pepnet.task_domain_num = "weekday", 2
    for tower in towers:
        pepnet.task_towers.add(
            tower_name=tower.tower_name, label_name=tower.label_name, num_class=2
        ).losses.extend(tower.losses)
    Trainer(config, CPU).train_and_evaluate()
    run = ["--checkpoint_path", folder / "domains"]
    output = ["--predict_output_path", folder / "domain_scores", "--reserved_columns", "click"]
    run_predict(*run, "--predict_input_path", folder / "eval_domains", *output)
    found = table_of(folder / "domain_scores")
    metrics = json.loads((folder / "domains" / "report.json").read_text())["metrics"]["ctr"]
    score, label = found["probs1_ctr"].to_numpy(), found["click"].to_numpy()
    # A row's score may be rounded otherwise in another batch, and with it the order of a pair.
    pairs = (label == 1).sum() * (label == 0).sum()
    assert metrics["auc"] == pytest.approx(auc(score, label), abs=2 / pairs)
    output[1] = folder / "never"
    said = message_of(lambda: run_predict(*run, "--predict_input_path", folder / "eval", *output))
    assert "label that the model reads: " in said and "has no column `weekday`" in said


def test_a_single_task_and_a_regression_have_names_without_task(folder):
    config = two_task_config(
        train_config__num_steps=2,
        data_config__label_fields=["stay"],
        train_input_path=str(folder / "train"),
        eval_input_path=str(folder / "eval"),
        model_dir=str(folder / "regression"),
    )
    config.model_config.ClearField("dbmtl")
    config.model_config.multi_tower.towers.add(input="all").mlp.hidden_units.append(8)
    config.model_config.multi_tower.final.hidden_units.append(8)
    config.model_config.losses.add().l2_loss.SetInParent()
    config.model_config.metrics.add().xauc.SetInParent()
    Trainer(config, CPU).train_and_evaluate()
    output = folder / "regression_scores"
    flags = ["--predict_input_path", folder / "eval", "--predict_output_path", output]
    run_predict("--checkpoint_path", folder / "regression", *flags, "--reserved_columns", "stay")
    found = table_of(output)
    assert found.column_names == ["stay", "y"]
    metrics = json.loads((folder / "regression" / "report.json").read_text())["metrics"]["stay"]
    error = found["y"].to_numpy() - found["stay"].to_numpy()
    assert metrics["mse"] == pytest.approx(np.square(error).mean(), rel=1e-5)
    assert 0 < metrics["xauc"] < 1


def test_interrupted_work_goes_on_and_is_complete_once(folder, monkeypatch, capsys):
    monkeypatch.setattr(trainer.prediction.input, "ROWS_PER_PART", 64)
    output, staging = folder / "resumed", folder / ".resumed.unfinished"
    flags = ["--checkpoint_path", folder / "run", "--predict_input_path", folder / "eval"]
    flags += ["--predict_output_path", output, "--reserved_columns", "row"]
    check, calls = trainer.prediction.predict._check_finite, []

    def fail_in_third_part(logits, task, part, row):
        calls.append(part.number)
        if len(set(calls)) == 3:
            raise OSError("no space left on device")
        check(logits, task, part, row)

    monkeypatch.setattr(trainer.prediction.predict, "_check_finite", fail_in_third_part)
    with pytest.raises(OSError, match="no space left"):
        run_predict(*flags)
    done = sorted(path.name for path in staging.glob("*.parquet"))
    assert len(done) == 2 and not output.exists()  # nothing half-written is to be seen
    written = {name: (staging / name).stat().st_mtime_ns for name in done}

    monkeypatch.setattr(trainer.prediction.predict, "_check_finite", check)
    run_predict(*flags)
    assert not staging.exists()
    assert {name: (output / name).stat().st_mtime_ns for name in done} == written
    assert table_of(output)["row"] == table_of(folder / "eval")["row"]
    assert "(the others were there)" in capsys.readouterr().out
    run_predict(*flags)
    assert f"{output} is complete already" in capsys.readouterr().out


# ------------------------------------------------------------------ errors


def message_of(call, kind: type[Exception] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_what_is_not_a_complete_checkpoint_is_an_error(folder, tmp_path):
    missing = message_of(lambda: run_evaluate("--checkpoint_path", tmp_path / "none"))
    assert "checkpoint_path must be a folder, but there is none at" in missing
    shutil.copytree(folder / "run" / "model.ckpt-6", tmp_path / "run" / "model.ckpt-6")
    shutil.copytree(folder / "run" / "model.ckpt-6", tmp_path / "run" / "model.ckpt-9")
    (tmp_path / "run" / "model.ckpt-9" / STATE_FILE).unlink()
    unfinished = message_of(
        lambda: run_evaluate("--checkpoint_path", tmp_path / "run" / "model.ckpt-9")
    )
    assert "must be a complete checkpoint" in unfinished
    assert "its writing was not finished" in unfinished
    assert "complete ones beside it: model.ckpt-6" in unfinished
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["model.ckpt-6"]
    assert "checkpoint_path must be set" in message_of(run_evaluate)
    (tmp_path / "run" / "model.ckpt-6" / "pipeline.config").unlink()
    no_config = message_of(
        lambda: run_evaluate("--checkpoint_path", tmp_path / "run" / "model.ckpt-6")
    )
    assert "model.ckpt-6 is damaged: pipeline.config is missing; copy it again" in no_config


def test_a_checkpoint_of_another_config_is_an_error(folder):
    other = ["--pipeline_config_path", folder / "other.config", "--checkpoint_path", folder / "run"]
    found = message_of(lambda: run_evaluate(*other, "--eval_input_path", folder / "eval"))
    assert "does not fit the model of the config" in found
    assert "towers.ctr.0.bias is [16] there and [8] here" in found
    assert "use the config it was written with" in found


def test_missing_columns_are_errors(folder):
    table = click_table(60, seed=1)
    for column, said in (
        ("click", "label of task `ctr`: .* has no column `click`"),
        ("price", "feature `price`: .* has no column `price`"),
        ("city", "has no column `city`"),
    ):
        path = folder / f"without_{column}"
        write_dataset(path, table.drop_columns([column]))
        with pytest.raises(ConfigError, match=said):
            run_evaluate("--checkpoint_path", folder / "run", "--eval_input_path", path)
    flags = ["--checkpoint_path", folder / "run", "--predict_output_path", folder / "never"]
    with pytest.raises(ConfigError, match=r"feature `price`: .* has no column `price`"):
        run_predict(*flags, "--predict_input_path", folder / "without_price")
    flags += ["--predict_input_path", folder / "eval"]
    for more, said in (
        (("--reserved_columns", "user_ids"), r"no `user_ids`; did you mean `user_id`\?"),
        (("--output_columns", "probs"), "output_columns: there is no `probs`"),
        (("--batch_size", "-1"), "batch_size must be positive, but got: -1"),
    ):
        with pytest.raises(ConfigError, match=said):
            run_predict(*flags, *more)
    assert not (folder / "never").exists()


def test_scores_that_are_not_finite_are_errors(folder, monkeypatch):
    restore = trainer.prediction.predict.restore

    def broken(*arguments, **options):
        model, _ = restore(*arguments, **options)
        with torch.no_grad():
            next(model.get_submodule("module.model.net").parameters()).fill_(torch.nan)
        return model, nullcontext()

    for module in (trainer.prediction.predict, evaluate, compare):
        monkeypatch.setattr(module, "restore", broken)
    found = message_of(lambda: run_evaluate("--checkpoint_path", folder / "run"), ValueError)
    assert "scores of task 'ctr' must not be NaN" in found
    models = [folder / "run", folder / "run", "--eval_input_path", folder / "eval"]
    found = message_of(lambda: run_compare(*models), ValueError)
    assert "scores of task 'ctr' must not be NaN" in found
    flags = ["--predict_input_path", folder / "eval", "--predict_output_path", folder / "nan"]
    found = message_of(lambda: run_predict("--checkpoint_path", folder / "run", *flags), DataError)
    assert "scores of task `ctr` must be finite" in found and "part-00000.parquet" in found


def test_output_of_another_job_is_not_touched(folder, scores):
    flags = ["--checkpoint_path", folder / "run", "--predict_input_path", folder / "eval"]
    again = [*flags, "--predict_output_path", folder / "scores"]
    found = message_of(lambda: run_predict(*again, "--reserved_columns", "row"))
    assert "predict_output_path must be new, but" in found
    staging = folder / ".busy.unfinished"
    staging.mkdir()
    (staging / JOB_FILE).write_text("{}")
    found = message_of(lambda: run_predict(*flags, "--predict_output_path", folder / "busy"))
    assert "holds unfinished work of another checkpoint, config, input or columns" in found


def test_work_with_another_config_is_not_gone_on_with(folder, scores):
    flags = ["--checkpoint_path", folder / "run" / "model.ckpt-6", "--reserved_columns"]
    flags += ["ALL_COLUMNS", "--predict_input_path", folder / "eval"]
    flags += ["--predict_output_path", folder / "scores", "--edit_config_json"]
    run_predict(*flags, '{"data_config.eval_batch_size": 64}')  # of no matter
    for edit in (
        {"eval_config.use_dense_ema": False},
        {"feature_configs[4].raw_feature.default_value": "3"},
        {"train_config.mixed_precision": "BF16"},
    ):
        found = message_of(lambda edit=edit: run_predict(*flags, json.dumps(edit)))
        assert "is there, and not of this checkpoint, config, input and columns" in found


def test_outputs_at_urls_are_errors(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, url = ["--checkpoint_path", folder / "run"], "s3://bucket/out"
    data = ["--eval_input_path", folder / "eval"]
    config = two_task_config(train_input_path="data", model_dir=url)
    for name, call in {
        "predict_output_path": lambda: run_predict(
            *run, "--predict_input_path", folder / "eval", "--predict_output_path", url
        ),
        "eval_result_filename": lambda: run_evaluate(*run, "--eval_result_filename", url),
        "result_filename": lambda: run_compare(*run[1:] * 2, *data, "--result_filename", url),
        "export_dir": lambda: export.export_run(
            export.parse_args([*map(str, run), "--export_dir", url])
        ),
        "model_dir": lambda: check_paths(config),
    }.items():
        rule = f"{name} must be on a local or shared file system, but got: {url}; write to a folder"
        assert message_of(call).startswith(rule)
    assert list(tmp_path.iterdir()) == []


def test_input_without_parquet_files_or_of_other_columns_is_an_error(folder, tmp_path):
    flags = ["--checkpoint_path", folder / "run", "--predict_output_path", tmp_path / "never"]
    (tmp_path / "none").mkdir()
    write_dataset(tmp_path / "no_city", click_table(60, seed=1).drop_columns(["city"]))
    for path, said in (
        (tmp_path / "none", "must be a folder of Parquet files, but .* has none"),
        (f"{folder / 'eval'},{tmp_path / 'no_city'}", "differs from .*: city string"),
    ):
        with pytest.raises(ValueError, match=said):
            run_predict(*flags, "--predict_input_path", path)
