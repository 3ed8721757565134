"""Tenants: ingest against the same records untenanted, a tenant's queries against an index of its records alone, and
the recall of its vectors.

Records come in random order, in batches of whichever tenants. Ingest is of the first records of a class, folds
included, each way twice in alternating order; the least of each is compared. Times are CPU on SQLite; on PostgreSQL,
whose server is another process, they are the clock's, so that the machine is to be idle. `--scale` shrinks the large
tenants and the number of the small ones, `--class` chooses.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import click
import numpy as np

from kameleon import SearchEngine
from kameleon.embeddings import EmbeddingProvider, StaticProvider
from kameleon.indexing.entries import make_entry
from kameleon.stores.tables import parts
from kameleon.values import Ref

from .corpus import passages
from .database import SQLITE
from .report import Arguments, Figures
from .search import opened, questions

BATCH = 1_000
QUERIES = 50
WARM = 5
NEAREST = 10


class Size(NamedTuple):
    """So many tenants with so many records each."""

    tenants: int
    records: int


INGESTED = 10_000
"""Bounds the records of a class whose ingest is compared. Chosen, not measured."""
HYBRID = {"small": Size(1_000, 100), "middle": Size(10, 10_000), "large": Size(1, 200_000)}
KEYWORD = {"many": Size(10_000, 10)}

Record = tuple[str, str, str, str]


def run(args: Arguments) -> Figures:
    legs: Mapping[str, tuple[Mapping[str, Size], EmbeddingProvider | None]] = {
        "hybrid": (HYBRID, StaticProvider()),
        "keyword": (KEYWORD, None),
    }
    figures: dict[str, Any] = {"scale": args.scale, "clock": "cpu" if args.backend == SQLITE else "wall"}
    for leg, (classes, provider) in legs.items():
        chosen = {name: scaled(size, args.scale) for name, size in classes.items() if name in (args.classes or classes)}
        if chosen:
            figures[leg] = measured(args, chosen, provider)
    return figures


def scaled(size: Size, scale: float) -> Size:
    """Small tenants stay as they are, and become fewer."""
    if size.records <= 100:
        return Size(max(1, int(size.tenants * scale)), size.records)
    return Size(size.tenants, max(1, int(size.records * scale)))


def measured(args: Arguments, sizes: Mapping[str, Size], provider: EmbeddingProvider | None) -> Figures:
    records = drawn(sizes, args.seed)
    of = {name: [record for record in records if record[3].startswith(f"{name}-")] for name in sizes}
    ingests = {name: of_ingest(args, provider, own[:INGESTED]) for name, own in of.items()}
    alone = sum(size.records for size in sizes.values())
    each = max(figures["us"] for figures in ingests.values()) / 1e6
    click.echo(f"  about {each * (len(records) + alone):,.0f} s of ingest follow, and the vector indexes", err=True)
    with opened(args.backend) as engine:
        search = SearchEngine(engine, provider)
        ingested(args, search, records)
        search.admin.index_vectors()
        queries = {name: of_class(args, search, provider, own, f"{name}-0") for name, own in of.items()}
    return {
        f"{name}, {size.tenants} x {size.records}": {"ingest": ingests[name], **queries[name]}
        for name, size in sizes.items()
    }


def drawn(sizes: Mapping[str, Size], seed: int) -> list[Record]:
    owners = [
        f"{name}-{tenant}"
        for name, size in sizes.items()
        for tenant in range(size.tenants)
        for _ in range(size.records)
    ]
    random.Random(seed).shuffle(owners)
    return [("Record", str(n), content, owners[n]) for n, content in enumerate(passages(len(owners), seed))]


def of_ingest(args: Arguments, provider: EmbeddingProvider | None, records: Sequence[Record]) -> dict[str, float]:
    """Microseconds a record, without the making of the tables."""
    ways: dict[str, Sequence[Sequence[str]]] = {"untenanted": [record[:3] for record in records], "tenants": records}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for way in [*ways, *reversed(ways)]:
        with opened(args.backend) as engine:
            search = SearchEngine(engine, provider)
            search.index_record("First", "1", "first")
            took[way].append(1e6 * ingested(args, search, ways[way]) / len(records))
    least = {way: min(each) for way, each in took.items()}
    return {
        "us": round(least["tenants"], 1),
        "untenanted_us": round(least["untenanted"], 1),
        "times_untenanted": round(least["tenants"] / least["untenanted"], 2),
    }


def ingested(args: Arguments, search: SearchEngine, records: Sequence[Sequence[str]]) -> float:
    """Seconds to write the records and to fold what they left in tails."""
    began = now(args)
    for part in parts(records, BATCH):
        search.index.write([make_entry(Ref(entity, id_, *tenant), content) for entity, id_, content, *tenant in part])
    search.index.keywords.maintain_all()
    return now(args) - began


def of_class(
    args: Arguments,
    search: SearchEngine,
    provider: EmbeddingProvider | None,
    records: Sequence[Record],
    tenant: str,
) -> Figures:
    """Queries of one tenant, and of an index that has its records alone."""
    own = [record[:3] for record in records if record[3] == tenant]
    asked = questions([content for _, _, content in own], args.seed)[: QUERIES + WARM]
    with opened(args.backend) as engine:
        alone = SearchEngine(engine, provider)
        ingested(args, alone, own)
        alone.admin.index_vectors()
        figures: dict[str, Any] = {}
        for mode in ("keyword", "hybrid") if provider is not None else ("keyword",):
            ways: dict[str, Callable[[str], Any]] = {
                "tenant": lambda query, mode=mode: search.search(query, tenant=tenant, mode=mode),  # type: ignore[misc]
                "alone": lambda query, mode=mode: alone.search(query, mode=mode),  # type: ignore[misc]
            }
            took = alternating(args, ways, asked)
            figures[mode] = {
                "p50_ms": round(took["tenant"], 3),
                "alone_p50_ms": round(took["alone"], 3),
                "times_alone": round(took["tenant"] / took["alone"], 2),
            }
    if provider is not None:
        figures[f"recall_at_{NEAREST}"] = recall(search, provider, own, asked, tenant)
    return figures


def alternating(args: Arguments, ways: Mapping[str, Callable[[str], Any]], asked: Sequence[str]) -> dict[str, float]:
    """Milliseconds in the middle of each way."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number, query in enumerate(asked):
        for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
            began = now(args)
            way(query)
            if number >= WARM:
                took[name].append(1000 * (now(args) - began))
    return {name: median(each) for name, each in took.items()}


def recall(
    search: SearchEngine, provider: EmbeddingProvider, own: Sequence[Sequence[str]], asked: Sequence[str], tenant: str
) -> float:
    """The share of the tenant's nearest that are found."""
    made = np.concatenate([np.asarray(provider.embed_batch([each[2] for each in part])) for part in parts(own, BATCH)])
    vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
    found = []
    for query in asked:
        cosines = vectors @ np.asarray(provider.embed_query(query))
        nearest = {own[n][1] for n in np.argsort(-cosines)[:NEAREST].tolist()}
        hits = search.search(query, tenant=tenant, mode="vector", limit=NEAREST)
        found.append(len(nearest & {hit.id for hit in hits}) / len(nearest))
    return round(sum(found) / len(found), 3)


def now(args: Arguments) -> float:
    return time.process_time() if args.backend == SQLITE else time.perf_counter()
