"""The indexes on declared fields of stored records: which there are, and that queries use them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, create_engine, inspect, text

from kameleon import RecordStore, SearchEngine, rebuild
from kameleon.stores.filters import ORDERED, parse_filter
from kameleon.stores.postgresql.scope import PostgreSQLScopes
from kameleon.stores.sqlite.scope import SQLiteScopes
from kameleon.stores.values import Scope, bound
from kameleon.testing import HashProvider

from .conftest import ids, with_namespaces

FIELDS = {"status": "text", "n": "integer", "at": "datetime", "meta.kind": "text"}
LIVE: list[tuple[dict[str, Any], list[str]]] = [
    ({".status": "s7"}, ["7"]),
    ({".status": {"$in": ["s7", "s8"]}}, ["7", "8"]),
    ({".status": {"$startswith": "s299"}}, ["299", *(str(n) for n in range(2990, 3000))]),
    ({".n": 7}, ["7"]),
    ({".n": {"$gte": 2998}}, ["2998", "2999"]),
    ({".n": {"$in": [3, 4.0]}}, ["3", "4"]),
    ({".at": {"$lt": "2026-01-01T00:01:30+00:00"}}, ["0", "1"]),
    ({".at": "2026-01-01T02:05+02:00"}, ["5"]),
    ({"kind": "k9"}, ["9"]),
]


@pytest.fixture(params=with_namespaces("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stored(n: int) -> dict[str, Any]:
    at = f"2026-01-{1 + n // 1440:02}T{n // 60 % 24:02}:{n % 60:02}Z"
    return {"id": str(n), "text": "x", "status": f"s{n}", "n": n, "at": at, "meta": {"kind": f"k{n}"}}


def of_records(search: SearchEngine) -> set[str]:
    """The names of the indexes of declared fields, without that of the namespace."""
    index = RecordStore(search).index
    with index.reading() as connection:
        table = index.tables.records
        if connection.dialect.name == "sqlite":
            own = "SELECT name FROM sqlite_master WHERE tbl_name = :name AND sql IS NOT NULL AND type = 'index'"
            names = connection.execute(text(own), {"name": table.name}).scalars().all()
        else:
            names = [str(each["name"]) for each in inspect(connection).get_indexes(table.name, schema=table.schema)]
    return {name[name.index("records_") :] for name in names}


def filled(make: Callable[..., SearchEngine]) -> SearchEngine:
    search = make(HashProvider(8))
    store = RecordStore(search)
    store.create_entity("R", search=["text"], fields=FIELDS, filters="meta")
    store.insert("R", [stored(n) for n in range(3000)])
    with RecordStore(search).index.transaction() as connection:
        connection.execute(text("ANALYZE"))
    return search


def plans(search: SearchEngine, where: dict[str, Any]) -> Iterator[str]:
    """The plans of what a search looks up, and on PostgreSQL of a list."""
    index = RecordStore(search).index
    with index.reading() as connection:
        parsed = parse_filter(where, index.catalog.entities(connection)["R"].names)
        assert parsed is not None
        scope, scopes = Scope(("R",), parsed), index.store.scopes
        if isinstance(scopes, SQLiteScopes):
            source, binds = scopes.source(scope)
            statement, given = bound(text(f"EXPLAIN QUERY PLAN SELECT s.id {source}"), binds)
            yield "\n".join(row[-1] for row in connection.execute(statement, given))
            return
        assert isinstance(scopes, PostgreSQLScopes)
        held, more = scopes.sql(scope, "s")
        condition, binds = index.store.records.filter_sql(parsed)
        table, searched = index.tables.records.fullname, index.tables.names("kdb_search")
        listed = f"SELECT * FROM {table} WHERE tenant = '' AND entity_name = 'R' AND {condition}"
        for query, named in ((listed, binds), (f"SELECT s.doc FROM {searched} AS s WHERE {held}", more)):
            yield "\n".join(row[0] for row in connection.execute(text(f"EXPLAIN {query}"), named))


def test_filters_of_declared_fields_use_their_indexes(make: Callable[..., SearchEngine]) -> None:
    search = filled(make)
    for where, found in LIVE:
        assert sorted(ids(search.search("x", where=where, limit=100)), key=int) == found
        assert RecordStore(search).count("R", where=where) == len(found)
        for plan in plans(search, where):
            assert "records_by_" in plan or "records_at_" in plan, (where, plan)
    assert RecordStore(search).delete("R", where={".n": {"$lt": 2}}) == 2


def test_indexes_go_with_what_needs_them(make: Callable[..., SearchEngine]) -> None:
    search = make(HashProvider(8))
    store = RecordStore(search)
    store.insert("First", [{"id": "1", "text": "x"}])
    none = of_records(search)
    store.create_entity("A", search=["text"], fields={"n": "integer", "at": "datetime"})
    one = of_records(search)
    assert len(one - none) in (2, 3)  # SQLite has two of a datetime
    store.create_entity("B", search=["text"], fields={"n": "number"})
    assert of_records(search) == one
    store.alter_entity("B", fields={"status": "text"})
    assert len(of_records(search) - one) == 1
    store.drop_entity("B")
    assert of_records(search) == one
    store.alter_entity("A", search=["n"])
    assert len(of_records(search)) == len(one) - 1
    store.drop_entity("A")
    assert of_records(search) == none


def test_indexes_that_another_writer_was_in_the_way_of_are_made_by_the_next_maintenance(
    make: Callable[..., SearchEngine],
) -> None:
    search = make(HashProvider(8))
    store = RecordStore(search)
    store.insert("A", [{"id": "1", "text": "x", "n": 5}])
    none = of_records(search)
    if search.engine.dialect.name == "postgresql":
        with search.engine.begin() as other:
            other.execute(text(f"LOCK TABLE {store.index.tables.records.name} IN ROW EXCLUSIVE MODE"))
            store.create_entity("B", search=["text"], fields={"n": "integer"})
            assert of_records(search) == none
    else:
        store.create_entity("B", search=["text"], fields={"n": "integer"})
    search.admin.index_vectors()
    assert len(of_records(search) - none) == 1
    assert ids(search.search("x", where={"n": 5})) == ["1"]


def test_an_imported_tenant_and_a_rebuilt_index_have_them(make: Callable[..., SearchEngine], tmp_path: Path) -> None:
    search = make(HashProvider(8))
    store = RecordStore(search)
    store.create_entity("R", search=["text"], fields=FIELDS, filters="meta", tenant_field="")
    store.insert("R", [stored(n) for n in range(3)], tenant="t")
    there = of_records(search)
    search.admin.export_tenant("t", tmp_path / "t.jsonl")
    store.drop_entity("R")
    assert of_records(search) == set()
    assert search.admin.import_tenant(tmp_path / "t.jsonl").records == 3
    assert of_records(search) == there
    index = store.index
    with index.transaction() as connection:
        meta = index.tables.meta
        connection.execute(meta.update().where(meta.c.key == "schema_version").values(value="10"))
    assert rebuild(search.engine, namespace=index.tables.names.namespace).is_done
    found = make(HashProvider(8))
    assert of_records(found) == there
    assert ids(found.for_tenant("t").search("x", where={".at": "2026-01-01T01:02+01:00", "kind": "k2"})) == ["2"]


ODD: list[Any] = [
    *(None, True, False, 0, 3, 3.0, -0.5, 2**53, 2**53 + 1, 2**63 - 1, -(2**63) + 1, 2**70, 1e300, -1e300, 1e-320),
    *("", "3", "[", "[]", '["x"]', "true", "x" * 120, "x" * 121, "x" * 119 + "y", "é" * 5000, "\U0010ffff" * 130),
    *([], [3], ["3"], [None], ["x" * 121], [["3"]], {}, {"a": 3}, {"n": [3]}, ["2026-01-31"], "now", "infinity"),
    *("2026-01-31", "2026-01-31T00:00Z", "2026-01-31T01:30:00.0005+01:30", "2026-02-30", "0001-01-01", "0000-01-01"),
    *("9999-12-31T23:59:59.999999-14:59", "2026-01-31 24:00", "2026-01-31T00:00-00:30", "2026-01-31T00:00+00:30"),
]
"""Values that entities without the declaration may have in a field of the name."""


@pytest.mark.parametrize("is_indexed", [True, False])
def test_values_of_all_kinds_are_compared_alike_with_an_index_and_without(
    make: Callable[..., SearchEngine], is_indexed: bool
) -> None:
    search = make(None)
    store = RecordStore(search)
    store.create_entity("Other", search=["text"])
    if is_indexed:
        for place, type_ in enumerate(("text", "integer", "datetime")):
            store.create_entity(f"R{place}", search=["text"], fields={"v": type_})
    values = [{"id": f"{place:02}", "text": "x", "v": value, "v-w": value} for place, value in enumerate(ODD)]
    store.insert("Other", values)
    with store.index.reading() as connection:
        if connection.dialect.name == "postgresql":
            forced(connection)

        def found(field: str, condition: dict[str, Any]) -> list[str]:
            listed = store.list("Other", where={field: condition}, limit=100, connection=connection)
            return [each.id for each in listed]

        for value in (*ODD, {"$date": "2026-01-31"}, {"$date": "2026-01-31T00:00:00.001Z"}):
            has_order = isinstance(value, str | int | float) and not isinstance(value, bool)
            has_order = has_order or (isinstance(value, dict) and "$date" in value)
            begins = ["$startswith"] if isinstance(value, str) and len(value) < 2000 else []
            for operator in ("$eq", "$ne", "$in", *(ORDERED if has_order else ()), *begins):
                condition = {operator: [value] if operator == "$in" else value}
                assert found("v", condition) == found("v-w", condition), condition


def forced(connection: Connection) -> None:
    """Plans with indexes wherever they can be used, though there are few records."""
    for setting in ("enable_seqscan", "enable_sort"):
        connection.exec_driver_sql(f"SET LOCAL {setting} = off")


def test_a_role_that_does_not_own_the_tables_declares_fields_and_the_owner_makes_their_indexes(
    pg_url: URL, schema: str
) -> None:
    engine, role = create_engine(pg_url), f"{schema}_app"
    owner = SearchEngine(engine, HashProvider(8))
    assert not owner.admin.index_vectors()
    RecordStore(owner).insert("A", [{"id": "1", "text": "x"}])
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role}")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
    as_role = pg_url.update_query_dict({"options": f"-c role={role} -c search_path={schema},public"})
    other = create_engine(as_role)
    try:
        search = SearchEngine(other, HashProvider(8))
        store = RecordStore(search)
        store.create_entity("R", search=["text"], fields={"n": "integer"})
        store.insert("R", [{"id": "1", "text": "x", "n": 5}])
        assert not search.admin.index_vectors()
        assert not of_records(owner)
        assert ids(search.search("x", where={"n": 5})) == ["1"]
        owner.sync()
        assert len(of_records(owner)) == 1
    finally:
        other.dispose()
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")
        engine.dispose()
