"""Fields of mapped classes that are declared otherwise than their records were indexed, and records indexed again."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import kameleon
from kameleon import Field, RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider

from .conftest import Done, Make, schema_on, url_in

QUERIES = ("red fox", "whale", "fox whale lamp", "seven")
WORDS = ("red", "fox", "whale", "lamp", "sea", "grey", "otter", "seven")
COUNT = 40


class Base(DeclarativeBase):
    pass


class Article(Base):
    __tablename__ = "weighted_article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    team: Mapped[str] = mapped_column(default="a")
    kind: Mapped[str] = mapped_column(default="article")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "article"}  # noqa: RUF012


class Report(Article):
    __mapper_args__ = {"polymorphic_identity": "report"}  # noqa: RUF012


def declare(fields: Any, **options: Any) -> None:
    searchable(fields=fields, name="Weighted", **options)(Article)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def search(engine: Engine, make: Make, provider: HashProvider) -> Iterator[SearchEngine]:
    """An index of articles of equal weights."""
    declare({"title": 1, "body": 1})
    Base.metadata.create_all(engine)
    made = make(provider)
    fill(made, engine)
    yield made
    declare({"title": 1, "body": 1})


def fill(search: SearchEngine, engine: Engine, count: int = COUNT) -> None:
    with search.attach(sessionmaker(engine)).begin() as session:
        for n in range(count):
            cls = Report if n % 5 == 0 else Article
            title, body = (f"{WORDS[n % 8]} {WORDS[n * step % 7]}" for step in (3, 5))
            session.add(cls(title=title, body=f"<b>{body}</b> & {WORDS[n % 3]}", team="ab"[n % 2]))


@pytest.fixture
def fresh(engine: Engine, backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SearchEngine]:
    """An index of no records, in a database or schema of its own."""
    with ExitStack() as stack:
        url: Any = f"sqlite:///{tmp_path / 'fresh.db'}"
        if backend == "postgresql":
            server = request.getfixturevalue("server")
            url = url_in(server, stack.enter_context(schema_on(server)))
        opened = create_engine(url) if backend == "postgresql" else kameleon.create_engine(url)
        stack.callback(opened.dispose)
        Base.metadata.create_all(opened)
        yield SearchEngine(opened, HashProvider())


def scores(search: SearchEngine, **options: Any) -> list[list[tuple[str, float]]]:
    found = [search.search(query, entity="Weighted", limit=COUNT, **options) for query in QUERIES]
    assert all(results.total for results in found)
    return [[(hit.id, hit.score) for hit in results] for results in found]


def notes(search: SearchEngine) -> str:
    return " ".join(status.note for status in search.get_status())


def embedded(provider: HashProvider) -> int:
    return sum(map(len, provider.calls))


CHANGES: dict[str, tuple[Any, bool]] = {
    "weights": ({"title": 3, "body": 1}, False),
    "for keywords alone": ({"title": Field(index="keyword"), "body": 1}, True),
    "for vectors alone": ({"title": 1, "body": Field(index="vector")}, True),
    "html": ({"title": 1, "body": Field(html=True)}, True),
    "order": (["body", "title"], True),
    "fewer": (["title"], True),
    "more, with weights": ({"title": 2, "body": 1, "team": Field(weight=4, index="keyword")}, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_scores_are_those_of_an_index_made_with_the_new_declaration(
    search: SearchEngine, fresh: SearchEngine, provider: HashProvider, change: str
) -> None:
    before = scores(search, mode="keyword")
    fields, is_embedded = CHANGES[change]
    declare(fields)
    assert "Weighted is declared otherwise" in notes(search)
    calls = embedded(provider)
    report = search.sync(batch_size=7)
    assert (report.indexed, report.failed, report.pending) == (COUNT, 0, 0)
    assert (embedded(provider) > calls) is is_embedded
    assert notes(search) == ""
    fill(fresh, fresh.engine)
    for mode in ("keyword", "vector", "hybrid"):
        assert scores(search, mode=mode) == scores(fresh, mode=mode), mode
    assert (scores(search, mode="keyword") == before) is (change in ("for keywords alone", "html", "order"))
    again = search.sync()
    assert (again.indexed, again.unchanged) == (0, 0)
    assert [found for found in examine(search) if found.entity] == []


def test_a_commit_writes_by_the_new_declaration_and_warns_once(
    search: SearchEngine, engine: Engine, provider: HashProvider, caplog: pytest.LogCaptureFixture
) -> None:
    declare({"title": 3, "body": 1})
    sessions = search.attach(sessionmaker(engine))
    calls = embedded(provider)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with sessions.begin() as session:
                session.get_one(Article, 2).kind = "article"
                session.add(Article(title="heron", body="in the reeds"))
                session.get_one(Article, 3).title += "!"
    warnings = [record.message for record in caplog.records if "Weighted" in record.message]
    assert len(warnings) == 1
    assert "(title): `kameleon entity update Weighted --import MODULE`" in warnings[0]
    assert embedded(provider) == calls + 6  # those with new texts
    assert search.sync().indexed == COUNT - 1
    assert notes(search) == ""


def test_a_touched_record_of_another_weight_is_not_embedded_again(
    search: SearchEngine, engine: Engine, provider: HashProvider
) -> None:
    search.cache.clear()
    declare({"title": 3, "body": 1})
    calls = embedded(provider)
    with search.attach(sessionmaker(engine)).begin() as session:
        for article in session.query(Article):
            article.title, article.body = f"{article.title} ", article.body
        session.flush()
        for article in session.query(Article):
            article.title = article.title[:-1]
    assert embedded(provider) == calls
    assert search.sync().unchanged == COUNT


def test_commits_read_the_declaration_once(search: SearchEngine, engine: Engine) -> None:
    sessions = search.attach(sessionmaker(engine))
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
    for n in range(4):
        with sessions.begin() as session:
            session.add(Article(title=f"heron {n}", body="in the reeds"))
    assert seen
    assert sum("kdb_class" in statement for statement in seen) == 1


def test_a_declaration_that_was_rolled_back_is_noted_by_the_next_commit(engine: Engine, make: Make) -> None:
    declare({"title": 1, "body": 1})
    Base.metadata.create_all(engine)
    search = make(HashProvider())
    with search.attach(sessionmaker(engine))() as session:
        for ends in (session.rollback, session.commit):
            session.add(Article(title="heron", body="in the reeds"))
            search.flush(session)
            session.add(Article(title="stork", body="on a roof"))
            search.flush(session)
            ends()
    declare({"title": 2, "body": 1})
    assert "(title)" in notes(search)


def test_an_interrupted_run_is_completed_by_the_next(search: SearchEngine, provider: HashProvider) -> None:
    declare({"title": 3, "body": 1})

    def interrupt(done: int, _total: int) -> None:
        if done > COUNT / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.sync(batch_size=15, progress=interrupt)
    assert "not all again" in notes(search)
    counted: list[tuple[int, int]] = []
    report = search.admin.index_class(Report, batch_size=15, progress=lambda *given: counted.append(given))
    assert (report.indexed, report.unchanged, report.embedded) == (10, 30, 0)
    assert counted == [(15, COUNT), (30, COUNT), (40, COUNT)]
    assert notes(search) == ""


def test_a_process_of_another_version_notes_that_records_are_mixed(
    search: SearchEngine, engine: Engine, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = search.attach(sessionmaker(engine))
    with sessions.begin() as session:
        session.add(Article(title="heron", body="in the reeds"))
    newer = make(HashProvider())
    declare({"title": 3, "body": 1})
    assert newer.sync().indexed == COUNT + 1
    declare({"title": 1, "body": 1})  # the process that still runs
    with caplog.at_level(logging.WARNING), sessions.begin() as session:
        session.add(Article(title="stork", body="on a roof"))
    assert [record.message for record in caplog.records if "Weighted is declared otherwise" in record.message]
    declare({"title": 3, "body": 1})
    assert "by another declaration" in notes(newer)
    assert [found.check for found in examine(newer) if found.entity] == ["redeclared", "stale"]
    assert newer.sync().indexed == 1
    assert notes(newer) == ""


def test_a_process_of_another_version_that_writes_during_a_run(
    search: SearchEngine, engine: Engine, make: Make
) -> None:
    sessions = make(HashProvider()).attach(sessionmaker(engine))
    with sessions.begin() as session:
        session.add(Article(title="heron", body="in the reeds"))
    declare({"title": 3, "body": 1})

    def write(done: int, total: int) -> None:
        if done == total:
            declare({"title": 1, "body": 1})
            with sessions.begin() as session:
                session.add(Article(title="stork", body="on a roof"))
            declare({"title": 3, "body": 1})

    search.admin.index_class("Weighted", progress=write)
    assert "by another declaration" in notes(search)
    assert search.sync().indexed == 1
    assert notes(search) == ""


def changing(provider: HashProvider, change: Callable[[], object]) -> Callable[[str], None]:
    """Makes a change while a batch of more than four texts is embedded."""
    seen: list[list[str]] = []

    def refuse(_text: str) -> None:
        texts = provider.calls[-1]
        if len(texts) > 4 and not any(texts is each for each in seen):
            seen.append(texts)
            change()

    return refuse


def test_a_class_is_indexed_again_though_its_rows_change_in_each_attempt(
    search: SearchEngine, engine: Engine, provider: HashProvider
) -> None:
    sessions = search.attach(sessionmaker(engine))
    changes: list[int] = []

    def change() -> None:
        with sessions.begin() as session:
            session.get_one(Article, 1).title += " again"
        changes.append(1)

    declare(["title"])
    provider.refuse = changing(provider, change)
    assert search.admin.index_class(Article).indexed == COUNT - 1
    assert len(changes) > 2
    assert [found for found in examine(search) if found.entity] == []


def test_an_entity_is_indexed_again_though_its_records_change_in_each_attempt(
    search: SearchEngine, provider: HashProvider
) -> None:
    records = RecordStore(search)
    records.insert("Doc", [{"id": str(n), "title": f"red {n} fox", "body": "a whale sings"} for n in range(COUNT)])
    changes = iter(range(100))
    provider.refuse = changing(provider, lambda: records.update("Doc", "0", {"title": f"red fox {next(changes)}"}))
    assert records.alter_entity("Doc", unsearch=["body"]).index.indexed == COUNT - 1
    assert next(changes) > 2
    assert [found for found in examine(search) if found.entity] == []


def test_records_that_when_keeps_out_are_deleted(search: SearchEngine) -> None:
    declare({"title": 1, "body": 1}, when=lambda article: article.kind == "report")
    assert "(when)" in notes(search)
    assert search.sync().unchanged == COUNT / 5
    assert [status.indexed for status in search.get_status()] == [COUNT / 5]
    declare({"title": 1, "body": 1}, when=lambda article: article.kind == "article")
    assert notes(search) == ""
    assert search.admin.index_class(Article).indexed == COUNT * 4 / 5
    assert [status.indexed for status in search.get_status()] == [COUNT * 4 / 5]


def test_content_that_is_made_in_python(search: SearchEngine, provider: HashProvider) -> None:
    declare(["title"], content=lambda article: article.title.upper())
    assert "(body, content)" in notes(search)
    report = search.sync()
    assert (report.indexed, report.pending) == (COUNT, 0)
    assert search.admin.index_class("Weighted").unchanged == COUNT


def test_tenants_are_given_changed_and_taken_away(search: SearchEngine, provider: HashProvider) -> None:
    calls = embedded(provider)
    for tenant, expected in (("team", {"a": 20, "b": 20}), ("kind", {"article": 32, "report": 8}), (None, {"": COUNT})):
        declare({"title": 1, "body": 1}, tenant=tenant)
        assert "(tenant)" in notes(search)
        search.sync()
        assert notes(search) == ""
        counts = {name: search.get_status(tenant=name)[0].indexed for name in expected}
        assert counts == expected
        assert search.get_status()[0].indexed == COUNT
    assert embedded(provider) == calls


def test_tenants_keep_their_records_and_a_sync_of_one_indexes_no_class_again(
    search: SearchEngine, provider: HashProvider
) -> None:
    declare({"title": 1, "body": 1}, tenant="team")
    search.sync()
    declare({"title": 3, "body": 1}, tenant="team")
    assert search.sync(tenant="a").indexed == 0
    assert "(title)" in notes(search)
    assert search.sync().indexed == COUNT
    assert search.for_tenant("b").get_status()[0].indexed == COUNT / 2


def test_marked_rows_are_indexed_by_the_new_declaration(
    search: SearchEngine, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    search.track(Article)
    with engine.begin() as connection:
        connection.execute(text("UPDATE weighted_article SET title = 'heron' WHERE id = 3"))
    declare({"title": 3, "body": 1})
    with caplog.at_level(logging.WARNING):
        assert search.sync().indexed == COUNT
    assert not [record for record in caplog.records if "Weighted" in record.message]
    search.untrack(Article)
    assert notes(search) == ""


def test_records_of_an_unknown_declaration_are_indexed_again(search: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM kdb_class"))
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add(Article(title="heron", body="in the reeds"))
    assert "is not known" in notes(search)
    assert search.sync().unchanged == COUNT + 1
    assert notes(search) == ""


def test_a_rebuilt_index_remembers_what_its_contents_hold(search: SearchEngine, engine: Engine, make: Make) -> None:
    of_another_version = text("UPDATE kdb_meta SET value = '0' WHERE key = 'schema_version'")
    for fields, problem in (({"title": 1, "body": 1}, ""), ({"title": 3, "body": 1}, "is not known")):
        declare(fields)
        search.sync()
        before = scores(search, mode="keyword")
        with engine.begin() as connection:
            connection.execute(of_another_version)
        assert kameleon.rebuild(engine).is_done
        rebuilt = make(HashProvider())
        assert problem in notes(rebuilt)
        assert bool(notes(rebuilt)) is bool(problem)
        report = rebuilt.sync()
        assert (report.indexed, report.embedded) == (COUNT if problem else 0, 0)
        assert scores(rebuilt, mode="keyword") == before


def test_the_doctor_indexes_a_class_again(search: SearchEngine, provider: HashProvider) -> None:
    declare({"title": 3, "body": 1})
    calls = embedded(provider)
    found = {finding.check: finding for finding in examine(search) if finding.entity}
    assert (found["redeclared"].severity, found["stale"].count) == ("warning", COUNT)
    assert found["redeclared"].cure.startswith("`kameleon entity update Weighted")
    of_one = [(finding.check, finding.is_fixed) for finding in examine(search, tenant="") if finding.entity]
    assert of_one == [("redeclared", False), ("stale", False)]
    assert [(each.check, each.is_fixed) for each in examine(search, fix=True) if each.entity] == [("redeclared", True)]
    assert [finding for finding in examine(search) if finding.entity] == []
    assert embedded(provider) == calls


def test_after_an_outage_the_rest_is_pending(search: SearchEngine, provider: HashProvider) -> None:
    search.cache.clear()
    declare(["title"])
    provider.refuse = refuse_all
    report = search.admin.index_class(Article, batch_size=10)
    assert (report.indexed, report.pending) == (COUNT, COUNT)
    assert report.outage
    provider.refuse = None
    assert search.sync().pending == 0


def refuse_all(_text: str) -> Exception:
    raise kameleon.errors.ProviderUnavailable("down")


def test_classes_that_are_not_here_are_refused(search: SearchEngine) -> None:
    for given in ("Nothing", Base, 7):
        with pytest.raises(InvalidInput, match="searchable"):
            search.admin.index_class(given)


@pytest.mark.parametrize("backend", ["aiosqlite", "psycopg-async"])
def test_an_asynchronous_engine(engine: Engine, make: Make, provider: HashProvider) -> None:
    """Runs in a greenlet of an event loop; see conftest."""
    from sqlalchemy.util import await_only

    async def commit(search: SearchEngine) -> None:
        async with AsyncEngine(engine).begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        sessions: async_sessionmaker[AsyncSession] = search.attach(async_sessionmaker(AsyncEngine(engine)))
        async with sessions() as session, session.begin():
            session.add(Article(title="heron", body="in the reeds"))

    declare({"title": 1, "body": 1})
    search = make(provider)
    await_only(commit(search))
    declare({"title": 3, "body": 1})
    await_only(commit(search))
    calls = embedded(provider)
    assert search.sync().indexed == 1
    assert embedded(provider) == calls
    assert notes(search) == ""
    declare({"title": 1, "body": 1})
    search.close()


MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from kameleon import searchable

class Base(DeclarativeBase):
    pass

@searchable(fields={"title": 2})
class ENTITY(Base):
    __tablename__ = "TABLE"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
"""


