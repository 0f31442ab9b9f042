"""What of a pipeline config the job has to know, read without protobuf, which a cluster may lack.

The syntax is protobuf's text format; strings may stand without quotes, as the trainer allows. What
the job does not use is left to the trainer to check.
"""

from __future__ import annotations

import ast
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

if __package__:  # imported as preprocessing.pipeline_text
    from preprocessing.normalizer import Expression, Normalizer
    from preprocessing.vocabulary_ids import given_ids, listed_ids
else:  # run by spark-submit, see jrc_sort.py
    from normalizer import Expression, Normalizer
    from vocabulary_ids import given_ids, listed_ids

DEFAULT_SEPARATOR = "\x1d"
_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<mark>[{}<>\[\]:,;])|(?P<word>[^\s{}<>\[\]:,;#"']+)"""
)
_CLOSING = {"{": "}", "<": ">"}
# Fields of features that the job honours, or that are the trainer's alone.
_COMMON_FIELDS = {
    *("feature_name", "expression", "embedding_name", "embedding_dim", "pooling", "init_fn"),
    *("embedding_constraints", "trainable", "default_value", "fg_encoded_default_value"),
    *("separator", "value_dim"),
}
_ID_FIELDS = _COMMON_FIELDS | {
    *("num_buckets", "hash_bucket_size", "vocab_list", "vocab_dict", "default_bucketize_value"),
    "fg_value_type",
}
_RAW_FIELDS = _COMMON_FIELDS | {"boundaries", "normalizer", "autodis", "mlp"}
_KNOWN_FIELDS = {
    "id_feature": _ID_FIELDS,
    "raw_feature": _RAW_FIELDS,
    "combo_feature": _ID_FIELDS - {"num_buckets", "fg_value_type"},
    "expr_feature": _COMMON_FIELDS | {"boundaries", "variables", "fill_missing"},
}
# Fields whose values are columns that the trainer reads as they are.
_COLUMN_FIELDS = {
    *("label_fields", "sample_weight_fields", "label_name", "sample_weight_name"),
    *("task_space_indicator_label", "grouping_key", "session_name"),
}

Message = dict[str, list[Any]]


@dataclass(frozen=True)
class Vocabulary:
    """The id of each known value, as text, and of all others."""

    ids: Mapping[str, int]
    other_id: int


@dataclass(frozen=True)
class Buckets:
    """The id is how many limits (rising, float32) are not above the normalized number."""

    limits: tuple[float, ...]
    normalizer: Normalizer | None


@dataclass(frozen=True)
class Combination:
    """Each combination of a value of every column, as text."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Formula:
    """A number by an expression of the columns."""

    expression: Expression

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, which are the expression's variables."""
        return self.expression.names


Source = Combination | Formula


@dataclass(frozen=True)
class IdFeature:
    """Ids of the raw column, or of what `source` makes of several.

    coding: how values become ids: "ids" as they are, "hash" to num_embeddings, by a vocabulary or
        by buckets.
    default_values: texts in place of no value; none where that stays without an id.
    separator: between the values of a row that are text; None if the config does not say it.
    max_values: a row keeps its first ones; 0 is no limit.
    """

    name: str
    column: str
    num_embeddings: int
    coding: Literal["ids", "hash"] | Vocabulary | Buckets
    default_values: tuple[str, ...] = ()
    separator: str | None = None
    max_values: int = 0
    source: Source | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that it needs."""
        return (self.column,) if self.source is None else self.source.columns


@dataclass(frozen=True)
class RawFeature:
    """`dim` float32 values; `default_values`, as many, take the place of null, not normalized."""

    name: str
    column: str
    dim: int
    default_values: tuple[float, ...]
    normalizer: Normalizer | None = None
    source: Source | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that it needs."""
        return (self.column,) if self.source is None else self.source.columns


Feature = IdFeature | RawFeature


def parse_text(text: str) -> Message:
    """A message as field -> values; a value is a message, or text without its quotes.

    Raises:
        ValueError: the text is not protobuf text format; the message has the line.
    """
    tokens = _tokens(text)
    message, position = _parse_message(tokens, 0, end=None)
    assert position == len(tokens), "a message without a closing mark ends with the text"
    return message


def read_features(text: str) -> tuple[Feature, ...]:
    """The features that some feature group of the pipeline config `text` names.

    Raises:
        ValueError: the columns are encoded already, or a feature cannot be encoded here.
    """
    config = parse_text(text)
    if _one(_one(config, "data_config", {}), "fg_mode", "FG_NONE") in ("FG_NONE", "1"):
        raise ValueError(
            "--pipeline-config must have data_config.fg_mode FG_NORMAL or FG_DAG, which say that "
            "columns are raw, but has FG_NONE; set it, and FG_NONE in the config that trains on "
            "what this job writes"
        )
    groups = _one(config, "model_config", {}).get("feature_groups", [])
    used = {name for group in groups for name in group.get("feature_names", [])}
    features = [_feature(entry) for entry in config.get("feature_configs", [])]
    return tuple(feature for feature in features if feature.name in used)


def read_other_columns(text: str) -> set[str]:
    """The columns that the pipeline config `text` names for labels, weights and groups."""
    found: set[str] = set()
    messages = [parse_text(text)]
    for message in messages:
        for name, values in message.items():
            found.update(value for value in values if name in _COLUMN_FIELDS)
            messages += [value for value in values if isinstance(value, dict)]
    return found


def _feature(entry: Message) -> Feature:
    if len(entry) != 1:
        raise ValueError(f"each feature_configs must hold one feature, but one holds {list(entry)}")
    ((kind, (fields, *_)),) = entry.items()
    name = _one(fields, "feature_name", None)
    if name is None:
        raise ValueError(f"feature_configs.{kind}.feature_name must be set, but is missing")
    where = f"{kind} {name!r} of --pipeline-config"
    known = _KNOWN_FIELDS.get(kind)
    unknown = sorted(set(fields) - known) if known else [kind]
    if unknown:
        raise ValueError(
            f"{where}: this job does not encode {unknown[0]!r}; leave it out, or use "
            "--split-values, --transform, --boundaries or --vocabulary"
        )
    source = _source(where, kind, fields)
    column = _one(fields, "expression", name).rsplit(":", 1)[-1]
    if isinstance(source, Formula):
        column = f"{name} = {source.expression.text}"
    elif source is not None:
        column = f"{name} = {' x '.join(source.columns)}"
    is_number = kind in ("raw_feature", "expr_feature")
    if is_number and "boundaries" not in fields:
        return _raw_feature(where, name, column, fields, source)
    dim = _number(int, where, "value_dim", _one(fields, "value_dim", "0"))
    default = _one(fields, "default_value", "0" if is_number else "")
    separator = _one(fields, "separator", None)
    coding, size = _buckets(where, fields) if is_number else _id_coding(where, fields, default)
    return IdFeature(
        name,
        column,
        size,
        coding,
        default_values=tuple(default.split(separator or DEFAULT_SEPARATOR)) if default else (),
        separator=separator,
        max_values=0 if is_number else dim,
        source=source,
    )


def _source(where: str, kind: str, fields: Message) -> Source | None:
    """What is computed first, of which columns."""
    names = {"combo_feature": "expression", "expr_feature": "variables"}
    if kind not in names:
        return None
    texts = fields.get(names[kind], [])
    columns = tuple(text.rsplit(":", 1)[-1] for text in texts)
    least = 2 if kind == "combo_feature" else 1
    if len(columns) < least:
        raise ValueError(
            f"{where}: {names[kind]} must name {least} columns or more, but names {len(columns)}"
        )
    if kind == "combo_feature":
        return Combination(columns)
    if _number(int, where, "value_dim", _one(fields, "value_dim", "0")) > 1:
        raise ValueError(f"{where}: value_dim must be 1, of one number")
    try:
        return Formula(Expression.parse(_one(fields, "expression", ""), columns))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _raw_feature(
    where: str, name: str, column: str, fields: Message, source: Source | None
) -> RawFeature:
    dim = _number(int, where, "value_dim", _one(fields, "value_dim", "1"))
    dim = dim if source is None else 1
    text = _one(fields, "default_value", "0") or "0"
    texts = text.split(_one(fields, "separator", DEFAULT_SEPARATOR))
    defaults = tuple(_number(float, where, "default_value", each) for each in texts)
    if len(defaults) not in (1, dim):
        raise ValueError(f"{where}: default_value must have {dim} numbers, but got {text!r}")
    defaults = defaults * dim if len(defaults) == 1 else defaults
    return RawFeature(name, column, dim, defaults, _normalizer(where, fields), source)


def _buckets(where: str, fields: Message) -> tuple[Buckets, int]:
    limits = tuple(
        float32(_number(float, where, "boundaries", text)) for text in fields["boundaries"]
    )
    if list(limits) != sorted(set(limits)) or not all(map(math.isfinite, limits)):
        raise ValueError(
            f"{where}: boundaries must be finite numbers that rise, and differ as float32"
        )
    return Buckets(limits, _normalizer(where, fields)), len(limits) + 1


def _normalizer(where: str, fields: Message) -> Normalizer | None:
    text = _one(fields, "normalizer", "")
    try:
        return Normalizer.parse(text) if text else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _id_coding(
    where: str, fields: Message, default: str
) -> tuple[Literal["ids", "hash"] | Vocabulary, int]:
    """How values become ids, and the rows of the table."""
    buckets, hashed = (
        _number(int, where, field, _one(fields, field, "0"))
        for field in ("num_buckets", "hash_bucket_size")
    )
    words = {name: fields[name] for name in ("vocab_list", "vocab_dict") if name in fields}
    if bool(buckets) + bool(hashed) + len(words) != 1:
        raise ValueError(
            f"{where}: exactly one of num_buckets, hash_bucket_size, vocab_list and vocab_dict "
            f"must be set, but got: num_buckets {buckets}, hash_bucket_size {hashed}"
            f"{''.join(f', {name}' for name in words)}"
        )
    if buckets or hashed:
        return ("hash" if hashed else "ids"), buckets or hashed
    own = _one(fields, "default_bucketize_value", None)
    own = None if own is None else _number(int, where, "default_bucketize_value", own)
    try:
        if "vocab_list" in words:
            ids, other_id, size = listed_ids(words["vocab_list"], default, own)
        else:
            pairs = {
                _one(entry, "key", ""): _number(int, where, "vocab_dict", _one(entry, "value", "0"))
                for entry in words["vocab_dict"]
            }
            ids, other_id, size = given_ids(pairs, default, own)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Vocabulary(ids, other_id), size


def float32(number: float) -> float:
    """The nearest float32."""
    return struct.unpack("f", struct.pack("f", number))[0]


def _number(kind: type, where: str, field: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{where}: {field} must be a number, but got {text!r}") from None


def _one(message: Message, field: str, default: Any) -> Any:
    """The last value of `field`, which protobuf takes for a field that is not repeated."""
    return message[field][-1] if field in message else default


def _tokens(text: str) -> list[tuple[str, int]]:
    """Marks, words and quoted strings, each with its line."""
    tokens, position, line = [], 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"--pipeline-config, line {line}: a string has no closing quote")
        if match.lastgroup:
            tokens.append((match[0], line))
        line += match[0].count("\n")
        position = match.end()
    return tokens


def _parse_message(
    tokens: list[tuple[str, int]], position: int, end: str | None
) -> tuple[Message, int]:
    message: Message = {}
    while position < len(tokens):
        name, line = tokens[position]
        if name == end:
            return message, position + 1
        if name in (",", ";"):
            position += 1
            continue
        if not re.fullmatch(r"\w+", name):
            raise _unexpected(name, line, "a field")
        value, position = _parse_value(tokens, position + 1)
        message.setdefault(name, []).extend(value)
    if end is not None:
        raise ValueError(f"--pipeline-config must close every message, but {end!r} is missing")
    return message, position


def _parse_value(tokens: list[tuple[str, int]], position: int) -> tuple[list[Any], int]:
    """The values after a field's name: one, or those of a list."""
    mark = _token(tokens, position)
    position += mark == ":"
    token = _token(tokens, position)
    if token in _CLOSING:
        message, position = _parse_message(tokens, position + 1, _CLOSING[token])
        return [message], position
    if mark != ":":
        raise _unexpected(token, tokens[position][1], "':' or '{'")
    if token != "[":
        return _parse_scalar(tokens, position)
    values, position = [], position + 1
    while _token(tokens, position) != "]":
        if _token(tokens, position) == ",":
            position += 1
        elif _token(tokens, position) in _CLOSING:
            closing = _CLOSING[_token(tokens, position)]
            message, position = _parse_message(tokens, position + 1, closing)
            values.append(message)
        else:
            scalars, position = _parse_scalar(tokens, position)
            values += scalars
    return values, position + 1


def _parse_scalar(tokens: list[tuple[str, int]], position: int) -> tuple[list[str], int]:
    """A word, or strings that stand one after the other and are one."""
    token, line = tokens[position]
    if token[0] not in "\"'":
        if token in "{}<>[]:,;":
            raise _unexpected(token, line, "a value")
        return [token], position + 1
    text = ""
    while position < len(tokens) and tokens[position][0][0] in "\"'":
        text += ast.literal_eval(tokens[position][0])
        position += 1
    return [text], position


def _token(tokens: list[tuple[str, int]], position: int) -> str:
    if position >= len(tokens):
        raise ValueError("--pipeline-config must close every message, but ends inside one")
    return tokens[position][0]


def _unexpected(token: str, line: int, wanted: str) -> ValueError:
    return ValueError(
        f"--pipeline-config, line {line}: {wanted} must stand here, but got {token!r}"
    )
