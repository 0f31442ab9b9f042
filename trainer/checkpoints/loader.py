"""Loads a checkpoint's tensors into a model: at any world size, into larger tables, by other names.

torch.distributed.checkpoint reads for each rank the rows that its shards hold, whatever the world
size and the sharding type that wrote them.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan

from trainer.checkpoints.reader import CheckpointReader
from trainer.config import ConfigError, did_you_mean
from trainer.optim.train_optimizer import NOT_MOVED, TrainOptimizer
from trainer.zero_collision import id_histories, load_id_histories

_TABLE = re.compile(r"\.(?:embedding_bags|embeddings)\.(\w+)\.weight")
_STATE_OF = re.compile(rf"optimizer\.parameters\.(.*{_TABLE.pattern})\.")  # of a table


@dataclass
class LoadReport:
    """What became of the tensors, by their names in the model (`unused`: in the checkpoint).

    loaded: as they were. grown: tables whose new rows kept their initial values, with the rows
    before and after. missing, misfits: kept their initial values altogether, as the checkpoint
    has no such tensor, or one of another shape.
    """

    loaded: list[str] = field(default_factory=list)
    grown: dict[str, tuple[int, int]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What a user should see of it, a line per kind."""
        grown = [f"{name} {old:,} -> {new:,} rows" for name, (old, new) in self.grown.items()]
        kinds = {
            "tables that grew, whose new rows keep their initial values": grown,
            "not in the checkpoint, keep their initial values": self.missing,
            "of another shape in the checkpoint, keep their initial values": self.misfits,
            "in the checkpoint, not used": self.unused,
        }
        return [f"  {kind}: {', '.join(names)}" for kind, names in kinds.items() if names]


def checkpoint_tensors(model: nn.Module, optimizer: TrainOptimizer) -> dict[str, Any]:
    """What a checkpoint holds of a model and its optimizer."""
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "id_histories": id_histories(model),
    }


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: TrainOptimizer, hashed_tables: Collection[str]
) -> LoadReport:
    """Restore model and optimizer in place; tables may have more rows now.

    Args:
        hashed_tables: whose rows are found by a hash modulo their number, so that none may grow.

    Raises:
        ConfigError: the model has other tensors, or other shapes.
    """
    optimizer.init_state(without=_not_moved(path))
    tensors = checkpoint_tensors(model, optimizer)
    planner = _GrowingPlanner(hashed_tables)
    try:
        dcp.load(tensors, storage_reader=CheckpointReader(path), planner=planner)
    except CheckpointException as error:
        reasons = {str(each[0]) for each in error.failures.values()}
        raise ConfigError(
            f"{path} does not fit the model of the config: {'; '.join(sorted(reasons))}; "
            f"train on with the config it was written with (pipeline.config in it)"
        ) from None
    model.load_state_dict(tensors["model"])
    optimizer.load_state_dict(tensors["optimizer"])
    load_id_histories(model, tensors["id_histories"])
    grown = {name: rows for name, rows in planner.grown.items() if name.startswith("model.")}
    return LoadReport(grown={name.removeprefix("model."): rows for name, rows in grown.items()})


def _not_moved(path: Path) -> list[str]:
    """Dense parameters of a checkpoint without an optimizer's state, as no step has moved them.

    They are unused, or all steps so far were left out or skipped by the loss scaler.
    """
    reader = CheckpointReader(path)
    if f"optimizer.{NOT_MOVED}" not in reader.read_metadata().state_dict_metadata:
        return []  # of 0.1.0
    found: dict[str, Any] = {"optimizer": {NOT_MOVED: []}}
    dcp.load(found, storage_reader=reader)
    return found["optimizer"][NOT_MOVED]


