"""Losses of click models.

Every loss is an `nn.Module` that is called alike, so that a trainer needs no case per loss:

    loss(logits, labels, session_offsets=offsets, sample_weight=weight)

    logits           [B], [B, 1] or [B, C], as the loss states; any floating type
    labels           [B], integer, bool or float
    session_offsets  [S + 1] (or session_ids [B]); session losses (JRC, ListNet, RankNet, RCR) need
                     one, pointwise losses ignore both
    sample_weight    [B] or None

and returns a scalar, or [B] with `reduction="none"`. Pass the last two by name: their position
differs, since session losses take sessions before weights. Sums over several losses of one task,
and the scale for ranks of unequal rows, are the trainer's.

Label values are the loader's to check: reading them here would stop the device on every step.

`ParetoLossWeights` is no loss: it weighs the losses of several tasks by their gradients.
"""

from losses.jrc import JRCLoss, jrc_losses
from losses.list_net import ListNetLoss
from losses.pareto import ParetoLossWeights, check_min_weights, gram_matrix, pareto_weights
from losses.pointwise import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    L2Loss,
    PointwiseLoss,
    SoftmaxCrossEntropyLoss,
)
from losses.rank_net import RankNetLoss
from losses.rcr import RegressionCompatibleRankingLoss

__all__ = [
    "BinaryCrossEntropyLoss",
    "BinaryFocalLoss",
    "JRCLoss",
    "L2Loss",
    "ListNetLoss",
    "ParetoLossWeights",
    "PointwiseLoss",
    "RankNetLoss",
    "RegressionCompatibleRankingLoss",
    "SoftmaxCrossEntropyLoss",
    "check_min_weights",
    "gram_matrix",
    "jrc_losses",
    "pareto_weights",
]
