"""What an attached session's commit costs: 10,000 objects against the same commit with the index written by hand, and
by an AsyncSession; and one object against the same commit with no index at all."""

import asyncio
from collections.abc import Sequence
from statistics import median
from typing import Any

from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import SearchEngine, searchable

from .by_hand import Hand
from .corpus import passages
from .database import SQLITE, database
from .insert import AtHand
from .report import Arguments, Figures, latencies, stopwatch

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


def run(args: Arguments) -> Figures:
    """The run's own figures are those of one commit of 10,000 objects, but for the latencies, which are those of
    commits of one."""
    texts = passages(OBJECTS + 2 * (1 + COMMITS), args.seed)
    provider = AtHand(texts, args.seed)
    many, few = texts[:OBJECTS], texts[OBJECTS:]
    ours, by_hand, alone, awaited, awaited_alone = [], [], [], [], []
    for _ in range(TRIES):
        alone.append(committed(args.backend, many, None))
        by_hand.append(committed_by_hand(args.backend, many, provider))
        ours.append(committed(args.backend, many, provider))
        awaited.append(asyncio.run(committed_async(args.backend, many, provider)))
        awaited_alone.append(asyncio.run(committed_async(args.backend, many, None)))
    attached, plain = one_by_one(args.backend, few, provider)
    return {
        "rows": OBJECTS,
        "seconds": round(min(ours), 2),
        "rows_per_second": round(OBJECTS / min(ours)),
        "by_hand_seconds": round(min(by_hand), 2),
        "unattached_seconds": round(min(alone), 2),
        "times_by_hand": round(min(ours) / min(by_hand), 2),
        "async_seconds": round(min(awaited), 2),
        "async_unattached_seconds": round(min(awaited_alone), 2),
        "async_times_sync": round(median(a / b for a, b in zip(awaited, ours, strict=True)), 2),
        **latencies(attached),
        "unattached": latencies(plain),
        "added_ms": round(median(attached) - median(plain), 2),
    }


def committed(backend: str, bodies: Sequence[str], provider: AtHand | None) -> float:
    """Seconds of a commit, attached if there is a provider."""
    with database(backend) as engine:
        Base.metadata.create_all(engine)
        maker = sessionmaker(engine)
        if provider is not None:
            SearchEngine(engine, provider).attach(maker)
        objects = [Article(title="t", body=body) for body in bodies]
        with stopwatch() as watch, maker.begin() as session:
            session.add_all(objects)
    return watch.seconds


async def committed_async(backend: str, bodies: Sequence[str], provider: AtHand | None) -> float:
    """Seconds of an AsyncSession's commit, attached if there is a provider."""
    with database(backend) as engine:
        Base.metadata.create_all(engine)
        url = engine.url.set(drivername="sqlite+aiosqlite") if backend == SQLITE else engine.url
        opened = kameleon.create_async_engine(url)
        maker = async_sessionmaker(opened)
        if provider is not None:
            SearchEngine(opened, provider).attach(maker)
        objects = [Article(title="t", body=body) for body in bodies]
        with stopwatch() as watch:
            async with maker.begin() as session:
                session.add_all(objects)
        await opened.dispose()
    return watch.seconds


def committed_by_hand(backend: str, bodies: Sequence[str], provider: AtHand) -> float:
    """Seconds of a commit that writes the index by hand, in the session's own transaction."""
    with database(backend) as engine:
        Base.metadata.create_all(engine)
        hand = Hand(engine)
        hand.make_tables()
        objects = [Article(title="t", body=body) for body in bodies]
        with stopwatch() as watch, sessionmaker(engine).begin() as session:
            session.add_all(objects)
            session.flush()
            driver: Any = session.connection().connection.driver_connection
            hand.write(driver, bodies, provider.matrix[: len(bodies)])
    return watch.seconds


def one_by_one(backend: str, bodies: Sequence[str], provider: AtHand) -> tuple[list[float], list[float]]:
    """Milliseconds of commits of one object, attached and not, alternating, without the first of each, which makes the
    generation's table."""
    with database(backend) as engine:
        Base.metadata.create_all(engine)
        plain = sessionmaker(engine)
        attached = SearchEngine(engine, provider).attach(sessionmaker(engine))
        times: tuple[list[float], list[float]] = ([], [])
        for number, body in enumerate(bodies):
            with stopwatch() as watch, (plain if number % 2 else attached).begin() as session:
                session.add(Article(title="t", body=body))
            times[number % 2].append(1000 * watch.seconds)
    return times[0][1:], times[1][1:]
