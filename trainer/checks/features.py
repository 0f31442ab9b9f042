"""Features held against a dataset: columns, their types, and the range of their ids."""

import re

from trainer.config import ConfigError, did_you_mean
from trainer.data.coding import check_ids
from trainer.data.features import Boundaries, Feature, Formula, IdFeature, Ids
from trainer.data.reader import SessionDataset

INTEGERS = ("tinyint", "smallint", "int", "bigint")
NUMBERS = (*INTEGERS, "float", "double", "decimal", "boolean")
TEXT = "string"


def check_features(features: list[Feature], types: dict[str, str], where: str) -> None:
    """Hold features against columns and their Spark types.

    Raises:
        ConfigError: a column is missing or has a type that the feature cannot be made of.
    """
    for feature in features:
        role = f"feature `{feature.name}`"
        allowed, in_words = _types_of(feature)
        for column in feature.columns:
            if column not in types:
                raise no_column(column, role, types, where)
            if _plain(types[column]) not in allowed:
                raise ConfigError(
                    f"{role}: column `{column}` of {where} must hold {in_words}, "
                    f"but holds: {types[column]}"
                )


def check_id_ranges(
    features: list[Feature], types: dict[str, str], dataset: SessionDataset
) -> None:
    """Hold plain columns of ids against their tables, by Parquet's statistics.

    The reader checks every value again.

    Raises:
        DataError: an id is not in its table.
    """
    plain = [
        feature
        for feature in features
        if isinstance(feature, IdFeature)
        and isinstance(feature.coding, Ids)
        and feature.source is None
        and types[feature.column] in INTEGERS
    ]
    ranges = dataset.ranges_of([feature.column for feature in plain])
    for feature, known in zip(plain, ranges, strict=True):
        if known is not None and known.low is not None:
            check_ids(feature, known.low, known.high)


def no_column(name: str, role: str, types: dict[str, str], where: str) -> ConfigError:
    """The error of a column that is not there."""
    return ConfigError(
        f"{role}: {where} has no column `{name}`; {did_you_mean(name, types)}"
        f"Its columns: {', '.join(types)}"
    )


def _plain(type_: str) -> str:
    """Spark's name of a type, with decimals of any precision alike."""
    return re.sub(r"decimal\(\d+,\d+\)", "decimal", type_)


def _types_of(feature: Feature) -> tuple[set[str], str]:
    """The column types that a feature can be made of, and the same in words."""
    if isinstance(feature.source, Formula):
        return {*NUMBERS, TEXT}, ", ".join((*NUMBERS, TEXT))
    is_id = isinstance(feature, IdFeature) and not isinstance(feature.coding, Boundaries)
    values = (*(INTEGERS if is_id else NUMBERS), TEXT)
    lists = {f"array<{value}>" for value in values}
    nested = {f"array<array<{value}>>" for value in values}
    in_words = ", ".join(values)
    if isinstance(feature, IdFeature):
        if feature.is_weighted:
            maps = {f"map<{key},{value}>" for key in (*INTEGERS, TEXT) for value in NUMBERS}
            return {TEXT, f"array<{TEXT}>"} | maps, "string (id:weight), lists of it, or maps"
        if feature.sequence is None:
            return lists | set(values), f"{in_words} or lists of one of them"
        if feature.pools_items:
            return lists | nested | {TEXT}, f"string, lists or lists of lists of {in_words}"
        return lists | {TEXT}, f"string or lists of {in_words}"
    if feature.dim > 1:
        if feature.sequence is None:
            return lists | {TEXT}, f"string or lists of value_dim = {feature.dim} of {in_words}"
        return nested | {
            TEXT,
            f"array<{TEXT}>",
        }, f"string, or lists of it or of lists of {in_words}"
    if feature.sequence is None:
        return lists | set(values), f"{in_words} or lists of one of them"
    return lists | nested | {TEXT}, f"string or lists of {in_words}"
