"""Every model learns a tiny set by heart, in one process, through the whole objective."""

from dataclasses import replace

import pytest
import torch
from torchrec import JaggedTensor, KeyedJaggedTensor

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from trainer.config import parse_config
from trainer.data.batch import SessionBatch
from trainer.data.encode import ColumnSpec
from trainer.data.feature_config import used_features
from trainer.data.loader import SessionLoader
from trainer.data.reader import SessionDataset
from trainer.models import MODELS as ALL_MODELS
from trainer.models import build_model
from trainer.objective import Objective
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import parse_tasks

TOWERS = """
    task_towers { tower_name: ctr label_name: click num_class: CLASSES
                  mlp { hidden_units: [32] MLP } losses { LOSS } }
    task_towers { tower_name: cvr label_name: buy num_class: CLASSES losses { LOSS } }
"""
RELATED = TOWERS.replace(
    "label_name: buy", "label_name: buy relation_tower_names: ctr relation_mlp { hidden_units: 8 }"
)
ONE_TASK = "losses { LOSS } num_class: CLASSES"
IDS = "feature_names: user_id feature_names: item_id"
SPARSE = f"feature_groups {{ group_name: sparse {IDS} }}"
DENSE = "feature_groups { group_name: dense feature_names: price }"
WIDE = """feature_groups { group_name: wide group_type: WIDE
    feature_names: user_id feature_names: tags }"""
DEEP = f"feature_groups {{ group_name: deep {IDS} }}"
SEQUENCE = """feature_names: item_id feature_names: price feature_names: clicks__item
    feature_names: clicks__price"""
MASKS = """n_mask_blocks: 2 mask_block { hidden_dim: 16 reduction_ratio: 2 }
    top_mlp { hidden_units: 16 MLP }"""
MODELS = {
    "simple_multi_task": f"simple_multi_task {{ {TOWERS} }}",
    "dbmtl": f"dbmtl {{ bottom_mlp {{ hidden_units: [32] }} {RELATED} }}",
    "dbmtl with experts": f"""dbmtl {{ expert_mlp {{ hidden_units: [32] }} num_expert: 4
        gate_mlp {{ hidden_units: [8] }} {TOWERS} }}""",
    "dbmtl with mask_net": f"dbmtl {{ mask_net {{ {MASKS} }} {RELATED} }}",
    "mmoe": f"mmoe {{ expert_mlp {{ hidden_units: 16 MLP }} num_expert: 3 {TOWERS} }}",
    "ple": f"""ple {{
        extraction_networks {{ network_name: a expert_num_per_task: 2 share_num: 1
            task_expert_net {{ hidden_units: 24 MLP }} share_expert_net {{ hidden_units: 24 }} }}
        extraction_networks {{ network_name: b expert_num_per_task: 1 share_num: 2
            task_expert_net {{ hidden_units: 16 }} share_expert_net {{ hidden_units: [8, 16] }} }}
        {TOWERS} }}""",
    "pepnet": f"""feature_groups {{ group_name: domain feature_names: city }}
        feature_groups {{ group_name: uia {IDS} }}
        pepnet {{ ppnet_hidden_units: [32, 16] domain_input_name: click task_domain_num: 2
                  {TOWERS} }}""",
    "multi_tower": f"""feature_groups {{ group_name: users feature_names: user_id }}
        multi_tower {{ towers {{ input: all mlp {{ hidden_units: [32] MLP }} }}
                       towers {{ input: users }} final {{ hidden_units: [16] }} }} {ONE_TASK}""",
    "multi_tower_din": f"""feature_groups {{ group_name: seq group_type: SEQUENCE {SEQUENCE} }}
        multi_tower_din {{ towers {{ input: all mlp {{ hidden_units: [32] }} }}
            din_towers {{ input: seq attn_mlp {{ hidden_units: [8] MLP }} }}
            final {{ hidden_units: [16] }} }} {ONE_TASK}""",
    "wide_and_deep": f"""{WIDE} {DEEP} wide_and_deep {{ deep {{ hidden_units: 32 MLP }}
        final {{ hidden_units: 16 }} wide_init_fn: "nn.init.normal_,mean=0,std=0.1" }}
        {ONE_TASK}""",
    "deepfm": f"""{WIDE} {DEEP} deepfm {{ deep {{ hidden_units: 32 MLP }}
        final {{ hidden_units: 16 }} wide_embedding_dim: 8 }} {ONE_TASK}""",
    "dcn_v1": f"""dcn_v1 {{ cross {{ cross_num: 2 }} deep {{ hidden_units: 32 MLP }}
        final {{ hidden_units: 16 }} }} {ONE_TASK}""",
    "dcn_v2": f"""dcn_v2 {{ backbone {{ hidden_units: 16 }} cross {{ cross_num: 2 low_rank: 4 }}
        deep {{ hidden_units: 32 MLP }} final {{ hidden_units: 16 }} }} {ONE_TASK}""",
    "dlrm": f"""{DENSE} {SPARSE} dlrm {{ dense_mlp {{ hidden_units: [16, 8] }}
        final {{ hidden_units: [32, 16] MLP }} }} {ONE_TASK}""",
    "mask_net": f"mask_net {{ mask_net_module {{ {MASKS} }} }} {ONE_TASK}",
    "mask_net in series": f"""mask_net {{ mask_net_module {{ {MASKS} use_parallel: false }} }}
        {ONE_TASK}""",
    "wukong": f"""{DENSE} {SPARSE} wukong {{ dense_mlp {{ hidden_units: 8 }}
        wukong_layers {{ lcb_feature_num: 2 fmb_feature_num: 2 compressed_feature_num: 4
                         feature_num_mlp {{ hidden_units: 16 MLP }} }}
        final {{ hidden_units: 16 }} }} {ONE_TASK}""",
}
WITHOUT_ALL = ("wide_and_deep", "deepfm", "dlrm", "wukong")  # models that name their groups
LOSSES = {
    "jrc": ("jrc_loss { session_name: session_id }", 2),
    "jrc of the paper": ("jrc_loss { session_name: session_id contrast: SESSION }", 2),
    "softmax": ("softmax_cross_entropy {}", 2),
    "binary cross-entropy": ("binary_cross_entropy {}", 1),
    "binary cross-entropy on two logits": ("binary_cross_entropy {}", 2),
    "focal": ("binary_focal_loss {}", 1),
    "l2": ("l2_loss {}", 1),
    "jrc and cross-entropy": (
        "jrc_loss { session_name: session_id } } losses { binary_cross_entropy {}",
        2,
    ),
}
CLICKS = """feature_configs { sequence_feature { sequence_name: clicks sequence_length: 5
    features { id_feature { feature_name: item num_buckets: 30 embedding_dim: 8 } }
    features { raw_feature { feature_name: price } } } }"""


