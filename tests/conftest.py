"""For all tests: Triton's interpreter without a GPU, and the order of files.

Triton decides when it is first imported, and some tests' modules bring it in: so it is said here,
before any of them is collected.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: parallel workers then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
