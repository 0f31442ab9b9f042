"""A checkpoint as a folder that serves: see trainer/serving/scorer.py for what is in it.

One process is enough: tables are read from the checkpoint's shards one after the other, so the
largest of them must fit into memory, in float32 and quantised; no process group, no GPU.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
import torchrec
from fbgemm_gpu.tbe.utils.quantize import quantize_embs
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torchrec import EmbeddingBagConfig, JaggedTensor, PoolingType

from trainer.checkpoints.checkpoint import CONFIG_FILE, HASHED_FILE, read_document
from trainer.checkpoints.reader import CheckpointReader
from trainer.checkpoints.restore import Run, check_same_model
from trainer.config import ConfigError
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.evaluate import exports_averages
from trainer.models import ClickModel, build_model
from trainer.models.embeddings import Embedded, TableConfig
from trainer.models.lookups import Lookup
from trainer.objective import Objective
from trainer.prediction.predict import task_scores
from trainer.serving.encoding import feature_to_json
from trainer.serving.scorer import DENSE_FILE, FORMAT_VERSION, SIGNATURE_FILE
from trainer.serving.tables import DTYPES, SCALES, VALUES, Table, TableLookup, table_file
from trainer.tasks import Task, parse_tasks

ROWS_PER_CHUNK = 1 << 16
PREFIX = "model.model."  # of the model's names in a checkpoint
AVERAGES_PREFIX = "optimizer.average.averages."
INT8_WIDTH = 4  # FBGEMM's int8 rows are a multiple of it wide


class DensePart(nn.Module):
    """The model after its tables: vectors of all lookups in, logits per task out, float32.

    Attributes:
        groups, net: the model's own, and their names in a checkpoint.
    """

    def __init__(self, model: ClickModel) -> None:
        super().__init__()
        self.groups, self.net = model.groups, model.net
        self.lookups = model.tables.lookups

    def forward(self, vectors: list[Tensor], lengths: list[Tensor]) -> dict[str, Tensor]:
        """From a tensor per lookup, [B, D] or of a sequence [T, D]; and [B] per sequence."""
        embedded = Embedded({}, {}, [])
        of_sequences = iter(lengths)
        for lookup, values in zip(self.lookups, vectors, strict=True):
            if is_sequence(lookup):
                embedded.values[lookup.key] = JaggedTensor(values, lengths=next(of_sequences))
            else:
                embedded.rows[lookup.key] = values
        logits, _ = self.net(self.groups(embedded))
        return {name: each.float() for name, each in logits.items()}


def is_sequence(lookup: Lookup) -> bool:
    """Whether it has a vector per value, not per row."""
    return lookup.part.startswith("sequence")


def export_model(run: Run, export_dir: Path, dtype: str, asset_files: list[Path]) -> Path:
    """Write the folder: under a temporary name, until all of it is there.

    Args:
        dtype: of the tables: FP32, FP16 or INT8.
        asset_files: copied into the folder.

    Raises:
        ConfigError: the folder is there already, an asset is not, the checkpoint is of another
            model, or the model has what cannot be exported.
    """
    _check_request(export_dir, dtype, asset_files)
    tasks = parse_tasks(run.config)
    model = build_model(run.config, tasks)
    if model.label_inputs:
        raise ConfigError(
            f"the model reads the labels {', '.join(model.label_inputs)} as inputs "
            f"(domain_input_name), which cannot be exported yet; leave domain_input_name out"
        )
    features = [feature_to_json(feature) for feature in used_features(run.config)]
    dense = _read_dense(run, tasks, model)
    staging = export_dir.parent / f".{export_dir.name}.unfinished"
    if staging.exists():
        shutil.rmtree(staging)
    (staging / "tables").mkdir(parents=True)
    torch.export.save(_exported(dense), staging / DENSE_FILE)
    tables = _write_tables(run, model.tables.table_configs(), dtype, staging)
    signature = {
        "format_version": FORMAT_VERSION,
        "checkpoint": str(run.checkpoint.absolute()),
        "columns": ColumnSpec(tuple(used_features(run.config)), ()).columns,
        "scores": [name for task in task_scores(run.config, tasks) for name in task.columns],
        "tasks": [asdict(task) for task in task_scores(run.config, tasks)],
        "features": features,
        "hashed_columns": read_document(run.checkpoint, HASHED_FILE),
        "lookups": [asdict(_table_lookup(each, tables)) for each in model.tables.lookups],
        "tables": [asdict(table) for table in tables],
        "versions": {"torch": torch.__version__, "torchrec": torchrec.__version__},
    }
    (staging / SIGNATURE_FILE).write_text(json.dumps(signature, indent=2))
    (staging / CONFIG_FILE).write_text(str(run.config))
    for path in asset_files:
        shutil.copy(path, staging)
    staging.rename(export_dir)
    return export_dir


def _check_request(export_dir: Path, dtype: str, asset_files: list[Path]) -> None:
    if dtype not in DTYPES:
        raise ConfigError(f"quant_emb must be one of {', '.join(DTYPES)}, but got: {dtype}")
    if export_dir.exists():
        raise ConfigError(
            f"export_dir must be new, but {export_dir} is there; remove it, or give another"
        )
    names = {SIGNATURE_FILE, DENSE_FILE, CONFIG_FILE, "tables"}
    for path in asset_files:
        if not path.is_file():
            raise ConfigError(f"asset_files must be files, but there is none at: {path}")
        if path.name in names:
            raise ConfigError(f"asset_files: the folder has another {path.name}; rename {path}")
        names.add(path.name)


# ------------------------------------------------------------------ dense part


def _read_dense(run: Run, tasks: list[Task], model: ClickModel) -> DensePart:
    """The dense part with the checkpoint's parameters, or their moving averages."""
    metadata = CheckpointReader(run.checkpoint).read_metadata()
    objective = Objective(model, tasks, run.config.model_config)
    check_same_model(metadata, objective.state_dict(), run.checkpoint)
    dense = DensePart(model)
    keys = {}
    for name, tensor in dense.state_dict().items():
        average = f"{AVERAGES_PREFIX}model.{name}"
        has_average = average in metadata.state_dict_metadata
        is_average = has_average and exports_averages(run.config)
        keys[average if is_average else PREFIX + name] = tensor
    dcp.load(keys, storage_reader=CheckpointReader(run.checkpoint), no_dist=True)
    return dense.eval()


