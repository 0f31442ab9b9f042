"""Exact metrics of binary predictions, on one process or gathered over all ranks.

    AUC      chance that a positive scores above a negative; a tie counts one half
    GAUC     AUC within each group (user or session) that has both classes, averaged with the rows
             of the group as weight (Zhou et al., "Deep Interest Network", KDD 2018); the unweighted
             average and the share of rows in such groups stand beside it
    LogLoss  mean of -log of the probability given to what happened
    PCOC     predicted clicks over clicks, sum(p) / sum(y)

What the rows do not define is NaN, not an error: AUC of one class, GAUC without a group of both
classes (its coverage is 0), PCOC without positives, everything but counts and coverage of no rows.

Shapes: `N` rows, `G` groups, `K` tied blocks (runs of equal score in a group), `R` ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

# float32 sigmoids reach exactly 0 and 1; a sure and wrong row then costs -log(1e-7) = 16.1.
PROBABILITY_CLIP = 1e-7
# Rows per collective call: bounds the memory of the gathering rank at 8 * R bytes per row.
_ROWS_PER_GATHER = 1 << 20

METRIC_NAMES = (
    "auc",
    "gauc",
    "gauc_unweighted",
    "gauc_coverage",
    "logloss",
    "pcoc",
    "rows",
    "positives",
)


@dataclass(frozen=True)
class GroupedAUC:
    """GAUC, its unweighted twin, and the share of rows in groups that have both classes."""

    weighted: float
    unweighted: float
    coverage: float


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve of `scores` [N] for `labels` [N] of 0 and 1; NaN of one class.

    Raises:
        ValueError: on NaN scores, labels other than 0 and 1, or shapes that differ.
    """
    score, is_positive = _checked(scores, labels)
    order = np.argsort(score)
    starts = np.concatenate(([True], np.diff(score[order]) != 0))[: score.size]
    group_starts = np.zeros(min(score.size, 1), dtype=np.int64)
    areas = _area_per_group(is_positive[order], np.flatnonzero(starts), group_starts)
    return float(areas[0]) if areas.size else math.nan


