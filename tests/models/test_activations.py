"""Activations by name: what each computes of a few numbers, by its formula; and faulty texts."""

import math

import pytest
import torch
from torch import nn

from trainer.config import ConfigError
from trainer.models.activation import NAMES
from trainer.models.layers import Dice, activation, mlp
from trainer.protos import pipeline_pb2 as pb


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nn.ReLU", [0.0, 0.0, 3.0]),
        (" torch.nn.ReLU ", [0.0, 0.0, 3.0]),
        ("nn.ReLU()", [0.0, 0.0, 3.0]),
        ("nn.LeakyReLU", [-0.02, 0.0, 3.0]),
        ("nn.LeakyReLU(negative_slope=0.2)", [-0.4, 0.0, 3.0]),
        ("nn.LeakyReLU( negative_slope = 1e-1, inplace=True )", [-0.2, 0.0, 3.0]),
        ("nn.Hardtanh(min_val=-1.5, max_val=2)", [-1.5, 0.0, 2.0]),
        ("nn.ELU(alpha=2)", [2 * math.expm1(-2), 0.0, 3.0]),
        ("nn.Softplus", [math.log1p(math.exp(x)) for x in (-2, 0, 3)]),
        ("nn.Softsign", [-2 / 3, 0.0, 3 / 4]),
        ("nn.GELU(approximate='none')", [x * (1 + math.erf(x / 2**0.5)) / 2 for x in (-2, 0, 3)]),
        ("nn.PReLU(num_parameters=3, init=0.5)", [-1.0, 0.0, 3.0]),
        ("nn.Threshold(threshold=1, value=20)", [20.0, 20.0, 3.0]),
        ("nn.Identity", [-2.0, 0.0, 3.0]),
        ("  ", [-2.0, 0.0, 3.0]),
    ],
)
def test_activations_compute_what_their_text_says(text, expected):
    found = activation(text, 3)(torch.tensor([[-2.0, 0.0, 3.0]]))
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_every_name_is_built_without_arguments_or_says_what_is_missing():
    for name in NAMES:
        if name != "Threshold":
            module = activation(f"nn.{name}", 5)
            assert type(module) is getattr(nn, name)
            assert module.training
    with pytest.raises(ConfigError, match=r"nn.Threshold takes, .* missing 2 required"):
        activation("nn.Threshold", 5)
    assert isinstance(activation(" Dice ", 5), Dice)


def test_layers_of_an_mlp_have_the_activation_of_its_config():
    net, _ = mlp(2, pb.MLP(hidden_units=[4, 3], activation="nn.Hardtanh(max_val=0.5)"))
    assert [m.max_val for m in net.modules() if isinstance(m, nn.Hardtanh)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nn.Foo", r"activation must be one of Dice, nn.ReLU, .* but got: `nn.Foo`"),
        ("ReLU", r"must be one of"),
        ("torch.ReLU", r"must be one of"),
        ("nn.Linear(in_features=2, out_features=2)", r"must be one of"),
        ("nn.LeakyReLU(0.2)", r"must be one of .* arguments as in nn.LeakyReLU\(negative_slope"),
        ("nn.LeakyReLU(negative_slope=__import__('os').getpid())", r"must be one of"),
        ("nn.LeakyReLU(negative_slope=[1])", r"must be one of"),
        ("nn.LeakyReLU(**{})", r"must be one of"),
        ("nn.ReLU; 1", r"must be one of"),
        ("nn.ReLU(", r"must be one of"),
        ("nn.ELU(slope=1)", r"arguments that nn.ELU takes, but got: `nn.ELU\(slope=1\)` .*'slope'"),
        ("nn.GELU(approximate='no')", r"arguments that nn.GELU takes"),
        ("nn.PReLU(num_parameters=4)", r"arguments that nn.PReLU takes"),
        ("nn.Hardtanh(min_val=3, max_val=1)", r"arguments that nn.Hardtanh takes"),
    ],
)
def test_faulty_activations(text, message):
    with pytest.raises(ConfigError, match=message):
        activation(text, 3)
