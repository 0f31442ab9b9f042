"""PyTorch's element-wise activations by the text of a config, read by a grammar and never run.

nn.ReLU    torch.nn.GELU    nn.LeakyReLU(negative_slope=0.2)    nn.GELU(approximate='tanh')
"""

import ast

import torch
from torch import nn

from trainer.config import ConfigError

NAMES = (
    *("ReLU", "ReLU6", "GELU", "SiLU", "Mish", "LeakyReLU", "PReLU", "RReLU", "ELU", "SELU"),
    *("CELU", "Softplus", "Softsign", "Softshrink", "Hardshrink", "Tanhshrink", "Threshold"),
    *("Hardswish", "Hardsigmoid", "Hardtanh", "LogSigmoid", "Tanh", "Sigmoid", "Identity"),
)


def torch_activation(text: str, width: int) -> nn.Module:
    """The activation of a layer of that width: a class of NAMES, maybe with keyword arguments.

    Raises:
        ConfigError: the text names no such class, or has arguments that the class does not take.
    """
    name, arguments = _parse(text)
    try:
        module = getattr(nn, name)(**arguments)
        module.eval()(torch.zeros(1, width))  # some arguments show their fault in use
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"activation must have arguments that nn.{name} takes, but got: `{text}` ({reason})"
        ) from None
    return module.train()


def _parse(text: str) -> tuple[str, dict[str, bool | float | str]]:
    """The name of the class and its arguments. Raises ConfigError."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _error(text) from None
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    package, _, name = ast.unparse(call.func).rpartition(".")
    if package not in ("nn", "torch.nn") or name not in NAMES or call.args:
        raise _error(text)
    return name, {each.arg or "": _literal(each.value, text) for each in call.keywords}


def _literal(node: ast.expr, text: str) -> bool | float | str:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        raise _error(text) from None
    if not isinstance(value, bool | int | float | str):
        raise _error(text)
    return value


def _error(text: str) -> ConfigError:
    return ConfigError(
        f"activation must be one of Dice, nn.{', nn.'.join(NAMES)}, maybe with arguments as in "
        f"nn.LeakyReLU(negative_slope=0.2), but got: `{text}`"
    )
