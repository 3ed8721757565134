"""Synonyms: the rules, what they find, what they count for, and how they are kept. On each database, and where the
server ranks keywords."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session

import kameleon
from kameleon import ALL_TENANTS, RecordStore, SearchEngine, synonyms
from kameleon.analysis.synonyms import read_lines, read_rule
from kameleon.errors import InvalidInput
from kameleon.keywords import expanding
from kameleon.stores.bm25 import K1, B, idf, times_weight
from kameleon.testing import HashProvider

from .conftest import SERVER_RANKED, Make, ids
from .test_cli import Run, checked

CITY = "nyc, New York, big apple"
HOTELS = ["hotels in NYC", "a hotel in New York", "Big Apple at night", "York has new inns", "a motel in Boston"]
PADDING = [f"page {n} about nothing" for n in range(12)]
"""Texts without any of the words, so that none is in half of the records."""


@pytest.fixture(params=["sqlite", "postgresql", SERVER_RANKED])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(command: Callable[..., Any]) -> Run:
    return checked(command)


@pytest.fixture
def search(make: Make) -> SearchEngine:
    return make(None)


@pytest.fixture
def quick() -> Iterator[SearchEngine]:
    """For what no database decides."""
    engine = kameleon.create_engine("sqlite://")
    yield SearchEngine(engine)
    engine.dispose()


def fill(search: SearchEngine, texts: Sequence[str], **options: Any) -> None:
    records = [("Page", str(n), text) for n, text in enumerate([*texts, *PADDING])]
    search.index_records_batch(records, **options)


def found(search: SearchEngine, query: str, **options: Any) -> set[str]:
    return set(ids(search.search(query, mode="keyword", limit=50, **options)))


# rules


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (" nyc ,New  York,nyc", "New York, nyc"),
        ("tablet=>iPad , galaxy tab", "tablet => galaxy tab, iPad"),
        ("b, a => c", "a, b => c"),
        (r"1\,000, thousand", r"1\,000, thousand"),
        (r"#golang, go", r"\#golang, go"),
        (r"a \=> b, implies", r"a \=> b, implies"),
        ("a=b, c", "a=b, c"),
        (r"back\\slash, x", r"back\\slash, x"),
    ],
)
def test_a_rule_is_kept_in_its_normal_form(given: str, kept: str) -> None:
    assert str(read_rule(given)) == kept
    assert str(read_rule(kept)) == kept


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=2))
def test_any_words_are_a_rule_that_reads_as_it_is_written(words: list[str]) -> None:
    written = ", ".join(word.replace("\\", "\\\\").replace(",", "\\,").replace("=>", "\\=>") for word in words)
    wanted = {" ".join(word.split()) for word in words}
    if "" in wanted or len(wanted) < 2 or len(written.encode()) > 800:
        return
    rule = read_rule(written)
    assert set(rule.sources) == wanted
    assert read_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", r"'' is no rule of synonyms: write 'nyc, new york' or 'tablet => ipad, galaxy tab'"),
        ("a, , b", "is no rule"),
        ("a =>", "is no rule"),
        ("=> a", "is no rule"),
        ("a => b => c", "is no rule"),
        ("nyc", "'nyc' names one word"),
        ("nyc, nyc", "names one word"),
        ("A, a", "'A, a' has forms of one word, which find each other without a rule"),
        ("hotel => hotels, Hotel", "forms of one word"),
        ("!!, nyc", r"'!!' has no word, or more than 16"),
        ("nyc, " + "so many words " * 6, "has no word, or more than 16"),
        (", ".join(f"word{n}" for n in range(200)), "a rule has 1,000 bytes at most"),
        (7, "a rule of synonyms is text such as 'nyc, new york', not int"),
    ],
)
def test_what_is_no_rule_is_refused(quick: SearchEngine, rule: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        quick.synonyms.add("fine, well", rule)
    assert quick.synonyms.list() == []


def test_rules_are_added_listed_and_removed(quick: SearchEngine) -> None:
    assert quick.synonyms.add(CITY, "tablet => ipad", "NYC, gotham") == 3
    assert quick.synonyms.add("new tune, song", "New York, big apple, nyc") == 1
    kept = ["big apple, New York, nyc", "gotham, NYC", "new tune, song", "tablet => ipad"]
    assert quick.synonyms.list() == kept
    assert quick.synonyms.remove("song, new tune", "tablet => other") == 1
    assert len(quick.synonyms.list()) == 3
    assert quick.synonyms.remove() == 0


def test_a_text_is_loaded_line_by_line_or_not_at_all(quick: SearchEngine, tmp_path: Path) -> None:
    quick.synonyms.add("old, ancient")
    lines_of_file = "# cities\n\nnyc, new york\n  # other\ntablet => ipad\n"
    assert quick.synonyms.load(lines_of_file) == 2
    assert len(quick.synonyms.list()) == 3
    with pytest.raises(InvalidInput, match=r"line 3: 'nyc' names one word"):
        quick.synonyms.load(["a, b", "", "nyc"], replace=True)
    assert len(quick.synonyms.list()) == 3
    (tmp_path / "synonyms.txt").write_text(lines_of_file)
    with (tmp_path / "synonyms.txt").open() as lines:
        assert quick.synonyms.load(lines, replace=True) == 0
    assert set(quick.synonyms.list()) == {"new york, nyc", "tablet => ipad"}
    assert quick.synonyms.load("\ufeff# cities\nnyc, new york", replace=True) == 0
    assert quick.synonyms.load("\ufeffnyc, new york", replace=True) == 0
    assert quick.synonyms.list() == ["new york, nyc"]
    assert quick.synonyms.load([], replace=True) == 0
    assert quick.synonyms.list() == []


def test_what_is_listed_is_loaded_again(quick: SearchEngine) -> None:
    quick.synonyms.add(r"\#go, golang", r"1\,000, thousand", r"a \=> b, implies")
    listed = quick.synonyms.list()
    assert [rule for _, rule in read_lines(listed)] == listed
    assert quick.synonyms.load(listed, replace=True) == 0
    assert quick.synonyms.list() == listed


def test_a_tenant_has_so_many_rules(quick: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synonyms, "MAX_RULES", 3)
    quick.synonyms.add("a, b", "c, d")
    with pytest.raises(InvalidInput, match="3 rules of synonyms at most: 2 are there, 2 new ones"):
        quick.synonyms.add("e, f", "g, h", "a, b")
    assert quick.synonyms.add("e, f", tenant="acme") == 1
    assert quick.synonyms.load(["e, f", "g, h", "a, b"], replace=True) == 2
    assert len(quick.synonyms.list()) == 3


# what is found


def test_words_of_a_two_way_rule_find_each_other(search: SearchEngine) -> None:
    fill(search, HOTELS)
    assert (found(search, "nyc"), found(search, "big apple")) == ({"0"}, {"2"})
    search.synonyms.add(CITY)
    assert (found(search, "nyc"), found(search, "Big Apples")) == ({"0", "1", "2"}, {"0", "1", "2"})
    assert found(search, "new york") == {"0", "1", "2", "3"}  # the last has the words as they are typed
    search.synonyms.remove(CITY)
    assert (found(search, "nyc"), found(search, "big apple")) == ({"0"}, {"2"})


def test_a_one_way_rule_finds_the_others_and_not_back(search: SearchEngine) -> None:
    fill(search, ["my tablet", "an iPad", "a Galaxy Tab", "a galaxy of stars"])
    search.synonyms.add("tablet => ipad, galaxy tab")
    assert found(search, "tablets") == {"0", "1", "2"}
    assert (found(search, "ipad"), found(search, "galaxy tab")) == ({"1"}, {"2", "3"})


def test_chains_are_not_followed(quick: SearchEngine) -> None:
    fill(quick, ["alpha", "beta", "gamma"])
    quick.synonyms.add("alpha, beta", "beta, gamma")
    assert (found(quick, "alpha"), found(quick, "beta")) == ({"0", "1"}, {"0", "1", "2"})


def test_case_accents_stems_and_codes_are_compared_as_everywhere(quick: SearchEngine) -> None:
    fill(quick, ["the Wi-Fi router", "cafés", "coffee shops", "a wlan", "order POL358"])
    quick.synonyms.add("wifi, wlan", "CAFE, coffee shop", "pol-358, the policy")
    assert found(quick, "WLAN") == found(quick, "wi-fi") == {"0", "3"}
    assert found(quick, "café") == found(quick, "coffee shop") == {"1", "2"}
    assert found(quick, "the policy") == {"4"}


def test_scripts_without_spaces_have_synonyms_in_their_runs(quick: SearchEngine) -> None:
    fill(quick, ["新的手机价格", "移动电话", "电话"])
    quick.synonyms.add("手机, 移动电话")
    assert found(quick, "买手机") == {"0", "1"}
    assert found(quick, "移动电话") == {"0", "1", "2"}  # the last has a part of it, as without the rule


def test_the_longest_source_holds_and_overlaps_do_not(quick: SearchEngine) -> None:
    fill(quick, ["gotham", "capital", "city", "yorkshire"])
    quick.synonyms.add("new york, gotham", "new york state => capital", "york => yorkshire", "state, city")
    assert found(quick, "new york state") == {"1"}
    assert found(quick, "new york, state") == {"1"}
    assert found(quick, "old york state") == {"2", "3"}
    assert found(quick, "new york") == {"0"}


def test_all_rules_of_a_source_hold(quick: SearchEngine) -> None:
    fill(quick, ["automobile", "vehicle", "a car"])
    quick.synonyms.add("car, automobile", "car, vehicle")
    results = quick.search("cars", mode="keyword")
    assert set(ids(results)) == {"0", "1", "2"}
    assert results.plan.synonyms == {"cars": ["automobile", "vehicle"]}


def test_stop_words_count_in_a_source(quick: SearchEngine) -> None:
    fill(quick, ["a British rock band", "the concert of the band", "who was at the concert", "The Who, live"])
    assert found(quick, "the who concert") == {"1", "2"}
    quick.synonyms.add("the who, british rock band")
    assert found(quick, "the who concert") == {"0", "1", "2", "3"}
    assert found(quick, "who is the concert for") == {"1", "2"}


def test_what_is_typed_as_it_is_has_no_synonyms(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("Doc", search=["title", "body"])
    store.insert("Doc", [{"id": n, "title": text, "body": "text"} for n, text in enumerate(HOTELS[:3])])
    fill(search, [])
    search.synonyms.add(CITY)
    for query in ('"nyc"', "nyc*", "title:nyc"):
        results = search.search(query, entity="Doc", mode="keyword")
        assert (ids(results), results.plan.synonyms) == (["0"], {}), query
    assert found(search, "nyc -night", entity="Doc") == {"0", "1"}
    assert found(search, "hotel -nyc", entity="Doc") == {"1"}


def test_similar_and_suggest_have_no_synonyms(quick: SearchEngine) -> None:
    fill(quick, HOTELS)
    before = ids(quick.similar("Page", "2")), quick.suggest("ny"), quick.suggest("big a")
    quick.synonyms.add(CITY)
    assert (ids(quick.similar("Page", "2")), quick.suggest("ny"), quick.suggest("big a")) == before


def test_a_vector_search_has_none_and_a_hybrid_one_has_its_words(make: Make) -> None:
    search = make(HashProvider())
    fill(search, HOTELS)
    search.synonyms.add(CITY)
    assert search.search("nyc", mode="vector").plan.synonyms == {}
    results = search.search("nyc")
    assert {"0", "1", "2"} <= set(ids(results))
    assert results.plan.synonyms == {"nyc": ["big apple", "New York"]}


# spelling


def test_a_word_with_synonyms_is_not_misspelt_and_a_corrected_one_has_its_synonyms(quick: SearchEngine) -> None:
    fill(quick, ["a tablet computer", "an iPad", "the table is set"])
    assert quick.search("tablt", mode="keyword").plan.corrections == {"tablt": "tablet"}
    quick.synonyms.add("tablet => ipad", "tabler => ipad", "table => desk")
    results = quick.search("tablt", mode="keyword")
    assert (results.plan.corrections, results.plan.synonyms) == ({"tablt": "tablet"}, {"tablet": ["ipad"]})
    assert set(ids(results)) == {"0", "1"}
    known = quick.search("tabler", mode="keyword")
    assert (ids(known), known.plan.corrections, known.plan.synonyms) == (["1"], {}, {"tabler": ["ipad"]})


# scores


def test_a_synonym_counts_as_the_word_would(make: Make) -> None:
    """Texts that differ in nothing but the synonym have the scores of equal texts."""
    search = make(None)
    fill(search, ["blue car here", "blue auto here", "red car here", "blue van here"])
    search.synonyms.add("car, auto")
    hits = search.search("blue car", mode="keyword")
    assert ids(hits)[:2] == ["0", "1"]
    assert hits[0].score == hits[1].score > hits[2].score


def test_of_equal_scores_the_typed_word_comes_first(quick: SearchEngine) -> None:
    fill(quick, ["an auto here", "a car here", "an auto there"])
    quick.synonyms.add("car, auto")
    assert ids(quick.search("car", mode="keyword"))[0] == "1"
    assert ids(quick.search("auto", mode="keyword")) == ["0", "2", "1"]


def test_a_phrase_counts_where_a_field_has_more_weight(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("Doc", search={"title": 3, "body": 1})
    rows = [("new york", "a text"), ("a text", "new york"), ("gotham", "a text"), ("a text", "gotham")]
    rows += [(f"page {n}", "of nothing") for n in range(9)]
    store.insert("Doc", [{"id": n, "title": title, "body": body} for n, (title, body) in enumerate(rows)])
    search.synonyms.add("nyc => new york, gotham")
    scores = {hit.id: hit.score for hit in search.search("nyc", mode="keyword", explain=True)}
    raw = {hit.id: hit.explanation[0].raw for hit in search.search("nyc", mode="keyword", explain=True)}
    assert set(scores) == {"0", "1", "2", "3"}
    assert raw["0"] > raw["1"] * 1.2
    lengths = {"0": 8, "2": 5}  # words, with those that count again
    assert raw["0"] / raw["2"] == pytest.approx(saturated(3, 8, rows) / saturated(3, 5, rows), rel=1e-5), lengths


def saturated(count: int, length: int, rows: Sequence[tuple[str, str]]) -> float:
    average = sum(3 * len(title.split()) + len(body.split()) for title, body in rows) / len(rows)
    return count * (K1 + 1) / (count + K1 * (1 - B + B * length / average))


def test_min_score_keeps_what_has_a_synonym_and_what_it_kept_before(quick: SearchEngine) -> None:
    fill(quick, HOTELS)
    before = {hit.id: hit.score for hit in quick.search("nyc hotel", mode="keyword")}
    quick.synonyms.add(CITY)
    after = {hit.id: hit.score for hit in quick.search("nyc hotel", mode="keyword")}
    assert after["0"] == pytest.approx(before["0"], abs=0.05)
    assert after["1"] > 0.9 > before["1"]
    assert set(ids(quick.search("nyc hotel", mode="keyword", min_score=0.9))) == {"0", "1"}


WORDS = ["fox", "owl", "elk", "bat", "cod", "ray"]
Phrase = tuple[str, ...]


def expected(texts: Sequence[str], rules: Sequence[Sequence[Phrase]], query: Sequence[str]) -> dict[str, float]:
    """The scores by the definition: of what a query has the longest sources hold; a record has a word of such a place
    as often as the word, and as each synonym of its."""
    ways: dict[str, set[Phrase]] = {word: {(word,)} for word in query}
    for start, end in places_of(query, {side for rule in rules for side in rule}):
        source = tuple(query[start:end])
        for rule in rules:
            if source in rule:
                for word in source:
                    ways[word] |= set(rule) - {source}
    records = [text.split() for text in texts]
    average = sum(map(len, records)) / len(records)
    scores: dict[str, float] = defaultdict(float)
    for word, times in Counter(query).items():
        counts = [sum(occurrences(record, way) for way in ways[word]) for record in records]
        weight = times_weight(times) * idf(len(records), sum(map(bool, counts)))
        for n, (record, count) in enumerate(zip(records, counts, strict=True)):
            norm = K1 * (1 - B + B * len(record) / average)
            scores[str(n)] += weight * count * (K1 + 1) / (count + norm)
    return {n: score for n, score in scores.items() if score}


def places_of(query: Sequence[str], sides: set[Phrase]) -> Iterator[tuple[int, int]]:
    spans = [(a, b) for a in range(len(query)) for b in range(a + 1, len(query) + 1) if tuple(query[a:b]) in sides]
    letters = [0]
    for word in query:
        letters.append(letters[-1] + len(word) + 1)
    taken: set[int] = set()
    for a, b in sorted(spans, key=lambda span: (letters[span[0]] - letters[span[1]], span)):
        if taken.isdisjoint(range(a, b)):
            taken |= set(range(a, b))
            yield a, b


def occurrences(record: Sequence[str], way: Phrase) -> int:
    return sum(tuple(record[at : at + len(way)]) == way for at in range(len(record)))


def test_scores_are_those_of_the_definition(search: SearchEngine) -> None:
    """Random records, rules and queries of six words, so that most have something."""
    chance = random.Random(23)
    compared = 0
    for _ in range(8):
        texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 7))) for _ in range(9)] + PADDING
        search.index_records_batch([("Page", str(n), text) for n, text in enumerate(texts)])
        sides = [{tuple(chance.choices(WORDS, k=chance.choice([1, 1, 2, 3]))) for _ in range(3)} for _ in range(3)]
        rules = [sorted(rule) for rule in sides if len(rule) > 1]
        search.synonyms.load([", ".join(map(" ".join, rule)) for rule in rules], replace=True)
        for _ in range(6):
            query = chance.choices(WORDS, k=chance.randint(1, 4))
            hits = search.search(" ".join(query), mode="keyword", explain=True, limit=50)
            raw = {hit.id: hit.explanation[0].raw for hit in hits}
            wanted = expected(texts, rules, query)
            assert raw == pytest.approx(wanted, rel=1e-4), (query, rules)
            compared += len(wanted) * bool(hits.plan.synonyms)
    assert compared > 100


def test_so_many_synonyms_are_looked_up(quick: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(quick, ["alpha", "beta", "gamma", "delta"])
    quick.synonyms.add("alpha, beta", "alpha => gamma", "alpha => delta")
    whole = quick.search("alpha", mode="keyword")
    assert (whole.exact, whole.plan.note) == (True, "")
    monkeypatch.setattr(expanding, "MAX_SYNONYMS", 2)
    results = quick.search("alpha", mode="keyword")
    assert (len(results), len(results.plan.synonyms["alpha"]), results.exact) == (3, 2, False)
    assert results.plan.note == "of the words' synonyms 2 are looked up, and there are more"


# what is shown


def test_highlights_explanations_and_the_plan_have_the_synonym_that_matched(search: SearchEngine) -> None:
    fill(search, ["New ideas in new York, a hotel", "an NYC hotel", "the big, red apple"])
    search.synonyms.add(CITY)
    results = search.search("NYC hotel", mode="keyword", highlight=True, explain=True)
    marked = {hit.id: hit.highlight() for hit in results}
    assert marked == {
        "0": "New ideas in <mark>new York</mark>, a <mark>hotel</mark>",
        "1": "an <mark>NYC</mark> <mark>hotel</mark>",
    }
    assert {hit.id: set(hit.explanation[0].terms) for hit in results} == {
        "0": {"hotel", "New York"},
        "1": {"nyc", "hotel"},
    }
    assert results.plan.synonyms == {"nyc": ["big apple", "New York"]}
    assert set(results.plan.terms) == {"nyc", "hotel", "New York"}


def test_the_passage_that_has_the_synonym_is_shown(make: Make) -> None:
    search = make("static")
    page = "The committee met on Tuesday to talk about the library's opening hours. " * 40
    search.index_record("Minutes", "1", f"{page} We fly to New York in May. {page}")
    (hit,) = search.search("committee opening hours", entity="Minutes")
    assert "New York" not in hit.matched_text
    search.synonyms.add("committee => new york")
    (hit,) = search.search("committee opening hours", entity="Minutes")
    assert "New York" in hit.matched_text
    assert len(hit.matched_text) < 2_000


def test_passages_are_scored_by_synonyms_too(quick: SearchEngine) -> None:
    page = "The committee met on Tuesday to talk about the opening hours of the library. " * 20
    quick.index_record("Minutes", "1", f"{page}\nWe fly to Gotham in May.\n{page}")
    fill(quick, ["nyc"])
    quick.synonyms.add("nyc, gotham")
    (hit,) = quick.search("nyc", mode="keyword", entity="Minutes", passages=2)
    first, second = hit.passages
    assert "Gotham" in first.text
    assert first.score > second.score == 0


# how they are kept


def test_a_change_has_effect_with_the_next_search_of_another_engine(
    search: SearchEngine, make: Make, engine: Engine
) -> None:
    other = make(None)
    fill(search, HOTELS)
    assert found(other, "nyc") == {"0"}
    search.synonyms.add(CITY)
    assert found(other, "nyc") == {"0", "1", "2"}
    other.synonyms.remove(CITY)
    assert found(search, "nyc") == {"0"}


def test_a_rule_belongs_to_the_callers_transaction(search: SearchEngine, engine: Engine) -> None:
    fill(search, HOTELS)
    with engine.connect() as connection, connection.begin() as transaction:
        search.synonyms.add(CITY, connection=connection)
        assert found(search, "nyc", connection=connection) == {"0", "1", "2"}
        assert found(search, "nyc") == {"0"}
        transaction.rollback()
    assert (found(search, "nyc"), search.synonyms.list()) == ({"0"}, [])
    with Session(engine) as session:
        search.synonyms.add(CITY, session=session)
        assert search.synonyms.list(session=session) == ["big apple, New York, nyc"]
        session.commit()
    assert found(search, "nyc") == {"0", "1", "2"}
    with pytest.raises(InvalidInput, match="two transactions"), Session(engine) as session:
        search.synonyms.add(CITY, session=session, connection=session.connection())


def test_threads_that_add_at_once_lose_nothing(search: SearchEngine, make: Make) -> None:
    engines = [search, make(None), search, make(None)]

    def add(number: int) -> int:
        return sum(engines[number].synonyms.add(f"one{n}, two{n}", f"own{number} => n{n}") for n in range(8))

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(add, range(4)))
    assert sum(counts) == 8 + 4 * 8
    assert len(search.synonyms.list()) == 40


def test_a_tenants_rules_hold_for_its_searches_beside_those_without_one(search: SearchEngine) -> None:
    acme, globex = search.for_tenant("acme"), search.for_tenant("globex")
    for tenant in (acme, globex):
        tenant.index_records_batch([("Note", str(n), text) for n, text in enumerate(["pto", "leave", "vacation"])])
    assert search.synonyms.add("leave, vacation") == 1
    assert acme.synonyms.add("pto, leave") == 1
    assert (acme.synonyms.list(), search.synonyms.list(tenant="globex")) == (["leave, pto"], [])
    assert (found(search, "pto", tenant="acme"), found(search, "pto", tenant="globex")) == ({"0", "1"}, {"0"})
    assert found(search, "leave", tenant="acme") == {"0", "1", "2"}
    assert found(search, "leave", tenant="globex") == {"1", "2"}
    both = search.search("pto", mode="keyword", tenant=["acme", "globex"])
    assert sorted((hit.tenant, hit.id) for hit in both) == [
        *(("acme", "0"), ("acme", "1"), ("globex", "0"), ("globex", "1"))
    ]
    assert found(search, "pto", tenant=ALL_TENANTS) == {"0"}
    with pytest.raises(InvalidInput, match="for the tenant 'acme' alone"):
        acme.synonyms.add("a, b", tenant="globex")
    assert acme.synonyms.remove("pto, leave") == 1
    assert found(search, "pto", tenant="acme") == {"0"}


def test_a_dropped_tenant_has_no_rules_and_a_moved_one_keeps_them(
    search: SearchEngine, make: Make, tmp_path: Path
) -> None:
    acme = search.for_tenant("acme")
    acme.index_records_batch([("Note", "0", "pto"), ("Note", "1", "leave")])
    acme.synonyms.add("pto, leave")
    search.synonyms.add("other, else")
    search.admin.export_tenant("acme", tmp_path / "acme.gz")
    other = make(None)
    assert found(other, "pto", tenant="acme") == {"0", "1"}
    search.admin.drop_tenant("acme")
    assert (acme.synonyms.list(), search.synonyms.list()) == ([], ["else, other"])
    acme.index_records_batch([("Note", "0", "pto"), ("Note", "1", "leave")])
    assert found(other, "pto", tenant="acme") == {"0"}
    for _ in range(2):
        search.admin.import_tenant(tmp_path / "acme.gz")
    assert acme.synonyms.list() == ["leave, pto"]
    assert found(other, "pto", tenant="acme") == {"0", "1"}


def test_a_rebuild_keeps_the_rules(search: SearchEngine, make: Make, engine: Engine) -> None:
    fill(search, HOTELS)
    search.synonyms.add(CITY)
    search.synonyms.add("a, b", tenant="acme")
    with engine.begin() as connection:
        connection.execute(text("UPDATE kdb_meta SET value = '0' WHERE key = 'analyser'"))
    assert kameleon.rebuild(engine, namespace=search.namespace).is_done
    rebuilt = make(None)
    assert (rebuilt.synonyms.list(), rebuilt.synonyms.list(tenant="acme")) == (["big apple, New York, nyc"], ["a, b"])
    assert found(rebuilt, "nyc") == {"0", "1", "2"}


def test_coroutines_do_the_same(tmp_path: Path) -> None:
    engine = kameleon.create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
    search = SearchEngine(engine)

    async def main() -> None:
        await search.aindex_records_batch([("Page", str(n), text) for n, text in enumerate([*HOTELS, *PADDING])])
        assert await search.synonyms.aadd("nyc, new york") == 1
        assert await search.synonyms.aload("# more\nnyc, big apple") == 1
        assert set(ids(await search.asearch("nyc", mode="keyword"))) == {"0", "1", "2"}
        async with async_sessionmaker(engine)() as session:
            assert await search.synonyms.aremove("nyc, new york", session=session) == 1
            assert await search.synonyms.alist(session=session) == ["big apple, nyc"]
        assert len(await search.synonyms.alist()) == 2
        await engine.dispose()

    asyncio.run(main())
    search.close()


# the command


def test_the_command_adds_lists_loads_and_removes(run: Run, tmp_path: Path) -> None:
    run("data", "insert", "Page", stdin='{"id": "1", "text": "a hotel in New York"}\n{"id": "2", "text": "a walk"}\n')
    assert run("synonyms", "add", "nyc, new york", "tablet => ipad").stdout == "added 2\n"
    assert run("synonyms", "list").stdout == "new york, nyc\ntablet => ipad\n"
    shown = run("search", "NYC", "--mode", "keyword")
    assert "a hotel in New York" in shown.stdout
    assert "also searching for new york (nyc)" in shown.stderr
    assert json.loads(run("search", "nyc", "--json").stdout)["synonyms"] == {"nyc": ["new york"]}
    (tmp_path / "rules.txt").write_text("# of the shop\nnyc, new york\nnyc => big apple\n")
    assert json.loads(run("synonyms", "load", str(tmp_path / "rules.txt"), "--replace", "--json").stdout) == {
        "added": 1
    }
    assert json.loads(run("synonyms", "list", "--json").stdout) == {"rules": ["new york, nyc", "nyc => big apple"]}
    failed = run("synonyms", "load", "-", stdin="a, b\nnyc\n", status=1)
    assert failed.stderr.startswith("Error: line 2: 'nyc' names one word")
    assert run("synonyms", "remove", "nyc, new york").stdout == "removed 1\n"
    assert "`kameleon synonyms" in run("synonyms", "remove", "nyc, new york", status=1).stderr
    assert run("synonyms", "add", "a, b", "--tenant", "acme").stdout == "added 1\n"
    assert run("synonyms", "list", "--tenant", "acme").stdout == "a, b\n"
    assert run("synonyms", "list").stdout == "nyc => big apple\n"


def test_a_search_may_be_without_synonyms(search: SearchEngine) -> None:
    fill(search, HOTELS)
    search.synonyms.add(CITY)
    assert len(search.search("nyc", mode="keyword")) == 3
    plain = search.search("nyc", mode="keyword", synonyms=False)
    assert (len(plain), plain.plan.synonyms) == (1, {})
