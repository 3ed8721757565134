"""The gate of a reindex: overlap of two models' rankings, thresholds, and its file of queries."""

import math

import pytest

from kameleon.errors import InvalidInput
from kameleon.reindex.gate import Gate, GateQuery, compare, overlap, read_queries, sampled
from kameleon.values import GateReport, Ref

A, B, C, D = (Ref("E", name) for name in "abcd")


@pytest.mark.parametrize(
    ("old", "new", "share"),
    [([A, B], [B, A], 1.0), ([A, B], [A, C], 0.5), ([A], [A, B, C, D], 0.25), ([], [], 1.0), ([], [A], 0.0)],
)
def test_overlap_is_the_share_of_the_longer_ranking(old: list[Ref], new: list[Ref], share: float) -> None:
    assert overlap(old, new) == share


def test_overlap_looks_at_ten() -> None:
    refs = [Ref("E", str(n)) for n in range(20)]
    assert overlap(refs, [*refs[:10], *refs[:9:-1]]) == 1.0
    assert overlap(refs, refs[10:]) == 0.0


def test_two_models_are_compared_over_all_queries() -> None:
    queries = [GateQuery("one", {A: 1.0}), GateQuery("two")]
    before = {"one": [A, B], "two": [C]}
    after = {"one": [B, A], "two": [D]}
    report = compare(queries, before.__getitem__, after.__getitem__)
    assert (report.queries, report.overlap, report.judged, report.ndcg_before) == (2, 0.5, 1, 1.0)
    assert report.ndcg_after == pytest.approx(1 / math.log2(3))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (GateReport(10, 0.49), "overlap@10 is 0.490 over 10 queries, at least 0.5 is required"),
        (GateReport(10, 0.5), ""),
        (GateReport(10, 0.9, 4, 0.8, 0.7), "nDCG@10 is 0.700 with the new model and 0.800"),
        (GateReport(10, 0.9, 4, 0.8, 0.79), ""),
    ],
)
def test_a_gate_refuses_below_its_thresholds(found: GateReport, message: str) -> None:
    refusal = Gate(overlap=0.5, ndcg=0.95).refusal(found)
    assert message in refusal
    assert bool(refusal) == bool(message)


@pytest.mark.parametrize(("least", "share"), [(1.1, 1.0), (-0.1, 1.0), (0.5, -1.0)])
def test_thresholds_that_cannot_be_are_refused(least: float, share: float) -> None:
    with pytest.raises(InvalidInput):
        Gate(overlap=least, ndcg=share)


def test_a_gate_without_queries_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no queries"):
        compare([], lambda _text: [], lambda _text: [])


def test_queries_are_read_from_json_lines() -> None:
    lines = [
        '{"query": "fox", "relevant": [{"entity": "E", "id": 1, "gain": 2}, {"entity": "E", "id": "b"}]}',
        "",
        '{"query": "bear"}',
    ]
    assert read_queries(lines) == [GateQuery("fox", {Ref("E", "1"): 2.0, Ref("E", "b"): 1.0}), GateQuery("bear")]


@pytest.mark.parametrize(
    "line", ["{", "[]", '"fox"', '{"text": "fox"}', '{"query": 3}', '{"query": " "}', '{"query": "a", "relevant": [1]}']
)
def test_a_line_that_is_no_query_is_named(line: str) -> None:
    with pytest.raises(InvalidInput, match="line 2"):
        read_queries(['{"query": "fox"}', line])


def test_queries_are_the_first_words_of_contents() -> None:
    assert [query.text for query in sampled(["a b c d e f g h i j", "short", "short", " "])] == [
        "a b c d e f g h",
        "short",
    ]
