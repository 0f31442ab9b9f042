"""The pipeline config: protobuf text format with TorchEasyRec's names, read strictly.

Three steps, each with its own errors:

    parse_config(text)          the text follows the schema (protos/pipeline.proto)
    edit_config(config, edits)  overrides from the command line
    checks.check_config         the parts fit each other (checks.check_data: they fit the dataset)
"""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from trainer.protos.pipeline_pb2 import EasyRecConfig


class ConfigError(ValueError):
    """The config is wrong; the message has the field, the rule, the value and the cure."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    r"""`did you mean \`x\`? ` for the nearest of the known names; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{near[0]}`? " if near else ""


def check_local(name: str, path: str) -> None:
    """Raises ConfigError if a path to write to is a URL, such as `s3://bucket/scores`."""
    if "://" in path:
        raise ConfigError(
            f"{name} must be on a local or shared file system, but got: {path}; write to a folder "
            f"and copy it there"
        )


# ------------------------------------------------------------------ parsing


def load_config(path: str | Path) -> EasyRecConfig:
    """Read and parse a config file. Raises ConfigError (its message opens with the path)."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"pipeline_config_path must be a file, but got: {path}")
    try:
        return parse_config(path.read_text(encoding="utf-8-sig"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(text: str) -> EasyRecConfig:
    """Parse config text; string values may stand without quotes (`session_name: session_id`)."""
    config = EasyRecConfig()
    try:
        text_format.Parse(_quote_bare_strings(text), config)
    except text_format.ParseError as error:
        raise ConfigError(_explain_parse_error(str(error))) from None
    return config


def _explain_parse_error(message: str) -> str:
    """`3:5 : Message type "sessionwise.X" has no field named "y".` with the nearest names."""
    found = re.match(r'(\d+):(\d+) : .*"([\w.]+)" has no field named "(\w+)"', message)
    if not found:
        place, _, reason = message.partition(" : ")
        return f"line {place.replace(':', ', column ')}: not valid protobuf text: {reason}"
    line, _, message_type, name = found.groups()
    fields = list(_descriptors()[message_type].fields_by_name)
    cure = did_you_mean(name, fields) or "remove it. "
    return (
        f"line {line}: field `{name}` of {message_type.split('.')[-1]} is unknown or not "
        f"supported; {cure}Supported there: {', '.join(fields)}"
    )


def _descriptors() -> dict[str, Descriptor]:
    """Every message type reachable from the root, by full name."""
    found: dict[str, Descriptor] = {}
    pending: list[Any] = [EasyRecConfig.DESCRIPTOR]
    while pending:
        descriptor = pending.pop()
        if descriptor.full_name not in found:
            found[descriptor.full_name] = descriptor
            pending += [f.message_type for f in descriptor.fields if f.message_type]
    return found


_STRING_FIELDS = {
    field.name
    for descriptor in _descriptors().values()
    for field in descriptor.fields
    if field.type == FieldDescriptor.TYPE_STRING
}
# Comments and quoted strings pass untouched; a word is a field's name or its value.
_TOKENS = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<placeholder>\$\{\w+\}|\.\.\.)
      | (?P<word>[^\s{}\[\]<>:;,"'\#$]+)
      | (?P<mark>.)""",
    re.VERBOSE,
)
# A value may also hold colons: user:item_id, hdfs://host/path.
_VALUE = re.compile(r"""[^\s{}\[\]<>;,"'\#$]+""")


def _quote_bare_strings(text: str) -> str:
    """Put quotes around the bare words of string fields; line numbers stay.

    Raises:
        ConfigError: the text still has a placeholder, `${name}` or `...`.
    """
    out: list[str] = []
    name, in_value, in_list, at = "", False, False, 0
    while at < len(text):
        token = _TOKENS.match(text, at)
        assert token is not None  # the last alternative takes anything
        found, kind = token.group(), token.lastgroup
        if kind == "placeholder":
            line = text.count("\n", 0, at) + 1
            raise ConfigError(f"line {line}: placeholder `{found}` must be replaced by its value")
        if kind == "word" and in_value:
            value = _VALUE.match(text, at)
            found = value.group() if value else found
        at += len(found)
        if kind == "word" and not in_value:
            name = found
        elif kind == "word" and name in _STRING_FIELDS:
            found = f'"{found}"'
        if kind == "mark":
            in_list = found == "[" or (in_list and found != "]")
            in_value = found == ":" or in_list
        elif kind != "space":
            in_value = in_list
        out.append(found)
    return "".join(out)


