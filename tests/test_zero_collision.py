"""Zero-collision hashing on two gloo ranks: rows of their own, eviction, resume, evaluation."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torchrec import EmbeddingConfig, JaggedTensor

from tests.configs import two_task_config
from tests.datasets import write_dataset
from tests.test_sequence_training import sequence_config, sequence_table
from trainer.checkpoints.restore import Run, restore
from trainer.checks.config import check_config
from trainer.config import ConfigError, parse_config
from trainer.data.coding import wide_hashes
from trainer.data.features import ZeroCollision
from trainer.models.id_map import NO_ID, managed_collection
from trainer.protos.pipeline_pb2 import EasyRecConfig, IdFeature
from trainer.tasks import parse_tasks
from trainer.trainer import Trainer
from trainer.zero_collision import managed_tables

STOP_AT, NUM_STEPS, INTERVAL = 5, 9, 3  # a stop between evictions
SIZES = {"roomy": 64, "tight": 12}
POLICIES = {
    "user_id": "lfu {}",
    "item_id": "lfu {}",
    "tags": "distance_lfu {}",
    "item": "lru {}",
    "candidate": "lru {}",
}
FAR = 10**15  # ids are far above any table's size


def zch_config(folder: Path, model: str, size: str) -> EasyRecConfig:
    """A model with sequences and PE-MTL, whose ids are pooled by sum, by mean, and not."""
    config = sequence_config(folder, model)
    config.eval_input_path = str(folder / "eval")
    for entry in config.feature_configs:
        members = entry.sequence_feature.features or [entry]
        for each in members:
            if each.id_feature.feature_name in POLICIES:
                set_zch(each.id_feature, SIZES[size])
    return config


def set_zch(feature: IdFeature, size: int) -> None:
    feature.ClearField("num_buckets")
    if feature.feature_name != "tags":
        feature.init_fn = "nn.init.constant_,val=0.5"
    zch = f"zch {{ zch_size: {size} eviction_interval: {INTERVAL} "
    text = f"{zch} {POLICIES[feature.feature_name]} }}"
    other = parse_config(f"feature_configs {{ id_feature {{ {text} }} }}")
    feature.zch.CopyFrom(other.feature_configs[0].id_feature.zch)


def far(table: pa.Table) -> pa.Table:
    """With ids that no table could hold."""
    for name in ("user_id", "item_id", "tags", "clicks__item"):
        column, place = table[name].combine_chunks(), table.schema.get_field_index(name)
        if pa.types.is_list(column.type):
            values = pa.array(np.asarray(column.values) * FAR)
            column = pa.ListArray.from_arrays(column.offsets, values)
        else:
            column = pa.array(np.asarray(column) * FAR)
        table = table.set_column(place, name, column)
    return table


def train(rank: int, folder: str, model: str, world: int, num_steps: int) -> None:
    """One rank's run to `num_steps`, from the newest checkpoint on if there is one."""
    torch.set_num_threads(1)
    path, size = Path(folder), model.split("-")[0]
    store = dist.FileStore(str(path / f"{model}.{world}.{num_steps}.store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        config = zch_config(path, model, size)
        config.train_config.num_steps = num_steps
        trainer = Trainer(config, torch.device("cpu"), continue_train=True)
        loaded = _gathered(trainer.model)
        fresh = _watch_resets(trainer)
        trainer.train()
        trainer.save()
        trainer.checkpoints.close()
        trained = _gathered(trainer.model)
        evaluation = trainer.evaluate()
        assert evaluation is not None
        result = {
            "history": [asdict(entry)["losses"] for entry in trainer.recorder.history],
            "loaded": loaded,
            "trained": trained,
            "evaluated": _gathered(trainer.model),
            "metrics": evaluation.metrics,
            "fresh": fresh,
            "lookups": _lookups(trainer, trained),
        }
    except ConfigError as error:
        result = {"error": str(error)}
    torch.save(result, path / f"{model}.{world}.{rank}")
    dist.destroy_process_group()


def _gathered(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Per table, over all ranks: row and vector of each id; the vectors of others."""
    own = {}
    for table in managed_tables(model):
        ids, rows = table.ids._mch_sorted_raw_ids, table.ids._mch_remapped_ids_mapping
        local = rows - table.ids._output_global_offset
        has = {
            int(ids[n]): (int(rows[n]), table.weights[local[n]].tolist())
            for n in range(len(ids))
            if ids[n] != NO_ID
        }
        own[table.name.split(".")[-1]] = (has, table.weights[-1].tolist())
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    return {
        name: {
            "ids": {key: value for part in parts for key, value in part[name][0].items()},
            "others": [part[name][1] for part in parts],
        }
        for name in own
    }


def _watch_resets(trainer: Trainer) -> list[bool]:
    """Whether what new ids found was as at the start, each time that some got rows."""
    fresh = []

    def watched(table: Any, reset: Any) -> Any:
        def call(rows: torch.Tensor) -> None:
            reset(rows)
            vectors, (states,) = table.weights[rows], (each[rows] for each in table.states)
            is_initial = vectors == 0.5
            if "tags" in table.name:  # TorchRec's default
                is_initial = vectors.abs() <= table.ids.output_size() ** -0.5
            fresh.append(bool(is_initial.all() and (states == 0).all()))

        return call

    for table in managed_tables(trainer.model):
        assert table.ids.reset_rows is not None
        table.ids.reset_rows = watched(table, table.ids.reset_rows)
    return fresh


def _lookups(trainer: Trainer, trained: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Pooled features of this rank's first batch: as the model finds them, and by hand."""
    model: Any = trainer.model.module
    batch = next(iter(trainer.loader.batches(0)))
    trainer.model.eval()
    with torch.no_grad():
        found = model.model.tables(batch)
    world, checked = dist.get_world_size(), {}
    for name in ("user_id", "tags"):
        table, jagged = trained[f"{name}_emb"], batch.ids[name]
        expected = []
        for ids in jagged.to_dense():
            vectors = [
                table["ids"][int(i)][1]
                if int(i) in table["ids"]
                else table["others"][int(i) // -(-(2**63 - 1) // world)]
                for i in ids
            ]
            width = len(table["others"][0])
            total = np.sum(vectors, axis=0) if vectors else np.zeros(width)
            expected.append(total / max(len(vectors), 1) if name == "tags" else total)
        key = ("ids", name, f"{name}_emb")
        checked[name] = (found.rows[key].double().numpy(), np.array(expected))
    return checked


def restored_alone(folder: str) -> None:
    """The checkpoint of two ranks as evaluation and prediction load it, on one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    run = Run(zch_config(Path(folder), "restored", "tight"), Path(folder) / "tight/model.ckpt-9")
    model, _ = restore(run, parse_tasks(run.config), torch.device("cpu"), averages=False)
    torch.save(_gathered(model), f"{folder}/restored")
    dist.destroy_process_group()


def two_ranks(rank: int, folder: str) -> None:
    """Whole runs; one that stops, is copied, and goes on."""
    train(rank, folder, "roomy", 2, NUM_STEPS)
    train(rank, folder, "tight", 2, NUM_STEPS)
    train(rank, folder, "tight-stopped", 2, STOP_AT)
    if rank == 0:
        shutil.copytree(f"{folder}/tight-stopped", f"{folder}/tight-alone")
    train(rank, folder, "tight-stopped", 2, NUM_STEPS)
    if rank == 0:
        train(rank, folder, "tight-alone", 1, NUM_STEPS)
        restored_alone(folder)
        shutil.copytree(f"{folder}/tight-alone", f"{folder}/tight-many")
    dist.init_process_group(
        "gloo", store=dist.FileStore(f"{folder}/done", 2), rank=rank, world_size=2
    )
    dist.barrier()
    dist.destroy_process_group()
    train(rank, folder, "tight-many", 2, NUM_STEPS + 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("zch")
    write_dataset(folder / "data", far(sequence_table()))
    write_dataset(folder / "eval", far(sequence_table()))
    mp.spawn(two_ranks, args=(str(folder),), nprocs=2)
    names = ("roomy.2", "tight.2", "tight-stopped.2", "tight-alone.1", "tight-many.2")
    restored = {"restored": torch.load(folder / "restored", weights_only=False)}
    return restored | {
        f"{name}.{rank}": torch.load(folder / f"{name}.{rank}", weights_only=False)
        for name in names
        for rank in range(int(name[-1]))
    }


def test_each_id_gets_a_row_of_its_own_where_there_is_room(runs):
    data = far(sequence_table())
    columns = {"user_id_emb": data["user_id"], "item_id_emb": data["item_id"]}
    for name, column in columns.items():
        found = runs["roomy.2.0"]["trained"][name]["ids"]
        values = pa.array(column.unique().to_pylist(), pa.int64())
        assert set(found) == set(wide_hashes(values).tolist())
        rows = [row for row, _ in found.values()]
        assert len(set(rows)) == len(rows) and max(rows) < SIZES["roomy"]


def test_the_loss_falls(runs):
    history = runs["roomy.2.0"]["history"]
    assert np.mean([e["ctr/jrc_loss"] for e in history[-3:]]) < history[0]["ctr/jrc_loss"]


def test_ids_lose_their_rows_where_there_is_none_left(runs):
    for name, table in runs["tight.2.0"]["trained"].items():
        assert 0 < len(table["ids"]) <= SIZES["tight"] - 2, name  # two ranks' last rows
    before = runs["tight-stopped.2.0"]["loaded"]["shared_items"]["ids"]
    after = runs["tight.2.0"]["trained"]["shared_items"]["ids"]
    assert before.keys() - after.keys() and after.keys() - before.keys()


@pytest.mark.parametrize("size", ["roomy", "tight"])
@pytest.mark.parametrize("rank", [0, 1])
def test_new_ids_find_initial_vectors_and_optimizer_state(runs, size, rank):
    fresh = runs[f"{size}.2.{rank}"]["fresh"]
    assert len(fresh) == 4 * NUM_STEPS // INTERVAL and all(fresh)  # four tables


@pytest.mark.parametrize("run", ["roomy.2.0", "roomy.2.1", "tight.2.0", "tight.2.1"])
def test_lookups_are_pooled_from_the_rows_of_the_ids(runs, run):
    for name, (found, expected) in runs[run]["lookups"].items():
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_resume_between_evictions_is_exact(runs):
    whole, resumed = runs["tight.2.0"], runs["tight-stopped.2.0"]
    assert len(whole["history"]) == NUM_STEPS
    assert resumed["history"] == whole["history"]
    assert resumed["trained"] == whole["trained"]


def test_evaluation_changes_no_map(runs):
    for run in ("roomy.2.0", "tight.2.0"):
        assert runs[run]["evaluated"] == runs[run]["trained"]
        assert 0 < runs[run]["metrics"]["ctr"]["auc"] < 1


def test_one_rank_goes_on_with_the_ids_of_two(runs):
    merged, parts = runs["tight-alone.1.0"]["loaded"], runs["tight-stopped.2.0"]["loaded"]
    for name, table in parts.items():
        assert merged[name]["ids"] == table["ids"]
    assert len(runs["tight-alone.1.0"]["history"]) == NUM_STEPS
    grown = runs["tight-alone.1.0"]["trained"]["shared_items"]["ids"]
    assert len(grown) == SIZES["tight"] - 1  # one rank's last row alone is for others


def test_evaluation_on_one_rank_has_the_ids_of_two(runs):
    for name, table in runs["tight.2.0"]["trained"].items():
        assert runs["restored"][name]["ids"] == table["ids"]


def test_more_ranks_than_before_are_an_error(runs):
    for rank in range(2):
        message = runs[f"tight-many.2.{rank}"]["error"]
        assert "checkpoint of 1 ranks" in message and "there are 2" in message


# ------------------------------------------------------------------ one map


@pytest.mark.parametrize("policy", ["lfu", "lru", "distance_lfu"])
def test_the_ids_of_the_highest_scores_stay(policy):
    size, random = 8, np.random.default_rng(5)
    coding = ZeroCollision(policy, decay_exponent=1.5, eviction_interval=2)
    table = EmbeddingConfig(name="t", embedding_dim=4, num_embeddings=size, feature_names=["f"])
    collection = managed_collection([table], [coding], torch.device("cpu"))
    ids_map: Any = collection._managed_collision_collection._managed_collision_modules["t"]
    counts: dict[int, int] = {}  # of ids with rows
    last: dict[int, int] = {}

    def score(count: int, age: int) -> float:
        return {"lfu": count, "lru": (age + 1) ** -1.5}.get(policy, count / (age + 1) ** 1.5)

    new: dict[int, list[int]] = {}
    for step in range(1, 41):
        batch = random.zipf(1.3, int(random.integers(0, 12))) * FAR
        values = JaggedTensor(torch.as_tensor(batch), lengths=torch.tensor([len(batch)]))
        ids_map.profile({"t": values})
        for each in batch.tolist():
            new.setdefault(each, []).append(step)
        if step % 2:
            continue
        candidates = {i: (counts[i], last[i]) for i in counts}
        for each, steps in new.items():
            candidates[each] = (candidates.get(each, (0, 0))[0] + len(steps), max(steps))
        scores = {i: score(count, step - at) for i, (count, at) in candidates.items()}
        found = ids_map._mch_sorted_raw_ids
        alive = set(found[found != NO_ID].tolist())
        best = sorted(scores.values(), reverse=True)[: size - 1]
        assert sorted((scores[i] for i in alive), reverse=True) == pytest.approx(best)
        counts = {i: candidates[i][0] for i in alive}
        last = {i: candidates[i][1] for i in alive}
        new = {}


@pytest.mark.parametrize(
    ("zch", "message"),
    [
        ("zch { lfu {} }", "zch.zch_size must be positive"),
        ("zch { zch_size: 9 eviction_interval: 0 lfu {} }", "zch.eviction_interval must be"),
        ("zch { zch_size: 9 }", "one of lfu, lru, distance_lfu"),
        (
            "zch { zch_size: 9 lfu {} } num_buckets: 3",
            "exactly one of .* but got: num_buckets, zch",
        ),
        ("zch { zch_size: 9 lfu {} } weighted: true", "weighted must be false with zch"),
        (
            'zch { zch_size: 9 lfu {} } embedding_constraints { sharding_types: "table_wise" }',
            "sharding_types .* row_wise",
        ),
        (
            'zch { zch_size: 9 lfu {} } embedding_constraints { compute_kernels: "fused_uvm" }',
            "compute_kernels .* fused",
        ),
    ],
)
def test_faulty_configs(zch, message):
    config = two_task_config()
    text = f'feature_configs {{ id_feature {{ feature_name: "z" embedding_dim: 4 {zch} }} }}'
    config.MergeFrom(parse_config(text))
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_hashes_of_integers_and_text_are_wide_and_not_negative():
    values = wide_hashes(pa.array([str(n) for n in range(1000)]))
    assert (values >= 0).all() and len(set(values.tolist())) == 1000
    assert 400 < (values > 2**62).sum() < 600
