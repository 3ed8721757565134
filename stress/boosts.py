"""Searches with three boosts, a number, recency and a condition, against the same without: of stored records, whose
entity has the boosts or whose query gives them, and of a mapped class."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, SearchResults, searchable
from kameleon.boosts import number, recency, when

from .corpus import documents
from .database import database
from .report import Arguments, Figures, latencies
from .search import questions

QUERIES, WARM, BATCH = 200, 20, 5_000
START = datetime(2026, 1, 1, tzinfo=UTC)
BOOSTS = (number("orders", half=100), recency("created", half_life="30d"), when({"in_stock": True}))


class Base(DeclarativeBase):
    pass


@searchable(fields=["title", "text"])
class Film(Base):
    __tablename__ = "stress_film"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]
    orders: Mapped[int]
    created: Mapped[datetime]
    in_stock: Mapped[bool]


def run(args: Arguments) -> Figures:
    rows = list(films(args.rows, args.seed))
    queries = questions([row["text"] for row in rows], args.seed)[:QUERIES]
    return {"rows": len(rows), "queries": len(queries), **stored(args, rows, queries), **mapped(args, rows, queries)}


def films(rows: int, seed: int) -> "list[dict[str, Any]]":
    chance = random.Random(seed)
    return [
        {
            **document,
            "orders": int(chance.paretovariate(0.5)) % 10_000,
            "created": (START - timedelta(hours=chance.randrange(10_000))).isoformat(),
            "in_stock": chance.random() < 0.7,
        }
        for document in documents(rows, seed)
    ]


def stored(args: Arguments, rows: Sequence[Mapping[str, Any]], queries: Sequence[str]) -> Figures:
    with database(args.backend) as engine:
        search = SearchEngine(engine, "static")
        store = RecordStore(search)
        fields = {"orders": "integer", "created": "text", "in_stock": "boolean"}
        store.create_entity("Film", search=["title", "text"], fields=fields, boost=BOOSTS)
        for first in range(0, len(rows), BATCH):
            store.insert("Film", rows[first : first + BATCH])
        search.sync()
        find = partial(search.search, entity="Film")
        return compared(
            {"plain": partial(find, boost=[]), "of_query": partial(find, boost=BOOSTS), "of_entity": find}, queries
        )


def mapped(args: Arguments, rows: Sequence[Mapping[str, Any]], queries: Sequence[str]) -> Figures:
    with database(args.backend) as engine:
        search = SearchEngine(engine, "static")
        Base.metadata.create_all(engine)
        sessions = search.attach(sessionmaker(engine))
        for first in range(0, len(rows), BATCH):
            with sessions.begin() as session:
                session.add_all(made(row) for row in rows[first : first + BATCH])
        search.sync()
        find = partial(search.search, entity=Film)
        return compared({"class_plain": find, "class_of_query": partial(find, boost=BOOSTS)}, queries)


def made(row: Mapping[str, Any]) -> Film:
    created = datetime.fromisoformat(row["created"]).replace(tzinfo=None)
    return Film(**{**row, "id": int(row["id"]), "created": created})


def compared(ways: Mapping[str, Callable[[str], SearchResults]], queries: Sequence[str]) -> Figures:
    """Wall and CPU time of this process, the ways alternating; `times_plain` over that of the first."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    exact = dict.fromkeys(ways, 0)
    for place, query in enumerate([*queries[-WARM:], *queries]):
        for name, way in ways.items():
            began, used = time.perf_counter(), time.process_time()
            found = way(query)
            if place >= WARM:
                wall[name].append(1000 * (time.perf_counter() - began))
                cpu[name].append(1000 * (time.process_time() - used))
                exact[name] += found.exact
    plain = next(iter(ways))
    return {
        name: {
            **latencies(wall[name]),
            "cpu_p50_ms": latencies(cpu[name])["p50_ms"],
            "cpu_p95_ms": latencies(cpu[name])["p95_ms"],
            "times_plain_p50": ratio(wall[name], wall[plain], "p50_ms"),
            "times_plain_p95": ratio(wall[name], wall[plain], "p95_ms"),
            "times_plain_cpu_p50": ratio(cpu[name], cpu[plain], "p50_ms"),
            "exact": round(exact[name] / len(queries), 3),
        }
        for name in ways
    }


def ratio(ours: Sequence[float], plain: Sequence[float], percentile: str) -> float:
    return round(latencies(ours)[percentile] / latencies(plain)[percentile], 2)
