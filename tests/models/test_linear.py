"""Linear: the layer of PyTorch, whichever library multiplies."""

import pytest
import torch
from torch import Tensor

from trainer.models import linear as module
from trainer.models.linear import Linear

# Rows, input and output width: none, one, odd, and more than a block of any library.
SHAPES = [(0, 3, 5), (1, 1, 1), (7, 1, 3), (5, 3, 1), (33, 17, 9), (300, 130, 257), (4, 0, 6)]


@pytest.fixture(params=["openblas", "mkl"], autouse=True)
def library(request, monkeypatch) -> str:
    """Each library on any processor."""
    monkeypatch.setattr(module, "openblas_is_faster", lambda: request.param == "openblas")
    return request.param


def layer_of(width_in: int, width_out: int, bias: bool = True) -> Linear:
    torch.manual_seed(0)
    with torch.no_grad():
        layer = Linear(max(width_in, 1), width_out, bias=bias)
    layer.weight = torch.nn.Parameter(layer.weight[:, :width_in].detach().clone())
    return layer


def expected(layer: Linear, features: Tensor, upstream: Tensor) -> list[Tensor]:
    """The output, then the gradients of the features, weight and bias, by hand in float64."""
    x, w, g = features.detach().double(), layer.weight.detach().double(), upstream.double()
    output = torch.einsum("bi,oi->bo", x, w)
    gradients = [torch.einsum("bo,oi->bi", g, w), torch.einsum("bo,bi->oi", g, x)]
    if layer.bias is not None:
        output = output + layer.bias.detach().double()
        gradients.append(g.sum(0))
    return [output, *gradients]


def check(layer: Linear, features: Tensor, upstream: Tensor) -> None:
    output = layer(features)
    wanted = [features, *layer.parameters()]
    found = [output, *torch.autograd.grad(output, wanted, upstream)]
    for mine, reference in zip(found, expected(layer, features, upstream), strict=True):
        torch.testing.assert_close(mine.double(), reference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients(shape, bias):
    rows, width_in, width_out = shape
    layer = layer_of(width_in, width_out, bias)
    features = torch.randn(rows, width_in, requires_grad=True)
    check(layer, features, torch.randn(rows, width_out))


def test_any_strides():
    layer = layer_of(6, 4)
    wide = torch.randn(5, 13)
    views = [
        wide[:, 2:8],
        wide[:, ::2][:, :6],
        torch.randn(6, 5).t(),
        torch.randn(1, 6).expand(5, 6),
    ]
    upstreams = [torch.randn(5, 4), torch.randn(1).expand(5, 4), torch.randn(4, 5).t()]
    for features in views:
        for upstream in upstreams:
            check(layer, features.detach().requires_grad_(), upstream)


def test_only_what_is_wanted_gets_a_gradient():
    layer = layer_of(3, 2)
    layer.weight.requires_grad_(False)
    features = torch.randn(4, 3, requires_grad=True)
    layer(features).sum().backward()
    assert layer.weight.grad is None and features.grad is not None
    assert layer.bias.grad is not None


def test_other_types_and_shapes():
    layer = layer_of(3, 2)
    for features in (torch.randn(3), torch.randn(2, 5, 3)):
        reference = torch.nn.functional.linear(features, layer.weight, layer.bias)
        torch.testing.assert_close(layer(features), reference)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(4, 3)).dtype == torch.bfloat16
    assert layer.double()(torch.randn(4, 3).double()).dtype == torch.float64


def test_a_second_gradient_is_an_error_not_a_wrong_number(library):
    """The trainer needs none; PyTorch would take NumPy's product for a constant."""
    if library == "mkl":
        return
    features = torch.randn(4, 3, requires_grad=True)
    (first,) = torch.autograd.grad(
        layer_of(3, 2)(features).square().sum(), features, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiable"):
        first.sum().backward()


def test_scores_without_gradients_are_those_of_pytorch_to_the_bit():
    layer, features = layer_of(130, 70), torch.randn(300, 130)
    with torch.no_grad():
        expected = torch.nn.functional.linear(features, layer.weight, layer.bias)
        assert torch.equal(layer(features), expected)


def test_export_sees_plain_operators():
    exported = torch.export.export(layer_of(3, 2).eval(), (torch.randn(4, 3),))
    assert "aten.linear" in str(exported.graph)
