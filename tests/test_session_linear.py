"""Features that do not change in a session: found, and computed once a session to the same end."""

import copy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from tests.datasets import click_table, write_dataset
from tests.training_here import all_tensors, one_rank, trainer_here
from trainer.data.session_features import session_features
from trainer.models.session_linear import (
    SessionLinear,
    Sessions,
    SplitFeatures,
    asked_once_a_session,
    side_by_side,
)

assert one_rank  # a fixture that is imported to be used by name

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
    parts, sessions = columns([0, 3, 5, 6]), sessions_of([0, 3, 5, 6])
    for none in (None, sessions._replace(features=frozenset())):
        assert torch.equal(side_by_side(parts, NAMES, none), torch.cat(parts, dim=1))  # pyright: ignore[reportArgumentType]  # a tensor


def test_all_features_may_be_those_of_sessions() -> None:
    layer = SessionLinear(6, 5).double()
    parts = [
        each for each, name in zip(columns(OFFSETS[2]), NAMES, strict=True) if name in OF_SESSION
    ]
    features = side_by_side(parts, sorted(OF_SESSION, reverse=True), sessions_of(OFFSETS[2]))
    torch.testing.assert_close(layer(features), layer(torch.cat(parts, dim=1)))


def drawn(rng: np.random.Generator) -> tuple[list[list[list[int]]], np.ndarray]:
    """Ids of 6 features by row, the last two with any number a row; and session offsets."""
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 4, rng.integers(1, 5)))])
    sizes = [[1] * offsets[-1]] * 4 + [rng.integers(0, 3, offsets[-1]).tolist() for _ in range(2)]
    return [[rng.integers(0, 2, n).tolist() for n in of_rows] for of_rows in sizes], offsets


def keyed(features: list[list[list[int]]]) -> KeyedJaggedTensor:
    rows = [row for feature in features for row in feature]
    return KeyedJaggedTensor.from_lengths_sync(
        [f"f{number}" for number in range(len(features))],
        torch.tensor([value for row in rows for value in row], dtype=torch.int64),
        torch.tensor([len(row) for row in rows], dtype=torch.int32),
    )


def test_the_features_of_sessions_are_found_and_asked_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        features, offsets = drawn(rng)
        same = {
            f"f{number}"
            for number, rows in enumerate(features)
            if all(len(row) == 1 for row in rows)
            and all(rows[a:b] == [rows[a]] * (b - a) for a, b in pairwise(offsets))
        }
        ids = keyed(features)
        is_of_single_rows = len(offsets) - 1 == offsets[-1]  # there is nothing to save then
        assert session_features(ids, offsets) == (frozenset() if is_of_single_rows else same)

        batch = SimpleNamespace(
            ids=ids, session_features=same, session_offsets=torch.from_numpy(offsets)
        )
        asked = asked_once_a_session(batch)  # pyright: ignore[reportArgumentType]  # has what it reads
        known = asked._length_per_key  # without it TorchRec would ask the device
        assert known is not None
        assert known == asked.lengths().view(len(features), -1).sum(1).tolist()
        for number, rows in enumerate(features):
            is_same = f"f{number}" in same
            left = [row if not is_same or i in offsets else [] for i, row in enumerate(rows)]
            of_key = asked[f"f{number}"]
            assert [each.tolist() for each in of_key.to_dense()] == left


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_long_sessions_do_not_stall_in_16_bits(dtype: torch.dtype) -> None:
    num_rows = 2000  # a sum of ones in bfloat16 stops at 256, in float16 at 2048
    layer = SessionLinear(4, 5).to(dtype)
    sessions = Sessions(OF_SESSION, torch.tensor([0]), torch.zeros(num_rows, dtype=torch.int64))
    torch.manual_seed(0)
    item = torch.randn(num_rows, 2)
    user = torch.randn(1, 2).expand(num_rows, 2)
    upstream = torch.rand(num_rows, 5) + 0.5
    found, expected = [], []
    for kind, gradients in ((dtype, found), (torch.float64, expected)):
        parts = [part.to(dtype).to(kind).requires_grad_() for part in (item, user)]
        features = side_by_side(parts, ("item", "user"), sessions)
        each = layer if kind == dtype else copy.deepcopy(layer).to(kind)
        loss = (each(features) * upstream.to(dtype).to(kind)).double().sum()
        gradients += torch.autograd.grad(loss, [each.bias, parts[1]])
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=0.01, atol=0.01 * theirs.abs().max())


ADAGRAD = {"lr": 0.1, "gradient_clipping": True, "max_gradient": 1e-3}
CLIPPED: dict[str, Any] = {"train_config__sparse_optimizer__adagrad_optimizer": ADAGRAD}


@pytest.mark.usefixtures("one_rank")
def test_nothing_is_once_a_session_where_the_gradient_of_each_row_is_clipped(
    tmp_path: Path,
) -> None:
    write_dataset(tmp_path / "train", click_table(40))
    tables = {}
    for name in ("as it is", "plain", "split"):
        trainer = trainer_here(tmp_path, name, train_config__num_steps=3, **CLIPPED)
        model: Any = trainer.model.module.model
        if name != "as it is":
            model.splits_sessions = model.tables.asks_once_a_session = name == "split"
        trainer.train()
        found = all_tensors(trainer)
        tables[name] = torch.cat([found[key].flatten() for key in found if "user_id_emb" in key])
    assert torch.equal(tables["as it is"], tables["plain"])
    assert not torch.allclose(tables["split"], tables["plain"], rtol=1e-3)


@pytest.mark.usefixtures("one_rank")
def test_training_is_the_same_as_without(tmp_path: Path) -> None:
    """Users do not change in a session of this data; `tags` have any number of ids."""
    write_dataset(tmp_path / "train", click_table(40))
    tensors = {}
    for name in ("split", "plain"):
        trainer = trainer_here(tmp_path, name, train_config__num_steps=6)
        assert "user_id" in next(trainer.loader.batches(0)).session_features
        model: Any = trainer.model.module.model
        assert model.splits_sessions and model.tables.asks_once_a_session
        if name == "plain":
            model.splits_sessions = model.tables.asks_once_a_session = False
        trainer.train()
        tensors[name] = all_tensors(trainer)
    assert tensors["split"].keys() == tensors["plain"].keys()
    for name, value in tensors["plain"].items():
        torch.testing.assert_close(tensors["split"][name], value, rtol=1e-4, atol=1e-5, msg=name)
