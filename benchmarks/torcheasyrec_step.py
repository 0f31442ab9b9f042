"""TorchEasyRec's training, one rank of a case of bench_train.py (which says how it is run).

Needs a checkout of TorchEasyRec, of which nothing is part of this repository. What of its needs
does not install everywhere (its closed feature generator, its cloud readers) is stubbed; samples
come encoded (FG_NONE). With `--loss own` its own JRC counts (quadratic in the batch in release
1.3); `--loss ours` puts our JRC in its place, which leaves the comparison of all the rest.

With `--job` its whole `train_and_evaluate` runs on its example's config, and reads the Parquet
files by its own dataset and workers, in its own order. Without it the step alone runs: model,
planner, optimizers and pipeline by the functions of its `train_and_evaluate`, on the batches on
which our trainer trains, in their order, read beforehand, so that reading costs it nothing.
"""

import argparse
import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from google.protobuf import json_format
from torch import Tensor, nn
from torch.optim import Adagrad
from torchmetrics.functional.classification import binary_auroc

from benchmarks.taobao_data import dbmtl_jrc_config
from benchmarks.turns import tell, wait_for_turn
from launch.process import exit_now
from losses import JRCLoss
from trainer.config import parse_config
from trainer.data.batch import SessionBatch
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.data.loader import SessionLoader
from trainer.data.reader import SessionDataset
from trainer.tasks import parse_tasks

EXAMPLE = "examples/dbmtl_taobao_jrc.config"
OPTIONAL = [
    *("alibabacloud_credentials", "anytree", "common_io", "confluent_kafka", "faiss"),
    *("feature_store_py", "graphlearn", "odps", "pandas", "psutil", "pyfg", "safetensors"),
    "sklearn",
]
TABLES = ".embedding_bags."  # in the names of their parameters
JOB_MODEL = "model-torcheasyrec"  # folder of its job's model, made by it
MEMORY_BYTES = 16 << 30  # of a machine, for the planner


class StubType(type):
    """A class whose every attribute is such a class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StubType(name, (), {"__init__": lambda self, *args, **options: None})


class StubModule(types.ModuleType):
    """A module that has every attribute."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        return getattr(StubType("stub", (), {}), name)


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stub for each of OPTIONAL; put last, it is asked for what is not installed."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """The stub's spec, or None."""
        is_optional = name.split(".")[0] in OPTIONAL
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_optional else None

    def create_module(self, spec: Any) -> types.ModuleType:
        """The stub."""
        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def import_torcheasyrec(checkout: Path) -> Any:
    """Its module `tzrec.main`, from a checkout whose messages are compiled."""
    sys.path.insert(0, str(checkout))
    sys.meta_path.append(StubFinder())
    # It asks protobuf for defaults by an argument that protobuf 5 dropped.
    to_dict = json_format.MessageToDict
    json_format.MessageToDict = lambda message, including_default_value_fields=False, **options: (
        (_defaults(message) if including_default_value_fields else {}) | to_dict(message, **options)
    )
    main = import_module("tzrec.main")
    memory = types.SimpleNamespace(total=MEMORY_BYTES)
    planning = import_module("tzrec.utils.plan_util")
    setattr(planning, "psutil", types.SimpleNamespace(virtual_memory=lambda: memory))  # noqa: B010
    return main


def _defaults(message: Any) -> dict[str, Any]:
    plain = [f for f in message.DESCRIPTOR.fields if not (f.message_type or f.containing_oneof)]
    return {f.name: [] if f.is_repeated else f.default_value for f in plain}


class LinearJRC(nn.Module):
    """Our JRC behind the arguments of TorchEasyRec's."""

    def __init__(self, alpha: float = 0.5, reduction: str = "mean") -> None:
        super().__init__()
        self.alpha, self.reduction = alpha, reduction

    def forward(self, logits: Tensor, labels: Tensor, session_ids: Tensor) -> Tensor:
        """As theirs."""
        return linear_jrc(logits, labels, session_ids, self.alpha, self.reduction)


