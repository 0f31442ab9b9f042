"""On the GPU where there is one (marker `gpu`), else on the CPU in Triton's interpreter."""

import pytest
import torch

HAS_GPU = torch.cuda.is_available()


@pytest.fixture(
    params=[pytest.param("cuda", marks=pytest.mark.gpu) if HAS_GPU else "cpu"],
    ids=["cuda" if HAS_GPU else "interpreter"],
)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _poisoned_scratch():
    """Fills what `torch.empty` gives with NaN: to read what was never written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch):
    """The interpreter is slow: tiles of a few rows, so that small batches have many of them."""
    if not HAS_GPU:
        from kernels import jrc, pointwise

        monkeypatch.setattr(jrc, "SMALL_BLOCK", 8)
        monkeypatch.setattr(jrc, "LONG_SESSION", 64)
        monkeypatch.setattr(pointwise, "SMALL_BLOCK", 32)
        monkeypatch.setattr(pointwise, "TILE_LOGITS", 64)
        monkeypatch.setattr(pointwise, "MAX_CLASSES", 16)
