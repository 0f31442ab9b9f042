"""Fields of a config set by path, as `--edit_config_json` has them.

data_config.batch_size            4096, "4096" or 4096.0
model_config.dbmtl.bottom_mlp     an object sets some of its fields, text replaces the message
feature_configs[0]                also [-1], [:], [0:2], of any list
feature_configs[id_feature.feature_name=user_id]    those of which it holds; also < > <= >=
path;path                         "value;value"
"""

import operator
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from trainer.config_text import did_you_mean, parse_text

OPERATORS = {
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
INTEGERS = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
)
FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def set_fields(config: Message, path: str, value: Any) -> None:
    """Set what a path, or several joined by `;`, names. Raises ValueError for a faulty one."""
    paths, values = [path], [value]
    if ";" in path:
        paths = [each.strip() for each in path.split(";")]
        values = [each.strip() for each in value.split(";")] if isinstance(value, str) else [value]
        if len(values) != len(paths):
            raise ValueError(
                f"{len(paths)} paths need text of as many values joined by `;`, but got: {value!r}"
            )
    for each, one in zip(paths, values, strict=True):
        parts = re.split(r"\.(?![^\[]*\])", each)  # dots inside brackets do not count
        name, selection = _parse(parts[-1])
        for message in list(_owners(config, parts)):
            field = _field(message, name)
            if selection is None:
                _set_field(message, field, one)
            else:
                _set_elements(message, field, selection, one)


# ------------------------------------------------------------------ paths


def _parse(part: str) -> tuple[str, str | None]:
    """Name and selection of `name` or `name[selection]`."""
    found = re.fullmatch(r"\s*(\w+)\s*(?:\[(.*)\])?\s*", part)
    if found is None:
        raise ValueError(f"`{part}` must be a field's name, or name[selection]")
    return found[1], found[2]


def _field(message: Message, name: str) -> Any:
    fields = message.DESCRIPTOR.fields_by_name
    if name not in fields:
        raise ValueError(
            f"no field `{name}`; {did_you_mean(name, fields)}There are: {', '.join(fields)}"
        )
    return fields[name]


def _owners(message: Any, parts: list[str], of_several: bool = False) -> Iterator[Any]:
    """The messages whose field a path's last part names.

    Args:
        of_several: the message is one of a selection, in which what a `oneof` does not hold is
            left alone: `feature_configs[:].id_feature.embedding_dim` is of the id features.
    """
    (name, selection), rest = _parse(parts[0]), parts[1:]
    field = _field(message, name)
    if of_several and not _holds(message, field):
        return
    if not rest:
        yield message
        return
    is_message = field.message_type is not None and not _is_map(field)
    if not is_message or field.is_repeated == (selection is None):
        raise ValueError(f"`{parts[0]}` is not a message to step into")
    inner = getattr(message, name)
    if selection is None:
        yield from _owners(inner, rest, of_several)
        return
    chosen = [inner[at] for at in _positions(inner, selection)]
    is_several = of_several or not _is_index(selection)
    found = [owner for each in chosen for owner in _owners(each, rest, is_several)]
    if not found and not of_several:
        raise ValueError(f"nothing in `{parts[0]}` has `{'.'.join(rest)}`")
    yield from found


def _holds(message: Message, field: Any) -> bool:
    """Whether the field is no member of a `oneof`, or the one that is set."""
    oneof = field.containing_oneof
    return oneof is None or message.WhichOneof(oneof.name) == field.name


def _is_index(selection: str) -> bool:
    return re.fullmatch(r"\s*-?\d+\s*", selection) is not None


def _positions(container: Any, selection: str) -> list[int]:
    """The positions that a selection means, one at least."""
    everything = range(len(container))
    if _is_index(selection):
        if not -len(container) <= int(selection) < len(container):
            raise ValueError(f"index {selection} of {len(container)}")
        return [everything[int(selection)]]
    ends = re.fullmatch(r"\s*(-?\d+|)\s*:\s*(-?\d+|)\s*", selection)
    if ends:
        found = list(everything[slice(*(int(end) if end else None for end in ends.groups()))])
    else:
        found = _where(container, selection)
    if not found:
        raise ValueError(f"[{selection}] selects none of {len(container)}")
    return found


