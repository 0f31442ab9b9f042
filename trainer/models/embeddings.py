"""The embedding tables of a model, and their lookups by TorchRec.

    features             tables are in                     they give
    ids                  EmbeddingBagCollection            a vector a row, pooled
    weighted_ids         EmbeddingBagCollection, weighted  a vector a row, pooled with weights
    sequences            EmbeddingCollection               a vector a value
    queries of those     the same                          a vector a value
    all of those with    ManagedCollisionEmbedding-        a vector a value, pooled here where it
    zero-collision ids   Collection                        is to be one a row

Features that share an embedding_name share a table within a collection, not across collections: a
sequence shares it with the feature that queries it, not with that feature in a DEEP group.

B rows, T values of a sequence feature in all rows, D width of an embedding.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    EmbeddingCollection,
    EmbeddingConfig,
    JaggedTensor,
    KeyedJaggedTensor,
    PoolingType,
)

from trainer.config import ConfigError
from trainer.data.batch import SessionBatch
from trainer.data.features import (
    Feature,
    IdFeature,
    Part,
    RawFeature,
    ZeroCollision,
    raw_features,
)
from trainer.models.id_map import managed_collection
from trainer.models.sequence import JaggedSequence
from trainer.models.session_linear import asked_once_a_session

TableConfig = EmbeddingBagConfig | EmbeddingConfig


@dataclass(frozen=True)
class Lookup:
    """A feature as a feature group reads it.

    Attributes:
        part: of the batch; "sequences" also for an id feature that queries a sequence.
        table: empty for raw features.
        width: of the vector that is found, D.
        init_fn: of the table; empty for uniform values in +-sqrt(1 / rows).
    """

    feature: Feature
    part: Part
    table: str
    width: int
    init_fn: str

    @classmethod
    def of(cls, feature: Feature, is_query: bool = False) -> "Lookup":
        """As a DEEP or, with `is_query`, as a SEQUENCE group reads it."""
        if isinstance(feature, RawFeature):
            return cls(feature, feature.part, "", feature.dim, "")
        part: Part = "sequences" if is_query else feature.part
        return cls(feature, part, feature.table, feature.embedding_dim, feature.init_fn)

    @classmethod
    def wide(cls, feature: IdFeature, width: int, init_fn: str) -> "Lookup":
        """As a WIDE group reads it."""
        return cls(feature, feature.part, f"{feature.table}_wide", width, init_fn)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from other lookups."""
        return self.part, self.feature.name, self.table

    @property
    def zch(self) -> ZeroCollision | None:
        """The coding of ids that have rows of their own."""
        return self.feature.zch if isinstance(self.feature, IdFeature) else None


class Embedded(NamedTuple):
    """What tables and raw features give for a batch, by the keys of lookups.

    rows: a vector a row, [B, D].
    values: a vector a value, [T, D], and the lengths [B]; of sequences and of their queries.
    trained: the embeddings as the tables gave them.
    """

    rows: dict[tuple[str, str, str], Tensor]
    values: dict[tuple[str, str, str], JaggedTensor]
    trained: list[Tensor]


