"""The embedding tables of a model, and their lookups by TorchRec.

    collection           is an                             of
    pooled               EmbeddingBagCollection            ids
    weighted             EmbeddingBagCollection, weighted  weighted_ids
    sequences.WIDTH      EmbeddingCollection               sequences and queries of those
    managed.KIND_WIDTH   ManagedCollisionEmbedding-        all of those with zero-collision ids
                         Collection

trainer/models/lookups.py says which feature is where, and what shares a table.

B rows, T values of a sequence feature in all rows, D width of an embedding.
"""

import itertools
from collections.abc import Container, Iterable
from dataclasses import replace
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

from trainer.data.batch import SessionBatch
from trainer.data.features import Feature, IdFeature, Part, raw_features
from trainer.data.jagged_sequence import JaggedSequence
from trainer.models.id_map import managed_collection
from trainer.models.init_functions import init_function
from trainer.models.lookups import Lookup, check_shared_tables
from trainer.models.session_linear import asked_once_a_session

TableConfig = EmbeddingBagConfig | EmbeddingConfig


class Embedded(NamedTuple):
    """What tables and raw features give for a batch, by the keys of lookups.

    rows: a vector a row, [B, D].
    values: a vector a value, [T, D], and the lengths [B]; of sequences and of their queries.
    trained: the embeddings as the tables gave them, those of frozen tables left out.
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
        lookups = list(lookups)
        check_shared_tables(lookups)
        self.lookups = list({lookup.key: lookup for lookup in lookups}.values())
        device = torch.device(device)
        self.pooled = _bags(self._of("ids"), device, is_weighted=False)
        self.weighted = _bags(self._of("weighted_ids"), device, is_weighted=True)
        self.sequences = nn.ModuleDict()  # one per width, as TorchRec demands
        for width, same in self._by_name("sequences").items():
            tables = [EmbeddingConfig(**table) for table in _tables(same)]
            self.sequences[width] = EmbeddingCollection(tables, device=device)
        in_rows = [each for each in self._of("sequences") if each.feature.sequence is None]
        self.queries = list(dict.fromkeys(each.feature.name for each in in_rows))
        self.managed = nn.ModuleDict()
        for name, same in self._by_name("managed").items():
            codings = [each.zch for each in _first_of_tables(same) if each.zch is not None]
            tables = [EmbeddingConfig(**table) for table in _tables(same)]
            self.managed[name] = managed_collection(tables, codings, device)

    def _of(self, part: Part) -> list[Lookup]:
        return [each for each in self.lookups if each.part == part and each.zch is None]

    def _by_name(self, kind: str) -> dict[str, list[Lookup]]:
        """The lookups of each of the collections `kind.NAME`, by NAME."""
        found: dict[str, list[Lookup]] = {}
        for lookup in self.lookups:
            kind_of_lookup, _, name = lookup.collection.partition(".")
            if kind_of_lookup == kind:
                found.setdefault(name, []).append(lookup)
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

    def frozen(self) -> set[str]:
        """The tables that training does not move, by the names of `table_configs`."""
        return {each.parameter for each in self.lookups if each.table and not each.is_trained}

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

    def asked(self, batch: SessionBatch, is_training: bool) -> dict[str, KeyedJaggedTensor]:
        """The ids that each of the `collections` is asked for."""
        once = self.asks_once_a_session and is_training
        found = {"pooled": asked_once_a_session(batch) if once else batch.ids}
        if batch.weighted_ids is not None:
            found["weighted"] = batch.weighted_ids
        if self.sequences:
            keyed = _keyed_ids(batch, self.queries)
            found |= {f"sequences.{width}": keyed for width in self.sequences}
        for name, lookups in self._by_name("managed").items():
            in_rows = [each.feature.name for each in lookups if each.feature.sequence is None]
            found[f"managed.{name}"] = _keyed_ids(batch, list(dict.fromkeys(in_rows)))
        return found

    def with_asked(self, batch: SessionBatch) -> SessionBatch:
        """A batch to train on, with what the tables will be asked, unless it has that."""
        return replace(batch, asked=batch.asked or self.asked(batch, is_training=True))

    def forward(self, batch: SessionBatch) -> Embedded:
        """Every lookup's rows or values."""
        asked = batch.asked or self.asked(batch, self.training)
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
            for lookup in self._by_name("sequences")[width]:
                jagged = by_name[_output_key(lookup, by_name.keys())]
                found.values[lookup.key] = pool_items(jagged, lookup.feature, batch.items)
                if lookup.is_trained:
                    found.trained.append(jagged.values())
        for name, lookups in self._by_name("managed").items():
            by_name, _ = self.managed[name](asked[f"managed.{name}"])
            _add_managed(found, lookups, by_name, batch.items)
        for lookup in self._of("sequence_dense"):
            found.values[lookup.key] = batch.sequence_dense[lookup.feature.name]
        return found

    def _add_rows(self, found: Embedded, part: Part, keyed: Any) -> None:
        """What an EmbeddingBagCollection gave: a KeyedTensor, its keys in the order of shards."""
        columns = keyed.values().split(keyed.length_per_key(), dim=1)
        by_key = dict(zip(keyed.keys(), columns, strict=True))
        lookups = self._of(part)
        rows = [by_key[_output_key(lookup, by_key)] for lookup in lookups]
        found.rows.update(zip((lookup.key for lookup in lookups), rows, strict=True))
        is_trained = [lookup.is_trained for lookup in lookups]
        found.trained.extend(
            [keyed.values()] if all(is_trained) else itertools.compress(rows, is_trained)
        )


def _output_key(lookup: Lookup, keys: Container[str]) -> str:
    """By which a collection gives a lookup: with the table where the feature is in several."""
    name = lookup.feature.name
    return name if name in keys else f"{name}@{lookup.table}"


def _keyed_ids(batch: SessionBatch, names: list[str]) -> KeyedJaggedTensor:
    """The ids of all sequences, and of the features `names` that are none."""
    parts = [] if batch.sequences is None else [batch.sequences]
    for keyed in (batch.ids, batch.weighted_ids):
        keys = [] if keyed is None else keyed.keys()
        places = [keys.index(name) for name in names if name in keys]
        if keyed is not None and places:
            parts.append(_without_weights(keyed.permute(places)))
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


def _without_weights(keyed: KeyedJaggedTensor) -> KeyedJaggedTensor:
    if keyed.weights_or_none() is None:
        return keyed
    return KeyedJaggedTensor(
        keyed.keys(),
        keyed.values(),
        lengths=keyed.lengths(),
        stride=keyed.stride(),
        length_per_key=keyed.length_per_key(),
    )


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
        rows, width = first.feature.num_embeddings, first.width
        init_fn = init_function(first.init_fn, rows, width) if first.init_fn else None
        tables.append(
            {
                "name": first.table,
                "embedding_dim": width,
                "num_embeddings": rows,
                "feature_names": sharing,
                "init_fn": init_fn,
            }
        )
    return tables
