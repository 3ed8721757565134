"""Rows older than an application's index: counted by the status, indexed by sync."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.testing import HashProvider

from .conftest import Make, ids
from .test_cli import Run, checked

ROWS = 1_001  # more than a page


class Base(DeclarativeBase):
    pass


@searchable(fields={"title": 2, "body": 1}, name="UnindexedPage")
class Page(Base):
    __tablename__ = "unindexed_page"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]


@searchable(fields=["text"], when=lambda draft: draft.is_public, name="UnindexedDraft")
class Draft(Base):
    __tablename__ = "unindexed_draft"

    kind: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    is_public: Mapped[bool]


@searchable(fields=["name"], name="UnindexedPet")
class Pet(Base):
    __tablename__ = "unindexed_pet"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    species: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "species", "polymorphic_identity": "pet"}  # noqa: RUF012


@searchable(fields=["name"], name="UnindexedDog")
class Dog(Pet):
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


@pytest.fixture
def rows(engine: Engine) -> Engine:
    """An application's database before its first search."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        pages = [{"title": f"page {n}", "body": "about otters"} for n in range(ROWS)]
        connection.execute(insert(Page), pages)
        drafts = [{"kind": "a b", "number": n, "text": f"draft {n}", "is_public": n % 3 == 0} for n in range(201)]
        connection.execute(insert(Draft), drafts)
        pets = [{"name": f"rex {n}", "species": ["pet", "dog"][n % 2]} for n in range(51)]
        connection.execute(insert(Pet), pets)
    return engine


EXPECTED = {"UnindexedPage": ROWS, "UnindexedDraft": 67, "UnindexedPet": 26, "UnindexedDog": 25}


def unindexed(search: SearchEngine) -> dict[str, int]:
    return {status.entity: status.unindexed for status in search.get_status() if status.unindexed}


def test_rows_from_before_are_counted_and_indexed_by_sync(rows: Engine, make: Make, provider: HashProvider) -> None:
    search = make(provider)
    assert unindexed(search) == EXPECTED
    report = search.sync(batch_size=200)
    assert (report.embedded, report.pending) == (sum(EXPECTED.values()), 0)
    assert unindexed(search) == {}
    assert {status.entity: status.indexed for status in search.get_status()} == EXPECTED
    assert ids(search.search("page 1000", limit=1)) == ["1001"]
    assert ids(search.search("draft 3", entity=Draft, mode="keyword", limit=1)) == ['["a b",3]']
    calls = len(provider.calls)
    assert search.sync().embedded == 0
    assert len(provider.calls) == calls


@pytest.mark.filterwarnings("ignore:this engine's driver")
def test_what_a_session_commits_is_not_counted(rows: Engine, make: Make) -> None:
    search = make(HashProvider())
    with search.attach(sessionmaker(rows)).begin() as session:
        session.add(Page(title="by a session", body="otters"))
    with Session(rows) as session, session.begin():
        session.add(Page(title="past the index", body="otters"))
    assert unindexed(search)["UnindexedPage"] == ROWS + 1


def test_rows_older_than_the_triggers_are_indexed_with_those_marked(rows: Engine, make: Make) -> None:
    search = make(HashProvider())
    search.track(Page)
    with rows.begin() as connection:
        connection.execute(text("INSERT INTO unindexed_page (title, body) VALUES ('marked', 'otters')"))
    search.sync()
    search.untrack(Page)
    assert unindexed(search) == {}
    assert search.get_status("UnindexedPage")[0].indexed == ROWS + 1


def test_without_its_tables_a_class_counts_nothing(make: Make) -> None:
    assert unindexed(make(HashProvider())) == {}


def test_a_class_that_cannot_be_indexed_is_passed_over(rows: Engine, make: Make) -> None:
    class Other(DeclarativeBase):
        pass

    @searchable(fields=["name"], name="UnindexedBytes")
    class _Bytes(Other):
        __tablename__ = "unindexed_bytes"

        id: Mapped[bytes] = mapped_column(primary_key=True)
        name: Mapped[str]

    assert unindexed(make(HashProvider())) == EXPECTED
    Other.registry.dispose()


MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from kameleon import searchable

class Base(DeclarativeBase):
    pass

@searchable(fields=["title"])
class Imported(Base):
    __tablename__ = "imported"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
"""


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_the_command_counts_and_indexes_them(
    engine: Engine, command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Run = checked(command)
    name = f"unindexed_models_{engine.dialect.name}"
    monkeypatch.syspath_prepend(tmp_path)
    entity = f"Unindexed{engine.dialect.name}"  # one class per process has the name
    (tmp_path / f"{name}.py").write_text(MODELS.replace("Imported", entity).replace("imported", entity.lower()))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {entity.lower()} (id INTEGER PRIMARY KEY, title TEXT NOT NULL)"))
        connection.execute(text(f"INSERT INTO {entity.lower()} VALUES (1, 'red otter'), (2, 'grey heron')"))
    SearchEngine(engine)
    url = {"KAMELEON_URL": engine.url.render_as_string(hide_password=False)}
    shown = run("embeddings", "status", "--import", name, **url)
    assert f"{entity}\t0\t0\t0\t2" in shown.stdout
    assert "`kameleon embeddings sync --import MODULE`" in shown.stderr
    status = json.loads(run("embeddings", "status", "--import", name, "--json", **url).stdout)
    assert status["totals"]["unindexed"] == 2
    assert "2 embedded" in run("embeddings", "sync", "--import", name, **url).stdout
    again = json.loads(run("embeddings", "status", "--import", name, "--json", **url).stdout)
    assert (again["totals"]["unindexed"], again["totals"]["indexed"]) == (0, 2)