def gauc(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> GroupedAUC:
    """AUC within `groups` [N] (integers, any order), averaged; see the module's docstring.

    Raises:
        ValueError: on NaN scores, labels other than 0 and 1, or shapes that differ.
    """
    score, is_positive = _checked(scores, labels)
    group = np.asarray(groups)
    _check_same_shape("groups", group, score)
    if score.size == 0:
        return GroupedAUC(math.nan, math.nan, 0.0)
    order = np.lexsort((score, group))
    score, group = score[order], group[order]
    new_group = np.concatenate(([True], group[1:] != group[:-1]))
    new_block = new_group.copy()
    new_block[1:] |= score[1:] != score[:-1]
    group_starts = np.flatnonzero(new_group)
    areas = _area_per_group(is_positive[order], np.flatnonzero(new_block), group_starts)
    rows = np.diff(group_starts, append=score.size)

    defined = ~np.isnan(areas)
    if not defined.any():
        return GroupedAUC(math.nan, math.nan, 0.0)
    areas, rows = areas[defined], rows[defined]
    return GroupedAUC(
        weighted=float(np.dot(rows, areas) / rows.sum()),  # sum(rows_g * auc_g) / sum(rows_g)
        unweighted=float(areas.mean()),
        coverage=float(rows.sum() / score.size),
    )


def log_loss(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean cross-entropy in nats, in float64; NaN of no rows.

    Probabilities are first clipped to [1e-7, 1 - 1e-7] (`PROBABILITY_CLIP`).

    Raises:
        ValueError: on values outside [0, 1], labels other than 0 and 1, or shapes that differ.
    """
    prob, is_positive = _checked_probabilities(probs, labels, "")
    if prob.size == 0:
        return math.nan
    prob = np.clip(prob, PROBABILITY_CLIP, 1.0 - PROBABILITY_CLIP)
    return float(-np.log(np.where(is_positive, prob, 1.0 - prob)).mean())


def pcoc(probs: ArrayLike, labels: ArrayLike) -> float:
    """Predicted clicks over clicks, sum(p) / sum(y): 1 when calibrated; NaN without positives.

    Raises:
        ValueError: on values outside [0, 1], labels other than 0 and 1, or shapes that differ.
    """
    prob, is_positive = _checked_probabilities(probs, labels, "")
    clicks = int(is_positive.sum())
    return float(prob.sum()) / clicks if clicks else math.nan


def binary_metrics(
    probs: ArrayLike, labels: ArrayLike, groups: ArrayLike, task: str = ""
) -> dict[str, float]:
    """All metrics of `probs`, `labels` and `groups`, each [N], by the names of `METRIC_NAMES`.

    Args:
        probs: probabilities in [0, 1]; computed in float64.
        labels: 0 and 1 of any type.
        groups: integer key of the user or session.
        task: named in error messages.

    Raises:
        ValueError: on values outside [0, 1], labels other than 0 and 1, or shapes that differ.
    """
    prob, is_positive = _checked_probabilities(probs, labels, task)
    grouped = gauc(prob, is_positive, groups)
    values = (
        auc(prob, is_positive),
        grouped.weighted,
        grouped.unweighted,
        grouped.coverage,
        log_loss(prob, is_positive),
        pcoc(prob, is_positive),
        float(prob.size),
        float(is_positive.sum()),
    )
    return dict(zip(METRIC_NAMES, values, strict=True))


class MetricAccumulator:
    """Collects the predictions of one task over batches, then computes `binary_metrics` exactly.

    All rows are kept (13 to 17 bytes each) and sorted at the end: no histogram, no sampling. Groups
    may span batches and ranks.

    Args:
        task: name of the task, for error messages.
    """

    def __init__(self, task: str = "") -> None:
        self.task = task
        self._probs: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._groups: list[Tensor] = []

    def reset(self) -> None:
        """Forgets all rows."""
        for column in (self._probs, self._labels, self._groups):
            column.clear()

    def update(self, probs: Tensor, labels: Tensor, groups: Tensor) -> None:
        """Adds the rows of one batch: `probs`, `labels` and int64 `groups`, each [B].

        Raises:
            ValueError: if the shapes differ, or `groups` is not int64.
        """
        for name, values in (("labels", labels), ("groups", groups)):
            if values.shape != probs.shape or probs.dim() != 1:
                raise ValueError(
                    f"probs and {name} of task {self.task!r} must both have shape (B,), but got "
                    f"{tuple(probs.shape)} and {tuple(values.shape)}; select one column per task"
                )
        if groups.dtype != torch.int64:
            raise ValueError(
                f"groups of task {self.task!r} must be int64, but got {groups.dtype}; pass "
                "groups.long()"
            )
        probs = probs.detach()
        # float32 holds every lower type exactly.
        self._probs.append(_own_copy(probs if probs.dtype == torch.float64 else probs.float()))
        # Whatever is neither 0 nor 1 stays visible to the check in `compute`.
        coded = torch.where(labels == 1, 1, torch.where(labels == 0, 0, -1)).to(torch.int8)
        self._labels.append(_own_copy(coded))
        self._groups.append(_own_copy(groups.detach()))

    def compute(self, process_group: dist.ProcessGroup | None = None) -> dict[str, float]:
        """`binary_metrics` of the rows of all ranks; every rank returns the same numbers.

        A collective call when torch.distributed is initialised: all ranks of `process_group`
        (default: of the job) must make it, each with any number of rows, none included.

        Raises:
            ValueError: on every rank, if any rank has a probability outside [0, 1] (NaN included)
                or a label other than 0 and 1.
        """
        probs = torch.cat([torch.empty(0), *self._probs]).double()
        labels = torch.cat([torch.empty(0, dtype=torch.int8), *self._labels])
        groups = torch.cat([torch.empty(0, dtype=torch.int64), *self._groups])
        local = torch.tensor(
            [
                probs.shape[0],
                int(probs.isnan().sum()),
                int(((probs < 0) | (probs > 1)).sum()),
                int((labels == -1).sum()),
            ]
        )
        ranks = _Ranks.of(process_group)
        counts = ranks.all_gather(local)  # [R, 4]
        # Judged by the sum over ranks, so that no rank is left waiting in a collective.
        total = [int(count) for count in counts.sum(0)]
        _check_counts(self.task, *total)

        columns = [ranks.gather_rows(column, counts[:, 0]) for column in (probs, labels, groups)]
        values = torch.zeros(len(METRIC_NAMES), dtype=torch.float64)
        if ranks.is_first:
            metrics = binary_metrics(*(column.numpy() for column in columns), task=self.task)
            values = torch.tensor(list(metrics.values()), dtype=torch.float64)
        return dict(zip(METRIC_NAMES, ranks.broadcast(values).tolist(), strict=True))


@dataclass(frozen=True)
class _Ranks:
    """The collectives that `MetricAccumulator` needs; a single process is a group of one."""

    group: dist.ProcessGroup | None
    size: int
    is_first: bool
    device: torch.device

    @staticmethod
    def of(group: dist.ProcessGroup | None) -> _Ranks:
        if not (dist.is_available() and dist.is_initialized()):
            return _Ranks(None, 1, True, torch.device("cpu"))
        # NCCL alone cannot send from host memory.
        on_device = dist.get_backend(group) == "nccl"
        device = torch.device("cuda", torch.cuda.current_device()) if on_device else "cpu"
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        return _Ranks(group, size, rank == 0, torch.device(device))

    @property
    def first(self) -> int:
        """Rank in the job of the first rank of the group."""
        return 0 if self.group is None else dist.get_global_rank(self.group, 0)

    def all_gather(self, values: Tensor) -> Tensor:
        """[n] of each rank -> [R, n] on each rank."""
        if self.size == 1:
            return values[None]
        parts = [torch.empty_like(values, device=self.device) for _ in range(self.size)]
        dist.all_gather(parts, values.to(self.device), group=self.group)
        return torch.stack(parts).cpu()

    def gather_rows(self, rows: Tensor, row_counts: Tensor) -> Tensor:
        """[n_r] of each rank r -> [sum of n_r] on the first rank, [0] on the others."""
        if self.size == 1:
            return rows
        pieces: list[list[Tensor]] = [[] for _ in range(self.size)]
        for start in range(0, int(row_counts.max()), _ROWS_PER_GATHER):
            # Every rank sends the same number of rows, padded; the padding is cut off again.
            lengths = (row_counts - start).clamp(0, _ROWS_PER_GATHER).tolist()
            padded = rows.new_zeros(max(lengths))
            own = rows[start : start + _ROWS_PER_GATHER]
            padded[: own.shape[0]] = own
            sent = padded.to(self.device)
            parts = [torch.empty_like(sent) for _ in lengths] if self.is_first else None
            dist.gather(sent, parts, dst=self.first, group=self.group)
            for piece, part, length in zip(pieces, parts or [], lengths, strict=False):
                piece.append(part[:length].cpu())
        return torch.cat([rows[:0], *(part for piece in pieces for part in piece)])

    def broadcast(self, values: Tensor) -> Tensor:
        """The first rank's `values`, on every rank."""
        if self.size == 1:
            return values
        shared = values.to(self.device)
        dist.broadcast(shared, src=self.first, group=self.group)
        return shared.cpu()


def _area_per_group(
    is_positive: NDArray[np.bool_],
    block_starts: NDArray[np.int64],
    group_starts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """AUC of each group [G] from rows sorted by group, then score; NaN where a class is absent.

    Counts pairs in integers: 2 * (negatives of lower blocks) + (negatives of the own block), which
    is exact up to three thousand million rows.
    """
    if is_positive.size == 0:
        return np.empty(0)
    positives = np.add.reduceat(is_positive.astype(np.int64), block_starts)  # [K]
    negatives = np.diff(block_starts, append=is_positive.size) - positives  # [K]
    first_blocks = np.searchsorted(block_starts, group_starts)  # [G]
    blocks_per_group = np.diff(first_blocks, append=block_starts.size)
    below = np.cumsum(negatives) - negatives  # [K], over all groups so far
    below -= np.repeat(below[first_blocks], blocks_per_group)  # [K], within the group
    # 2U = sum over blocks of positives * (2 * negatives below + negatives tied)
    doubled_wins = np.add.reduceat(positives * (2 * below + negatives), first_blocks)
    pairs = np.add.reduceat(positives, first_blocks) * np.add.reduceat(negatives, first_blocks)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, doubled_wins / (2.0 * pairs), math.nan)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray[np.bool_]]:
    """Scores as they are and labels as bool, or a ValueError."""
    score, label = np.asarray(scores), np.asarray(labels)
    if score.ndim != 1:
        raise ValueError(
            f"scores must have shape (N,), but got {score.shape}; select one column per task"
        )
    _check_same_shape("labels", label, score)
    is_positive = label == 1
    _check_counts("", score.size, int(np.isnan(score).sum()), 0, _count_other(label, is_positive))
    return score, is_positive


def _checked_probabilities(
    probs: ArrayLike, labels: ArrayLike, task: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probabilities in float64 and labels as bool, or a ValueError that names the task."""
    prob, label = np.asarray(probs, dtype=np.float64), np.asarray(labels)
    _check_same_shape("labels", label, prob)
    is_positive = label == 1
    outside = int(((prob < 0) | (prob > 1)).sum())
    nans = int(np.isnan(prob).sum())
    _check_counts(task, prob.size, nans, outside, _count_other(label, is_positive))
    return prob, is_positive


def _count_other(label: NDArray, is_positive: NDArray[np.bool_]) -> int:
    return int((~is_positive & (label != 0)).sum())


def _check_same_shape(name: str, values: NDArray, scores: NDArray) -> None:
    if values.shape != scores.shape:
        raise ValueError(
            f"{name} must have the shape of the scores, {scores.shape}, but got {values.shape}; "
            "pass one value per row"
        )


def _check_counts(task: str, rows: int, nans: int, outside: int, bad_labels: int) -> None:
    """Raises a ValueError for the first kind of bad value that was counted."""
    of_task = f" of task {task!r}" if task else ""
    if nans:
        raise ValueError(
            f"scores{of_task} must not be NaN, but {nans} of {rows} are; look for a diverged loss "
            "or NaN features, and lower the learning rate"
        )
    if outside:
        raise ValueError(
            f"probabilities{of_task} must be in [0, 1], but {outside} of {rows} are not; apply a "
            "sigmoid (or softmax) to the logits first"
        )
    if bad_labels:
        raise ValueError(
            f"labels{of_task} must be 0 or 1, but {bad_labels} of {rows} are not; binarise the "
            "label column"
        )


def _own_copy(values: Tensor) -> Tensor:
    """On the CPU and not sharing memory with a buffer that the caller may reuse."""
    return values.to("cpu", copy=True)
