"""Session-aligned batches, TorchRec models, training, evaluation; started by `launch/`."""

import os

# Tensors of 2 MiB and more in huge pages, where Linux leaves the choice to programs: fewer misses
# of the address cache. PyTorch looks at its first allocation, which importing TorchRec makes.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
