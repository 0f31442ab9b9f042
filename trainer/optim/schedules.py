"""Learning rates as pure functions of time: resuming needs nothing but the step.

Formulas and names are TorchEasyRec's (tzrec/optim/lr_scheduler.py). Time `t` is the number of
global batches trained so far, or with `by_epoch` the number of epochs: the first batch has t = 0.

    warm-up, t < warmup_size   warmup_learning_rate + (lr - warmup_learning_rate) * t / warmup_size
    exponential decay          max(lr * decay_factor ^ (u / decay_size), min_learning_rate)
    cosine                     min + (lr - min) * (1 + cos(pi * u / T)) / 2
    with u = t - warmup_size
"""

import bisect
import math
from typing import Any

from google.protobuf.message import Message

from trainer.config import ConfigError
from trainer.protos import pipeline_pb2 as pb


def schedule_of(optimizer: Any) -> Message:
    """The schedule of a sparse, dense or part optimizer's message; constant where none is set."""
    kind = optimizer.WhichOneof("learning_rate")
    return getattr(optimizer, kind) if kind else pb.ConstantLR()


def scheduled_rate(schedule: Any, lr: float, step: int, epoch: int) -> float:
    """The learning rate of the batch before which `step` batches and `epoch` epochs were trained.

    Args:
        schedule: the message of a schedule (see `schedule_of`), checked by `check_schedule`.
        lr: the optimizer's; 0 stays 0 whatever the schedule, so it freezes what it trains.
    """
    if lr == 0 or isinstance(schedule, pb.ConstantLR):
        return lr
    t = epoch if schedule.by_epoch else step
    if isinstance(schedule, pb.ManualStepLR):
        return _manual_step(schedule, lr, t)
    if t < schedule.warmup_size:
        start = schedule.warmup_learning_rate
        return start + (lr - start) * t / schedule.warmup_size
    u = t - schedule.warmup_size
    if isinstance(schedule, pb.ExponentialDecayLR):
        periods = u // schedule.decay_size if schedule.staircase else u / schedule.decay_size
        return max(lr * schedule.decay_factor**periods, schedule.min_learning_rate)
    if isinstance(schedule, pb.CosineAnnealingLR):
        u, period = min(u, schedule.T_max), schedule.T_max
    else:
        u, period = _place_in_period(u, schedule.T_0, schedule.T_mult)
    low = schedule.min_learning_rate
    return low + (lr - low) * (1 + math.cos(math.pi * u / period)) / 2


def _manual_step(schedule: pb.ManualStepLR, lr: float, t: int) -> float:
    """learning_rates[i] for schedule_sizes[i] < t <= schedule_sizes[i + 1]."""
    passed = bisect.bisect_left(schedule.schedule_sizes, t)
    if passed:
        return schedule.learning_rates[passed - 1]
    if schedule.warmup:
        return lr + (schedule.learning_rates[0] - lr) * t / schedule.schedule_sizes[0]
    return lr


def _place_in_period(u: int, period: int, growth: int) -> tuple[int, int]:
    """How far `u` is in its period, and how long that is; each is `growth` times the one before."""
    if growth == 1:
        return u % period, period
    while u >= period:
        u, period = u - period, period * growth
    return u, period


def check_schedule(schedule: Any, where: str) -> None:
    """Raise ConfigError for a schedule that is not defined at every step.

    Args:
        where: its optimizer's place in the config, for the message.
    """
    for name in ("decay_size", "T_max", "T_0", "T_mult"):
        if name in schedule.DESCRIPTOR.fields_by_name and not getattr(schedule, name):
            raise ConfigError(
                f"{where}: {schedule.DESCRIPTOR.name}.{name} must be positive, "
                f"but is {'0' if schedule.HasField(name) else 'not set'}"
            )
    if not isinstance(schedule, pb.ManualStepLR):
        return
    sizes, rates = list(schedule.schedule_sizes), list(schedule.learning_rates)
    if not sizes or len(sizes) != len(rates):
        raise ConfigError(
            f"{where}: ManualStepLR must have a learning_rates for each schedule_sizes, and at "
            f"least one, but has {len(rates)} learning_rates and {len(sizes)} schedule_sizes"
        )
    if sizes != sorted(set(sizes)) or (schedule.warmup and not sizes[0]):
        raise ConfigError(
            f"{where}: ManualStepLR.schedule_sizes must grow"
            f"{' from above 0 (warmup)' if schedule.warmup else ''}, but are: {sizes}"
        )
