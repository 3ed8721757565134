"""Roles of PostgreSQL: the rights that docs/tenants.md lists, and policies on kameleon's own tables."""

import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, Worker
from kameleon.doctor import examine
from kameleon.errors import InvalidInput, StorageError
from kameleon.evaluation import AnswerCache, evaluate
from kameleon.testing import HashProvider
from kameleon.values import Ref

from .conftest import Done, ids

ROOT = Path(__file__).parents[1]
ROLES = ("app_reader", "app_writer", "app_editor", "app_worker", "app_admin")
"""As docs/tenants.md names them."""
PASSWORD = "kameleon"  # noqa: S105 - of roles that go with the test
WITHOUT_TENANT = {"meta", "generation", "entities", "tenanted", "class", "table", "reindex", "reindex_range"}


def grants() -> dict[str, str]:
    """The SQL blocks of docs/tenants.md that grant rights, by the role that gets them."""
    page = (ROOT / "docs" / "tenants.md").read_text("utf-8")
    found = [block for block in re.findall(r"^```sql\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "GRANT" in block]
    by_role = {role: block for block in found for role in ROLES if f"TO {role};" in block}
    assert (len(found), set(by_role)) == (len(ROLES), set(ROLES))
    return by_role


@dataclass
class Roles:
    """The roles of docs/tenants.md in a schema of the test's own, whose tables `app_admin` makes and owns."""

    url: URL
    suffix: str
    engines: list[Engine]

    def name(self, role: str) -> str:
        return f"{role}_{self.suffix}"

    def engine(self, role: str, **options: Any) -> Engine:
        url = self.url.set(username=self.name(role), password=PASSWORD)
        opened = sqlalchemy.create_engine(url, **{"poolclass": NullPool, **options})
        self.engines.append(opened)
        return opened

    def search(self, role: str, provider: Any = "hash", **options: Any) -> SearchEngine:
        return SearchEngine(self.engine(role, **options), HashProvider() if provider == "hash" else provider)

    def grant(self, *roles: str, but: str = "kdb_none") -> None:
        """Runs the blocks of these roles as an administrator would, without the table `but`."""
        blocks = grants()
        owner = sqlalchemy.create_engine(self.url, poolclass=NullPool)
        with owner.begin() as connection:
            schema = connection.scalar(text("SELECT current_schema"))
            for role in roles:
                named = blocks[role].replace(f", {but}", "").replace("SCHEMA public", f"SCHEMA {schema}")
                connection.exec_driver_sql(named.replace(f"TO {role};", f"TO {self.name(role)};"))


@pytest.fixture
def roles(server: URL, pg_url: URL) -> Iterator[Roles]:
    superuser = sqlalchemy.create_engine(pg_url, poolclass=NullPool)
    made = Roles(pg_url, uuid.uuid4().hex[:8], [])
    with superuser.begin() as connection:
        if not connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
            pytest.skip("the server's role may not make roles")
        for role in ROLES:
            connection.exec_driver_sql(f"CREATE ROLE {made.name(role)} LOGIN PASSWORD '{PASSWORD}'")
    made.grant("app_admin")
    yield made
    for engine in made.engines:
        engine.dispose()
    with superuser.begin() as connection:
        for role in ROLES:
            connection.exec_driver_sql(f"DROP OWNED BY {made.name(role)} CASCADE")
            connection.exec_driver_sql(f"DROP ROLE {made.name(role)}")


@pytest.fixture
def indexed(roles: Roles) -> Roles:
    """With records, which the administrator wrote first, and rights for all."""
    admin = roles.search("app_admin")
    RecordStore(admin).insert("Order", [{"id": str(n), "text": f"lamp number{n} of the river"} for n in range(30)])
    roles.grant("app_reader", "app_writer", "app_worker")
    return roles


def tables(engine: Engine) -> set[str]:
    query = "SELECT relname FROM pg_class WHERE relnamespace = CAST(current_schema AS regnamespace)"
    with engine.connect() as connection:
        return set(connection.execute(text(query)).scalars())


# rights


def test_a_reader_searches_and_makes_nothing(indexed: Roles, pg_engine: Engine) -> None:
    before = tables(pg_engine)
    search = indexed.search("app_reader")
    found = search.search("lamp number7", count=True, facets=["text"], explain=True)
    assert (found[0].id, found.total, len(found.facets["text"])) == ("7", 30, 30)
    assert ids(search.similar("Order", "7", limit=2))
    assert search.suggest("number2") == ["number2", *(f"number2{n}" for n in range(9))]
    assert [s.indexed for s in search.get_status()] == [30]
    assert RecordStore(search).get("Order", "7").data["text"] == "lamp number7 of the river"
    for write in (
        lambda: search.index_record("Order", "7", "wolf"),
        lambda: search.delete_record("Order", "7"),
        lambda: RecordStore(search).insert("Order", [{"id": "99", "text": "wolf"}]),
    ):
        with pytest.raises(StorageError, match=r"permission denied.*an administrator grants it"):
            write()
    assert tables(pg_engine) == before


def test_a_reader_of_a_schema_without_tables_learns_who_makes_them(roles: Roles, pg_engine: Engine) -> None:
    with pg_engine.begin() as connection:
        schema = connection.scalar(text("SELECT current_schema"))
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {roles.name('app_reader')}")
    with pytest.raises(StorageError, match="CREATE on the schema"):
        roles.search("app_reader")
    assert tables(pg_engine) == set()


def test_an_editor_sets_rules_of_the_tenant_that_it_acts_for(roles: Roles) -> None:
    admin = roles.search("app_admin")
    admin.index_record("Order", "1", "blue lamp")
    for tenant in ("t1", "t2"):
        admin.index_records_batch([("Bill", n, f"lamp {n}") for n in "123"], tenant=tenant)
    roles.grant("app_reader", "app_editor")
    admin.admin.protect("app.tenant")
    editor, reader = roles.search("app_editor"), roles.search("app_reader")
    editor.rules.set("lamps", pin=[("Bill", "3")])
    editor.rules.set("lamps", pin=[("Bill", "2")], hide=[("Bill", "1")], tenant="t1")
    for search in (editor, reader):
        assert ids(search.search("lamp", entity="Bill", tenant="t1")) == ["2", "3"]
        assert ids(search.search("lamp", entity="Bill", tenant="t2"))[0] == "3"
    with reader.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL app.tenant = 't2'")
        assert [rule.tenant for rule in reader.rules.list(tenant=["", "t1", "t2"], connection=connection)] == [""]
        assert ids(reader.search("lamp", entity="Bill", tenant="t2", connection=connection))[0] == "3"
    with editor.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL app.tenant = 't2'")
        with pytest.raises(StorageError, match="row-level security"):
            editor.rules.set("lamps", pin=[("Bill", "1")], tenant="t1", connection=connection)
    with pytest.raises(StorageError, match="permission denied"):
        reader.rules.remove("lamps")
    assert editor.rules.remove("lamps")


def test_an_editor_judges_records_of_the_tenant_that_it_acts_for(roles: Roles) -> None:
    admin = roles.search("app_admin")
    for tenant in ("t1", "t2"):
        admin.index_records_batch([("Bill", n, f"lamp {n}") for n in "123"], tenant=tenant)
    roles.grant("app_reader", "app_editor")
    admin.admin.protect("app.tenant")
    editor, reader = roles.search("app_editor"), roles.search("app_reader")
    editor.judgements.set("lamp 2", [("Bill", "2"), ("Bill", "gone")], tenant="t1")
    editor.judgements.set("lamp 3", [("Bill", "3")], tenant="t2")
    editor.judgements.set("lamp 2", [("Bill", "2")], 2, tenant="t1")
    for search in (editor, reader):
        cached = evaluate(search, tenant="t1", cache=AnswerCache())
        assert cached == evaluate(search, tenant="t1")
        assert (cached.queries, cached.judged, cached.unknown) == (1, 2, 1)
    with reader.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL app.tenant = 't2'")
        assert [one.tenant for one in reader.judgements.list(tenant=["t1", "t2"], connection=connection)] == ["t2"]
    with editor.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL app.tenant = 't2'")
        with pytest.raises(StorageError, match="row-level security"):
            editor.judgements.set("lamp", [("Bill", "1")], tenant="t1", connection=connection)
    with pytest.raises(StorageError, match="permission denied"):
        reader.judgements.remove("lamp 2", tenant="t1")
    assert editor.judgements.remove("lamp 2", tenant="t1") == 2


def test_a_writer_writes_and_makes_no_table(indexed: Roles, pg_engine: Engine) -> None:
    before = tables(pg_engine)
    search = indexed.search("app_writer")
    records = RecordStore(search)
    records.insert("Order", [{"id": f"n{n}", "text": f"tent number{n}"} for n in range(300)])
    records.insert("Bill", [{"id": "1", "text": "a bill"}])
    records.update("Order", "1", {"text": "grey wolf"})
    assert records.delete("Order", ["2", "3"]) == 2
    assert search.index_records_batch([("Note", str(n), f"note{n} by hand") for n in range(1_001)]).embedded == 1_001
    assert search.delete_record("Note", "5")
    assert ids(search.search("wolf", entity="Order", mode="keyword")) == ["1"]
    assert ids(search.search("note7", entity="Note", limit=1)) == ["7"]
    caching = SearchEngine(search.engine, HashProvider(), cache=True)
    assert caching.index_record("Note", "late", "a cached text").embedded == 1
    assert tables(pg_engine) == before


def test_the_first_generation_is_an_administrators(roles: Roles) -> None:
    roles.search("app_admin", None).index_record("Note", "0", "without a model")
    roles.grant("app_writer", but="kdb_embedding_g1")
    search = roles.search("app_writer")
    with pytest.raises(StorageError, match="CREATE on the schema"):
        search.index_record("Note", "1", "the first with a model")


def test_a_worker_embeds_folds_and_finds_nothing_wrong(indexed: Roles, pg_engine: Engine) -> None:
    writer = SearchEngine(indexed.engine("app_writer"), HashProvider(), indexing="deferred")
    with writer.attach(sessionmaker(writer.engine)).begin() as session:
        writer.index_record("Note", "1", "left to a worker", session=session)
    assert [(s.entity, s.pending) for s in writer.get_status()] == [("Note", 1), ("Order", 0)]
    search = indexed.search("app_worker")
    worker = Worker(search)
    while worker.work() is not None:
        pass
    assert [(s.entity, s.pending) for s in search.get_status()] == [("Note", 0), ("Order", 0)]
    assert search.sync().pending == 0
    assert search.admin.purge().merges >= 0
    assert [f for f in examine(search, fix=True) if f.severity == "error"] == []


def test_an_administrator_makes_generations_which_writers_may_use(indexed: Roles) -> None:
    admin = indexed.search("app_admin")
    other = SearchEngine(admin.engine, HashProvider(24))
    assert other.reindex().switched
    writer = SearchEngine(indexed.engine("app_writer"), HashProvider(24))
    assert writer.index_record("Note", "1", "of the new model").embedded == 1
    assert ids(writer.search("of the new model", mode="vector", limit=1)) == ["1"]
    with pytest.raises(StorageError, match="must be owner"):
        writer.admin.protect()


def test_keywords_in_the_server_need_the_rights_of_the_contents(roles: Roles, pg_engine: Engine) -> None:
    admin = SearchEngine(roles.engine("app_admin"), HashProvider(), keyword_search="server")
    RecordStore(admin).insert("Order", [{"id": str(n), "text": f"lamp number{n}"} for n in range(30)])
    keywords = r",\s+kdb_(?:tail|dead|segment|word|posting)\b|\bkdb_(?:tail|dead|segment|word|posting),\s+"
    with pg_engine.begin() as connection:
        schema = connection.scalar(text("SELECT current_schema"))
        for role in ("app_reader", "app_writer"):
            others = re.sub(keywords, "", grants()[role]).replace("kdb_search", "kdb_search, kdb_terms")
            granted = others.replace("SCHEMA public", f"SCHEMA {schema}")
            connection.exec_driver_sql(granted.replace(f"TO {role};", f"TO {roles.name(role)};"))
    writer = RecordStore(roles.search("app_writer"))
    writer.update("Order", "1", {"text": "grey wolf"})
    assert writer.delete("Order", ["2"]) == 1
    reader = roles.search("app_reader")
    assert ids(reader.search("wolf", mode="keyword")) == ["1"]
    assert reader.suggest("wol") == ["wolf"]


# policies


@pytest.fixture
def protected(indexed: Roles, command: Callable[..., Done]) -> Roles:
    url = indexed.engine("app_admin").url.render_as_string(hide_password=False)
    workers = ["--worker", indexed.name("app_worker")]
    done = command("tenants", "protect", *workers, "--json", environment={"KAMELEON_URL": url})
    assert done.returncode == 0, done.stderr
    return indexed


def test_policies_hold_for_synonyms_and_a_role_needs_few_rights_to_change_them(protected: Roles) -> None:
    owner = protected.engine("app_admin")
    writer = protected.search("app_writer", None)
    writer.index_record("Note", "1", "leave", tenant="acme")
    with pytest.raises(StorageError, match="permission denied"):
        writer.synonyms.add("pto, leave", tenant="acme")
    with owner.begin() as connection:
        role = protected.name("app_writer")
        tables = "kdb_synonym, kdb_query_rule, kdb_judgement"
        connection.exec_driver_sql(f"GRANT INSERT, UPDATE, DELETE ON {tables} TO {role}")
        connection.exec_driver_sql(f"GRANT UPDATE (value) ON kdb_meta TO {role}")
    assert (writer.synonyms.add("pto, leave", tenant="acme"), writer.synonyms.add("a, b", tenant="globex")) == (1, 1)
    assert ids(writer.search("pto", mode="keyword", tenant="acme", entity="Note")) == ["1"]
    with writer.engine.connect() as connection:
        connection.execute(text("SELECT set_config('app.tenant', 'globex', true)"))
        assert connection.scalars(text("SELECT rule FROM kdb_synonym")).all() == ["a, b"]
        assert writer.synonyms.list(tenant="acme", connection=connection) == []
        with pytest.raises(StorageError, match="row-level security"):
            writer.synonyms.add("c, d", tenant="acme", connection=connection)
    assert writer.synonyms.list(tenant="acme") == ["leave, pto"]


def own_tables(connection: Connection) -> dict[str, bool]:
    """kameleon's tables in the test's schema, and whether each has a tenant."""
    query = """
        SELECT c.relname, EXISTS (
          SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant') AS has_tenant
        FROM pg_class AS c WHERE c.relkind = 'r' AND c.relnamespace = CAST(current_schema AS regnamespace)
    """
    return {row.relname: row.has_tenant for row in connection.execute(text(query))}


def fill(connection: Connection, table: str, tenant: str) -> None:
    """Inserts a row of the tenant with some value in each column that needs one."""
    query = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
          AND NOT a.atthasdef AND a.attidentity = ''
    """
    values = {
        name: f"CAST({example(kind)} AS {kind})" for name, kind in connection.execute(text(query), {"table": table})
    }
    values["tenant"] = f"'{tenant}'"
    connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})")


def example(kind: str) -> str:
    return {"timestamp with time zone": "now()", "jsonb": "'{}'", "boolean": "true"}.get(
        kind, "'secret'" if kind in ("text", "bytea") else "'1'"
    )


@pytest.fixture
def filled(protected: Roles) -> Iterator[tuple[Roles, Sequence[str], Connection]]:
    """Rows of two tenants and of none in every table that has a tenant, and a connection of a role that may select,
    insert, update and delete in all of them."""
    superuser = sqlalchemy.create_engine(protected.url, poolclass=NullPool)
    with superuser.begin() as connection:
        tables = own_tables(connection)
        assert {name.removeprefix("kdb_") for name, has_tenant in tables.items() if not has_tenant} == WITHOUT_TENANT
        tenanted = sorted(name for name, has_tenant in tables.items() if has_tenant)
        for table in tenanted:
            connection.exec_driver_sql(f"DELETE FROM {table}")
            for tenant in ("t1", "t2", ""):
                fill(connection, table, tenant)
            connection.exec_driver_sql(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {protected.name('app_writer')}"
            )
    assert len(tenanted) == 14
    with protected.engine("app_writer").connect() as connection:
        yield protected, tenanted, connection


def tenants_seen(connection: Connection, table: str) -> list[str]:
    return list(connection.exec_driver_sql(f"SELECT tenant FROM {table} ORDER BY 1").scalars())


def act_for(connection: Connection, tenant: str) -> None:
    connection.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": tenant})


def test_raw_sql_sees_and_changes_the_rows_of_its_tenant_alone(
    filled: tuple[Roles, Sequence[str], Connection],
) -> None:
    _, tables, connection = filled
    for table in tables:
        act_for(connection, "t1")
        assert tenants_seen(connection, table) == ["", "t1"]
        for condition in ("tenant = 't2'", "tenant = ''"):
            changed = connection.exec_driver_sql(f"UPDATE {table} SET tenant = 't1' WHERE {condition}")
            deleted = connection.exec_driver_sql(f"DELETE FROM {table} WHERE {condition}")
            assert (changed.rowcount, deleted.rowcount) == (0, 0), table
        for tenant in ("t2", "", "t3"):
            with pytest.raises(DBAPIError, match="row-level security"), connection.begin_nested():
                fill(connection, table, tenant)
            with pytest.raises(DBAPIError, match="row-level security"), connection.begin_nested():
                connection.exec_driver_sql(f"UPDATE {table} SET tenant = '{tenant}' WHERE tenant = 't1'")
        with pytest.raises(DBAPIError, match="permission denied"), connection.begin_nested():
            connection.exec_driver_sql(f"TRUNCATE {table}")
        assert connection.exec_driver_sql(f"DELETE FROM {table}").rowcount == 1
        connection.rollback()


def test_without_the_setting_raw_sql_sees_rows_of_no_tenant(filled: tuple[Roles, Sequence[str], Connection]) -> None:
    _, tables, connection = filled
    for table in tables:
        assert tenants_seen(connection, table) == [""]
    connection.rollback()
    act_for(connection, "t2")
    connection.rollback()  # PostgreSQL leaves an empty setting, not none
    assert connection.scalar(text("SELECT current_setting('app.tenant', true)")) == ""
    for table in tables:
        assert tenants_seen(connection, table) == [""]


def test_a_copy_to_the_client_has_the_rows_of_the_tenant(filled: tuple[Roles, Sequence[str], Connection]) -> None:
    _, tables, connection = filled
    act_for(connection, "t1")
    driver: Any = connection.connection.driver_connection
    for table in tables:
        with driver.cursor() as cursor, cursor.copy(f"COPY (SELECT tenant FROM {table}) TO STDOUT") as copy:
            assert sorted(b"".join(bytes(part) for part in copy).split(b"\n")) == [b"", b"", b"t1"]


def test_the_owner_is_bound_and_a_workers_role_is_not(filled: tuple[Roles, Sequence[str], Connection]) -> None:
    roles, tables, _ = filled
    with roles.engine("app_admin").connect() as owner, roles.engine("app_worker").connect() as worker:
        act_for(owner, "t1")
        for table in tables:
            everyone = ["", "t1", "t2"]
            assert tenants_seen(owner, table) == (everyone if table == "kdb_dirty" else ["", "t1"])
            assert tenants_seen(worker, table) == everyone


def test_tenants_alternate_on_one_connection_as_behind_a_pooler(
    filled: tuple[Roles, Sequence[str], Connection],
) -> None:
    roles, _, _ = filled
    pooled = roles.engine("app_writer", poolclass=QueuePool, pool_size=1, max_overflow=0)
    processes = set()
    for tenant in ("t1", "t2", "", "t2", "t1"):
        with pooled.begin() as connection:
            if tenant:
                connection.exec_driver_sql(f"SET LOCAL app.tenant = '{tenant}'")
            assert tenants_seen(connection, "kdb_search") == sorted({"", tenant})
            processes.add(connection.scalar(text("SELECT pg_backend_pid()")))
    assert len(processes) == 1


def test_a_transaction_in_autocommit_is_bound(filled: tuple[Roles, Sequence[str], Connection]) -> None:
    roles, _, _ = filled
    with roles.engine("app_writer", isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("BEGIN")
        act_for(connection, "t1")
        assert tenants_seen(connection, "kdb_search") == ["", "t1"]
        connection.exec_driver_sql("COMMIT")
        act_for(connection, "t1")  # of a transaction that is its own statement
        assert tenants_seen(connection, "kdb_search") == [""]


def test_estimates_show_nothing_of_texts(filled: tuple[Roles, Sequence[str], Connection]) -> None:
    roles, _, connection = filled
    secret = "zebulon earns much"  # noqa: S105
    columns = {"kdb_search": "content", "kdb_posting": "term", "kdb_word": "last"}
    for table, column in columns.items():
        assert few_and_many(roles, connection, table, column, secret) == (1, 1), table
    roles.search("app_admin").admin.unprotect()
    few, many = few_and_many(roles, connection, "kdb_search", "content", secret)
    assert many > few, "without policies they do"


def few_and_many(roles: Roles, connection: Connection, table: str, column: str, value: str) -> tuple[int, int]:
    """How many rows PostgreSQL expects with a text that no row has, and with one that 2,000 rows of t2 have."""
    superuser = sqlalchemy.create_engine(roles.url, poolclass=NullPool)
    with superuser.begin() as owner:
        key = "segment" if table != "kdb_search" else "record_id"
        owner.exec_driver_sql(f"CREATE TEMPORARY TABLE copied AS SELECT * FROM {table} WHERE tenant = 't2' LIMIT 1")
        owner.exec_driver_sql(f"DELETE FROM {table} WHERE tenant = 't2'")
        names = ", ".join(row[0] for row in owner.exec_driver_sql(COLUMNS, {"table": table}))
        values = names.replace(column, f"'{value}'").replace(key, "n")
        owner.exec_driver_sql(
            f"INSERT INTO {table} ({names}) SELECT {values} FROM copied CROSS JOIN generate_series(1, 2000) AS n"
        )
        owner.exec_driver_sql(f"ANALYZE {table}")
    act_for(connection, "t1")
    found = [
        re.search(r"rows=(\d+)", connection.scalar(text(f"EXPLAIN SELECT 1 FROM {table} WHERE {column} = '{one}'")))
        for one in (value[::-1], value)
    ]
    connection.rollback()
    few, many = (int(row.group(1)) for row in found if row)
    return few, many


COLUMNS = """
    SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
      AND attname <> 'doc'
"""


# policies and kameleon's own calls


def written(roles: Roles) -> SearchEngine:
    """Records of two tenants, which the application's role wrote on connections of kameleon's own."""
    search = roles.search("app_writer")
    for tenant, animal in (("t1", "fox"), ("t2", "wolf")):
        records = [("Note", str(n), f"{animal} number{n} of the river") for n in range(300)]
        assert search.index_records_batch(records, tenant=tenant).embedded == 300
    return search


def test_batches_of_every_size_are_written_under_policies(protected: Roles) -> None:
    search = written(protected)
    for count in (1, 51, 1_001):
        records = [("Bill", f"{count}-{n}", f"bill{n} of {count}") for n in range(count)]
        assert search.index_records_batch(records, tenant="t1").embedded == count
    assert {s.entity: s.indexed for s in search.get_status(tenant="t1")} == {"Note": 300, "Bill": 1_053}
    assert search.delete_record("Note", "5", tenant="t1")
    assert len(search.search("fox", entity="Note", mode="keyword", tenant="t1", limit=300)) == 299
    assert len(search.search("wolf", entity="Note", mode="keyword", tenant="t2", limit=300)) == 300


def test_a_search_of_its_own_acts_for_its_tenant_alone(protected: Roles) -> None:
    search = written(protected)
    for tenant, animal, other in (("t1", "fox", "wolf"), ("t2", "wolf", "fox"), ("t1", "fox", "wolf")):
        found = search.search(f"{animal} number7", entity="Note", tenant=tenant, limit=5)
        assert {(hit.tenant, animal in hit.matched_text) for hit in found} == {(tenant, True)}
        assert search.search(other, entity="Note", mode="keyword", tenant=tenant) == []
        assert (search.suggest(animal[:2], tenant=tenant), search.suggest(other[:2], tenant=tenant)) == ([animal], [])
        assert {hit.tenant for hit in search.similar("Note", "7", tenant=tenant)} == {tenant}
    with pytest.raises(StorageError, match="one tenant at a time"):
        search.search("fox", entity="Note", tenant=["t1", "t2"])
    worker = protected.search("app_worker")
    both = worker.search("fox wolf", entity="Note", tenant=["t1", "t2"], limit=600)
    assert Counter(hit.tenant for hit in both) == {"t1": 300, "t2": 300}


def test_a_connection_of_the_callers_reads_what_its_setting_shows(protected: Roles) -> None:
    search = written(protected)
    pooled = protected.engine("app_writer", poolclass=QueuePool, pool_size=1, max_overflow=0)
    found = []
    for setting, tenant in (("t1", "t1"), ("t2", "t1"), ("t2", "t2"), ("", "t2"), ("t1", "t1")):
        with pooled.begin() as connection:
            act_for(connection, setting)
            hits = search.search("number7", entity="Note", tenant=tenant, connection=connection, limit=1, count=True)
            found.append((len(hits), hits.total))
    assert [count for count, _ in found] == [1, 0, 1, 0, 1]
    assert [total for count, total in found if not count] == [0, 0]


def test_a_row_of_another_tenant_is_refused_with_the_next_step(protected: Roles) -> None:
    search = written(protected)
    with search.engine.begin() as connection:
        act_for(connection, "t1")
        with pytest.raises(StorageError, match="Set it to the tenant of the records"):
            search.index_record("Note", "9", "a hare", tenant="t2", connection=connection)
    assert search.index.state(Ref("Note", "9", "t2")) is not None
    with pytest.raises(StorageError, match="one tenant at a time"):
        search.index.delete([Ref("Note", "1", "t1"), Ref("Note", "2", "t2")])


def test_a_record_moves_where_the_role_may_write_both_tenants(protected: Roles) -> None:
    RecordStore(protected.search("app_admin")).create_entity("Bill", search=["text"], tenant_field="org")
    search, worker = protected.search("app_writer"), protected.search("app_worker")
    RecordStore(search.for_tenant("t1")).insert("Bill", [{"id": "1", "text": "a bill of lamps"}])
    with pytest.raises(StorageError, match="one tenant at a time"):
        RecordStore(search).update("Bill", "1", {"org": "t2"}, tenant="t1")
    assert ids(search.search("lamps", entity="Bill", mode="keyword", tenant="t1")) == ["1"]
    RecordStore(worker).update("Bill", "1", {"org": "t2"}, tenant="t1")
    assert [ids(search.search("lamps", entity="Bill", mode="keyword", tenant=t)) for t in ("t1", "t2")] == [[], ["1"]]


@pytest.fixture
def leaflet(protected: Roles, pg_engine: Engine) -> Iterator[Any]:
    """A class with tenants, of which the application's role wrote objects of t1, and a superuser one of none."""

    class Base(DeclarativeBase):
        pass

    @kameleon.searchable(fields=["text"], tenant="org")
    class Leaflet(Base):
        __tablename__ = "leaflet"

        id: Mapped[int] = mapped_column(primary_key=True)
        org: Mapped[str | None]
        text: Mapped[str]

    with protected.engine("app_admin").begin() as connection:
        Base.metadata.create_all(connection)
        names = ", ".join(map(protected.name, ("app_writer", "app_worker")))
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON leaflet TO {names}")
    for role, org, numbers in (("app_writer", "t1", (1, 2)), ("app_worker", None, (3,))):
        search = protected.search(role)
        with search.attach(sessionmaker(search.engine)).begin() as session:
            act_for(session.connection(), org or "")
            session.add_all(Leaflet(id=n, org=org, text=f"lamps{n}") for n in numbers)
    yield Leaflet
    Base.registry.dispose()


def places(search: SearchEngine) -> list[tuple[str, str]]:
    """The tenants and ids of leaflets in the index."""
    found = search.search("lamp", entity="Leaflet", mode="keyword", tenant=kameleon.ALL_TENANTS)
    return sorted((hit.tenant, hit.id) for hit in found)


def test_an_object_moves_where_the_role_may_write_both_tenants(protected: Roles, leaflet: Any) -> None:
    def move(role: str, setting: str) -> None:
        search = protected.search(role)
        with search.attach(sessionmaker(search.engine)).begin() as session:
            act_for(session.connection(), setting)
            session.get_one(leaflet, 1).org = "t2"

    worker = protected.search("app_worker")
    for setting, message in (("t1", "Set it to the tenant of the records"), ("t2", "Leaflet '1' leaves the tenant")):
        with pytest.raises(StorageError, match=message):
            move("app_writer", setting)
        assert places(worker) == [("", "3"), ("t1", "1"), ("t1", "2")]
    move("app_worker", "t2")
    assert places(worker) == [("", "3"), ("t1", "2"), ("t2", "1")]


def by_expired(session: Any, cls: Any) -> None:
    found = session.get_one(cls, 1)
    session.expire(found)
    found.org = "t2"


def by_statement(session: Any, cls: Any) -> None:
    session.execute(sqlalchemy.update(cls).where(cls.id == 1).values(org="t2"))


def by_keys(session: Any, cls: Any) -> None:
    session.execute(sqlalchemy.update(cls), [{"id": 1, "org": "t2"}])


def by_two_flushes(session: Any, cls: Any) -> None:
    with session.begin_nested():
        session.get_one(cls, 1).org = "t3"
    session.get_one(cls, 1).org = "t2"


def of_none(session: Any, cls: Any) -> None:
    session.get_one(cls, 3).org = "t2"


def by_deletion(session: Any, cls: Any) -> None:
    session.delete(session.get_one(cls, 1))


def test_nothing_stays_under_a_tenant_that_policies_hide(protected: Roles, leaflet: Any) -> None:
    search, worker = protected.search("app_writer"), protected.search("app_worker")
    maker = search.attach(sessionmaker(search.engine))
    moves: list[tuple[Any, str]] = [(each, "Leaflet '1' leaves the tenant 't1'.*a worker's role") for each in MOVES]

    def attempt(move: Any) -> None:
        with maker.begin() as session:
            act_for(session.connection(), "t2")
            move(session, leaflet)

    for move, message in [*moves, (of_none, "Leaflet '3' leaves the tenant ''")]:
        with pytest.raises(StorageError, match=message):
            attempt(move)
        assert places(worker) == [("", "3"), ("t1", "1"), ("t1", "2")], move
    with maker.begin() as session:
        act_for(session.connection(), "t2")
        with session.begin_nested() as inner:
            by_statement(session, leaflet)
            session.get_one(leaflet, 2).org = "t2"
            session.flush()
            inner.rollback()
        session.add(leaflet(id=4, org="t2", text="lamps4"))
    with maker.begin() as session:
        act_for(session.connection(), "t1")
        session.delete(session.get_one(leaflet, 2))
    assert places(worker) == [("", "3"), ("t1", "1"), ("t2", "4")]


MOVES = [by_expired, by_statement, by_keys, by_two_flushes, by_deletion]


def test_a_worker_maintains_what_all_tenants_wrote(protected: Roles, pg_engine: Engine) -> None:
    search = written(protected)
    for n in range(3):
        search.index_records_batch([("Note", f"{n}-{m}", f"late{m} hare") for m in range(200)], tenant="t1")

    def tail() -> int:
        with pg_engine.connect() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM kdb_tail WHERE tenant = 't1'")) or 0)

    before = tail()
    search.admin.purge()
    assert (before, tail()) == (600, 600), "the application's role may not fold"
    worker = protected.search("app_worker")
    worker.admin.purge()
    assert tail() < 256
    assert len(search.search("hare", entity="Note", mode="keyword", tenant="t1", limit=900)) == 600
    assert [f for f in examine(worker, fix=True) if f.severity == "error"] == []


def test_the_cache_is_written_and_read_for_the_tenant(protected: Roles) -> None:
    search = SearchEngine(protected.engine("app_writer"), HashProvider(), cache=True)
    report = [
        search.index_records_batch([("Note", id_, "the same text")], tenant=tenant)
        for id_, tenant in (("1", "t1"), ("2", "t2"), ("3", "t1"))
    ]
    assert [(one.embedded, one.reused) for one in report] == [(1, 0), (1, 0), (0, 1)]


# checks


def test_the_doctor_finds_a_table_without_policies(protected: Roles, pg_engine: Engine) -> None:
    worker = protected.search("app_worker")
    assert [f for f in examine(worker) if f.check == "unprotected"] == []
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE kdb_tail NO FORCE ROW LEVEL SECURITY")
        connection.exec_driver_sql("DROP POLICY kdb_tenant ON kdb_queue")
    found = [f for f in examine(worker) if f.check == "unprotected"]
    assert [(f.ids, f.severity) for f in found] == [(("kdb_queue",), "error"), (("kdb_tail",), "error")]
    protected.search("app_admin").admin.protect("app.tenant", [protected.name("app_worker")])
    assert [f for f in examine(worker) if f.check == "unprotected"] == []
    assert [f.severity for f in examine(protected.search("app_admin")) if f.check == "unprotected"] == ["warning"]


def test_a_role_that_does_not_see_all_repairs_nothing(protected: Roles) -> None:
    search = written(protected)
    (hidden,) = [f for f in examine(search, fix=True) if f.check == "hidden"]
    assert (hidden.severity, hidden.is_fixed) == ("error", False)
    with pytest.raises(StorageError, match="a generation of embeddings is made from all records"):
        SearchEngine(protected.engine("app_admin"), HashProvider(24)).reindex()


def test_a_generation_that_is_made_later_is_protected(protected: Roles, pg_engine: Engine) -> None:
    written(protected)
    with pg_engine.begin() as connection:
        worker = protected.name("app_worker")
        connection.exec_driver_sql(f"GRANT {worker} TO {protected.name('app_admin')}")
    assert SearchEngine(protected.engine("app_admin"), HashProvider(24)).reindex().switched
    search = SearchEngine(protected.engine("app_writer"), HashProvider(24))
    assert {hit.tenant for hit in search.search("fox", entity="Note", mode="vector", tenant="t1")} == {"t1"}
    with search.engine.connect() as connection:
        act_for(connection, "t1")
        assert set(tenants_seen(connection, "kdb_embedding_g2")) == {"", "t1"}


def test_policies_are_taken_off_again(protected: Roles, command: Callable[..., Done]) -> None:
    url = protected.engine("app_admin").url.render_as_string(hide_password=False)
    done = command("tenants", "unprotect", environment={"KAMELEON_URL": url})
    assert done.stdout.startswith("unprotected: kdb_dead, kdb_dirty, kdb_embedding_cache"), done.stderr
    search = written(protected)
    assert len(search.search("fox wolf", entity="Note", tenant=["t1", "t2"], limit=600)) == 600
    done = command("tenants", "unprotect", environment={"KAMELEON_URL": url})
    assert done.stdout == "there were no policies\n"


def test_wrong_settings_and_roles_are_refused(indexed: Roles) -> None:
    admin = indexed.search("app_admin").admin
    for setting in ("tenant", "app.Tenant", "app.tenant'; --", ""):
        with pytest.raises(InvalidInput, match=r"named like app\.tenant"):
            admin.protect(setting)
    with pytest.raises(InvalidInput, match="no role nobody"):
        admin.protect(workers=["nobody"])


def test_sqlite_has_no_policies(file_engine: Engine) -> None:
    search = SearchEngine(file_engine)
    with pytest.raises(StorageError, match="give each tenant a file"):
        search.admin.protect()
    assert search.admin.unprotect() == []
