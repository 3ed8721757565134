"""Damage that raw SQL does to an index: doctor finds it and repairs it."""

import json
import os
import random
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Engine, NullPool, event, text
from sqlalchemy.orm import Session

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.doctor import Finding, examine, is_ok
from kameleon.stores.postgresql import hnsw as postgresql_hnsw
from kameleon.testing import HashProvider
from stress.workloads.models import (
    Animal,
    Article,
    Author,
    Base,
    Bird,
    Cat,
    Comment,
    Dog,
    Note,
    Place,
    Tag,
    assert_index_matches,
    index,
)

from .conftest import Make, ids, with_citus

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Brief = list[tuple[str, str, int, tuple[str, ...]]]

ENVIRONMENT = {"no-extension", "no-wal"}


@pytest.fixture(params=with_citus("sqlite", "sqlite-plain", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def brief(findings: list[Finding]) -> Brief:
    """What was found, but for what the interpreter and a plain engine bring along."""
    return [(f.check, f.entity, f.count, f.ids) for f in findings if f.check not in ENVIRONMENT]


def found(search: SearchEngine, **options: Any) -> Brief:
    return brief(examine(search, **options))


def assert_mended(search: SearchEngine, expected: Brief, **options: Any) -> None:
    """The finding is reported, reported as repaired, and then gone."""
    assert found(search, **options) == expected
    mended = examine(search, fix=True, **options)
    assert brief(mended) == expected
    assert [f for f in mended if f.check not in ENVIRONMENT and not f.is_fixed] == []
    assert found(search, **options) == []


def run_sql(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def is_sqlite(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite"


@pytest.fixture
def mapped(engine: Engine, search: SearchEngine) -> SearchEngine:
    """Every kind of class of the models, as a session committed them."""
    Base.metadata.create_all(engine)
    sessions = search.attach(type("Sessions", (Session,), {}))
    with sessions(engine) as session:
        session.add_all([Note(id=n, title=f"red fox {n}", body="runs") for n in range(1, 26)])
        session.add_all([Place(country=c, number=n, name=f"{c} {n}") for c in ("de", "fr") for n in (1, 2, 3)])
        session.add_all([Comment(id=uuid.UUID(int=n), text=f"remark {n}") for n in range(1, 6)])
        session.add(Article(id=1, title="wolf", author=Author(id=1, name="Ann"), tags=[Tag(id=1, label="grey")]))
        session.add_all([Article(id=2, title="secret", status="hidden"), Note(id=99, title="", body="")])
        session.add_all([Animal(id=1, kind="animal", name="ape"), Dog(id=2, name="rex"), Cat(id=3, name="tom")])
        session.add(Bird(id=1, name="owl"))
        session.commit()
    assert_index_matches(engine, search)
    return search


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_a_healthy_index_has_no_findings(mapped: SearchEngine, batch_size: int) -> None:
    RecordStore(mapped).insert("Ticket", [{"id": str(n), "subject": f"the parcel {n}"} for n in range(5)])
    mapped.index_record("ByHand", "1", "nobody else knows it")
    assert found(mapped, batch_size=batch_size) == []
    assert found(mapped, batch_size=batch_size, fix=True) == []


def test_an_index_of_nothing_is_healthy(make: Make) -> None:
    assert found(make()) == []


@pytest.mark.parametrize("batch_size", [2, 1000])
def test_rows_that_raw_sql_changed_are_mended(mapped: SearchEngine, engine: Engine, batch_size: int) -> None:
    run_sql(
        engine,
        "INSERT INTO note (id, title, body, stars) VALUES (50, 'new', 'by hand', 0)",
        "INSERT INTO place (country, number, name) VALUES ('de', 9, 'Ulm')",
        "UPDATE note SET title = 'grey wolf' WHERE id IN (3, 4)",
        "UPDATE author SET name = 'Bob'",
        "UPDATE article SET status = 'open' WHERE id = 2",
        "DELETE FROM note WHERE id <= 2 OR id >= 14 AND id < 50",
        "DELETE FROM comment",
        "UPDATE animal SET kind = 'cat' WHERE id = 1",
    )
    comments = tuple(str(uuid.UUID(int=n)) for n in range(1, 6))
    expected: Brief = [
        ("orphaned", "Animal", 1, ("1",)),
        ("missing", "Article", 1, ("2",)),
        ("stale", "Article", 1, ("1",)),
        ("missing", "Cat", 1, ("1",)),
        ("missing", "Note", 1, ("50",)),
        ("stale", "Note", 2, ("3", "4")),
        ("orphaned", "Note", 14, ("1", "14", "15", "16", "17", "18", "19", "2", "20", "21")),
        ("missing", "Place", 1, ('["de",9]',)),
        ("orphaned", "Remark", 5, comments),
    ]
    assert_mended(mapped, expected, batch_size=batch_size)
    assert_index_matches(engine, mapped)


def test_what_when_keeps_out_is_orphaned(mapped: SearchEngine, engine: Engine) -> None:
    run_sql(engine, "UPDATE article SET status = 'hidden'")
    assert_mended(mapped, [("orphaned", "Article", 1, ("1",))])


@pytest.mark.parametrize("batch_size", [2, 1000])
def test_the_record_store_is_compared_with_its_index(search: SearchEngine, engine: Engine, batch_size: int) -> None:
    records = RecordStore(search)
    records.insert("Ticket", [{"id": str(n), "subject": f"the parcel {n}"} for n in range(5)])
    search.index_records_batch([("Ticket", "0", "something else"), ("Ticket", "9", "no such record")])
    search.delete_record("Ticket", "4")
    run_sql(engine, "DELETE FROM kdb_records WHERE id = '1'")
    expected: Brief = [
        ("missing", "Ticket", 1, ("4",)),
        ("stale", "Ticket", 1, ("0",)),
        ("orphaned", "Ticket", 2, ("1", "9")),
    ]
    assert_mended(search, expected, batch_size=batch_size)
    assert index(engine) == {("Ticket", str(n)): f"the parcel {n}" for n in (0, 2, 3, 4)}


def test_a_row_that_changes_while_it_is_mended_is_read_again(
    mapped: SearchEngine, engine: Engine, provider: HashProvider
) -> None:
    """Other writers edit a row and delete another while the provider embeds their earlier texts."""
    run_sql(engine, "UPDATE note SET title = 'older' WHERE id IN (1, 2)", "DELETE FROM note WHERE id > 2")
    edits = iter(["UPDATE note SET title = 'newer' WHERE id = 1", "DELETE FROM note WHERE id = 2"])

    def refuse(words: str) -> None:
        if "older" in words and (edit := next(edits, None)):
            run_sql(engine, edit)

    provider.refuse = refuse
    if engine.url.database in (None, "", ":memory:"):
        pytest.skip("one connection")
    examine(mapped, fix=True)
    notes = {key: content for key, content in index(engine).items() if key[0] == "Note"}
    assert notes == {("Note", "1"): "newer\nruns"}
    assert list(edits) == []


def test_rows_and_index_are_seen_in_one_state(mapped: SearchEngine, engine: Engine, backend: str) -> None:
    """Another writer commits both after the rows and before the index are read."""
    if backend in ("sqlite-plain", "sqlite-memory"):
        pytest.skip("the reader keeps the writer out")
    sessions = mapped.attach(type("Sessions", (Session,), {}))
    edits = iter(["red fox, newer"])

    @event.listens_for(engine, "after_cursor_execute")
    def edit(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM note" in statement and "LIMIT" in statement and (title := next(edits, None)):
            with sessions(engine) as session:
                session.get_one(Note, 1).title = title
                session.commit()

    assert found(mapped) == []
    assert list(edits) == []
    assert_index_matches(engine, mapped)


@pytest.mark.parametrize("place", ["tail", "segment"])
def test_postings_in_the_partition_of_another_tenant_are_found(engine: Engine, place: str) -> None:
    search = SearchEngine(engine)
    records = 300 if place == "segment" else 3
    for tenant, word in (("a", "fox"), ("b", "zorblatt")):
        search.index_records_batch([("Note", n, f"{word} of the river") for n in range(records)], tenant=tenant)
    assert found(search) == []
    moved = ["kdb_tail"] if place == "tail" else ["kdb_segment", "kdb_word", "kdb_posting"]
    run_sql(engine, *(f"UPDATE {table} SET tenant = 'a' WHERE tenant = 'b'" for table in moved))
    search = SearchEngine(engine)
    assert search.search("zorblatt", tenant="a") == []
    assert search.search("zorblatt", tenant="a", offset=1) == []
    assert {ref.tenant for leg in search.admin.legs("fox zorblatt", tenant="a").legs for ref in leg.chosen} == {"a"}
    (fault,) = [finding for finding in examine(search, fix=True) if finding.check == "keyword-index"]
    assert (fault.ids, fault.is_fixed) == (("Note",), False)
    assert f"lacks {records} records and has {records} that are gone" in fault.message
    assert "`kameleon rebuild`" in fault.cure
    assert kameleon.rebuild(engine).is_done
    assert found(search) == []
    assert len(search.search("zorblatt", tenant="b", limit=records)) == records


def test_embeddings_without_a_record_are_left_over(search: SearchEngine, engine: Engine) -> None:
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(5)])
    numbers = tuple(str(n) for n in ids_of(engine, "record_id IN ('1', '3')"))
    assert len([*search.search("text"), *search.search("text")]) == 10
    run_sql(engine, "DELETE FROM kdb_search WHERE record_id IN ('1', '3')")
    assert found(search, batch_size=1) == [("keyword-index", "", 1, ("A",)), ("leftover", "", 2, numbers)]
    mended = [finding for finding in examine(search, fix=True) if finding.check not in ENVIRONMENT]
    assert [(finding.check, finding.is_fixed) for finding in mended] == [("keyword-index", False), ("leftover", True)]
    assert kameleon.rebuild(engine).is_done
    assert found(search, batch_size=1) == []
    results = search.search("text 1", mode="vector")
    assert (sorted(ids(results)), results.total) == (["0", "2", "4"], 3)


def ids_of(engine: Engine, where: str) -> list[Any]:
    """The keys of these records in the tables of embeddings."""
    name = "id" if is_sqlite(engine) else "doc"
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT {name} FROM kdb_search WHERE {where} ORDER BY 1")).scalars())


ZERO = bytes(64 * 4)
NAN = b"\x00\x00\xc0\x7f" + bytes(63 * 4)
SHORT = b"\x00\x00\x80\x3f"
LONG = b"\x00\x00\x00\x40" + bytes(63 * 4)


@pytest.mark.parametrize("vector", [ZERO, NAN, SHORT, LONG], ids=["zero", "NaN", "short", "long"])
def test_vectors_that_are_no_good_are_made_anew(search: SearchEngine, engine: Engine, vector: bytes) -> None:
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(5)])
    key = ids_of(engine, "record_id = '2'")[0]
    if is_sqlite(engine):
        set_vector(engine, "search_id", key, vector)
    elif vector in (NAN, SHORT):
        pytest.skip("pgvector takes no such vector")
    else:
        set_vector(engine, "doc", key, f"[{2 if vector is LONG else 0}{',0' * 63}]")
    expected: Brief = [("bad-vector", "A", 1, ("2",))]
    assert found(search, batch_size=2) == expected
    mended = examine(search, fix=True)
    assert [(f.check, f.ids, f.is_fixed) for f in mended if f.check not in ENVIRONMENT] == [
        ("bad-vector", ("2",), True),
        ("pending", ("2",), True),
    ]
    assert found(search) == []
    assert search.search("text 2", mode="vector")[0].id == "2"


def test_a_vector_that_was_dropped_is_not_found_any_more(search: SearchEngine, make: Make, engine: Engine) -> None:
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(5)])
    for _ in range(2):
        assert search.search("text 2", mode="vector")[0].id == "2"
    name = "search_id" if is_sqlite(engine) else "doc"
    set_vector(engine, name, ids_of(engine, "record_id = '2'")[0], ZERO if is_sqlite(engine) else f"[0{',0' * 63}]")
    assert found(make(), fix=True) == [("bad-vector", "A", 1, ("2",))]
    assert sorted(ids(search.search("text 2", mode="vector"))) == ["0", "1", "3", "4"]


