"""Several indexes in one database, each in a namespace of its own."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, Worker, searchable
from kameleon.alembic import create_tables, include_name
from kameleon.doctor import examine
from kameleon.errors import InvalidInput, SchemaMissing
from kameleon.orm.syncing import index_marked
from kameleon.stores.names import RESERVED, Names, is_own_table
from kameleon.stores.sqlite import statements
from kameleon.stores.tables import Tables
from kameleon.testing import HashProvider
from stress.workloads.twins import QUICK, WAYS, refused, run

from .conftest import ids
from .test_cli import Run, checked
from .test_isolation import twins

NAMES = (None, "a", "b")


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Ledger(Base):
    __tablename__ = "namespaced_ledger"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engines(engine: Engine) -> list[SearchEngine]:
    """Three models of several dimensions in one database."""
    return [opened(engine, name) for name in NAMES]


def opened(engine: Engine, namespace: str | None, **options: Any) -> SearchEngine:
    at = NAMES.index(namespace)
    return SearchEngine(engine, HashProvider(8 << at, model_name=f"hash{at}"), namespace=namespace, **options)


def own_tables(engine: Engine) -> list[str]:
    return [name for name in inspect(engine).get_table_names() if name.startswith("kdb_")]


# names


@pytest.mark.parametrize("name", ["a", "a1", "a" * 20])
def test_a_name_of_small_letters_and_digits_is_a_namespace(name: str) -> None:
    search = SearchEngine(kameleon.create_engine("sqlite://"), namespace=name)
    assert search.namespace == name
    assert all(table.startswith(f"kdb_{name}_") for table in own_tables(search.engine))


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a-b", "a" * 21, "ä", "a\n", "a\0", 'a"', 1, True, b"a"])
def test_what_is_no_namespace_is_refused_with_what_is(name: Any, file_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="1 to 20 small letters a-z and digits, a letter first"):
        SearchEngine(file_engine, namespace=name)
    assert own_tables(file_engine) == []


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_namespace_whose_tables_could_be_taken_for_others_is_refused(name: str, file_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=f"the namespace '{name}' is refused: its tables, kdb_{name}_…, could be"):
        SearchEngine(file_engine, namespace=name)


def test_no_table_of_a_namespace_is_one_of_another(engine: Engine) -> None:
    for name in (None, "a", "b", "kdb", "g1", "a" * 20):
        search = SearchEngine(engine, HashProvider(), namespace=name)
        search.index_record("Note", "1", "red fox")
    found = own_tables(engine)
    owners = {
        table: [name for name in (None, "a", "b", "kdb", "g1", "a" * 20) if Names(name).is_own(table)]
        for table in found
    }
    assert all(len(owned) == 1 for owned in owners.values()), owners
    assert {name for (name,) in owners.values()} == {None, "a", "b", "kdb", "g1", "a" * 20}
    assert len(found) % 6 == 0


def test_the_names_of_all_that_a_namespace_makes_fit_and_begin_alike() -> None:
    names, tables = Names("z" * 20), Tables(namespace="z" * 20)
    made = {
        name for table in tables.metadata.sorted_tables for name in (table.name, *(one.name for one in table.indexes))
    }
    assert all(str(name).startswith(names.prefix) and len(str(name)) <= 63 for name in made)
    assert len(names.embeddings(9_999)) + len("_hnsw_0123456789abcdef") <= 63


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("kdb_search", True),
        ("kdb_a_search", True),
        ("kdb_a1_embedding_g12", True),
        ("kdb_search_search", False),
        ("kdb_a_b_search", False),
        ("kdb_A_search", False),
        ("kdb_a_orders", False),
        ("kdb_orders", False),
        ("a_search", False),
    ],
)
def test_a_table_of_any_namespace_is_kameleons_own(name: str, is_own: bool) -> None:
    assert is_own_table(name) == is_own


def test_a_statement_of_the_default_namespace_is_left_as_it_is() -> None:
    statement, clause = "SELECT * FROM kdb_search", text("SELECT * FROM kdb_search")
    assert Names()(statement) is statement
    assert Names()(clause) is clause
    assert Names("a")(statement) == "SELECT * FROM kdb_a_search"
    assert str(Names("a")(clause)) == "SELECT * FROM kdb_a_search"
    assert Names("a")(clause) is Names("a")(clause)


def test_each_statement_of_sqlite_gets_the_names_of_its_namespace() -> None:
    """What is executed as it is written is of the default namespace."""
    folder = Path(statements.__file__).parent
    named = {name for name, value in vars(statements).items() if "kdb_" in str(getattr(value, "text", value))}
    assert len(named) > 60
    for path in folder.glob("*.py"):
        for line in path.read_text("utf-8").splitlines() if path.name != "statements.py" else ():
            used = set(re.findall(r"\bsql\.([A-Z_]+)", line)) & named
            assert not used or "names(" in line or line.strip().startswith("for statement in sql.CREATE"), line


# side by side


def test_models_of_several_dimensions_are_side_by_side(engines: list[SearchEngine]) -> None:
    for at, search in enumerate(engines):
        search.index_records_batch(
            [("Note", str(n), f"red fox {['whale', 'lantern', 'harbour'][at]} {n}") for n in range(60)]
        )
    for at, search in enumerate(engines):
        (generation,) = search.generations()
        assert (generation.model_name, generation.dimensions) == (f"hash{at}", 8 << at)
        for mode in ("keyword", "vector", "hybrid"):
            found = search.search("red fox 7", mode=mode, limit=60)
            assert {hit.matched_text.split()[2] for hit in found} == {["whale", "lantern", "harbour"][at]}
            assert found[0].id == "7"
    first, second, third = engines
    assert second.delete_records([("Note", str(n)) for n in range(59)]) == 59
    assert [one.get_status()[0].indexed for one in engines] == [60, 1, 60]
    assert [len(one.search("whale lantern harbour", limit=100)) for one in (first, third)] == [60, 60]
    assert third.search("whale", mode="keyword").total == 0


def test_a_namespace_costs_no_statement_more(engine: Engine) -> None:
    counts = []
    for name in NAMES:
        search = opened(engine, name)
        store = RecordStore(search)
        store.create_entity("note", search=["text"], fields={"age": "integer"})
        executed: list[str] = []
        listener = lambda *args, kept=executed: kept.append(args[2])  # noqa: E731
        event.listen(engine, "before_cursor_execute", listener)
        store.insert("note", [{"id": str(n), "text": f"red fox {n}", "age": n} for n in range(60)])
        search.search("red fox", where={"age": {"$gte": 3}}, facets=["age"], sort="-age")
        store.delete("note", where={"age": {"$lt": 3}})
        event.remove(engine, "before_cursor_execute", listener)
        counts.append(len(executed))
        assert all(Names(name).prefix in one for one in executed if "kdb_" in one and "SAVEPOINT" not in one)
    assert len(set(counts)) == 1


@pytest.mark.parametrize("way", ["by hand", "record store"])
def test_nothing_that_is_done_in_another_namespace_is_observed(
    way: str, backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The other one has the same tenant, entity and ids."""
    make = WAYS[way]
    with twins(backend, tmp_path, request) as (alone, shared):
        other = SearchEngine(shared.engine, HashProvider(16, refuse=refused), namespace="b", cache=True)
        expected = list(run(make(alone, "a"), None, 21, QUICK))
        found = list(run(make(shared, "a"), make(other, "a"), 21, QUICK))
    assert len(expected) > 50
    for (name, wanted), (_, value) in zip(expected, found, strict=True):
        assert value == wanted, name


