"""Evaluation of an index with judged queries, and the weight that it saves."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.errors import InvalidInput
from kameleon.evaluation import ENOUGH_QUERIES, best_weight, evaluate, read_qrels, read_queries
from kameleon.search.fusion import Leg
from kameleon.testing import HashProvider

from .conftest import Make, ids, with_citus
from .test_cli import Run, run

__all__ = ["run"]

PAGES = [("Page", "1", "red fox"), ("Page", "2", "red bear"), ("Page", "3", "green frog"), ("Memo", "3", "old memo")]
QUERIES = {"q1": "red", "q2": "frog", "q3": "nobody judged this", "q4": "lost"}
QRELS = {"q1": {"2": 1.0, "1": 0.0}, "q2": {"Page/3": 2.0, "gone": 1.0}, "q4": {"gone": 1.0}}


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Pointing(HashProvider):
    """Texts that hold `word` have one embedding, all others another; its vocabulary has a share of the words."""

    model_name = "pointing"
    vector_weight = 0.3
    share = 1.0
    noise = (0.0, 0.1)

    def __init__(self, word: str = "bear") -> None:
        super().__init__(2)
        self.word = word

    def embed_batch(self, texts: Any) -> Any:
        return [[1.0, 0.0] if self.word in text else [0.0, 1.0] for text in texts]

    def embed_query(self, text: str) -> Any:
        return [1.0, 0.0]

    def known_share(self, text: str) -> float:
        return self.share


@pytest.fixture
def pages(make: Make) -> SearchEngine:
    search = make(Pointing())
    search.index_records_batch(PAGES)
    return search


def test_each_way_of_searching_is_measured(pages: SearchEngine) -> None:
    found = evaluate(pages, QUERIES, QRELS)
    assert (found.queries, found.skipped, found.judged, found.unknown) == (2, 2, 4, 1)
    assert list(found.figures) == ["keyword", "vector", "weighted", "rrf", "dbsf"]
    keyword = found.figures["keyword"]
    frog = 2 / (2 + 1 / 1.5849625007211562)
    assert keyword.ndcg == pytest.approx((1 / 1.5849625007211562 + frog) / 2)
    assert (keyword.recall, keyword.mrr) == (0.75, 0.75)
    assert found.weight == 0.3
    assert found.curve is not None
    assert found.curve[0.3] == found.figures["weighted"].ndcg


def test_the_weight_that_fits_best_is_kept_and_searched_with(pages: SearchEngine) -> None:
    qrels = {"q1": {"2": 1.0}}
    pages.admin.set_weight(0.0)
    assert ids(pages.search("red", entity="Page")) == ["1", "2"]
    found = evaluate(pages, {"q1": "red"}, qrels, entities=["Page"])
    assert found.figures["weighted"].ndcg < 1.0
    assert found.best == 0.05
    assert found.best is not None
    assert found.generation is not None
    pages.admin.set_weight(found.best, found.generation)
    assert ids(pages.search("red", entity="Page"))[0] == "2"
    assert evaluate(pages, {"q1": "red"}, qrels, entities=["Page"]).figures["weighted"].ndcg == 1.0


def test_a_saved_weight_outlives_a_reindex_of_its_model(pages: SearchEngine) -> None:
    pages.admin.set_weight(0.85)
    pages.reindex(force=True)
    assert pages.generations()[-1].weight == 0.85
    pages.reindex(provider=HashProvider(8))
    pages.reindex(provider=Pointing(), force=True)
    assert pages.search("red").plan.weight == 0.85


def test_a_weight_that_cannot_be_is_refused(pages: SearchEngine, make: Make) -> None:
    for weight in (1.5, float("nan"), True, "all"):
        with pytest.raises(InvalidInput, match="a number from 0 to 1"):
            pages.admin.set_weight(weight)  # type: ignore[arg-type]


def test_an_index_without_vectors_is_measured_by_keywords(make: Make) -> None:
    search = make(None)
    search.index_records_batch(PAGES)
    found = evaluate(search, QUERIES, QRELS)
    assert list(found.figures) == ["keyword"]
    assert (found.best, found.curve) == (None, None)
    assert "no embedding provider" in found.notes[0]


def test_an_id_of_several_entities_is_to_be_spelled_out(pages: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match=r"'3', which may be (Page/3 or Memo/3|Memo/3 or Page/3)"):
        evaluate(pages, {"q": "frog"}, {"q": {"3": 1.0}})
    assert evaluate(pages, {"q": "frog"}, {"q": {"3": 1.0}}, entities=["Page"]).unknown == 0
    assert evaluate(pages, {"q": "memo"}, {"q": {"Memo/3": 1.0}}).figures["keyword"].ndcg == 1.0


def test_qrels_of_other_records_are_reported(pages: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match=r"none of the 1 queries .* of 2 judged records 2 are not"):
        evaluate(pages, {"q": "frog"}, {"q": {"x": 1.0, "y": 0.0}, "other": {"1": 1.0}})


def test_fusion_is_given_by_name_or_as_a_function(pages: SearchEngine) -> None:
    assert ids(pages.search("red", weight=0.0)) == ["1", "2"]
    assert ids(pages.search("red", weight=1.0))[0] == "2"
    rrf = pages.search("red", fusion="rrf", weight=0.5, explain=True)
    assert rrf[0].id == "2"
    assert sum(leg.weight * leg.score for leg in rrf[0].explanation) == pytest.approx(1.0)
    assert rrf[0].score == pytest.approx(sum(leg.weight * leg.evidence for leg in rrf[0].explanation))
    assert 0.5 < pages.search("red", fusion="dbsf")[0].score <= 1.0

    def first(legs: Sequence[Leg[Any]]) -> dict[Any, float]:
        return {min(legs[1].chosen, key=lambda key: legs[1].chosen[key]): 0.7}

    only = pages.search("red", fusion=first, min_score=0.6)
    assert [hit.score for hit in only] == [0.7]
    assert only[0].id != "2"
    with pytest.raises(InvalidInput, match="unknown fusion 'best'"):
        pages.search("red", fusion="best")


def test_a_query_of_words_unknown_to_the_model_is_left_to_keywords(make: Make) -> None:
    provider = Pointing()
    search = make(provider)
    search.index_records_batch(PAGES)
    provider.share = 0.0
    results = search.search("red")
    assert ids(results) == ["1", "2"]
    assert results.plan.weight == 0.0
    assert results.plan.note == "the vector counts 0.00, not 0.30: the model knows 0% of the words"
    assert search.search("red", weight=0.4).plan.weight == 0.4
    assert search.search("nowhere") == []
    assert {hit.score for hit in search.search("nowhere", mode="vector")} == {0.0}
    provider.share = 1.0
    nowhere = make(provider).search("nowhere")
    assert ids(nowhere) == ["2"]
    assert nowhere[0].score == pytest.approx(0.3, abs=0.01)


def test_of_equal_weights_the_nearest_to_the_current_is_best() -> None:
    assert best_weight({0.0: 0.5, 0.2: 0.7, 0.4: 0.7, 0.9: 0.7}, 0.5) == 0.4
    assert best_weight({0.2: 0.7, 0.4: 0.7}, 0.3) == 0.2
    assert best_weight({0.2: 0.7, 0.4: 0.8}, 0.2) == 0.4


def test_queries_and_judgements_are_read_as_beir_has_them() -> None:
    assert read_queries(['{"_id": "1", "text": "red"}\n', "\n", '{"_id": 2, "text": "b", "x": 0}']) == {
        "1": "red",
        "2": "b",
    }
    judged = {"1": {"a": 1.0, "b": 0.0}, "2": {"a/c": 2.0}}
    assert read_qrels(["query-id\tcorpus-id\tscore\n", "1\ta\t1\n", "1\tb\t-1\n", "2\ta/c\t2"]) == judged
    assert read_qrels(["1\ta\t1\n", "1\tb\t0\n", "2\ta/c\t2.0"]) == judged


@pytest.mark.parametrize("line", ["{", "[]", '{"_id": "1"}', '{"_id": "1", "text": " "}', '{"_id": "0", "text": "a"}'])
def test_a_line_that_is_no_query_is_named_with_its_file(line: str) -> None:
    with pytest.raises(InvalidInput, match=r"q\.jsonl:2"):
        read_queries(['{"_id": "0", "text": "red"}', line], "q.jsonl")


@pytest.mark.parametrize("line", ["1\ta", "1 a 1", "1\ta\tmuch", "1\ta\tnan", "1\ta\t1e308", "\ta\t1", "1\t0\ta\t1"])
def test_a_line_that_is_no_judgement_is_named_with_its_file(line: str) -> None:
    with pytest.raises(InvalidInput, match=r"r\.tsv:2 is not query-id"):
        read_qrels(["1\ta\t1", line], "r.tsv")


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("nothing", "not JSON: 'nothing'"),
        ('{"id": 1, "title": "a"}', "it has 'id', 'title'"),
        ('{"_id": 1.5, "text": "a"}', "_id is 1.5"),
    ],
)
def test_an_error_about_a_bad_query_shows_its_line(line: str, seen: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape('q:1 is not {"_id": "…", "text": "…"}: ') + f".*{seen}"):
        read_queries([line], "q")


def test_files_without_judgements_are_reported() -> None:
    with pytest.raises(InvalidInput, match="q has no queries"):
        read_queries(["\n"], "q")
    with pytest.raises(InvalidInput, match="r judges nothing"):
        read_qrels(["query-id\tcorpus-id\tscore\n"], "r")


def test_qrels_of_other_queries_are_reported(pages: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match=r"the qrels judge '7', …, the queries are 'q', …"):
        evaluate(pages, {"q": "frog"}, {"7": {"1": 1.0}})


def test_recall_is_measured_at_100_and_operators_hold(make: Make) -> None:
    search = make(None)
    tickets = RecordStore(search)
    tickets.create_entity("Ticket", search=["subject"], fields={"kind": "text"})
    tickets.insert("Ticket", [{"id": f"{n:02}", "subject": "red red fox", "kind": "a"} for n in range(40)])
    tickets.insert("Ticket", [{"id": "last", "subject": "red lamp and a long table", "kind": "a"}])
    found = evaluate(search, {"q": "red", "r": "subject:lamp red"}, {"q": {"last": 1.0}, "r": {"last": 1.0}})
    assert found.figures["keyword"].recall == 1.0
    assert found.figures["keyword"].mrr == pytest.approx((1 / 41 + 1) / 2)
    for call in (
        search.admin.legs,
        lambda query, entities: evaluate(search, {"q": query}, {"q": {"last": 1.0}}, entities=entities),
    ):
        with pytest.raises(InvalidInput, match="entities is a list of names"):
            call("red", entities="Ticket")


def test_a_weight_of_another_index_is_refused(pages: SearchEngine) -> None:
    (ours,) = pages.generations()
    for other in (replace(ours, number=9), replace(ours, model_name="other")):
        with pytest.raises(InvalidInput, match=r"is not of this index. It has: 1 \(hash\)"):
            pages.admin.set_weight(0.5, other)
    assert pages.generations()[0].weight == 0.3


def test_a_weight_is_kept_for_more_queries_and_more_gain_than_chance_has(pages: SearchEngine) -> None:
    pages.admin.set_weight(0.0)
    better = {f"q{n}": {"2": 1.0} for n in range(ENOUGH_QUERIES)}
    assert evaluate(pages, dict.fromkeys(better, "red"), better, entities=["Page"]).objection is None
    few = dict(list(better.items())[1:])
    found = evaluate(pages, dict.fromkeys(few, "red"), few, entities=["Page"])
    assert found.gain > 0
    assert "9 judged queries prove too little" in str(found.objection)
    mixed = {**{query: {"1": 1.0} for query in few}, "q0": {"2": 5.0, "1": 4.9}, "q1": {"2": 1.0}, "q2": {"2": 1.0}}
    texts = {**dict.fromkeys(few, "fox"), "q0": "red", "q1": "red", "q2": "red"}
    found = evaluate(pages, texts, mixed, entities=["Page"])
    assert 0 < found.gain <= found.noise
    assert "which chance alone may do" in str(found.objection)


def test_eval_measures_draws_and_keeps_the_weight(run: Run, tmp_path: Path) -> None:
    records = "".join(json.dumps({"_id": id_, "text": text}) + "\n" for _, id_, text in PAGES[:3])
    run("data", "insert", "Page", "--id-field", "_id", stdin=records)
    queries = "".join(json.dumps({"_id": str(n), "text": "fox"}) + "\n" for n in range(12))
    (tmp_path / "q.jsonl").write_text("\ufeff" + queries, "utf-8")
    (tmp_path / "r.tsv").write_text("\ufeffquery-id\tcorpus-id\tscore\n1\t1\t1\n1\t9\t0\n", "utf-8")
    files = ("eval", "--queries", "q.jsonl", "--qrels", "r.tsv")
    plain = run(*files, "--entity", "Page", "--plot", "plot.svg")
    assert plain.stdout.splitlines()[:2] == ["search\tnDCG@10\trecall@100\tMRR", "keyword\t1.0000\t1.0000\t1.0000"]
    assert "1 queries, 11 skipped" in plain.stderr
    assert "1 of 2 judged records are in the index" in plain.stderr
    drawn = ElementTree.fromstring((tmp_path / "plot.svg").read_text())  # noqa: S314 - our own
    assert len([e for e in drawn.iter() if e.get("class", "").startswith("f")]) == 3 + 5 * 3
    assert "1 judged queries prove too little of others; it takes 10" in run(*files, "--save", status=2).stderr
    (tmp_path / "q.jsonl").write_text(queries.replace("fox", "toad"))  # frogs are near
    (tmp_path / "r.tsv").write_text("".join(f"{n}\t3\t1\n" for n in range(12)))
    database = kameleon.create_engine(f"sqlite:///{tmp_path / 'kameleon.db'}")
    SearchEngine(database).admin.set_weight(0.0)
    database.dispose()
    output = run(*files, "--entity", "Page").stderr
    assert output.startswith("12 queries\nall 1 judged records are in the index\n")
    assert output.endswith("the weight is the whole index's, not that of Page alone\n")
    saved = json.loads(run(*files, "--save", "--json").stdout)
    assert saved["saved"] is True
    again = json.loads(run(*files, "--save", "--json").stdout)
    assert again["saved"] is False
    assert again["weight"] == saved["best_weight"]
    assert again["figures"]["weighted"]["ndcg"] == max(saved["ndcg_by_weight"].values())
    searched = json.loads(run("search", "fox", "--fusion", "rrf", "--weight", "0.25", "--explain", "--json").stdout)
    assert searched["plan"]["weight"] == 0.25
    (tmp_path / "r.tsv").write_bytes(b"1\t3\t1\nwhat\n")
    assert "r.tsv:2 is not query-id" in run(*files, status=1).stderr
    (tmp_path / "r.tsv").write_bytes(b"\xff\xff")
    assert "r.tsv is not UTF-8" in run(*files, status=1).stderr
