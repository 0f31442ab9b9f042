"""Feature groups against features and model: what checks.check_config asks of them."""

from collections.abc import Collection, Mapping
from typing import Any

from trainer.config import ConfigError, did_you_mean, read_groups
from trainer.data.features import Feature, IdFeature
from trainer.protos import pipeline_pb2 as pb

# The groups that a model takes by name, and those that it can do without.
NAMED_GROUPS = {
    "wide_and_deep": (("wide", "deep"), ()),
    "deepfm": (("wide", "deep"), ("fm",)),
    "dlrm": (("sparse", "dense"), ()),
    "wukong": (("sparse", "dense"), ()),
    "pepnet": (("all",), ("domain", "uia")),
}
ALSO_ONE_OF_ANY_NAME = ("dlrm", "wukong")
WITH_WIDE_GROUPS = ("wide_and_deep", "deepfm", "custom")
WITH_SEQUENCE_GROUPS = ("multi_tower_din", "custom")
TOWER_MODELS = ("multi_tower", "multi_tower_din")


def check_feature_groups(model: pb.ModelConfig, features: Mapping[str, Feature]) -> None:
    """Raises ConfigError at the first fault."""
    kind = model.WhichOneof("model")
    if kind is None:
        known = [field.name for field in model.DESCRIPTOR.oneofs_by_name["model"].fields]
        raise ConfigError(f"model_config must name a model, one of {', '.join(known)}")
    names = [group.group_name for group in model.feature_groups]
    if not names:
        raise ConfigError("model_config.feature_groups must have at least one group, but has none")
    check_unique("feature_groups.group_name", names)
    for group in read_groups(model):
        _check_group(group, kind, features)
    _check_groups_of_model(model, kind, names)
    sequences = [name for group in read_groups(model) for name in _sequence_names(group)]
    check_unique("sequence_groups.group_name", sequences)