def test_a_bad_passage_is_seen_wherever_a_page_ends(search: SearchEngine, engine: Engine) -> None:
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(3)])
    key = ids_of(engine, "record_id = '1'")[0]
    name = "search_id" if is_sqlite(engine) else "tenant, entity_name, record_id, doc"
    columns = f"{name}, content_hash, attempts, updated_at"
    copied = f"SELECT {columns}, 1 FROM kdb_embedding_g1 WHERE {name.split(', ')[-1]} = '{key}'"
    run_sql(engine, f"INSERT INTO kdb_embedding_g1 ({columns}, passage) {copied}")
    bad = "zeroblob(256)" if is_sqlite(engine) else f"'[0{',0' * 63}]'"
    run_sql(engine, f"UPDATE kdb_embedding_g1 SET embedding = {bad} WHERE passage = 1")
    for batch_size in (1, 2, 1000):
        assert found(search, batch_size=batch_size) == [("bad-vector", "A", 1, ("1",))]


def set_vector(engine: Engine, name: str, key: Any, vector: Any) -> None:
    with engine.begin() as connection:
        cast = ":vector" if is_sqlite(engine) else "CAST(:vector AS vector)"
        statement = text(f"UPDATE kdb_embedding_g1 SET embedding = {cast} WHERE {name} = :key")
        assert connection.execute(statement, {"vector": vector, "key": key}).rowcount == 1


