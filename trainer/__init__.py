"""Session-aligned batches, TorchRec models, training, evaluation; started by `launch/`."""
