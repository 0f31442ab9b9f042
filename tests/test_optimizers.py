"""Each optimizer in training against a float64 twin; schedules, clipping, scaler, averages."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.tiny_training import CPU, Run, Twin, train_config
from trainer.config import ConfigError
from trainer.optim.optimizers import sparse_optimizer

STEPS = 8


@pytest.fixture(scope="module", autouse=True)
def world_of_one(tmp_path_factory) -> Iterator[None]:
    store = f"file://{tmp_path_factory.mktemp('store')}/store"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def assert_same(run: Run, twin: Twin) -> None:
    torch.testing.assert_close(run.table().double(), twin.table, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(run.dense(), twin.layers.parameters(), strict=True):
        torch.testing.assert_close(mine.double(), theirs.detach(), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ updates of the twin


def table_sgd(lr: Callable[[int], float] = lambda step: 0.5) -> Callable[..., None]:
    def update(table: Tensor, gradient: Tensor, step: int) -> None:
        table -= lr(step) * gradient

    return update


def table_adagrad(lr: float, eps: float, start: float = 0.0, row_wise: bool = False) -> Any:
    accumulated = torch.tensor(start, dtype=torch.float64)

    def update(table: Tensor, gradient: Tensor, step: int) -> None:
        nonlocal accumulated
        square = gradient.square()
        accumulated = accumulated + (square.mean(1, keepdim=True) if row_wise else square)
        table -= lr * gradient / (accumulated.sqrt() + eps)

    return update


def dense(kind: Any = torch.optim.SGD, rate: Callable[[int], float] | None = None, **given) -> Any:
    """PyTorch's plain implementation, made at its first step."""
    made: list[torch.optim.Optimizer] = []
    given = {"lr": 0.5, **given}

    def update(parameters: list[Any], step: int) -> None:
        if not made:
            made.append(kind(parameters, foreach=False, **given))
        if rate is not None:
            made[0].param_groups[0]["lr"] = rate(step)
        made[0].step()

    return update


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize(
    ("text", "update"),
    [
        ("sgd_optimizer { lr: 0.25 }", table_sgd(lambda step: 0.25)),
        ("adagrad_optimizer { lr: 0.25 }", table_adagrad(0.25, 1e-8)),
        (
            "adagrad_optimizer { lr: 0.25 initial_accumulator_value: 0.5 eps: 0.125 }",
            table_adagrad(0.25, 0.125, 0.5),
        ),
        ("rowwise_adagrad_optimizer { lr: 0.25 }", table_adagrad(0.25, 1e-8, row_wise=True)),
        (
            "rowwise_adagrad_optimizer { lr: 0.25 eps: 0.125 }",
            table_adagrad(0.25, 0.125, row_wise=True),
        ),
    ],
)
def test_tables_move_as_their_optimizer_says(text, update):
    twin = Twin(update, dense())
    twin.train(STEPS)
    for sharding_type in ("table_wise", "data_parallel"):
        run = Run(train_config(f"sparse_optimizer {{ {text} }}"), sharding_type)
        run.train(STEPS)
        assert_same(run, twin)


@pytest.mark.parametrize(
    ("kind", "update"),
    [
        ("sgd", table_sgd()),
        ("adagrad", table_adagrad(0.5, 1e-8)),
        ("rowwise_adagrad", table_adagrad(0.5, 1e-8, row_wise=True)),
    ],
)
def test_clipping_of_tables_limits_the_gradient_of_each_pooled_embedding(kind, update):
    limit = "gradient_clipping: true max_gradient: 0.0078125"
    run = Run(train_config(f"sparse_optimizer {{ {kind}_optimizer {{ lr: 0.5 {limit} }} }}"))
    twin = Twin(update, dense(), change_pooled=lambda g: g.clamp(-0.0078125, 0.0078125))
    run.train(STEPS)
    twin.train(STEPS)
    assert_same(run, twin)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (f"{kind}_optimizer {{}}", f"{kind}_optimizer: FBGEMM has it for CUDA alone; train on")
            for kind in (
                "adam",
                "partial_rowwise_adam",
                "lamb",
                "partial_rowwise_lamb",
                "lars_sgd",
            )
        ),
        (
            "rowwise_adagrad_optimizer { weight_decay: 0.1 weight_decay_mode: L2 }",
            "rowwise_adagrad_optimizer.weight_decay: FBGEMM has none on a CPU; train on a GPU",
        ),
    ],
)
def test_what_fbgemm_lacks_on_a_cpu_is_an_error_there_alone(text, message):
    config = train_config(f"sparse_optimizer {{ {text} }}").sparse_optimizer
    with pytest.raises(ConfigError, match=f"^train_config.sparse_optimizer.{message}"):
        sparse_optimizer(config, CPU)
    sparse_optimizer(config, torch.device("cuda"))


