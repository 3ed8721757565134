"""How well hits are ranked: nDCG@10, linear gain, on judged collections in BEIR layout, by `kameleon.evaluation`; and
how far their scores separate queries of one collection from those of another."""

import gzip
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from kameleon import SearchEngine
from kameleon.analysis.stop_words import stop_words
from kameleon.embeddings import EmbeddingProvider, StaticProvider
from kameleon.evaluation import Evaluation, evaluate, read_qrels, read_queries
from kameleon.metrics import ndcg

from .corpus import MINILM, SHARED
from .database import SQLITE, database
from .report import Arguments, Figures, latencies, stopwatch
from .separation import BestScores, best_scores, separation

IR = SHARED / "data" / "ir"
ENGLISH = ("medline", "cisi", "npl", "liveqa_med", "xquad_en", "esci_us150")
COLLECTIONS = (*ENGLISH, *("xquad_zh", "xquad_hi", "xquad_de"))
# Its passages take MiniLM half an hour on two cores.
TOO_LONG = ("esci_us150",)

Documents = list[tuple[str, str, str]]
Queries = Mapping[str, str]
Relevance = Mapping[str, Mapping[str, float]]


@dataclass
class Found:
    """`texts` are the judged queries of each collection; `took` are milliseconds of searches, `best` the scores of best
    hits by model and collection."""

    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    best: dict[str, dict[str, BestScores]] = field(default_factory=dict)


def run(args: Arguments) -> Figures:
    """The run's own figures are those of hybrid queries, one after the other, with the bundled model."""
    found = Found()
    rows = 0
    figures = {}
    with stopwatch() as watch:
        collections = {name: read(IR / name) for name in COLLECTIONS if (IR / name).is_dir()}
        found.texts = {name: judged(queries, relevance) for name, (_, queries, relevance) in collections.items()}
        for name, (documents, queries, relevance) in collections.items():
            rows += len(documents)
            figures[name] = collection(args.backend, name, documents, queries, relevance, found)
    if not figures:
        return {"skipped": "the collections are not beside the project"}
    hybrid = [figures[name]["static"]["weighted"] for name in figures]
    return {
        "rows": rows,
        "seconds": round(watch.seconds, 1),
        **latencies(found.took),
        "mean_ndcg_at_10": round(mean(hybrid), 4),
        "separation": {model: separation(list(scores.values())) for model, scores in found.best.items()},
        "separation_english": {
            model: separation([scores[name] for name in scores if name in ENGLISH])
            for model, scores in found.best.items()
        },
        "collections": figures,
    }


def judged(queries: Queries, relevance: Relevance) -> list[str]:
    """Those with a relevant record."""
    return [text for id_, text in queries.items() if any(gain > 0 for gain in relevance.get(id_, {}).values())]


def read(folder: Path) -> tuple[Documents, Queries, Relevance]:
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(text) for text in lines]
    documents = [("D", one["_id"], f"{one.get('title') or ''} {one['text']}") for one in found]
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = read_queries(lines)
    with (folder / "qrels.tsv").open(encoding="utf-8") as lines:
        return documents, queries, read_qrels(lines)


def collection(
    backend: str, name: str, documents: Documents, queries: Queries, relevance: Relevance, found: Found
) -> dict[str, dict[str, float]]:
    """Of each model the legs, the ways of fusing them and, by weight, the weighted one; and who else there is."""
    figures = {}
    for model, provider in providers(backend, name):
        with database(backend) as engine:
            search = SearchEngine(engine, provider)
            search.index_records_batch(documents)
            search.admin.index_vectors()
            figures[model] = scores(evaluate(search, queries, relevance))
            found.best.setdefault(model, {})[name] = best_scores(search, name, found.texts)
            if model == "static":
                for query in queries.values():
                    with stopwatch() as watch:
                        search.search(query)
                    found.took.append(1000 * watch.seconds)
    figures["any_word"] = any_word(documents, queries, relevance)
    return figures


def scores(found: Evaluation) -> dict[str, float]:
    """With those of one weight and of a weight by query, both cross-validated, where there are enough queries."""
    measured = {name: figures.ndcg for name, figures in found.figures.items()}
    measured |= {f"weight_{weight:g}": value for weight, value in (found.curve or {}).items()}
    if found.fit is not None:
        measured |= {f"fit_{name}": getattr(found.fit, name) for name in ("fixed", "fitted", "gain", "noise")}
    return {name: round(value, 4) for name, value in measured.items()}


def providers(backend: str, name: str) -> Iterator[tuple[str, EmbeddingProvider]]:
    """Another model's embeddings do not depend on the database, so it is measured on one."""
    yield "static", StaticProvider()
    if backend == SQLITE and MINILM.is_dir() and name not in TOO_LONG:
        from kameleon.embeddings.fastembed import FastEmbedProvider

        yield "minilm", FastEmbedProvider(str(MINILM))


def any_word(documents: Documents, queries: Queries, relevance: Relevance) -> dict[str, float]:
    """FTS5's own ranking of every record that holds any word of a query, with stop words and without."""
    plain = sqlite3.connect(":memory:")
    plain.execute("CREATE VIRTUAL TABLE f USING fts5(id UNINDEXED, text, tokenize = 'porter unicode61')")
    plain.executemany("INSERT INTO f VALUES (?, ?)", [(id_, text) for _, id_, text in documents])
    figures = {}
    for name, left_out in (("with_stop_words", frozenset[str]()), ("without_stop_words", stop_words("english"))):
        found = []
        for query in queries.keys() & relevance.keys():
            words = list(dict.fromkeys(re.findall(r"\w+", queries[query].lower())))
            words = [word for word in words if word not in left_out] or words
            match = " OR ".join(f'"{word}"' for word in words)
            rows = plain.execute("SELECT id FROM f WHERE f MATCH ? ORDER BY bm25(f), id LIMIT 10", (match,))
            found.append(ndcg([row[0] for row in rows] if words else [], relevance[query]))
        figures[name] = round(mean(found), 4)
    plain.close()
    return figures
