import pytest

from kameleon.search.fusion import Leg, fuse


def test_a_leg_is_normalised_from_the_least_it_could_be() -> None:
    assert Leg("keyword", {"a": 8.0, "b": 2.0}, {"c": 4.0}, 1.0).normalized() == {"a": 1.0, "b": 0.25, "c": 0.5}
    assert Leg("vector", {"a": 1.0, "b": 0.0}, {"c": -1.0}, 1.0).normalized() == {"a": 1.0, "b": 0.5, "c": 0.0}


def test_fusion_is_the_weighted_mean() -> None:
    legs = [Leg("keyword", {"a": 8.0, "b": 4.0}, {}, 0.4), Leg("vector", {"b": 1.0, "c": 0.0}, {"a": 0.0}, 0.6)]
    fused = fuse(legs)
    assert fused == pytest.approx({"a": 0.4 + 0.6 * 0.5, "b": 0.4 * 0.5 + 0.6, "c": 0.6 * 0.5})


def test_a_score_does_not_depend_on_how_many_candidates_there_were() -> None:
    few = fuse([Leg("keyword", {"a": 8.0}, {"b": 4.0}, 0.4), Leg("vector", {"b": 0.9}, {"a": 0.2}, 0.6)])
    many = fuse([Leg("keyword", {"a": 8.0, "b": 4.0}, {}, 0.4), Leg("vector", {"b": 0.9, "a": 0.2, "c": 0.1}, {}, 0.6)])
    assert many["a"] == pytest.approx(few["a"])
    assert many["b"] == pytest.approx(few["b"])


def test_one_leg_alone_is_its_own_ranking() -> None:
    assert fuse([Leg("vector", {"a": 0.5, "b": 0.2}, {}, 0.3)]) == pytest.approx({"a": 1.0, "b": 1.2 / 1.5})
    assert fuse([]) == {}


def test_nothing_divides_by_zero() -> None:
    assert fuse([Leg("keyword", {"a": 0.0}, {}, 1.0)]) == {"a": 0.0}
    assert fuse([Leg("vector", {"a": -1.0}, {}, 1.0)]) == {"a": 0.0}
