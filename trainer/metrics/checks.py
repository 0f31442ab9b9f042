"""What scores and labels must be; bad rows are counted and named in a ValueError."""

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.ranks import Ranks


class InputCounts:
    """Rows that were given, and how many of them were no probability or label.

    Args:
        task: named in messages; may be empty.
        num_class: labels must be below it; 0: any number will do.
        unit_scores: whether scores must be in [0, 1].
    """

    def __init__(self, task: str = "", num_class: int = 2, unit_scores: bool = True) -> None:
        self.task, self.num_class, self.unit_scores = task, num_class, unit_scores
        self._counts = np.zeros(4, dtype=np.int64)  # rows, NaN, outside, labels

    def add(self, score: NDArray, label: NDArray) -> NDArray[np.bool_]:
        """Count rows, [N] or [N, C] scores and [N] labels; returns which are good, [N]."""
        if score.shape[:1] != label.shape:
            raise ValueError(
                f"labels{self._of_task} must have shape ({len(score)},), one per row, but got "
                f"{label.shape}; select one column per task"
            )
        rows = score if score.ndim == 2 else score[:, None]
        is_nan = np.isnan(rows).any(axis=1)
        outside = ((rows < 0) | (rows > 1)).any(axis=1)
        if not self.unit_scores:
            outside = np.isinf(rows).any(axis=1)
        wrong = ~np.isfinite(label)
        if self.num_class:
            wrong |= (label < 0) | (label >= self.num_class) | (label != np.floor(label))
        self._counts += [len(label), is_nan.sum(), outside.sum(), wrong.sum()]
        return ~(is_nan | outside | wrong)

    def check(self, ranks: Ranks) -> int:
        """The rows of all ranks. A collective call.

        Raises:
            ValueError: on every rank, for the first kind of bad value that any rank has counted.
        """
        rows, nans, outside, labels = ranks.sum(self._counts).tolist()
        if nans:
            raise ValueError(
                f"scores{self._of_task} must not be NaN, but {nans} of {rows} are; look for a "
                "diverged loss or NaN features, and lower the learning rate"
            )
        if outside and self.unit_scores:
            raise ValueError(
                f"probabilities{self._of_task} must be in [0, 1], but {outside} of {rows} are not; "
                "apply a sigmoid (or softmax) to the logits first"
            )
        if outside:
            raise ValueError(
                f"scores{self._of_task} must be finite, but {outside} of {rows} are not; look for "
                "a diverged loss, and lower the learning rate"
            )
        if labels:
            raise ValueError(
                f"labels{self._of_task} must be {self._label_rule}, but {labels} of {rows} are "
                "not; correct the label column"
            )
        return rows

    @property
    def _of_task(self) -> str:
        return f" of task {self.task!r}" if self.task else ""

    @property
    def _label_rule(self) -> str:
        if self.num_class == 2:
            return "0 or 1"
        return f"0 ... {self.num_class - 1}" if self.num_class else "finite"


def check_same_shape(name: str, values: NDArray, scores: NDArray) -> None:
    """Raises ValueError if a column does not have one value per score."""
    if values.shape != scores.shape:
        raise ValueError(
            f"{name} must have the shape of the scores, {scores.shape}, but got {values.shape}; "
            "pass one value per row"
        )
