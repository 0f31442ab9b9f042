"""Building blocks that the models share.

B rows, D width of a feature group.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from trainer.collectives import all_reduce_with_grad
from trainer.config import ConfigError
from trainer.models.activation import torch_activation
from trainer.models.linear import Linear, trains_rows_on_cpu
from trainer.models.relu_chain import Chain, relu_chains
from trainer.models.session_linear import SessionLinear, SplitFeatures
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


def mlp(in_width: int, config: pb.MLP) -> tuple[nn.Module, int]:
    """Linear -> normalisation -> activation -> dropout, per hidden unit; and the output width."""
    units = list(config.hidden_units)
    if not units:
        raise ConfigError("mlp: hidden_units must have at least one width, but is empty")
    ratios = dropout_ratios(list(config.dropout_ratio), len(units), "mlp: dropout_ratio")
    if config.use_bn and config.use_ln:
        raise ConfigError("mlp: only one of use_bn and use_ln can be true, but both are")
    layers: list[nn.Module] = []
    for width, ratio in zip(units, ratios, strict=True):
        linear = Linear if layers else SessionLinear
        layers.append(linear(in_width, width, bias=config.bias and not config.use_bn))
        if config.use_bn:
            layers.append(GlobalBatchNorm(width))
        if config.use_ln:
            layers.append(nn.LayerNorm(width))
        if config.activation == "nn.ReLU":
            layers.append(nn.ReLU(inplace=True))  # what is before it does without its output
        elif config.activation:
            layers.append(activation(config.activation, width))
        if ratio:
            layers.append(nn.Dropout(ratio))
        in_width = width
    return MLP(*layers), in_width


class MLP(nn.Sequential):
    """The layers of an MLP; linear ones with ReLU are one operator where a CPU trains.

    Takes SplitFeatures too if the first layer is a SessionLinear.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        linears, others = layers[::2], layers[1::2]
        self._is_relu_chain = len(linears) == len(others) and all(
            isinstance(linear, nn.Linear) and linear.bias is not None and type(other) is nn.ReLU
            for linear, other in zip(linears, others, strict=False)
        )

    def forward(self, features: Tensor | SplitFeatures) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider
        """[B, O]."""
        if self.is_chain_of(features):
            return _as_chains([self], features)[0]
        return super().forward(features)  # pyright: ignore[reportArgumentType]  # as this one

    def is_chain_of(self, features: Tensor | SplitFeatures) -> bool:
        """Whether it is one operator with these features."""
        rows = features if isinstance(features, Tensor) else features.per_row
        return self._is_relu_chain and trains_rows_on_cpu(rows)

    def chain_of(self, features: Tensor | SplitFeatures) -> Chain:
        """Its parameters, as that operator takes them."""
        linears: list[Any] = list(self)[::2]
        weights, biases = [each.weight for each in linears], [each.bias for each in linears]
        if isinstance(features, SplitFeatures):
            weights[0], biases[0] = linears[0].split(features)
        return Chain(weights, biases)


def each_output(
    mlps: Iterable[nn.Module], inputs: Tensor | list[Tensor] | list[SplitFeatures]
) -> list[Tensor]:
    """Each MLP's output, [B, O], of its own input or of the one that they share.

    Those of the same input are one operator where they can be.
    """
    mlps, outputs = list(mlps), {}
    if isinstance(inputs, Tensor):
        inputs = [inputs] * len(mlps)
    same: dict[int, list[int]] = {}  # places of MLPs by their input
    for place, (each, features) in enumerate(zip(mlps, inputs, strict=True)):
        if isinstance(each, MLP) and each.is_chain_of(features):
            same.setdefault(id(features), []).append(place)
        else:
            outputs[place] = each(features)
    for places in same.values():
        found = _as_chains([mlps[place] for place in places], inputs[places[0]])
        outputs.update(zip(places, found, strict=True))
    return [outputs[place] for place in range(len(mlps))]


def _as_chains(mlps: Sequence[Any], features: Tensor | SplitFeatures) -> tuple[Tensor, ...]:
    chains = [mlp.chain_of(features) for mlp in mlps]
    if isinstance(features, Tensor):
        return relu_chains(features, chains)
    return relu_chains(features.per_row, chains, features.session_of_row)


