"""`keyword_search="server"`: how it is chosen, what it stores, and what bounds a query of a large partition. The tests
of the contract run over it, too."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Engine, text

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.doctor import examine
from kameleon.errors import InvalidInput
from kameleon.keywords import server
from kameleon.stores.postgresql import terms
from kameleon.testing import HashProvider

from .conftest import ids
from .test_cli import Run, checked

NOTES = [
    ("Note", "1", "red fox in the snow, a fox's trail"),
    ("Note", "2", "a brown bear by the river, and the river's fox"),
    ("Note", "3", "O'Brien said: C:\\temp\\POL-358-A is 'lost'"),
    ("Page", "1", "a red river of 1,000 foxes"),
]


@pytest.fixture
def run(command: Callable[..., Any]) -> Run:
    return checked(command)


@pytest.fixture
def search(pg_engine: Engine) -> SearchEngine:
    return SearchEngine(pg_engine, HashProvider(), keyword_search="server")


@pytest.fixture
def many(search: SearchEngine, pg_engine: Engine) -> SearchEngine:
    """Fifty records with a common word, ten of which have a second one, two a third; with statistics."""
    contents = [f"otter number{n}{' lodge' * (n < 10)}{' heron' * (n in (3, 30))}" for n in range(50)]
    search.index_records_batch([("Note", str(n), content) for n, content in enumerate(contents)])
    with pg_engine.begin() as connection:
        connection.execute(text("ANALYZE kdb_terms"))
    return search


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that fifty records exceed."""
    for module, name in ((server, "MOST_FOUND"), (terms, "FOUND"), (terms, "COUNTED")):
        monkeypatch.setattr(module, name, 8)


