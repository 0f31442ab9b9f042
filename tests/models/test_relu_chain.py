"""An MLP of linear layers and ReLU is one operator where a CPU trains, with the same numbers."""

import pytest
import torch
from torch import Tensor, nn

from trainer.models import linear as linear_module
from trainer.models.layers import MLP, each_output, mlp
from trainer.models.session_linear import SplitFeatures
from trainer.protos import pipeline_pb2 as pb

# Rows, features, widths of the layers: none, one, odd, and more than a block of any library.
SHAPES = [(0, 3, (5,)), (1, 1, (1,)), (7, 3, (4, 2)), (33, 17, (9, 1, 6)), (300, 130, (257, 31))]


@pytest.fixture(params=["openblas", "mkl"], autouse=True)
def library(request, monkeypatch) -> str:
    """Each library on any processor."""
    monkeypatch.setattr(linear_module, "openblas_is_faster", lambda: request.param == "openblas")
    return request.param


def mlp_of(width: int, widths: tuple[int, ...], **options) -> nn.Module:
    torch.manual_seed(0)
    return mlp(width, pb.MLP(hidden_units=widths, **options))[0]


def by_hand(layers: nn.Module, features: Tensor, upstream: Tensor) -> list[Tensor]:
    """The output, then the gradients of the features and of each weight and bias, in float64."""
    parameters = [each.detach().double() for each in layers.parameters()]
    weights, biases = parameters[::2], parameters[1::2]
    states = [features.detach().double()]
    for weight, bias in zip(weights, biases, strict=True):
        states.append(torch.clamp(torch.einsum("bi,oi->bo", states[-1], weight) + bias, min=0))
    gradient, of_parameters = upstream.double(), []
    for n in reversed(range(len(weights))):
        gradient = gradient * (states[n + 1] > 0)
        of_parameters += [gradient.sum(0), torch.einsum("bo,bi->oi", gradient, states[n])]
        gradient = torch.einsum("bo,oi->bi", gradient, weights[n])
    return [states[-1], gradient, *reversed(of_parameters)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients(shape):
    rows, width, widths = shape
    layers = mlp_of(width, widths)
    features = torch.randn(rows, width, requires_grad=True)
    upstream = torch.randn(rows, widths[-1])
    kept = upstream.clone()
    output = layers(features)
    assert "ReLUChain" in type(output.grad_fn).__name__
    found = torch.autograd.grad(output, [features, *layers.parameters()], upstream)
    for mine, expected in zip([output, *found], by_hand(layers, features, upstream), strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(upstream, kept)  # it may be another task's gradient too


@pytest.mark.parametrize("lengths", [[1], [4], [3, 2, 1], [1, 1, 1, 1]], ids=str)
def test_features_of_a_session_once_a_session(lengths):
    layers = mlp_of(7, (5, 3))
    of_row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    per_row = torch.randn(sum(lengths), 4, requires_grad=True)
    per_session = torch.randn(len(lengths), 3, requires_grad=True)
    split = SplitFeatures(per_row, per_session, of_row, ((2, False), (3, True), (2, False)))
    side_by_side = torch.cat([per_row[:, :2], per_session[of_row], per_row[:, 2:]], dim=1)
    upstream = torch.randn(sum(lengths), 3)
    wanted = [per_row, per_session, *layers.parameters()]
    output, expected = layers(split), layers(side_by_side)
    torch.testing.assert_close(output, expected)
    found = torch.autograd.grad(output, wanted, upstream)
    torch.testing.assert_close(found, torch.autograd.grad(expected, wanted, upstream))


def test_gradients_may_be_taken_more_than_once():
    """As PE-MTL does, once a task."""
    layers, features = mlp_of(3, (4, 2)), torch.randn(5, 3)
    output, parameters = layers(features), list(layers.parameters())
    upstreams = torch.randn(2, 5, 2)
    several = [torch.autograd.grad(output, parameters, g, retain_graph=True) for g in upstreams]
    for found, upstream in zip(several, upstreams, strict=True):
        alone = torch.autograd.grad(layers(features), parameters, upstream)
        torch.testing.assert_close(found, alone, rtol=0, atol=0)


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_mlps_of_the_same_features_are_one_operator(rows):
    """Of other depths and widths; one of other features and one of other layers among them."""
    mlps = [mlp_of(6, (5, 3)), mlp_of(4, (2,)), mlp_of(6, (4,)), mlp_of(6, (3,), use_ln=True)]
    mlps.append(mlp_of(6, (7, 2, 3)))
    features, others = torch.randn(rows, 6, requires_grad=True), torch.randn(rows, 4)
    inputs = [others if number == 1 else features for number in range(len(mlps))]
    outputs = each_output(mlps, inputs)
    upstreams = [torch.randn_like(output) for output in outputs]
    assert len({output.grad_fn for output in outputs}) == 3
    assert outputs[0].grad_fn is outputs[2].grad_fn is outputs[4].grad_fn
    parameters = [each for layers in mlps for each in layers.parameters()]
    found = torch.autograd.grad(outputs, [features, *parameters], upstreams)
    alone = [layers(own) for layers, own in zip(mlps, inputs, strict=True)]
    torch.testing.assert_close(outputs, alone, rtol=0, atol=0)
    expected = torch.autograd.grad(alone, [features, *parameters], upstreams)
    torch.testing.assert_close(found, expected)
    of_features = (
        sum(by_hand(mlps[n], features, upstreams[n])[1] for n in (0, 2, 4))
        + torch.autograd.grad(mlps[3](features), features, upstreams[3])[0].double()
    )
    torch.testing.assert_close(found[0].double(), of_features, rtol=1e-5, atol=1e-5)


def test_mlps_that_share_what_their_sessions_have():
    mlps = [mlp_of(5, (4, 3)), mlp_of(5, (2,))]
    per_row, per_session = (torch.randn(n, w, requires_grad=True) for n, w in ((6, 3), (2, 2)))
    of_row = torch.tensor([0, 0, 0, 0, 1, 1])
    split = SplitFeatures(per_row, per_session, of_row, ((2, True), (3, False)))
    plain = torch.cat([per_session[of_row], per_row], dim=1)
    wanted = [per_row, per_session, *(each for layers in mlps for each in layers.parameters())]
    outputs, expected = each_output(mlps, [split, split]), [layers(plain) for layers in mlps]
    assert outputs[0].grad_fn is outputs[1].grad_fn
    torch.testing.assert_close(outputs, expected)
    upstreams = [torch.randn_like(output) for output in outputs]
    found = torch.autograd.grad(outputs, wanted, upstreams)
    torch.testing.assert_close(found, torch.autograd.grad(expected, wanted, upstreams))


def test_the_loss_may_need_one_mlp_alone():
    """As a task's does, of which PE-MTL asks for the gradient."""
    mlps, features = [mlp_of(3, (4, 2)), mlp_of(3, (5,))], torch.randn(6, 3, requires_grad=True)
    outputs = each_output(mlps, [features] * 2)
    parameters = [[*layers.parameters()] for layers in mlps]
    for one, other in ((0, 1), (1, 0)):
        upstream = torch.randn_like(outputs[one])
        wanted = [features, *parameters[one]]
        found = torch.autograd.grad(outputs[one], wanted, upstream, retain_graph=True)
        alone = torch.autograd.grad(mlps[one](features), wanted, upstream)
        torch.testing.assert_close(found, alone, rtol=0, atol=0)
        none = torch.autograd.grad(
            outputs[one], parameters[other], upstream, retain_graph=True, allow_unused=True
        )
        assert none == (None,) * len(parameters[other])


def test_scores_are_those_of_the_layers_to_the_bit():
    layers, features = mlp_of(130, (70, 9)), torch.randn(300, 130)
    with torch.no_grad():
        assert torch.equal(layers(features), nn.Sequential(*layers.children())(features))


OTHERS = {
    "batch normalisation": {"use_bn": True},
    "layer normalisation": {"use_ln": True},
    "no bias": {"bias": False},
    "tanh": {"activation": "nn.Tanh"},
    "nothing between": {"activation": ""},
    "dropout": {"dropout_ratio": [0.5]},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=list(OTHERS))
def test_other_layers_are_computed_one_by_one(options):
    layers = mlp_of(3, (4, 2), **options)
    assert isinstance(layers, MLP)
    features = torch.randn(6, 3)
    torch.manual_seed(1)
    output = layers(features)
    torch.manual_seed(1)
    torch.testing.assert_close(output, nn.Sequential(*layers.children())(features))
    assert "ReLUChain" not in type(output.grad_fn).__name__


def test_other_types_and_export():
    layers = mlp_of(3, (4, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert layers(torch.randn(5, 3)).dtype == torch.bfloat16
    exported = torch.export.export(layers.eval(), (torch.randn(4, 3),))
    assert "aten.linear" in str(exported.graph)
