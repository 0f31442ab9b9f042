"""What feature groups look up: each feature's table, and the collection that the table is in.

    lookups                   collection        tables of it give
    ids                       pooled            a vector a row, pooled
    weighted_ids              weighted          a vector a row, pooled with weights
    sequences, their queries  sequences.WIDTH   a vector a value
    zero-collision ids        managed.KIND_WIDTH
                                                a vector a value, pooled later where it is to be
                                                one a row

Lookups of one table name share the table within a collection. In several collections they are
several tables: a sequence shares its table with the feature that queries it, not with that feature
in a DEEP group.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.config import ConfigError
from trainer.data.features import Feature, IdFeature, Part, RawFeature, ZeroCollision


@dataclass(frozen=True)
class Lookup:
    """A feature as a feature group reads it.

    Attributes:
        part: of the batch; "sequences" also for an id feature that queries a sequence.
        table: empty for raw features.
        width: of the vector that is found, D.
        init_fn: of the table; empty for uniform values in +-sqrt(1 / rows).
        kind: of the table: `deep` or `wide`, and the group's embedding_name_suffix after a `_`.
    """

    feature: Feature
    part: Part
    table: str
    width: int
    init_fn: str
    kind: str = ""

    @classmethod
    def of(cls, feature: Feature, is_query: bool = False, suffix: str = "") -> "Lookup":
        """As a DEEP or, with `is_query`, as a SEQUENCE group reads it.

        Args:
            suffix: the group's embedding_name_suffix.
        """
        if isinstance(feature, RawFeature):
            return cls(feature, feature.part, "", feature.dim, "")
        part: Part = "sequences" if is_query else feature.part
        table, kind = _suffixed(feature.table, suffix), _suffixed("deep", suffix)
        return cls(feature, part, table, feature.embedding_dim, feature.init_fn, kind)

    @classmethod
    def wide(cls, feature: IdFeature, width: int, init_fn: str, suffix: str = "") -> "Lookup":
        """As a WIDE group reads it; `init_fn` takes the place of the feature's unless empty."""
        table, kind = _suffixed(f"{feature.table}_wide", suffix), _suffixed("wide", suffix)
        return cls(feature, feature.part, table, width, init_fn or feature.init_fn, kind)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from other lookups."""
        return self.part, self.feature.name, self.table

    @property
    def zch(self) -> ZeroCollision | None:
        """The coding of ids that have rows of their own."""
        return self.feature.zch if isinstance(self.feature, IdFeature) else None

    @property
    def is_trained(self) -> bool:
        """Whether training moves its table."""
        return isinstance(self.feature, IdFeature) and self.feature.trainable

    @property
    def collection(self) -> str:
        """As EmbeddingTables.collections names it; empty for raw features.

        In a managed one there is each feature once.
        """
        if not self.table:
            return ""
        if self.zch is not None:
            return f"managed.{self.kind}_{self.width}"
        names = {"ids": "pooled", "weighted_ids": "weighted"}
        return names.get(self.part, f"sequences.{self.width}")

    @property
    def parameter(self) -> str:
        """Its table's name among the parameters of EmbeddingTables; not of a managed collection."""
        kind = "embeddings" if self.part == "sequences" else "embedding_bags"
        return f"{self.collection}.{kind}.{self.table}.weight"


def _suffixed(table: str, suffix: str) -> str:
    return f"{table}_{suffix}" if suffix else table


def check_shared_tables(lookups: Iterable[Lookup]) -> None:
    """Lookups that share a table must agree in what it is. Raises ConfigError."""
    tables: dict[tuple[str, str], Lookup] = {}
    for lookup in lookups:
        if lookup.table:
            _check_alike(tables.setdefault((lookup.collection, lookup.table), lookup), lookup)


def _check_alike(first: Lookup, other: Lookup) -> None:
    mine, theirs = first.feature, other.feature
    assert isinstance(mine, IdFeature) and isinstance(theirs, IdFeature)
    share = f"id_features `{mine.name}` and `{theirs.name}` share "
    if mine.table != theirs.table or first.kind != other.kind:
        raise ConfigError(
            f"{share}the table `{first.table}` by accident, as their groups add to embedding_name: "
            f"`{mine.table}` ({first.kind}) and `{theirs.table}` ({other.kind}); choose another "
            f"embedding_name or embedding_name_suffix"
        )
    fields = {
        "embedding_dim": (first.width, other.width),
        "num_embeddings": (mine.num_embeddings, theirs.num_embeddings),
        "init_fn": (first.init_fn, other.init_fn),
        "zch": (first.zch, other.zch),
        "trainable": (mine.trainable, theirs.trainable),
    }
    if first.collection in ("pooled", "weighted"):  # others are pooled, if at all, lookup by lookup
        fields["pooling"] = (mine.pooling, theirs.pooling)
    for field, (value, other_value) in fields.items():
        if value != other_value:
            raise ConfigError(
                f"{share}embedding_name `{mine.table}`, so their {field} must be equal, "
                f"but got: {value} and {other_value}"
            )
