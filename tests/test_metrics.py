"""Metrics of a ranking against judgements."""

import math

import pytest

from kameleon.metrics import ndcg, recall, reciprocal_rank

A, B, C, D = "abcd"


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    gains = {A: 3.0, B: 1.0}
    assert ndcg([A, B], gains) == 1.0
    assert ndcg([C, A], {A: 1.0}) == pytest.approx(1 / math.log2(3))
    assert ndcg([B, A], gains) == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))
    assert ndcg([C, D], gains) == 0.0
    assert ndcg([A], {}) == 0.0


def test_recall_is_the_share_of_the_relevant() -> None:
    gains = {A: 2.0, B: 1.0, C: 0.0}
    assert recall([C, A], gains) == 0.5
    assert recall([B, C, A], gains, depth=1) == 0.5
    assert recall([B, C, A], gains) == 1.0
    assert recall([A], {C: 0.0}) == 0.0


def test_the_reciprocal_rank_is_that_of_the_first_that_is_relevant() -> None:
    gains = {A: 2.0, B: 1.0, C: 0.0}
    assert reciprocal_rank([C, D, B, A], gains) == pytest.approx(1 / 3)
    assert reciprocal_rank([C, D], gains) == 0.0
    assert reciprocal_rank([C, A], gains, depth=1) == 0.0
