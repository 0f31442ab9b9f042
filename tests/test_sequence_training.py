"""A model with sequences, weighted ids and PE-MTL on real gloo ranks: resume, other world sizes."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.config import parse_config
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.trainer import Trainer

STOP_AT, NUM_STEPS = 3, 6
MORE = """
feature_configs { sequence_feature { sequence_name: clicks sequence_length: 4 sequence_delim: ";"
    features { id_feature { feature_name: item embedding_name: shared_items num_buckets: 30
                            embedding_dim: 8 } }
    features { id_feature { feature_name: tag num_buckets: 30 embedding_dim: 4 pooling: "mean"
                            value_dim: 0 } }
    features { raw_feature { feature_name: price } } } }
feature_configs { id_feature { feature_name: candidate expression: "item:item_id"
    embedding_name: shared_items num_buckets: 30 embedding_dim: 8 } }
feature_configs { id_feature { feature_name: brands num_buckets: 30 embedding_dim: 4
                               weighted: true separator: "|" } }
feature_configs { combo_feature { feature_name: item_clicks hash_bucket_size: 50 embedding_dim: 4
    expression: "item:item_id" expression: "item:clicks__item" } }
feature_configs { expr_feature { feature_name: late expression: "log(1 + timestamp) > 1 ? 1 : 0"
    variables: "context:timestamp" } }
model_config { use_pareto_loss_weight: true }
"""
GROUP = """
feature_names: brands feature_names: item_clicks feature_names: late
sequence_groups { feature_names: candidate feature_names: clicks__item
                  feature_names: clicks__tag feature_names: clicks__price }
sequence_encoders { din_encoder { attn_mlp { hidden_units: [8] activation: Dice } } }
sequence_encoders { pooling_encoder { max_seq_length: 2 } }
sequence_encoders { multi_window_din_encoder { windows_len: [1, 2] attn_mlp { hidden_units: 4 } } }
sequence_encoders { self_attention_encoder { multihead_attn_dim: 8 num_heads: 2 } }
"""


def sequence_config(folder: Path, model: str, **edits: Any) -> EasyRecConfig:
    """The two-task config of tests.configs, with sequences and weighted ids in its group."""
    config = two_task_config(train_config__log_step_count_steps=1, **edits)
    config.MergeFrom(parse_config(MORE))
    other = parse_config(f"model_config {{ feature_groups {{ {GROUP} }} }}")
    config.model_config.feature_groups[0].MergeFrom(other.model_config.feature_groups[0])
    config.train_input_path, config.model_dir = str(folder / "data"), str(folder / model)
    return config


def sequence_table() -> pa.Table:
    """tests.datasets.click_table, with the items of the session's earlier rows."""
    table = click_table(60, seed=1)
    items, times = table["item_id"].to_pylist(), table["timestamp"].to_pylist()
    clicks = [items[row - time : row][:4] for row, time in enumerate(times)]
    prices = [[float(item % 7) for item in each] for each in clicks]
    brands = [f"{item}:0.5|{(item + 1) % 30}:2" for item in items]
    table = table.append_column("clicks__item", pa.array(clicks, pa.list_(pa.int64())))
    tags = [";".join(f"{item}\x1d{(item + 3) % 30}" for item in each) for each in clicks]
    table = table.append_column("clicks__tag", pa.array(tags))
    table = table.append_column("clicks__price", pa.array(prices, pa.list_(pa.float32())))
    return table.append_column("brands", pa.array(brands))


def train(rank: int, folder: str, model: str, world: int, num_steps: int) -> None:
    """One rank's run to `num_steps`, from the newest checkpoint on if there is one."""
    torch.set_num_threads(1)
    path = Path(folder)
    store = dist.FileStore(str(path / f"{model}.{world}.{num_steps}.store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    config = sequence_config(path, model, train_config__num_steps=num_steps)
    trainer = Trainer(config, torch.device("cpu"), continue_train=True)
    trainer.train()
    trainer.save()
    trainer.checkpoints.close()
    if rank == 0:
        history = [asdict(entry)["losses"] for entry in trainer.recorder.history]
        torch.save(history, path / f"{model}.history")
    dist.destroy_process_group()


def two_ranks(rank: int, folder: str) -> None:
    """A whole run; one that stops, is copied, and goes on."""
    train(rank, folder, "whole", 2, NUM_STEPS)
    train(rank, folder, "stopped", 2, STOP_AT)
    if rank == 0:
        shutil.copytree(f"{folder}/stopped", f"{folder}/alone")
    train(rank, folder, "stopped", 2, NUM_STEPS)


@pytest.fixture(scope="module")
def histories(tmp_path_factory) -> dict[str, list[dict[str, float]]]:
    folder = tmp_path_factory.mktemp("sequences")
    write_dataset(folder / "data", sequence_table())
    mp.spawn(two_ranks, args=(str(folder),), nprocs=2)
    mp.spawn(train, args=(str(folder), "alone", 1, NUM_STEPS), nprocs=1)
    return {name: torch.load(folder / f"{name}.history") for name in ("whole", "stopped", "alone")}


def test_resume_with_sequences_is_exact(histories):
    assert len(histories["whole"]) == NUM_STEPS
    assert histories["stopped"] == histories["whole"]


def test_one_rank_goes_on_from_a_checkpoint_of_two(histories):
    for mine, theirs in zip(histories["alone"], histories["whole"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
