"""How well hits are ranked: nDCG@10, linear gain, on judged collections in BEIR layout."""

import gzip
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from kameleon import SearchEngine, create_engine
from kameleon.embeddings import StaticProvider

from .corpus import SHARED
from .report import line

COLLECTIONS = ("medline", "cisi", "npl", "liveqa_med", "xquad_en", "esci_us150")


def run(rows: int, seed: int) -> Iterator[str]:
    for name in COLLECTIONS:
        folder = SHARED / "data" / "ir" / name
        if folder.is_dir():
            yield collection(name, folder)


def collection(name: str, folder: Path) -> str:
    engine = create_engine("sqlite://")
    search = SearchEngine(engine, StaticProvider())
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        documents = [json.loads(text) for text in lines]
    texts = [f"{document.get('title') or ''} {document['text']}" for document in documents]
    search.index_records_batch([("D", d["_id"], text) for d, text in zip(documents, texts, strict=True)])
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = {query["_id"]: query["text"] for query in map(json.loads, lines)}
    relevance = {query: gains for query, gains in judgements(folder / "qrels.tsv").items() if query in queries}
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


def ndcg(ranked: Sequence[str], gains: Mapping[str, int], depth: int = 10) -> float:
    """Discounted gain of the first `depth`, as a share of what the best order would have."""
    ideal = sorted(gains.values(), reverse=True)[:depth]
    best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ideal))
    found = sum(gains.get(id_, 0) / math.log2(rank + 2) for rank, id_ in enumerate(ranked[:depth]))
    return found / best if best else 0.0
