"""Schedules against PyTorch's schedulers, which step, and against tables written by hand."""

import pytest
import torch
from google.protobuf import text_format
from torch.optim import lr_scheduler

from trainer.config import ConfigError
from trainer.optim.schedules import check_schedule, schedule_of, scheduled_rate
from trainer.protos import pipeline_pb2 as pb

LR, STEPS = 0.25, 60


def schedule(text: str):
    return schedule_of(text_format.Parse(text, pb.SparseOptimizer()))


def rates(text: str, lr: float = LR) -> list[float]:
    """Of the first steps; the epoch is one that no schedule by step may look at."""
    given = schedule(text)
    check_schedule(given, "here")
    return [scheduled_rate(given, lr, step, 10_000) for step in range(STEPS)]


def stepped(make, **arguments) -> list[float]:
    """What a scheduler of PyTorch sets, step after step."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=LR)
    scheduler = make(optimizer, **arguments)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant_learning_rate {}", [LR] * STEPS),
        ("", [LR] * STEPS),
        (
            "exponential_decay_learning_rate { decay_size: 7 decay_factor: 0.5 }",
            stepped(lr_scheduler.StepLR, step_size=7, gamma=0.5),
        ),
        (
            "exponential_decay_learning_rate "
            "{ decay_size: 4 decay_factor: 0.0625 staircase: false }",
            stepped(lr_scheduler.ExponentialLR, gamma=0.5),
        ),
        (
            "cosine_annealing_learning_rate { T_max: 100 min_learning_rate: 0.125 }",
            stepped(lr_scheduler.CosineAnnealingLR, T_max=100, eta_min=0.125),
        ),
        *(
            (
                "cosine_annealing_warm_restarts_learning_rate "
                f"{{ T_0: 5 T_mult: {growth} min_learning_rate: 0.125 }}",
                stepped(
                    lr_scheduler.CosineAnnealingWarmRestarts, T_0=5, T_mult=growth, eta_min=0.125
                ),
            )
            for growth in (1, 2, 3)
        ),
        (
            "manual_step_learning_rate { schedule_sizes: [3, 5] learning_rates: [0.5, 0.125] }",
            [LR] * 4 + [0.5] * 2 + [0.125] * (STEPS - 6),
        ),
        (
            "manual_step_learning_rate "
            "{ schedule_sizes: [4, 6] learning_rates: [0.5, 0.125] warmup: true }",
            [0.25, 0.3125, 0.375, 0.4375, 0.5, 0.5, 0.5] + [0.125] * (STEPS - 7),
        ),
    ],
)
def test_rates_are_those_of_the_formula(text, expected):
    assert rates(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "kind",
    [
        "exponential_decay_learning_rate {{ decay_size: 7 {} }}",
        "cosine_annealing_learning_rate {{ T_max: 9 {} }}",
        "cosine_annealing_warm_restarts_learning_rate {{ T_0: 5 T_mult: 2 {} }}",
    ],
)
def test_warm_up_is_a_line_and_then_the_schedule_from_its_start(kind):
    warm = rates(kind.format("warmup_size: 8 warmup_learning_rate: 0.0625"))
    assert warm[:8] == pytest.approx([0.0625 + (LR - 0.0625) * t / 8 for t in range(8)], rel=1e-12)
    assert warm[8:] == rates(kind.format(""))[: STEPS - 8]


def test_bounds():
    low = "min_learning_rate: 0.125"
    decay = rates(f"exponential_decay_learning_rate {{ decay_size: 1 decay_factor: 0.5 {low} }}")
    assert decay[:4] == [0.25, 0.125, 0.125, 0.125]
    assert rates(f"cosine_annealing_learning_rate {{ T_max: 9 {low} }}")[9:] == [0.125] * 51


def test_a_rate_of_zero_freezes_whatever_the_schedule():
    text = "manual_step_learning_rate { schedule_sizes: [3] learning_rates: [0.5] }"
    assert rates(text, lr=0.0) == [0.0] * STEPS


def test_by_epoch_counts_epochs():
    text = "exponential_decay_learning_rate {{ decay_size: 2 decay_factor: 0.5 by_epoch: {} }}"
    by_epoch, by_step = schedule(text.format("true")), schedule(text.format("false"))
    assert [scheduled_rate(by_epoch, LR, 999, epoch) for epoch in range(4)] == [
        scheduled_rate(by_step, LR, step, 999) for step in range(4)
    ]


def test_periods_of_restarts_are_exact_far_out():
    given = schedule("cosine_annealing_warm_restarts_learning_rate { T_0: 3 T_mult: 2 }")
    for n in range(1, 40):
        start = 3 * (2**n - 1)  # of period n
        assert scheduled_rate(given, LR, start, 0) == LR
        assert scheduled_rate(given, LR, start - 1, 0) < LR / 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exponential_decay_learning_rate {}", "decay_size must be positive, but is not set"),
        ("cosine_annealing_learning_rate { T_max: 0 }", "T_max must be positive, but is 0"),
        ("cosine_annealing_warm_restarts_learning_rate {}", "T_0 must be positive"),
        (
            "cosine_annealing_warm_restarts_learning_rate { T_0: 1 T_mult: 0 }",
            "T_mult must be positive, but is 0",
        ),
        ("manual_step_learning_rate {}", "has 0 learning_rates and 0 schedule_sizes"),
        (
            "manual_step_learning_rate { schedule_sizes: [1, 2] learning_rates: 0.1 }",
            "has 1 learning_rates and 2 schedule_sizes",
        ),
        (
            "manual_step_learning_rate { schedule_sizes: [2, 2] learning_rates: [1, 2] }",
            r"schedule_sizes must grow, but are: \[2, 2\]",
        ),
        (
            "manual_step_learning_rate { schedule_sizes: 0 learning_rates: 1 warmup: true }",
            r"must grow from above 0 \(warmup\), but are: \[0\]",
        ),
    ],
)
def test_schedules_without_a_rate_at_each_step_are_errors(text, message):
    with pytest.raises(ConfigError, match=f"^dense: .*{message}"):
        check_schedule(schedule(text), "dense")