class _GrowingPlanner(dcp.DefaultLoadPlanner):
    """Loads tables that were smaller when they were saved: the first rows of those of now."""

    def __init__(self, hashed_tables: Collection[str]) -> None:
        # Flattening drops the tables that are whole on other ranks; the planner then takes the
        # checkpoint for one of PyTorch 2.3, which named the scaler's state otherwise.
        super().__init__(flatten_sharded_tensors=False)
        self._hashed_tables = hashed_tables
        self.grown: dict[str, tuple[int, int]] = {}

    def set_up_planner(
        self, state_dict: Any, metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        super().set_up_planner(state_dict, metadata, is_coordinator)
        assert metadata is not None
        saved = dict(metadata.state_dict_metadata)
        for name, tensor in self.state_dict.items():
            known = saved.get(name)
            if not isinstance(known, TensorStorageMetadata) or self._is_of_columns(name):
                continue
            if _has_grown(name, known, tensor):
                self.grown[name] = (known.size[0], tensor.shape[0])
                saved[name] = replace(known, size=tensor.size())  # its chunks stay: the first rows
        self.metadata = replace(metadata, state_dict_metadata=saved)

    def create_local_plan(self) -> LoadPlan:
        """What to read. Raises ValueError with everything that does not fit."""
        assert self.metadata is not None
        saved, faults = self.metadata.state_dict_metadata, []
        for name, tensor in self.state_dict.items():
            known = saved.get(name)
            if known is None:
                faults.append(f"it has no {name}")
            elif isinstance(known, TensorStorageMetadata) and known.size != tensor.size():
                fault = f"{name} is {list(known.size)} there, {list(tensor.shape)} here"
                if _STATE_OF.match(name) and len(tensor.shape) == 1:
                    fault += (
                        " (row-wise state, of which column_wise has one a part: give the feature "
                        "the sharding_type that its table has in the checkpoint's "
                        "sharding_plan.json, by embedding_constraints)"
                    )
                faults.append(fault)
        faults += _hashed_that_grew(self.grown, self._hashed_tables)
        if faults:
            raise ValueError("; ".join(faults))
        return super().create_local_plan()

    def _is_of_columns(self, name: str) -> bool:
        """Whether this is row-wise state with several values a row, one a part of its columns."""
        found = _STATE_OF.match(name)
        table = self.state_dict.get(f"model.{found[1]}") if found else None
        return table is not None and self.state_dict[name].shape[:1] != table.shape[:1]


def _has_grown(name: str, known: TensorStorageMetadata, tensor: Any) -> bool:
    """Whether a tensor is of a table that has more rows than were saved, and else the same."""
    old, new = tuple(known.size), tuple(tensor.shape)
    is_table = _TABLE.search(name) is not None
    return is_table and old[1:] == new[1:] and old[:1] < new[:1]


def _hashed_that_grew(
    grown: Mapping[str, tuple[int, int]], hashed_tables: Collection[str]
) -> list[str]:
    """What is wrong with tables that have more rows now; each name with the rows before and now."""
    return [
        f"{name} had {old:,} rows and has {new:,} now, but ids are hashed to its rows: "
        f"every one would meet another row"
        for name, (old, new) in grown.items()
        if (found := _TABLE.search(f".{name}")) and found[1] in hashed_tables
    ]


# ------------------------------------------------------------------ fine-tuning


def read_param_map(path: str) -> dict[str, str]:
    r"""The lines `name in the model \t name in the checkpoint` of a file. Raises ConfigError."""
    names = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        pair = line.strip().split("\t")
        if len(pair) != 2:
            raise ConfigError(
                f"fine_tune_ckpt_param_map {path}, line {number}: must be the name in the model, "
                f"a tab, and the name in the checkpoint, but is: {line!r}"
            )
        names[pair[0]] = pair[1]
    return names


def load_for_fine_tuning(
    path: Path, model: nn.Module, names: Mapping[str, str], hashed_tables: Collection[str]
) -> LoadReport:
    """Start a model from the tensors of another run's checkpoint, by name; in place.

    Optimizers start anew. Several tensors of the model may start from the same one.

    Args:
        names: per name in the model the name in the checkpoint, where that is another.
        hashed_tables: whose rows are found by a hash modulo their number, so that none may grow.

    Raises:
        ConfigError: a name of `names` is unknown, a hashed table has grown, or no tensor of the
            model could be loaded.
    """
    saved = {
        name.removeprefix("model."): known
        for name, known in CheckpointReader(path).read_metadata().state_dict_metadata.items()
        if name.startswith("model.") and isinstance(known, TensorStorageMetadata)
    }
    state_dict = model.state_dict()
    _check_names(names, state_dict, saved, path)
    report, sources = LoadReport(), {}
    for name, tensor in state_dict.items():
        source = names.get(name, name)
        known = saved.get(source)
        if known is None:
            report.missing.append(name)
        elif tuple(known.size) != tuple(tensor.shape) and not _has_grown(f".{name}", known, tensor):
            report.misfits.append(f"{name} {list(known.size)} there, {list(tensor.shape)} here")
        else:
            sources[name] = source
            if known.size[:1] != tensor.shape[:1]:
                report.grown[name] = (known.size[0], tensor.shape[0])
    if faults := _hashed_that_grew(report.grown, hashed_tables):
        raise ConfigError(
            f"fine_tune_checkpoint {path}: {'; '.join(faults)}; keep its hash_bucket_size, or "
            f"start the table anew by another embedding_name"
        )
    if not sources:
        raise ConfigError(
            f"fine_tune_checkpoint: no tensor of {path} fits the model by name; it has: "
            f"{', '.join(saved)}; the model has: {', '.join(state_dict)}; set "
            f"train_config.fine_tune_ckpt_param_map"
        )
    report.loaded = list(sources)
    report.unused = sorted(set(saved) - set(sources.values()))
    while sources:  # a pass loads each tensor of the checkpoint once
        one_each = {source: name for name, source in sources.items()}
        part = {f"model.{source}": state_dict[name] for source, name in one_each.items()}
        dcp.load(part, storage_reader=CheckpointReader(path), planner=_GrowingPlanner(()))
        for name in one_each.values():
            del sources[name]
    model.load_state_dict(state_dict)
    return report


def _check_names(
    names: Mapping[str, str], model: Mapping[str, Any], saved: Mapping[str, Any], path: Path
) -> None:
    for new, old in names.items():
        for name, known, where in ((new, model, "the model"), (old, saved, str(path))):
            if name not in known:
                raise ConfigError(
                    f"fine_tune_ckpt_param_map: {where} has no `{name}`; "
                    f"{did_you_mean(name, known)}It has: {', '.join(known)}"
                )
