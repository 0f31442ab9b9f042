"""Feature groups: what a network sees of a row.

    group type    the network's inputs
    DEEP          `NAME` [B, D]: embeddings and raw values side by side, then encoded sequences
    WIDE          `NAME` [B, D]: embeddings from narrow tables of their own
    SEQUENCE      `NAME.query` [B, Q], `NAME.sequence` [T, D], `NAME.lengths` [B]

B rows, T values of a sequence in all rows. In a SEQUENCE group the features that are no sequences
are the query.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import read_groups
from trainer.data.features import Feature, IdFeature, RawFeature
from trainer.data.jagged_sequence import JaggedSequence
from trainer.models.embeddings import Embedded
from trainer.models.lookups import Lookup
from trainer.models.numbers import NumberEmbeddings
from trainer.models.sequence import build_encoder
from trainer.models.session_linear import Sessions, side_by_side
from trainer.protos import pipeline_pb2 as pb


@dataclass(frozen=True)
class GroupPlan:
    """What makes up a group.

    Attributes:
        name: of the group.
        rows: lookups with a vector a row; in a sequence group its query.
        values: lookups with a vector a value; in a sequence group alone.
        encoders: of sequences in a DEEP group: the sequence group and how it is encoded.
        is_inner: whether it is a sequence group in a DEEP group, which the network does not see.
    """

    name: str
    rows: tuple[Lookup, ...]
    values: tuple[Lookup, ...] = ()
    encoders: tuple[tuple[str, pb.SeqEncoderConfig], ...] = ()
    is_inner: bool = False

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """All of them."""
        return self.rows + self.values


def plan_groups(features: list[Feature], model: pb.ModelConfig) -> list[GroupPlan]:
    """The groups of a model, a DEEP group after the sequence groups in it."""
    by_name = {feature.name: feature for feature in features}
    net: Any = getattr(model, model.WhichOneof("model") or "")
    plans = []
    for group in read_groups(model):
        members = [by_name[name] for name in group.feature_names]
        suffix = group.embedding_name_suffix
        if group.group_type == pb.SEQUENCE:
            plans.append(_sequence_plan(group.group_name, members, suffix))
        elif group.group_type == pb.WIDE:
            ids = [feature for feature in members if isinstance(feature, IdFeature)]
            width, init_fn = net.wide_embedding_dim, net.wide_init_fn
            wide = tuple(Lookup.wide(each, width, init_fn, suffix) for each in ids)
            plans.append(GroupPlan(group.group_name, wide))
        else:
            for inner in group.sequence_groups:
                members_of_inner = [by_name[name] for name in inner.feature_names]
                name = sequence_group_name(inner, group)
                suffix_of_inner = inner.embedding_name_suffix or suffix
                plans.append(_sequence_plan(name, members_of_inner, suffix_of_inner, is_inner=True))
            encoders = tuple((encoder_input(each, group), each) for each in group.sequence_encoders)
            rows = tuple(Lookup.of(each, suffix=suffix) for each in members)
            plans.append(GroupPlan(group.group_name, rows, encoders=encoders))
    return plans


def sequence_group_name(inner: pb.SeqGroupConfig, group: pb.FeatureGroupConfig) -> str:
    """Its own name, or that of the feature group in which it stands."""
    return inner.group_name or group.group_name


def encoder_input(encoder: pb.SeqEncoderConfig, group: pb.FeatureGroupConfig) -> str:
    """The sequence group that an encoder reads: the one it names, or the only one."""
    named = getattr(encoder, encoder.WhichOneof("seq_module") or "").input
    return named or sequence_group_name(group.sequence_groups[0], group)


def _sequence_plan(
    name: str, members: list[Feature], suffix: str, is_inner: bool = False
) -> GroupPlan:
    lookups = [Lookup.of(each, is_query=each.sequence is None, suffix=suffix) for each in members]
    query = tuple(each for each in lookups if each.feature.sequence is None)
    values = tuple(each for each in lookups if each.feature.sequence is not None)
    return GroupPlan(name, query, values, is_inner=is_inner)


class FeatureGroups(nn.Module):
    """Lays each group's features side by side; encodes the sequences of DEEP groups.

    Attributes:
        widths: of each of the network's inputs, the widths of what stands side by side in it.
    """

    def __init__(self, plans: list[GroupPlan]) -> None:
        super().__init__()
        self.plans = plans
        self.encoders = nn.ModuleDict()
        self.numbers = NumberEmbeddings(each for plan in plans for each in plan.lookups)
        all_widths: dict[str, tuple[int, ...]] = {}
        inner: set[str] = set()
        for plan in plans:
            rows = _widths(plan.rows)
            if plan.values:
                keys = (f"{plan.name}.query", f"{plan.name}.sequence")
                all_widths |= dict(zip(keys, (rows, _widths(plan.values)), strict=True))
                inner |= set(keys) if plan.is_inner else set()
                continue
            encoders = [build_encoder(config, seq, all_widths) for seq, config in plan.encoders]
            all_widths[plan.name] = rows + tuple(encoder.width for encoder in encoders)
            if encoders:
                self.encoders[plan.name] = nn.ModuleList(encoders)
        self.widths = {name: each for name, each in all_widths.items() if name not in inner}

    def forward(self, embedded: Embedded, sessions: Sessions | None = None) -> dict[str, Any]:
        """The network's inputs; with `sessions` as SplitFeatures where that saves work."""
        inputs: dict[str, Any] = {}
        for plan in self.plans:
            parts = [self._row(lookup, embedded) for lookup in plan.rows]
            if plan.values:
                values = [embedded.values[lookup.key] for lookup in plan.values]
                if parts:
                    inputs[f"{plan.name}.query"] = torch.cat(parts, dim=1)
                _check_equal_lengths(plan, [each.lengths() for each in values])
                inputs[f"{plan.name}.sequence"] = torch.cat([v.values() for v in values], dim=1)
                inputs[f"{plan.name}.lengths"] = values[0].lengths()
            else:
                if plan.encoders:
                    parts += [encode(inputs) for encode in self.encoders[plan.name].children()]
                names = [lookup.feature.name for lookup in plan.rows]
                names += [""] * len(plan.encoders)  # an encoded sequence has no column of its own
                inputs[plan.name] = side_by_side(parts, names, sessions)
        return inputs

    def _row(self, lookup: Lookup, embedded: Embedded) -> Tensor:
        """A vector a row: as it was found, of a number embedded, or a query's values pooled."""
        if lookup.part != "sequences":
            return self.numbers.of(lookup, embedded.rows[lookup.key])
        assert isinstance(lookup.feature, IdFeature)
        jagged = embedded.values[lookup.key]
        sequence = JaggedSequence.of(jagged.values(), jagged.lengths())
        return sequence.pooled(is_mean=lookup.feature.pooling == "mean")


def _widths(lookups: tuple[Lookup, ...]) -> tuple[int, ...]:
    """Of what a group sees of each."""
    pairs = ((lookup.feature, lookup.width) for lookup in lookups)
    return tuple(each.width if isinstance(each, RawFeature) else width for each, width in pairs)


def _check_equal_lengths(plan: GroupPlan, lengths: list[Tensor]) -> None:
    """Features of one sequence are as long as each other; those of several must be."""
    names = [lookup.feature.sequence.name for lookup in plan.values if lookup.feature.sequence]
    for name, other in zip(names[1:], lengths[1:], strict=True):
        if name == names[0]:
            continue
        are_equal = (other == lengths[0]).all()
        if other.device.type != "cpu" or torch.compiler.is_exporting():  # no stop of the device
            torch._assert_async(are_equal)
        elif not are_equal:
            raise ValueError(
                f"sequence group `{plan.name}`: its sequences must be equally long in each row, "
                f"but `{name}` and `{names[0]}` are not; put them into groups of their own"
            )
