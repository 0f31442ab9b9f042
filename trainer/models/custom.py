"""A network of the user's own, from a Python file outside the repository (docs/models.md)."""

import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from trainer.config import ConfigError, did_you_mean
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task


def build_custom(
    widths: dict[str, tuple[int, ...]], config: pb.CustomModel, tasks: list[Task]
) -> nn.Module:
    """The class's network: `Class(widths, config, tasks, **parameters)`.

    Raises:
        ConfigError: no such file or class, or parameters that the class does not take.
    """
    build = _load_class(config)
    parameters = _parameters(config)
    try:
        inspect.signature(build).bind(widths, config, tasks, **parameters)
    except TypeError as error:
        known = list(inspect.signature(build).parameters)[3:]
        raise ConfigError(
            f"custom.parameters must fit {config.class_name}(widths, config, tasks, *, "
            f"{', '.join(known)}), but: {error}"
        ) from None
    return build(widths, config, tasks, **parameters)


def _load_class(config: pb.CustomModel) -> Any:
    path = Path(config.path)
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError(f"custom.path must be a Python file, but got: `{config.path}`")
    module = _load_module(path)
    networks = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, nn.Module)
    ]
    if config.class_name not in networks:
        raise ConfigError(
            f"custom.class_name must be a torch.nn.Module in {path}, but got: "
            f"`{config.class_name}`; {did_you_mean(config.class_name, networks)}"
            f"There are: {', '.join(networks) or 'none'}"
        )
    return getattr(module, config.class_name)


def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"custom_model_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # as of any .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"custom.path: {path} cannot be imported: {error}") from error
    return module


def _parameters(config: pb.CustomModel) -> dict[str, Any]:
    try:
        parameters = json.loads(config.parameters)
    except json.JSONDecodeError as error:
        raise ConfigError(f"custom.parameters must be a JSON object: {error}") from None
    if not isinstance(parameters, dict):
        raise ConfigError(f"custom.parameters must be a JSON object, but got: {parameters!r}")
    return parameters