def test_rows_that_lost_their_unique_key_are_seen(search: SearchEngine, engine: Engine) -> None:
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(4)])
    columns = "tenant, entity_name, record_id, content, content_hash, gaps, created_at, updated_at"
    if is_sqlite(engine):
        run_sql(
            engine,
            "ALTER TABLE kdb_search RENAME TO old",
            f"CREATE TABLE kdb_search (id INTEGER PRIMARY KEY, {columns})",
            "INSERT INTO kdb_search SELECT * FROM old",
        )
    else:
        run_sql(engine, "ALTER TABLE kdb_search DROP CONSTRAINT kdb_search_pkey")
    copy = f"INSERT INTO kdb_search ({columns}) SELECT {columns} FROM kdb_search WHERE record_id IN ('1', '3')"
    run_sql(engine, copy)
    duplicate = [finding for finding in examine(search, fix=True, batch_size=1) if finding.check == "duplicate"]
    assert [(f.entity, f.count, f.ids, f.is_fixed) for f in duplicate] == [("A", 2, ("1", "3"), False)]
    assert not is_ok(duplicate)


def test_a_name_that_two_tables_claim_is_a_duplicate(mapped: SearchEngine, engine: Engine) -> None:
    RecordStore(mapped).create_entity("Note", search=["subject"])
    assert found(mapped, fix=True) == [("duplicate", "Note", 1, ())]


