"""Which implementation computes is visible, can be forced, and never changes in silence."""

import pytest
import torch

from kernels import dispatch
from losses import BinaryCrossEntropyLoss, JRCLoss


def test_cpu_tensors_take_the_eager_twin():
    assert not dispatch.use_triton(torch.zeros(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA tensor needs an NVIDIA GPU")
def test_cuda_tensors_take_the_kernel_unless_forced():
    assert dispatch.use_triton(torch.zeros(1, device="cuda"))
    assert not dispatch.use_triton(torch.zeros(1, device="cuda"), "eager")


def test_the_environment_forces_an_implementation(monkeypatch):
    monkeypatch.setenv("SESSIONWISE_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert dispatch.use_triton(torch.zeros(1))
    assert not dispatch.use_triton(torch.zeros(1), "eager")  # an argument goes first
    monkeypatch.setenv("SESSIONWISE_KERNELS", "eager")
    assert dispatch.use_triton(torch.zeros(1), "triton")
    monkeypatch.setenv("SESSIONWISE_KERNELS", "cuda")
    with pytest.raises(ValueError, match="SESSIONWISE_KERNELS must be one of auto, triton, eager"):
        dispatch.use_triton(torch.zeros(1))


def test_a_forced_kernel_that_cannot_run_is_an_error(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    labels, offsets = torch.zeros(2), torch.tensor([0, 2])
    with pytest.raises(ValueError, match="logits must be on CUDA for the Triton kernel"):
        JRCLoss(implementation="triton")(torch.zeros(2, 2), labels, session_offsets=offsets)
    with pytest.raises(ValueError, match="logits must be on CUDA for the Triton kernel"):
        BinaryCrossEntropyLoss(implementation="triton")(torch.zeros(2), labels)


def test_an_unknown_implementation_lists_the_choices():
    for loss in (JRCLoss, BinaryCrossEntropyLoss):
        with pytest.raises(ValueError, match="implementation must be one of auto, triton, eager"):
            loss(implementation="cuda")
        assert "implementation='eager'" in repr(loss(implementation="eager"))