def config_of(model: str, loss: str, mlp: str = "") -> EasyRecConfig:
    config = two_task_config()
    config.model_config.ClearField("dbmtl")
    if model in WITHOUT_ALL:
        config.model_config.ClearField("feature_groups")
    text, classes = LOSSES[loss]
    body = MODELS[model].replace("LOSS", text).replace("CLASSES", str(classes)).replace("MLP", mlp)
    config.MergeFrom(parse_config(f"{CLICKS} model_config {{ {body} }}"))
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SessionDataset:
    path = tmp_path_factory.mktemp("models") / "data"
    return SessionDataset.open(write_dataset(path, click_table(12), num_files=1))


def one_batch(config: EasyRecConfig, data: SessionDataset) -> SessionBatch:
    """All rows, with made-up sequences."""
    features = [feature for feature in used_features(config) if feature.sequence is None]
    spec = ColumnSpec(tuple(features), tuple(parse_tasks(config)))
    (batch,) = SessionLoader(data, spec, batch_size=10_000).batches()
    lengths = torch.arange(batch.num_rows) % 6
    count = int(lengths.sum())
    ids = KeyedJaggedTensor(["clicks__item"], torch.arange(count) % 30, lengths=lengths)
    prices = JaggedTensor(torch.rand(count, 1), lengths=lengths)
    return replace(batch, sequences=ids, sequence_dense={"clicks__price": prices})


def overfits(config: EasyRecConfig, data: SessionDataset, target: float = 0.15) -> bool:
    """Whether training on one batch brings the loss below a share of what it was."""
    tasks = parse_tasks(config)
    batch = one_batch(config, data)
    torch.manual_seed(0)
    objective = Objective(build_model(config, tasks, "cpu"), tasks, config.model_config)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.03)
    first = torch.inf
    for step in range(200):
        optimizer.zero_grad()
        loss, _ = objective(batch)
        if step == 0:
            first = loss.item()
        if loss.item() < target * first:
            return True
        loss.backward()
        without = [name for name, p in objective.named_parameters() if p.grad is None]
        assert not without, f"no effect on the loss: {without}"
        optimizer.step()
    return False


def test_every_model_is_here():
    assert {name.partition(" ")[0] for name in MODELS} == set(ALL_MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_overfits(model, data):
    assert overfits(config_of(model, "softmax"), data)


@pytest.mark.parametrize("model", ["dbmtl", "multi_tower_din"])
@pytest.mark.parametrize(
    "mlp", ["use_ln: true", 'use_bn: true activation: "nn.SiLU"', "activation: Dice"]
)
def test_each_kind_of_layer_overfits(model, mlp, data):
    assert overfits(config_of(model, "softmax", mlp), data)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_trains(loss, data):
    # The paper's form ranks positives against positives too: their number bounds it from below.
    target = 0.85 if loss == "jrc of the paper" else 0.15
    assert overfits(config_of("dbmtl", loss), data, target)


@pytest.mark.parametrize("gradient", ["SHARED_PARAMETERS", "SHARED_REPRESENTATION"])
@pytest.mark.parametrize("model", ["simple_multi_task", "dbmtl", "mmoe", "ple", "pepnet"])
def test_pareto_weights_train_too(model, gradient, data):
    config = config_of(model, "jrc")
    config.model_config.use_pareto_loss_weight = True
    config.MergeFrom(parse_config(f"model_config {{ pareto_gradient: {gradient} }}"))
    assert overfits(config, data, target=0.2)