# ------------------------------------------------------------------ dense parameters


@pytest.mark.parametrize(
    ("text", "kind", "given"),
    [
        (
            "sgd_optimizer { lr: 0.25 weight_decay: 0.0625 dampening: 0.25 }",  # momentum is 0.9
            torch.optim.SGD,
            {"lr": 0.25, "momentum": 0.9, "weight_decay": 0.0625, "dampening": 0.25},
        ),
        (
            "sgd_optimizer { lr: 0.25 momentum: 0.5 nesterov: true }",
            torch.optim.SGD,
            {"lr": 0.25, "momentum": 0.5, "nesterov": True},
        ),
        (
            "adagrad_optimizer { lr: 0.25 weight_decay: 0.0625 initial_accumulator_value: 0.5 "
            "eps: 0.125 }",
            torch.optim.Adagrad,
            {"lr": 0.25, "weight_decay": 0.0625, "initial_accumulator_value": 0.5, "eps": 0.125},
        ),
        *(
            (
                f"{name}_optimizer {{ lr: 0.0625 beta1: 0.5 beta2: 0.75 weight_decay: 0.0625 "
                f"eps: 0.125 amsgrad: true }}",
                kind,
                {
                    **{"lr": 0.0625, "betas": (0.5, 0.75), "weight_decay": 0.0625},
                    **{"eps": 0.125, "amsgrad": True},
                },
            )
            for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW))
        ),
        ("adam_optimizer {}", torch.optim.Adam, {"lr": 0.002}),
        ("adamw_optimizer {}", torch.optim.AdamW, {"lr": 0.002, "weight_decay": 0.0}),
        (
            "adadelta_optimizer { lr: 0.25 rho: 0.5 eps: 0.125 weight_decay: 0.0625 }",
            torch.optim.Adadelta,
            {"lr": 0.25, "rho": 0.5, "eps": 0.125, "weight_decay": 0.0625},
        ),
        (
            "rmsprop_optimizer { lr: 0.0625 alpha: 0.5 eps: 0.125 weight_decay: 0.0625 }",
            torch.optim.RMSprop,
            {"lr": 0.0625, "alpha": 0.5, "eps": 0.125, "weight_decay": 0.0625},
        ),
    ],
)
def test_dense_parameters_move_as_their_optimizer_says(text, kind, given):
    run = Run(train_config(f"dense_optimizer {{ {text} }}"))
    twin = Twin(table_sgd(), dense(kind, **given))
    run.train(STEPS)
    twin.train(STEPS)
    assert_same(run, twin)


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "adam", "adamw"])
def test_the_fused_kernel_is_taken_unless_forbidden(kind):
    def groups(field: str) -> bool:
        run = Run(train_config(f"dense_optimizer {{ {kind}_optimizer {{ {field} }} }}"))
        (group,) = run.optimizer.dense.param_groups
        return group["fused"]

    assert groups("") and groups("fused: true") and not groups("fused: false")


def test_a_fused_kernel_that_pytorch_lacks_is_an_error(monkeypatch):
    lacks = lambda operator, device: False  # noqa: E731 - the tests' shortest stand-in
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lacks)
    Run(train_config("dense_optimizer { adam_optimizer {} }"))
    with pytest.raises(ConfigError, match=r"adam_optimizer.fused: PyTorch .* has no fused kernel"):
        Run(train_config("dense_optimizer { adam_optimizer { fused: true } }"))


# ------------------------------------------------------------------ parts


