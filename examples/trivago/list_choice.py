"""A network for lists of which one item is clicked: a softmax over the list, as odds of each row.

A row's utility u is an MLP of its features. The item that is clicked is the best of its list, so

    p_i = exp(u_i) / sum over the list of exp(u_j)
    d_i = u_i - log of the sum over the others of exp(u_j)        log-odds: p_i = sigmoid(d_i)

A session's lists lie whole and in order in its batch, which holds whole sessions; so a list begins
at each row whose position is 0.

B rows, L lists, D width of the features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ListChoice(nn.Module):
    """Logits per task, [B, 1]: the log-odds d. Of several tasks the first is the others' mean.

    With several tasks, all of the same label, each but the first is a network of its own over
    shared embeddings, trained by its own loss; p of the first is the mean of theirs and trains
    nothing. Such an ensemble is more accurate than a single network of any width.

    The feature group `all` is what utilities are made of; the first column of the group `place` is
    0 at the top of each list and nowhere else.

    Args:
        widths, config, tasks: see docs/models.md.
        hidden: widths of the layers.
        dropout: after each layer.
    """

    def __init__(self, widths, config, tasks, *, hidden=(128, 64), dropout: float = 0.0) -> None:
        super().__init__()
        self.tasks = [task.name for task in tasks]
        members = self.tasks[1:] or self.tasks
        width = sum(widths["all"])
        self.members = nn.ModuleDict({name: utility(width, hidden, dropout) for name in members})

    def forward(self, groups: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        """Logits per task, and nothing that tasks share."""
        list_of_row = (groups["place"][:, 0] == 0).long().cumsum(0)  # [B], from 1
        logits = {}
        for name, member in self.members.items():
            logits[name] = log_odds(member(groups["all"]).squeeze(1).float(), list_of_row)
        if self.tasks[0] not in logits:
            odds = torch.stack(list(logits.values())).detach()
            logits[self.tasks[0]] = odds.sigmoid().mean(0).logit(eps=1e-7)
        return {name: logits[name].unsqueeze(1) for name in self.tasks}, None


def utility(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """An MLP from a row's features to its utility."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 1))


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