def _where(container: Any, selection: str) -> list[int]:
    """The positions of the messages of which `path=value`, or another comparison, holds."""
    condition = re.fullmatch(r"\s*([\w.]+)\s*(>=|<=|=|<|>)\s*(.*?)\s*", selection)
    if condition is None or (len(container) and not isinstance(container[0], Message)):
        raise ValueError(
            f"[{selection}] must be an index, a range such as 0:2, or for messages a comparison "
            f"such as id_feature.embedding_dim>8"
        )
    path, sign, text = condition.groups()
    parts, found = path.split("."), []
    for at, element in enumerate(container):
        for owner in _owners(element, parts, of_several=True):
            field = _field(owner, parts[-1])
            if field.message_type is not None or field.is_repeated:
                raise ValueError(f"[{selection}]: `{path}` must be a number or text, to compare")
            with _told(text):
                if OPERATORS[sign](getattr(owner, field.name), _scalar(field, text)):
                    found.append(at)
    return found


# ------------------------------------------------------------------ values


def _set_field(message: Any, field: Any, value: Any) -> None:
    if _is_map(field):
        _set_map(getattr(message, field.name), field, value)
    elif field.is_repeated and field.message_type is not None:
        if value != []:
            raise ValueError(
                f"is a list of messages, which [] empties; name fields of one, {field.name}[0], or "
                f"of all, {field.name}[:]: {', '.join(field.message_type.fields_by_name)}"
            )
        message.ClearField(field.name)
    elif field.is_repeated:
        with _told(value):
            values = _list(message, field, value)
            message.ClearField(field.name)
            getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        _set_message(getattr(message, field.name), value)
    else:
        with _told(value):
            setattr(message, field.name, _scalar(field, value))


def _set_elements(message: Any, field: Any, selection: str, value: Any) -> None:
    if not field.is_repeated or _is_map(field):
        raise ValueError(f"`{field.name}[{selection}]` is not an indexed field")
    container = getattr(message, field.name)
    for at in _positions(container, selection):
        if field.message_type is not None:
            _set_message(container[at], value)
        else:
            with _told(value):
                container[at] = _scalar(field, value)


def _set_message(message: Any, value: Any) -> None:
    """An object sets the fields it names, text replaces the message."""
    if isinstance(value, dict):
        message.SetInParent()
        for name, inner in value.items():
            set_fields(message, name, inner)
    elif isinstance(value, str):
        text = value.strip()
        if text.startswith("{") and text.endswith("}"):
            text = text[1:-1]
        message.Clear()
        message.SetInParent()
        parse_text(text, message)
    else:
        raise ValueError(
            f"is a message; name one of its fields: {', '.join(message.DESCRIPTOR.fields_by_name)}"
        )


def _set_map(entries: Any, field: Any, value: Any) -> None:
    of_value = field.message_type.fields_by_name["value"]
    with _told(value):
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        found = {key: _scalar(of_value, each) for key, each in value.items()}
        entries.clear()
        entries.update(found)


def _list(message: Message, field: Any, value: Any) -> list[Any]:
    """The values of a list, of a list as text, or of one value."""
    if isinstance(value, str) and value.strip().startswith("["):
        parsed = type(message)()
        parse_text(f"{field.name}: {value}", parsed)
        return list(getattr(parsed, field.name))
    if isinstance(value, str) and "," in value:
        raise ValueError("must be a list, [a, b]")
    return [_scalar(field, each) for each in (value if isinstance(value, list) else [value])]


def _scalar(field: Any, value: Any) -> Any:
    """A JSON value as the field's type has it; protobuf checks its range. Raises ValueError."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if str(value).lower() not in ("true", "false"):
            raise ValueError("must be true or false")
        return str(value).lower() == "true"
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        names = field.enum_type.values_by_name
        if isinstance(value, str) and not value.isdecimal():
            if value not in names:
                raise ValueError(f"must be one of {', '.join(names)}")
            return names[value].number
        return int(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind not in (*INTEGERS, *FLOATS):
        return str(value) if is_number else value
    if not is_number and not isinstance(value, str):
        raise ValueError("must be a number")
    if kind in FLOATS:
        return float(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("must be an integer")
    return int(value)


@contextmanager
def _told(value: Any) -> Iterator[None]:
    """Raises ValueError with the value for what protobuf or a type refuses in here."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"cannot be {value!r}: {error}") from None


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