def _exported(dense: DensePart) -> ExportedProgram:
    """The dense part as a program for any numbers of rows and of values.

    Raises:
        ConfigError: the network does what torch.export cannot trace, or has other scores after.
    """
    vectors = [[Dim.AUTO, Dim.STATIC] for _ in dense.lookups]
    lengths = [[Dim.AUTO] for lookup in dense.lookups if is_sequence(lookup)]
    inputs = _inputs(dense, rows=3, per_row=2)
    try:
        with torch.no_grad():
            program = torch.export.export(dense, inputs, dynamic_shapes=(vectors, lengths))
        served = program.module()
        for rows, per_row in ((1, 0), (1, 1), (5, 0), (7, 3)):
            _check_equal(dense, served, _inputs(dense, rows, per_row))
    except Exception as error:  # torch.export raises its own, of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"the network {type(dense.net).__name__} cannot be exported by torch.export: {reason}; "
            f"sizes must be read as x.shape[0], not len(x), and no branch may depend on values"
        ) from error
    return program


def _check_equal(dense: DensePart, served: nn.Module, inputs: Any) -> None:
    """Raises ValueError unless both have the same logits."""
    with torch.no_grad():
        expected, found = dense(*inputs), served(*inputs)
    for name, logits in expected.items():
        if not torch.allclose(found[name], logits, rtol=1e-5, atol=1e-6):
            raise ValueError(f"of {len(logits)} rows, task `{name}` has other logits than before")


def _inputs(dense: DensePart, rows: int, per_row: int) -> tuple[list[Tensor], list[Tensor]]:
    """Random vectors of so many rows, with so many values of each sequence in a row."""
    random = torch.Generator().manual_seed(0)
    vectors, lengths = [], []
    for lookup in dense.lookups:
        count = rows
        if is_sequence(lookup):
            count *= per_row
            lengths.append(torch.full((rows,), per_row))
        vectors.append(torch.randn(count, lookup.width, generator=random))
    return vectors, lengths


# ------------------------------------------------------------------ tables


def _write_tables(
    run: Run, configs: dict[str, TableConfig], dtype: str, folder: Path
) -> list[Table]:
    """Each table in a file of its own."""
    tables = []
    for number, (name, config) in enumerate(configs.items()):
        is_narrow = dtype == "INT8" and config.embedding_dim % INT8_WIDTH
        of_table = "FP16" if is_narrow else dtype
        table = Table(
            name=name,
            rows=config.num_embeddings,
            width=config.embedding_dim,
            dtype=of_table,
            pooling=_pooling(config),
            is_weighted=name.startswith("weighted."),
        )
        values = torch.empty(table.rows, table.width)
        key = f"{PREFIX}tables.{name}"
        dcp.load({key: values}, storage_reader=CheckpointReader(run.checkpoint), no_dist=True)
        _write_table(values, table, folder / table_file(number))
        tables.append(table)
    return tables


def _write_table(values: Tensor, table: Table, path: Path) -> None:
    """Quantise float32 [rows, width], some rows at a time, and write it."""
    dtype = {"FP32": torch.float32, "FP16": torch.float16, "INT8": torch.uint8}[table.dtype]
    tensors = {VALUES: torch.empty(table.rows, table.width, dtype=dtype)}
    if table.dtype == "INT8":
        tensors[SCALES] = torch.empty(table.rows, 2, dtype=torch.float16)
    for start in range(0, table.rows, ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        quantized, scales = quantize_embs(values[rows], DTYPES[table.dtype])
        tensors[VALUES][rows] = quantized.view(dtype)
        if scales is not None:
            tensors[SCALES][rows] = scales.view(torch.float16)
    save_file(tensors, path)


def _pooling(config: TableConfig) -> str:
    if not isinstance(config, EmbeddingBagConfig):
        return "none"
    return "sum" if config.pooling == PoolingType.SUM else "mean"


def _table_lookup(lookup: Lookup, tables: list[Table]) -> TableLookup:
    """The lookup with its table's number."""
    names = [table.name for table in tables]
    number = names.index(lookup.parameter) if lookup.table else None
    return TableLookup(lookup.feature.name, lookup.part, lookup.width, number)
