"""Triggers mark the rows that raw SQL writes, and `sync` or a worker indexes what they mark."""

import json
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from kameleon import SearchEngine, Worker, searchable
from kameleon.errors import ProviderUnavailable
from kameleon.orm.callers import sessions_of
from kameleon.orm.syncing import index_marked
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

Maker = sessionmaker[Session]

SHOP = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from kameleon import searchable

class Base(DeclarativeBase):
    pass

@searchable(fields=["label"])
class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
"""


@pytest.fixture(params=["sqlite", "sqlite-vec", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Maker:
    Base.metadata.create_all(engine)
    for cls in (Note, Place, Comment, Animal):
        search.track(cls)
    return search.attach(sessionmaker(engine))


def marks(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM kdb_dirty")) or 0)


def test_raw_sql_is_indexed_when_the_marks_are_worked_off(
    maker: Maker, search: SearchEngine, provider: HashProvider, engine: Engine
) -> None:
    with maker.begin() as session:
        session.add_all(
            [Note(title="one", body="b"), Note(title="two", body="b"), Place(country="no", number=1, name="x")]
        )
    assert marks(engine) == 0
    with engine.begin() as connection:
        connection.execute(text("UPDATE note SET title = 'raw' WHERE id = 1"))
        connection.execute(text("DELETE FROM note WHERE id = 2"))
        connection.execute(text("UPDATE place SET number = 2"))
        connection.execute(insert(Note), [{"title": f"core {n}", "body": "b"} for n in range(3)])
        connection.execute(insert(Comment), [{"text": "a key of its own"}])
    assert marks(engine) == 8  # an update marks the key before where it is another after
    assert search.sync().pending == 0
    assert_index_matches(engine, search)
    assert marks(engine) == 0
    assert len(provider.calls) == 2


RELATED = {
    "UPDATE author SET name = 'x' WHERE id = 1": ["1"],
    "UPDATE tag SET label = 'x' WHERE id = 2": ["1", "2"],
    "DELETE FROM article_tag WHERE article_id = 2": ["2"],
    "INSERT INTO article_tag VALUES (2, 1)": ["2"],
    "UPDATE article_tag SET article_id = 1 WHERE tag_id = 3": ["1", "2"],
    "INSERT INTO reply VALUES (1, 2, 'a reply')": ["2"],
}


@pytest.mark.parametrize("statement", RELATED)
def test_raw_sql_of_what_a_content_depends_on_marks_its_records(
    maker: Maker, search: SearchEngine, engine: Engine, statement: str
) -> None:
    search.track(Article)
    with maker.begin() as session:
        tags = [Tag(id=number, label=f"t{number}") for number in (1, 2, 3)]
        session.add(Article(id=1, title="one", author=Author(id=1, name="a"), tags=tags[:2]))
        session.add(Article(id=2, title="two", tags=tags[1:]))
    assert marks(engine) == 0
    with engine.begin() as connection:
        connection.execute(text(statement))
        found = connection.execute(text("SELECT DISTINCT record_id FROM kdb_dirty ORDER BY 1")).scalars().all()
    assert found == RELATED[statement]
    search.sync()
    assert_index_matches(engine, search)


def test_a_transaction_that_is_rolled_back_marks_nothing(maker: Maker, engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO note (title, body, stars) VALUES ('gone', 'b', 0)"))
        connection.rollback()
    assert marks(engine) == 0


def test_inherited_rows_are_marked_whichever_of_their_tables_changes(
    maker: Maker, search: SearchEngine, engine: Engine
) -> None:
    with maker.begin() as session:
        session.add_all([Dog(name="Rex", trick="roll"), Cat(name="Tom", purr="loud"), Bird(name="Ada")])
    with engine.begin() as connection:
        connection.execute(text("UPDATE animal SET name = name || '!'"))
        connection.execute(text("UPDATE dog SET trick = 'sit'"))
        connection.execute(text("UPDATE bird SET name = 'Bea'"))
    Worker(search).run()
    assert set(index(engine).values()) == {"Rex!", "Tom!\nloud", "Bea"}
    assert_index_matches(engine, search)


def test_a_sessions_own_writes_leave_no_marks(maker: Maker, engine: Engine) -> None:
    with maker.begin() as session:
        session.add(Note(title="one", body="b"))
    with maker.begin() as session:
        session.query(Note).one().stars = 4
        session.query(Note).one().title = "two"
    with maker.begin() as session:
        session.execute(delete(Note))
    assert marks(engine) == 0


def test_a_row_edited_while_its_mark_is_worked_off_is_indexed_as_edited(
    maker: Maker, search: SearchEngine, provider: HashProvider, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with maker.begin() as session:
        session.add(Note(title="one", body="b"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE note SET title = 'first'"))
    once: list[Callable[[], None]] = [lambda: edit("second"), lambda: None]

    def edit(title: str) -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE note SET title = :title"), {"title": title})

    embed = provider.embed_batch

    def interrupted(texts: Sequence[str]) -> Any:
        once.pop(0)()
        return embed(texts)

    monkeypatch.setattr(provider, "embed_batch", interrupted)
    Worker(search).run()
    assert_index_matches(engine, search)
    assert marks(engine) == 0


def test_marks_of_classes_that_are_not_here_are_kept_and_named(
    maker: Maker, search: SearchEngine, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO kdb_dirty (entity_name, record_id) VALUES ('Elsewhere', '1')"))
    with maker.begin() as session:
        session.add(Note(title="one", body="b"))
    assert search.sync().embedded == 0
    assert "rows of Elsewhere are marked" in search.get_status()[0].note
    assert marks(engine) == 1


def test_the_command_works_off_marks_with_the_applications_classes(
    console_script: str, tmp_path: Path, file_engine: Engine
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with file_engine.begin() as connection:
        connection.execute(text("CREATE TABLE product (id INTEGER PRIMARY KEY, label TEXT NOT NULL)"))
    namespace: dict[str, Any] = {}
    exec(compile(SHOP, "shop.py", "exec"), namespace)  # noqa: S102 - the same module, for the trigger
    search = SearchEngine(file_engine, "static")
    search.track(namespace["Product"])
    with file_engine.begin() as connection:
        connection.execute(text("INSERT INTO product (label) VALUES ('red fox')"))
    command = [console_script, "-d", str(file_engine.url), "embeddings", "sync", "--json"]
    done = subprocess.run([*command, "--import", "shop"], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout)["embedded"] == 1
    assert index(file_engine) == {("Product", "1"): "red fox"}
    missing = subprocess.run([*command, "--import", "nowhere"], cwd=tmp_path, capture_output=True, check=False)
    assert missing.returncode == 2
    assert b"--import nowhere" in missing.stderr


def test_tracking_ends_with_its_triggers(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    search.track(Note)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note (title, body, stars) VALUES ('x', 'b', 0)"))
    assert marks(engine) == 1
    search.untrack(Note)
    with engine.begin() as connection:
        connection.execute(text("UPDATE note SET title = 'unseen'"))
    assert marks(engine) == 0


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_truncated_table_takes_its_records_along(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    with maker.begin() as session:
        session.add_all([Note(title="one", body="b"), Note(title="two", body="b")])
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE note"))
        connection.execute(text("INSERT INTO note (title, body, stars) VALUES ('new', 'b', 0)"))
    search.sync()
    assert_index_matches(engine, search)
    assert list(index(engine).values()) == ["new\nb"]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_any_role_that_may_write_the_table_may_mark_its_rows(
    maker: Maker, search: SearchEngine, engine: Engine
) -> None:
    with engine.begin() as connection:
        schema = connection.scalar(text("SELECT current_schema()"))
        connection.execute(text("DROP ROLE IF EXISTS kdb_writer"))
        connection.execute(text("CREATE ROLE kdb_writer"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO kdb_writer"))
        connection.execute(text("GRANT INSERT ON note TO kdb_writer"))
        connection.execute(text("GRANT USAGE ON SEQUENCE note_id_seq TO kdb_writer"))
        connection.execute(text("SET LOCAL ROLE kdb_writer"))
        connection.execute(text("SET LOCAL search_path = pg_catalog"))
        connection.execute(text(f"INSERT INTO {schema}.note (title, body, stars) VALUES ('by another role', 'b', 0)"))
    search.sync()
    assert_index_matches(engine, search)
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY kdb_writer"))
        connection.execute(text("DROP ROLE kdb_writer"))


def raw_notes(engine: Engine, count: int) -> None:
    with engine.begin() as connection:
        rows = [{"id": n, "title": f"raw {n}"} for n in range(1, count + 1)]
        connection.execute(text("INSERT INTO note (id, title, body, stars) VALUES (:id, :title, 'b', 0)"), rows)


def test_several_workers_embed_each_marked_row_once(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    """Each worker has claimed a batch before any of them continues."""
    providers = [Together(Barrier(3)) for _ in range(3)]
    for provider in providers:
        provider.barrier = providers[0].barrier
    raw_notes(engine, 300)
    workers = [
        Worker(SearchEngine(engine, provider, namespace=search.namespace), batch_size=100) for provider in providers
    ]
    for worker in workers:
        worker.search.attach(sessionmaker(engine))
        assert sessions_of(worker.search.index).mappings.of(Note)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda worker: worker.run(), workers))
    texts = [text for provider in providers for call in provider.calls for text in call]
    assert (len(texts), len(set(texts))) == (300, 300)
    assert marks(engine) == 0
    assert_index_matches(engine, search)


class Together(HashProvider):
    """Its first call waits for those of others."""

    def __init__(self, barrier: Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def embed_batch(self, texts: Sequence[str]) -> Any:
        if not self.calls:
            self.barrier.wait(60)
        return super().embed_batch(texts)


def test_a_killed_workers_claim_expires(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    raw_notes(engine, 3)
    assert len(claimed(search, "killed", timedelta(hours=1))) == 3
    assert Worker(search).run().indexed == 0
    with engine.begin() as connection:
        connection.execute(update(search.index.tables.dirty).values(due_at=datetime.now(UTC)))
    assert Worker(search).run().indexed == 3
    assert marks(engine) == 0


def claimed(search: SearchEngine, worker: str, lease: timedelta) -> Any:
    assert sessions_of(search.index).mappings.of(Note)
    tracking = sessions_of(search.index).tracking
    return search.index.committed(partial(tracking._claim, limit=9, worker=worker, lease=lease, takes_over=False))


def test_sync_takes_over_what_a_killed_worker_claimed(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    raw_notes(engine, 3)
    assert len(claimed(search, "killed", timedelta(hours=1))) == 3
    assert search.sync().indexed == 3
    assert marks(engine) == 0


def test_a_row_that_changes_again_is_one_claim_until_it_is_worked_on(
    maker: Maker, search: SearchEngine, engine: Engine
) -> None:
    raw_notes(engine, 2)
    with engine.begin() as connection:
        connection.execute(text("UPDATE note SET title = 'again' WHERE id = 1"))
    assert [mark.ref.id for mark in claimed(search, "one", timedelta(hours=1))] == ["1", "2"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE note SET title = 'once more' WHERE id = 1"))
    assert claimed(search, "two", timedelta(hours=1)) == []


class Down(HashProvider):
    def embed_batch(self, texts: Sequence[str]) -> Any:
        raise ProviderUnavailable("down")


def test_what_fails_is_claimed_no_more(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    raw_notes(engine, 2)
    broken = SearchEngine(engine, Down(), on_provider_error="raise", namespace=search.namespace)
    broken.attach(sessionmaker(engine))
    assert sessions_of(broken.index).mappings.of(Note)
    with pytest.raises(ProviderUnavailable):
        Worker(broken).run()
    assert Worker(search).run().indexed == 2


def memos() -> tuple[Any, Any, Any]:
    class Other(DeclarativeBase):
        pass

    @searchable(fields=["title"])
    class Memo(Other):
        __tablename__ = "memo"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    @searchable(fields=["title"])
    class Far(Other):
        __tablename__ = "memo"
        __table_args__ = {"schema": "far"}  # noqa: RUF012

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    return Other, Memo, Far


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", ["tenant", "o'brien $1 \\\\ É"])
def test_triggers_are_on_the_tables_that_a_schema_translate_map_names(engine: Engine, schema: str, name: str) -> None:
    """Of a table without a schema, and of one with: other tenants' rows are not marked."""
    base, *tracked = memos()
    quoted, far = (
        engine.dialect.identifier_preparer.quote(one) for one in (f"{schema} {name}", f"{schema} far {name}")
    )
    with engine.begin() as connection:
        for one in (quoted, far):
            connection.exec_driver_sql(f"CREATE SCHEMA {one}")
        connection.exec_driver_sql("CREATE TABLE memo (id int PRIMARY KEY, title text)")
    mapped = engine.execution_options(schema_translate_map={None: f"{schema} {name}", "far": f"{schema} far {name}"})
    base.metadata.create_all(mapped)
    search = SearchEngine(mapped)
    for cls in tracked:
        search.track(cls)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO memo VALUES (1, 'of another')")
        connection.exec_driver_sql(f"INSERT INTO {quoted}.memo VALUES (2, 'nearby')")
        connection.exec_driver_sql(f"INSERT INTO {far}.memo VALUES (3, 'far')")
    assert index_marked(search.index) is not None
    assert [(hit.entity, hit.id) for hit in search.search("another nearby far")] == [("Far", "3"), ("Memo", "2")]
    for cls in tracked:
        search.untrack(cls)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {quoted}.memo SET title = 'unseen'")
    assert index_marked(search.index) is None
    with engine.begin() as connection:
        for one in (quoted, far):
            connection.exec_driver_sql(f"DROP SCHEMA {one} CASCADE")
