"""Normalisation and fusion of the legs' scores."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.errors import InvalidInput
from kameleon.search.fusion import Leg, check_fusion, fuse, leg_scores, reduced_weight, set_weights

WAYS = ("weighted", "rrf", "dbsf")
Scores = dict[str, float]

keyword_scores = st.floats(0, 50, allow_subnormal=False)
cosines = st.floats(-1, 1, allow_subnormal=False)
keys = st.sampled_from("abcdefgh")


@st.composite
def pairs(draw: st.DrawFn) -> list[Leg[str]]:
    keyword = draw(st.dictionaries(keys, keyword_scores))
    vector = draw(st.dictionaries(keys, cosines))
    legs = [
        Leg("keyword", keyword, {key: draw(keyword_scores) for key in vector if key not in keyword}, most=200.0),
        Leg("vector", vector, {key: draw(cosines) for key in keyword if key not in vector}),
    ]
    return set_weights([leg for leg in legs if leg.chosen], draw(st.floats(0, 1)))


def test_a_leg_is_normalised_from_the_least_it_could_be() -> None:
    assert Leg("keyword", {"a": 8.0, "b": 2.0}, {"c": 4.0}).normalized() == {"a": 1.0, "b": 0.25, "c": 0.5}
    assert Leg("vector", {"a": 1.0, "b": 0.0}, {"c": -1.0}).normalized() == {"a": 1.0, "b": 0.5, "c": 0.0}


def test_a_leg_with_an_upper_bound_is_normalised_halfway_to_it() -> None:
    assert Leg("keyword", {"a": 8.0, "b": 2.0}, {}, most=24.0).normalized() == {"a": 0.5, "b": 0.125}
    assert Leg("keyword", {"a": 8.0}, {}, most=7.9).normalized() == {"a": 1.0}


def test_fusion_is_the_weighted_mean() -> None:
    legs = [Leg("keyword", {"a": 8.0, "b": 4.0}, {}, 0.4), Leg("vector", {"b": 1.0, "c": 0.0}, {"a": 0.0}, 0.6)]
    fused = fuse(legs)
    assert fused == pytest.approx({"a": 0.4 + 0.6 * 0.5, "b": 0.4 * 0.5 + 0.6, "c": 0.6 * 0.5})


def test_ranks_are_fused_over_the_best_they_could_be() -> None:
    legs = [
        Leg("keyword", {"a": 8.0, "b": 4.0}, {"c": 1.0}, 0.5),
        Leg("vector", {"c": 0.9, "a": 0.9, "b": 0.1}, {}, 0.5),
    ]
    fused = fuse(legs, "rrf")
    assert fused == pytest.approx({"a": 1.0, "b": 0.5 * 61 / 62 + 0.5 * 61 / 63, "c": 0.5})


def test_distributions_are_fused_from_three_deviations_below_the_mean_to_three_above() -> None:
    leg = Leg("keyword", {"a": 3.0, "b": 1.0}, {"c": 0.5, "d": -9.0})
    assert leg_scores(leg, "dbsf") == pytest.approx({"a": 4 / 6, "b": 2 / 6, "c": 1.5 / 6, "d": 0.0})
    assert fuse([Leg("vector", {"a": 0.3, "b": 0.3}, {})], "dbsf") == {"a": 0.5, "b": 0.5}


def test_a_function_fuses_as_it_likes() -> None:
    legs = [Leg("keyword", {"a": 8.0, "b": 2.0}, {}, 0.4), Leg("vector", {"a": 0.5}, {"b": 0.1}, 0.6)]

    def only_both(legs: Any) -> Scores:
        assert [(leg.name, leg.weight) for leg in legs] == [("keyword", 0.4), ("vector", 0.6)]
        return {key: leg_scores(legs[0])[key] / 2 for key in legs[0].chosen.keys() & legs[1].chosen}

    assert fuse(legs, only_both) == {"a": 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("a", 1.0)], "as a mapping, not list"),
        ({"a": math.nan}, "numbers from 0 to 1, not nan"),
        ({"a": "1"}, "not '1'"),
        ({"a": 1.5}, r"not 1\.5"),
        ({"z": 0.5}, "'z', which no leg put forward"),
    ],
)
def test_what_a_function_gives_is_checked(given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fuse([Leg("keyword", {"a": 8.0}, {})], lambda _legs: given)


def test_an_unknown_fusion_names_the_supported_ones() -> None:
    with pytest.raises(InvalidInput, match=r"'sum'\. Known: weighted, rrf, dbsf, or a function"):
        check_fusion("sum")


def test_a_leg_of_weight_0_puts_nothing_forward_and_the_vector_alone_counts_for_no_more_than_its_weight() -> None:
    keyword, vector = Leg("keyword", {"a": 8.0}, {"b": 0.0}), Leg("vector", {"b": 0.9}, {"a": 0.1})
    assert fuse(set_weights([keyword, vector], 0.0)) == {"a": 1.0}
    assert [leg.weight for leg in set_weights([keyword, vector], 0.25)] == [0.75, 0.25]
    assert [leg.weight for leg in set_weights([keyword], 0.25)] == [1.0]
    assert fuse(set_weights([vector], 0.25)) == {"b": 0.25}
    assert set_weights([vector], 0.0) == []
    assert fuse(set_weights([], 0.3)) == {}


def test_the_vector_counts_for_less_where_words_are_unknown() -> None:
    assert [reduced_weight(0.8, share) for share in (1.0, 0.9, 0.4, 0.0)] == [0.8, 0.8, 0.0, 0.0]
    assert reduced_weight(0.8, 0.6) == pytest.approx(0.4)


def test_nothing_divides_by_zero() -> None:
    assert fuse([Leg("keyword", {"a": 0.0}, {}, 1.0)]) == {"a": 0.0}
    assert fuse([Leg("vector", {"a": -1.0}, {}, 1.0)]) == {"a": 0.0}


@given(pairs(), st.sampled_from(WAYS))
def test_every_candidate_has_a_score_from_0_to_1(legs: list[Leg[str]], way: str) -> None:
    fused = fuse(legs, way)
    assert fused.keys() == {key for leg in legs for key in leg.chosen}
    assert all(0.0 <= score <= 1.0 for score in fused.values())


@given(pairs(), st.sampled_from(WAYS))
def test_what_both_legs_prefer_is_not_behind(legs: list[Leg[str]], way: str) -> None:
    fused = fuse(legs, way)
    for key in fused:
        for other in fused:
            if all(key in leg.chosen and leg.chosen[key] >= leg.raw.get(other, -2.0) for leg in legs):
                assert fused[key] >= fused[other] - 1e-12


@given(pairs(), st.sampled_from(WAYS))
def test_the_order_of_candidates_does_not_matter(legs: list[Leg[str]], way: str) -> None:
    turned = [
        Leg(leg.name, dict([*leg.chosen.items()][::-1]), dict([*leg.scored.items()][::-1]), leg.weight, leg.most)
        for leg in reversed(legs)
    ]
    assert fuse(turned, way) == pytest.approx(fuse(legs, way))


@given(st.dictionaries(keys, st.tuples(keyword_scores, cosines), min_size=1), st.integers(1, 8), st.floats(0.1, 0.9))
def test_a_weighted_score_does_not_depend_on_how_many_candidates_there_were(
    records: dict[str, tuple[float, float]], depth: int, weight: float
) -> None:
    def at(depth: int) -> Scores:
        keyword, vector = (
            dict(sorted(((key, both[place]) for key, both in records.items()), key=lambda item: -item[1])[:depth])
            for place in (0, 1)
        )
        others = [
            {key: records[key][place] for key in other if key not in own}
            for place, own, other in ((0, keyword, vector), (1, vector, keyword))
        ]
        return fuse([Leg("keyword", keyword, others[0], 1 - weight, 90.0), Leg("vector", vector, others[1], weight)])

    few, many = at(depth), at(8)
    assert few == pytest.approx({key: many[key] for key in few})


@given(st.dictionaries(keys, cosines), st.sampled_from(WAYS), st.floats(0.1, 1))
def test_one_leg_alone_is_its_own_ranking(scores: Scores, way: str, weight: float) -> None:
    fused = fuse([Leg("vector", scores, {}, weight)], way)
    for key, score in scores.items():
        for other in scores:
            if score > scores[other]:
                assert fused[key] >= fused[other]
