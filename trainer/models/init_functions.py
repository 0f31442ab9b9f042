"""`init_fn` of a config: how a table starts. R rows, D width of the table.

Tables are filled some rows at a time, see trainer/parallel.py, so what PyTorch computes from a
tensor's shape is computed here from the table's, as for a weight [R, D]: fan_in is D, fan_out R.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from trainer.config import ConfigError

InitFunction = Callable[[Tensor], Any]

_ARGUMENTS = {
    "uniform_": ("a", "b"),
    "normal_": ("mean", "std"),
    "trunc_normal_": ("mean", "std", "a", "b"),
    "constant_": ("val",),
    "zeros_": (),
    "ones_": (),
    "xavier_uniform_": ("gain",),
    "xavier_normal_": ("gain",),
    "kaiming_uniform_": ("a", "mode", "nonlinearity"),
    "kaiming_normal_": ("a", "mode", "nonlinearity"),
}
_WORDS = {  # that an argument may be, in place of a number
    "mode": ("fan_in", "fan_out"),
    "nonlinearity": ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"),
}


def init_function(text: str, num_rows: int, width: int) -> InitFunction:
    """`nn.init.uniform_,a=-0.01,b=0.01` as the function that fills any rows of a table in place.

    Raises:
        ConfigError: another function, another argument, or a value that it cannot be.
    """
    name, *arguments = (part.strip() for part in text.split(","))
    kind = name.removeprefix("nn.init.")
    try:
        if kind not in _ARGUMENTS or not name.startswith("nn.init."):
            raise ValueError
        pairs = [argument.split("=") for argument in arguments]
        values = {key.strip(): _value(kind, key.strip(), value.strip()) for key, value in pairs}
    except ValueError:
        rules = [f"{key}({', '.join(names)})" for key, names in _ARGUMENTS.items()]
        words = [f"{key} is {' or '.join(names)}" for key, names in _WORDS.items()]
        raise ConfigError(
            f"init_fn must be nn.init.NAME,ARGUMENT=NUMBER,... with NAME and its arguments of "
            f"{', '.join(rules)}, where {', '.join(words)}, but got: `{text}`"
        ) from None
    deviation = _deviation(kind, values, num_rows, width)
    if deviation is None:
        return partial(getattr(nn.init, kind), **values)
    if kind.endswith("normal_"):
        return partial(nn.init.normal_, std=deviation)
    limit = math.sqrt(3) * deviation  # of uniform values with this standard deviation
    return partial(nn.init.uniform_, a=-limit, b=limit)


def _value(kind: str, argument: str, text: str) -> float | str:
    """Raises ValueError."""
    if argument not in _ARGUMENTS[kind]:
        raise ValueError
    if argument not in _WORDS:
        return float(text)
    word = text.strip("'\"")
    if word not in _WORDS[argument]:
        raise ValueError
    return word


def _deviation(kind: str, values: dict[str, Any], num_rows: int, width: int) -> float | None:
    """The standard deviation of the initial values, where it depends on the table's shape."""
    if kind.startswith("xavier_"):
        return values.get("gain", 1.0) * math.sqrt(2 / (num_rows + width))
    if kind.startswith("kaiming_"):
        nonlinearity = values.get("nonlinearity", "leaky_relu")
        gain = nn.init.calculate_gain(nonlinearity, values.get("a", 0.0))
        return gain / math.sqrt(num_rows if values.get("mode") == "fan_out" else width)
    return None