class EmbeddingTables(nn.Module):
    """Looks up every feature of a batch.

    Args:
        features: all that a batch holds, in its order.
        lookups: what feature groups read of them.
        device: of the tables; from "meta" sharding gives each rank the memory of its part.

    Attributes:
        asks_once_a_session: whether pooled features that are the same in all rows of a session are
            looked up in its first row alone in training, and are 0 in the others.
    """

    def __init__(
        self, features: list[Feature], lookups: Iterable[Lookup], device: str | torch.device
    ) -> None:
        super().__init__()
        self.asks_once_a_session = False
        self.dense = raw_features(features, "dense")
        self.lookups = list({lookup.key: lookup for lookup in lookups}.values())
        device = torch.device(device)
        self.pooled = _bags(self._of("ids"), device, is_weighted=False)
        self.weighted = _bags(self._of("weighted_ids"), device, is_weighted=True)
        self.sequences = nn.ModuleDict()  # one per width, as TorchRec demands
        sequences = self._of("sequences")
        for width in sorted({lookup.width for lookup in sequences}):
            same = [lookup for lookup in sequences if lookup.width == width]
            tables = [EmbeddingConfig(**table) for table in _tables(same)]
            self.sequences[str(width)] = EmbeddingCollection(tables, device=device)
        self.queries = [each.feature.name for each in sequences if each.feature.sequence is None]
        self.managed = nn.ModuleDict()
        for name, same in self._managed().items():
            codings = [each.zch for each in _first_of_tables(same) if each.zch is not None]
            tables = [EmbeddingConfig(**table) for table in _tables(same)]
            self.managed[name] = managed_collection(tables, codings, device)

    def _of(self, part: Part) -> list[Lookup]:
        return [each for each in self.lookups if each.part == part and each.zch is None]

    def _managed(self) -> dict[str, list[Lookup]]:
        """Lookups of zero-collision ids: a collection has one width, and each feature once."""
        found: dict[str, list[Lookup]] = {}
        for lookup in self.lookups:
            if isinstance(lookup.feature, IdFeature) and lookup.zch is not None:
                kind = "deep" if lookup.table == lookup.feature.table else "wide"
                found.setdefault(f"{kind}_{lookup.width}", []).append(lookup)
        return found

    def table_configs(self) -> dict[str, TableConfig]:
        """Of each table, by the name of its parameter in this module. Not once it is sharded."""
        found: dict[str, TableConfig] = {}
        for name, module in self.named_modules():
            if isinstance(module, EmbeddingBagCollection):
                for config in module.embedding_bag_configs():
                    found[f"{name}.embedding_bags.{config.name}.weight"] = config
            elif isinstance(module, EmbeddingCollection):
                for config in module.embedding_configs():
                    found[f"{name}.embeddings.{config.name}.weight"] = config
        return found

    def collections(self) -> dict[str, nn.Module]:
        """TorchRec's modules in here, by their names."""
        single = {"pooled": self.pooled, "weighted": self.weighted}
        found: dict[str, nn.Module] = {
            name: each for name, each in single.items() if each is not None
        }
        for kind in ("sequences", "managed"):
            for name, collection in getattr(self, kind).items():
                found[f"{kind}.{name}"] = collection
        return found

    def asked(self, batch: SessionBatch) -> dict[str, KeyedJaggedTensor]:
        """The ids that each of the `collections` is asked for."""
        once = self.asks_once_a_session and self.training
        found = {"pooled": asked_once_a_session(batch) if once else batch.ids}
        if batch.weighted_ids is not None:
            found["weighted"] = batch.weighted_ids
        if self.sequences:
            keyed = _keyed_ids(batch, self.queries)
            found |= {f"sequences.{width}": keyed for width in self.sequences}
        for name, lookups in self._managed().items():
            in_rows = [each.feature.name for each in lookups if each.feature.sequence is None]
            found[f"managed.{name}"] = _keyed_ids(batch, list(dict.fromkeys(in_rows)))
        return found

    def forward(self, batch: SessionBatch) -> Embedded:
        """Every lookup's rows or values."""
        asked = batch.asked or self.asked(batch)
        found = Embedded({}, {}, [])
        columns = batch.dense.split([feature.dim for feature in self.dense], dim=1)
        for feature, column in zip(self.dense, columns, strict=True):
            found.rows[Lookup.of(feature).key] = column
        if self.pooled is not None:
            self._add_rows(found, "ids", self.pooled(asked["pooled"]))
        if self.weighted is not None:
            self._add_rows(found, "weighted_ids", self.weighted(asked["weighted"]))
        for width, collection in self.sequences.items():
            by_name = collection(asked[f"sequences.{width}"])
            for lookup in self._of("sequences"):
                if str(lookup.width) == width:
                    jagged = by_name[lookup.feature.name]
                    found.values[lookup.key] = pool_items(jagged, lookup.feature, batch.items)
                    found.trained.append(jagged.values())
        for name, lookups in self._managed().items():
            by_name, _ = self.managed[name](asked[f"managed.{name}"])
            _add_managed(found, lookups, by_name, batch.items)
        for lookup in self._of("sequence_dense"):
            found.values[lookup.key] = batch.sequence_dense[lookup.feature.name]
        return found

    def _add_rows(self, found: Embedded, part: Part, keyed: Any) -> None:
        """What an EmbeddingBagCollection gave: a KeyedTensor, its keys in the order of shards."""
        found.trained.append(keyed.values())
        columns = keyed.values().split(keyed.length_per_key(), dim=1)
        by_key = dict(zip(keyed.keys(), columns, strict=True))
        for lookup in self._of(part):
            name = lookup.feature.name  # with the table's where the feature is in several
            key = name if name in by_key else f"{name}@{lookup.table}"
            found.rows[lookup.key] = by_key[key]


