"""`autodis` and `mlp` of raw features: their formulas; trained, predicted and served alike."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.configs import two_task_config
from tests.datasets import click_table, write_dataset
from tests.models.test_references import randomize, rows, softmax, weights
from tests.serving_here import expect_served_as_predicted
from tests.training_here import all_tensors, one_rank
from trainer.checks.config import check_config
from trainer.config import ConfigError, parse_config
from trainer.data.features import NumberEmbedding, RawFeature
from trainer.models import build_model
from trainer.models.numbers import AutoDis, Projection
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.tasks import parse_tasks
from trainer.trainer import Trainer

assert one_rank  # a fixture that is imported to be used by name
CPU = torch.device("cpu")
FEATURES = """
feature_configs { raw_feature { feature_name: "stay" embedding_dim: 6
                                autodis { num_channels: 3 temperature: 0.5 keep_prob: 0.7 } } }
feature_configs { raw_feature { feature_name: "weight" embedding_dim: 5 mlp {} } }
feature_configs { raw_feature { feature_name: "pair" value_dim: 2 embedding_dim: 4 mlp {} } }
"""


def config_of(folder: Path) -> EasyRecConfig:
    """The two tasks, with embedded numbers in their group, beside the plain one."""
    config = two_task_config(
        train_input_path=str(folder / "train"),
        eval_input_path=str(folder / "train"),
        model_dir=str(folder / "model"),
        train_config__num_steps=4,
        data_config__num_workers=0,
    )
    config.MergeFrom(parse_config(FEATURES))
    config.model_config.feature_groups[0].feature_names.extend(["stay", "weight", "pair"])
    return config


def test_autodis_is_the_papers_formula():
    config = NumberEmbedding(width=6, num_channels=3, temperature=0.5, keep_prob=0.7)
    module = randomize(AutoDis(config))
    w, mix, embeddings = (
        weights(module)[f"{name}.weight"] for name in ("spread", "mix", "embeddings")
    )
    numbers = rows(7, 1)
    expected = []
    for x in numbers.numpy()[:, 0]:
        hidden = x * w[:, 0]
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        chosen = softmax((mix @ hidden + 0.7 * hidden) / 0.5)
        expected.append(sum(chosen[c] * embeddings[:, c] for c in range(3)))
    np.testing.assert_allclose(module(numbers).detach().numpy(), np.array(expected), rtol=1e-12)


def test_mlp_is_a_product_with_a_matrix():
    module = randomize(Projection(2, 4))
    (matrix,) = weights(module).values()
    numbers = rows(5, 2)
    expected = [[sum(m * x for m, x in zip(row, each, strict=True)) for row in matrix]
                for each in numbers.numpy()]  # fmt: skip
    np.testing.assert_allclose(module(numbers).detach().numpy(), expected, rtol=1e-12)


def test_initial_spread():
    torch.manual_seed(0)
    module = AutoDis(NumberEmbedding(width=400, num_channels=99, temperature=1.0, keep_prob=0.8))
    assert module.spread.weight.std().item() == pytest.approx((2 / 100) ** 0.5, rel=0.2)
    assert module.mix.weight.std().item() == pytest.approx((1 / 99) ** 0.5, rel=0.05)
    assert module.embeddings.weight.std().item() == pytest.approx(1.0, rel=0.05)
    projection = Projection(3, 997)
    assert projection.linear.weight.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.1)


def test_groups_see_the_embeddings_and_share_them(tmp_path):
    config = config_of(tmp_path)
    check_config(config)
    model = build_model(config, parse_tasks(config), "cpu")
    assert model.groups.widths == {"all": (8, 1, 8, 4, 4, 6, 5, 4)}
    names = {name for name, _ in model.groups.named_parameters()}
    assert names == {
        "numbers.stay_emb.spread.weight",
        "numbers.stay_emb.mix.weight",
        "numbers.stay_emb.embeddings.weight",
        "numbers.weight_emb.linear.weight",
        "numbers.pair_emb.linear.weight",
    }


@pytest.mark.usefixtures("one_rank")
def test_trained_predicted_and_served_alike(tmp_path):
    table = click_table(40)
    pairs = np.random.default_rng(0).random((table.num_rows, 2)).astype(np.float32)
    table = table.append_column("pair", pa.array(list(pairs), pa.list_(pa.float32())))
    write_dataset(tmp_path / "train", table)
    trainer = Trainer(config_of(tmp_path), CPU)
    before = all_tensors(trainer)
    evaluation = trainer.train_and_evaluate()
    assert evaluation is not None and np.isfinite(evaluation.metrics["ctr"]["auc"])
    moved = [name for name, value in all_tensors(trainer).items()
             if "/" not in name and ".numbers." in name
             and not torch.equal(value, before[name])]  # fmt: skip
    assert len(moved) == 5
    expect_served_as_predicted(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp {}", "mlp needs an embedding_dim, but it is missing or 0"),
        ("autodis { num_channels: 2 }", "autodis needs an embedding_dim"),
        ("embedding_dim: 4 autodis {}", "autodis.num_channels must be positive, but got: 0"),
        (
            "embedding_dim: 4 autodis { num_channels: 2 temperature: 0 }",
            "autodis.temperature must be positive, but got: 0",
        ),
        (
            "embedding_dim: 4 value_dim: 2 autodis { num_channels: 2 }",
            "value_dim must be 1 with autodis, but got: 2",
        ),
        (
            "embedding_dim: 4 boundaries: 1 mlp {}",
            "mlp takes effect without boundaries and outside sequences alone; remove it",
        ),
    ],
)
def test_fields_that_do_not_fit_are_errors(text, message):
    config = two_task_config()
    config.MergeFrom(
        parse_config(f'feature_configs {{ raw_feature {{ feature_name: "f" {text} }} }}')
    )
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_numbers_of_a_sequence_have_no_embedding():
    config = two_task_config()
    text = 'sequence_raw_feature { feature_name: "f" embedding_dim: 4 autodis { num_channels: 2 } }'
    config.MergeFrom(parse_config(f"feature_configs {{ {text} }}"))
    with pytest.raises(ConfigError, match="autodis takes effect without boundaries and outside"):
        check_config(config)
    assert RawFeature("f", "f", dim=3).width == 3
