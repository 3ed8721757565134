"""How well hits are ranked: nDCG@10, linear gain, on judged collections in BEIR layout."""

import gzip
import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from sqlalchemy import Engine

from kameleon import SearchEngine, create_engine
from kameleon.embeddings import EmbeddingProvider, StaticProvider
from kameleon.metrics import ndcg
from kameleon.search.bm25 import STOP_WORDS

from .corpus import MINILM, SHARED
from .database import postgresql
from .report import line

COMPARED = ("npl", "cisi")
COLLECTIONS = (
    *("medline", "cisi", "npl", "liveqa_med", "xquad_en", "esci_us150"),
    *("xquad_zh", "xquad_hi", "xquad_de"),
)
WAYS: dict[str, dict[str, Any]] = {
    "keyword": {"mode": "keyword"},
    "vector": {"mode": "vector"},
    "hybrid": {},
    "rrf": {"fusion": "rrf", "weight": 0.5},
}


def run(rows: int, seed: int) -> Iterator[str]:
    for name in COLLECTIONS:
        folder = SHARED / "data" / "ir" / name
        if folder.is_dir():
            yield from collection(name, folder)
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


def collection(name: str, folder: Path) -> Iterator[str]:
    documents, queries, relevance = read(folder)
    shape = {"collection": name, "rows": len(documents), "queries": len(relevance)}
    for provider in providers():
        engine = create_engine("sqlite://")
        search = SearchEngine(engine, provider)
        search.index_records_batch(documents)
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for query, gains in relevance.items():
            for way, options in WAYS.items():
                found[way].append(ndcg([hit.id for hit in search.search(queries[query], **options)], gains))
        engine.dispose()
        figures = {way: round(mean(values), 4) for way, values in found.items()}
        yield line("quality", **shape, model=provider.model_name, weight=provider.vector_weight, **figures)
    yield line("reference", **shape, **reference(documents, queries, relevance))


def providers() -> Iterator[EmbeddingProvider]:
    yield StaticProvider()
    if MINILM.is_dir():
        from kameleon.embeddings.fastembed import FastEmbedProvider

        yield FastEmbedProvider(str(MINILM))


def reference(
    documents: list[tuple[str, str, str]], queries: Mapping[str, str], relevance: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """FTS5's own ranking of every record that holds any word of a query, with stop words and without."""
    plain = sqlite3.connect(":memory:")
    plain.execute("CREATE VIRTUAL TABLE f USING fts5(id UNINDEXED, text, tokenize = 'porter unicode61')")
    plain.executemany("INSERT INTO f VALUES (?, ?)", [(id_, text) for _, id_, text in documents])
    figures = {}
    for name, left_out in (("any_word", frozenset[str]()), ("any_word_without_stop_words", STOP_WORDS)):
        found = []
        for query, gains in relevance.items():
            words = list(dict.fromkeys(re.findall(r"\w+", queries[query].lower())))
            words = [word for word in words if word not in left_out] or words
            match = " OR ".join(f'"{word}"' for word in words)
            rows = plain.execute("SELECT id FROM f WHERE f MATCH ? ORDER BY bm25(f), id LIMIT 10", (match,))
            found.append(ndcg([row[0] for row in rows] if words else [], gains))
        figures[name] = round(mean(found), 4)
    plain.close()
    return figures


def judgements(path: Path) -> Mapping[str, dict[str, int]]:
    """query -> document -> gain, from lines that end in document and gain."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for text in path.read_text("utf-8").splitlines():
        query, *_, document, gain = text.split()
        if gain.lstrip("-").isdigit():
            found[query][document] = int(gain)
    return found