@torch.fx.wrap
def linear_jrc(logits: Any, labels: Any, ids: Any, alpha: float, reduction: str) -> Tensor:
    """One node of the graph that their pipeline traces."""
    return JRCLoss(alpha, reduction)(logits, labels, session_ids=ids)


def build_pipeline(
    main: Any, config: Any, device: torch.device, batch_size: int
) -> tuple[Any, Any]:
    """Model, tables, optimizers and pipeline, step by step as its `train_and_evaluate`."""
    train, data = config.train_config, config.data_config
    features = main._create_features(list(config.feature_configs), data)
    model = main._create_model(config.model_config, features, list(data.label_fields))
    model = main.TrainWrapper(model, device=device)
    build = main.optimizer_builder
    sparse, options = build.create_sparse_optimizer(train.sparse_optimizer)
    main.apply_optimizer_in_backward(sparse, model.model.sparse_parameters()[0], options)
    planner = main.create_planner(
        device=device,
        batch_size=batch_size,
        ckpt_plan_path=None,
        global_constraints_cfg=None,
        model=model,
    )
    sharders = main.get_default_sharders()
    plan = planner.collective_plan(model, sharders, dist.GroupMember.WORLD)
    model = main.DistributedModelParallel(model, device=device, sharders=sharders, plan=plan)
    dense, options = build.create_dense_optimizer(train.dense_optimizer)
    parameters = dict(main.in_backward_optimizer_filter(model.named_parameters()))
    # It leaves tables that its planner replicates to the dense optimizer, against the config. They
    # learn faster by that: for an AUC to compare they are moved as the config says.
    replicated = {name: parameters.pop(name) for name in list(parameters) if TABLES in name}
    parts = [main.KeyedOptimizerWrapper(parameters, lambda params: dense(params, **options))]
    if replicated:
        lr = train.sparse_optimizer.adagrad_optimizer.lr
        parts.append(main.KeyedOptimizerWrapper(replicated, lambda params: Adagrad(params, lr)))
    optimizer = main.TZRecOptimizer(main.CombinedOptimizer([model.fused_optimizer, *parts]))
    model.train()
    return model, main.create_train_pipeline(model, optimizer)


def read_batches(
    path: Path, batch_size: int, most: int | None, shuffle: bool, seed: int
) -> list[SessionBatch]:
    """This rank's first batches, as bench_train.py's trainer reads them."""
    config = parse_config(dbmtl_jrc_config())
    spec = ColumnSpec(tuple(used_features(config)), tuple(parse_tasks(config)))
    loader = SessionLoader(
        SessionDataset.open(str(path)),
        spec,
        batch_size=batch_size,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        shuffle=shuffle,
        seed=seed,
    )
    return list(islice(loader.batches(), most))


def converted(batches: list[SessionBatch]) -> Iterator[Any]:
    """TorchEasyRec's batches."""
    utils = import_module("tzrec.datasets.utils")
    for batch in batches:
        features = {utils.BASE_DATA_GROUP: batch.ids}
        yield utils.Batch(sparse_features=features, labels=dict(batch.labels))


def evaluate(main: Any, model: Any, batches: list[SessionBatch]) -> dict[str, float]:
    """AUC per task over all ranks' batches, by TorchMetrics."""
    model.eval()
    pipeline, source = main.create_train_pipeline(model), converted(batches)
    scores: dict[str, list[Tensor]] = {"ctr": [], "cvr": []}
    with torch.no_grad():
        for _ in batches:
            _, predictions, _ = pipeline.progress(source)
            for task, parts in scores.items():
                parts.append(predictions[f"probs1_{task}"])
    auc = {}
    for task, label in (("ctr", "clk"), ("cvr", "buy")):
        mine = torch.cat(scores[task]), torch.cat([batch.labels[label] for batch in batches])
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, mine)
        all_scores, all_labels = (torch.cat(each) for each in zip(*parts, strict=True))
        auc[task] = float(binary_auroc(all_scores, all_labels))
    return auc