def rows(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


# how it is chosen


def test_sqlite_refuses_it_by_name(file_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"'server' ranks keywords in PostgreSQL.* Leave keyword_search out"):
        SearchEngine(file_engine, keyword_search="server")
    assert SearchEngine(file_engine, keyword_search="index").get_status() == []


def test_an_unknown_one_is_refused(pg_engine: Engine) -> None:
    unknown: Any = "tsvector"
    with pytest.raises(InvalidInput, match=r"unknown keyword_search 'tsvector'. Known: index, server"):
        SearchEngine(pg_engine, keyword_search=unknown)


def test_it_belongs_to_the_index(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch(NOTES)
    with pytest.raises(InvalidInput, match=r"keyword_search='server'.*`kameleon rebuild --keyword-search index`"):
        SearchEngine(pg_engine, keyword_search="index")
    other = SearchEngine(pg_engine, HashProvider())
    other.index_record("Note", "4", "a heron")
    other.delete_record("Note", "1")
    assert ids(search.search("heron fox", mode="keyword", entity="Note")) == ["4", "2"]
    assert {status.keyword_search for status in other.get_status()} == {"server"}
    assert (rows(pg_engine, "kdb_terms"), rows(pg_engine, "kdb_tail"), rows(pg_engine, "kdb_dead")) == (4, 0, 0)


def test_another_index_has_no_such_table(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine)
    search.index_records_batch(NOTES)
    with pg_engine.connect() as connection:
        assert connection.scalar(text("SELECT to_regclass('kdb_terms')")) is None
    assert {status.keyword_search for status in search.get_status()} == {"index"}
    with pytest.raises(InvalidInput, match="keyword_search='index'"):
        SearchEngine(pg_engine, keyword_search="server")


def test_a_rebuild_changes_it_and_keeps_records_and_scores(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine, HashProvider())
    store = RecordStore(search)
    store.create_entity("Book", search={"title": 3, "blurb": 1})
    store.insert("Book", [{"id": str(n), "title": f"whale {n}", "blurb": "sea " * n} for n in range(9)])
    search.index_records_batch(NOTES)
    queries = ["red fox", "whale sea", "POL358A", '"brown bear"', "river -bear", "fo*", "O'Brien", "1000"]
    before = [hits(search, query) for query in queries]
    assert all(before)
    for wanted, table in (("server", "kdb_terms"), ("index", "kdb_tail")):
        report = kameleon.rebuild(pg_engine, keyword_search=wanted)  # type: ignore[arg-type]
        assert (report.is_done, report.pending, sum(report.records.values())) == (True, 0, 13)
        assert rows(pg_engine, table) == 13
        rebuilt = SearchEngine(pg_engine, HashProvider())
        assert [hits(rebuilt, query) for query in queries] == before
        assert not kameleon.rebuild(pg_engine, dry_run=True).is_needed


def hits(search: SearchEngine, query: str) -> list[tuple[str, str, float]]:
    found = search.search(query, mode="keyword", limit=20)
    assert found.exact
    return [(hit.entity, hit.id, round(hit.score, 6)) for hit in found]


def test_the_command_chooses_shows_and_changes_it(run: Run, pg_url: URL, pg_engine: Engine) -> None:
    url = {"KAMELEON_URL": pg_url.render_as_string(hide_password=False)}
    run("data", "insert", "Note", '{"id": "1", "body": "a red fox"}', KAMELEON_KEYWORD_SEARCH="server", **url)
    assert "ranked in the server" in run("embeddings", "status", **url).stdout
    assert "1" in run("search", "fox", "--mode", "keyword", **url).stdout
    refused = run("search", "fox", KAMELEON_KEYWORD_SEARCH="index", **url, status=1).stderr
    assert "kameleon rebuild --keyword-search index" in refused
    run("rebuild", "--keyword-search", "index", "--no-confirm", **url)
    assert "server" not in run("embeddings", "status", **url).stdout
    assert ids(SearchEngine(pg_engine).search("fox", mode="keyword")) == ["1"]


# what it stores


def test_terms_are_stored_as_the_analyser_makes_them(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch(NOTES)
    with pg_engine.connect() as connection:
        lexemes = "SELECT lexeme FROM kdb_terms, unnest(terms) WHERE entity_name = 'Note' AND record_id = '3'"
        stored = set(connection.execute(text(lexemes)).scalars())
    assert stored == set(search.index.keywords.analyser.terms(NOTES[2][2]).terms)
    for query in ("O'Brien", "C:\\temp", "pol-358-a", "'lost'"):
        assert ids(search.search(query, mode="keyword")) == ["3"]


def test_terms_beyond_a_tsvector_are_logged(search: SearchEngine, caplog: pytest.LogCaptureFixture) -> None:
    words = [f"{'x' * 150}{n}" for n in range(10_000)]
    with caplog.at_level(logging.WARNING, "kameleon.keywords"):
        search.index_record("Note", "long", " ".join(words))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "long" in message
    assert "over 1 MB of terms" in message
    assert ids(search.search(words[0], mode="keyword")) == ["long"]


def test_the_doctor_finds_terms_that_are_missing_or_left(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch(NOTES)
    assert examine(search) == []
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM kdb_terms WHERE entity_name = 'Page'"))
        connection.execute(text("UPDATE kdb_terms SET record_id = 'gone' WHERE record_id = '2'"))
    found = {finding.ids[0]: finding.message for finding in examine(search) if finding.check == "keyword-index"}
    assert "lacks 1 records and has 1 that are gone" in found["Note"]
    assert "lacks 1 records and has 0 that are gone" in found["Page"]
    assert kameleon.rebuild(pg_engine).is_done
    assert examine(search) == []


# what bounds a query of many records


@pytest.mark.usefixtures("few")
def test_the_rarest_words_and_all_words_choose_the_records(many: SearchEngine) -> None:
    found = many.search("otter lodge heron", mode="keyword", count=True)
    assert ids(found)[0] == "3"
    assert "30" in ids(found)
    assert (found.exact, found.is_total_exact) == (False, False)


@pytest.mark.usefixtures("few")
def test_a_filter_holds_inside_the_server(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("Otter", search=["name"], fields={"zoo": "integer"})
    store.insert("Otter", [{"id": str(n), "name": "otter", "zoo": int(n >= 48)} for n in range(50)])
    assert sorted(ids(search.search("otter", mode="keyword", where={"zoo": 1}))) == ["48", "49"]


@pytest.mark.usefixtures("few")
def test_a_record_found_by_its_vector_has_its_keyword_score(many: SearchEngine) -> None:
    found = many.search("otter", explain=True, limit=50)
    assert len(found) == 50
    assert all("keyword" in {leg.leg for leg in hit.explanation} for hit in found)


@pytest.mark.usefixtures("few")
def test_what_is_excluded_is_excluded_whatever_the_bounds(many: SearchEngine) -> None:
    assert sorted(ids(many.search("otter -lodge", limit=50)), key=int) == [str(n) for n in range(10, 50)]


def test_too_many_exclusions_are_refused(many: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "EXCLUDED", 9)
    with pytest.raises(InvalidInput, match=r"exclude more than 9 records.*narrow the search with where="):
        many.search("otter -lodge")


def test_common_words_are_counted_by_the_statistics(many: SearchEngine) -> None:
    with pytest.MonkeyPatch.context() as patch, many.index.reading() as connection:
        patch.setattr(terms, "COUNTED", 8)
        tables = many.index.store.server_terms
        assert tables is not None
        counts = tables.counts(connection, ("",), (), [("otter",), ("lodg",), ("heron",), ("none",)])
    assert (counts.records, list(counts.df), counts.is_exact) == (50, [50, 10, 2, 0], False)


@pytest.mark.usefixtures("few")
def test_a_tenants_words_are_counted_whatever_others_have(many: SearchEngine) -> None:
    own = many.for_tenant("a")
    own.index_records_batch([("Note", n, f"otter number{n}{' lodge' * (n < 9)}") for n in range(20)])
    before = [(hit.id, hit.score) for hit in own.search("otter lodge", limit=20)]
    others = [("Note", n, "otter lodge of another") for n in range(200)]
    many.index_records_batch(others, tenant="b")
    with many.engine.begin() as connection:
        connection.execute(text("ANALYZE kdb_terms"))
    assert [(hit.id, hit.score) for hit in own.search("otter lodge", limit=20)] == before != []
