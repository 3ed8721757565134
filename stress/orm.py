"""What an attached session's commit costs: 10,000 objects against the same commit with the index written by hand, and
one object against the same commit with no index at all."""

import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from kameleon import SearchEngine, create_engine, searchable

from .corpus import passages
from .database import postgresql
from .insert import BY_HAND, POSTGRESQL_BY_HAND, AtHand, write_by_hand, write_rows_by_hand
from .report import line, stopwatch

OBJECTS = 10_000
COMMITS = 300
TRIES = 5


class Base(DeclarativeBase):
    pass


@searchable(fields=["body"])
class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]


Maker = sessionmaker[Session]
ByHand = Callable[[Any, Sequence[str], AtHand], None]


def run(_rows: int, seed: int) -> Iterator[str]:
    texts = passages(OBJECTS + 2 * COMMITS, seed)
    provider = AtHand(texts, seed)
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'orm.db'}")
        yield from measured("SQLite", engine, texts, provider, write_by_hand)
        engine.dispose()
    with postgresql() as engine:
        yield from measured("PostgreSQL", engine, texts, provider, write_rows_by_hand)


def measured(name: str, engine: Engine, texts: Sequence[str], provider: AtHand, by_hand: ByHand) -> Iterator[str]:
    plain = sessionmaker(engine)
    many, few = texts[:OBJECTS], texts[OBJECTS:]
    hand, ours, alone = [], [], []
    for _ in range(TRIES):
        fresh(engine)
        alone.append(commit_all(plain, many))
        fresh(engine)
        hand.append(commit_by_hand(plain, many, provider, by_hand))
        fresh(engine)
        ours.append(commit_all(SearchEngine(engine, provider).attach(sessionmaker(engine)), many))
    yield line(
        f"commit of many objects, {name}",
        objects=OBJECTS,
        seconds=round(min(ours), 2),
        unattached_seconds=round(min(alone), 2),
        unattached_and_hand_written_seconds=round(min(hand), 2),
        cost_to_hand_written=round(min(ours) / min(hand), 2),
    )
    attached = SearchEngine(engine, provider).attach(sessionmaker(engine))
    times: dict[bool, list[float]] = {True: [], False: []}
    for n, body in enumerate(few):
        with stopwatch() as watch, (attached if n % 2 else plain).begin() as session:
            session.add(Article(title="t", body=body))
        times[bool(n % 2)].append(1000 * watch.seconds)
    yield line(
        f"commit of one object, {name}",
        commits=COMMITS,
        ms=round(statistics.median(times[True]), 2),
        unattached_ms=round(statistics.median(times[False]), 2),
        added_ms=round(statistics.median(times[True]) - statistics.median(times[False]), 2),
    )


def fresh(engine: Engine) -> None:
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        if is_sqlite:
            names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
            for table in [n for n in names if n in ("search_fts", "kdb_search_fts", "kdb_search_vocab")]:
                connection.exec_driver_sql(f"DROP TABLE {table}")
            for table in [n for n in names if not n.startswith(("sqlite_", "search_fts", "kdb_search_"))]:
                connection.exec_driver_sql(f"DROP TABLE {table}")
        else:
            names = (
                connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"))
                .scalars()
                .all()
            )
            for table in names:
                connection.exec_driver_sql(f"DROP TABLE {table} CASCADE")
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            driver.executescript(BY_HAND)
        else:
            driver.execute(POSTGRESQL_BY_HAND)
            driver.commit()


def commit_all(maker: Maker, bodies: Sequence[str]) -> float:
    objects = [Article(title="t", body=body) for body in bodies]
    with stopwatch() as watch, maker.begin() as session:
        session.add_all(objects)
    return watch.seconds


def commit_by_hand(maker: Maker, bodies: Sequence[str], provider: AtHand, by_hand: ByHand) -> float:
    objects = [Article(title="t", body=body) for body in bodies]
    with stopwatch() as watch, maker.begin() as session:
        session.add_all(objects)
        session.flush()
        by_hand(session.connection().connection.driver_connection, bodies, provider)
    return watch.seconds
