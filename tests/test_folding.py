"""The tail of the keyword index is folded after commits. Each test runs on each database and kind of session."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import Worker, searchable
from kameleon.keywords.folding import FOLD_FROM
from kameleon.keywords.index import CHECKED_FROM

from .conftest import Make, ids, with_async


@pytest.fixture(params=with_async("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_commits_of_sessions_fold_the_tail(make: Make) -> None:
    class Base(DeclarativeBase):
        pass

    @searchable(fields=["words"])
    class Memo(Base):
        __tablename__ = "memo"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[str]

    search = make(None)
    with search.engine.begin() as connection:
        Base.metadata.create_all(connection)
    sessions = search.attach(sessionmaker(search.engine))
    for start in range(0, FOLD_FROM + 2 * CHECKED_FROM, 8):
        with sessions.begin() as session:
            session.add_all([Memo(id=n, words=f"memo number{n}") for n in range(start, start + 8)])
    assert count(search.engine, "kdb_tail") < FOLD_FROM
    assert count(search.engine, "kdb_segment") == 1
    found = search.search("memo", mode="keyword", count=True)
    assert (found.total, found.exact) == (FOLD_FROM + 2 * CHECKED_FROM, True)


def test_writes_of_the_engine_s_own_fold_the_tail(make: Make, engine: Engine) -> None:
    search = make(None)
    for start in range(0, FOLD_FROM + CHECKED_FROM, CHECKED_FROM):
        search.index_records_batch([("N", str(n), f"note of {n}") for n in range(start, start + CHECKED_FROM)])
    assert (count(engine, "kdb_tail"), count(engine, "kdb_segment")) == (CHECKED_FROM, 1)
    search.delete_records([("N", str(n)) for n in range(CHECKED_FROM)])
    assert ids(search.search("note", mode="keyword", limit=1000)) != []
    assert search.search("note", mode="keyword", count=True).total == FOLD_FROM


def test_sync_and_workers_fold_what_others_left(make: Make, engine: Engine) -> None:
    for attempt in ("sync", "worker"):
        search = make(None)
        with engine.connect() as connection:
            for n in range(FOLD_FROM):
                search.index_record(attempt, str(n), f"note {n}", connection=connection)
            connection.commit()
        if attempt == "sync":
            make("static").sync()
        else:
            Worker(make("static")).run()
        with engine.connect() as connection:
            left = connection.execute(text(f"SELECT count(*) FROM kdb_tail WHERE entity_name = '{attempt}'"))
            assert left.scalar_one() == 0
        assert len(make(None).search("note", entity=attempt, mode="keyword", limit=1000)) == FOLD_FROM
