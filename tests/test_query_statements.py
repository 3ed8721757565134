"""How many statements a query takes, by what it has."""

import itertools
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from kameleon import RecordStore, SearchEngine

MOST = 5
MORE = {
    "sqlite": {"field": 6, "sort": 6, "limit by": 6, "diversity": 6, "hide": 6},
    "postgresql": {"field": 6, "sort": 6, "facets": 6, "groups": 6, "limit by": 6, "diversity": 6, "hide": 6},
}
"""Hybrid searches that take more: the fields' names are read first, the values of a field and the vectors to compare
come after the legs. What is hidden is looked up, as what is pinned is, and narrows the scope, as a filter does."""
SIMILAR = 7
UNCOUNTED = ("BEGIN", "COMMIT", "ROLLBACK", "SET LOCAL")
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("red fox", {}),
    "one entity": ("red fox", {"entity": "Film"}),
    "several entities": ("red fox", {"entities": ["Film", "Book"]}),
    "misspelt": ("red whalle", {}),
    "misspelt, one entity": ("red whalle", {"entity": "Film"}),
    "prefix": ("fo*", {}),
    "prefix, misspelt": ("fo* whalle", {}),
    "prefix, one entity": ("fo*", {"entity": "Film"}),
    "phrase": ('"red fox"', {}),
    "phrase, one entity": ('"red fox"', {"entity": "Film"}),
    "exclusion": ("fox -whale", {}),
    "field": ("title:fox red", {"entity": "Film"}),
    "filter": ("fox", {"entity": "Film", "where": {"year": {"$gt": 1905}}}),
    "filter of many": ("fox", {"where": {"year": {"$gt": 0}}}),
    "facets": ("fox", {"entity": "Film", "facets": ["year"]}),
    "count": ("red fox", {"count": True}),
    "count, one entity": ("red fox", {"entity": "Film", "count": True}),
    "sort": ("fox", {"entity": "Film", "sort": "-year"}),
    "second page": ("red fox", {"offset": 3, "limit": 3}),
    "highlight": ("red fox", {"highlight": True}),
    "highlight in a long page": ("red fox", {"highlight": True, "limit": 100}),
    "passages": ("red fox", {"passages": 3, "highlight": True}),
    "explain": ("red fox", {"explain": True}),
    "rerank": ("red fox", {"rerank": lambda query, texts: [0.5] * len(texts)}),
    "groups": ("red fox", {"group_by": "entity"}),
    "listing": ("", {"entity": "Film", "where": {"year": {"$gt": 1905}}, "facets": ["year"]}),
    "ids": ("fox", {"ids": range(5)}),
    "limit by": ("red fox", {"entity": "Film", "limit_by": {"year": 1}}),
    "diversity": ("red fox", {"diversity": 0.3}),
    "reciprocal ranks": ("red fox", {"fusion": "rrf"}),
    "synonyms": ("vulpes reed", {}),
    "pin": ("red fox", {"pin": [("Film", "5"), ("Book", "6")]}),
    "hide": ("red fox", {"hide": [("Film", "1")]}),
    "hide what is not there": ("red fox", {"hide": [("Film", "no")]}),
    "rule": ("blue whale", {}),
    "rule, one entity": ("blue whale", {"entity": "Film"}),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def seen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    """The statements that the driver runs: on SQLite those of the engine's connections, on PostgreSQL of all cursors,
    whoever makes them. What is read once a second, the searches before have read."""
    monkeypatch.setattr("kameleon.indexing.tenanted.READ_EVERY_S", 3600)
    monkeypatch.setattr("kameleon.orm.secured.KEPT_S", 3600)
    found: list[str] = []
    execute = psycopg.Cursor.execute

    def counting(cursor: psycopg.Cursor[Any], query: Any, *args: Any, **options: Any) -> psycopg.Cursor[Any]:
        found.append(str(query))
        return execute(cursor, query, *args, **options)

    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda driver, _record: driver.set_trace_callback(found.append))
    else:
        monkeypatch.setattr(psycopg.Cursor, "execute", counting)
    return found


@pytest.fixture
def filled(seen: list[str], search: SearchEngine) -> SearchEngine:
    store = RecordStore(search)
    for entity in ("Film", "Book"):
        store.create_entity(entity, search=["title", "text"], fields={"year": "integer"})
        rows = [
            {"id": str(n), "title": f"{first} {second}", "text": f"a {third} {n}", "year": 1900 + n}
            for n, (first, second, third) in enumerate(
                itertools.product(["red", "blue"], ["fox", "foxglove", "whale"], ["fox", "whale", "reed"])
            )
        ]
        store.insert(entity, rows)
    search.synonyms.add("vulpes => fox, red fox")
    search.rules.set("Blue whales", pin=[("Film", "5"), ("Book", "6")])
    for query, options in KINDS.values():
        search.search(query, **options)
    seen.clear()
    return search


def counted(seen: Sequence[str]) -> list[str]:
    return [statement for statement in seen if not statement.strip().startswith(UNCOUNTED)]


@pytest.mark.parametrize("mode", ["hybrid", "keyword"])
def test_a_query_takes_five_statements_at_most(filled: SearchEngine, seen: list[str], mode: str, backend: str) -> None:
    took = {}
    for kind, (query, options) in KINDS.items():
        seen.clear()
        assert filled.search(query, mode=mode, **options), kind
        took[kind] = len(counted(seen))
    assert min(took.values()) >= 1, "no statement was seen"
    most = {kind: MORE[backend].get(kind, MOST) if mode == "hybrid" else MOST for kind in KINDS}
    assert not {kind: number for kind, number in took.items() if number > most[kind]}


def test_similar_and_suggest_take_few_statements(filled: SearchEngine, seen: list[str]) -> None:
    seen.clear()
    assert filled.similar("Film", "1")
    assert 1 <= len(counted(seen)) <= SIMILAR
    seen.clear()
    assert filled.suggest("red fo")
    assert 1 <= len(counted(seen)) <= MOST
