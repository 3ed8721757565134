"""How well hits are ranked: nDCG@10, linear gain, on judged collections in BEIR layout."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean

from sqlalchemy import Engine

from kameleon import SearchEngine, create_engine
from kameleon.embeddings import StaticProvider
from kameleon.metrics import ndcg

from .corpus import SHARED
from .database import postgresql
from .report import line

COMPARED = ("npl", "cisi")
COLLECTIONS = ("medline", "cisi", "npl", "liveqa_med", "xquad_en", "esci_us150")


def run(rows: int, seed: int) -> Iterator[str]:
    for name in COLLECTIONS:
        folder = SHARED / "data" / "ir" / name
        if folder.is_dir():
            yield collection(name, folder)
    with postgresql() as engine:
        for name in COMPARED:
            folder = SHARED / "data" / "ir" / name
            if folder.is_dir():
                yield agreement(name, folder, engine)


def agreement(name: str, folder: Path, engine: Engine) -> str:
    """How much of SQLite's first ten by keyword are PostgreSQL's, and how well those are ranked."""
    documents, queries, relevance = read(folder)
    here, there = SearchEngine(create_engine("sqlite://")), SearchEngine(engine, schema=f"{name}_agreement")
    ranked: dict[str, list[list[str]]] = {query: [] for query in queries}
    for search in (here, there):
        search.index_records_batch(documents)
        for query, asked in queries.items():
            ranked[query].append([hit.id for hit in search.search(asked, mode="keyword")])
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name}_agreement CASCADE")
    return line(
        "agreement",
        collection=name,
        queries=len(queries),
        overlap_of_ten=round(mean(len({*a} & {*b}) / len(a) for a, b in ranked.values() if a), 4),
        keyword_on_postgresql=round(mean(ndcg(ranked[query][1], gains) for query, gains in relevance.items()), 4),
    )


def read(folder: Path) -> tuple[list[tuple[str, str, str]], dict[str, str], dict[str, dict[str, int]]]:
    """Records, queries by id, and relevance."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(text) for text in lines]
    documents = [("D", one["_id"], f"{one.get('title') or ''} {one['text']}") for one in found]
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = {query["_id"]: query["text"] for query in map(json.loads, lines)}
    judged = judgements(folder / "qrels.tsv")
    return documents, queries, {query: gains for query, gains in judged.items() if query in queries}


def collection(name: str, folder: Path) -> str:
    engine = create_engine("sqlite://")
    search = SearchEngine(engine, StaticProvider())
    documents, queries, relevance = read(folder)
    search.index_records_batch(documents)
    figures = {
        mode: round(
            mean(
                ndcg([hit.id for hit in search.search(queries[query], mode=mode)], gains)
                for query, gains in relevance.items()
            ),
            4,
        )
        for mode in ("keyword", "vector", "hybrid")
    }
    engine.dispose()
    return line("quality", collection=name, rows=len(documents), queries=len(relevance), **figures)


def judgements(path: Path) -> Mapping[str, dict[str, int]]:
    """query -> document -> gain, from lines that end in document and gain."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for text in path.read_text("utf-8").splitlines():
        query, *_, document, gain = text.split()
        if gain.lstrip("-").isdigit():
            found[query][document] = int(gain)
    return found
