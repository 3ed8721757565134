"""Folds after the commits of an application, on databases in files, in memory and on a server."""

import pytest
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.keywords.folding import FOLD_FROM
from kameleon.keywords.index import CHECKED_FROM

from .conftest import with_citus


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class Note(Base):
    __tablename__ = "folded_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture(params=with_citus("sqlite", "sqlite-memory", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def search(engine: Engine) -> SearchEngine:
    Base.metadata.create_all(engine)
    return SearchEngine(engine, None)


@pytest.fixture
def maker(search: SearchEngine, engine: Engine) -> sessionmaker[Session]:
    return search.attach(sessionmaker(engine))


def rows(search: SearchEngine) -> tuple[int, int]:
    """Of the tail, and live segments."""
    tables = search.index.tables.keywords
    with search.index.reading() as connection:
        tail = connection.scalar(select(func.count()).select_from(tables.tail))
        segments = connection.scalar(select(func.count()).where(tables.segment.c.state == 0))
    return int(tail or 0), int(segments or 0)


def test_commits_of_one_object_are_folded(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    for number in range(FOLD_FROM + CHECKED_FROM):
        with maker.begin() as session:
            session.add(Note(text=f"fox {number}"))
    tail, segments = rows(search)
    assert segments == 1
    assert tail < FOLD_FROM
    last = FOLD_FROM + CHECKED_FROM - 1
    assert [hit.id for hit in search.search(f"fox {last}", limit=1, mode="keyword")] == [str(last + 1)]


def test_calls_of_one_record_are_folded(search: SearchEngine) -> None:
    for number in range(FOLD_FROM + CHECKED_FROM):
        search.index_record("Note", str(number), f"fox {number}")
    assert rows(search)[1] == 1


def test_a_fold_leaves_an_open_transaction_as_it_is(
    search: SearchEngine, engine: Engine, maker: sessionmaker[Session]
) -> None:
    """Of an application whose connection a database in memory shares with the fold."""
    with maker.begin() as session:
        session.add_all(Note(text=f"fox {number}") for number in range(CHECKED_FROM))
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(insert(Note), [{"text": "not committed"}])
        search.index.keywords.maintain_all(purges=True)
        assert connection.scalar(select(func.count()).select_from(Note)) == CHECKED_FROM + 1
        transaction.rollback()
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Note)) == CHECKED_FROM


def test_records_that_are_inserted_are_folded(search: SearchEngine) -> None:
    store = RecordStore(search)
    for start in range(0, FOLD_FROM + CHECKED_FROM, 20):
        store.insert("Film", [{"id": str(n), "title": f"the fox {n}"} for n in range(start, start + 20)])
    tail, segments = rows(search)
    assert segments == 1
    assert tail < FOLD_FROM
