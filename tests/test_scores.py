"""What a score means by itself, and which records a search is of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import CallableProvider, StaticProvider
from kameleon.embeddings.noise import SENTENCES, noise_of
from kameleon.search.evidence import LEAST_EVIDENCE, KeywordScale, VectorScale, levelled
from kameleon.testing import HashProvider

from .conftest import Make, ids, with_server

TICKETS = [
    ("Ticket", "1", "Salary has not been paid since March"),
    ("Ticket", "2", "Printer is out of paper"),
    ("Ticket", "3", "The router loses wifi every night"),
]
COLOURS = ("red", "green", "blue", "grey", "white")


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Counted(HashProvider):
    """Measured as any model is."""

    noise = None


def angled(cosine: float) -> list[float]:
    return [cosine, (1 - cosine * cosine) ** 0.5]


def by_angle(texts: Any) -> list[list[float]]:
    """A text that ends with a number has this cosine with any other text."""
    return [angled(float(word)) if (word := text.split()[-1])[0].isdigit() else [1.0, 0.0] for text in texts]


def test_evidence_grows_with_the_cosine_and_is_one_half_five_deviations_above_the_mean() -> None:
    scale = VectorScale((0.1, 0.1), 1.0)
    assert scale(0.6) == pytest.approx(0.5)
    assert scale(-1.0) < scale(0.1) < LEAST_EVIDENCE < scale(0.4) < 0.5 < scale(0.9) < 1.0
    assert VectorScale((0.1, 0.1), 0.5)(0.6) == pytest.approx(0.25)
    assert VectorScale((0.0, 1e-9), 1.0)(-1.0) == pytest.approx(0.0)
    assert [VectorScale(None, 1.0)(cosine) for cosine in (-0.5, 0.4)] == [0.0, 0.4]
    assert [KeywordScale(8.0)(score) for score in (0.0, 4.0, 9.0)] == [0.0, 0.5, 1.0]
    assert KeywordScale(0.0)(1.0) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1))
def test_no_hit_scores_more_than_the_one_before_it(evidence: list[float]) -> None:
    scores = levelled(range(len(evidence)), dict(enumerate(evidence)))
    assert list(scores.values()) == [min(evidence[: place + 1]) for place in range(len(evidence))]


def test_the_noise_of_the_bundled_model_is_that_of_its_sentences() -> None:
    provider = StaticProvider()
    measured = noise_of(provider.embed_batch(SENTENCES))
    assert provider.noise == pytest.approx(measured, abs=0.0001)
    assert StaticProvider(passage_prefix="passage: ").noise is None
    assert noise_of([np.array([1.0, 0.0])] * 64) is None
    assert noise_of([None] * 40 + [np.array([1.0, 0.0])] * 24) is None


def test_a_model_is_measured_once_with_the_first_texts_of_an_index(make: Make, engine: Engine) -> None:
    provider = Counted()
    search = make(provider)
    search.index_records_batch(TICKETS)
    search.index_record("Ticket", "4", "No wifi")
    assert [len(texts) for texts in provider.calls] == [3, 64, 1]
    (made,) = search.generations()
    vectors = np.array([provider.embed_query(sentence) for sentence in SENTENCES])
    assert made.noise == pytest.approx(noise_of(list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))))
    search.reindex(force=True)
    assert search.generations()[-1].noise == made.noise
    with engine.begin() as connection:
        connection.execute(text("UPDATE kdb_generation SET noise_mean = NULL"))
    search.index_record("Ticket", "5", "No paper")
    assert search.generations()[-1].noise == made.noise


def test_another_databases_tenant_brings_the_noise_of_its_model(make: Make, engine: Engine, tmp_path: Path) -> None:
    search = make(Counted())
    search.for_tenant("acme").index_record("Note", "1", "red fox")
    noise = search.generations()[0].noise
    search.admin.export_tenant("acme", tmp_path / "acme.jsonl.gz")
    with engine.begin() as connection:
        connection.execute(text("UPDATE kdb_generation SET noise_mean = NULL, noise_deviation = NULL"))
    search.admin.drop_tenant("acme")
    fresh = Counted()
    make(fresh).admin.import_tenant(tmp_path / "acme.jsonl.gz")
    assert fresh.calls == []
    assert search.generations()[0].noise == noise


@pytest.mark.parametrize("query", ["Чайковский", "xqzvtr", "zzzzz qqqqq"])
def test_what_neither_words_nor_model_know_is_not_found(make: Make, query: str) -> None:
    search = make("static")
    search.index_records_batch(TICKETS)
    assert search.search(query) == []
    assert {hit.score for hit in search.search(query, mode="vector")} == {0.0}


def test_a_score_is_the_same_whatever_else_is_found(make: Make) -> None:
    search = make("static")
    search.index_records_batch(TICKETS)
    for mode in ("hybrid", "vector", "keyword"):
        (hit, *_) = search.search("salary not paid", mode=mode)
        assert hit.id == "1"
        assert hit.score > 0.6
        unrelated = search.search("zebra quantum chromodynamics", mode=mode)
        assert all(other.score < 0.05 for other in unrelated)
    paraphrase = search.search("wages are late")
    assert (ids(paraphrase), search.search("wages are late", limit=1)[0].score) == (["1"], paraphrase[0].score)
    alone = search.search("no money this month", mode="vector", limit=3)
    search.index_record("Ticket", "4", "No money this month")
    beside = {hit.id: hit.score for hit in search.search("no money this month", mode="vector")}
    assert beside["4"] > 0.99
    assert [beside[hit.id] for hit in alone] == pytest.approx([hit.score for hit in alone])


def test_unknown_words_lower_the_score(make: Make) -> None:
    search = make(None)
    search.index_records_batch(TICKETS)
    known, other = (search.search(query)[0].score for query in ("printer", "printer xylophone gazebo"))
    assert known > 2 * other > 0


@pytest.fixture
def spread(make: Make) -> SearchEngine:
    """400 records, each fourth of which has the word, 200 of the others near and 100 far."""
    provider = CallableProvider(by_angle, dimensions=2, model_name="angles")
    provider.noise = (0.0, 0.1)
    search = make(provider)
    texts = [f"{'lamp' if n % 4 == 0 else 'thing'} {0.1 if n % 4 == 1 else 0.9}" for n in range(400)]
    records = [{"id": n, "text": text_, "colour": COLOURS[n % 5]} for n, text_ in enumerate(texts)]
    RecordStore(search).insert("Thing", records)
    return search


@pytest.mark.parametrize(
    "options", [{}, {"fusion": "rrf"}, {"sort": "colour"}, {"min_score": 0.8}, {"mode": "keyword"}]
)
def test_total_facets_and_pages_are_of_one_set(spread: SearchEngine, options: dict[str, Any]) -> None:
    found = spread.search("lamp", entity="Thing", facets=["colour"], count=True, limit=100, **options)
    pages = [found]
    while pages[-1].cursor:
        pages.append(spread.search("lamp", entity="Thing", limit=100, cursor=pages[-1].cursor, **options))
    listed = ids([hit for page in pages for hit in page])
    expected = 100 if "mode" in options or "min_score" in options else 300
    assert len(set(listed)) == len(listed) == expected
    assert (found.total, sum(found.facets["colour"].values())) == (expected, expected)
    assert found.is_total_exact


def test_a_search_by_vectors_is_of_all_that_reach_min_score(spread: SearchEngine) -> None:
    for least, expected in ((0.0, 400), (0.5, 300), (1.0, 0)):
        found = spread.search("lamp", mode="vector", min_score=least, facets=["colour"], entity="Thing")
        assert (found.total, found.is_total_exact) == (expected, True)
        assert sum(found.facets["colour"].values()) == expected


def test_a_function_of_ones_own_chooses_and_scores(spread: SearchEngine) -> None:
    found = spread.search("lamp", fusion=lambda legs: dict.fromkeys(list(legs[1].chosen)[:2], 0.25), count=True)
    assert [hit.score for hit in found] == [0.25, 0.25]
    assert found.total == 2
