"""Metrics within sessions, which lie whole on one rank: sums are all that is kept.

Rows of equal score may stand in any order: NDCG, MRR and recall are their means over all of these
orders, so a model gains nothing by giving many rows one score.

Shapes: `N` rows, `S` sessions, `K` blocks (runs of equal score in a session).
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.pairs import Blocks, Float64Array, Int64Array, area_per_group, blocks
from trainer.metrics.ranks import Ranks
from trainer.metrics.session_lengths import SessionLengthSums


class SessionRanking:
    """GAUC, and by choice NDCG@k, MRR and recall@k, of sessions.

    Args:
        ndcg_at: each k of NDCG@k.
        recall_at: each k of recall@k.
        mrr: whether to compute the mean reciprocal rank.

    Attributes:
        lengths: GAUC, of all sessions and by their length.
    """

    def __init__(
        self, ndcg_at: tuple[int, ...] = (), recall_at: tuple[int, ...] = (), mrr: bool = False
    ) -> None:
        self.ndcg_at, self.recall_at, self.mrr = ndcg_at, recall_at, mrr
        self.lengths = SessionLengthSums()
        self._sessions = np.zeros(1)
        self._ranking = np.zeros(3 + len(ndcg_at) + len(recall_at))

    def update(self, score: NDArray, is_positive: NDArray[np.bool_], session: Int64Array) -> None:
        """Add the rows of whole sessions: [N] each; `session` tells this call's sessions apart."""
        of = blocks(score, is_positive, session)
        self.lengths.update(of.group_rows, area_per_group(of))
        self._sessions += len(of.group_rows)
        if self.ndcg_at or self.recall_at or self.mrr:
            self._add_ranking(of)

    def ranking(self, ranks: Ranks) -> dict[str, float]:
        """NDCG, MRR and recall by name, of sessions with a positive, whose share is beside them."""
        if not (self.ndcg_at or self.recall_at or self.mrr):
            return {}
        sessions = ranks.sum(self._sessions)[0]
        with_positive, positives, reciprocal, *rest = ranks.sum(self._ranking).tolist()
        found = {f"ndcg@{k}": _ratio(rest[i], with_positive) for i, k in enumerate(self.ndcg_at)}
        if self.mrr:
            found["mrr"] = _ratio(reciprocal, with_positive)
        hits = rest[len(self.ndcg_at) :]
        found |= {f"recall@{k}": _ratio(hits[i], positives) for i, k in enumerate(self.recall_at)}
        return found | {"sessions_with_positive": _ratio(with_positive, sessions)}

    def _add_ranking(self, of: Blocks) -> None:
        positives = of.group_positives
        # Ranks count from the highest score down; before a block stand the rows above it.
        above = of.of_group(of.group_rows) - of.before(of.rows) - of.rows  # [K]
        self._ranking[0] += (positives > 0).sum()
        self._ranking[1] += positives.sum()
        if self.mrr:
            self._ranking[2] += reciprocal_rank(of, above).sum()
        sums = [ndcg(of, above, k).sum() for k in self.ndcg_at]
        # k - above of a block's rows are among the first k, each with the same chance.
        sums += [
            (of.positives * np.clip(k - above, 0, of.rows) / of.rows).sum() for k in self.recall_at
        ]
        self._ranking[3:] += sums


def ndcg(of: Blocks, above: Int64Array, k: int) -> Float64Array:
    """NDCG@k of each session with a positive: sum over the first k of y / log2(1 + rank), over the
    same of the best order (Jarvelin and Kekalainen 2002; ties as McSherry and Najork 2008).
    """
    discounts = np.concatenate(([0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))))
    of_block = discounts[np.minimum(above + of.rows, k)] - discounts[np.minimum(above, k)]
    gain = of.per_group(of.positives / of.rows * of_block)
    positives = of.group_positives
    best = discounts[np.minimum(positives, k)]
    return gain[positives > 0] / best[positives > 0]


def reciprocal_rank(of: Blocks, above: Int64Array) -> Float64Array:
    """Of each session with a positive, the mean of 1 / (rank of its first positive)."""
    not_below = of.of_group(of.group_positives) - of.before(of.positives)
    is_first = (of.positives > 0) & (not_below == of.positives)
    rows, positives, above = of.rows[is_first], of.positives[is_first], above[is_first]
    mean, none_before = np.zeros(len(rows)), np.ones(len(rows))
    for place in range(1, int((rows - positives).max(initial=-1)) + 2):
        # chance that this place of the block holds a positive, if none before it does
        chance = np.minimum(positives / np.maximum(rows - place + 1, positives), 1.0)
        mean += none_before * chance / (above + place)
        none_before *= 1.0 - chance
    return mean


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
