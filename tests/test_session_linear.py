"""Features that do not change in a session: found, and computed once a session to the same end."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from trainer.data.session_features import session_features
from trainer.models.session_linear import (
    SessionLinear,
    Sessions,
    SplitFeatures,
    side_by_side,
)

OFFSETS = [[0, 1], [0, 4], [0, 3, 5, 6], [0, 1, 2, 3, 4]]
NAMES = ("user", "item", "age", "place")
OF_SESSION = frozenset({"user", "age"})


def columns(offsets: list[int], width: int = 3) -> list[Tensor]:
    """Of NAMES, [B, width] each, float64; those of OF_SESSION the same in each session's rows."""
    torch.manual_seed(len(offsets))
    lengths = torch.tensor(offsets).diff()
    found = []
    for name in NAMES:
        once = torch.randn(len(lengths), width, dtype=torch.float64)
        rows = torch.randn(offsets[-1], width, dtype=torch.float64)
        column = once.repeat_interleave(lengths, dim=0) if name in OF_SESSION else rows
        found.append(column.requires_grad_())
    return found


def sessions_of(offsets: list[int]) -> Sessions:
    lengths = torch.tensor(offsets).diff()
    of_row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return Sessions(OF_SESSION, torch.tensor(offsets[:-1]), of_row)


@pytest.mark.parametrize("offsets", OFFSETS, ids=str)
def test_outputs_and_gradients_are_those_of_a_plain_layer(offsets: list[int]) -> None:
    layer = SessionLinear(12, 5).double()
    parts = columns(offsets)
    upstream = torch.randn(offsets[-1], 5, dtype=torch.float64)
    wanted = [layer.weight, layer.bias, *parts]

    plain = layer(torch.cat(parts, dim=1))
    expected = torch.autograd.grad((plain * upstream).sum(), wanted)
    features = side_by_side(parts, NAMES, sessions_of(offsets))
    assert isinstance(features, SplitFeatures)
    split = layer(features)
    found = torch.autograd.grad((split * upstream).sum(), wanted)

    torch.testing.assert_close(split, plain)
    torch.testing.assert_close(found[:2], expected[:2])
    of_row = sessions_of(offsets).of_row
    for name, mine, theirs in zip(NAMES, found[2:], expected[2:], strict=True):
        if name in OF_SESSION:  # what a table gets: the sum over the rows with its id
            empty = torch.zeros(len(offsets) - 1, 3, dtype=torch.float64)
            mine, theirs = empty.index_add(0, of_row, mine), empty.index_add(0, of_row, theirs)
        torch.testing.assert_close(mine, theirs)


def test_features_stay_in_one_piece_where_a_split_saves_nothing() -> None:
    parts, offsets = columns([0, 3, 5, 6]), [0, 3, 5, 6]
    everywhere = sessions_of(offsets)._replace(features=frozenset(NAMES))
    nowhere = sessions_of(offsets)._replace(features=frozenset())
    for sessions in (None, everywhere, nowhere):
        assert torch.equal(side_by_side(parts, NAMES, sessions), torch.cat(parts, dim=1))  # pyright: ignore[reportArgumentType]  # a tensor


def test_the_features_of_sessions_are_found() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(1, 4, rng.integers(1, 5))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = rng.integers(0, 2, (6, offsets[-1]))
        names = [f"f{number}" for number in range(len(ids))]
        same = {
            name
            for name, row in zip(names, ids, strict=True)
            if all(len(set(row[a:b])) == 1 for a, b in pairwise(offsets))
        }
        keyed = KeyedJaggedTensor.from_lengths_sync(
            names, torch.from_numpy(ids.reshape(-1)), torch.ones(ids.size, dtype=torch.int32)
        )
        assert session_features(keyed, offsets) == same


def test_multi_value_ids_are_left_alone() -> None:
    keyed = KeyedJaggedTensor.from_lengths_sync(
        ["tags"], torch.tensor([1, 1, 1]), torch.tensor([2, 1], dtype=torch.int32)
    )
    assert session_features(keyed, np.array([0, 2])) == frozenset()
