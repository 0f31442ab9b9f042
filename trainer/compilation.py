"""torch.compile of a model's dense network: activations, their gradients and sums in fewer passes.

The network is compiled in place, so parameters keep their names and checkpoints fit either way. The
tables are not in it: their lookups are FBGEMM's kernels already. Batches differ in rows, so shapes
are dynamic; the first training step and the first evaluated batch each wait for the compiler.
"""

import os
import shutil

from torch import nn

from trainer.config import ConfigError
from trainer.protos import pipeline_pb2 as pb


def compile_network(net: nn.Module, config: pb.EasyRecConfig) -> None:
    """Compile the network in place, if `train_config.compile_dense` says so.

    Raises:
        ConfigError: the machine has no C++ compiler, or PE-MTL is on.
    """
    if not config.train_config.compile_dense:
        return
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"train_config.compile_dense needs a C++ compiler, but `{compiler}` is not found; "
            f"install g++, name another in the environment variable CXX, or remove compile_dense"
        )
    if config.model_config.use_pareto_loss_weight:
        # PE-MTL runs backward once a task, and compiled backward passes run but once.
        raise ConfigError(
            "train_config.compile_dense cannot be true with model_config.use_pareto_loss_weight, "
            "which differentiates the network once a task; remove one of the two"
        )
    net.compile(dynamic=True)
