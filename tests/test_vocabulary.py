"""Typos, prefixes and suggestions, from the words of the index. Each test runs on each database."""

import pytest
from sqlalchemy import Engine

from kameleon import SearchEngine
from kameleon.keywords.correcting import SHARE
from kameleon.testing import HashProvider

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
    assert search.search("bxtter").plan.corrections == {"bxtter": "batter"}
    search.delete_records([("N", "2"), ("N", "3")])
    assert search.search("bxtter").plan.corrections == {"bxtter": "bitter"}


RIGHT = {
    "conan": "Conal ran to the station",
    "guilt": "It was built in 1900",
    "monument": "wait a moment",
    "andy": "salt and pepper",
}


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_a_word_of_the_language_is_not_corrected(search: SearchEngine, mode: str) -> None:
    search.index_records_batch([("N", word, text) for word, text in RIGHT.items()])
    assert search.search("momet", mode=mode).plan.corrections == {"momet": "moment"}
    for word in RIGHT:
        assert search.search(word, mode=mode).plan.corrections == {}, word


class Reader(HashProvider):
    """Has one word in its vocabulary."""

    def knows_word(self, word: str) -> bool:
        return word == "zorbl"


def test_a_word_of_the_model_is_not_corrected_where_the_model_is_used(engine: Engine) -> None:
    search = SearchEngine(engine, Reader())
    search.index_records_batch([("N", "1", "zorbel is zorbi")])
    assert search.search("zorbl").plan.corrections == {}
    assert search.search("zorbl", mode="keyword").plan.corrections == {"zorbl": "zorbel"}
    assert search.search("zorbll").plan.corrections == {"zorbll": "zorbel"}


def test_a_model_that_fails_to_name_its_words_fails_no_search(engine: Engine) -> None:
    class Failing(HashProvider):
        def knows_word(self, word: str) -> bool:
            raise OSError(word)

    search = SearchEngine(engine, Failing())
    search.index_records_batch([("N", "1", "zorbel is zorbi")])
    assert search.search("zorbll").plan.corrections == {"zorbll": "zorbel"}


def test_a_wrong_correction_of_one_word_is_below_what_the_model_finds(engine: Engine) -> None:
    search = SearchEngine(engine, embedding_provider="static")
    texts = ["The alarm wakes the guards at night", "Salary has not been paid since March", "Printer is out of paper"]
    search.index_records_batch([("N", str(n), text) for n, text in enumerate(texts, 1)])
    assert search.search("wages overdue")[0].id == "2"
    misread = search.search("wages gaurds")
    assert (misread.plan.corrections, misread[0].id) == ({"gaurds": "guards"}, "2")
    assert search.search("gaurds")[0].id == "1"


def test_no_word_is_taken_for_a_stop_word(search: SearchEngine) -> None:
    search.index_records_batch([("N", str(n), f"having and having been there {n}") for n in range(9)])
    search.index_record("N", "10", "the heading of the wheel")
    corrected = search.search("hading thhere", mode="keyword")
    assert (corrected.plan.corrections, ids(corrected)) == ({"hading": "heading"}, ["10"])


def test_a_misspelling_that_few_records_have_hides_the_word_from_nobody(search: SearchEngine) -> None:
    texts = ["Engin hleðsla", "hleðslu tæki eitt", "hleðslu tæki tvö", "hleslu villa"]
    search.index_records_batch([("N", str(n), text) for n, text in enumerate(texts, 1)])
    found = search.search("hleslu", mode="keyword")
    assert (found[0].id, set(ids(found)), found.plan.corrections) == ("4", {"2", "3", "4"}, {"hleslu": "hleðslu"})
    assert search.search("hleðslu", mode="keyword").plan.corrections == {}
    search.index_record("N", "5", "hleslu")
    assert ids(search.search("hleslu", mode="keyword")) == ["5", "4"], "as many have the one as two have the other"


def test_a_rare_word_of_the_language_is_not_widened(search: SearchEngine) -> None:
    search.index_records_batch([("N", str(n), f"a built wall {n}") for n in range(5)])
    search.index_record("N", "guilt", "a guilt")
    assert ids(search.search("guilt", mode="keyword")) == ["guilt"]


def test_a_corrected_word_counts_for_less_than_a_typed_one(notes: SearchEngine) -> None:
    def raw(query: str) -> float:
        return notes.search(query, mode="keyword", explain=True)[0].explanation[0].raw

    assert raw("refnud") == pytest.approx(SHARE * raw("refund"))
    assert raw("refund refnud") == pytest.approx(raw("refund"))


def test_a_missing_word_lowers_the_score_of_a_correction_alone(notes: SearchEngine) -> None:
    alone = notes.search("refnud", mode="keyword")[0].score
    assert notes.search("refnud giraffe", mode="keyword")[0].score < alone
    typed = notes.search("refund", mode="keyword")[0].score
    assert notes.search("refund giraffe", mode="keyword")[0].score == typed


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


def test_a_code_is_completed_from_a_joint_on(search: SearchEngine) -> None:
    search.index_records_batch([("N", "1", "C++ and C#, node.js"), ("N", "2", "POL-358 police 555-123 Łódź Straße")])
    suggested = {
        typed: search.suggest(typed) for typed in ("C+", "C#", "node.", "POL-", "555-", "lod", "strass", "re.")
    }
    assert suggested == {
        "C+": ["c++"],
        "C#": ["c#"],
        "node.": ["node.js"],
        "POL-": ["pol358"],
        "555-": ["555-123"],
        "lod": ["łódź"],
        "strass": ["straße"],
        "re.": [],
    }
