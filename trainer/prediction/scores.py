"""The scores of a task: their names, which are TorchEasyRec's, and how logits become them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TaskScores:
    """What a model says of one task.

    logits, probs   float, or one per class where num_class is above 1
    probs1          the probability of a positive, of two classes
    y               the number predicted by a regression

    Attributes:
        name: of the task, and of its logits among the model's.
        suffix: behind the names of a multi-task model's scores: `_TASK`.
    """

    name: str
    num_class: int
    is_regression: bool
    suffix: str

    @property
    def columns(self) -> list[str]:
        """The names of its scores."""
        if self.is_regression:
            return [f"y{self.suffix}"]
        names = ["logits", "probs"] + (["probs1"] if self.num_class == 2 else [])
        return [f"{name}{self.suffix}" for name in names]

    def of(self, logits: Tensor) -> dict[str, Tensor]:
        """Scores of B rows by name, [B] or [B, C], from logits [B, C]."""
        if self.is_regression:
            values = [logits.squeeze(1)]
        elif self.num_class == 1:
            values = [logits.squeeze(1), logits.squeeze(1).sigmoid()]
        else:
            probs = logits.softmax(dim=1)
            values = [logits, probs] + ([probs[:, 1]] if self.num_class == 2 else [])
        return dict(zip(self.columns, values, strict=True))