def _keyed_ids(batch: SessionBatch, names: list[str]) -> KeyedJaggedTensor:
    """The ids of all sequences, and of the features `names` that are none."""
    parts = [] if batch.sequences is None else [batch.sequences]
    if names:
        keys = batch.ids.keys()
        parts.append(batch.ids.permute([keys.index(name) for name in names]))
    return parts[0] if len(parts) == 1 else KeyedJaggedTensor.concat(parts)


def pool_items(
    jagged: JaggedTensor, feature: Feature, items: dict[str, JaggedTensor]
) -> JaggedTensor:
    """A vector an item, [T, D], of one an id, [V, D], where items have any number of ids."""
    if not isinstance(feature, IdFeature) or not feature.pools_items:
        return jagged
    ids = JaggedSequence.of(jagged.values(), items[feature.name].values())
    pooled = ids.pooled(is_mean=feature.pooling == "mean")
    return JaggedTensor(pooled, lengths=items[feature.name].lengths())


def _add_managed(
    found: Embedded,
    lookups: list[Lookup],
    by_name: dict[str, JaggedTensor],
    items: dict[str, JaggedTensor],
) -> None:
    """What a managed collection gave, pooled for lookups that are not of sequences."""
    found.trained.extend(jagged.values() for jagged in by_name.values())
    for lookup in lookups:
        assert isinstance(lookup.feature, IdFeature)
        jagged = by_name[lookup.feature.name]
        if lookup.part == "sequences":
            found.values[lookup.key] = pool_items(jagged, lookup.feature, items)
        else:
            sequence = JaggedSequence.of(jagged.values(), jagged.lengths())
            found.rows[lookup.key] = sequence.pooled(is_mean=lookup.feature.pooling == "mean")


def _bags(
    lookups: list[Lookup], device: torch.device, is_weighted: bool
) -> EmbeddingBagCollection | None:
    if not lookups:
        return None
    tables = []
    for table, lookup in zip(_tables(lookups), _first_of_tables(lookups), strict=True):
        assert isinstance(lookup.feature, IdFeature)
        pooling = PoolingType.SUM if lookup.feature.pooling == "sum" else PoolingType.MEAN
        tables.append(EmbeddingBagConfig(**table, pooling=pooling))
    return EmbeddingBagCollection(tables, is_weighted=is_weighted, device=device)


def _first_of_tables(lookups: list[Lookup]) -> list[Lookup]:
    """The first lookup in each table; they agree in what makes the table."""
    return list({lookup.table: lookup for lookup in reversed(lookups)}.values())[::-1]


def _tables(lookups: list[Lookup]) -> list[dict[str, Any]]:
    """What TorchRec's configs of the tables have in common: one table per name."""
    tables = []
    for first in _first_of_tables(lookups):
        assert isinstance(first.feature, IdFeature)
        sharing = [each.feature.name for each in lookups if each.table == first.table]
        sharing = list(dict.fromkeys(sharing))  # a feature may also query a sequence
        tables.append(
            {
                "name": first.table,
                "embedding_dim": first.width,
                "num_embeddings": first.feature.num_embeddings,
                "feature_names": sharing,
                "init_fn": init_function(first.init_fn) if first.init_fn else None,
            }
        )
    return tables


_INIT_ARGUMENTS = {
    "uniform_": ("a", "b"),
    "normal_": ("mean", "std"),
    "constant_": ("val",),
    "zeros_": (),
    "ones_": (),
}


def init_function(text: str) -> Any:
    """`nn.init.uniform_,a=-0.01,b=0.01` as the function that fills a tensor in place.

    Raises:
        ConfigError: another function, another argument, or a value that is no number.
    """
    name, *arguments = (part.strip() for part in text.split(","))
    known = _INIT_ARGUMENTS.get(name.removeprefix("nn.init."))
    try:
        pairs = [argument.split("=") for argument in arguments]
        values = {key.strip(): float(value) for key, value in pairs}
        if known is None or not name.startswith("nn.init.") or not set(values) <= set(known):
            raise ValueError
    except ValueError:
        rules = [f"{key}({', '.join(names)})" for key, names in _INIT_ARGUMENTS.items()]
        raise ConfigError(
            f"init_fn must be nn.init.NAME,ARGUMENT=NUMBER,... with NAME and its arguments of "
            f"{', '.join(rules)}, but got: `{text}`"
        ) from None
    return partial(getattr(nn.init, name.removeprefix("nn.init.")), **values)
