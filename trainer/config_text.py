"""Pipeline configs as text: protobuf's text format, whose strings may stand bare, or JSON."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from trainer.protos.pipeline_pb2 import EasyRecConfig


def did_you_mean(name: str, known: Iterable[str]) -> str:
    r"""`did you mean \`x\`? ` for the nearest of the known names; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{near[0]}`? " if near else ""


def parse_text(text: str, message: Message) -> None:
    """Add what a text says to a message; string values may stand without quotes.

    Raises:
        ValueError: with the line and, for an unknown field, those that there are.
    """
    try:
        text_format.Parse(quote_bare_strings(text), message)
    except text_format.ParseError as error:
        raise ValueError(_explain(str(error))) from None


def parse_json(text: str, message: Message) -> None:
    """Add what a JSON object says to a message; its keys are the names of fields.

    Raises:
        ValueError: with the message's path and, for an unknown field, those that there are.
    """
    try:
        json_format.Parse(text, message)
    except (json_format.ParseError, RecursionError) as error:
        raise ValueError(_explain_json(" ".join(str(error).split()))) from None


def _explain(message: str) -> str:
    """`3:5 : Message type "sessionwise.X" has no field named "y".` with the nearest names."""
    found = re.match(r'(\d+):(\d+) : .*"([\w.]+)" has no field named "(\w+)"', message)
    if not found:
        place, _, reason = message.partition(" : ")
        return f"line {place.replace(':', ', column ')}: not valid protobuf text: {reason}"
    line, _, message_type, name = found.groups()
    return _unknown_field(f"line {line}", message_type, name)


def _explain_json(message: str) -> str:
    """`... Message type "sessionwise.X" has no field named "y" at "EasyRecConfig.z". ...`."""
    found = re.search(r'"([\w.]+)" has no field named "([^"]*)" at "([^"]*)"', message)
    if not found:
        return f"not a valid JSON config: {message}"
    message_type, name, place = found.groups()
    return _unknown_field(place, message_type, name)


def _unknown_field(where: str, message_type: str, name: str) -> str:
    fields = list(_descriptors()[message_type].fields_by_name)
    cure = did_you_mean(name, fields) or "remove it. "
    return (
        f"{where}: field `{name}` of {message_type.split('.')[-1]} is unknown or not "
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


def quote_bare_strings(text: str) -> str:
    """Put quotes around the bare words of string fields; line numbers stay.

    Raises:
        ValueError: the text still has a placeholder, `${name}` or `...`.
    """
    out: list[str] = []
    name, in_value, in_list, at = "", False, False, 0
    while at < len(text):
        token = _TOKENS.match(text, at)
        assert token is not None  # the last alternative takes anything
        found, kind = token.group(), token.lastgroup
        if kind == "placeholder":
            line = text.count("\n", 0, at) + 1
            raise ValueError(f"line {line}: placeholder `{found}` must be replaced by its value")
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
