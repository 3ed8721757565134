"""Records that change their tenant, and what is remembered of tenants in the write path. Each test runs on both
databases."""

import pytest
from sqlalchemy import Engine, text

from kameleon import SearchEngine
from kameleon.content import Content
from kameleon.testing import HashProvider
from kameleon.values import IndexReport, Ref

from .conftest import Make


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(search: SearchEngine, tenant: str, content: str, deleted: tuple[Ref, ...] = ()) -> IndexReport:
    changed = {Ref("Doc", "1"): Content(content, tenant=tenant)} if content else {}
    with search.index.transaction() as connection:
        return search.index.write_changes(
            connection, changed, deleted, unique={"Doc"}, ahead=None, indexing="sync", budget_s=9
        )


def rows(engine: Engine, table: str, columns: str) -> list[tuple[str, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY 1, 2"))]


def test_a_record_that_moves_takes_its_embedding_along(make: Make, engine: Engine) -> None:
    search = make(HashProvider())
    assert write(search, "t1", "red fox").embedded == 1
    report = write(search, "t2", "red fox")
    assert (report.indexed, report.embedded, report.pending) == (1, 0, 0)
    assert rows(engine, "kdb_search", "tenant, record_id") == [("t2", "1")]
    assert list(search.search("red fox", entity="Doc", tenant="t1")) == []
    for mode in ("keyword", "vector"):
        found = search.search("red fox", entity="Doc", tenant="t2", mode=mode)
        assert [(hit.id, hit.tenant) for hit in found] == [("1", "t2")]


def test_a_record_that_moves_with_another_text_is_embedded(make: Make, engine: Engine) -> None:
    search = make(HashProvider())
    write(search, "t1", "red fox")
    assert write(search, "t2", "blue whale").embedded == 1
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM kdb_embedding_g1")).scalar_one() == 1
    found = search.search("blue whale", entity="Doc", tenant="t2", mode="vector")
    assert [(hit.id, hit.tenant) for hit in found] == [("1", "t2")]


def test_a_unique_record_is_deleted_under_whichever_tenant(make: Make, engine: Engine) -> None:
    search = make(HashProvider())
    write(search, "t1", "red fox")
    write(search, "", "", (Ref("Doc", "1"),))
    assert rows(engine, "kdb_search", "tenant, record_id") == []


def test_an_entity_is_tenanted_once_that_is_committed(make: Make) -> None:
    search = make()
    with search.index.engine.connect() as connection, connection.begin() as transaction:
        search.index_record("Doc", "1", "red fox", tenant="t1", connection=connection)
        transaction.rollback()
    assert search.index.tenanted() == set()
    search.index_record("Doc", "1", "red fox", tenant="t1")
    assert search.index.tenanted() == {"Doc"}


def test_a_cached_embedding_is_found_by_its_tenants_alone(make: Make) -> None:
    search = make(HashProvider(), cache=True)
    each = [search.index_record("Doc", id_, "red fox", tenant=tenant) for id_, tenant in [("1", "a"), ("2", "b")]]
    assert [(report.embedded, report.reused) for report in each] == [(1, 0), (1, 0)]
    again = search.index_record("Doc", "3", "red fox", tenant="b")
    assert (again.embedded, again.reused) == (0, 1)


def test_a_purge_drops_what_a_tenant_had_embedded_and_has_no_more(make: Make, engine: Engine) -> None:
    search = make(HashProvider(), cache=True)
    for tenant in ("a", "b"):
        search.index_record("Doc", "1", "red fox", tenant=tenant)
    search.delete_record("Doc", "1", tenant="a")
    assert search.admin.purge().cached == 1
    assert rows(engine, "kdb_embedding_cache", "tenant, fingerprint") == [("b", HashProvider().fingerprint)]


def test_a_query_is_remembered_for_its_asker(make: Make) -> None:
    queries = make(HashProvider()).index.services.of_provider(HashProvider()).queries
    asked = [queries.embed("red fox", asker)[1] for asker in [("a",), ("b",), ("a",), None]]
    assert asked == [False, False, True, False]
