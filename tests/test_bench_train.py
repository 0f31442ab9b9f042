"""The benchmark of training: its trainer takes turns, and is profiled without one."""

import pytest
import torch

from benchmarks import bench_train
from benchmarks.bench_train import TimedTrainer, covered, ratios
from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.training_here import one_rank

assert one_rank  # a fixture that is imported to be used by name


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(("steps", "is_ahead"), [(2, False), (1, True)])
def test_a_trainer_tells_of_its_windows_and_is_profiled_without_a_turn(
    tmp_path, monkeypatch, steps, is_ahead
):
    write_dataset(tmp_path / "train", click_table(60))
    turns, told = [], []
    monkeypatch.setattr(bench_train, "wait_for_turn", lambda: turns.append(len(told)))
    monkeypatch.setattr(bench_train, "tell", told.append)
    monkeypatch.setattr(bench_train, "PROFILED_STEPS", 2)
    config = two_task_config(
        train_input_path=str(tmp_path / "train"),
        model_dir=str(tmp_path / "model"),
        train_config__num_steps=5,
        train_config__pipeline_sparse_dist=is_ahead,
    )
    trainer = TimedTrainer(config, torch.device("cpu"))
    trainer.train_in_windows(steps)
    windows = 4 // steps  # and a last step
    assert turns == [*range(windows), windows]
    assert all(0 <= window["data_wait_share"] <= 1 for window in told)
    assert 0 < bench_train.busy_share(trainer) <= 1
    assert (len(turns), len(told)) == (windows + 1, windows)
    assert trainer.state.global_step == 5


def test_the_time_that_spans_cover_is_that_of_their_union():
    assert covered([]) == 0
    assert covered([(0, 2), (1, 3), (1, 2), (5, 6), (6, 7)]) == 5


def test_ratios_are_of_windows_of_the_same_round_and_without_auc_where_none_was_measured():
    speeds = {"bfloat16": [20.0, 60.0], "float32": [10.0, 20.0]}
    windows = {name: [{"samples_per_second": each} for each in of] for name, of in speeds.items()}
    auc = {"click": 0.7}
    found = {"float32": {"steps": 2, "auc": auc}, "bfloat16": {"steps": 2, "auc": None}}
    (entry,) = ratios(windows, found).values()
    assert entry == {"p20": 2.2, "p50": 2.5, "p80": 2.8}
    found["bfloat16"]["auc"] = {"click": 0.75}
    (entry,) = ratios(windows, found).values()
    assert entry["auc_difference"] == {"click": 0.05}
