"""JRC: joint ranking and calibration of click models over whole sessions.

Sheng et al., "Joint Optimization of Ranking and Calibration with Contextualized Hybrid Model",
KDD 2023 (arXiv 2208.06164). A row i with label y in session s has two logits f[i] = (f0, f1), and

    ce_i   = -log softmax(f[i])[y]                                     calibration
    rank_i = logsumexp(f_y over i and its competitors) - f_y[i]        ranking within the session
    loss_i = alpha * ce_i + (1 - alpha) * rank_i

Two forms are published, and they differ in who competes with row i:

    "opposite"  the rows of s with the other label     (TorchEasyRec)
    "session"   all other rows of s                    (the paper, EasyRec)

Computed by `kernels.jrc` on CUDA and by `kernels.jrc_eager` elsewhere.

Shapes: `B` rows in the batch, `S` sessions, `T` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from kernels.dispatch import Implementation, check_implementation, use_triton
from kernels.jrc_eager import Contrast, jrc_rows_eager
from kernels.segment import segments_from_ids, segments_from_offsets, sort_into_offsets
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
from losses.sessions import check_sessions


class JRCLoss(nn.Module):
    """The JRC loss of this module's docstring, over sessions of any order and size.

    A session of one row or of one class, or a batch without positives, has nothing to rank:
    there "opposite" gives a ranking loss of exactly 0, and nothing is ever NaN. Memory is O(B).

    Args:
        alpha: share of calibration in the loss, within [0, 1].
        reduction: "none", "sum" or "mean" (see `losses.reduction.reduce_rows`).
        contrast: "opposite" or "session".
        label_smoothing: moves the label of the calibration term towards one half, within [0, 1].
        implementation: "auto", "triton" or "eager" (see `kernels.dispatch`).

    Raises:
        ValueError: if an argument is outside the values above.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        reduction: str = "mean",
        contrast: str = "opposite",
        label_smoothing: float = 0.0,
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        if contrast not in get_args(Contrast):
            raise ValueError(
                f"contrast must be one of {', '.join(get_args(Contrast))}, but got {contrast!r}; "
                "'opposite' is TorchEasyRec's form, 'session' the paper's"
            )
        self.alpha = check_fraction("alpha", alpha)
        self.reduction: Reduction = check_reduction(reduction)
        self.contrast: Contrast = contrast  # pyright: ignore[reportAttributeAccessIssue]  # tested
        self.label_smoothing = check_fraction("label_smoothing", label_smoothing)
        self.implementation: Implementation = check_implementation("implementation", implementation)

    def extra_repr(self) -> str:
        """The parameters, as `print(model)` shows them."""
        return (
            f"alpha={self.alpha}, reduction={self.reduction!r}, contrast={self.contrast!r}, "
            f"label_smoothing={self.label_smoothing}, implementation={self.implementation!r}"
        )

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        session_ids: Tensor | None = None,
        session_offsets: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss; sessions come by exactly one of `session_ids` and `session_offsets`.

        Args:
            logits: [B, 2] of any floating type; float16 and bfloat16 are computed in float32.
            labels: [B] of 0 and 1, integer, bool or float.
            session_ids: [B] integers of any type, equal for the rows of a session, in any order.
            session_offsets: [S + 1] integers rising from 0 to B, where rows of a session are
                adjacent: session s is rows session_offsets[s] to session_offsets[s + 1] - 1.
            sample_weight: [B] or None. A weight scales the loss of its row; the row competes
                in its session with full strength. A constant: no gradient flows to it.

        Returns:
            Scalar, or [B] with reduction "none"; float64 for float64 logits, otherwise float32.

        Raises:
            ValueError: on a wrong shape or type, or with both or neither kind of session.
        """
        return self._compute(
            logits, labels, session_ids, session_offsets, sample_weight, self.reduction
        )

    def _compute(
        self,
        logits: Tensor,
        labels: Tensor,
        session_ids: Tensor | None,
        session_offsets: Tensor | None,
        sample_weight: Tensor | None,
        reduction: Reduction,
    ) -> Tensor:
        _check_logits_and_labels(logits, labels)
        num_rows = logits.shape[0]
        if sample_weight is not None:
            check_per_row("sample_weight", sample_weight, num_rows)
        ids, offsets = check_sessions(session_ids, session_offsets, num_rows, "jrc_loss")
        triton = use_triton(logits, self.implementation)
        if offsets is not None:
            if triton:
                return self._by_kernel(logits, labels, offsets, sample_weight, reduction)
            segments = segments_from_offsets(offsets, num_rows)
        else:
            assert ids is not None
            if triton:
                return self._by_kernel_of_ids(logits, labels, ids, sample_weight, reduction)
            segments = segments_from_ids(ids)
        working = to_working_precision(logits)
        options = (self.alpha, self.label_smoothing, self.contrast)
        rows = jrc_rows_eager(working, labels, segments, *options)
        return reduce_rows(rows, sample_weight, reduction)

    def _by_kernel(
        self,
        logits: Tensor,
        labels: Tensor,
        offsets: Tensor,
        sample_weight: Tensor | None,
        reduction: Reduction,
    ) -> Tensor:
        from kernels.jrc_ops import jrc_reduced, jrc_rows  # Triton is imported where it computes

        options = (self.alpha, self.label_smoothing, self.contrast)
        if reduction == "none":
            return reduce_rows(jrc_rows(logits, labels, offsets, *options), sample_weight, "none")
        losses, _, _ = jrc_reduced(
            [logits], [labels], offsets, [] if sample_weight is None else [sample_weight.detach()],
            [self.alpha], [self.label_smoothing], self.contrast, reduction, needs_grad(logits),
        )  # fmt: skip
        return losses[0]

    def _by_kernel_of_ids(
        self,
        logits: Tensor,
        labels: Tensor,
        session_ids: Tensor,
        sample_weight: Tensor | None,
        reduction: Reduction,
    ) -> Tensor:
        """The kernel needs adjacent rows: a gather before it and, for rows, a scatter behind."""
        order, offsets = sort_into_offsets(session_ids)
        weight = None if sample_weight is None else sample_weight[order]
        losses = self._by_kernel(logits[order], labels[order], offsets, weight, reduction)
        # The row at losses[k] came from order[k]: put it back there.
        back = reduction == "none"
        return torch.zeros_like(losses).index_copy(0, order, losses) if back else losses


def jrc_losses(
    modules: Sequence[JRCLoss],
    logits: Sequence[Tensor],
    labels: Sequence[Tensor],
    session_offsets: Tensor,
    sample_weights: Sequence[Tensor],
) -> Tensor:
    """Several JRC losses over the same rows, in one launch where the kernel computes them.

    Args:
        modules: T losses of one contrast and implementation; their reduction is not used.
        logits: T times [B, 2].
        labels: T times [B].
        session_offsets: [S + 1], as for `JRCLoss`.
        sample_weights: T times [B].

    Returns:
        [T] sums of the weighted losses of the rows.

    Raises:
        ValueError: on a wrong shape or type, or modules that do not go together.
    """
    first = modules[0]
    if any(
        (m.contrast, m.implementation) != (first.contrast, first.implementation) for m in modules
    ):
        raise ValueError(
            "contrast and implementation must be the same for all losses of a launch, but got "
            f"{[(m.contrast, m.implementation) for m in modules]}; call jrc_losses once for each"
        )
    if not use_triton(logits[0], first.implementation) or _differ_in_type(
        logits, labels, sample_weights
    ):
        tasks = zip(modules, logits, labels, sample_weights, strict=True)
        return torch.stack(
            [
                module._compute(each, label, None, session_offsets, weight, "sum")
                for module, each, label, weight in tasks
            ]
        )
    for each, label, weight in zip(logits, labels, sample_weights, strict=True):
        _check_logits_and_labels(each, label)
        check_per_row("sample_weight", weight, each.shape[0])
    _, offsets = check_sessions(None, session_offsets, logits[0].shape[0], "jrc_loss")
    assert offsets is not None
    from kernels.jrc_ops import jrc_reduced  # Triton is imported where it computes

    losses, _, _ = jrc_reduced(
        list(logits), list(labels), offsets,
        [weight.detach() for weight in sample_weights], [m.alpha for m in modules],
        [m.label_smoothing for m in modules], first.contrast, "sum", needs_grad(*logits),
    )  # fmt: skip
    return losses


def _differ_in_type(*tasks: Sequence[Tensor]) -> bool:
    """Whether tasks need a launch each, since a launch is compiled for one type of each input."""
    return any(len({tensor.dtype for tensor in tensors}) > 1 for tensors in tasks)


def _check_logits_and_labels(logits: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] != 2:
        raise ValueError(
            "num_class must be 2 with jrc_loss, which needs logits of shape (B, 2), but got "
            f"{tuple(logits.shape)}; set num_class: 2 in the tower"
        )
    check_float_logits(logits)
    check_per_row("labels", labels, logits.shape[0])
