"""docs/config.md is what the schema says today, field by field."""

from scripts.config_reference import REFERENCE, compiled_schema, reference


def test_reference_is_of_this_schema():
    assert REFERENCE.read_text() == reference(), "run `make protos` and commit docs/config.md"


def test_every_field_and_remark_is_in_the_reference():
    text = reference()
    schema = compiled_schema()
    assert len(schema.message_type) > 10
    for message in schema.message_type:
        section = text.split(f"### {message.name}\n")[1].split("\n##")[0]
        for field in message.field:
            assert f"| `{field.name}` |" in section
    assert "Ours: seeds the parameters and the order of sessions." in text
