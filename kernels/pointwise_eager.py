"""The pointwise losses in eager torch: the definition of truth for the kernels.

Shapes: `B` rows in the batch, `C` classes, `z` a click model's logit with p = sigmoid(z). Each
function returns the losses of the rows, [B], in the type of the logits (float32 or float64).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_cross_entropy_rows(logit: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """-y * log p - (1 - y) * log(1 - p) with y = labels * (1 - s) + s / 2; logit [B]."""
    target = labels.to(logit.dtype) * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return F.binary_cross_entropy_with_logits(logit, target, reduction="none")


def binary_focal_rows(logit: Tensor, labels: Tensor, gamma: float, alpha: float) -> Tensor:
    """-alpha * y * (1-p)^gamma * log p - (1-alpha) * (1-y) * p^gamma * log(1-p); logit [B]."""
    y = labels.to(logit.dtype)
    # Powers of p as exp(gamma * log p): no 0 ** gamma, whose slope is infinite for gamma < 1.
    log_p, log_not_p = F.logsigmoid(logit), F.logsigmoid(-logit)
    positive = torch.exp(gamma * log_not_p) * log_p  # (1 - p)^gamma * log p
    negative = torch.exp(gamma * log_p) * log_not_p  # p^gamma * log(1 - p)
    return -alpha * y * positive - (1.0 - alpha) * (1.0 - y) * negative


def softmax_cross_entropy_rows(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """(1 - s) * -log softmax(f)[y] + s * the mean of -log softmax(f); logits [B, C]."""
    return F.cross_entropy(logits, labels.long(), reduction="none", label_smoothing=label_smoothing)


def l2_rows(prediction: Tensor, labels: Tensor) -> Tensor:
    """(f - y)^2; prediction [B]."""
    return F.mse_loss(prediction, labels.to(prediction.dtype), reduction="none")