# records


def test_records_entities_and_rules_are_the_namespaces_own(engines: list[SearchEngine]) -> None:
    stores = [RecordStore(search) for search in engines]
    for at, store in enumerate(stores):
        store.create_entity("note", search=["text"], fields={f"field{at}": "integer"})
        store.insert("note", [{"id": "1", "text": f"red fox {at}", f"field{at}": at}])
    engines[1].synonyms.add("red, crimson")
    engines[2].rules.set("red", hide=[("note", "1")])
    assert [ids(search.search("crimson", mode="keyword")) for search in engines] == [[], ["1"], []]
    assert [ids(search.search("red", mode="keyword")) for search in engines] == [["1"], ["1"], []]
    assert [store.list("note", where={f"field{at}": at})[0].id for at, store in enumerate(stores)] == ["1", "1", "1"]
    assert stores[1].delete("note", where={"field1": 1}) == 1
    assert [len(store.list("note")) for store in stores] == [1, 0, 1]
    stores[2].rename_entity("note", "page")
    assert [entity.name for store in stores for entity in store.entities()] == ["note", "note", "page"]
    assert [store.get("page" if at == 2 else "note", "1").data["text"] for at, store in enumerate(stores) if at != 1]


def test_tenants_are_dropped_in_one_namespace(engines: list[SearchEngine]) -> None:
    for search in engines:
        search.for_tenant("acme").index_record("Note", "1", "red fox")
    engines[1].admin.drop_tenant("acme")
    assert [len(search.for_tenant("acme").search("fox", entity="Note")) for search in engines] == [1, 0, 1]
    engines[2].admin.purge()
    assert [[one.tenant for one in search.admin.tenants()] for search in engines] == [["acme"], [], ["acme"]]


# sessions and triggers


