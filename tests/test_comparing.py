"""Two settings of a search, compared query by query."""

import json
from math import log2
from pathlib import Path
from typing import Any

import pytest

from kameleon import RecordStore, SearchEngine
from kameleon.errors import InvalidInput
from kameleon.evaluation import compare
from kameleon.evaluation.comparing import check_setting, randomised

from .conftest import Make, with_citus
from .test_cli import Run, run
from .test_evaluation import PAGES, Pointing
from .test_reranker import cross_encoder

__all__ = ["cross_encoder", "run"]

QUERIES = {"q1": "red", "q2": "frog", "q3": "fox", "q4": "lost"}
QRELS = {"q1": {"Page/2": 1.0}, "q2": {"Page/3": 1.0}, "q3": {"Page/1": 1.0}, "q4": {"gone": 1.0}}
SECOND = 1 / log2(3)


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pages(make: Make) -> SearchEngine:
    search = make(Pointing())
    search.index_records_batch(PAGES)
    return search


def test_settings_are_compared_query_by_query(pages: SearchEngine) -> None:
    """The record with "bear" is the nearest to each query."""
    found = compare(pages, QUERIES, QRELS, {"weight": 0.0}, {"weight": 1.0}, entities=["Page"])
    figures = {one.query: (one.ndcg_before, one.ndcg_after, one.mrr_before, one.mrr_after) for one in found.queries}
    assert figures == {
        "q1": pytest.approx((SECOND, 1.0, 0.5, 1.0)),
        "q2": pytest.approx((1.0, 0.0, 1.0, 0.0)),
        "q3": pytest.approx((1.0, 0.0, 1.0, 0.0)),
    }
    assert found.queries[0].text == "red"
    assert (found.wins, found.losses, found.ties) == (1, 2, 0)
    assert (found.skipped, found.judged, found.unknown) == (1, 4, 1)
    differences = [1 - SECOND, -1.0, -1.0]
    mean = sum(differences) / 3
    assert found.gain == pytest.approx(mean)
    deviation = (sum((each - mean) ** 2 for each in differences) / 2) ** 0.5
    assert found.noise == pytest.approx(2 * deviation / 3**0.5)
    assert found.mean("ndcg_before") == pytest.approx((SECOND + 2) / 3)
    assert found.mean("mrr_after") == pytest.approx(1 / 3)
    assert [one.query for one in found.most_different(1)] == ["q1", found.queries[-1].query]
    assert found.most_different(0) == []


def test_the_indexs_own_settings_are_those_without_options(pages: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="a search has no option 'wieght'"):
        compare(pages, QUERIES, QRELS, {}, {"wieght": 0.3})  # type: ignore[typeddict-unknown-key]
    same = compare(pages, QUERIES, QRELS, {}, {"weight": 0.3}, entities=["Page"])
    assert (same.wins, same.losses, same.ties, same.gain, same.p) == (0, 0, 3, 0.0, 1.0)
    assert same.verdict == "no difference that chance alone would not make: nDCG@10 +0.0000 ± 0.0000, p = 1.0000"
    assert same.most_different(3) == []


def test_a_reranker_and_a_filter_are_settings_and_notes_are_collected(make: Make) -> None:
    search = make(None)
    store = RecordStore(search)
    store.create_entity("Page", search=["text"], fields={"kind": "text"})
    store.insert("Page", [{"id": id_, "text": text, "kind": "red"[: int(id_)]} for _, id_, text in PAGES[:3]])

    def last(query: str, texts: Any) -> list[float]:
        return [place / len(texts) for place in range(len(texts))]

    asked, judged = {f"q{n}": "red" for n in range(12)}, {f"q{n}": {"2": 1.0} for n in range(12)}
    found = compare(search, asked, judged, {"mode": "keyword"}, {"rerank": last})
    assert found.wins == 12
    assert (found.gain, found.noise) == pytest.approx((1 - SECOND, 0.0))
    assert found.p < 0.01
    assert found.verdict.startswith("after is better than before: nDCG@10 +0.3691 ± 0.0000, p = 0.0")
    assert found.notes == (
        "keywords only: this engine has no embedding provider: SearchEngine(engine, embedding_provider='static')",
    )
    filtered = compare(search, asked, judged, {"where": {"kind": "re"}}, {"where": {"kind": "r"}})
    assert (filtered.losses, filtered.gain) == (12, -1.0)
    assert filtered.verdict.startswith("after is worse than before: nDCG@10 -1.0000")


