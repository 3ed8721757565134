"""What transactions of tenants do to each other: deletions of a tenant beside its writers, and moves beside others of
the same records."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.keywords.dialect import Partition
from kameleon.keywords.folding import FoldStep
from kameleon.stores.catalog import ACTIVE
from kameleon.stores.values import Embedding
from kameleon.testing import HashProvider
from kameleon.values import BUILDING, Ref

from .test_store_parts import NOW


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"], tenant="org")
class Memo(Base):
    __tablename__ = "races_memo"

    id: Mapped[int] = mapped_column(primary_key=True)
    org: Mapped[str]
    text: Mapped[str]


BLOCKED = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")
PENDING = Ref("Note", "p", "a")
Work = Callable[[SearchEngine, Connection], object]


def wait_until_blocked(connection: Connection, waiting: Future[Any]) -> None:
    """Until another session waits for this one's transaction, or has ended without."""
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    while not waiting.done() and not connection.execute(BLOCKED, {"pid": pid}).scalar_one():
        pass


def rows_of(engine: Engine, tenant: str) -> dict[str, int]:
    """The tables that have rows of a tenant, with their number."""
    of_tenants = text(
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant'"
        " AND table_schema = current_schema"
    )
    with engine.connect() as connection:
        tables = connection.execute(of_tenants).scalars().all()
        counted = {
            table: connection.execute(text(f"SELECT count(*) FROM {table} WHERE tenant = :t"), {"t": tenant})
            for table in tables
        }
        return {table: count for table, result in counted.items() if (count := result.scalar_one())}


def fold(search: SearchEngine, connection: Connection) -> object:
    partition = Partition("a", "Note")
    assert search.index.store.postings.try_lock(connection, *partition)
    return FoldStep(connection, search.index.store.postings, search.index.tables.keywords, partition).make(True)


def embed(search: SearchEngine, connection: Connection, state: str = ACTIVE) -> None:
    """As a worker does, or a reindex."""
    (generation,) = search.index.catalog.generations(connection)
    found = search.index.store.contents.states(connection, [PENDING], None)
    made = Embedding(PENDING, found[PENDING].content_hash, np.asarray(HashProvider().embed("x")).tobytes())
    search.index.store.embeddings.write(connection, replace(generation, state=state), [made], NOW, {})


WORKS: dict[str, Work] = {
    "a record is replaced": lambda s, c: s.index_record("Note", 1, "zorblatt", tenant="a", connection=c),
    "a record is added": lambda s, c: s.index_record("Note", 9, "zorblatt", tenant="a", connection=c),
    "a record is deleted": lambda s, c: s.delete_record("Note", 1, tenant="a", connection=c),
    "many are replaced": lambda s, c: s.index_records_batch(
        [("Note", n, f"zorblatt {n}") for n in range(300)], tenant="a", connection=c
    ),
    "a stored record is replaced": lambda s, c: RecordStore(s).insert(
        "Film", [{"id": 1, "org": "a", "text": "zorblatt"}], on_conflict="replace", connection=c
    ),
    "keywords are folded": fold,
    "a worker embeds": embed,
    "a reindex embeds": partial(embed, state=BUILDING),
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_a_dropped_tenant_takes_along_what_others_commit_meanwhile(pg_engine: Engine, work: Work) -> None:
    search = SearchEngine(pg_engine, HashProvider())
    store = RecordStore(search)
    store.create_entity("Film", search=["text"], tenant_field="org")
    for tenant in ("a", "b"):
        search.index_records_batch([("Note", n, f"fox {n}") for n in range(3)], tenant=tenant)
        store.insert("Film", [{"id": 1, "org": tenant, "text": "wolf"}])
    SearchEngine(pg_engine).index_record(*PENDING[:2], "rabbit", tenant="a")
    before = rows_of(pg_engine, "b")
    with ThreadPoolExecutor(1) as threads:
        with pg_engine.begin() as connection:
            work(search, connection)
            dropping = threads.submit(search.admin.drop_tenant, "a")
            wait_until_blocked(connection, dropping)
            assert not dropping.done()
        assert dropping.result() in (4, 5, 6, 302)
    assert rows_of(pg_engine, "a") == {}
    assert rows_of(pg_engine, "b") == before
    assert search.suggest("zor", tenant="a") == []
    assert list(examine(search)) == []


@pytest.mark.parametrize("fill", [SearchEngine.sync, partial(examine, fix=True)], ids=["sync", "doctor"])
def test_a_record_that_moves_while_it_is_first_indexed_is_in_one_tenant(
    pg_engine: Engine, fill: Callable[[SearchEngine], object]
) -> None:
    Base.metadata.create_all(pg_engine)
    search = SearchEngine(pg_engine, HashProvider())
    sessions = search.attach(sessionmaker(pg_engine))
    with sessions.begin() as session:
        session.add(Memo(id=1, org="a", text="red fox"))
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO races_memo VALUES (2, 'a', 'zorblatt')")
    with ThreadPoolExecutor(1) as threads:
        with sessions.begin() as session:
            session.get_one(Memo, 2).org = "b"
            search.flush(session)
            filling = threads.submit(fill, search)
            wait_until_blocked(session.connection(), filling)
        filling.result()
    with pg_engine.connect() as connection:
        indexed = connection.exec_driver_sql("SELECT tenant, record_id FROM kdb_search ORDER BY tenant").all()
    assert indexed == [("a", "1"), ("b", "2")]
    assert search.search("zorblatt", entity=Memo, tenant="a", mode="keyword") == []


def test_rows_are_locked_by_roles_that_may_lock_them(pg_engine: Engine) -> None:
    Base.metadata.create_all(pg_engine)
    connections = SearchEngine(pg_engine).index.store.connections
    with pg_engine.begin() as connection:
        assert connections.may_lock(connection, [Memo.__table__])
        assert not connections.may_lock(connection, [Memo.__table__, Memo.__table__.alias()])
        connection.exec_driver_sql("SET LOCAL ROLE pg_read_all_data")
        assert not connections.may_lock(connection, [Memo.__table__])
