"""Features that are computed of several columns, as a config writes them.

    kind                            as              computed here with FG_NORMAL and FG_DAG
    combo_feature                   id_feature      yes
    expr_feature                    raw_feature     yes
    lookup_feature, match_feature   either          no

What is computed has all fields that an id_feature or a raw_feature has beside its column, so
`plain` makes it one. With FG_NONE and FG_BUCKETIZE it is one, whose column has its name.
"""

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from preprocessing.normalizer import Expression
from trainer.data.features import Combination, Formula
from trainer.protos import pipeline_pb2 as pb

COMPUTED = ("combo_feature", "expr_feature", "lookup_feature", "match_feature")
_ID_FIELDS = ("zch", "hash_bucket_size", "num_buckets", "vocab_list", "vocab_dict", "vocab_file")
_SIDES = ("user", "item", "context")


def is_computed(kind: str) -> bool:
    """Whether a field of FeatureConfig is of this module, alone or in a sequence."""
    return kind.removeprefix("sequence_") in COMPUTED


def plain(kind: str, message: Any) -> pb.IdFeature | pb.RawFeature:
    """A message as the id_feature or raw_feature that it is once it is computed."""
    if not is_computed(kind):
        return message
    is_id = kind.endswith("combo_feature") or any(_has(message, name) for name in _ID_FIELDS)
    made = pb.IdFeature() if is_id else pb.RawFeature()
    made.default_value = message.default_value  # its own default is not that of the plain message
    fields = MessageToDict(message, preserving_proto_field_name=True)
    fields.pop("expression", None)
    if not is_id and not message.value_dim:
        fields.pop("value_dim", None)  # 0 is one number
    return ParseDict(fields, made, ignore_unknown_fields=True)


def _has(message: Any, name: str) -> bool:
    return name in {field.name for field, _ in message.ListFields()}


def source_of(kind: str, message: Any) -> Combination | Formula:
    """What is computed of which columns.

    Raises:
        ValueError: the message does not say it, or it cannot be computed here.
    """
    if kind == "combo_feature":
        columns = [column_of(text, "expression") for text in message.expression]
        if len(columns) < 2:
            raise ValueError(f"expression must name two columns or more, but names {len(columns)}")
        return Combination(tuple(columns))
    if kind == "expr_feature":
        columns = [column_of(text, "variables") for text in message.variables]
        if not columns:
            raise ValueError("variables must name a column or more, but names none")
        if message.value_dim > 1:
            raise ValueError(f"value_dim must be 1, of one number, but got: {message.value_dim}")
        return Formula(Expression.parse(message.expression, tuple(columns)))
    raise ValueError(
        "it cannot be computed here; compute its column in the query or job that makes the data, "
        "and set fg_mode: FG_NONE"
    )


def column_of(text: str, field: str) -> str:
    """The column of "side:column". Raises ValueError."""
    side, _, column = text.rpartition(":")
    if side not in ("", *_SIDES) or not column:
        raise ValueError(
            f"{field} must be user:COLUMN, item:COLUMN or context:COLUMN, but got: `{text}`"
        )
    return column