@pytest.fixture
def ledgers(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    yield sessionmaker(engine)
    Base.metadata.drop_all(engine)


def contents(search: SearchEngine) -> dict[str, str]:
    return {hit.id: hit.matched_text for hit in search.search("", entity="Ledger", limit=500)}


def test_a_session_is_attached_to_indexes_of_several_namespaces(
    engines: list[SearchEngine], ledgers: sessionmaker[Session]
) -> None:
    for search in engines[:2]:
        search.attach(ledgers)
    with ledgers.begin() as session:
        session.add_all(Ledger(id=n, title=f"red fox {n}") for n in range(51))
    with ledgers() as session:
        session.add(Ledger(id=99, title="rolled back"))
        session.flush()
        session.rollback()
    with ledgers.begin() as session:
        session.execute(text("UPDATE namespaced_ledger SET title = 'raw' WHERE id = 50"))
        session.query(Ledger).filter(Ledger.id < 10).update({"title": "blue whale"})
        session.query(Ledger).filter(Ledger.id == 11).delete()
    assert [len(contents(search)) for search in engines] == [50, 50, 0]
    assert contents(engines[0]) == contents(engines[1])
    assert [len(search.search("blue whale", mode="keyword", limit=50)) for search in engines] == [10, 10, 0]
    engines[2].sync()
    assert contents(engines[2])["50"] == "raw"


def test_replaced_rows_are_noted_for_each_namespace(
    engines: list[SearchEngine], ledgers: sessionmaker[Session]
) -> None:
    """On SQLite REPLACE deletes rows by temporary triggers, one set for each index."""
    from sqlalchemy.dialects import sqlite

    for search in engines:
        search.attach(ledgers)
    with ledgers.begin() as session:
        session.add_all(Ledger(id=n, title=f"red fox {n}") for n in range(3))
    if engines[0].engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL has no REPLACE")
    with ledgers.begin() as session:
        replacing = sqlite.insert(Ledger).prefix_with("OR REPLACE").values(id=1, title="blue whale")
        session.execute(replacing)
    assert [contents(search)["1"] for search in engines] == ["blue whale"] * 3


def test_triggers_mark_rows_for_each_namespace_that_tracks_them(
    engines: list[SearchEngine], ledgers: sessionmaker[Session], engine: Engine
) -> None:
    for search in engines[:2]:
        search.track(Ledger)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO namespaced_ledger VALUES (1, 'red fox'), (2, 'blue whale')"))
    assert [marks(search) for search in engines] == [2, 2, 0]
    engines[0].sync()
    assert [marks(search) for search in engines] == [0, 2, 0]
    assert [len(contents(search)) for search in engines[:2]] == [2, 0]
    engines[0].untrack(Ledger)
    with engine.begin() as connection:
        connection.execute(text("UPDATE namespaced_ledger SET title = 'grey owl' WHERE id = 1"))
    assert [marks(search) for search in engines] == [0, 3, 0]
    index_marked(engines[1].index)
    assert contents(engines[1]) == {"1": "grey owl", "2": "blue whale"}
    assert contents(engines[0])["1"] == "red fox"
    assert [one.check for one in examine(engines[1])] in ([], ["no-extension"])


def marks(search: SearchEngine) -> int:
    with search.engine.connect() as connection:
        return len(connection.execute(select(search.index.tables.dirty)).all())


def test_workers_embed_what_their_namespace_queued(engines: list[SearchEngine], ledgers: sessionmaker[Session]) -> None:
    for search in engines[:2]:
        search.attach(ledgers, indexing="deferred")
    with ledgers.begin() as session:
        session.add_all(Ledger(id=n, title=f"red fox {n}") for n in range(3))
    assert [search.get_status()[0].pending for search in engines[:2]] == [3, 3]
    Worker(engines[1]).work()
    assert [search.get_status()[0].pending for search in engines[:2]] == [3, 0]


# tables, generations, repairs


def test_tables_without_a_class_are_entities_of_one_namespace(engines: list[SearchEngine], engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE namespaced_book (id integer PRIMARY KEY, title text)"))
        connection.execute(text("INSERT INTO namespaced_book VALUES (1, 'red fox'), (2, 'blue whale')"))
    engines[1].tables.add("namespaced_book", ["title"])
    engines[1].sync()
    assert ids(engines[1].search("fox", entity="namespaced_book")) == ["1"]
    assert [[one.entity for one in search.tables.list()] for search in engines] == [[], ["namespaced_book"], []]
    with pytest.raises(InvalidInput, match="is a table of kameleon's own"):
        engines[0].tables.add("kdb_a_search", ["content"])


def test_generations_are_the_namespaces_own(engines: list[SearchEngine], engine: Engine) -> None:
    for search in engines:
        search.index_records_batch([("Note", str(n), f"red fox {n}") for n in range(51)])
    engines[1].reindex(provider=HashProvider(48, model_name="other"))
    assert [[one.dimensions for one in search.generations() if one.state == "active"] for search in engines] == [
        [8],
        [48],
        [32],
    ]
    engines[1].reindexing.prune()
    assert [len(search.search("red fox", mode="vector", limit=60)) for search in (engines[0], engines[2])] == [51, 51]
    assert "kdb_embedding_g1" in own_tables(engine)
    assert "kdb_a_embedding_g1" not in own_tables(engine)


def test_the_doctor_repairs_one_namespace(engines: list[SearchEngine], engine: Engine) -> None:
    for search in engines:
        search.index_records_batch([("Note", "1", "red fox")])
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE kdb_a_embedding_g1"))
    found = [[one.message for one in examine(search) if one.severity == "error"] for search in engines]
    assert found[0] == found[2] == []
    assert "generation 1 (hash1) has no table kdb_a_embedding_g1 of embeddings" in found[1][0]
    examine(engines[1], fix=True)
    engines[1].sync()
    assert ids(engines[1].search("red fox", mode="vector")) == ["1"]


def test_one_namespace_is_rebuilt(engines: list[SearchEngine], engine: Engine) -> None:
    for at, search in enumerate(engines):
        RecordStore(search).insert("note", [{"id": str(n), "text": f"red fox {at}"} for n in range(51)])
    with engine.begin() as connection:
        connection.execute(text("UPDATE kdb_a_meta SET value = '0' WHERE key = 'schema_version'"))
    assert not kameleon.rebuild(engine).is_needed
    report = kameleon.rebuild(engine, namespace="a")
    assert (report.is_done, dict(report.records), report.embeddings_kept) == (True, {"note": 51}, 51)
    rebuilt = [opened(engine, name) for name in NAMES]
    assert [len(search.search("red fox", limit=60)) for search in rebuilt] == [51, 51, 51]
    assert [search.search("fox")[0].matched_text for search in rebuilt] == ["red fox 0", "red fox 1", "red fox 2"]


def test_sizes_are_those_of_the_namespaces_tables(engines: list[SearchEngine], backend: str) -> None:
    for search in engines:
        tables = search.admin.sizes().tables
        assert {Names(search.namespace).is_own(name) for name in tables} <= {True}
        assert bool(tables) == (backend == "postgresql")


def test_migrations_make_a_namespace_and_leave_all_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        create_tables(connection, namespace="a")
    with pytest.raises(SchemaMissing, match="with namespace="):
        SearchEngine(engine, create_tables=False).search("fox")
    search = SearchEngine(engine, namespace="a", create_tables=False)
    search.index_record("Note", "1", "red fox")
    assert ids(search.search("fox")) == ["1"]
    assert [include_name(name, "table", {}) for name in ("kdb_a_search", "kdb_search", "orders")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "postgresql+psycopg"])
def test_coroutines_search_their_namespace(driver: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    is_sqlite = driver.startswith("sqlite")
    url = f"{driver}:///{tmp_path / 'a.db'}" if is_sqlite else request.getfixturevalue("pg_url")

    async def main() -> None:
        engine = kameleon.create_async_engine(url)
        engines = [SearchEngine(engine, HashProvider(8), namespace=name) for name in NAMES]
        await asyncio.gather(*(search.aindex_record("Note", str(search.namespace), "red fox") for search in engines))
        found = [await search.asearch("fox", entity="Note") for search in engines]
        assert [ids(one) for one in found] == [["None"], ["a"], ["b"]]
        for search in engines:
            await search.aclose()
        await engine.dispose()

    asyncio.run(main())


# the command


@pytest.fixture
def kameleon_(command: Callable[..., Any]) -> Run:
    return checked(command)


def test_the_command_works_on_a_namespace(kameleon_: Run) -> None:
    kameleon_("data", "insert", "Note", '{"id": "1", "text": "red fox"}')
    kameleon_("data", "insert", "Note", '{"id": "2", "text": "red whale"}', "--namespace", "a")
    assert json.loads(kameleon_("search", "red", "--json").stdout)["hits"][0]["id"] == "1"
    assert json.loads(kameleon_("--namespace", "a", "search", "red", "--json").stdout)["hits"][0]["id"] == "2"
    assert json.loads(kameleon_("search", "red", "--json", KAMELEON_NAMESPACE="a").stdout)["hits"][0]["id"] == "2"
    assert kameleon_("embeddings", "status", "--namespace", "a").stdout.startswith("namespace: a\n")
    assert json.loads(kameleon_("embeddings", "status", "--json").stdout)["namespace"] is None
    kameleon_("rebuild", "--dry-run", "--namespace", "a")
    kameleon_("doctor", "--namespace", "a")
    refused = kameleon_("search", "red", "--namespace", "A", status=1)
    assert refused.stderr.startswith("Error: a namespace is 1 to 20 small letters")
    missing = kameleon_("search", "red", "--namespace", "other", status=1)
    assert "`kameleon --namespace other data insert" in missing.stderr
