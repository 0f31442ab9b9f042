"""What a model reads of a row: id features (looked up in embedding tables) and raw features.

A feature lies in one part of a SessionBatch, which `Feature.part` names:

    ids             id features, also numbers with boundaries: one embedding a row, pooled
    weighted_ids    the same with a weight per id
    sequences       ids of a sequence, in stored order: one embedding a value, not pooled
    dense           raw features
    sequence_dense  raw features of a sequence
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from preprocessing.normalizer import Expression, Normalizer
from trainer.data.vocabulary import Vocabulary
from trainer.protos import pipeline_pb2 as pb

Part = Literal["ids", "weighted_ids", "sequences", "dense", "sequence_dense"]


@dataclass(frozen=True)
class Sequence:
    """The sequence that a feature is of.

    name: sequence_name; of a sequence of its own the feature's name. Features of one sequence have
        equally many values in a row.
    max_length: a longer one keeps its first values; 0 is no limit.
    delimiter: between the items, where the column holds text.
    """

    name: str
    max_length: int
    delimiter: str


@dataclass(frozen=True)
class Ids:
    """Values are ids of the table, in [0, num_embeddings)."""


@dataclass(frozen=True)
class Hashed:
    """The id is xxhash64(value) modulo num_embeddings."""


@dataclass(frozen=True)
class Boundaries:
    """The id is how many limits (rising, float32) are not above the normalized number."""

    limits: tuple[float, ...]
    normalizer: Normalizer | None


@dataclass(frozen=True)
class ZeroCollision:
    """The id is a 63-bit xxhash64(value), which TorchRec maps to a row of its own.

    policy: of eviction: "lfu", "lru" or "distance_lfu"; decay_exponent is of the latter two.
    eviction_interval: global batches between evictions.
    """

    policy: str
    decay_exponent: float
    eviction_interval: int


@dataclass(frozen=True)
class Combination:
    """Each combination of a value of every column, as text joined by "_".

    A row without a value in one of the columns has none.
    """

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Formula:
    """A number by an expression of the columns; none where one of them has none."""

    expression: Expression

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, which are the expression's variables."""
        return self.expression.names


Source = Combination | Formula
Coding = Ids | Hashed | Vocabulary | Boundaries | ZeroCollision


@dataclass(frozen=True)
class IdFeature:
    """A categorical feature: zero, one or more ids per row, pooled, or a sequence of ids.

    Attributes:
        name: the feature's, and its key in the batch; `sequence__feature` in a grouped sequence.
        column: what is read.
        source: what the column is computed of, if it is not in the data.
        table: embedding_name; features that share it share the table.
        coding: how values become ids.
        pooling: "sum" or "mean"; of no meaning in a sequence whose items have one id.
        is_weighted: values have weights: maps, or text `id:weight`.
        joins_weighted: values have none, but some feature with weights shares the table; each
            value then has the weight 1, so that they are looked up together.
        sequence: None for a feature that is pooled.
        default_values: texts in place of no value; empty for none.
        separator: between the values of a row (of an item in a sequence), where they are text.
        max_values: a row (an item in a sequence) keeps its first ones; 0 is no limit.
        pools_items: whether an item of a sequence has any number of ids, which are pooled.
        init_fn: as the config writes it; empty for uniform values.
        constraints: on the table's sharding.
        trainable: whether training moves the table.
    """

    name: str
    column: str
    table: str
    embedding_dim: int
    num_embeddings: int
    coding: Coding
    pooling: str = "sum"
    is_weighted: bool = False
    joins_weighted: bool = False
    sequence: Sequence | None = None
    default_values: tuple[str, ...] = ()
    separator: str = "\x1d"
    max_values: int = 0
    init_fn: str = ""
    constraints: pb.ParameterConstraints | None = None
    trainable: bool = True
    source: Source | None = None
    pools_items: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that it needs."""
        return (self.column,) if self.source is None else self.source.columns

    @property
    def part(self) -> Part:
        """The attribute of SessionBatch that holds it."""
        if self.sequence is not None:
            return "sequences"
        return "weighted_ids" if self.is_weighted or self.joins_weighted else "ids"

    @property
    def items(self) -> str:
        """The name under which encoded rows have the number of ids of each item."""
        return f"{self.name}.items"  # no feature's: those have no dots

    @property
    def zch(self) -> ZeroCollision | None:
        """Its coding, if ids have rows of their own."""
        return self.coding if isinstance(self.coding, ZeroCollision) else None


@dataclass(frozen=True)
class NumberEmbedding:
    """How a number becomes an embedding, see trainer/models/numbers.py.

    width: of the embedding, D.
    num_channels: of AutoDis, with keep_prob and temperature; 0 for a product with a matrix.
    """

    width: int
    num_channels: int = 0
    temperature: float = 0.0
    keep_prob: float = 0.0


@dataclass(frozen=True)
class RawFeature:
    """A numeric feature of `dim` float32 values a row, or a value of a sequence.

    `default_values`, `dim` of them, take the place of null and of empty text or lists, and are
    not normalized. None in a sequence: an empty one stays empty. `embedding` is None where groups
    see the numbers themselves.
    """

    name: str
    column: str
    dim: int = 1
    default_values: tuple[float, ...] = (0.0,)
    normalizer: Normalizer | None = None
    separator: str = "\x1d"
    sequence: Sequence | None = None
    source: Source | None = None
    embedding: NumberEmbedding | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that it needs."""
        return (self.column,) if self.source is None else self.source.columns

    @property
    def width(self) -> int:
        """Of what groups see of it."""
        return self.dim if self.embedding is None else self.embedding.width

    @property
    def part(self) -> Part:
        """The attribute of SessionBatch that holds it."""
        return "dense" if self.sequence is None else "sequence_dense"


Feature = IdFeature | RawFeature


def id_features(features: Iterable[Feature], part: Part) -> list[IdFeature]:
    """Those in `part`: "ids", "weighted_ids" or "sequences"; the part's keys in their order."""
    return [f for f in features if isinstance(f, IdFeature) and f.part == part]


def raw_features(features: Iterable[Feature], part: Part = "dense") -> list[RawFeature]:
    """Those in `part`: "dense", side by side in that order, or "sequence_dense"."""
    return [f for f in features if isinstance(f, RawFeature) and f.part == part]
