"""What the embedding service adds, and what it saves."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from kameleon import SearchEngine
from kameleon.embeddings import CallableProvider, EmbeddingService, OpenAIProvider, StaticProvider
from kameleon.indexing.caching import Evictor, StoredCache
from kameleon.stores.tables import parts

from .corpus import MINILM, passages, records
from .database import SQLITE, database
from .embeddings_server import DIMENSIONS, serving
from .report import Arguments, Figures, latencies, stopwatch

MIXED_TEXTS = 1_500
LATENCY_S = 0.2
TRIES = 5
ALONE = 1_000


def run(args: Arguments) -> Figures:
    """The run's own figures are those of the bundled model through the service; a model is measured on one database."""
    return {
        **bundled(args),
        "network": network(args),
        "service": overhead(args),
        **({"minilm": local_model(args.seed)} if MINILM.is_dir() and args.backend == SQLITE else {}),
    }


def bundled(args: Arguments) -> Figures:
    """By hand means calling the model itself, as many texts at a time; latencies are those of single texts."""
    texts = passages(args.rows, args.seed)
    provider = StaticProvider()
    service = EmbeddingService(provider)
    service.embed_batch(texts[:100])
    ours, theirs = [], []
    for _ in range(TRIES):
        with stopwatch() as watch:
            service.embed_batch(texts)
        ours.append(watch.seconds)
        with stopwatch() as watch:
            for part in parts(texts, service.batch_size):
                provider.embed_batch(part)
        theirs.append(watch.seconds)
    alone = []
    for text in texts[:ALONE]:
        with stopwatch() as watch:
            service.embed_batch([text])
        alone.append(1000 * watch.seconds)
    return {
        "rows": len(texts),
        "seconds": round(min(ours), 2),
        "rows_per_second": round(len(texts) / min(ours)),
        "times_by_hand": round(min(ours) / min(theirs), 2),
        **latencies(alone),
    }


def mixed(seed: int) -> list[str]:
    """Titles, sentences and extracts in one list, as applications have them."""
    chance = np.random.default_rng(seed)
    extracts = [record["extract"] for record in records("wikipedia_movies") if record["extract"]]
    chosen = [extracts[n].split() for n in chance.choice(len(extracts), MIXED_TEXTS, replace=False)]
    lengths = np.minimum(300, 3 + chance.lognormal(3.2, 1.0, MIXED_TEXTS)).astype(int)
    return [" ".join(words[:n]) for words, n in zip(chosen, lengths, strict=True)]


def local_model(seed: int) -> Figures:
    from kameleon.embeddings import FastEmbedProvider

    texts = mixed(seed)
    provider = FastEmbedProvider(str(MINILM))
    provider.embed_batch(texts[:8])
    session = provider._session
    with stopwatch() as ours:
        EmbeddingService(provider).embed_batch(texts)
    with stopwatch() as one_by_one:
        for text in texts:
            list(session.embed([text]))
    with stopwatch() as theirs:
        list(session.embed(texts))
    return {
        "texts": len(texts),
        "mean_words": round(statistics.mean(len(text.split()) for text in texts), 1),
        "texts_per_second": round(len(texts) / ours.seconds, 1),
        "fastembed_texts_per_second": round(len(texts) / theirs.seconds, 1),
        "one_by_one_texts_per_second": round(len(texts) / one_by_one.seconds, 1),
        "times_fastembed": round(theirs.seconds / ours.seconds, 2),
        "times_one_by_one": round(one_by_one.seconds / ours.seconds, 2),
    }


def network(args: Arguments) -> Figures:
    texts = passages(1_800, args.seed)
    with serving(LATENCY_S) as url, database(args.backend) as engine:
        provider = OpenAIProvider(dimensions=DIMENSIONS, api_key="none", base_url=url)
        search = SearchEngine(engine, provider)
        service = EmbeddingService(provider, cache=StoredCache(search.index.store, search.index, Evictor(10_000)))
        service.embed_batch(["warm up the connection"])
        uncached = service.embed_batch(texts[:1000])
        mostly = service.embed_batch([*texts[:800], *texts[1000:1200]])
        cached = service.embed_batch(texts[:1])
        few = service.embed_batch(texts[1200:1216])
    return {
        "latency_s": LATENCY_S,
        "round_trips_uncached_1000": round(uncached.processing_time_seconds / LATENCY_S, 2),
        "round_trips_80_percent_cached_1000": round(mostly.processing_time_seconds / LATENCY_S, 2),
        "requests_for_16": few.requests,
        "cached_text_ms": round(1000 * cached.processing_time_seconds, 2),
        "worker_utilization": round(uncached.worker_utilization, 2),
        "error_rate": sum(e is not None for report in (uncached, mostly, few) for e in report.errors) / 2016,
    }


def overhead(args: Arguments) -> Figures:
    """With a provider that answers at once."""
    rows = args.rows
    texts = passages(rows, args.seed)
    answer = np.full((1000, DIMENSIONS), 0.5, np.float32)

    def at_once(part: Sequence[str]) -> Any:
        return answer[: len(part)]

    provider = CallableProvider(at_once, dimensions=DIMENSIONS, model_name="at-once")
    plain = min(EmbeddingService(provider).embed_batch(texts).processing_time_seconds for _ in range(TRIES))
    with database(args.backend) as engine:
        search = SearchEngine(engine, provider, cache=True)
        service = EmbeddingService(provider, cache=StoredCache(search.index.store, search.index, Evictor(10 * rows)))
        written = service.embed_batch(texts).processing_time_seconds
        found = service.embed_batch(texts).processing_time_seconds
    return {
        "texts": rows,
        "microseconds_a_text": round(1e6 * plain / rows, 2),
        "with_cache_written": round(1e6 * written / rows, 2),
        "with_cache_found": round(1e6 * found / rows, 2),
    }
