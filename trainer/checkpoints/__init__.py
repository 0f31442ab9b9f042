"""Checkpoints: written behind training, whole or not at all, loaded at any world size."""
