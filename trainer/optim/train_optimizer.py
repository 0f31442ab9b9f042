"""All that moves the parameters of a run, in the order of a step:

    start     learning rates of this batch, from their schedules
    backward  the loss, scaled where there is a scaler; the tables move in here
    move_replicated
              tables of which each rank has a copy follow
    step      unscale -> mean of the accumulated group -> clip -> dense optimizers -> average

All of its state is in `state_dict`; schedules have none (see trainer/optim/schedules.py).
"""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer
from torchrec.optim.optimizers import in_backward_optimizer_filter

from trainer.accumulation import GroupStep, scale_to_mean
from trainer.optim.ema import MovingAverage
from trainer.optim.optimizers import dense_optimizers, fused_kernels, keeps_state, optimizer_of
from trainer.optim.precision import build_scaler, unscale_table_gradients
from trainer.optim.replicated import ReplicatedTables, replicated_tables
from trainer.optim.schedules import schedule_of, scheduled_rate
from trainer.protos import pipeline_pb2 as pb

NOT_MOVED = "not_moved"  # of a state: names of dense parameters that have none so far
ONE_BATCH = GroupStep(steps=1, number=0, is_last=True)


class TrainOptimizer:
    """The optimizers of tables and dense parameters, their schedules, scaler and average.

    Args:
        model: sharded; its tables have their fused optimizers.
        frozen: names of its tables that do not move: their fused optimizer, of lr 0, is no
            schedule's.

    Raises:
        ConfigError: the device lacks an optimizer, or a pattern matches no parameter.
    """

    def __init__(
        self,
        config: pb.TrainConfig,
        model: DistributedModelParallel,
        device: torch.device,
        frozen: Collection[str] = (),
    ) -> None:
        parameters = dict(in_backward_optimizer_filter(model.named_parameters()))
        tables = replicated_tables(parameters.items())
        parameters = {name: each for name, each in parameters.items() if name not in tables}
        parts = dense_optimizers(config.dense_optimizer, parameters, device)
        self.parameters = list(parameters.values())  # dense
        self.fused: Any = model.fused_optimizer
        self.kernels = fused_kernels(self.fused)
        # What each schedule sets: its name, its message, the lr it starts from, its groups.
        self.scheduled: list[tuple[str, Any, float, Any]] = []
        sparse = config.sparse_optimizer
        _, message = optimizer_of(sparse)
        self.scaler = build_scaler(config, device)
        if self.scaler is not None:
            unscale_table_gradients(self.kernels, self.scaler)
        self.replicated = ReplicatedTables(tables, sparse, self.scaler, frozen)
        kept = {id(each) for name, each in self.fused.params.items() if name in frozen}
        groups = [
            group
            for group in (*self.fused.param_groups, *self.replicated.param_groups)
            if not any(id(each) in kept for each in group["params"])
        ]
        self.scheduled.append(("sparse", schedule_of(sparse), message.lr, groups))
        for name, part, optimizer in parts:
            _, message = optimizer_of(part)
            inherits = part.WhichOneof("learning_rate") is None
            schedule = schedule_of(config.dense_optimizer if inherits else part)
            self.scheduled.append((name, schedule, message.lr, optimizer.param_groups))
        self.clipping = config.grad_clipping
        self.clipped_norm: Tensor | None = None
        self.average = None
        if config.dense_optimizer.HasField("ema"):
            self.average = MovingAverage(parameters, config.dense_optimizer.ema.decay)
        self._stateful = {
            name for part in parts if keeps_state(part.config) for name in part.optimizer.params
        }
        self.dense = _DenseStep([part.optimizer for part in parts], self.average)
        self._keyed = CombinedOptimizer([self.fused, self.replicated, self.dense])
        self.rates: dict[str, float] = {}

    # -------------------------------------------------------------- a step

    def start(self, step: int, epoch: int) -> None:
        """Set the learning rates of the batch before which `step` batches were trained."""
        for name, schedule, lr, groups in self.scheduled:
            self.rates[name] = scheduled_rate(schedule, lr, step, epoch)
            for group in groups:
                group["lr"] = self.rates[name]
        self.fused.step()  # hands the learning rate to FBGEMM, and nothing else
        for kernel in self.kernels:
            kernel.iter_cpu.fill_(step)  # of bias correction; FBGEMM counts evaluation too

    def zero_grad(self) -> None:
        """Forget the dense gradients."""
        self.dense.zero_grad()

    def backward(self, loss: Tensor) -> None:
        """Compute dense gradients, scaled where there is a scaler; move the tables."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def move_replicated(self) -> None:
        """Move the tables of which each rank has a copy, after `backward`."""
        self.replicated.step()

    def step(self, group: GroupStep = ONE_BATCH, left_out: Tensor | int = 0) -> None:
        """Move the dense parameters by the mean gradient of a group of batches.

        `left_out` is how many of them had no gradient.
        """
        if self.scaler is not None:
            self.scaler.unscale_(self.dense)
        scale_to_mean(self.parameters, group, left_out)
        self._clip()
        if self.scaler is None:
            self.dense.step()
        else:
            self.scaler.step(self.dense)  # unless a gradient overflowed
            self.scaler.update()

    def _clip(self) -> None:
        clipping = self.clipping
        if clipping.clipping_type.lower() == "norm":
            self.clipped_norm = torch.nn.utils.clip_grad_norm_(
                self.parameters, clipping.max_gradient, clipping.norm_type
            )
        elif clipping.clipping_type.lower() == "value":
            torch.nn.utils.clip_grad_value_(self.parameters, clipping.max_gradient)

    # -------------------------------------------------------------- what one sees

    def learning_rates(self) -> dict[str, float]:
        """Of the batch that `start` named: `sparse`, `dense` and `dense[PATTERN]` of each part."""
        return dict(self.rates)

    def gradient_norm(self) -> Tensor:
        """The Euclidean norm of the dense gradients of the last step, a scalar on the device.

        With norm clipping it is what that measured, in its norm, before it clipped.
        """
        if self.clipped_norm is not None:
            return self.clipped_norm
        return torch.nn.utils.get_total_norm(
            [each.grad for each in self.parameters if each.grad is not None]
        )

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the model has the averages of its dense parameters, if it has any."""
        return nullcontext() if self.average is None else self.average.in_place()

    # -------------------------------------------------------------- checkpoints

    def init_state(self, without: Collection[str] = ()) -> None:
        """Make the state that first steps make, for `load_state_dict`; the parameters may move.

        Args:
            without: dense parameters that no step has moved so far, which have none.
        """
        for _, optimizer in self.dense.optimizers:
            for name, parameter in optimizer.params.items():
                has_state = name not in without and parameter.requires_grad
                parameter.grad = torch.zeros_like(parameter) if has_state else None
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Tensors (sharded ones of the tables) and numbers, for torch.distributed.checkpoint."""
        parameters = self._keyed.state_dict()["state"]
        state: dict[str, Any] = {"parameters": parameters}
        state[NOT_MOVED] = sorted(self._stateful - set(parameters))
        if self.scaler is not None:
            state["grad_scaler"] = self.scaler.state_dict()
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore, after `init_state`."""
        self._keyed.load_state_dict({**self._keyed.state_dict(), "state": state["parameters"]})
        if self.scaler is not None:
            saved = state["grad_scaler"]  # where the scale stands; how it moves, the config says
            moved = {name: saved[name] for name in ("scale", "_growth_tracker")}
            self.scaler.load_state_dict(self.scaler.state_dict() | moved)
        if self.average is not None:
            self.average.load_state_dict(state["average"])


class _DenseStep(CombinedOptimizer):
    """The dense optimizers as one; a step of theirs that is not skipped moves the average too.

    GradScaler asks the device whether a gradient overflowed, and leaves the step out then. Where
    all of them are fused kernels it need not: it lays what it found beside the optimizer, as
    `grad_scale` and `found_inf`, and the kernels look themselves.
    """

    def __init__(self, optimizers: list[KeyedOptimizer], average: MovingAverage | None) -> None:
        super().__init__(list(optimizers))
        self.average = average
        self._inner: list[Any] = [optimizer._optimizer for optimizer in optimizers]  # pyright: ignore[reportAttributeAccessIssue]  # of KeyedOptimizerWrapper
        self._step_supports_amp_scaling = all(
            getattr(each, "_step_supports_amp_scaling", False) for each in self._inner
        )

    def step(self, closure: Any = None) -> None:
        """Move the parameters, then their average."""
        given = {k: v for k, v in vars(self).items() if k in ("grad_scale", "found_inf")}
        for each in self._inner:
            vars(each).update(given)
        super().step(closure)
        for each in self._inner:
            for name in given:
                delattr(each, name)
        if self.average is not None:
            self.average.update(given.get("found_inf"))
