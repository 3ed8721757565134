"""The contract of every store, through SearchEngine. Each test runs on each store."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import EmbeddingProvider, StaticProvider
from kameleon.embeddings.requesting import PROBE
from kameleon.errors import (
    InvalidInput,
    InvalidRecord,
    ModelMismatch,
    NoProvider,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
)
from kameleon.testing import HashProvider

from .conftest import BACKENDS, SERVER_RANKED, Make, ids, with_namespaces

ARTICLES = [
    ("Article", "1", "red fox in the snow"),
    ("Article", "2", "brown bear by the river"),
    ("Article", "3", "a fox and a bear"),
    ("Note", "1", "buy red paint"),
]


@pytest.fixture(params=with_namespaces(*BACKENDS, SERVER_RANKED))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def filled(search: SearchEngine) -> SearchEngine:
    search.index_records_batch(ARTICLES)
    return search


def rows(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def test_a_batch_is_embedded_with_one_call(search: SearchEngine, provider: HashProvider) -> None:
    report = search.index_records_batch(ARTICLES)
    assert (report.indexed, report.embedded, report.pending) == (4, 4, 0)
    assert provider.calls == [[content for _, _, content in ARTICLES]]


def test_an_empty_batch_is_no_call_and_no_sql(search: SearchEngine, provider: HashProvider, engine: Engine) -> None:
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert search.index_records_batch([]).indexed == 0
    assert search.delete_records([]) == 0
    assert (provider.calls, statements) == ([], [])


def test_unchanged_content_costs_nothing(filled: SearchEngine, provider: HashProvider) -> None:
    before = filled.get_status()
    report = filled.index_records_batch(ARTICLES)
    assert (report.unchanged, report.indexed, report.embedded) == (4, 0, 0)
    assert len(provider.calls) == 1
    assert filled.get_status() == before


def test_only_what_changed_is_embedded(filled: SearchEngine, provider: HashProvider) -> None:
    filled.index_records_batch([*ARTICLES[:3], ("Note", "1", "buy green paint")])
    assert provider.calls[1:] == [["buy green paint"]]
    assert ids(filled.search("green", mode="keyword")) == ["1"]
    assert ids(filled.search("red", mode="keyword", entity="Note")) == []


def test_identical_texts_are_embedded_once(search: SearchEngine, provider: HashProvider) -> None:
    report = search.index_records_batch([("A", "1", "same words"), ("A", "2", "same words"), ("B", "1", "same words")])
    assert (report.embedded, report.reused) == (1, 2)
    assert provider.calls == [["same words"]]
    assert len(search.search("same words", mode="vector")) == 3


def test_of_two_with_one_key_the_last_wins(search: SearchEngine, provider: HashProvider) -> None:
    search.index_records_batch([("A", "1", "first"), ("A", "2", "other"), ("A", "1", "second")])
    assert ids(search.search("first", mode="keyword")) == []
    assert ids(search.search("second", mode="keyword")) == ["1"]
    assert provider.calls == [["second", "other"]]


def test_two_entities_may_share_an_id(filled: SearchEngine) -> None:
    found = filled.search("red")
    assert {(hit.entity, hit.id) for hit in found[:2]} == {("Article", "1"), ("Note", "1")}
    filled.delete_record("Article", "1")
    assert [(hit.entity, hit.id) for hit in filled.search("red", mode="keyword")] == [("Note", "1")]


def test_index_record_is_the_same_path_with_one(search: SearchEngine, provider: HashProvider) -> None:
    search.index_record("A", 7, "lonely text")
    assert provider.calls == [["lonely text"]]
    assert ids(search.search("lonely")) == ["7"]


@pytest.mark.parametrize("blank", ["", "   ", "\n\t"])
def test_empty_content_is_stored_embeds_nothing_and_matches_nothing(
    search: SearchEngine, provider: HashProvider, blank: str
) -> None:
    search.index_records_batch([("A", "1", blank), ("A", "2", "words")])
    assert provider.calls == [["words"]]
    (status,) = search.get_status()
    assert (status.indexed, status.pending, status.failed) == (2, 0, 0)
    assert ids(search.search("words")) == ["2"]


def test_white_space_is_stored_as_nothing(search: SearchEngine, engine: Engine) -> None:
    for blank in ("\x1f", "", " \n"):
        assert search.index_record("A", "1", blank).embedded == 0
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT content FROM kdb_search")) == ""


def test_content_that_becomes_empty_loses_its_embedding(search: SearchEngine) -> None:
    search.index_record("A", "1", "words")
    search.index_record("A", "1", "")
    assert ids(search.search("words", mode="vector")) == []


def test_delete_takes_row_terms_and_embedding(filled: SearchEngine, engine: Engine) -> None:
    assert filled.delete_record("Article", "3") is True
    assert filled.delete_record("Article", "3") is False
    assert [rows(engine, t) for t in ("kdb_search", "kdb_embedding_g1")] == [3, 3]
    assert ids(filled.search("bear", mode="keyword")) == ["2"]
    assert len(filled.search("bear", mode="vector")) == 3


def test_each_mode_ranks_its_own_leg(filled: SearchEngine) -> None:
    assert ids(filled.search("fox bear", entity="Article", mode="keyword")) == ["3", "1", "2"]
    assert ids(filled.search("brown bear by the river", entity="Article", mode="vector", limit=1)) == ["2"]
    assert ids(filled.search("brown bear by the river", entity="Article", limit=1)) == ["2"]


def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_limit(filled: SearchEngine) -> None:
    many = filled.search("red fox", limit=10)
    assert len(many) == 3
    assert all(0.0 <= hit.score <= 1.0 for hit in many)
    assert 0.5 < filled.search("red fox", mode="vector")[0].score < 1.0
    assert 0.5 < filled.search("red fox", mode="keyword")[0].score < 1.0
    assert [hit.score for hit in many] == sorted((hit.score for hit in many), reverse=True)
    few = filled.search("red fox", limit=2)
    assert [(hit.id, hit.score) for hit in few] == [(hit.id, hit.score) for hit in many[:2]]


def test_min_score_cuts_by_score(filled: SearchEngine) -> None:
    scores = [hit.score for hit in filled.search("red fox")]
    assert len(filled.search("red fox", min_score=scores[1])) == 2


def test_ties_are_ordered_by_entity_and_id(search: SearchEngine) -> None:
    search.index_records_batch([(entity, id_, "twin text") for entity in "BA" for id_ in ("2", "10", "1")])
    found = [(hit.entity, hit.id) for hit in search.search("twin text")]
    assert found == [("A", "1"), ("A", "10"), ("A", "2"), ("B", "1"), ("B", "10"), ("B", "2")]


def test_entities_narrow_both_legs(filled: SearchEngine) -> None:
    for mode in ("hybrid", "keyword", "vector"):
        assert {hit.entity for hit in filled.search("red", entities=["Note"], mode=mode)} == {"Note"}
    assert {hit.entity for hit in filled.search("red", entities=["Note", "Article"])} == {"Note", "Article"}
    assert filled.search("red", entity="Nothing") == []


def test_every_hit_explains_itself(filled: SearchEngine) -> None:
    results = filled.search("red fox", limit=1, explain=True)
    (hit,) = results
    legs = {leg.leg: leg for leg in hit.explanation}
    assert set(legs) == {"keyword", "vector"}
    assert sum(leg.weight * leg.evidence for leg in legs.values()) == pytest.approx(hit.score)
    assert (legs["keyword"].rank, legs["vector"].rank) == (1, 1)
    assert set(legs["keyword"].terms) == {"red", "fox"}
    assert results.plan.model == "hash"
    assert results.exact is True


def test_highlight_marks_the_words_as_the_index_reads_them(search: SearchEngine) -> None:
    search.index_record("A", "1", "Refunds are paid. We refunded you; résumé")
    (hit,) = search.search("refund resume", highlight=True)
    assert hit.highlight("[", "]") == "[Refunds] are paid. We [refunded] you; [résumé]"


LOST = {
    "order #12345": "order",
    "C++": "cpp",
    "POL-358": "policy",
    "pol358": "policy",
    "don't": "apostrophe",
    "Node.js": "node",
    "ERR_CONN_RESET": "error",
    "全文検索": "cjk",
    "検": "cjk",
    "हिन्दी": "hindi",
}


def test_what_analysers_lose_is_found_first(search: SearchEngine) -> None:
    search.index_records_batch(
        [
            ("A", "order", "my order #12345 is late"),
            ("A", "digits", "order of 12345 pieces"),
            ("A", "cpp", "written in C++ mostly"),
            ("A", "c", "written in C mostly, with letter c"),
            ("A", "policy", "see POL-358 for this"),
            ("A", "pol", "pol 12 and 358 others"),
            ("A", "apostrophe", "I don’t know"),
            ("A", "node", "a Node.js server"),
            ("A", "error", "it says ERR_CONN_RESET again"),
            ("A", "cjk", "これは全文検索の例です"),
            ("A", "hindi", "यह हिन्दी में लिखा है"),
        ]
    )
    assert {query: ids(search.search(query, mode="keyword"))[0] for query in LOST} == LOST


ANY = [
    *("*", "(", "'", "%", "\0", "🦊", "...", "fox AND", '"open', "NEAR(", "a:b", "terms:fox", "{a b}: x"),
    *("a吐ing", "ab\u0820ing", "hello \u0301", "".join(chr(0x4E00 + n % 20_000) for n in range(40_000))),
    *("- fox", "^fox", "fox OR", "the of and", "fox\0bear", "x" * 100_000, "word " * 20_000),
]


def test_any_string_is_a_query(filled: SearchEngine) -> None:
    for query in ANY:
        for mode in ("hybrid", "keyword", "vector"):
            filled.search(query, mode=mode, highlight=True)
        if "fox" in query:
            assert set(ids(filled.search(query, mode="keyword", entity="Article"))) >= {"1", "3"}, query


def test_a_word_of_two_scripts_is_found(search: SearchEngine) -> None:
    search.index_records_batch([("A", "1", "the a吐ing one"), ("A", "2", "the other one")])
    assert ids(search.search("a吐ing", mode="keyword")) == ["1"]
    assert ids(search.search("a吐ing one", mode="keyword", limit=2)) == ["1", "2"]


def test_a_long_text_is_highlighted_at_its_beginning(search: SearchEngine) -> None:
    search.index_record("A", "1", "word " * 20_000)
    (hit,) = search.search("word", mode="keyword", highlight=True)
    assert len(hit.spans) == 4_000


def test_a_word_that_is_twice_in_the_query_counts_for_more(search: SearchEngine) -> None:
    search.index_records_batch(
        [("A", "1", "fox here"), ("A", "2", "bear here"), *[("A", f"n{n}", "x") for n in range(9)]]
    )
    assert ids(search.search("bear fox", mode="keyword")) == ["1", "2"]
    assert ids(search.search("bear fox bears", mode="keyword")) == ["2", "1"]


@pytest.mark.parametrize("scope", [{}, {"entity": "A"}, {"entities": ["A", "B"]}, {"where": {"n": {"$lt": 30}}}])
def test_a_query_of_common_words_ranks_alike_at_every_limit(
    search: SearchEngine, monkeypatch: pytest.MonkeyPatch, scope: dict[str, Any]
) -> None:
    monkeypatch.setattr("kameleon.search.query.CANDIDATES", 1)
    monkeypatch.setattr("kameleon.search.selecting.FEW", 0)
    monkeypatch.setattr("kameleon.search.selecting.FIRST", 2)
    store = RecordStore(search)
    for n in range(60):
        content = "alpha " * (n % 5) + "beta " * (n * 7 % 11) + "gamma " * (n % 2) + "word " * (n * 13 % 17)
        store.insert("AB"[n % 2], [{"id": str(n), "n": n, "text": content}])
    for query in ("alpha " * 8 + "beta", "alpha beta beta gamma gamma gamma", "alpha alpha", "beta gamma " * 3):
        complete, *parts = (
            search.search(query, mode="keyword", limit=limit, explain=True, **scope) for limit in (400, 10, 3)
        )
        for part in parts:
            assert ids(part) == ids(complete)[: len(part)], query
            for hit, same in zip(part, complete, strict=False):
                assert hit.explanation[0].raw == pytest.approx(same.explanation[0].raw)


def test_every_term_of_a_long_query_counts(search: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"word{'abcdefghij'[n // 10]}{'abcdefghij'[n % 10]}" for n in range(90)]
    search.index_records_batch([("A", word, f"{word} " * (1 + n % 3)) for n, word in enumerate(words)])
    query = " ".join(words)
    results = search.search(query, mode="keyword", limit=100)
    assert (len(results), results.exact) == (90, True)
    few = search.search(query, mode="keyword", limit=5)
    assert (len(few.plan.terms), few.exact) == (90, True)
    monkeypatch.setattr("kameleon.keywords.looking_up.MAX_WORDS", 50)
    cut = search.search(query, mode="keyword", limit=100)
    assert (len(cut), cut.exact) == (50, False)


def test_stop_words_do_not_count_beside_others(search: SearchEngine) -> None:
    search.index_records_batch(
        [
            ("A", "1", "the fox"),
            ("A", "2", "what is this, the bear of the year"),
            *[("A", f"n{n}", "x") for n in range(9)],
        ]
    )
    results = search.search("what is the fox", mode="keyword", highlight=True)
    assert ids(results) == ["1"]
    assert results[0].highlight("[", "]") == "the [fox]"


def test_a_model_of_weight_0_leaves_the_ranking_to_keywords(make: Make, provider: HashProvider) -> None:
    provider.vector_weight = 0.0
    search = make(provider)
    search.index_records_batch(ARTICLES)
    hybrid, keyword = search.search("red fox"), search.search("red fox", mode="keyword")
    assert [hit.score for hit in hybrid][: len(keyword)] == [hit.score for hit in keyword]
    assert hybrid.plan.weight == 0.0


def test_entity_and_id_are_not_searchable_text(search: SearchEngine) -> None:
    search.index_record("Secret", "topsecret", "plain words")
    assert search.search("secret topsecret", mode="keyword") == []


def test_without_a_provider_keywords_work_and_nothing_is_pending(make: Make) -> None:
    search = make(None)
    search.index_records_batch(ARTICLES)
    results = search.search("red fox", entity="Article")
    assert ids(results) == ["1", "3"]
    assert "no embedding provider" in results.plan.note
    assert [status.pending for status in search.get_status()] == [0, 0]
    with pytest.raises(NoProvider, match="embedding_provider"):
        search.search("red fox", mode="vector")


def test_what_was_indexed_without_a_provider_is_pending_with_one(make: Make, provider: HashProvider) -> None:
    make(None).index_records_batch(ARTICLES)
    search = make(provider)
    assert sum(status.pending for status in search.get_status()) == 4
    assert search.sync(batch_size=3).embedded == 4
    assert [len(call) for call in provider.calls] == [3, 1]
    assert sum(status.pending for status in search.get_status()) == 0
    assert ids(search.search("brown bear by the river", mode="vector", limit=1)) == ["2"]


def test_a_content_change_without_a_provider_leaves_no_old_embedding(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    search.index_records_batch(ARTICLES)
    make(None).index_record("Article", "1", "quite another text")
    (article, _) = search.get_status()
    assert article.pending == 1
    assert "1" not in ids(search.search("red fox in the snow", mode="vector", entity="Article"))


def test_status_counts_records(filled: SearchEngine) -> None:
    article, note = filled.get_status()
    assert (article.entity, article.indexed, article.pending, article.failed) == ("Article", 3, 0, 0)
    assert (note.entity, note.indexed) == ("Note", 1)
    assert note.last_updated is not None
    assert note.last_updated.tzinfo is not None
    assert filled.get_status("Note") == [note]


def test_a_refused_text_costs_nobody_else_anything(make: Make) -> None:
    provider = HashProvider(refuse=lambda text: ValueError("bad words") if "poison" in text else None)
    search = make(provider)
    report = search.index_records_batch([*ARTICLES, ("Article", "4", "poison fox")])
    assert (report.indexed, report.embedded, report.failed, report.pending) == (5, 4, 1, 0)
    assert report.failures[0][0][:2] == ("Article", "4")
    assert "bad words" in report.failures[0][1]
    assert "4" in ids(search.search("poison", mode="keyword"))
    assert [(s.failed, s.pending) for s in search.get_status("Article")] == [(1, 0)]
    (failure,) = search.failures()
    assert (failure.entity, failure.id, failure.reason, failure.attempts) == ("Article", "4", "embed_failed", 1)


def test_a_refused_text_is_not_tried_again_until_retried_or_changed(make: Make) -> None:
    is_refusing = [True]
    counted: list[tuple[int, int]] = []
    provider = HashProvider(refuse=lambda text: ValueError("no") if "poison" in text and is_refusing[0] else None)
    search = make(provider)
    search.index_record("A", "1", "poison")
    search.index_record("A", "1", "poison")
    assert search.sync().embedded == 0
    assert provider.calls == [["poison"], [PROBE]]
    assert search.sync(retry_failed=True, progress=lambda done, total: counted.append((done, total))).failed == 1
    assert counted == [(1, 1)]
    assert search.failures()[0].attempts == 2
    is_refusing[0] = False
    assert search.sync(retry_failed=True).embedded == 1
    assert search.failures() == []
    is_refusing[0] = True
    search.index_record("A", "1", "more poison")
    assert search.failures()[0].attempts == 1


class Down(HashProvider):
    is_down = True

    def embed_batch(self, texts):  # type: ignore[no-untyped-def]
        if self.is_down:
            raise ConnectionError("no route")
        return super().embed_batch(texts)


def test_while_the_provider_is_down_keywords_are_stored_and_embeddings_wait(make: Make) -> None:
    provider = Down()
    search = make(provider)
    report = search.index_records_batch(ARTICLES)
    assert (report.indexed, report.pending, report.failed) == (4, 4, 0)
    assert report.outage is not None
    assert "no route" in report.outage
    assert ids(search.search("red fox", entity="Article", mode="keyword")) == ["1", "3"]
    assert search.sync().pending == 4
    provider.is_down = False
    assert search.sync().embedded == 4


def test_an_embedding_of_a_text_that_changed_meanwhile_is_not_kept(make: Make) -> None:
    make(None).index_record("A", "1", "old text")

    def change(text: str) -> None:
        if text == "old text":
            make(None).index_record("A", "1", "new text")

    search = make(HashProvider(refuse=change))
    for _ in range(2):
        search.sync()
        for hit in search.search("old text", mode="vector", explain=True):
            assert hit.explanation[0].raw < 0.9
    (hit,) = search.search("new text", mode="vector", explain=True)
    assert hit.explanation[0].raw == pytest.approx(1.0, abs=1e-5)


class OneByOne(EmbeddingProvider):
    model_name = "one-by-one"
    dimensions = 2
    error: Exception = ConnectionError("no route")

    def embed(self, text: str) -> list[float]:
        raise self.error


@pytest.mark.parametrize("error", [ConnectionError("no route"), OSError("disk"), ProviderRefused("no key")])
def test_an_outage_reported_text_by_text_leaves_no_tombstone(make: Make, error: Exception) -> None:
    provider = OneByOne()
    provider.error = error
    search = make(provider)
    report = search.index_records_batch(ARTICLES)
    assert (report.indexed, report.failed, report.pending) == (4, 0, 4)
    assert report.outage is not None
    assert search.failures() == []


def test_a_provider_that_fails_on_every_text_is_what_is_broken(make: Make) -> None:
    provider = HashProvider(refuse=lambda text: (_ for _ in ()).throw(RuntimeError("out of memory")))
    search = make(provider)
    report = search.index_records_batch([("A", str(n), f"text {n}") for n in range(500)])
    assert (report.failed, report.pending) == (0, 500)
    assert report.outage is not None
    assert "fails on every text: RuntimeError: out of memory" in report.outage
    assert len(provider.calls) < 40


def test_an_error_message_that_no_database_can_store_costs_nothing(make: Make) -> None:
    search = make(HashProvider(refuse=lambda text: ValueError("\ud800\0") if text == "bad" else None))
    report = search.index_records_batch([("A", "1", "bad"), ("A", "2", "good")])
    assert (report.embedded, report.failed) == (1, 1)
    assert search.failures()[0].message == r"ValueError: \ud800\x00"


def test_prefixes_are_put_before_what_the_model_reads(make: Make, provider: HashProvider) -> None:
    provider.passage_prefix = "passage: "
    provider.query_prefix = "query: "
    queries: list[str] = []
    provider.embed_query = lambda text: queries.append(text) or HashProvider().embed_query(text)  # type: ignore[method-assign,func-returns-value]
    search = make(provider)
    search.index_record("A", "1", "red fox")
    assert search.search("fox")[0].matched_text == "red fox"
    assert (provider.calls, queries) == ([["passage: red fox"]], ["query: fox"])


def test_hybrid_search_goes_on_by_keyword_when_the_provider_refuses(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    search.index_records_batch(ARTICLES)

    def refuse(text: str) -> None:
        raise ProviderRefused("no key")

    provider.embed_query = refuse  # type: ignore[assignment,method-assign]
    results = search.search("red fox", entity="Article")
    assert ids(results) == ["1", "3"]
    assert results.plan.note == "keywords only: no key"
    with pytest.raises(ProviderRefused):
        search.search("red fox", mode="vector")


@pytest.mark.parametrize("name", ["", "gone"])
def test_an_engine_by_name_does_without_a_provider_it_cannot_have(
    make: Make, provider: HashProvider, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HashProvider, "name", name)
    make(provider).index_records_batch(ARTICLES)
    search = make("static")
    results = search.search("red fox", entity="Article")
    assert ids(results) == ["1", "3"]
    assert "keywords only" in results.plan.note
    with pytest.raises(ProviderError):
        search.search("red fox", mode="vector")
    search.index_record("Article", "9", "late fox")
    assert "stay pending" in search.get_status("Article")[0].note
    assert ids(search.search("late", mode="keyword")) == ["9"]
    assert search.get_status("Article")[0].pending == 1


def test_an_engine_by_name_finds_the_model_with_its_options_and_follows_a_new_index(make: Make) -> None:
    early = make("static")
    assert early.search("anything") == []
    make(StaticProvider(max_tokens=64)).index_record("A", "1", "red fox")
    assert ids(early.search("red fox", mode="vector")) == ["1"]
    assert early.generations()[0].options == {"max_tokens": 64}


def test_with_raise_a_refusal_stays_what_it_is(make: Make) -> None:
    provider = OneByOne()
    provider.error = ProviderRefused("no key")
    with pytest.raises(ProviderRefused, match="nothing was stored: no key"):
        make(provider, on_provider_error="raise").index_records_batch(ARTICLES)


def test_with_raise_an_outage_stores_nothing(make: Make, engine: Engine) -> None:
    search = make(Down(), on_provider_error="raise")
    with pytest.raises(ProviderUnavailable, match="nothing was stored"):
        search.index_records_batch(ARTICLES)
    assert rows(engine, "kdb_search") == 0


def test_the_callers_transaction_decides(search: SearchEngine, engine: Engine) -> None:
    search.index_record("A", "0", "zero")
    with engine.connect() as connection:
        transaction = connection.begin()
        search.index_record("A", "1", "one fox", connection=connection)
        assert ids(search.search("one fox", connection=connection, limit=1)) == ["1"]
        search.delete_record("A", "0", connection=connection)
        transaction.rollback()
    assert ids(search.search("one fox zero")) == ["0"]
    with engine.begin() as connection:
        search.index_record("A", "1", "one fox", connection=connection)
    assert ids(search.search("one fox", limit=1)) == ["1"]


def test_what_a_rolled_back_search_saw_is_forgotten(search: SearchEngine, engine: Engine) -> None:
    search.index_record("A", "1", "one")
    assert ids(search.search("one", mode="vector")) == ["1"]
    with engine.connect() as connection:
        transaction = connection.begin()
        search.index_record("A", "2", "two", connection=connection)
        assert ids(search.search("two", mode="vector", connection=connection, limit=1)) == ["2"]
        transaction.rollback()
    search.index_record("A", "3", "three")
    assert ids(search.search("two", mode="vector")) in (["1", "3"], ["3", "1"])


def test_a_bad_record_is_named_and_nothing_is_written(search: SearchEngine, engine: Engine) -> None:
    for bad in [
        ("A", "", "x"),
        ("A", None, "x"),
        ("", "1", "x"),
        ("A", "2", None),
        ("A", True, "x"),
        ("A", "2", "\ud800"),
        ("A", "x" * 2000, "x"),
        ("A", "1"),
    ]:
        with pytest.raises(InvalidRecord, match="record 1"):
            search.index_records_batch([("A", "1", "good"), bad])  # type: ignore[list-item]
    assert rows(engine, "kdb_search") == 0


def test_nul_in_content_becomes_a_space(search: SearchEngine) -> None:
    search.index_record("A", "1", "red\0fox")
    assert search.search("fox")[0].matched_text == "red fox"


def test_another_model_is_refused_for_vectors_and_keywords_go_on(make: Make) -> None:
    make(HashProvider()).index_records_batch(ARTICLES)
    other = make(HashProvider(32, model_name="other"))
    with pytest.raises(ModelMismatch, match=r"hash .*other"):
        other.search("red fox", mode="vector")
    results = other.search("red fox", entity="Article")
    assert ids(results) == ["1", "3"]
    assert "other" in results.plan.note
    other.index_record("Article", "9", "late fox")
    assert "stay pending" in other.get_status("Article")[0].note
    assert other.get_status("Article")[0].pending == 1
    with pytest.raises(ModelMismatch):
        other.sync()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"mode": "fuzzy"}, "Known: hybrid, keyword, vector"),
    ({"limit": 0}, "from 1 to 10,000"),
    ({"limit": 2**70}, "from 1 to 10,000"),
    ({"limit": True}, "from 1 to 10,000"),
    ({"min_score": 5.0}, "between 0 and 1"),
    ({"entities": "Article"}, "use entity='Article'"),
]


def test_invalid_queries_are_refused(search: SearchEngine) -> None:
    for arguments, message in WRONG:
        with pytest.raises(InvalidInput, match=message):
            search.search("x", **arguments)


def test_a_provider_is_an_object_or_a_name(make: Make) -> None:
    for wrong in (3, HashProvider, object()):
        with pytest.raises(InvalidInput, match="a name or a provider object"):
            make(wrong)


def test_the_tables_are_made_once_and_kept(make: Make, filled: SearchEngine) -> None:
    assert ids(make(HashProvider()).search("red paint", entity="Note")) == ["1"]


def test_many_threads_may_search_and_write(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())

    def work(worker: int) -> list[bool]:
        found = []
        for n in range(10):
            search.index_record("A", f"{worker}-{n}", f"text of worker {worker} number {n}")
            found.append(f"{worker}-{n}" in ids(search.search(f"worker {worker} number {n}", limit=60)))
        return found

    with ThreadPoolExecutor(4) as pool:
        found = [one for worker in pool.map(work, range(4)) for one in worker]
    assert found == [True] * 40
    assert search.get_status()[0].indexed == 40


def test_hits_of_the_record_store_carry_their_data(search: SearchEngine) -> None:
    RecordStore(search).insert("Ticket", [{"id": 1, "subject": "no refund yet", "status": "open"}])
    (hit,) = search.search("refund")
    assert (hit.id, hit.data) == ("1", {"subject": "no refund yet", "status": "open"})
    search.index_record("Loose", "1", "refund")
    assert [h.data for h in search.search("refund", entity="Loose")] == [None]


def test_every_word_of_a_query_finds_records(search: SearchEngine) -> None:
    filler = [("A", f"{n:03}", "great film of the year") for n in range(50)]
    search.index_records_batch(
        [
            *filler,
            ("A", "fox", "great fox film of the forest"),
            ("A", "den", "one fox in the wide, dark and silent woods"),
        ]
    )
    results = search.search("great fox film", mode="keyword", limit=1, count=True)
    assert (ids(results), results.exact) == (["fox"], True)
    assert (results.total, results.is_total_exact) == (52, True)
    assert set(results.plan.terms) == {"great", "fox", "film"}
    assert len(search.search("great fox film", mode="keyword", limit=40)) == 40


def test_a_keyword_score_does_not_depend_on_the_limit(search: SearchEngine) -> None:
    search.index_records_batch(
        [("A", str(n), f"{'fox ' * (n % 4)}{'river ' * (n % 3)}bank of the {'long ' * n}word") for n in range(12)]
    )
    complete = search.search("fox river bank", mode="keyword", limit=20, explain=True)
    few = search.search("fox river bank", mode="keyword", limit=7, explain=True)
    assert len(few) == 7
    assert [hit.explanation[0].raw for hit in few] == [hit.explanation[0].raw for hit in complete[:7]]


def test_letters_are_folded_as_their_readers_write_them(search: SearchEngine) -> None:
    alike = [("Weiß", "Weiss"), ("Søren", "Soren"), ("Łukasz", "Lukasz"), ("Ægir", "Aegir"), ("cœur", "coeur")]
    apart = ["Wei", "Sren", "Ukasz", "Gir", "cur", "3×4", "34"]
    names = [*(name for pair in alike for name in pair), *apart]
    search.index_records_batch([("N", name, f"{name} was here") for name in names])
    for pair in alike:
        for name in pair:
            assert ids(search.search(name, mode="keyword")) == [name, *(other for other in pair if other != name)]
            assert set(ids(search.search(f'"{name}"', mode="keyword"))) == set(pair)
    for name in apart:
        assert ids(search.search(f'"{name}"', mode="keyword")) == [name]
    search.index_records_batch([("M", name, name) for name in ("café", "cafe", "cafe\u0301", "Ấx", "ſet")])
    assert set(ids(search.search("CAFÉ", entity="M", mode="keyword"))) == {"café", "cafe", "cafe\u0301"}
    assert set(ids(search.search("ax set", entity="M", mode="keyword"))) == {"Ấx", "ſet"}


def test_an_index_has_the_language_that_it_was_made_with(make: Make) -> None:
    search = make(language="simple")
    search.index_records_batch([("Note", "1", "the running fox"), ("Note", "2", "runs")])
    assert ids(make().search("running", mode="keyword")) == ["1"]
    assert ids(make(language="simple").search("the", mode="keyword")) == ["1"]
    with pytest.raises(InvalidInput, match=r"this index reads texts as '(pg_catalog\.)?simple'"):
        make(language="english")
    with pytest.raises(InvalidInput, match="english"):
        make(language="klingon")
    with pytest.raises(InvalidInput, match=r"no language 'public.my_config'. It has: .*english, .*simple"):
        make(language="public.my_config")
