"""Typos, prefixes and suggestions, from the words of the index. Each test runs on each database."""

import pytest
from sqlalchemy import Engine

from kameleon import SearchEngine

from .conftest import ids, with_server

NOTES = [
    ("N", "1", "the refund was requested by Müller"),
    ("N", "2", "Refunds, requests and reasons"),
    ("N", "3", "reasonable weather in Oslo: विद्यालय"),
    ("N", "4", "a request about bread"),
]


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def notes(search: SearchEngine) -> SearchEngine:
    search.index_records_batch(NOTES)
    return search


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
    assert set(ids(search.search("re*", mode="keyword", limit=1000))) == {*short, "r0", "r1", "r2"}


def test_words_of_a_transaction_that_was_rolled_back_are_not_suggested(notes: SearchEngine, engine: Engine) -> None:
    with engine.connect() as connection:
        notes.index_record("N", "8", "giraffe number 8", connection=connection)
        assert notes.suggest("gir", connection=connection) == ["giraffe"]
        connection.rollback()
    assert notes.suggest("gir") == []
    assert notes.search("girafe", mode="keyword").plan.corrections == {}
    notes.index_record("N", "9", "giraffe again")
    assert notes.suggest("gir") == ["giraffe"]


def test_words_of_deleted_records_are_neither_suggested_nor_taken_for_typos(notes: SearchEngine) -> None:
    notes.delete_record("N", "4")
    assert notes.suggest("bre") == []
    assert notes.search("breda", mode="keyword").plan.corrections == {}


def test_many_records_at_once_have_the_words_of_few(search: SearchEngine) -> None:
    search.index_records_batch([("N", str(n), f"{'abcdefghij'[n % 10] * 4} tail") for n in range(600)])
    assert search.suggest("aa") == ["aaaa"]
    search.index_record("N", "0", "tails")
    assert search.suggest("ta") == ["tail", "tails"]
    assert len(search.search("tail", mode="keyword", limit=1000)) == 600


def test_accents_are_completed_as_they_are_typed_or_without(search: SearchEngine) -> None:
    search.index_records_batch([("N", "1", "le téléphone de Zürich"), ("N", "2", "İstanbul")])
    for typed, word in (("tele", "téléphone"), ("télé", "téléphone"), ("zur", "zürich"), ("telephon", "téléphone")):
        assert search.suggest(typed) == [word], typed
        assert ids(search.search(f"{typed}*", mode="keyword")) == ["1"], typed
    assert ids(search.search("istan*", mode="keyword")) == ["2"]


def test_codes_are_completed(search: SearchEngine) -> None:
    search.index_records_batch([("N", "1", "SPZ007 space"), ("N", "2", "SPZ008 pole"), ("N", "3", "POL-358-A")])
    assert search.suggest("the SPZ00") == ["the spz007", "the spz008"]
    assert search.suggest("POL-35") == ["pol358", "pol358a"]
    assert set(ids(search.search("SPZ00*", mode="keyword"))) == {"1", "2"}
    assert ids(search.search("POL-35*", mode="keyword")) == ["3"]