def test_the_command_indexes_a_class_again(
    engine: Engine, command: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"weighted_models_{engine.dialect.name}"
    entity = f"Weighted{engine.dialect.name}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(MODELS.replace("ENTITY", entity).replace("TABLE", entity.lower()))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {entity.lower()} (id INTEGER PRIMARY KEY, title TEXT NOT NULL)"))
        connection.execute(text(f"INSERT INTO {entity.lower()} VALUES (1, 'red otter'), (2, 'grey heron')"))
    SearchEngine(engine)

    def run(*arguments: str) -> Done:
        url = engine.url.render_as_string(hide_password=False)
        return command(*arguments, environment={"KAMELEON_URL": url})

    assert "mapped class is found with --import MODULE" in run("entity", "update", entity).stderr
    update = ("entity", "update", entity, "--import", name)
    assert run("embeddings", "sync", "--import", name).returncode == 0
    searchable(fields={"title": 5})(getattr(sys.modules[name], entity))
    assert f"`kameleon entity update {entity}" in run("embeddings", "status", "--import", name).stderr
    shown = json.loads(run(*update, "--json").stdout)
    assert shown == {
        "name": entity,
        **dict.fromkeys(("embedded", "failed", "pending", "reused", "unchanged"), 0),
        "indexed": 2,
    }
    assert run(*update).stdout == f"{entity}: 0 records indexed again, 0 embedded\n"
    refused = run(*update, "--search", "title:3")
    assert (refused.returncode, "changed in its declaration" in refused.stderr) == (2, True)
