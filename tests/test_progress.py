"""What one sees of a run: lines, a bar, TensorBoard, a trace."""

import errno
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from tests.datasets import click_table, write_dataset
from tests.training_here import one_rank, trainer_here
from trainer.reporting.progress import LogEntry, Progress, Stopwatch
from trainer.reporting.summaries import NAMES, Summaries

assert one_rank  # a fixture that is imported to be used by name
ENTRY = LogEntry(
    step=1200,
    epoch=0.5,
    rows_per_second=63012.3,
    losses={"ctr/jrc_loss": 0.42131},
    pareto_weights={"ctr": 1.0},
    learning_rates={"sparse": 0.02, "dense": 0.001},
    data_wait_share=0.031,
    skipped_batches=2,
)


def test_a_line_says_where_training_stands(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(True, max_epochs=2, max_steps=float("inf"))
    progress.start(epoch=0, step=0)
    now[0] += 60  # a quarter of two epochs
    progress.say_entry(ENTRY)
    assert capsys.readouterr().out == (
        "step   1,200  epoch   0.50/2     63,012 samples/s  ETA 0:03:00  ctr/jrc_loss 0.4213  "
        "ctr weight 1.0000  lr sparse 0.02  lr dense 0.001  waiting for data 3%  "
        "2 batches left out (loss not finite)\n"
    )
    silent = Progress(False, max_epochs=2, max_steps=10)
    silent.say_entry(ENTRY)
    assert capsys.readouterr().out == ""
    assert silent.share(epoch=0.5, step=8) == 0.8


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress = Progress(True, max_epochs=2, max_steps=float("inf"))
    progress.start(epoch=0, step=0)
    time.sleep(0.15)  # it is drawn ten times a second at most
    progress.step(epoch=1.0, step=50)
    progress.say("a line above it")
    progress.stop()
    shown = capsys.readouterr().out
    assert " 50%|" in shown
    assert "step 50  epoch 1.00" in shown
    assert "a line above it\n" in shown


def test_the_stopwatch_tells_waiting_from_work(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def spend(seconds: float) -> None:
        clock[0] += seconds

    def slow():
        for item in range(3):
            spend(0.02)
            yield item

    stopwatch = Stopwatch()
    for _ in stopwatch.timed(slow()):
        spend(0.02)
    with stopwatch.paused():
        spend(0.2)
    assert 0.3 < stopwatch.wait_share < 0.7
    assert 0.1 < stopwatch.seconds < 0.3


def test_a_full_disk_costs_the_summaries_alone(tmp_path, monkeypatch):
    said: list[str] = []
    summaries = Summaries(tmp_path, (), 0, said.append)

    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", no_room)
    monkeypatch.setattr(SummaryWriter, "close", no_room)
    summaries.add_entry(ENTRY, nn.Linear(2, 2))
    summaries.add_metrics({"ctr": {"auc": 0.7}}, 3)
    summaries.close()
    assert len(said) == 1
    assert f"{tmp_path}/tensorboard could not be written: " in said[0]
    assert "No space left on device" in said[0]


@pytest.mark.usefixtures("one_rank")
def test_tensorboard_a_trace_and_the_effective_config(tmp_path: Path, capsys):
    write_dataset(tmp_path / "train", click_table(150, seed=1))
    write_dataset(tmp_path / "eval", click_table(60, seed=1))
    trainer_here(
        tmp_path,
        "model",
        eval_input_path=str(tmp_path / "eval"),
        train_config__num_steps=17,
        train_config__use_tensorboard=True,
        train_config__tensorboard_summaries=list(NAMES),
        train_config__evaluate_checkpoints=True,
        train_config__save_checkpoints_steps=8,
        train_config__is_profiling=True,
        model_config__use_pareto_loss_weight=True,
    ).train_and_evaluate()
    events = EventAccumulator(str(tmp_path / "model" / "tensorboard"))
    events.Reload()
    scalars, histograms = set(events.Tags()["scalars"]), set(events.Tags()["histograms"])
    expected = {"samples_per_second", "epoch", "data_wait_share", "skipped_batches"}
    expected |= {"loss/ctr/jrc_loss", "pareto_weight/ctr", "learning_rate/sparse"}
    expected |= {"learning_rate/dense", "global_gradient_norm", "eval/ctr/auc"}
    assert expected <= scalars
    norms = {name.removeprefix("gradient_norm/") for name in scalars if "gradient_norm/" in name}
    assert len(norms) > 5
    assert {f"{kind}/{name}" for kind in ("gradient", "parameter") for name in norms} == histograms
    assert [event.step for event in events.Scalars("loss/ctr/jrc_loss")] == [5, 10, 15]
    assert [event.step for event in events.Scalars("eval/ctr/auc")] == [8, 16, 17]
    whole = events.Scalars("global_gradient_norm")[0].value
    parts = [events.Scalars(f"gradient_norm/{name}")[0].value for name in norms]
    assert whole == pytest.approx(sum(part**2 for part in parts) ** 0.5, rel=1e-5)
    assert all(0 <= event.value <= 1 for event in events.Scalars("data_wait_share"))

    trace = tmp_path / "model" / "profile" / "rank0.trace.json"
    assert str(trace) in capsys.readouterr().out
    names = {event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]}
    assert any("aten::addmm" in name for name in names)
    assert "num_steps: 17" in (tmp_path / "model" / "pipeline.config").read_text()


@pytest.mark.usefixtures("one_rank")
def test_zero_epochs_beside_steps_are_as_if_not_set(tmp_path: Path):
    """As TorchEasyRec takes them."""
    write_dataset(tmp_path / "train", click_table(150, seed=1))
    edits: dict[str, Any] = {"train_config__num_epochs": 0, "train_config__num_steps": 3}
    trainer = trainer_here(tmp_path, "model", **edits)
    trainer.train_and_evaluate()
    assert trainer.state.global_step == 3