def test_pending_is_filled_and_failed_is_reported(
    make: Make, provider: HashProvider, search: SearchEngine, engine: Engine
) -> None:
    provider.refuse = lambda words: ValueError("poison") if "bad" in words else None
    search.index_records_batch([("A", "1", "good"), ("A", "2", "bad")])
    make().index_records_batch([("A", "3", "fine"), ("B", "4", "fine, too")])
    findings = examine(search)
    assert brief(findings) == [
        ("pending", "A", 1, ("3",)),
        ("pending", "B", 1, ("4",)),
        ("failed", "A", 1, ("2",)),
    ]
    assert is_ok(findings)
    examine(search, fix=True)
    assert found(search) == [("failed", "A", 1, ("2",))]


def test_pending_is_reported_while_the_provider_is_down(make: Make, engine: Engine) -> None:
    make().index_record("A", "1", "fox")
    search = make("no-such-provider")
    (finding,) = (f for f in examine(search, fix=True) if f.check == "pending")
    assert (finding.count, finding.is_fixed) == (1, False)


def test_another_model_is_a_wrong_generation(search: SearchEngine, make: Make) -> None:
    search.index_record("A", "1", "fox")
    (finding,) = (f for f in examine(make(HashProvider(32, model_name="other")), fix=True) if f.severity == "error")
    assert finding.check == "wrong-generation"
    assert "the index holds embeddings of hash (64 dimensions)" in finding.message


