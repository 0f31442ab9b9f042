"""Values that are hashed must be of one kind wherever they meet: the hash of 7 is not that of "7".

A column holds integers, or text: of "7", of "7|8", of "7:0.5". Where one kind meets the other, each
value would find another row, and nothing would tell. They meet in a table that features share, in
training and evaluation data, and in a checkpoint and what it is to score.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from trainer.checkpoints.checkpoint import HASHED_FILE, read_document
from trainer.config import ConfigError
from trainer.data.features import Feature, Hashed, IdFeature, ZeroCollision

INTEGERS, TEXT = "integers", "text"
_CURE = "cast one of them in the Spark job, as in `cast(%s as string)`"


def hashed_kinds(features: Iterable[Feature], types: Mapping[str, str]) -> dict[str, str]:
    """What the column of each feature that hashes its values holds, by the feature's name.

    Args:
        types: Spark's, by column, as check_features wants them.
    """
    return {
        feature.name: _kind(_type(feature, types))
        for feature in features
        if isinstance(feature, IdFeature) and isinstance(feature.coding, Hashed | ZeroCollision)
    }


def _type(feature: IdFeature, types: Mapping[str, str]) -> str:
    """Of the column; what is computed of several is text."""
    return types[feature.column] if feature.source is None else "string"


def _kind(type_: str) -> str:
    """Of a value, or of the values of lists, or of the keys of a map."""
    value = type_.removeprefix("array<").removeprefix("map<").split(",")[0].removesuffix(">")
    return TEXT if value == "string" else INTEGERS


def check_shared_hashes(
    tables: Iterable[tuple[str, str, Feature]], types: Mapping[str, str]
) -> None:
    """Features of one table must hash values of one kind.

    Args:
        tables: collection and name of each table, and a feature that is looked up there.

    Raises:
        ConfigError: a column holds integers, and that of another feature text.
    """
    first: dict[tuple[str, str], IdFeature] = {}
    for collection, table, feature in tables:
        if not isinstance(feature, IdFeature):
            continue  # without a table
        other = first.setdefault((collection, table), feature)
        kinds = hashed_kinds((other, feature), types)
        if len(set(kinds.values())) > 1:
            told = [f"`{each.column}` holds {_type(each, types)}" for each in (other, feature)]
            raise ConfigError(
                f"id_features `{other.name}` and `{feature.name}` share the table `{table}`, so "
                f"their columns must both hold integers or both text, which hash differently, but "
                f"{' and '.join(told)}; {_CURE % feature.column}"
            )


def check_same_hashes(
    features: Iterable[Feature],
    types: Mapping[str, str],
    where: str,
    before: Mapping[str, str],
    where_before: str,
) -> None:
    """Hold columns against what `hashed_kinds` said of others; unknown features are left out.

    Raises:
        ConfigError: a column holds integers, and in `where_before` text, or the other way round.
    """
    by_name = {each.name: each for each in features if isinstance(each, IdFeature)}
    for name, kind in hashed_kinds(by_name.values(), types).items():
        if before.get(name, kind) != kind:
            column, type_ = by_name[name].column, _type(by_name[name], types)
            raise ConfigError(
                f"id_feature `{name}`: column `{column}` of {where} must hold {before[name]} as in "
                f"{where_before}, as integers and text hash differently, but holds: "
                f"{type_}; {_CURE % column} or the other way round"
            )


def check_hashes_of(
    checkpoint: Path, features: Iterable[Feature], types: Mapping[str, str], where: str
) -> None:
    """Hold columns against those that a checkpoint was trained on. Raises ConfigError."""
    before = read_document(checkpoint, HASHED_FILE)
    check_same_hashes(features, types, where, before, f"the training data of {checkpoint}")