def test_chance_is_how_often_signs_by_chance_differ_as_much() -> None:
    assert randomised([0.5]) == 1.0
    assert randomised([0.5, 0.0, 0.5, -0.5]) == 1.0
    assert randomised([0.1] * 4) == pytest.approx(2 / 2**4, abs=0.02)
    assert randomised([0.1] * 9) == pytest.approx(2 / 2**9, abs=0.003)
    assert randomised([0.1] * 9) == randomised([0.1] * 9) > 0
    assert randomised([]) == 1.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"limit": 3}, "after: leave limit out: both settings have the ten best hits of the same records"),
        ({"facets": ["kind"]}, "after: leave facets out"),
        ({"tenant": "a"}, "after: leave tenant out"),
        ({"wieght": 0.3}, "after: a search has no option 'wieght'. Known: .*weight"),
        ("keyword", "after has options of a search, such as {'mode': 'keyword'}, not 'keyword'"),
    ],
)
def test_what_is_no_setting_is_refused(setting: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_setting("after", setting)


@pytest.mark.parametrize("gain", ["3", None, float("nan")])
def test_a_gain_that_is_no_number_is_refused(pages: SearchEngine, gain: Any) -> None:
    with pytest.raises(InvalidInput, match="the gain of 'Page/2' for query 'q1' is a number such as 1, not"):
        compare(pages, QUERIES, {**QRELS, "q1": {"Page/2": gain}}, {}, {"mode": "keyword"})


def test_eval_shows_wins_and_losses(run: Run, tmp_path: Path) -> None:
    records = "".join(json.dumps({"_id": id_, "text": text}) + "\n" for _, id_, text in PAGES[:3])
    run("data", "insert", "Page", "--id-field", "_id", stdin=records)
    asked = {"a": "red bear", "b": "green frog", "c": "toad"}  # frogs are near
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"_id": q, "text": t}) + "\n" for q, t in asked.items()))
    (tmp_path / "r.tsv").write_text("a\t2\t1\nb\t3\t1\nc\t3\t1\n")
    files = ("eval", "--queries", "q.jsonl", "--qrels", "r.tsv")
    compared = run(*files, "--before", '{"mode": "keyword"}')
    assert compared.stdout.splitlines() == [
        "query\tbefore\tafter\tdifference\ttext",
        "\t0.6667\t1.0000\t+0.3333\tmean of 3 queries",
        "c\t0.0000\t1.0000\t+1.0000\ttoad",
    ]
    assert compared.stderr.splitlines()[:2] == [
        "1 queries better, 0 worse, 2 equal (nDCG@10)",
        "MRR@10 0.6667 before, 1.0000 after",
    ]
    assert "no difference that chance alone would not make: nDCG@10 +0.3333 ± 0.6667, p = 1.0000" in compared.stderr
    worse = run(*files, "--after", '{"mode": "keyword"}', "--show", "0")
    assert worse.stdout.splitlines()[1:] == ["\t1.0000\t0.6667\t-0.3333\tmean of 3 queries"]
    both = json.loads(run(*files, "--before", '{"weight": 0}', "--after", '{"weight": 1}', "--json").stdout)
    assert (both["queries"][0]["query"], both["queries"][0]["difference"]) == ("c", 1.0)
    assert (both["wins"], both["losses"], both["ties"], both["ndcg_after"]) == (1, 0, 2, 1.0)
    assert "leave --save and --plot out" in run(*files, "--before", "{}", "--save", status=2).stderr
    assert "--after is not JSON" in run(*files, "--after", "{", status=2).stderr
    assert "a search has no option 'mod'" in run(*files, "--after", '{"mod": "keyword"}', status=1).stderr


def test_a_setting_names_a_rerankers_folder_and_a_boost(run: Run, cross_encoder: Path, tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "lamp", "stars": 1}, {"id": "2", "text": "lamp of pine or of oak", "stars": 90}]
    run("data", "insert", "Product", stdin="".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "q.jsonl").write_text('{"_id": "q", "text": "lamp"}')
    (tmp_path / "r.tsv").write_text("q\t2\t1\n")
    for setting in ({"rerank": str(cross_encoder)}, {"boost": {"field": "stars", "half": 5, "weight": 5}}):
        found = run("eval", "--queries", "q.jsonl", "--qrels", "r.tsv", "--after", json.dumps(setting), "--json")
        compared = json.loads(found.stdout)
        assert (compared["wins"], compared["mrr_before"], compared["mrr_after"]) == (1, 0.5, 1.0)