def test_parts_have_their_own_optimizer_and_schedule():
    run = Run(
        train_config("""
        dense_optimizer {
            sgd_optimizer { lr: 0.5 momentum: 0 }
            exponential_decay_learning_rate { decay_size: 1 decay_factor: 0.5 }
            part_optimizers {
                regex_pattern: "layers.0.weight"
                adam_optimizer { lr: 0.125 }
                manual_step_learning_rate { schedule_sizes: 2 learning_rates: 0.25 }
            }
            part_optimizers { regex_pattern: "layers.0..*" sgd_optimizer { lr: 0.25 momentum: 0 } }
        }""")
    )
    decay = [0.5**step for step in range(STEPS)]

    def update(parameters: list[Any], step: int, made: list[Any] = []) -> None:  # noqa: B006 - a cell
        if not made:
            made += [torch.optim.Adam(parameters[:1]), torch.optim.SGD(parameters[1:2])]
            made += [torch.optim.SGD(parameters[2:])]
        rates = (0.125 if step <= 2 else 0.25, 0.25 * decay[step], 0.5 * decay[step])
        for optimizer, rate in zip(made, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()

    twin = Twin(table_sgd(), update)
    run.train(STEPS)
    twin.train(STEPS)

    assert [len(optimizer.params) for _, optimizer in run.optimizer.dense.optimizers] == [1, 1, 2]
    assert_same(run, twin)
    assert run.optimizer.learning_rates() == {
        "sparse": 0.5,
        "dense[layers.0.weight]": 0.25,
        "dense[layers.0..*]": 0.25 * decay[-1],
        "dense": 0.5 * decay[-1],
    }


@pytest.mark.parametrize("pattern", ["layers", "layers.0.weight"])
def test_a_pattern_that_is_left_nothing_is_an_error_with_the_names(pattern):
    part = 'part_optimizers {{ regex_pattern: "{}" sgd_optimizer {{}} }}'.format
    names = "layers.0.bias, layers.2.weight, layers.2.bias"
    with pytest.raises(ConfigError, match=rf"part_optimizers\[1\].regex_pattern .*: {names}$"):
        Run(train_config(f"dense_optimizer {{ {part('layers.0.weight')} {part(pattern)} }}"))


def test_parts_may_take_all_parameters():
    part = 'part_optimizers { regex_pattern: "layers.*" sgd_optimizer { lr: 0.5 momentum: 0 } }'
    run, twin = Run(train_config(f"dense_optimizer {{ {part} }}")), Twin(table_sgd(), dense())
    run.train(STEPS)
    twin.train(STEPS)
    assert_same(run, twin)


# ------------------------------------------------------------------ schedules reach the kernels


def test_schedules_reach_fbgemm_and_the_dense_groups():
    run = Run(
        train_config("""
        sparse_optimizer {
            sgd_optimizer { lr: 0.5 }
            exponential_decay_learning_rate { decay_size: 1 decay_factor: 0.5 by_epoch: true }
        }
        dense_optimizer {
            sgd_optimizer { lr: 0.25 momentum: 0 }
            cosine_annealing_learning_rate { T_max: 4 warmup_size: 2 }
        }""")
    )
    angles = (0, math.pi / 4, math.pi / 2, 3 * math.pi / 4, math.pi, math.pi)
    cosine = [0, 0.125, *(0.25 * (1 + math.cos(angle)) / 2 for angle in angles)]
    twin = Twin(table_sgd(lambda step: 0.5 ** (1 + step // 2)), dense(rate=cosine.__getitem__))
    for step in range(STEPS):
        run.step()
        twin.step()
        assert run.optimizer.kernels[0].get_learning_rate() == 0.5 ** (1 + step // 2)
        shown = run.optimizer.learning_rates()
        assert shown == pytest.approx({"sparse": 0.5 ** (1 + step // 2), "dense": cosine[step]})
    assert_same(run, twin)


def test_steps_of_bias_correction_follow_the_run_not_the_forward_passes():
    """FBGEMM counts each forward pass, evaluation too; Adam on CUDA corrects by that count."""
    run = Run(train_config(""))
    run.train(3)
    (kernel,) = run.optimizer.kernels
    kernel.iter_cpu.fill_(1_000)  # as after an evaluation
    run.optimizer.start(3, 0)
    assert kernel.iter_cpu.item() == 3


# ------------------------------------------------------------------ clipping


def clipped(max_norm: float, norm_type: float) -> Callable[[list[Any]], None]:
    def clip(parameters: list[Any]) -> None:
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters]).abs()
        norm = (
            flat.max()
            if norm_type == float("inf")
            else flat.pow(norm_type).sum() ** (1 / norm_type)
        )
        for parameter in parameters:
            parameter.grad *= min(1.0, max_norm / norm.item())

    return clip


def limited(limit: float) -> Callable[[list[Any]], None]:
    def clip(parameters: list[Any]) -> None:
        for parameter in parameters:
            parameter.grad.clamp_(-limit, limit)

    return clip


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("scaler", ["", "grad_scaler { init_scale: 1024 }"])
@pytest.mark.parametrize(
    ("text", "clip"),
    [
        ('clipping_type: "norm" max_gradient: 0.125', clipped(0.125, 2)),
        ('clipping_type: "NORM" max_gradient: 0.125', clipped(0.125, 2)),
        ('clipping_type: "norm" max_gradient: 0.125 norm_type: inf', clipped(0.125, float("inf"))),
        ('clipping_type: "norm" max_gradient: 0.25 norm_type: 1', clipped(0.25, 1)),
        ('clipping_type: "value" max_gradient: 0.0625', limited(0.0625)),
        ('clipping_type: "Value" max_gradient: 0.0625', limited(0.0625)),
        ('clipping_type: "none" max_gradient: 0.0625', lambda parameters: None),
    ],
)
def test_dense_gradients_are_clipped_and_tables_are_not(text, clip, scaler, accumulation):
    plain = dense()

    def update(parameters: list[Any], step: int) -> None:
        clip(parameters)
        plain(parameters, step)

    more = f"{scaler} gradient_accumulation_steps: {accumulation}"
    run = Run(train_config(f"grad_clipping {{ {text} }} {more}"))
    twin = Twin(table_sgd(), update, group_steps=accumulation)
    run.train(9)
    twin.train(9)
    assert_same(run, twin)


def test_the_gradient_norm_is_that_before_clipping_by_norm():
    plain = Run(train_config(""))
    clipping = Run(train_config('grad_clipping { clipping_type: "norm" max_gradient: 0.001 }'))
    plain.step()
    clipping.step()
    norm = torch.cat([p.grad.flatten() for p in plain.optimizer.parameters]).norm()  # pyright: ignore
    torch.testing.assert_close(plain.optimizer.gradient_norm(), norm)
    torch.testing.assert_close(clipping.optimizer.gradient_norm(), norm)
    assert norm > 0.01


# ------------------------------------------------------------------ scaler and average

BOTH_ADAPTIVE = "sparse_optimizer { adagrad_optimizer {} } dense_optimizer { adam_optimizer {} }"


def test_a_scaled_loss_moves_tables_and_parameters_as_a_plain_one():
    plain, scaled = Run(train_config("")), Run(train_config("grad_scaler {}"))
    assert plain.train(STEPS) == scaled.train(STEPS)
    assert torch.equal(plain.table(), scaled.table())


@pytest.mark.parametrize("sharding_type", ["table_wise", "data_parallel"])
def test_an_overflow_moves_nothing_and_lowers_the_scale(sharding_type):
    scaled = f"{BOTH_ADAPTIVE} grad_scaler {{ growth_interval: 2 growth_factor: 4 }}"
    run = Run(train_config(scaled), sharding_type)
    run.train(3)
    scaler = run.optimizer.scaler
    assert scaler is not None and scaler.get_scale() == 65536 * 4

    table, parameters = run.table(), run.dense()
    run.step(blow_up=1e36)
    assert torch.equal(run.table(), table)
    assert all(map(torch.equal, run.dense(), parameters))
    assert scaler.get_scale() == 65536 * 2
    run.step()
    assert not torch.equal(run.table(), table)
    assert not torch.equal(run.dense()[0], parameters[0])
    assert all(each.isfinite().all() for each in (run.table(), *run.dense()))


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "adagrad", "rmsprop", "adadelta"])
def test_an_overflow_changes_neither_state_nor_average_unseen_by_the_host(kind, monkeypatch):
    """Fused kernels look at the flag on the device; GradScaler asks for the others alone."""
    asked, ask = [], torch.amp.GradScaler._maybe_opt_step
    monkeypatch.setattr(
        torch.amp.GradScaler,
        "_maybe_opt_step",
        lambda *args, **kwargs: asked.append(True) or ask(*args, **kwargs),
    )
    dense = f"dense_optimizer {{ {kind}_optimizer {{ lr: 0.1 }} ema {{ decay: 0.75 }} }}"
    run = Run(train_config(f"{dense} grad_scaler {{}}"))
    run.step(blow_up=1e36)
    run.step()
    with run.optimizer.averaged():
        first = run.dense()
    assert all(map(torch.equal, run.dense(), first))  # the first update copies
    run.step()

    before = copy.deepcopy(run.optimizer.state_dict())
    live = run.dense()
    run.step(blow_up=1e36)
    after = run.optimizer.state_dict()
    assert all(map(torch.equal, run.dense(), live))
    assert after["average"]["num_updates"] == before["average"]["num_updates"] == 2
    for name, average in before["average"]["averages"].items():
        assert torch.equal(after["average"]["averages"][name], average)
    kept = {name: each for name, each in before["parameters"].items() if "layers" in name}
    assert kept
    for name, state in kept.items():
        for key, value in state.items():
            assert torch.equal(after["parameters"][name][key], value), key
    assert bool(asked) == (kind in ("rmsprop", "adadelta"))


def test_momentum_starts_at_0_where_the_first_gradient_overflows(monkeypatch):
    """PyTorch's fused SGD fills it in the first step, which an overflow leaves out."""
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, torch.nan))
    dense = "dense_optimizer { sgd_optimizer { lr: 0.1 momentum: 0.5 } }"
    runs = [Run(train_config(f"{dense} grad_scaler {{ init_scale: {n} }}")) for n in (2, 1)]
    runs[0].step(blow_up=1e38)  # halves the scale
    runs[0].number, table = 0, runs[1].table()
    for each in runs[0]._tables():
        each.copy_(table)
    for run in runs:
        run.train(3)
    found, expected = (run.dense() for run in runs)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_dampened_momentum_has_no_fused_kernel():
    dampened = "sgd_optimizer { dampening: 0.5 FUSED } "
    run = Run(train_config(f"dense_optimizer {{ {dampened.replace('FUSED', '')} }}"))
    assert not run.optimizer.dense._inner[0].param_groups[0]["fused"]
    with pytest.raises(ConfigError, match=r"fused cannot be true with dampening \(0.5\)"):
        Run(train_config(f"dense_optimizer {{ {dampened.replace('FUSED', 'fused: true')} }}"))


def test_a_resumed_scale_is_the_checkpoints_and_moves_as_the_config_says(tmp_path):
    run = Run(train_config("grad_scaler { init_scale: 64 growth_interval: 2 }"))
    run.train(3)
    run.save(tmp_path / "saved")
    resumed = Run(train_config("grad_scaler { init_scale: 8 growth_interval: 3 growth_factor: 4 }"))
    resumed.load(tmp_path / "saved", 3)
    scaler = resumed.optimizer.scaler
    assert scaler is not None and scaler.get_scale() == 128
    resumed.train(2)  # the third step since it grew
    assert scaler.get_scale() == 128 * 4


def test_the_average_is_that_of_a_plain_loop_and_stands_in_for_evaluation():
    run = Run(train_config(f"{BOTH_ADAPTIVE} gradient_accumulation_steps: 2"))
    config = train_config("dense_optimizer { adam_optimizer {} ema { decay: 0.75 } } "
                          "sparse_optimizer { adagrad_optimizer {} } "
                          "gradient_accumulation_steps: 2 grad_scaler {}")  # fmt: skip
    averaging = Run(config)
    expected: list[Tensor] = []
    for number in range(STEPS):
        run.step()
        averaging.step(blow_up=1e36 if number == STEPS - 2 else 1.0)  # that step is skipped
        if number % 2 and number < STEPS - 2:
            now = [parameter.double() for parameter in run.dense()]
            before = expected or now
            expected = [0.75 * a + 0.25 * p for a, p in zip(before, now, strict=True)]
    live = averaging.dense()
    with averaging.optimizer.averaged():
        inside = averaging.dense()
    assert all(map(torch.equal, averaging.dense(), live))
    for mine, theirs in zip(inside, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=1e-6)
    assert not torch.equal(inside[0], live[0])


def test_without_ema_evaluation_has_the_parameters_as_they_are():
    run = Run(train_config(""))
    run.step()
    live = run.dense()
    with run.optimizer.averaged():
        assert all(map(torch.equal, run.dense(), live))
