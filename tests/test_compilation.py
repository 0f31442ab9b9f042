"""compile_dense: the same network, compiled; and what it refuses."""

import pytest
import torch
from torch import nn

from tests.configs import two_task_config
from trainer.compilation import compile_network
from trainer.config import ConfigError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def gradients(net: nn.Module, rows: int) -> list[torch.Tensor]:
    torch.manual_seed(rows)
    loss = net(torch.randn(rows, 6)).logsumexp(dim=1).sum()
    return list(torch.autograd.grad(loss, list(net.parameters())))


def test_the_compiled_network_has_the_same_parameters_and_gradients() -> None:
    plain, compiled = network(), network()
    compile_network(compiled, two_task_config(train_config__compile_dense=True))
    assert compiled._compiled_call_impl is not None
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for rows in (7, 12):
        for found, expected in zip(gradients(compiled, rows), gradients(plain, rows), strict=True):
            torch.testing.assert_close(found, expected)


def test_nothing_is_compiled_without_the_option() -> None:
    net = network()
    compile_network(net, two_task_config())
    assert net._compiled_call_impl is None


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="`no-such-compiler` is not found; install g"):
        compile_network(network(), two_task_config(train_config__compile_dense=True))


def test_pareto_weights_are_refused() -> None:
    config = two_task_config(
        train_config__compile_dense=True, model_config__use_pareto_loss_weight=True
    )
    with pytest.raises(ConfigError, match="remove one of the two"):
        compile_network(network(), config)
