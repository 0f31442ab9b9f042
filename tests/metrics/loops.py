"""Metrics by plain loops over pairs and rows: slow, and close to their definitions."""

import math
from itertools import compress, pairwise, permutations

Rows = list[int]


def pairwise_auc(scores, labels) -> float:
    """Share of (positive, negative) pairs in the right order; a tie counts one half."""
    positives = [s for s, y in zip(scores, labels, strict=True) if y == 1]
    negatives = [s for s, y in zip(scores, labels, strict=True) if y == 0]
    if not positives or not negatives:
        return math.nan
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def pairwise_xauc(scores, targets) -> float:
    """Share of all pairs that both order alike; a tie of either is not alike."""
    pairs = [(i, j) for i in range(len(scores)) for j in range(i)]
    alike = [(scores[i] - scores[j]) * (targets[i] - targets[j]) > 0 for i, j in pairs]
    return sum(alike) / len(pairs) if pairs else math.nan


def rows_by_group(groups) -> dict[int, Rows]:
    """The rows of each group."""
    return {g: [i for i, other in enumerate(groups) if other == g] for g in sorted(set(groups))}


def looped_mean(value, scores, labels, groups) -> tuple[float, float, float, float]:
    """A metric of each group: its mean weighted by rows, its mean, share of rows, of groups."""
    by_group = rows_by_group(groups)
    found = []
    for mine in by_group.values():
        of_group = value([scores[i] for i in mine], [labels[i] for i in mine])
        if not math.isnan(of_group):
            found.append((of_group, len(mine)))
    if not found:
        return math.nan, math.nan, 0.0, 0.0
    rows = sum(n for _, n in found)
    return (
        sum(v * n for v, n in found) / rows,
        sum(v for v, _ in found) / len(found),
        rows / len(scores),
        len(found) / len(by_group),
    )


def orders(scores, labels) -> list[list[int]]:
    """The labels in each order that the scores allow: ties stand in any order."""
    rows = range(len(scores))
    fits = [all(scores[a] >= scores[b] for a, b in pairwise(o)) for o in permutations(rows)]
    ranked = compress(permutations(rows), fits)
    return [[labels[i] for i in order] for order in ranked]


def mean_over_orders(value, scores, labels) -> float:
    """Mean of a metric of a ranked list over the orders that the scores allow."""
    values = [value(ranked) for ranked in orders(scores, labels)]
    return sum(values) / len(values)


def ndcg_of(ranked, k) -> float:
    """NDCG@k of labels in ranked order."""

    def dcg(labels):
        return sum(y / math.log2(rank + 1) for rank, y in enumerate(labels[:k], start=1))

    return dcg(ranked) / dcg(sorted(ranked, reverse=True))


def reciprocal_rank_of(ranked) -> float:
    """1 / (rank of the first positive)."""
    return 1 / (ranked.index(1) + 1)
