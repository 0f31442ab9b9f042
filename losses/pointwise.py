"""Losses that judge each row alone: cross-entropies, focal loss, squared error.

Computed by `kernels.pointwise` on CUDA and by `kernels.pointwise_eager` elsewhere.

Shapes: `B` rows in the batch, `C` classes. A click model's logit z gives p = sigmoid(z).
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from kernels.dispatch import Implementation, check_implementation, use_triton
from kernels.pointwise_eager import (
    binary_cross_entropy_rows,
    binary_focal_rows,
    l2_rows,
    softmax_cross_entropy_rows,
)
from losses.reduction import (
    Reduction,
    check_float_logits,
    check_fraction,
    check_per_row,
    check_reduction,
    needs_grad,
    reduce_rows,
    to_working_precision,
)


class PointwiseLoss(nn.Module):
    """Base of the losses below: a subclass says what one row costs, in eager torch and as the
    kind of a kernel with two parameters.

    Args:
        reduction: "none", "sum" or "mean" (see `losses.reduction.reduce_rows`).
        implementation: "auto", "triton" or "eager" (see `kernels.dispatch`).

    Raises:
        ValueError: if an argument is none of these.
    """

    kind = ""

    def __init__(self, reduction: str = "mean", implementation: str = "auto") -> None:
        super().__init__()
        self.reduction: Reduction = check_reduction(reduction)
        self.implementation: Implementation = check_implementation("implementation", implementation)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        sample_weight: Tensor | None = None,
        *,
        session_ids: Tensor | None = None,
        session_offsets: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss.

        Args:
            logits: of the shape the subclass states; any floating type, of which float16 and
                bfloat16 are computed in float32.
            labels: [B], integer, bool or float.
            sample_weight: [B] or None; a constant, to which no gradient flows.
            session_ids: accepted for a uniform call and not used: a row's session is irrelevant.
            session_offsets: likewise.

        Returns:
            Scalar, or [B] with reduction "none"; float64 for float64 logits, otherwise float32.

        Raises:
            ValueError: on a wrong shape or type.
        """
        del session_ids, session_offsets
        check_float_logits(logits)
        self.check_logits(logits)
        check_per_row("labels", labels, logits.shape[0])
        if sample_weight is not None:
            check_per_row("sample_weight", sample_weight, logits.shape[0])
        if not use_triton(logits, self.implementation):
            rows = self.row_losses(to_working_precision(logits), labels)
            return reduce_rows(rows, sample_weight, self.reduction)
        from kernels.pointwise_ops import pointwise_reduced, pointwise_rows

        kernel = (self.kind, list(self.parameters_of_kernel()))
        if self.reduction == "none":
            return reduce_rows(pointwise_rows(logits, labels, *kernel), sample_weight, "none")
        weight = None if sample_weight is None else sample_weight.detach()
        losses, _, _ = pointwise_reduced(
            logits, labels, weight, *kernel, self.reduction, needs_grad(logits)
        )
        return losses[0]

    def parameters_of_kernel(self) -> tuple[float, float]:
        """What the kernel has to know, as `kernels.pointwise.pointwise_launch` says."""
        return 0.0, 0.0

    def check_logits(self, logits: Tensor) -> None:
        """Raises a ValueError if the shape of `logits` does not suit the loss."""
        raise NotImplementedError

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, [B], in the type of `logits`."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The parameters, as `print(model)` shows them."""
        return f"reduction={self.reduction!r}, implementation={self.implementation!r}"


