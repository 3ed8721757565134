"""What is open while a reranker runs, and what is shown of records that change meanwhile."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Engine, NullPool, make_url
from sqlalchemy.orm import Session

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.testing import HashProvider

from .conftest import ids

APPLICATION = "kameleon-test-reranking"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Any) -> URL:
    if request.param == "sqlite":
        return make_url(f"sqlite:///{tmp_path / 'test.db'}")
    pg_url: URL = request.getfixturevalue("pg_url")
    return pg_url.update_query_dict({"application_name": APPLICATION})


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    opened = kameleon.create_engine(url) if url.drivername == "sqlite" else sqlalchemy.create_engine(url)
    yield opened
    opened.dispose()


def transactions(url: URL) -> int:
    """How many transactions of the application are open: on PostgreSQL as the server lists them, on SQLite whether one
    keeps the log from being emptied."""
    if url.drivername == "sqlite":
        other = sqlite3.connect(str(url.database), timeout=0, isolation_level=None)
        other.execute("CREATE TABLE IF NOT EXISTS probe (n)")
        other.execute("INSERT INTO probe VALUES (1)")
        (busy, *_) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        other.close()
        return int(busy)
    listing = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in%%'"
    server = url.update_query_dict({"application_name": "other"})
    with sqlalchemy.create_engine(server, poolclass=NullPool).connect() as connection:
        return int(connection.exec_driver_sql(listing, (APPLICATION,)).scalar_one())


def test_no_transaction_is_open_and_no_connection_in_use_while_a_reranker_runs(engine: Engine, url: URL) -> None:
    search = SearchEngine(engine, HashProvider())
    RecordStore(search).insert("Note", [{"id": n, "text": f"fox {n}", "kind": n % 3} for n in range(9)])
    pool: Any = engine.pool
    open_: list[tuple[int, int]] = []

    def rerank(_query: str, texts: Sequence[str]) -> list[float]:
        open_.append((transactions(url), pool.checkedout()))
        return [int(each.split()[-1]) / 10 for each in texts]

    options: list[dict[str, Any]] = [
        {},
        {"diversity": 0.5, "limit_by": {"kind": 2}},
        {"count": True, "facets": ["kind"], "highlight": True},
    ]
    for each in options:
        assert search.search("fox", entity="Note", rerank=rerank, **each)[0].id == "8"
    assert search.similar("Note", 0, rerank=rerank)[0].id == "8"
    assert open_ == [(0, 0)] * 4
    with Session(engine) as session:
        assert search.search("fox", rerank=rerank, session=session)[0].id == "8"
    assert open_[4] == (1, 1), "the caller's transaction is the caller's to end"


def test_an_async_engine_holds_no_connection_while_a_reranker_runs(engine: Engine, url: URL) -> None:
    SearchEngine(engine, HashProvider()).index_records_batch([("Note", str(n), f"fox {n}") for n in range(9)])
    asynchronous = url.set(drivername="sqlite+aiosqlite") if url.drivername == "sqlite" else url

    async def work() -> None:
        opened = kameleon.create_async_engine(asynchronous)
        search = SearchEngine(opened, HashProvider())
        open_: list[int] = []

        def rerank(_query: str, texts: Sequence[str]) -> list[float]:
            open_.append(transactions(url))
            return [int(each.split()[-1]) / 10 for each in texts]

        found = await search.asearch("fox", rerank=rerank, diversity=0.1)
        assert found[0].id == "8"
        assert open_ == [0]
        await opened.dispose()
        search.engine.dispose()

    asyncio.run(work())


def test_hits_are_as_they_are_after_the_reranker_has_run(engine: Engine) -> None:
    """A record that was deleted or whose content was changed meanwhile is left out; of one whose other fields were
    changed the new ones are shown."""
    search = SearchEngine(engine, HashProvider())
    store = RecordStore(search)
    store.create_entity("Note", search=["text"], fields={"stars": "integer"})
    store.insert("Note", [{"id": n, "text": f"fox {n}", "stars": 0} for n in range(6)])

    def during(_query: str, texts: Sequence[str]) -> list[float]:
        store.delete("Note", ["5"])
        store.update("Note", "4", {"text": "fox of another text 4"})
        store.update("Note", "3", {"stars": 5})
        return [int(each.split()[-1]) / 10 for each in texts]

    found = search.search("fox", entity="Note", rerank=during, limit=4)
    assert ids(found) == ["3", "2"]
    assert [hit.data and hit.data["stars"] for hit in found] == [5, 0]
    assert found.cursor
    later = search.search("fox", entity="Note", rerank=lambda _query, texts: [0.5] * len(texts))
    assert ids(later) == ["0", "1", "2", "3", "4"]


def test_a_page_after_reranking_that_finds_all_gone_is_empty(engine: Engine) -> None:
    search = SearchEngine(engine, HashProvider())
    search.index_records_batch([("Note", str(n), f"fox {n}") for n in range(3)])

    def during(_query: str, texts: Sequence[str]) -> list[float]:
        search.delete_records([("Note", str(n)) for n in range(3)])
        return [0.5] * len(texts)

    for options in ({}, {"diversity": 0.5}):
        assert search.search("fox", rerank=during, **options) == []  # type: ignore[arg-type]
        search.index_records_batch([("Note", str(n), f"fox {n}") for n in range(3)])
