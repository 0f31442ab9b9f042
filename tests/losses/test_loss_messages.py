"""Every ValueError of the losses, by its message."""

import pytest
import torch

from losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    JRCLoss,
    L2Loss,
    ParetoLossWeights,
    SoftmaxCrossEntropyLoss,
    pareto_weights,
)

LOGITS, LABELS = torch.zeros(4, 2), torch.zeros(4)
IDS, OFFSETS = torch.zeros(4, dtype=torch.int64), torch.tensor([0, 1, 4])
NAN = float("nan")

CALLS = {
    "reduction": (
        lambda: L2Loss(reduction="average"),
        "reduction must be one of none, sum, mean, but got 'average'; use",
    ),
    "jrc reduction": (lambda: JRCLoss(reduction="avg"), "reduction must be one of"),
    "contrast": (
        lambda: JRCLoss(contrast="both"),
        "contrast must be one of opposite, session, but got 'both'; 'opposite' is",
    ),
    "jrc alpha": (lambda: JRCLoss(1.5), "alpha must be between 0 and 1, but got 1.5; set it"),
    "jrc alpha nan": (lambda: JRCLoss(NAN), "alpha must be between 0 and 1, but got nan"),
    "focal alpha": (lambda: BinaryFocalLoss(alpha=-1.0), "alpha must be between 0 and 1"),
    "gamma": (
        lambda: BinaryFocalLoss(gamma=-1.0),
        "gamma must be a finite number of at least 0, but got -1.0; 2.0 is usual",
    ),
    "gamma inf": (lambda: BinaryFocalLoss(gamma=float("inf")), "gamma must be a finite number"),
    "bce smoothing": (lambda: BinaryCrossEntropyLoss(2.0), "label_smoothing must be between"),
    "softmax smoothing": (lambda: SoftmaxCrossEntropyLoss(-0.1), "label_smoothing must be between"),
    "bce classes": (
        lambda: BinaryCrossEntropyLoss()(torch.zeros(4, 3), LABELS),
        "num_class must be 1 or 2 with binary_cross_entropy, which needs logits of shape (B,), "
        "(B, 1) or (B, 2), but got (4, 3); use softmax_cross_entropy",
    ),
    "focal classes": (
        lambda: BinaryFocalLoss()(LOGITS, LABELS),
        "num_class must be 1 with binary_focal_loss, which needs logits of shape (B,) or (B, 1), "
        "but got (4, 2); set num_class: 1",
    ),
    "l2 classes": (lambda: L2Loss()(LOGITS, LABELS), "num_class must be 1 with l2_loss"),
    "softmax classes": (
        lambda: SoftmaxCrossEntropyLoss()(torch.zeros(4, 1), LABELS),
        "num_class must be greater than 1 with softmax_cross_entropy, which needs logits of shape "
        "(B, num_class), but got (4, 1); set num_class",
    ),
    "jrc classes": (
        lambda: JRCLoss()(torch.zeros(4, 1), LABELS, IDS),
        "num_class must be 2 with jrc_loss, which needs logits of shape (B, 2), but got (4, 1); "
        "set num_class: 2",
    ),
    "integer logits": (
        lambda: L2Loss()(IDS, LABELS),
        "logits must be floating point, but got torch.int64; pass the output of the tower",
    ),
    "jrc integer logits": (
        lambda: JRCLoss()(LOGITS.long(), LABELS, IDS),
        "logits must be floating point",
    ),
    "labels": (
        lambda: L2Loss()(torch.zeros(4), torch.zeros(4, 1)),
        "labels must have shape (4,), one value per row of logits, but got (4, 1); squeeze",
    ),
    "jrc labels": (lambda: JRCLoss()(LOGITS, LABELS[:3], IDS), "labels must have shape (4,)"),
    "weights": (
        lambda: L2Loss()(torch.zeros(4), LABELS, torch.ones(3)),
        "sample_weight must have shape (4,), one value per row of logits, but got (3,)",
    ),
    "no sessions": (
        lambda: JRCLoss()(LOGITS, LABELS),
        "jrc_loss needs exactly one of session_ids and session_offsets, but got neither; pass",
    ),
    "both sessions": (
        lambda: JRCLoss()(LOGITS, LABELS, IDS, OFFSETS),
        "jrc_loss needs exactly one of session_ids and session_offsets, but got both; pass",
    ),
    "id shape": (
        lambda: JRCLoss()(LOGITS, LABELS, IDS[:2]),
        "session_ids must have shape (4,), one value per row of logits, but got (2,)",
    ),
    "float ids": (
        lambda: JRCLoss()(LOGITS, LABELS, IDS.float()),
        "session_ids must be integers, but got torch.float32; cast them",
    ),
    "bool ids": (lambda: JRCLoss()(LOGITS, LABELS, IDS.bool()), "but got torch.bool; cast them"),
    "offset shape": (
        lambda: JRCLoss()(LOGITS, LABELS, None, OFFSETS[:, None]),
        "session_offsets must have shape (S + 1,) with S >= 0, but got (3, 1); start with 0",
    ),
    "no offsets": (
        lambda: JRCLoss()(LOGITS, LABELS, None, OFFSETS[:0]),
        "session_offsets must have shape (S + 1,) with S >= 0, but got (0,)",
    ),
    "float offsets": (
        lambda: JRCLoss()(LOGITS, LABELS, None, OFFSETS.float()),
        "session_offsets must be integers, but got torch.float32; cast them",
    ),
    "short offsets": (
        lambda: JRCLoss()(LOGITS, LABELS, None, torch.tensor([0, 1, 3])),
        "session_offsets must rise from 0 to 4, the rows of logits, but go from 0 to 3 and fall 0 "
        "times; build them from the same batch",
    ),
    "late offsets": (
        lambda: JRCLoss()(LOGITS, LABELS, None, torch.tensor([1, 4])),
        "but go from 1 to 4 and fall 0 times",
    ),
    "falling offsets": (
        lambda: JRCLoss()(LOGITS, LABELS, None, torch.tensor([0, 3, 1, 4])),
        "but go from 0 to 4 and fall 1 times",
    ),
    "no minima": (
        lambda: ParetoLossWeights([]),
        "pareto_min_loss_weight must be given for at least one task, but got none; add",
    ),
    "negative minimum": (
        lambda: ParetoLossWeights([0.5, -0.1]),
        "pareto_min_loss_weight must be at least 0, but task 1 has -0.1; use 0",
    ),
    "nan minimum": (lambda: ParetoLossWeights([NAN]), "but task 0 has nan"),
    "minima above 1": (
        lambda: ParetoLossWeights([0.4, 0.7]),
        "pareto_min_loss_weight must sum to at most 1 over all towers, but 0.4 + 0.7 = 1.1; lower",
    ),
    "gram shape": (
        lambda: pareto_weights(torch.zeros(2, 3), torch.zeros(2)),
        "gram must have shape (K, K) with K >= 1, but got (2, 3); pass the inner products",
    ),
    "empty gram": (
        lambda: pareto_weights(torch.zeros(0, 0), torch.zeros(0)),
        "gram must have shape (K, K) with K >= 1, but got (0, 0)",
    ),
    "minima shape": (
        lambda: pareto_weights(torch.eye(2), torch.zeros(3)),
        "min_weights must have shape (2,), one per task of gram, but got (3,); give each task",
    ),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS.keys())
def test_message(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below, literally
        call()
    assert message in str(caught.value)
