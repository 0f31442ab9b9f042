"""Features as JSON and back: what a served model needs to encode values as the trainer does."""

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.normalizer import Expression, Normalizer
from trainer.config import ConfigError
from trainer.data.features import (
    Boundaries,
    Coding,
    Combination,
    Feature,
    Formula,
    Hashed,
    IdFeature,
    Ids,
    RawFeature,
    Sequence,
    Source,
)
from trainer.data.vocabulary import Vocabulary

# Of no meaning once a model is trained, or in its dense part.
_NOT_ENCODING = ("init_fn", "constraints", "trainable", "embedding")


def feature_to_json(feature: Feature) -> dict[str, Any]:
    """A feature as JSON values. Raises ConfigError if its values are coded in an unknown way."""
    found = {
        field.name: getattr(feature, field.name)
        for field in fields(feature)
        if field.name not in (*_NOT_ENCODING, "source")
    }
    if feature.source is not None:
        found["source"] = _source_to_json(feature.source)
    if feature.sequence is not None:
        found["sequence"] = asdict(feature.sequence)
    if isinstance(feature, RawFeature):
        return {"kind": "raw", **found, "normalizer": _text(feature.normalizer)}
    return {"kind": "id", **found, "coding": _coding_to_json(feature)}


def feature_from_json(content: dict[str, Any]) -> Feature:
    """The inverse of feature_to_json."""
    found = dict(content)
    is_raw = found.pop("kind") == "raw"
    found["default_values"] = tuple(found["default_values"])
    if found["sequence"] is not None:
        found["sequence"] = Sequence(**found["sequence"])
    if "source" in found:
        found["source"] = _source_from_json(found["source"])
    if is_raw:
        return RawFeature(**{**found, "normalizer": _normalizer(found["normalizer"])})
    return IdFeature(**{**found, "coding": _coding_from_json(found["coding"])})


def _coding_to_json(feature: IdFeature) -> dict[str, Any]:
    coding = feature.coding
    if isinstance(coding, Ids):
        return {"kind": "ids"}
    if isinstance(coding, Hashed):
        return {"kind": "xxhash64"}
    if isinstance(coding, Boundaries):
        limits, normalizer = list(coding.limits), _text(coding.normalizer)
        return {"kind": "boundaries", "limits": limits, "normalizer": normalizer}
    if isinstance(coding, Vocabulary):
        words, ids = coding.words.to_pylist(), coding.ids.tolist()
        return {"kind": "vocabulary", "words": words, "ids": ids, "size": coding.size}
    raise ConfigError(
        f"feature `{feature.name}` cannot be exported yet: its ids are made by "
        f"{type(coding).__name__}, which the scorer does not know"
    )


def _coding_from_json(content: dict[str, Any]) -> Coding:
    kind = content["kind"]
    if kind == "boundaries":
        return Boundaries(tuple(content["limits"]), _normalizer(content["normalizer"]))
    if kind == "vocabulary":
        words, ids = pa.array(content["words"], pa.string()), np.array(content["ids"], np.int64)
        return Vocabulary(words, ids, content["size"])
    return {"ids": Ids(), "xxhash64": Hashed()}[kind]


def _source_to_json(source: Source) -> dict[str, Any]:
    if isinstance(source, Combination):
        return {"kind": "combination", "columns": list(source.columns)}
    return {"kind": "formula", "columns": list(source.columns), "text": source.expression.text}


def _source_from_json(content: dict[str, Any]) -> Source:
    columns = tuple(content["columns"])
    if content["kind"] == "combination":
        return Combination(columns)
    return Formula(Expression.parse(content["text"], columns))


def _text(normalizer: Normalizer | None) -> str | None:
    return None if normalizer is None else normalizer.text


def _normalizer(text: str | None) -> Normalizer | None:
    return None if text is None else Normalizer.parse(text)
