"""Commands: `torchrun launch/train.py`."""
