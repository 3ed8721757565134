"""What steering the order costs: searches with boosts, caps, diversity, pins and snippets beside plain ones, of
stored records and of a mapped class; and what diversity takes from nDCG@10 on judged collections."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import mean
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.embeddings import StaticProvider
from kameleon.metrics import ndcg

from .corpus import passages
from .database import POSTGRESQL, database
from .quality import COLLECTIONS, IR, read
from .report import Arguments, Figures, latencies, stopwatch
from .search import ROWS_A_CALL, questions, statements, timed

BOOSTS = [
    {"field": "orders", "half": 100},
    {"field": "made", "half_life": "90d"},
    {"where": {"in_stock": True}, "factor": 1.2},
]
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "one_boost": {"boost": BOOSTS[:1]},
    "three_boosts": {"boost": BOOSTS},
    "limit_by": {"limit_by": {"maker": 1}},
    "diversity": {"diversity": 0.3},
    "pins": {"pin": [("Item", "1"), ("Item", "2")], "hide": [("Item", "3")]},
    "highlight": {"highlight": True},
    "passages": {"passages": 3},
    "all": {"boost": BOOSTS, "limit_by": {"maker": 1}, "diversity": 0.3, "highlight": True},
}
DIVERSITIES = (0.3,)
MAKERS = 300
QUERIES = 100
TARGET = 1.3
"""What three boosts may cost at most, over the plain query, at 100,000 records."""


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"], name="Item")
class Item(Base):
    __tablename__ = "stress_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    orders: Mapped[int | None]
    made: Mapped[datetime | None]
    in_stock: Mapped[bool]
    maker: Mapped[str]


def run(args: Arguments) -> Figures:
    """The run's own figures are those of plain hybrid queries of stored records."""
    texts = passages(args.rows, args.seed)
    queries = questions(texts, args.seed)[:QUERIES]
    rows = list(rows_of(texts, args.seed))
    with stopwatch() as watch:
        with stored(args.backend, rows) as (engine, search):
            of_records = measured(engine, search, queries, entity="Item")
        with mapped(args.backend, rows) as (engine, search):
            of_class = measured(engine, search, queries, entity=Item)
    return {
        "rows": args.rows,
        "seconds": round(watch.seconds, 1),
        **of_records.pop("plain"),
        "target_of_three_boosts": TARGET,
        "stored_records": of_records,
        "mapped_class": of_class,
        "diversity": spread(args.backend),
    }


def rows_of(texts: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """A tenth have no orders, and a tenth no date."""
    chance, now = random.Random(seed), datetime.now(UTC)
    for number, text in enumerate(texts):
        yield {
            "id": number,
            "text": text,
            "orders": int(chance.expovariate(0.02)) if chance.random() < 0.9 else None,
            "made": now - timedelta(days=chance.expovariate(0.005)) if chance.random() < 0.9 else None,
            "in_stock": chance.random() < 0.7,
            "maker": f"maker {chance.randrange(MAKERS)}",
        }


@contextmanager
def stored(backend: str, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Engine, SearchEngine]]:
    with database(backend) as engine:
        search = SearchEngine(engine, StaticProvider())
        store = RecordStore(search)
        store.create_entity("Item", search=["text"])
        for start in range(0, len(rows), ROWS_A_CALL):
            part = rows[start : start + ROWS_A_CALL]
            store.insert("Item", [{**row, "made": row["made"] and row["made"].isoformat()} for row in part])
        yield finished(engine, search)


@contextmanager
def mapped(backend: str, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Engine, SearchEngine]]:
    with database(backend) as engine:
        Base.metadata.create_all(engine)
        search = SearchEngine(engine, StaticProvider())
        made = search.attach(sessionmaker(engine))
        for start in range(0, len(rows), ROWS_A_CALL):
            with made.begin() as session:
                session.add_all(Item(**row) for row in rows[start : start + ROWS_A_CALL])
        yield finished(engine, search)


def finished(engine: Engine, search: SearchEngine) -> tuple[Engine, SearchEngine]:
    search.admin.index_vectors()
    if engine.dialect.name == POSTGRESQL:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return engine, search


def measured(engine: Engine, search: SearchEngine, queries: Sequence[str], entity: Any) -> dict[str, Any]:
    """Latencies, and those of each option over the plain query's in the same run; the statements of each."""
    plain: Callable[..., Any] = partial(search.search, entity=entity)
    ways: dict[str, Callable[..., Any]] = {"plain": plain}
    ways |= {name: partial(plain, **options) for name, options in OPTIONS.items()}
    took = timed(ways, queries)
    return {
        "plain": latencies(took["plain"]),
        "times_plain": {name: times(took[name], took["plain"]) for name in OPTIONS},
        "statements": {name: statements(engine, way, queries[0]) for name, way in ways.items()},
    }


def times(ours: Sequence[float], plain: Sequence[float]) -> dict[str, float]:
    """Of the medians and of the 95th percentiles."""
    one, other = latencies(ours), latencies(plain)
    return {name: round(one[name] / other[name], 2) for name in ("p50_ms", "p95_ms")}


def spread(backend: str) -> dict[str, dict[str, float]]:
    """nDCG@10 of each collection by diversity, of the bundled model."""
    found = {}
    for name in COLLECTIONS:
        if not (IR / name).is_dir():
            continue
        documents, queries, relevance = read(IR / name)
        with database(backend) as engine:
            search = SearchEngine(engine, StaticProvider())
            search.index_records_batch(documents)
            options: dict[str, Any] = {f"{value:g}": {"diversity": value} for value in (0.0, *DIVERSITIES)}
            ways = {name: partial(search.search, **chosen) for name, chosen in options.items()}
            found[name] = {value: quality(way, queries, relevance) for value, way in ways.items()}
    return found


def quality(way: Callable[..., Any], queries: Mapping[str, str], relevance: Mapping[str, Mapping[str, float]]) -> float:
    judged = [(queries[id_], gains) for id_, gains in relevance.items() if id_ in queries]
    return round(mean(ndcg([hit.id for hit in way(text)], gains) for text, gains in judged), 4)