class BinaryCrossEntropyLoss(PointwiseLoss):
    """Binary cross-entropy of logits [B] or [B, 1] (num_class 1) or [B, 2] (num_class 2).

    With two classes the logit is f1 - f0, which makes it the softmax cross-entropy of both.

    Args:
        label_smoothing: share s, within [0, 1], by which a label y moves to y * (1 - s) + 0.5 * s.
        reduction, implementation: as in `PointwiseLoss`.
    """

    kind = "binary_cross_entropy"

    def __init__(
        self,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        implementation: str = "auto",
    ) -> None:
        super().__init__(reduction, implementation)
        self.label_smoothing = check_fraction("label_smoothing", label_smoothing)

    def parameters_of_kernel(self) -> tuple[float, float]:
        """Label smoothing."""
        return self.label_smoothing, 0.0

    def check_logits(self, logits: Tensor) -> None:
        """Accepts [B], [B, 1] and [B, 2]."""
        if not (_is_single_column(logits) or (logits.dim() == 2 and logits.shape[1] == 2)):
            raise ValueError(
                "num_class must be 1 or 2 with binary_cross_entropy, which needs logits of shape "
                f"(B,), (B, 1) or (B, 2), but got {tuple(logits.shape)}; use softmax_cross_entropy "
                "for more classes"
            )

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `binary_cross_entropy_rows`."""
        two_class = logits.dim() == 2 and logits.shape[1] == 2
        logit = logits[:, 1] - logits[:, 0] if two_class else logits.reshape(-1)
        return binary_cross_entropy_rows(logit, labels, self.label_smoothing)


class BinaryFocalLoss(PointwiseLoss):
    """Focal loss of logits [B] or [B, 1] (Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017, arXiv 1708.02002).

    The gradient is that of the formula. TorchEasyRec treats the modulating factor (1 - p)^gamma as
    a constant in the backward pass: same loss, other gradient.

    Args:
        gamma: exponent of the modulating factor, at least 0; at 0 this is `alpha`-weighted BCE.
        alpha: weight of positives, within [0, 1]; negatives weigh 1 - alpha.
        reduction, implementation: as in `PointwiseLoss`.
    """

    kind = "binary_focal"

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.5,
        reduction: str = "mean",
        implementation: str = "auto",
    ) -> None:
        super().__init__(reduction, implementation)
        if not (gamma >= 0.0 and math.isfinite(gamma)):
            raise ValueError(
                f"gamma must be a finite number of at least 0, but got {gamma}; 2.0 is usual"
            )
        self.gamma = float(gamma)
        self.alpha = check_fraction("alpha", alpha)

    def check_logits(self, logits: Tensor) -> None:
        """Accepts [B] and [B, 1]."""
        _require_single_column(logits, "binary_focal_loss")

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `binary_focal_rows`."""
        return binary_focal_rows(logits.reshape(-1), labels, self.gamma, self.alpha)

    def parameters_of_kernel(self) -> tuple[float, float]:
        """Gamma and alpha."""
        return self.gamma, self.alpha


class SoftmaxCrossEntropyLoss(PointwiseLoss):
    """Cross-entropy over C > 1 classes of logits [B, C] against labels in 0 ... C - 1.

    Labels may be of any type; floats must hold whole numbers.

    Args:
        label_smoothing: share of the label spread evenly over all classes, as in torch.
        reduction, implementation: as in `PointwiseLoss`.
    """

    kind = "softmax"

    def __init__(
        self,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        implementation: str = "auto",
    ) -> None:
        super().__init__(reduction, implementation)
        self.label_smoothing = check_fraction("label_smoothing", label_smoothing)

    def parameters_of_kernel(self) -> tuple[float, float]:
        """Label smoothing."""
        return self.label_smoothing, 0.0

    def check_logits(self, logits: Tensor) -> None:
        """Accepts [B, C] with C > 1."""
        if logits.dim() != 2 or logits.shape[1] < 2:
            raise ValueError(
                "num_class must be greater than 1 with softmax_cross_entropy, which needs logits "
                f"of shape (B, num_class), but got {tuple(logits.shape)}; set num_class, or use "
                "binary_cross_entropy"
            )

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `softmax_cross_entropy_rows`."""
        return softmax_cross_entropy_rows(logits, labels, self.label_smoothing)


class L2Loss(PointwiseLoss):
    """Squared error (no factor of one half) of predictions [B] or [B, 1], for regression.

    Args:
        reduction, implementation: as in `PointwiseLoss`.
    """

    kind = "l2"

    def check_logits(self, logits: Tensor) -> None:
        """Accepts [B] and [B, 1]."""
        _require_single_column(logits, "l2_loss")

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `l2_rows`."""
        return l2_rows(logits.reshape(-1), labels)


def _is_single_column(logits: Tensor) -> bool:
    return logits.dim() == 1 or (logits.dim() == 2 and logits.shape[1] == 1)


def _require_single_column(logits: Tensor, loss_name: str) -> None:
    if not _is_single_column(logits):
        raise ValueError(
            f"num_class must be 1 with {loss_name}, which needs logits of shape (B,) or (B, 1), "
            f"but got {tuple(logits.shape)}; set num_class: 1 in the tower"
        )
