"""What checkpoints hold, when they are written, which stay, and what becomes of damaged ones."""

import errno
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.test_training import ROOT, train
from tests.training_here import all_tensors, one_rank, trainer_here
from trainer.checkpoints.checkpoint import find_damage, list_checkpoints, read_metrics
from trainer.checkpoints.restore import find_run
from trainer.checkpoints.resume import allow_restart, checkpoint_to_continue
from trainer.checkpoints.save_schedule import SaveSchedule
from trainer.config import ConfigError

pytestmark = pytest.mark.usefixtures("one_rank")
assert one_rank  # a fixture that is imported to be used by name
SAVE: dict[str, Any] = {"train_config__save_checkpoints_steps": 4, "train_config__num_steps": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints")
    write_dataset(path / "train", click_table(150, seed=1))
    write_dataset(path / "eval", click_table(60, seed=1))
    return path


@pytest.fixture(scope="module")
def whole(folder, one_rank) -> dict[str, torch.Tensor]:
    """All tensors after 12 steps, with checkpoints of steps 4, 8 and 12."""
    trainer = trainer_here(folder, "whole", **SAVE)
    trainer.train_and_evaluate()
    assert [path.name for path in list_checkpoints(folder / "whole")] == [
        "model.ckpt-4",
        "model.ckpt-8",
        "model.ckpt-12",
    ]
    return all_tensors(trainer)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert not [name for name in expected if not torch.equal(found[name], expected[name])]


def test_a_checkpoint_holds_all_that_training_needs(folder, whole):
    newest = list_checkpoints(folder / "whole")[-1]
    files = json.loads((newest / "train_state.json").read_text())["files"]
    assert set(files) == {path.name for path in newest.iterdir()} - {"train_state.json"}
    assert {"pipeline.config", "sharding_plan.json", "history.json", ".metadata"} < set(files)
    plan = json.loads((newest / "sharding_plan.json").read_text())
    assert plan["pooled"]["user_id_emb"]["ranks"] == [0]
    assert find_damage(newest) is None
    assert_equal(all_tensors(trainer_here(folder, "whole", **SAVE)), whole)


def flip_a_bit(file: Path, place: int | None = None) -> None:
    """Of the byte at a place, without one in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    file.write_bytes(content)


def flip_after(text: str) -> Callable[[Path], None]:
    """Flip a bit of the last character of a text in a file."""
    return lambda file: flip_a_bit(file, file.read_text().index(text) + len(text) - 1)


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("__0_0.distcp", lambda f: f.write_bytes(f.read_bytes()[:-1]), "must have"),
        ("__0_0.distcp", flip_a_bit, "is not as it was written"),
        ("__0_0.distcp", Path.unlink, "is missing"),
        (".metadata", flip_a_bit, "is not as it was written"),
        ("history.json", Path.unlink, "is missing"),
        ("train_state.json", lambda f: f.write_text('{"state'), "cannot be read"),
        ("train_state.json", lambda f: f.write_text("[]"), "must hold an object"),
        ("train_state.json", lambda f: f.write_text("{}"), "its checksum is missing or differs"),
        ("train_state.json", flip_after('"global_step": 12'), "its checksum is missing or differs"),
        ("train_state.json", Path.unlink, "is missing"),
    ],
)
def test_the_one_before_a_damaged_checkpoint_is_used(folder, whole, capsys, name, damage, told):
    model = folder / "damaged"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(folder / "whole", model)
    damage(model / "model.ckpt-12" / name)
    trainer = trainer_here(folder, "damaged", **SAVE)
    said = capsys.readouterr().out
    assert f"{model}/model.ckpt-12 is damaged ({name}" in said
    assert told in said
    assert "going on from model.ckpt-8 instead" in said
    assert trainer.state.global_step == 8
    trainer.train_and_evaluate()
    assert_equal(all_tensors(trainer), whole)
    names = sorted(path.name for path in model.glob("model*"))
    assert names == ["model.ckpt-12", "model.ckpt-12.damaged", "model.ckpt-4", "model.ckpt-8"]


def test_a_bit_flipped_anywhere_in_train_state_json_is_seen(folder, whole, tmp_path):
    """Whatever can still be read as JSON, too: numbers, the names of fields, the list of files."""
    checkpoint = tmp_path / "model.ckpt-12"
    shutil.copytree(folder / "whole" / checkpoint.name, checkpoint)
    file = checkpoint / "train_state.json"
    text = file.read_text()
    places = [n for n, character in enumerate(text) if not character.isspace()]
    assert len(places) > 500
    for place in places:
        flip_a_bit(file, place)
        damage = find_damage(checkpoint)
        assert damage and damage.startswith("train_state.json cannot be read: "), place
        assert read_metrics(checkpoint) == {}
        file.write_text(text)
    assert find_damage(checkpoint) is None


def test_without_an_undamaged_checkpoint_training_does_not_start_anew(folder, whole):
    shutil.copytree(folder / "whole", folder / "hopeless")
    for checkpoint in list_checkpoints(folder / "hopeless"):
        (checkpoint / ".metadata").unlink()
    with pytest.raises(ConfigError, match=r"all checkpoints of .* are damaged"):
        trainer_here(folder, "hopeless", **SAVE)


def test_the_one_before_a_damaged_checkpoint_is_evaluated(folder, whole, tmp_path, capsys):
    """As by evaluate, compare, predict and export, which all ask `find_run`."""
    model = tmp_path / "model"
    shutil.copytree(folder / "whole", model)
    newest = model / "model.ckpt-12"
    assert find_run(None, str(model)).checkpoint == find_run(None, str(newest)).checkpoint == newest
    assert capsys.readouterr().err == ""
    flip_a_bit(newest / "__0_0.distcp")
    assert find_run(None, str(model)).checkpoint == model / "model.ckpt-8"
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {newest} is damaged (__0_0.distcp is not as it was written")
    assert said.endswith("going on from model.ckpt-8 instead\n")
    assert newest.is_dir()  # only training sets it aside
    told = rf"checkpoint_path must be .* {newest} is damaged: __0_0\.distcp is not .*copy it again"
    with pytest.raises(ConfigError, match=told):
        find_run(None, str(newest))
    for step in (4, 8):
        (model / f"model.ckpt-{step}" / ".metadata").unlink()
    with pytest.raises(ConfigError, match=r"all checkpoints of .* are damaged"):
        find_run(None, str(model))


def test_a_restart_goes_on_by_itself_but_not_in_the_folder_of_another_run(
    folder, whole, monkeypatch
):
    model = folder / "restarted"
    shutil.copytree(folder / "whole", model)

    def refuses() -> bool:
        with pytest.raises(ConfigError, match="must hold no checkpoint of another run"):
            checkpoint_to_continue(model, False, print)
        return True

    assert refuses()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert refuses()  # torchrun tries again
    allow_restart(model, True)  # as a job that began does
    assert checkpoint_to_continue(model, False, print) == model / "model.ckpt-12"
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")
    assert refuses()  # a new job
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert refuses()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("until", [11, 99])
def test_a_full_disk_costs_a_checkpoint_and_fails_the_last_one(folder, until, ranks):
    """A limit of the kernel on the size of files stands for a rank's disk, from step 6 on."""
    faults = [{"attempt": 0, "rank": ranks - 1, "at": "disk_full", "step": 6, "until": until}]
    model = f"full{until}.{ranks}"
    (folder / "pipeline.config").write_text(str(two_task_config()))
    done = train_with_faults(folder, model, faults, ranks, **SAVE)
    model_dir = folder / model
    assert f"warning: {model_dir}/model.ckpt-8 could not be written: " in done.stdout
    assert "the newest checkpoint is model.ckpt-4; training goes on" in done.stdout
    names = sorted(path.name for path in model_dir.glob("*ckpt*"))
    if until == 11:
        assert done.returncode == 0, done.stderr
        assert names == ["model.ckpt-12", "model.ckpt-4"]
    else:
        assert done.returncode == 1
        assert f"{model_dir}/model.ckpt-12 could not be written: " in done.stderr
        assert re.search(r"^error on rank \d: ", done.stderr, re.MULTILINE)
        assert names == ["model.ckpt-4"]
        if ranks == 1:  # torchrun adds one of its own
            assert "Traceback" not in done.stderr


def train_with_faults(
    folder: Path, model: str, faults: list[dict[str, Any]], ranks: int, **edits: Any
) -> subprocess.CompletedProcess[str]:
    environment = {"FAULTS": json.dumps(faults), "STEP_SECONDS": "0.1"}
    (folder / "faulty.py").write_text(
        f"import os, runpy\nos.environ |= {environment!r}\n"
        f"runpy.run_path({str(ROOT / 'tests/faulty_train.py')!r}, run_name='__main__')\n"
    )
    return train(folder, model, ranks, script=str(folder / "faulty.py"), **edits)


# ------------------------------------------------------------------ when, and which stay


def cursor(epoch: int, is_last: bool) -> Any:
    return SimpleNamespace(epoch=epoch, after=lambda: (epoch + is_last, None))


BY_STEPS, BY_EPOCHS, STEPS_BEFORE = {10, 20, 30, 40}, {14, 28}, {"save_checkpoints_steps": 10}


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        (STEPS_BEFORE, BY_STEPS),
        ({}, set()),  # the 1000th
        ({"save_checkpoints_epochs": 2}, BY_EPOCHS),
        (STEPS_BEFORE | {"save_checkpoints_epochs": 2}, BY_EPOCHS),  # as in TorchEasyRec
        (STEPS_BEFORE | {"save_checkpoints_epochs": 0}, BY_STEPS),
        ({"save_checkpoints_steps": 0}, set()),
    ],
)
def test_checkpoints_are_due_by_steps_or_in_their_place_by_epochs(edits, expected):
    train_config = two_task_config(**{f"train_config__{k}": v for k, v in edits.items()})
    schedule, due = SaveSchedule(train_config.train_config), set()
    for step in range(1, 41):  # epochs of 7 steps
        schedule.note_step(step, cursor((step - 1) // 7, step % 7 == 0), schedule.is_time())
        if schedule.is_due:
            due.add(step)
            schedule.note_saved()
    assert due == expected


def test_checkpoints_are_due_by_epochs_and_minutes():
    now = [0.0]
    train_config = two_task_config(
        train_config__save_checkpoints_epochs=2,
        train_config__save_checkpoints_minutes=0.5,
    ).train_config
    schedule = SaveSchedule(train_config, lambda: now[0])
    due = []
    for step in range(1, 41):  # epochs of 7 steps, 4 seconds a step
        now[0] += 4
        schedule.note_step(step, cursor((step - 1) // 7, step % 7 == 0), schedule.is_time())
        if schedule.is_due:
            due.append(step)
            schedule.note_saved()
    by_minutes = {8, 22, 36}  # 30 s after the start, after step 14 and after step 28
    assert due == sorted(BY_EPOCHS | by_minutes)


def test_minutes_that_end_with_a_checkpoint_by_steps_make_no_second_one():
    now = [0.0]
    train_config = two_task_config(
        train_config__save_checkpoints_steps=10, train_config__save_checkpoints_minutes=0.5
    ).train_config
    schedule, answer, due = SaveSchedule(train_config, lambda: now[0]), False, []
    for step in range(1, 31):  # 3 seconds a step: step 10 ends the minutes; the answer comes later
        now[0] += 3
        asked = schedule.is_time()
        schedule.note_step(step, cursor(0, False), answer)
        answer = asked
        if schedule.is_due:
            due.append(step)
            schedule.note_saved()
    assert due == [10, 20, 30]


def test_what_cannot_be_deleted_ends_no_training(folder, monkeypatch, capsys):
    """As on NFS, which keeps a file that another process has open. Root ignores permissions."""
    rmtree = shutil.rmtree

    def refuse(path: Any, *args: Any, **kwargs: Any) -> None:
        if "model.ckpt-" in str(path):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        rmtree(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    edits: dict[str, Any] = SAVE | {"train_config__keep_checkpoint_max": 1}
    trainer_here(folder, "stuck", **edits).train_and_evaluate()
    said = capsys.readouterr().out
    for step in (4, 8):
        assert f"warning: {folder}/stuck/model.ckpt-{step} could not be deleted: " in said
    assert [path.name for path in list_checkpoints(folder / "stuck")] == ["model.ckpt-12"]
    trainer = trainer_here(folder, "stuck", **edits)
    assert trainer.state.global_step == 12
    leftover = folder / "stuck" / ".model.ckpt-8.tmp"
    assert f"warning: {leftover} could not be deleted: " in capsys.readouterr().out
    monkeypatch.undo()
    trainer_here(folder, "stuck", **edits)
    assert not leftover.exists()


def test_the_best_checkpoint_stays_beside_the_newest(folder):
    metric: dict[str, Any] = {"train_config__best_checkpoint_metric": "ctr/logloss"}
    edits = metric | {
        "eval_input_path": str(folder / "eval"),
        "train_config__best_checkpoint_larger_is_better": False,
        "train_config__keep_checkpoint_max": 2,
        "train_config__save_checkpoints_steps": 8,
        "train_config__num_epochs": 4,
        "train_config__dense_optimizer__adam_optimizer__lr": 0.1,  # it soon overfits
    }
    trainer_here(folder, "best", **edits).train_and_evaluate()
    kept = list_checkpoints(folder / "best")
    best = json.loads((folder / "best" / "best_checkpoint.json").read_text())
    values = {path.name: read_metrics(path)["ctr"]["logloss"] for path in kept}
    assert len(kept) == 3
    assert best["checkpoint"] == kept[0].name == min(values, key=lambda name: values[name])
    assert best["value"] == values[kept[0].name]
    report = json.loads((folder / "best" / "report.json").read_text())
    assert report["metrics"]["ctr"]["logloss"] == values[kept[-1].name] > best["value"]
    wrong: dict[str, Any] = edits | {"train_config__best_checkpoint_metric": "ctr/loglos"}
    with pytest.raises(ConfigError, match="did you mean `ctr/logloss`"):
        trainer_here(folder, "wrong_metric", **wrong).train_and_evaluate()
    with pytest.raises(ConfigError, match="best_checkpoint_metric: eval_input_path must be set"):
        trainer_here(folder, "no_eval", **metric)


def test_export_config_chooses_the_best_checkpoint_too(folder):
    export = {"exporter_type": "best", "best_exporter_metric": "jrc_loss_ctr"}
    edits: dict[str, Any] = {
        "export_config": export | {"metric_larger_is_better": False},
        "train_config__save_checkpoints_steps": 8,
        "train_config__num_epochs": 4,
        "train_config__dense_optimizer__adam_optimizer__lr": 0.1,  # it soon overfits
    }
    with pytest.raises(ConfigError, match="exporter_type: best: eval_input_path must be set"):
        trainer_here(folder, "no_eval", **edits)
    edits["eval_input_path"] = str(folder / "eval")
    trainer_here(folder, "exported", **edits).train_and_evaluate()
    kept = list_checkpoints(folder / "exported")
    values = {path.name: read_metrics(path)["ctr"]["jrc_loss"] for path in kept}
    best = json.loads((folder / "exported" / "best_checkpoint.json").read_text())
    name = min(values, key=lambda name: values[name])
    assert best == {
        "checkpoint": name,
        "step": int(name.removeprefix("model.ckpt-")),
        "metric": "ctr/jrc_loss",
        "value": values[name],
    }
    assert name != kept[-1].name

    def found(path: str, edit: str = "", to_export: bool = True) -> str:
        return find_run(None, str(folder / path), edit, to_export=to_export).checkpoint.name

    assert found("exported") == name
    assert found(f"exported/{kept[-1].name}") == kept[-1].name
    assert found("exported", to_export=False) == kept[-1].name
    assert found("exported", '{"export_config.exporter_type": "latest"}') == kept[-1].name
    (folder / "exported" / "best_checkpoint.json").unlink()
    assert found("exported") == kept[-1].name


# ------------------------------------------------------------------ other tables, other names


def test_a_table_may_grow(folder, whole, capsys):
    shutil.copytree(folder / "whole", folder / "grown")
    rows: dict[str, Any] = {"feature_configs[1]__id_feature__num_buckets": 50}
    fresh = all_tensors(trainer_here(folder, "fresh", **SAVE, **rows))
    trainer = trainer_here(folder, "grown", **SAVE | {"train_config__num_steps": 16}, **rows)
    assert "item_id_emb.weight 30 -> 50 rows" in capsys.readouterr().out
    found = all_tensors(trainer)
    grown = [name for name in whole if "item_id_emb" in name]
    assert len(grown) == 2  # the table, and Adagrad's sums
    for name, before in whole.items():
        if name in grown:
            assert torch.equal(found[name][:30], before)
            assert torch.equal(found[name][30:], fresh[name][30:])
        else:
            assert torch.equal(found[name], before)
    trainer.train_and_evaluate()
    assert trainer.state.global_step == 16


def test_a_hashed_table_does_not_grow_nor_any_table_shrink(folder, whole):
    edit: dict[str, Any]
    for edit, told in (
        ({"feature_configs[2]__id_feature__hash_bucket_size": 60}, "ids are hashed to its rows"),
        (
            {"feature_configs[2]__id_feature__hash_bucket_size": 40},
            r"is \[50, 4\] there, \[40, 4\]",
        ),
    ):
        with pytest.raises(ConfigError, match=told):
            trainer_here(folder, "whole", **SAVE, **edit)


def test_fine_tuning_starts_from_another_runs_values_by_name(folder, whole, capsys):
    names = folder / "names.txt"
    mine = [name for name in whole if ".net." in name and "/" not in name]
    ctr = [name for name in mine if "ctr" in name and "cvr" not in name]
    pairs = {name.replace("ctr", "cvr"): name for name in ctr}
    pairs = {new: old for new, old in pairs.items() if new in whole}
    same = {new: old for new, old in pairs.items() if whole[new].shape == whole[old].shape}
    assert same, mine
    names.write_text("".join(f"{new}\t{old}\n" for new, old in same.items()))
    edits: dict[str, Any] = {
        "train_config__fine_tune_checkpoint": str(folder / "whole"),
        "train_config__fine_tune_ckpt_param_map": str(names),
        "feature_configs[0]__id_feature__embedding_dim": 16,  # of another shape
        "feature_configs[1]__id_feature__num_buckets": 50,  # grown
        "feature_configs[3]__id_feature__embedding_name": "labels",  # not in the checkpoint
    }
    trainer = trainer_here(folder, "tuned", **SAVE, **edits)
    said = capsys.readouterr().out
    found = all_tensors(trainer)
    for new, old in same.items():
        assert torch.equal(found[new], whole[old])
        assert not torch.equal(found[new], whole[new])
        assert torch.equal(found[old], whole[old])
    table = "model.tables.pooled.embedding_bags"
    assert torch.equal(
        found[f"{table}.item_id_emb.weight"][:30], whole[f"{table}.item_id_emb.weight"]
    )
    assert f"{table}.item_id_emb.weight 30 -> 50 rows" in said
    assert f"not in the checkpoint, keep their initial values: {table}.labels.weight" in said
    assert f"{table}.user_id_emb.weight [20, 8] there, [20, 16] here" in said
    assert "in the checkpoint, not used: " in said
    assert f"{table}.tags_emb.weight" in said.split("not used: ")[1].splitlines()[0]
    assert trainer.state.global_step == 0
    for text, told in (
        ("no.such\tx\n", "the model has no `no.such`"),
        ("one\n", "line 1: must be"),
    ):
        names.write_text(text)
        with pytest.raises(ConfigError, match=told):
            trainer_here(folder, "tuned2", **SAVE, **edits)


def test_fine_tuning_grows_no_hashed_table(folder, whole, capsys):
    source: dict[str, Any] = {"train_config__fine_tune_checkpoint": str(folder / "whole")}
    grown: dict[str, Any] = source | {"feature_configs[2]__id_feature__hash_bucket_size": 60}
    told = r"city_emb\.weight had 50 rows and has 60 now, .* hashed .* keep its hash_bucket_size"
    with pytest.raises(ConfigError, match=told):
        trainer_here(folder, "tuned_hash", **grown)
    anew: dict[str, Any] = {"feature_configs[2]__id_feature__embedding_name": "cities"}
    trainer_here(folder, "tuned_hash", **grown, **anew)  # the cure
    said = capsys.readouterr().out
    assert "keep their initial values: model.tables.pooled.embedding_bags.cities.weight" in said


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"tensorboard_summaries": ["losses"]}, "tensorboard_summaries must be of loss, "),
        ({"save_checkpoints_minutes": -1.0}, "save_checkpoints_minutes must be 0"),
        ({"fine_tune_ckpt_param_map": "x"}, "without fine_tune_checkpoint it has no effect"),
        ({"fine_tune_checkpoint": "nowhere"}, "must be a checkpoint .* but got: nowhere"),
        ({"evaluate_checkpoints": True}, "evaluate_checkpoints: eval_input_path must be set"),
    ],
)
def test_fields_of_checkpoints_are_held_to_their_rules(folder, edits, told):
    with pytest.raises(ConfigError, match=told):
        trainer_here(folder, "none", **{f"train_config__{k}": v for k, v in edits.items()})
