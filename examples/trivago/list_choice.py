"""A network for lists of which one item is clicked: a softmax over the list, as odds of each row.

A row's utility u is an MLP of its features. The item that is clicked is the best of its list, so

    p_i = exp(u_i) / sum over the list of exp(u_j)
    d_i = u_i - log of the sum over the others of exp(u_j)        log-odds: p_i = sigmoid(d_i)

A session's lists lie whole and in order in its batch, which holds whole sessions; so a list begins
at each row whose position is 0.

B rows, L lists, D width of the features.
"""

import torch
from torch import Tensor, nn


class ListChoice(nn.Module):
    """Logits [B, num_class]: the log-odds d; with two classes (b - d / 2, b + d / 2) of a free b.

    The feature group `all` is what utilities are made of; the first column of the group `place` is
    0 at the top of each list and nowhere else.

    Args:
        widths, config, tasks: see docs/models.md.
        hidden: widths of the layers.
        dropout: after each layer.
    """

    def __init__(self, widths, config, tasks, *, hidden=(128, 64), dropout: float = 0.0) -> None:
        super().__init__()
        self.task = tasks[0]
        layers: list[nn.Module] = []
        width = sum(widths["all"])
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(width, self.task.num_class)

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits of the task, and nothing that tasks share."""
        out = self.output(self.layers(groups["all"]))  # [B, num_class]
        list_of_row = (groups["place"][:, 0] == 0).long().cumsum(0)  # [B], from 1
        odds = log_odds(out[:, -1].float(), list_of_row).unsqueeze(1)
        if self.task.num_class == 1:
            return {self.task.name: odds}, None
        return {self.task.name: torch.cat([out[:, :1] - odds / 2, out[:, :1] + odds / 2], 1)}, None


def log_odds(utility: Tensor, list_of_row: Tensor) -> Tensor:
    """u_i - log of the sum of exp(u_j) over the other rows of the list, [B].

    That sum is computed as the list's less the row's own; a share of more than 1 - 1e-6, as of a
    list of one row, counts as that.

    Args:
        utility: [B].
        list_of_row: ascending numbers from 0, at most B, [B].
    """
    num_lists = utility.shape[0] + 1  # or less: the device is not asked
    top = utility.new_full((num_lists,), -torch.inf)
    top = top.scatter_reduce(0, list_of_row, utility.detach(), "amax")
    power = (utility - top[list_of_row]).exp()
    total = power.new_zeros(num_lists).index_add(0, list_of_row, power)
    log_share = utility - top[list_of_row] - total[list_of_row].log()
    return log_share - (-log_share.exp().clamp(max=1 - 1e-6)).log1p()
