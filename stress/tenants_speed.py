"""Tenants: ingest against the same records untenanted, a tenant's queries against an index of its records alone, and
the recall of its vectors.

Records come in random order, in batches of whichever tenants. Times are CPU on SQLite; on PostgreSQL, whose server is
another process, they are the clock's. `--scale` shrinks the large tenants and the number of the small ones.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

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


HYBRID, KEYWORD = (Size(1_000, 100), Size(10, 10_000), Size(1, 200_000)), (Size(10_000, 10),)

Record = tuple[str, str, str, str]


def run(args: Arguments) -> Figures:
    return {
        "scale": args.scale,
        "clock": "cpu" if args.backend == SQLITE else "wall",
        "hybrid": measured(args, scaled(HYBRID, args.scale), StaticProvider()),
        "keyword": measured(args, scaled(KEYWORD, args.scale), None),
    }


def scaled(sizes: Sequence[Size], scale: float) -> list[Size]:
    """Small tenants stay as they are, and become fewer."""
    return [
        Size(max(1, int(size.tenants * scale)), size.records)
        if size.records <= 100
        else Size(size.tenants, max(1, int(size.records * scale)))
        for size in sizes
    ]


def measured(args: Arguments, sizes: Sequence[Size], provider: EmbeddingProvider | None) -> Figures:
    records = drawn(sizes, args.seed)
    with opened(args.backend) as engine:
        plain = ingested(args, SearchEngine(engine, provider), [record[:3] for record in records])
    with opened(args.backend) as engine:
        search = SearchEngine(engine, provider)
        tenanted = ingested(args, search, records)
        search.admin.index_vectors()
        classes = {
            f"{size.tenants} x {size.records}": of_class(args, search, provider, records, f"{number}-0")
            for number, size in enumerate(sizes)
        }
    return {
        "records": len(records),
        "ingest_us": round(1e6 * tenanted / len(records), 1),
        "times_untenanted": round(tenanted / plain, 2),
        "classes": classes,
    }


def drawn(sizes: Sequence[Size], seed: int) -> list[Record]:
    owners = [
        f"{number}-{tenant}"
        for number, size in enumerate(sizes)
        for tenant in range(size.tenants)
        for _ in range(size.records)
    ]
    random.Random(seed).shuffle(owners)
    return [("Record", str(n), content, owners[n]) for n, content in enumerate(passages(len(owners), seed))]


def ingested(args: Arguments, search: SearchEngine, records: Sequence[tuple[str, ...]]) -> float:
    """Seconds, folds apart."""
    began = now(args)
    for part in parts(records, BATCH):
        search.index.write([make_entry(Ref(entity, id_, *tenant), content) for entity, id_, content, *tenant in part])
    took = now(args) - began
    search.index.keywords.maintain_all()
    return took


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
        for name, way in ways.items():
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