def check_unique(what: str, names: list[str]) -> None:
    """Raises ConfigError for the first name that is there again."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{what} must be unique, but `{name}` is there twice")


# ------------------------------------------------------------------ one group


def _check_group(group: pb.FeatureGroupConfig, kind: str, features: Mapping[str, Feature]) -> None:
    where = f"feature group `{group.group_name}`"
    if not group.feature_names and not group.sequence_groups:
        raise ConfigError(f"{where} must have feature_names")
    members = _members(where, group.feature_names, features)
    if group.group_type == pb.SEQUENCE:
        if kind not in WITH_SEQUENCE_GROUPS:
            raise ConfigError(
                f"{where}: group_type SEQUENCE is for {' and '.join(WITH_SEQUENCE_GROUPS)}, but "
                f"the model is {kind}; "
                f"put a sequence_groups and a sequence_encoders into a DEEP group"
            )
        _check_sequence_members(where, members)
    else:
        _check_row_members(where, members)
    if group.group_type == pb.WIDE:
        _check_wide(where, members, kind)
    if group.group_type == pb.DEEP:
        _check_encoders(group, where, features)
    elif group.sequence_groups or group.sequence_encoders:
        raise ConfigError(
            f"{where}: sequence_groups and sequence_encoders must stand in DEEP groups"
        )


def _members(where: str, names: Collection[str], features: Mapping[str, Feature]) -> list[Feature]:
    check_unique(f"feature_names of {where}", list(names))
    for name in names:
        if name not in features:
            raise ConfigError(
                f"{where}: feature_configs has no `{name}`; {did_you_mean(name, features)}"
                f"It has: {', '.join(sorted(features))}"
            )
    return [features[name] for name in names]


def _check_row_members(where: str, members: list[Feature]) -> None:
    for feature in members:
        if feature.sequence is not None:
            raise ConfigError(
                f"{where}: `{feature.name}` is a sequence, which must stand in a sequence_groups "
                f"of a DEEP group or, for multi_tower_din, in a group of type SEQUENCE"
            )


def _check_sequence_members(where: str, members: list[Feature]) -> None:
    if all(feature.sequence is None for feature in members):
        raise ConfigError(f"{where} must have a sequence feature, but has none")
    for feature in members:
        if isinstance(feature, IdFeature) and feature.is_weighted:
            raise ConfigError(
                f"{where}: `{feature.name}` is weighted, and cannot query a sequence; name it in a "
                f"DEEP group, or set weighted: false"
            )


def _check_wide(where: str, members: list[Feature], kind: str) -> None:
    if kind not in WITH_WIDE_GROUPS:
        raise ConfigError(
            f"{where}: group_type WIDE is for {', '.join(WITH_WIDE_GROUPS)}, but the model is "
            f"{kind}"
        )
    for feature in members:
        if not isinstance(feature, IdFeature):
            raise ConfigError(
                f"{where}: a WIDE group must have id features, but `{feature.name}` is raw; remove "
                f"it, or give it boundaries and an embedding_dim"
            )


# ------------------------------------------------------------------ sequences in a DEEP group


def _sequence_names(group: pb.FeatureGroupConfig) -> list[str]:
    """Names of the sequence groups; of a SEQUENCE group its own."""
    if group.group_type == pb.SEQUENCE:
        return [group.group_name]
    return [inner.group_name or group.group_name for inner in group.sequence_groups]


def _check_encoders(
    group: pb.FeatureGroupConfig, where: str, features: Mapping[str, Feature]
) -> None:
    names = _sequence_names(group)
    if len(names) > 1 and not all(inner.group_name for inner in group.sequence_groups):
        raise ConfigError(f"{where}: of several sequence_groups each must have a group_name")
    for inner, name in zip(group.sequence_groups, names, strict=True):
        place = f"sequence group `{name}`"
        _check_sequence_members(place, _members(place, inner.feature_names, features))
    read = set()
    for encoder in group.sequence_encoders:
        kind = encoder.WhichOneof("seq_module")
        if kind is None:
            known = ", ".join(field.name for field in encoder.DESCRIPTOR.fields)
            raise ConfigError(f"{where}: each sequence_encoders must hold one of {known}")
        config: Any = getattr(encoder, kind)
        source = config.input or (names[0] if len(names) == 1 else "")
        if source not in names:
            raise ConfigError(
                f"{where}: {kind}.input must name one of the sequence_groups "
                f"({', '.join(names) or 'none'}), but got: `{config.input}`"
            )
        read.add(source)
    for name in names:
        if name not in read:
            raise ConfigError(f"{where}: no sequence_encoders reads the sequence group `{name}`")


# ------------------------------------------------------------------ all groups


def _check_groups_of_model(model: pb.ModelConfig, kind: str, names: list[str]) -> None:
    if kind in TOWER_MODELS:
        net: Any = getattr(model, kind)
        types = {group.group_name: group.group_type for group in model.feature_groups}
        attention = [tower.input for tower in getattr(net, "din_towers", ())]
        _check_towers(kind, [*(tower.input for tower in net.towers), *attention], names)
        for name, group_type in types.items():
            if (group_type == pb.SEQUENCE) != (name in attention):
                raise ConfigError(
                    f"multi_tower_din: din_towers must read the SEQUENCE groups and towers the "
                    f"others, but `{name}` is a {pb.FeatureGroupType.Name(group_type)} group"
                )
    elif kind in NAMED_GROUPS and (len(names) > 1 or kind not in ALSO_ONE_OF_ANY_NAME):
        _check_named_groups(kind, names)
    for group in model.feature_groups:
        is_wide = group.group_type == pb.WIDE
        if kind in ("wide_and_deep", "deepfm") and is_wide != (group.group_name == "wide"):
            raise ConfigError(f"{kind}: the group `wide`, and no other, must be of type WIDE")


def _check_named_groups(kind: str, names: list[str]) -> None:
    required, optional = NAMED_GROUPS[kind]
    if not set(required) <= set(names) <= {*required, *optional}:
        one = ", or one group of any name" if kind in ALSO_ONE_OF_ANY_NAME else ""
        also = f" and may be {', '.join(optional)}" if optional else ""
        raise ConfigError(
            f"model_config.feature_groups must be {', '.join(required)}{also}{one} for {kind}, "
            f"but got: {', '.join(names)}"
        )


def _check_towers(kind: str, inputs: list[str], groups: list[str]) -> None:
    check_unique(f"{kind}.towers.input", inputs)
    for name in inputs:
        if name not in groups:
            raise ConfigError(
                f"{kind}.towers.input must name a feature group, but got: `{name}`; "
                f"there are: {', '.join(groups)}"
            )
    for name in groups:
        if name not in inputs:
            raise ConfigError(
                f"each feature group must be the input of a {kind}.towers, but `{name}` is not"
            )
