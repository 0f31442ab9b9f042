"""GAUC, NDCG, MRR and recall of sessions against loops over every order that ties allow."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from tests.metrics.loops import (
    looped_mean,
    mean_over_orders,
    ndcg_of,
    pairwise_auc,
    reciprocal_rank_of,
    rows_by_group,
)
from trainer.metrics import Ranks
from trainer.metrics.sessions import SessionRanking

ALONE = Ranks.alone()
sessions_strategy = st.lists(  # few scores: heavy ties
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


def columns(sessions):
    score = np.array([float(s) for session in sessions for s, _ in session])
    label = np.array([y for session in sessions for _, y in session])
    number = np.repeat(np.arange(len(sessions)), [len(session) for session in sessions])
    return score, label, number


@settings(deadline=None, max_examples=60, derandomize=True)
@given(sessions=sessions_strategy, k=st.integers(1, 6))
def test_ranking_metrics_are_means_over_the_orders_of_ties(sessions, k):
    ranking = SessionRanking(ndcg_at=(k,), recall_at=(k,), mrr=True)
    score, label, number = columns(sessions)
    for session in range(len(sessions)):  # one call each; sums must not depend on it
        mine = number == session
        ranking.update(score[mine], label[mine], number[mine])
    found = ranking.ranking(ALONE)

    lists = [
        ([score[i] for i in mine], [int(label[i]) for i in mine])
        for mine in rows_by_group(number.tolist()).values()
    ]
    with_positive = [(s, y) for s, y in lists if sum(y)]
    if not with_positive:
        assert all(math.isnan(found[name]) for name in (f"ndcg@{k}", "mrr", f"recall@{k}"))
        assert found["sessions_with_positive"] == 0.0
        return

    def mean(value):
        return np.mean([mean_over_orders(value, s, y) for s, y in with_positive])

    hits = sum(mean_over_orders(lambda ranked: sum(ranked[:k]), s, y) for s, y in with_positive)
    assert found[f"ndcg@{k}"] == pytest.approx(mean(lambda ranked: ndcg_of(ranked, k)))
    assert found["mrr"] == pytest.approx(mean(reciprocal_rank_of))
    assert found[f"recall@{k}"] == pytest.approx(hits / label.sum())
    assert found["sessions_with_positive"] == pytest.approx(len(with_positive) / len(lists))


def test_ndcg_equals_sklearn():
    rng = np.random.default_rng(0)
    score, label = rng.integers(0, 8, (50, 12)) / 8, rng.random((50, 12)) < 0.3
    label[:, 0] = True
    ranking = SessionRanking(ndcg_at=(5, 12))
    ranking.update(score.ravel(), label.ravel(), np.arange(50).repeat(12))
    found = ranking.ranking(ALONE)
    for k in (5, 12):
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg_score(label, score, k=k), abs=1e-13)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(sessions=sessions_strategy)
def test_gauc_equals_the_loops(sessions):
    ranking = SessionRanking()
    score, label, number = columns(sessions)
    ranking.update(score, label, number)
    found = ranking.lengths.gauc()
    actual = (found.weighted, found.unweighted, found.coverage, found.group_coverage)
    expected = looped_mean(pairwise_auc, score, label, number)
    assert actual == pytest.approx(expected, nan_ok=True)
    assert ranking.ranking(ALONE) == {}  # nothing else was asked for


def test_gauc_by_length_equals_the_loop():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 20, 200)
    session = np.repeat(np.arange(200), lengths)
    score = np.round(rng.random(len(session)), 1)
    label = rng.random(len(session)) < 0.3
    ranking = SessionRanking()
    for some in np.array_split(np.arange(200), 7):
        mine = np.isin(session, some)
        ranking.update(score[mine], label[mine], session[mine])
    table = ranking.lengths.table()
    assert [row["from"] for row in table] == [1, 2, 4, 8, 16]
    assert [row["to"] for row in table] == [1, 3, 7, 15, 31]
    for row in table:
        inside = (lengths >= row["from"]) & (lengths <= row["to"])
        mine = np.isin(session, np.flatnonzero(inside))
        assert (row["sessions"], row["rows"]) == (inside.sum(), mine.sum())
        columns = (x[mine].tolist() for x in (score, label.astype(int), session))
        weighted, _, _, share = looped_mean(pairwise_auc, *columns)
        assert row["gauc"] == pytest.approx(weighted, nan_ok=True)
        assert row["mixed_sessions"] == round(share * inside.sum())
        if row["mixed_sessions"] > 1:
            assert row["low"] < row["gauc"] < row["high"]


def test_intervals_of_gauc_hold_the_truth_as_often_as_they_say():
    rng, held = np.random.default_rng(4), 0
    for _ in range(200):
        session = np.repeat(np.arange(150), 6)
        label = rng.random(900) < 0.4
        score = rng.normal(label, 1.0)  # P(positive above negative) = Phi(1 / sqrt(2))
        ranking = SessionRanking()
        ranking.update(score, label, session)
        (row,) = ranking.lengths.table()
        held += row["low"] <= 0.7602499389 <= row["high"]
    assert 180 <= held <= 199
