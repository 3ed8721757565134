"""An index of another schema version: refused by name, and rebuilt from its contents."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Engine, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, searchable
from kameleon.alembic import create_tables
from kameleon.errors import SchemaMismatch, SchemaMissing, StorageError
from kameleon.stores.tables import SCHEMA_VERSION
from kameleon.testing import HashProvider, assert_indexed

from .conftest import Make, ids
from .test_cli import Run, checked

RECORDS = 1_001  # more than a page
WEIGHTING = {"base": 0.4, "coefficients": {}, "means": {}}
CONTACTS = [{"id": str(n), "name": f"Person {n}", "about": f"lives in town {n}", "age": n} for n in range(51)]


@pytest.fixture
def run(command: Callable[..., Any]) -> Run:
    return checked(command)


def run_sql(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def set_version(engine: Engine, version: str) -> None:
    run_sql(engine, f"UPDATE kdb_meta SET value = '{version}' WHERE key = 'schema_version'")


@pytest.fixture
def old(make: Make, engine: Engine, provider: HashProvider) -> Engine:
    """An index with records given directly and of the record store, and with their embeddings."""
    search = make(provider)
    search.index_records_batch([("Note", str(n), f"note {n} about otters") for n in range(RECORDS)])
    store = RecordStore(search)
    store.create_entity("Contact", search={"name": 2, "about": 1}, fields={"age": "integer"})
    store.insert("Contact", CONTACTS)
    search.admin.set_weight(0.45, weighting=WEIGHTING)
    set_version(engine, "3")
    return engine


@pytest.mark.parametrize("version", ["1", "3", str(SCHEMA_VERSION - 1), "99", "next"])
def test_another_version_is_refused_by_name(old: Engine, version: str) -> None:
    set_version(old, version)
    named = rf"schema version {version}, .* reads {SCHEMA_VERSION}.*`kameleon rebuild`"
    with pytest.raises(SchemaMismatch, match=named):
        SearchEngine(old)
    with pytest.raises(SchemaMismatch), old.connect() as connection:
        create_tables(connection)


@pytest.mark.parametrize("loss", ["DELETE FROM kdb_meta", "DROP TABLE kdb_meta"])
def test_an_index_without_a_version_is_refused(old: Engine, loss: str) -> None:
    run_sql(old, loss)
    with pytest.raises(SchemaMismatch, match="schema version unknown"):
        SearchEngine(old)
    assert kameleon.rebuild(old).from_version is None
    assert SearchEngine(old).get_status()


def test_a_dry_run_counts_and_changes_nothing(old: Engine) -> None:
    report = kameleon.rebuild(old, dry_run=True)
    assert dict(report.records) == {"Note": RECORDS, "Contact": len(CONTACTS)}
    assert (report.is_needed, report.is_done, report.from_version) == (True, False, "3")
    with pytest.raises(SchemaMismatch):
        SearchEngine(old)


def test_contents_records_and_embeddings_stay(old: Engine, make: Make, provider: HashProvider) -> None:
    seen: list[tuple[int, int]] = []
    report = kameleon.rebuild(old, progress=lambda done, total: seen.append((done, total)))
    assert (report.is_done, report.to_version) == (True, str(SCHEMA_VERSION))
    assert seen[-1] == (RECORDS + len(CONTACTS), RECORDS + len(CONTACTS))
    assert (report.embeddings_kept, report.pending) == (RECORDS + len(CONTACTS), 0)
    assert not report.unweighted
    search = make(provider)
    assert {(s.entity, s.indexed, s.pending) for s in search.get_status()} == {
        ("Contact", len(CONTACTS), 0),
        ("Note", RECORDS, 0),
    }
    assert ids(search.search("note 1000", limit=1)) == ["1000"]
    assert ids(search.search("lives in town 50", mode="vector", entity="Contact", limit=1)) == ["50"]
    store = RecordStore(search)
    assert store.get("Contact", "7").data["about"] == "lives in town 7"
    assert [field.search and field.search.weight for field in store.entity("Contact").fields][:2] == [2, 1]
    assert [(made.weight, made.weighting) for made in search.generations()] == [(0.45, WEIGHTING)]
    assert search.suggest("ott") == ["otters"]
    assert search.index_record("Note", "5", "note 5 about otters").unchanged == 1
    calls = provider.calls
    assert search.sync().embedded == 0
    assert provider.calls == calls


def test_no_phrase_extends_across_columns_after_a_rebuild(make: Make, engine: Engine) -> None:
    class Base(DeclarativeBase):
        pass

    @searchable(fields=["title", "body"])
    class Page(Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]

    Base.metadata.create_all(engine)
    sessions = make().attach(sessionmaker(engine))
    with sessions.begin() as session:
        session.add_all(
            [Page(id=1, title="wild red", body="apple pie"), Page(id=2, title="wild red apple", body="pie")]
        )
    set_version(engine, "3")
    assert kameleon.rebuild(engine).unweighted == {}
    search = make()
    assert ids(search.search('"red apple"')) == ["2"]
    assert ids(search.search('wild -"apple pie"')) == ["2"]
    with search.attach(sessionmaker(engine))() as session:
        assert_indexed(session.get_one(Page, 1))


def test_embeddings_in_a_table_of_another_shape_are_pending(old: Engine, make: Make, provider: HashProvider) -> None:
    run_sql(old, *(f"ALTER TABLE kdb_embedding_g1 DROP COLUMN {name}" for name in ("start_at", "end_at")))
    report = kameleon.rebuild(old)
    assert (report.embeddings_kept, report.pending) == (0, RECORDS + len(CONTACTS))
    search = make(provider)
    assert [made.fingerprint for made in search.generations()] == [provider.fingerprint]
    assert search.sync().embedded == RECORDS + len(CONTACTS)


def test_only_contents_are_required(old: Engine, make: Make) -> None:
    names = ("queue", "dirty", "generation", "embedding_g1", "embedding_cache", "reindex", "reindex_range")
    keywords = ("tail", "dead", "segment", "word", "posting")
    run_sql(old, *(f"DROP TABLE kdb_{name}" for name in (*names, *keywords)))
    report = kameleon.rebuild(old)
    assert dict(report.records) == {"Note": RECORDS, "Contact": len(CONTACTS)}
    search = make(HashProvider())
    assert ids(search.search("note 1000", limit=1)) == ["1000"]
    assert search.sync().embedded == RECORDS + len(CONTACTS)


def test_an_index_of_another_analyser_is_rebuilt(old: Engine, make: Make, provider: HashProvider) -> None:
    set_version(old, str(SCHEMA_VERSION))
    assert not kameleon.rebuild(old).is_needed
    run_sql(old, "UPDATE kdb_meta SET value = '0' WHERE key = 'analyser'")
    with pytest.raises(SchemaMismatch, match=r"version 0 of the analyser.*`kameleon rebuild`"):
        SearchEngine(old)
    assert kameleon.rebuild(old).embeddings_kept == RECORDS + len(CONTACTS)
    assert ids(make(provider).search("note 1000", mode="keyword", limit=1)) == ["1000"]


def test_a_keyword_index_that_lost_records_is_rebuilt(old: Engine, make: Make, provider: HashProvider) -> None:
    set_version(old, str(SCHEMA_VERSION))
    run_sql(old, "DELETE FROM kdb_segment")
    assert ids(make(provider).search("note 1000", mode="keyword", limit=1)) == []
    assert kameleon.rebuild(old).is_done
    assert ids(make(provider).search("note 1000", mode="keyword", limit=1)) == ["1000"]
    assert not kameleon.rebuild(old).is_needed


def test_tables_of_the_version_before_are_replaced(old: Engine) -> None:
    """Of contents without numbers, and of the keyword tables that there were."""
    if old.dialect.name == "sqlite":
        run_sql(
            old,
            "CREATE VIRTUAL TABLE kdb_search_fts USING fts5(content, content = 'kdb_search', content_rowid = 'id')",
            "CREATE VIRTUAL TABLE kdb_search_vocab USING fts5vocab(kdb_search_fts, row)",
        )
    else:
        run_sql(old, "ALTER TABLE kdb_embedding_g1 DROP COLUMN doc", "ALTER TABLE kdb_search DROP COLUMN doc CASCADE")
    run_sql(old, "CREATE TABLE kdb_term (form text)", *(f"DROP TABLE kdb_{name}" for name in ("tail", "posting")))
    assert kameleon.rebuild(old).embeddings_kept == RECORDS + len(CONTACTS)
    assert not {"kdb_term", "kdb_search_fts", "kdb_search_vocab"} & set(inspect(old).get_table_names())


def test_weights_that_contents_do_not_hold_are_counted(old: Engine) -> None:
    run_sql(old, "UPDATE kdb_search SET content_hash = 'of content and weights' WHERE record_id IN ('3', '60')")
    assert kameleon.rebuild(old).unweighted == {"Note": 2}


def test_what_cannot_be_read_is_left_as_it_was(old: Engine) -> None:
    run_sql(old, "ALTER TABLE kdb_records RENAME COLUMN data TO document")
    with pytest.raises(StorageError, match="kdb_records has no column data"):
        kameleon.rebuild(old)
    run_sql(old, "ALTER TABLE kdb_records RENAME COLUMN document TO data")
    assert kameleon.rebuild(old).is_done


class Killed(BaseException):
    pass


def test_a_rebuild_that_ends_halfway_changes_nothing(old: Engine, make: Make, provider: HashProvider) -> None:
    def stop(done: int, _total: int) -> None:
        if done >= RECORDS:
            raise Killed

    with pytest.raises(Killed):
        kameleon.rebuild(old, progress=stop)
    assert dict(kameleon.rebuild(old, dry_run=True).records) == {"Note": RECORDS, "Contact": len(CONTACTS)}
    assert kameleon.rebuild(old).is_done
    assert ids(make(provider).search("note 1000", limit=1)) == ["1000"]


def test_an_index_of_this_version_is_left_alone(search: SearchEngine, engine: Engine) -> None:
    search.index_record("Note", "1", "otters")
    assert not kameleon.rebuild(engine).is_needed
    assert ids(search.search("otters")) == ["1"]


def test_without_an_index_there_is_nothing_to_rebuild(engine: Engine) -> None:
    with pytest.raises(SchemaMissing, match="no table kdb_search"):
        kameleon.rebuild(engine)


def test_tables_of_the_applications_own_stay(old: Engine) -> None:
    run_sql(old, "CREATE TABLE kdb_invoices (n integer)", "INSERT INTO kdb_invoices VALUES (7)")
    kameleon.rebuild(old)
    with old.connect() as connection:
        assert connection.scalar(text("SELECT n FROM kdb_invoices")) == 7


def test_rights_stay_and_policies_are_not_lost(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine, HashProvider())
    search.index_record("Note", "1", "otters")
    run_sql(
        pg_engine,
        "DROP ROLE IF EXISTS kdb_rebuild_reader",
        "CREATE ROLE kdb_rebuild_reader",
        "GRANT SELECT ON kdb_search, kdb_meta TO kdb_rebuild_reader",
        "CREATE POLICY own ON kdb_search USING (true)",
    )
    set_version(pg_engine, "3")
    with pytest.raises(StorageError, match="own on kdb_search"):
        kameleon.rebuild(pg_engine)
    run_sql(pg_engine, "DROP POLICY own ON kdb_search")
    kameleon.rebuild(pg_engine)
    statement = "SELECT has_table_privilege('kdb_rebuild_reader', '{}', 'SELECT')"
    with pg_engine.connect() as connection:
        granted = {
            name: connection.scalar(text(statement.format(name)))
            for name in ("kdb_search", "kdb_meta", "kdb_embedding_g1", "kdb_queue")
        }
    run_sql(pg_engine, "DROP OWNED BY kdb_rebuild_reader", "DROP ROLE kdb_rebuild_reader")
    assert granted == {"kdb_search": True, "kdb_meta": True, "kdb_embedding_g1": True, "kdb_queue": False}


@pytest.mark.parametrize("level", ["SERIALIZABLE", "AUTOCOMMIT"])
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_at_every_isolation_level(old: Engine, make: Make, level: str) -> None:
    at_level = old.execution_options(isolation_level=level)
    assert kameleon.rebuild(at_level, dry_run=True).is_needed
    assert kameleon.rebuild(at_level).is_done
    assert ids(make(HashProvider()).search("note 1000", limit=1)) == ["1000"]


# the command


COMMANDS = [
    ("search", "otters"),
    ("similar", "Note", "1"),
    ("suggest", "ott"),
    ("data", "insert", "Note", '{"id": "x", "text": "some words"}'),
    ("data", "get", "Note", "1"),
    ("data", "list", "Note"),
    ("data", "update", "Note", "1", "{}"),
    ("data", "delete", "Note", "1"),
    ("entity", "list"),
    ("entity", "describe", "Note"),
    ("entity", "create", "New", "--search", "name"),
    ("doctor",),
    ("embeddings", "status"),
    ("embeddings", "sync"),
    ("embeddings", "worker", "--once"),
    ("embeddings", "reindex"),
    ("embeddings", "reindex", "--dry-run"),
    ("embeddings", "rollback"),
    ("embeddings", "prune"),
    ("embeddings", "cancel"),
    ("embeddings", "cache", "status"),
    ("embeddings", "cache", "clear"),
]


on_disk = pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)


@on_disk
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_names_the_one_that_rebuilds(engine: Engine, run: Run, arguments: tuple[str, ...]) -> None:
    SearchEngine(engine)
    set_version(engine, "3")
    run_sql(engine, "ALTER TABLE kdb_generation RENAME COLUMN fingerprint TO print")
    url = engine.url.render_as_string(hide_password=False)
    done = run("-d", url, *arguments, status=1)
    assert "schema version 3" in done.stderr
    assert "rebuild`" in done.stderr
    assert "no such column" not in done.stderr
    assert done.stdout == ""


@on_disk
def test_the_command_rebuilds_after_a_confirmation(old: Engine, run: Run) -> None:
    url = {"KAMELEON_URL": old.url.render_as_string(hide_password=False)}
    refused = run("rebuild", status=2, **url)
    assert "--no-confirm" in refused.stderr
    dry = json.loads(run("rebuild", "--dry-run", "--json", **url).stdout)
    assert (dry["records"], dry["is_done"]) == ({"Contact": len(CONTACTS), "Note": RECORDS}, False)
    done = run("rebuild", "--no-confirm", **url)
    assert f"{RECORDS + len(CONTACTS):,} records" in done.stdout
    assert run("search", "otters", "--mode", "keyword", **url).stdout
    assert "nothing to rebuild" in run("rebuild", "--no-confirm", **url).stdout


def test_a_schema_of_its_own_is_rebuilt(pg_url: URL, pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine, HashProvider(), schema="search own")
    search.index_record("Note", "1", "otters")
    try:
        run_sql(pg_engine, "UPDATE \"search own\".kdb_meta SET value = '2' WHERE key = 'schema_version'")
        assert kameleon.rebuild(pg_engine, schema="search own").embeddings_kept == 1
        assert ids(SearchEngine(pg_engine, HashProvider(), schema="search own").search("otters")) == ["1"]
    finally:
        run_sql(pg_engine, 'DROP SCHEMA "search own" CASCADE')


def test_tenants_stay(make: Make, engine: Engine, provider: HashProvider) -> None:
    """Of one id in two tenants and without any, in the record store, too."""
    search = make(provider)
    tenants = ("", "t1", "t2")
    for tenant in tenants:
        texts = [("Note", str(n), f"note {n} of{tenant} otters") for n in range(RECORDS if tenant == "t1" else 3)]
        search.index_records_batch(texts, tenant=tenant)
    store = RecordStore(search)
    store.create_entity("Contact", search=["about"], tenant_field="")
    for tenant in ("t1", "t2"):
        store.insert("Contact", [{"id": "1", "about": f"ferrets of{tenant}"}], tenant=tenant)
    set_version(engine, "6")
    report = kameleon.rebuild(engine)
    assert (report.embeddings_kept, report.pending) == (RECORDS + 8, 0)

    rebuilt = make(provider)
    assert rebuilt.index.tenanted() == {"Note", "Contact"}
    for tenant in tenants:
        for mode in ("keyword", "vector"):
            hits = rebuilt.search("note 2", entity="Note", tenant=tenant, mode=mode, limit=1)
            assert [(hit.tenant, hit.matched_text) for hit in hits] == [(tenant, f"note 2 of{tenant} otters")]
    for tenant in ("t1", "t2"):
        assert RecordStore(rebuilt).get("Contact", "1", tenant=tenant).data["about"] == f"ferrets of{tenant}"
        assert [hit.tenant for hit in rebuilt.search("ferrets", entity="Contact", tenant=tenant)] == [tenant]
    assert RecordStore(rebuilt).entity("Contact").tenant_field == ""


def test_tables_from_before_there_were_tenants_have_none(old: Engine, make: Make, provider: HashProvider) -> None:
    tables = ["search", "records"]
    if old.dialect.name == "sqlite":
        for name in tables:  # a column of a key cannot be dropped
            columns = ", ".join(c["name"] for c in inspect(old).get_columns(f"kdb_{name}") if c["name"] != "tenant")
            run_sql(
                old,
                f"CREATE TABLE before AS SELECT {columns} FROM kdb_{name}",
                f"DROP TABLE kdb_{name}",
                f"ALTER TABLE before RENAME TO kdb_{name}",
            )
    else:
        run_sql(old, *(f"ALTER TABLE kdb_{name} DROP COLUMN tenant" for name in [*tables, "embedding_g1"]))
    run_sql(old, "DROP TABLE kdb_tenanted")
    assert kameleon.rebuild(old).embeddings_kept == RECORDS + len(CONTACTS)
    search = make(provider)
    assert search.index.tenanted() == set()
    assert ids(search.search("note 1000", limit=1)) == ["1000"]
    assert RecordStore(search).get("Contact", "7").data["about"] == "lives in town 7"