class Windows:
    """Steps in windows, each in its turn; what comes after the last window has a turn too."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.steps, self.all_steps = options.window_steps, options.windows * options.window_steps
        self.done = 0
        self.rows, self.started = 0, 0.0

    @contextmanager
    def step(self, rows: int) -> Iterator[None]:
        """Around a step with so many rows of all ranks."""
        if self.done % self.steps == 0:
            wait_for_turn()
            self.rows, self.started = 0, time.perf_counter()
        yield
        self.done += 1
        self.rows += rows
        if self.done % self.steps == 0 and self.done <= self.all_steps:
            tell({"samples_per_second": self.rows / (time.perf_counter() - self.started)})


def train_steps(easyrec: Any, options: argparse.Namespace) -> dict[str, float] | None:
    """The step alone; the AUC."""
    device, _ = easyrec.init_process_group()
    num_steps = options.windows * options.window_steps + 1  # as the trainer's
    train_path, eval_path = options.data_path / "train", options.data_path / "eval"
    size, seed = options.batch_size, options.seed
    batches = read_batches(train_path, size, num_steps, shuffle=True, seed=seed)
    eval_batches = read_batches(eval_path, size, None, shuffle=False, seed=seed)
    load = import_module("tzrec.utils.config_util").load_pipeline_config
    config = load(str(options.checkout / EXAMPLE))
    model, pipeline = build_pipeline(easyrec, config, device, size)
    windows, source = Windows(options), converted(batches)
    tell("ready")
    for batch in batches:
        with windows.step(batch.global_rows):
            pipeline.progress(source)
    # Its own loss takes minutes over the evaluation data.
    return None if options.loss == "own" else evaluate(easyrec, model, eval_batches)


def train_job(easyrec: Any, options: argparse.Namespace) -> None:
    """Its whole job on the Parquet files."""
    windows, create = Windows(options), easyrec.create_train_pipeline
    rows = options.batch_size * int(os.environ["WORLD_SIZE"])

    def create_measured(*args: Any, **settings: Any) -> Any:
        pipeline = create(*args, **settings)
        progress = pipeline.progress

        def measured(batches: Iterator[Any]) -> Any:
            with windows.step(rows):
                return progress(batches)

        pipeline.progress = measured
        tell("ready")
        return pipeline

    easyrec.create_train_pipeline = create_measured
    edits = {
        "eval_input_path": "",
        "train_config.num_epochs": 0,
        "train_config.num_steps": options.windows * options.window_steps + 1,
        "data_config.batch_size": options.batch_size,
        "data_config.dataset_type": import_module("tzrec.protos.data_pb2").ParquetDataset,
    }
    easyrec.train_and_evaluate(
        str(options.checkout / EXAMPLE),
        train_input_path=str(options.data_path / "train" / "*.parquet"),
        model_dir=str(options.data_path / JOB_MODEL),
        edit_config_json=json.dumps(edits),
    )


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--loss", choices=("own", "ours"), required=True)
    parser.add_argument("--job", action="store_true")
    parser.add_argument("--windows", type=int, required=True)
    parser.add_argument("--window_steps", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    return parser.parse_args()


def compile_messages(checkout: Path) -> None:
    """Compile TorchEasyRec's protocol buffers, which its own set-up does."""
    protos = [str(path.relative_to(checkout)) for path in checkout.glob("tzrec/protos/**/*.proto")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", *protos]
    subprocess.run(command, cwd=checkout, check=True)


def main() -> None:
    """One rank: windows of steps in its turns, then the AUC where it is measured."""
    options = parse_args()
    torch.manual_seed(options.seed)
    easyrec = import_torcheasyrec(options.checkout)
    if options.loss == "ours":
        setattr(import_module("tzrec.models.rank_model"), "JRCLoss", LinearJRC)  # noqa: B010
    auc = train_job(easyrec, options) if options.job else train_steps(easyrec, options)
    tell({"auc": auc})
    exit_now(0)


if __name__ == "__main__":
    main()