def task_towers(config: EasyRecConfig) -> Any:
    """The task towers of a multi-task model; empty for a single-task one."""
    kind = config.model_config.WhichOneof("model")
    model = getattr(config.model_config, kind) if kind else None
    return getattr(model, "task_towers", ())


def is_multi_task(config: EasyRecConfig) -> bool:
    """Whether the model is of a kind that has task towers; one of another kind has one task.

    A custom model is of either kind.
    """
    kind = config.model_config.WhichOneof("model")
    if kind == "custom":
        return bool(config.model_config.custom.task_towers)
    field = config.model_config.DESCRIPTOR.fields_by_name[kind] if kind else None
    message = field.message_type if field else None
    return message is not None and "task_towers" in message.fields_by_name


# ------------------------------------------------------------------ overrides


def edit_config(config: EasyRecConfig, edits: str | dict[str, Any]) -> None:
    """Set fields by path, in place: {"train_config.num_epochs": 2, "feature_configs[0]...": 8}."""
    if isinstance(edits, str):
        try:
            edits = json.loads(edits)
            json.dumps(edits, ensure_ascii=False).encode()  # halves of characters: "\ud800"
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"edit_config_json must be a JSON object: {error}") from None
    if not isinstance(edits, dict):
        raise ConfigError(f"edit_config_json must be a JSON object, but got: {edits!r}")
    for path, value in edits.items():
        _set_field(config, path, value)


def _set_field(config: Message, path: str, value: Any) -> None:
    message: Any = config
    *parents, last = path.split(".")
    for part in parents:
        message = _step_into(message, part, path)
    if last.endswith("]"):
        container, index = _indexed(message, last, path)
        _assign(lambda v: container.__setitem__(index, v), value, path)
        return
    field = message.DESCRIPTOR.fields_by_name.get(last)
    if field is None:
        names = ", ".join(message.DESCRIPTOR.fields_by_name)
        raise ConfigError(f"edit_config_json: `{path}`: no field `{last}`; there are: {names}")
    if field.message_type is not None and field.is_repeated and value == []:
        message.ClearField(last)
    elif field.message_type is not None:
        if not isinstance(value, dict) or field.is_repeated:
            raise ConfigError(
                f"edit_config_json: `{path}` is a message; name one of its fields: "
                f"{', '.join(field.message_type.fields_by_name)}"
            )
        for key, inner in value.items():
            _set_field(config, f"{path}.{key}", inner)
        if not value:
            getattr(message, last).SetInParent()
    elif field.is_repeated:
        if not isinstance(value, list):
            raise ConfigError(f"edit_config_json: `{path}` must be a list, but got: {value!r}")
        _assign(lambda v: getattr(message, last).extend(v), value, path, message, last)
    else:
        if field.enum_type is not None and isinstance(value, str):
            number = field.enum_type.values_by_name.get(value)
            value = number.number if number else value
        _assign(lambda v: setattr(message, last, v), value, path)


def _assign(set_value: Any, value: Any, path: str, message: Any = None, clear: str = "") -> None:
    try:
        if clear:
            message.ClearField(clear)
        set_value(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"edit_config_json: `{path}` cannot be {value!r}: {error}") from None


def _step_into(message: Any, part: str, path: str) -> Any:
    if part.endswith("]"):
        container, index = _indexed(message, part, path)
        return container[index]
    field = message.DESCRIPTOR.fields_by_name.get(part)
    if field is None or field.message_type is None or field.is_repeated:
        raise ConfigError(f"edit_config_json: `{path}`: `{part}` is not a message to step into")
    return getattr(message, part)


def _indexed(message: Any, part: str, path: str) -> tuple[Any, int]:
    found = re.fullmatch(r"(\w+)\[(\d+)\]", part)
    field = message.DESCRIPTOR.fields_by_name.get(found[1]) if found else None
    if found is None or field is None or not field.is_repeated:
        raise ConfigError(f"edit_config_json: `{path}`: `{part}` is not an indexed field")
    container, index = getattr(message, found[1]), int(found[2])
    if index >= len(container):
        raise ConfigError(f"edit_config_json: `{path}`: index {index} of {len(container)}")
    return container, index
