"""TorchEasyRec's Parquet reader and parser on the benchmark's columns, as its fg_mode: FG_NONE.

It imports closed packages (pyfg and others) that FG_NONE never calls: classes without content stand
in for them, so that reader and parser run from a checkout alone, in the calling thread.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

STAND_INS = (
    "alibabacloud_credentials",
    "anytree",
    "common_io",
    "confluent_kafka",
    "feature_store_py",
    "graphlearn",
    "odps",
    "pyfg",
)


class _Anything(type):
    """A class that has every attribute, each a class like it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {"__init__": lambda self, *args, **kwargs: None})


class _StandIn(ModuleType):
    """A module that has every name."""

    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        return getattr(_Anything("module", (), {}), name)


class _StandIns(MetaPathFinder, Loader):
    """Finds modules of STAND_INS where they are not installed."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_one = fullname.partition(".")[0] in STAND_INS
        return ModuleSpec(fullname, self, is_package=True) if is_one else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def parsed_batches(
    checkout: Path, data_path: Path, columns: tuple[str, ...], label: str, batch_size: int, ids: int
) -> Iterator[Any]:
    """An epoch of its batches. `checkout` must hold its compiled protocol buffers."""
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
        sys.meta_path.append(_StandIns())
    mode = import_module("tzrec.constant").Mode
    datasets = import_module("tzrec.datasets.dataset").BaseDataset
    create_features = import_module("tzrec.features.feature").create_features
    data_pb2 = import_module("tzrec.protos.data_pb2")
    feature_pb2 = import_module("tzrec.protos.feature_pb2")

    config = data_pb2.DataConfig(
        batch_size=batch_size,
        dataset_type=data_pb2.ParquetDataset,
        fg_mode=data_pb2.FG_NONE,
        label_fields=[label],
    )
    features = []
    for name in columns:
        feature = feature_pb2.IdFeature(feature_name=name, num_buckets=ids, embedding_dim=8)
        feature.expression = f"item:{name}"
        features.append(feature_pb2.FeatureConfig(id_feature=feature))
    dataset = datasets.create_class("ParquetDataset")(
        data_config=config,
        features=create_features(features, fg_mode=data_pb2.FG_NONE),
        input_path=f"{data_path}/part-*.parquet",
        mode=mode.TRAIN,
    )
    yield from dataset
