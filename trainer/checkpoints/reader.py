"""Reads a checkpoint's files without running what may stand in them.

torch.distributed.checkpoint pickles its list of tensors (`.metadata`) and the values that are no
tensors (a loss scaler's numbers). Plain unpickling would call any function that such a file names;
here the list may name DCP's own records alone, and values are read with `weights_only`.
"""

import enum
import io
import os
import pathlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from trainer.config import ConfigError


def _enum_member(kind: Any, name: str) -> Any:
    """What `getattr` is in a list of tensors that Python 3.11.0 to 3.11.3 wrote: of enums alone."""
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        raise pickle.UnpicklingError(f"it asks for {name} of {kind!r}, which is no enum")
    return kind[name]


# What a list of tensors is made of, besides dtypes; by module and name, as a pickle names them.
_RECORDS: dict[tuple[str, str], Any] = {
    **{
        (metadata.__name__, record.__name__): record
        for record in (
            metadata.BytesStorageMetadata,
            metadata.ChunkStorageMetadata,
            metadata.Metadata,
            metadata.MetadataIndex,
            metadata.StorageMeta,
            metadata.TensorProperties,
            metadata.TensorStorageMetadata,
            metadata._MEM_FORMAT_ENCODING,
        )
    },
    (filesystem.__name__, "_StorageInfo"): filesystem._StorageInfo,
    ("builtins", "getattr"): _enum_member,
    ("pathlib", "PosixPath"): pathlib.PosixPath,
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
}


class _RecordUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _RECORDS.get((module, name))
        if known is None and module == "torch":
            dtype = getattr(torch, name, None)
            known = dtype if isinstance(dtype, torch.dtype) else None
        if known is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no record of one")
        return known


class CheckpointReader(dcp.FileSystemReader):
    """DCP's reader of a folder, for a checkpoint that need not be trusted."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The list of tensors.

        Raises:
            ConfigError: it is damaged, or names what no checkpoint has.
        """
        path = self._get_metadata_path(kwargs.get("rank"))
        with self.fs.create_stream(path, "rb") as file:
            contents = file.read()
        try:
            found = _RecordUnpickler(io.BytesIO(contents)).load()
            if not isinstance(found, Metadata):
                raise pickle.UnpicklingError(f"it is a {type(found).__name__}")
        except Exception as error:  # a damaged pickle raises almost anything
            raise ConfigError(
                f"{path} must be a checkpoint's list of tensors, but {error}; use another "
                f"checkpoint, or copy this one again"
            ) from None
        if found.storage_meta is None:
            found.storage_meta = StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found

    def read_data(self, plan: Any, planner: Any) -> Any:
        """The tensors and values of a plan; a value is numbers, texts and containers alone."""
        with _weights_only():
            return super().read_data(plan, planner)


@contextmanager
def _weights_only() -> Iterator[None]:
    """torch.load refuses, meanwhile, to call what a file names (PyTorch's own switch)."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        with torch.serialization.safe_globals([bytes]):  # b"" is pickled as a call of `bytes`
            yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
