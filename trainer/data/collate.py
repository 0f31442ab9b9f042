"""Encoded rows -> the features of a SessionBatch."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrec import JaggedTensor, KeyedJaggedTensor

from trainer.data.features import Feature, IdFeature
from trainer.data.rows import Lists, Rows


def collate_features(rows: Rows, features: Iterable[Feature]) -> dict[str, Any]:
    """What a SessionBatch holds of rows' features, by its attributes' names."""
    by_part: dict[str, dict[str, Lists]] = defaultdict(dict)
    items: dict[str, Lists] = {}
    for feature in features:
        if feature.name in rows.lists:
            by_part[feature.part][feature.name] = rows.lists[feature.name]
        if isinstance(feature, IdFeature) and feature.pools_items:
            items[feature.name] = rows.lists[feature.items]
    weighted, sequences = by_part["weighted_ids"], by_part["sequences"]
    return {
        "ids": _ids(rows, by_part["ids"]),
        "weighted_ids": _keyed_jagged(weighted, rows.num_rows) if weighted else None,
        "sequences": _keyed_jagged(sequences, rows.num_rows) if sequences else None,
        "dense": torch.from_numpy(rows.dense),
        "sequence_dense": _jagged(by_part["sequence_dense"]),
        "items": _jagged(items),
    }


def _jagged(lists: dict[str, Lists]) -> dict[str, JaggedTensor]:
    return {
        name: JaggedTensor(torch.from_numpy(each.values), lengths=_lengths(each))
        for name, each in lists.items()
    }


def _ids(rows: Rows, lists: dict[str, Lists]) -> KeyedJaggedTensor:
    """All ids, key after key: the features that mostly have one id a row, then the others."""
    if rows.further:
        lists = {name: rows.ids_of(name) for name in rows.names} | lists
        return _keyed_jagged(lists, rows.num_rows)
    values = torch.from_numpy(rows.scalars.reshape(-1))
    lengths = torch.ones(len(values), dtype=torch.int32)
    if rows.has_id is not None:
        present = torch.from_numpy(rows.has_id.reshape(-1))
        values, lengths = values[present], present.int()
    if lists:
        values = torch.cat([values, *(torch.from_numpy(each.values) for each in lists.values())])
        lengths = torch.cat([lengths, *map(_lengths, lists.values())])
    return KeyedJaggedTensor(
        keys=[*rows.names, *lists], values=values, lengths=lengths, stride=rows.num_rows
    ).sync()  # counts the ids of each key here: on a device that would stop it


def _keyed_jagged(lists: dict[str, Lists], num_rows: int) -> KeyedJaggedTensor:
    """Features with any number of values a row, with weights where they have them."""
    weights = [each.weights for each in lists.values() if each.weights is not None]
    return KeyedJaggedTensor(
        keys=list(lists),
        values=torch.from_numpy(np.concatenate([each.values for each in lists.values()])),
        weights=torch.from_numpy(np.concatenate(weights)) if weights else None,
        lengths=torch.cat([_lengths(each) for each in lists.values()]),
        stride=num_rows,
    ).sync()


def _lengths(lists: Lists) -> Tensor:
    return torch.from_numpy(lists.lengths).int()
