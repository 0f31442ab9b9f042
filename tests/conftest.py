"""Without a GPU, Triton interprets kernels on the CPU.

Triton decides when it is first imported, and some tests' modules bring it in: so it is said here,
before any of them is collected.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