def test_a_generation_that_lost_its_table_gets_one(search: SearchEngine, engine: Engine) -> None:
    search.index_record("A", "1", "fox")
    run_sql(engine, "DROP TABLE kdb_embedding_g1")
    assert found(search) == [("wrong-generation", "", 1, ("kdb_embedding_g1",))]
    assert [(f.check, f.is_fixed) for f in examine(search, fix=True) if f.check not in ENVIRONMENT] == [
        ("wrong-generation", True),
        ("pending", True),
    ]
    assert found(search) == []
    assert search.search("fox", mode="vector")[0].id == "1"


def test_a_table_that_lost_its_generation_is_left_to_you(search: SearchEngine, engine: Engine) -> None:
    search.index_record("A", "1", "fox")
    run_sql(engine, "CREATE TABLE kdb_embedding_g7 (search_id INTEGER, embedding INTEGER)")
    assert found(search, fix=True) == [("wrong-generation", "", 1, ("kdb_embedding_g7",))]


# SQLite


def test_write_ahead_logging_is_set(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    search = SearchEngine(engine)
    assert [f.check for f in examine(search)] == ["no-wal"]
    assert [(f.check, f.severity, f.is_fixed) for f in examine(search, fix=True)] == [("no-wal", "warning", True)]
    assert examine(search) == []
    engine.dispose()


def test_an_interpreter_without_extensions_is_noted(backend: str, search: SearchEngine, engine: Engine) -> None:
    loads = backend in ("sqlite-vec", "postgresql", "citus") or hasattr(
        engine.raw_connection().driver_connection, "enable_load_extension"
    )
    notes = [f.severity for f in examine(search, fix=True) if f.check == "no-extension"]
    assert notes == ([] if loads else ["note"])


# PostgreSQL


@pytest.fixture
def own_database(server: URL) -> Iterator[URL]:
    """A database whose catalogs may be damaged."""
    admin = sqlalchemy.create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        if not connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
            pytest.skip("the server's role may not make databases")
        connection.exec_driver_sql("CREATE DATABASE kdb_doctor")
    yield server.set(database="kdb_doctor")
    with admin.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE kdb_doctor WITH (FORCE)")


def test_a_missing_or_old_pgvector_is_reported(own_database: URL) -> None:
    engine = sqlalchemy.create_engine(own_database, poolclass=NullPool)
    SearchEngine(engine)
    assert examine(SearchEngine(engine)) == []
    search = SearchEngine(engine, HashProvider(), create_tables=False)
    assert [(f.check, f.severity) for f in examine(search, fix=True)] == [("no-extension", "warning")]
    run_sql(engine, "CREATE EXTENSION vector", "UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
    (finding,) = examine(search)
    assert (finding.check, finding.severity) == ("pgvector-version", "warning")
    assert "pgvector 0.8.3 has known faults" in finding.message
    run_sql(engine, "UPDATE pg_extension SET extversion = '0.8.4' WHERE extname = 'vector'")
    assert examine(search) == []


def test_embeddings_that_went_with_pgvector_are_made_anew(own_database: URL) -> None:
    engine = sqlalchemy.create_engine(own_database, poolclass=NullPool)
    search = SearchEngine(engine, HashProvider())
    RecordStore(search).insert("Ticket", [{"id": "1", "subject": "red fox"}])
    run_sql(engine, "DROP EXTENSION vector CASCADE", "DELETE FROM kdb_search", "DELETE FROM kdb_tail")
    assert [(f.check, f.is_fixed) for f in examine(search, fix=True)] == [
        ("no-extension", False),
        ("wrong-generation", False),
        ("missing", False),
    ]
    run_sql(engine, "CREATE EXTENSION vector")
    assert [(f.check, f.is_fixed) for f in examine(search, fix=True)] == [("wrong-generation", True), ("missing", True)]
    assert examine(search) == []
    assert search.search("red fox", mode="vector")[0].id == "1"


def break_index(engine: Engine, name: str) -> None:
    run_sql(engine, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('{name}')")


def test_a_broken_index_is_built_anew(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine, HashProvider())
    search.index_record("A", "1", "fox")
    break_index(pg_engine, "kdb_search_doc")
    assert_mended(search, [("invalid-index", "", 1, ("kdb_search_doc",))])


@pytest.fixture
def many(pg_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SearchEngine:
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 1_000)
    search = SearchEngine(pg_engine, HashProvider(16), ef_search=40)
    chance = random.Random(1)
    search.index_records_batch(
        [("A", str(n), " ".join(chance.choices([f"word{n}" for n in range(300)], k=6))) for n in range(3_000)]
    )
    return search


def set_at_connect(engine: Engine, *settings: str) -> None:
    @event.listens_for(engine, "connect")
    def set_all(driver: Any, _record: Any) -> None:
        for setting in settings:
            driver.execute(f"SET {setting}")
        driver.commit()

    engine.dispose()


def test_a_missing_hnsw_is_built_and_a_broken_one_again(many: SearchEngine, pg_engine: Engine) -> None:
    set_at_connect(pg_engine, "enable_seqscan = off", "enable_sort = off")
    assert "have no HNSW index" in examine(many)[0].message
    assert_mended(many, [("unused-hnsw", "", 1, ())])
    break_index(pg_engine, "kdb_embedding_g1_hnsw")
    assert_mended(many, [("invalid-index", "", 1, ("kdb_embedding_g1_hnsw",))])


def test_an_hnsw_index_that_the_planner_ignores_is_reported(many: SearchEngine, pg_engine: Engine) -> None:
    assert many.admin.index_vectors()
    set_at_connect(pg_engine, "enable_indexscan = off")
    (finding,) = examine(many, fix=True)
    assert (finding.check, finding.severity, finding.is_fixed) == ("unused-hnsw", "warning", False)
    assert "leaves the HNSW index aside" in finding.message


# the command

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from kameleon import searchable

class Base(DeclarativeBase):
    pass

@searchable(fields=["title"])
class Memo(Base):
    __tablename__ = "memo"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
"""


@pytest.fixture
def run(console_script: str, tmp_path: Path) -> Run:
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "models.py").write_text(MODELS)

    def call(*arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        plain = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}
        done = subprocess.run(
            [console_script, *arguments], capture_output=True, text=True, cwd=tmp_path, env=plain, check=False
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


def test_the_command_reports_repairs_and_exits_with_its_status(run: Run, tmp_path: Path) -> None:
    run("data", "insert", "Ticket", '{"id": "1", "subject": "the parcel"}')
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'kameleon.db'}")
    run_sql(engine, "CREATE TABLE memo (id INTEGER PRIMARY KEY, title TEXT)", "INSERT INTO memo VALUES (7, 'red fox')")
    engine.dispose()
    assert "missing" not in run("doctor").stdout
    broken = run("doctor", "--import", "myapp.models", "--json", status=1)
    report = json.loads(broken.stdout)
    assert report["ok"] is False
    (missing,) = (finding for finding in report["findings"] if finding["check"] == "missing")
    assert (missing["entity"], missing["count"], missing["ids"], missing["is_fixed"]) == ("Memo", 1, ["7"], False)
    assert "error\tmissing\tMemo\t1\t7\t" in run("doctor", "--import", "myapp.models", status=1).stdout
    assert "fixed\tmissing\tMemo\t1\t7\t" in run("doctor", "--import", "myapp.models", "--fix").stdout
    healthy = json.loads(run("doctor", "--import", "myapp.models", "--json").stdout)
    assert (healthy["ok"], [f for f in healthy["findings"] if f["severity"] != "note"]) == (True, [])
    assert run("search", "fox", "--mode", "keyword").stdout.split("\t")[1:3] == ["Memo", "7"]


def test_a_missing_module_is_wrong_usage(run: Run) -> None:
    assert (
        "--import nosuch.models: No module named 'nosuch'"
        in run("doctor", "--import", "nosuch.models", status=2).stderr
    )