def dropout_ratios(ratios: list[float], num_layers: int, field: str) -> list[float]:
    """A ratio per layer, from none, one for all, or one each. Raises ConfigError otherwise."""
    if len(ratios) < 2:
        ratios = (ratios or [0.0]) * num_layers
    if len(ratios) != num_layers:
        raise ConfigError(
            f"{field} must have one value or one per hidden_units ({num_layers}), "
            f"but has {len(ratios)}"
        )
    return ratios


def optional_mlp(in_width: int, owner: Message, field: str) -> tuple[nn.Module, int]:
    """The MLP of a config's field, or the identity where it is not set."""
    if not owner.HasField(field):
        return nn.Identity(), in_width
    return mlp(in_width, getattr(owner, field))


def required_mlp(in_width: int, owner: Message, field: str) -> tuple[nn.Module, int]:
    """The MLP of a config's field. Raises ConfigError where it is not set."""
    if not owner.HasField(field):
        raise ConfigError(f"{owner.DESCRIPTOR.name}.{field} must be set, but is missing")
    return mlp(in_width, getattr(owner, field))


class GlobalBatchNorm(nn.Module):
    """Batch normalisation over the rows of the *global* batch, however they lie on the ranks.

    Like nn.BatchNorm1d on all rows at once; running statistics are the same on every rank. Ranks
    may have any number of rows, none included.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self, width: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_variance", torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise [B, D]; counts and sums of rows are in float32 whatever the type."""
        kept = features.dtype
        features = features.to(torch.promote_types(kept, torch.float32))
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            rows = features.new_full((1,), float(len(features)))  # new_tensor would stop the host
            sums = torch.cat([features.sum(0), rows])
            sums = all_reduce_with_grad(sums)
            count = sums[-1].detach().clamp(min=1)
            mean = sums[:-1] / count
            variance = all_reduce_with_grad((features - mean).square().sum(0)) / count
            with torch.no_grad():
                unbiased = variance * count / (count - 1).clamp(min=1)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_variance.lerp_(unbiased, self.momentum)
        normal = (features - mean) * (variance + self.eps).rsqrt()
        if self.weight is not None and self.bias is not None:
            normal = normal * self.weight + self.bias
        return normal.to(kept)


class Dice(nn.Module):
    """DIN's activation: x where it is large for its batch, alpha * x where it is small.

    p * x + (1 - p) * alpha * x, with p = sigmoid(normalised x) (Zhou et al., KDD 2018, eq. 6).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = GlobalBatchNorm(width, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] of any size."""
        share = self.norm(features).sigmoid()
        return (share + (1 - share) * self.alpha) * features


def activation(name: str, width: int) -> nn.Module:
    """The activation of a layer of that width. Raises ConfigError for an unknown one."""
    if not name.strip():
        return nn.Identity()
    return Dice(width) if name.strip() == "Dice" else torch_activation(name, width)


class TaskTowers(nn.Module):
    """A tower per task, from the task's own input to its logits."""

    def __init__(self, in_width: int, towers: Iterable[pb.TaskTower], tasks: list[Task]) -> None:
        super().__init__()
        self.towers = nn.ModuleDict()
        for task, tower in zip(tasks, towers, strict=True):
            hidden, width = optional_mlp(in_width, tower, "mlp")
            self.towers[task.name] = nn.Sequential(hidden, nn.Linear(width, task.num_class))

    def forward(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        """Logits per task, [B, num_class], from inputs [B, D] in the order of the tasks."""
        towers: list[Any] = list(self.towers.values())
        hidden = each_output([mlp for mlp, _ in towers], inputs)
        last = [output(each) for (_, output), each in zip(towers, hidden, strict=True)]
        return dict(zip(self.towers, last, strict=True))


def same_width(widths: dict[str, tuple[int, ...]], group: str) -> int:
    """The width that all features of a group have. Raises ConfigError where they differ."""
    different = sorted(set(widths[group]))
    if len(different) > 1:
        raise ConfigError(
            f"feature group `{group}`: the features must be equally wide (embedding_dim), "
            f"but are: {', '.join(map(str, different))}"
        )
    return different[0]
