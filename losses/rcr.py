"""RCR: regression compatible ranking.

Bai et al., "Regression Compatible Listwise Objectives for Calibrated Ranking with Binary
Relevance", CIKM 2023 (arXiv 2211.01494), definition 2. The loss of a session is the *sum* of the
cross-entropies of its rows and *one* listwise cross-entropy of its sigmoids:

    (1 - alpha) * sum_i ce_i - alpha * sum_i q_i * log(sigmoid(f_i) / sum_j sigmoid(f_j))

    ce_i = -y_i * log sigmoid(f_i) - (1 - y_i) * log(1 - sigmoid(f_i))
    q_i  = y_i / sum of y over the session               0 in a session without positives

Both parts are least where sigmoid(f_i) is the probability of a click: unlike a sum with ListNet,
ranking does not pull against calibration.

Shapes: `B` rows in the batch, `S` sessions.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from losses.list_net import list_cross_entropy_rows
from losses.reduction import check_fraction
from losses.session_loss import SessionLoss


class RegressionCompatibleRankingLoss(SessionLoss):
    """The loss of this module's docstring; a row carries its own term of both sums.

    Args:
        alpha: share of ranking, within [0, 1], as in the paper (in `JRCLoss` alpha is the share of
            calibration).
        reduction: as in `SessionLoss`.
    """

    loss_name = "rcr_loss"

    def __init__(self, alpha: float = 0.5, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.alpha = check_fraction("alpha", alpha)

    def extra_repr(self) -> str:
        """The parameters, as `print(model)` shows them."""
        return f"alpha={self.alpha}, {super().extra_repr()}"

    def row_losses(self, scores: Tensor, is_positive: Tensor, offsets: Tensor) -> Tensor:
        """(1 - alpha) * ce_i - alpha * q_i * log(sigmoid(f_i) / sum_j sigmoid(f_j))."""
        labels = is_positive.to(scores.dtype)
        pointwise = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
        # log of a sigmoid's share is the log softmax of log-sigmoids
        listwise = list_cross_entropy_rows(F.logsigmoid(scores), is_positive, offsets)
        return (1.0 - self.alpha) * pointwise + self.alpha * listwise
