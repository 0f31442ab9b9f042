"""The metrics of one task over batches of whole sessions, by the kind of its label.

Each takes the rows of a rank batch by batch, then computes the metrics of the rows of all ranks,
the same numbers on every rank. Rows are NumPy arrays in host memory.

Shapes: `N` rows of an update, `C` classes.
"""

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.calibration import CalibrationSums, FieldSums, calibration_error
from trainer.metrics.checks import InputCounts
from trainer.metrics.group_rows import GroupRows
from trainer.metrics.groups import GroupMean, grouped_auc, grouped_xauc, share_variance, xauc
from trainer.metrics.pairs import Int64Array
from trainer.metrics.ranks import Ranks
from trainer.metrics.requests import DEFAULT_BINS, Requests
from trainer.metrics.sampling import row_numbers
from trainer.metrics.scores import MAX_SCORES, ScoreCounts
from trainer.metrics.sessions import SessionRanking

MAX_XAUC_ROWS = 1 << 20  # over all ranks
PLOTTED_VALUES = 15  # of a field, those with most rows
Groups = dict[str, Int64Array]


class TaskMetrics(Protocol):
    """What the metrics of every kind of label offer."""

    def update(
        self, score: NDArray, label: NDArray, session: Int64Array, groups: Groups | None = None
    ) -> None:
        """Add the rows of whole sessions.

        Args:
            score: probabilities [N] of a positive, [N, C] of each class, or real predictions [N].
            label: [N].
            session: [N], a number of the row's session.
            groups: per column by which some metric groups rows, [N].
        """
        ...

    def compute(self, ranks: Ranks) -> dict[str, float]:
        """Metrics by name. A collective call. Raises ValueError for bad scores and labels."""
        ...


class BinaryMetrics:
    """Ranking and calibration of probabilities of a label of 0 and 1.

    Args:
        task: its name, for messages.
        asked: what is wanted beside the metrics that are always there.
        session_columns: the columns that make up a session, by which no rows are kept.
        max_scores: see ScoreCounts.
    """

    def __init__(
        self,
        task: str = "",
        asked: Requests | None = None,
        session_columns: tuple[str, ...] = (),
        max_scores: int = MAX_SCORES,
    ) -> None:
        self.asked = asked or Requests()
        self._input = InputCounts(task)
        self._scores = ScoreCounts(max_scores)
        self._sums = CalibrationSums(tuple(self.asked.bins))
        self._sessions = SessionRanking(
            tuple(self.asked.ndcg_at), tuple(self.asked.recall_at), self.asked.mrr
        )
        self._by_session = [key for key in self.asked.group_by if (key,) == session_columns]
        others = [key for key in self.asked.group_by if key not in self._by_session]
        self._groups = {key: GroupRows(by_label=True) for key in others}
        self._fields = {field: FieldSums() for field in self.asked.fields}
        self._correct = np.zeros(len(self.asked.thresholds))

    def update(
        self, score: NDArray, label: NDArray, session: Int64Array, groups: Groups | None = None
    ) -> None:
        """Add the rows of whole sessions; see TaskMetrics."""
        good = self._input.add(score, label)
        prob, is_positive = score[good].astype(np.float64), label[good] == 1
        self._scores.update(prob, is_positive)
        self._sums.update(prob, is_positive)
        self._sessions.update(prob, is_positive, session[good])
        numbers = row_numbers(session)[good]
        for key, rows in self._groups.items():
            rows.update(prob, is_positive, (groups or {})[key][good], numbers)
        for field, sums in self._fields.items():
            sums.update(prob, is_positive, (groups or {})[field][good])
        self._correct += [((prob > each) == is_positive).sum() for each in self.asked.thresholds]

    def compute(self, ranks: Ranks) -> dict[str, float]:
        """Metrics by name; see TaskMetrics. What the rows do not define is NaN."""
        rows = self._input.check(ranks)
        scores, sums = self._scores.over_ranks(ranks), self._sums.over_ranks(ranks)
        auc, auc_error_bound = scores.auc()
        sessions = self._sessions.lengths.over_ranks(ranks).gauc()
        found = {"auc": auc, "auc_error_bound": auc_error_bound, **_named("gauc", sessions)}
        for average in self.asked.averages:  # the AUC of either class against the other is the same
            name = multiclass_auc(average)
            found |= {name: auc, f"{name}_error_bound": auc_error_bound}
        found |= sums.metrics(self.asked.eta)
        for bins in self.asked.bins:
            found[f"ece_equal_mass@{bins}"] = calibration_error(scores.equal_mass_bins(bins))
        for key in self.asked.group_by:
            of_key = self._groups.get(key)
            mean = grouped_auc(of_key, ranks) if of_key else sessions
            found |= _named("gauc", mean, f"[{key}]")
        for field, of_field in self._fields.items():
            rce = of_field.over_ranks(ranks).field_rce(self.asked.fields[field])
            found |= {f"field_rce[{field}]": rce.weighted, f"field_rce_stderr[{field}]": rce.stderr}
        found |= self._sessions.ranking(ranks)
        correct = ranks.sum(self._correct).tolist()
        for threshold, number in zip(self.asked.thresholds, correct, strict=True):
            found[f"accuracy@{threshold:g}"] = number / rows if rows else math.nan
        positives = float(sums.totals[1])
        return {short_name(name): value for name, value in found.items()} | {
            "rows": float(rows),
            "positives": positives,
        }

    def plots(self, ranks: Ranks) -> dict[str, Any]:
        """What plots are made of, in constant memory. A collective call.

        Returns:
            reliability: [bins, 3] of rows, sum of p and sum of y, in bins of the log-odds.
            session_lengths: see SessionLengthSums.table.
            fields: of each field of field-RCE, `values`, their number, and `largest`, [key, rows,
                sum of y, sum of p] of those with most rows.
        """
        fields = {name: sums.over_ranks(ranks) for name, sums in self._fields.items()}
        return {
            "reliability": self._sums.over_ranks(ranks).log_odds.tolist(),
            "session_lengths": self._sessions.lengths.over_ranks(ranks).table(),
            "fields": {
                name: {"values": len(sums.sums()[0]), "largest": sums.largest(PLOTTED_VALUES)}
                for name, sums in fields.items()
            },
        }


