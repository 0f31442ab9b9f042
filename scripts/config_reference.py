"""Writes docs/config.md, the reference of the pipeline config, from its schema.

The schema's comments are the reference's text: a remark stands above its field or message. The
messages follow in the order of the file, a heading for each `// ---- title` line.

Run it by `make protos` after a change of trainer/protos/pipeline.proto.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    SourceCodeInfo,
)

ROOT = Path(__file__).parent.parent
SCHEMA = "trainer/protos/pipeline.proto"
REFERENCE = ROOT / "docs" / "config.md"
INTRODUCTION = f"""\
# Config reference

Made from [{SCHEMA}](../{SCHEMA}) by `make protos`.
A config is a text-format `EasyRecConfig`, or the same in JSON, in a file whose name ends in
`.json`; names and defaults are TorchEasyRec's, and fields of our own say "Ours". A field that is
not listed here is an error that names it: nothing in a config is ignored in silence.

Any field can be set on the command line, `--edit_config_json '{{"train_config.num_epochs": 2}}'`.
Numbers and booleans may be text there (`"4096"`, `"true"`), a list its text (`"[64, 32]"`), and a
message an object, which sets the fields it names, or text, which replaces it
(`"adam_optimizer {{ lr: 0.01 }}"`). Of a list, `feature_configs[0]` and `[-1]` are one element,
`[0:2]`, `[:]` and `[id_feature.feature_name=city]` (or `<`, `>`, `<=`, `>=`) several, of which
`feature_configs[:].id_feature.embedding_dim` sets those that hold an id_feature. Several paths may
be joined by `;`, and so their values: `{{"train_config.num_steps;train_config.seed": "9;1"}}`.

`repeated` fields may stand more than once (or as a list, `[a, b]`); of fields with the same
`one of`, one may be set.
"""

Path_ = tuple[int, ...]  # of a declaration in the file, as protoc's source info numbers it
MESSAGES, FIELDS, ENUMS, VALUES = 4, 2, 5, 2  # field numbers in FileDescriptorProto and beneath


def main() -> None:
    """Write the reference."""
    REFERENCE.write_text(reference())


def reference() -> str:
    """The text of the reference. Raises CalledProcessError where the schema does not compile."""
    file = compiled_schema()
    comments = {tuple(place.path): place for place in file.source_code_info.location}
    sections = [INTRODUCTION]
    declared = [((MESSAGES, n), each) for n, each in enumerate(file.message_type)]
    declared += [((ENUMS, n), each) for n, each in enumerate(file.enum_type)]
    for path, each in sorted(declared, key=lambda item: list(comments[item[0]].span)):
        sections += [f"## {title}\n" for title in _titles(comments[path])]
        sections.append(f"### {each.name}\n")
        if text := _remark(comments, path):
            sections.append(f"{text}\n")
        is_enum = isinstance(each, EnumDescriptorProto)
        rows = _enum(each, path, comments) if is_enum else _message(each, path, comments)
        sections.append("\n".join(rows))
    return "\n".join(sections)


def compiled_schema() -> FileDescriptorProto:
    """The schema with its comments, by protoc."""
    with tempfile.NamedTemporaryFile() as out:
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT)]
        flags = ["--include_source_info", f"--descriptor_set_out={out.name}"]
        subprocess.run([*command, *flags, str(ROOT / SCHEMA)], check=True)
        return FileDescriptorSet.FromString(Path(out.name).read_bytes()).file[0]


def _message(message: DescriptorProto, path: Path_, comments: dict) -> Iterator[str]:
    if not message.field:
        yield "No fields.\n"
        return
    yield "| field | type | default | |\n|---|---|---|---|"
    for n, field in enumerate(message.field):
        remark = _remark(comments, (*path, FIELDS, n))
        if field.HasField("oneof_index"):
            remark = f"one of `{message.oneof_decl[field.oneof_index].name}`. {remark}".strip()
        yield f"| `{field.name}` | {_type(field, message)} | {_default(field)} | {remark} |"
    yield ""


def _enum(enum: EnumDescriptorProto, path: Path_, comments: dict) -> Iterator[str]:
    yield "| value | |\n|---|---|"
    for n, value in enumerate(enum.value):
        yield f"| `{value.name}` | {_remark(comments, (*path, VALUES, n))} |"
    yield ""


def _titles(place: SourceCodeInfo.Location) -> list[str]:
    """Titles in `// ---- title` lines that stand apart above a declaration."""
    detached = [each.strip() for each in place.leading_detached_comments]
    return [each.strip("- ").capitalize() for each in detached if each.startswith("---")]


def _remark(comments: dict[Path_, SourceCodeInfo.Location], path: Path_) -> str:
    place = comments[path]
    text = f"{place.leading_comments} {place.trailing_comments}"
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    name = field.type_name.rpartition(".")[-1]
    for entry in message.nested_type:
        if entry.name == name and entry.options.map_entry:
            key, value = (_type(each, entry) for each in entry.field)
            return f"map of {key} to {value}"
    if name:
        name = f"[{name}](#{name.lower()})"
    else:
        name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def _default(field: FieldDescriptorProto) -> str:
    if not field.HasField("default_value"):
        return ""
    is_text = field.type == FieldDescriptorProto.TYPE_STRING
    return f"`{field.default_value!r}`" if is_text else f"`{field.default_value}`"


if __name__ == "__main__":
    main()
