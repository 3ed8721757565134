"""Typos, prefixes and suggestions, from the words of the index. Each test runs on each database."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kameleon import SearchEngine

from .conftest import Make, ids, with_citus

NOTES = [
    ("N", "1", "the refund was requested by Müller"),
    ("N", "2", "Refunds, requests and reasons"),
    ("N", "3", "reasonable weather in Oslo: विद्यालय"),
    ("N", "4", "a request about bread"),
]


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def notes(search: SearchEngine) -> SearchEngine:
    search.index_records_batch(NOTES)
    return search


def forms(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.scalars(text("SELECT form FROM kdb_term WHERE form NOT LIKE '<%'")))


TYPOS = {
    "refnud": "refund",
    "erfund": "refund",
    "reasonabel": "reasonable",
    "breda": "bread",
    "wheather": "weather",
}


def test_a_typo_is_forgiven_in_the_keyword_leg(notes: SearchEngine) -> None:
    for typed, taken in TYPOS.items():
        results = notes.search(f"the {typed}", mode="keyword", highlight=True)
        assert ids(results) == ids(notes.search(taken, mode="keyword"))
        assert results.plan.corrections == {typed: taken}
        assert results[0].spans


def test_exact_words_are_not_corrected(notes: SearchEngine) -> None:
    for query in ('"refnud"', "bread -refnud", "refnud-12", "refnud*", "oslp_x", "ref", "weatherman"):
        assert notes.search(query, mode="keyword").plan.corrections == {}, query


def test_a_second_word_of_a_stem_that_records_have_is_not_corrected(search: SearchEngine) -> None:
    search.index_records_batch([("N", "1", "my love of houses"), ("N", "2", "loved house, over and glover")])
    for query in ("houses house", "love loving loved houses", "hous* over"):
        assert search.search(query, mode="keyword").plan.corrections == {}, query
    assert search.search("house houzes", mode="keyword").plan.corrections == {"houzes": "houses"}


def test_of_words_as_near_the_one_in_most_records_is_taken(search: SearchEngine) -> None:
    search.index_records_batch(
        [("N", "1", "bitter"), ("N", "2", "batter batter"), ("N", "3", "batter"), ("N", "4", "z")]
    )
    assert search.search("butter").plan.corrections == {"butter": "batter"}
    search.delete_records([("N", "2"), ("N", "3")])
    assert search.search("butter").plan.corrections == {"butter": "bitter"}


def test_a_prefix_finds_every_word_that_begins_so_and_requires_none(notes: SearchEngine) -> None:
    assert set(ids(notes.search("refu*", mode="keyword"))) == {"1", "2"}
    assert set(ids(notes.search("REAS* bread", mode="keyword"))) == {"2", "3", "4"}
    assert ids(notes.search("विद्या*", mode="keyword")) == ["3"]


def test_suggestions_are_words_of_records_commonest_first(notes: SearchEngine) -> None:
    words = ["request", "requests", "requested", "refund", "reasons", "refunds", "reasonable"]
    assert notes.suggest("Refund re") == [f"Refund {word}" for word in words]
    assert notes.suggest("a requ", limit=1) == ["a request"]
    assert notes.suggest("MÜL") == ["müller"]
    for nothing in ("", "refund ", "zzz", "*", '"', "\0", "🦊", "x" * 100_000, "'; --", "%", "re\\"):
        assert notes.suggest(nothing) == []


def test_the_commonest_word_is_suggested_among_many_shorter(search: SearchEngine) -> None:
    short = [f"re{a}{b}" for a in "abcdfghjklmnop" for b in "bcdfghjklmnopqrtuvwxz"]
    search.index_records_batch([("N", word, word) for word in short])
    assert search.suggest("refund re", limit=1) == ["refund reab"]
    search.index_records_batch([("N", f"r{n}", "a refund request, or replies") for n in range(3)])
    assert search.suggest("refund re", limit=3) == ["refund refund", "refund replies", "refund request"]
    assert set(ids(search.search("re*", mode="keyword", limit=100))) >= {"r0", "r1", "r2"}


def test_words_of_a_transaction_that_was_rolled_back_are_learnt_when_they_come_again(
    notes: SearchEngine, engine: Engine
) -> None:
    for _ in range(2):
        with engine.connect() as connection:
            for id_ in ("8", "9"):
                notes.index_record("N", id_, f"giraffe number {id_}", connection=connection)
            connection.rollback()
    assert "giraffe" not in forms(engine)
    notes.index_record("N", "9", "giraffe again")
    notes.index_record("N", "10", "giraffe once more")
    notes.index_record("N", "11", "giraffe and more")
    assert forms(engine).count("giraffe") == 1


def test_many_records_and_few_learn_the_same(make: Make, engine: Engine, tmp_path: Path) -> None:
    texts = [("N", str(n), f"{'abcdefghij'[n % 10] * 4} tail") for n in range(600)]
    make(None).index_records_batch(texts)
    assert forms(engine) == sorted([*(letter * 4 for letter in "abcdefghij"), "tail"])