class MulticlassMetrics:
    """LogLoss, and by choice accuracy and AUC, of the probabilities of `num_class` classes."""

    def __init__(self, task: str, num_class: int, asked: Requests | None = None) -> None:
        self.asked, self.num_class = asked or Requests(), num_class
        self._input = InputCounts(task, num_class)
        counts = num_class if self.asked.averages else 0
        self._scores = [ScoreCounts(MAX_SCORES // num_class) for _ in range(counts)]
        self._top_k = self.asked.top_k or [1]
        self._sums = np.zeros(1 + len(self._top_k))  # cross-entropy, hits at each k

    def update(
        self, score: NDArray, label: NDArray, session: Int64Array, groups: Groups | None = None
    ) -> None:
        """Add rows; see TaskMetrics."""
        good = self._input.add(score, label)
        prob, truth = score[good].astype(np.float64), label[good].astype(np.int64)
        of_truth = np.take_along_axis(prob, truth[:, None], axis=1)
        above = (prob > of_truth).sum(axis=1)
        tied = (prob == of_truth).sum(axis=1)
        # k - above of the tied classes are among the first k, each with the same chance.
        hits = [(np.clip(k - above, 0, tied) / tied).sum() for k in self._top_k]
        self._sums += [-np.log(np.clip(of_truth, 1e-7, 1.0)).sum(), *hits]
        for number, scores in enumerate(self._scores):
            scores.update(prob[:, number], truth == number)

    def compute(self, ranks: Ranks) -> dict[str, float]:
        """Metrics by name; see TaskMetrics. AUC is of each class against the others."""
        rows = self._input.check(ranks)
        cross_entropy, *hits = (ranks.sum(self._sums) / max(rows, 1)).tolist()
        found = {"logloss": cross_entropy if rows else math.nan}
        for k, share in zip(self._top_k, hits, strict=True):
            found["accuracy" if k == 1 else f"accuracy@{k}"] = share if rows else math.nan
        totals = [scores.over_ranks(ranks) for scores in self._scores]
        areas = [total.auc() for total in totals]
        support = np.array([total.sums()[1][1].sum() for total in totals], dtype=np.float64)
        for average in self.asked.averages:
            weights = support if average == "weighted" else np.ones(len(support))
            name = multiclass_auc(average)
            weights = weights * [not math.isnan(area) for area, _ in areas]
            found[name], found[f"{name}_error_bound"] = _weighted_mean(areas, weights)
        return found | {"rows": float(rows)}


class RegressionMetrics:
    """Mean squared and absolute error, and by choice XAUC, of predictions of a real number."""

    def __init__(
        self,
        task: str,
        asked: Requests | None = None,
        max_xauc_rows: int = MAX_XAUC_ROWS,
    ) -> None:
        self.asked, self.max_xauc_rows = asked or Requests(), max_xauc_rows
        self._input = InputCounts(task, num_class=0, unit_scores=False)
        self._sums = np.zeros(2)  # of squared and absolute errors
        self._groups = {key: GroupRows(by_label=False) for key in self.asked.group_by}
        self._all = GroupRows(by_label=False, max_rows=max_xauc_rows)  # each row is a group

    def update(
        self, score: NDArray, label: NDArray, session: Int64Array, groups: Groups | None = None
    ) -> None:
        """Add rows; see TaskMetrics."""
        good = self._input.add(score, label)
        prediction, target = score[good].astype(np.float64), label[good].astype(np.float64)
        error = prediction - target
        self._sums += [np.square(error).sum(), np.abs(error).sum()]
        numbers = row_numbers(session)[good]
        for key, rows in self._groups.items():
            rows.update(prediction, target, (groups or {})[key][good], numbers)
        if self.asked.xauc:
            self._all.update(prediction, target, numbers, numbers)

    def compute(self, ranks: Ranks) -> dict[str, float]:
        """Metrics by name; see TaskMetrics."""
        rows = self._input.check(ranks)
        squared, absolute = (ranks.sum(self._sums) / max(rows, 1)).tolist()
        found = {"mse": squared, "mae": absolute} if rows else {"mse": math.nan, "mae": math.nan}
        if self.asked.xauc:
            kept = self._all.sampled_over_ranks(ranks, self.max_xauc_rows)
            value = xauc(kept.score, kept.target, np.zeros(len(kept.score), dtype=np.int64))
            pairs = np.full(len(value), len(kept.score) // 2 if self._all.level else math.inf)
            found["xauc"] = _first(value)
            found["xauc_stderr"] = _first(np.sqrt(share_variance(value, pairs)))
        for key, of_key in self._groups.items():
            mean = grouped_xauc(of_key, ranks)
            found |= {f"xauc[{key}]": mean.weighted, f"xauc_coverage[{key}]": mean.coverage}
            found[f"xauc_stderr[{key}]"] = mean.stderr
        return found | {"rows": float(rows)}


def multiclass_auc(average: str) -> str:
    """The metric's name."""
    return "multiclass_auc" if average == "macro" else "multiclass_auc_weighted"


def _first(values: NDArray[np.float64]) -> float:
    return float(values[0]) if len(values) else math.nan


def _named(name: str, mean: GroupMean, of: str = "") -> dict[str, float]:
    """A mean over groups as metrics; groups that are not the sessions have a standard error."""
    found = {
        f"{name}{of}": mean.weighted,
        f"{name}_unweighted{of}": mean.unweighted,
        f"{name}_coverage{of}": mean.coverage,
        f"{name}_unweighted_coverage{of}": mean.group_coverage,
    }
    return found | ({f"{name}_stderr{of}": mean.stderr} if of else {})


def short_name(name: str) -> str:
    """Without the usual option: `ece@15` is `ece`, `accuracy@0.5` is `accuracy`."""
    for usual in (f"@{DEFAULT_BINS}", "@0.5"):
        if name.startswith(("ece", "accuracy")) and name.endswith(usual):
            return name.removesuffix(usual)
    return name


def _weighted_mean(
    areas: list[tuple[float, float]], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Mean of the areas of the classes that have one, and of their error bounds."""
    if not weights.sum():
        return math.nan, 0.0
    values, bounds = np.nan_to_num(np.array(areas)).T
    total = weights.sum()
    return float(np.dot(weights, values) / total), float(np.dot(weights, bounds) / total)
