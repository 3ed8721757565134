"""The embedding cache, on every store: no text is embedded twice, and its size has a limit."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import sessionmaker

from kameleon import SearchEngine
from kameleon.embeddings import EmbeddingService, OpenAIProvider, StaticProvider
from kameleon.embeddings.cache import text_key
from kameleon.errors import DatabaseLocked
from kameleon.indexing.caching import Evictor, StoredCache
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note

from .conftest import Make


@pytest.fixture
def caching(make: Make, provider: HashProvider) -> SearchEngine:
    return make(provider, cache=True)


def stored_cache(search: SearchEngine) -> StoredCache:
    return StoredCache(search.index.store, search.index, Evictor(100))


def embedded_texts(provider: HashProvider) -> list[str]:
    return [text for call in provider.calls for text in call]


def test_a_cached_text_is_not_embedded_again_whatever_it_belongs_to(
    caching: SearchEngine, provider: HashProvider
) -> None:
    caching.index_record("A", "1", "red fox")
    report = caching.index_records_batch([("B", "9", "red fox"), ("B", "10", "grey wolf")])
    assert (report.embedded, report.reused) == (1, 1)
    assert embedded_texts(provider) == ["red fox", "grey wolf"]
    assert [hit.id for hit in caching.search("red fox", mode="vector", limit=2)] == ["1", "9"]


def test_a_deleted_record_leaves_its_text_in_the_cache(caching: SearchEngine, provider: HashProvider) -> None:
    caching.index_record("A", "1", "red fox")
    caching.delete_record("A", "1")
    caching.index_record("A", "1", "red fox")
    assert embedded_texts(provider) == ["red fox"]


def test_another_model_has_its_own_cache(make: Make, caching: SearchEngine) -> None:
    caching.index_record("A", "1", "red fox")
    other = HashProvider(model_name="other")
    cache = stored_cache(caching)
    report = EmbeddingService(other, cache=cache).embed_batch(["red fox"])
    assert (report.cache_hits, report.requests) == (0, 1)
    assert len({part.fingerprint for part in caching.cache.status()}) == 2


def test_the_report_counts_what_came_from_the_cache(caching: SearchEngine, provider: HashProvider) -> None:
    service = EmbeddingService(provider, cache=stored_cache(caching))
    service.embed_batch(["a", "b"])
    report = service.embed_batch(["b", "c", "a", "b"])
    assert report.cached == [True, False, True, True]
    assert (report.total_count, report.cache_hits, report.requests) == (4, 3, 1)
    assert provider.calls == [["a", "b"], ["c"]]
    for vector, word in zip(report.embeddings, "bcab", strict=True):
        assert vector is not None
        assert np.allclose(vector, EmbeddingService(HashProvider()).embed_query(word), atol=1e-6)


def test_work_that_failed_pays_nothing_again(
    caching: SearchEngine, provider: HashProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any) -> None:
        raise RuntimeError("the application fails")

    monkeypatch.setattr(caching.index, "apply", fail)
    with pytest.raises(RuntimeError):
        caching.index_record("A", "1", "red fox")
    monkeypatch.undo()
    assert caching.index_record("A", "1", "red fox").reused == 1
    assert embedded_texts(provider) == ["red fox"]


def test_what_the_caller_rolls_back_is_paid_again_only_where_there_is_one_writer(
    caching: SearchEngine, provider: HashProvider, engine: Engine
) -> None:
    has_one_writer = engine.dialect.name == "sqlite"
    caching.index_record("A", "0", "zero")
    with engine.connect() as connection:
        transaction = connection.begin()
        caching.index_record("A", "1", "red fox", connection=connection)
        transaction.rollback()
    assert sum(part.texts for part in caching.cache.status()) == (1 if has_one_writer else 2)
    with engine.begin() as connection:
        caching.index_record("A", "1", "red fox", connection=connection)
    assert sum(part.texts for part in caching.cache.status()) == 2
    assert embedded_texts(provider) == ["zero", "red fox", "red fox"][: 3 if has_one_writer else 2]


def test_refused_texts_are_not_kept(make: Make) -> None:
    provider = HashProvider(refuse=lambda text: ValueError("no") if text == "poison" else None)
    search = make(provider, cache=True)
    search.index_records_batch([("A", "1", "poison"), ("A", "2", "fine")])
    assert [part.texts for part in search.cache.status()] == [1]


def test_the_provider_decides_whether_it_is_on(make: Make, provider: HashProvider) -> None:
    assert (StaticProvider().is_costly, OpenAIProvider.is_costly) == (False, True)
    search = make(provider)
    search.index_record("A", "1", "red fox")
    assert search.cache.status() == []
    provider.is_costly = True
    search.index_record("A", "2", "grey wolf")
    assert [part.texts for part in search.cache.status()] == [1]
    make(provider, cache=False).index_record("A", "3", "brown bear")
    assert [part.texts for part in search.cache.status()] == [1]


def age(engine: Engine, key: str, days: int) -> None:
    then = (datetime.now(UTC) - timedelta(days=days)).replace(tzinfo=None)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE kdb_embedding_cache SET used_at = :then WHERE text_hash = :key"),
            {"then": then.isoformat(" "), "key": text_key(key)},
        )


def test_clearing_drops_all_or_what_was_not_used_for_long(caching: SearchEngine, engine: Engine) -> None:
    caching.index_records_batch([("A", str(n), f"text {n}") for n in range(4)])
    age(engine, "text 0", 40)
    age(engine, "text 1", 40)
    caching.index_record("B", "1", "text 1")
    assert caching.cache.clear(datetime.now(UTC) - timedelta(days=30)) == 1
    assert caching.cache.clear() == 3
    assert caching.cache.status() == []


def test_the_least_recently_used_texts_are_evicted(make: Make, provider: HashProvider, engine: Engine) -> None:
    search = make(provider, cache=True, cache_limit=3)
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(3)])
    age(engine, "text 1", 9)
    search.index_record("A", "3", "text 3")
    provider.calls.clear()
    search.index_records_batch([("B", str(n), f"text {n}") for n in range(4)])
    assert embedded_texts(provider) == ["text 1"]


def test_the_cache_is_counted_once_for_a_tenth_of_its_limit(make: Make, provider: HashProvider, engine: Engine) -> None:
    counted: list[str] = []

    def note(*arguments: Any) -> None:
        if "count(*)" in arguments[2] and "kdb_embedding_cache" in arguments[2]:
            counted.append(arguments[2])

    search = make(provider, cache=True, cache_limit=100)
    event.listen(engine, "before_cursor_execute", note)
    for n in range(21):
        search.index_record("A", str(n), f"text {n}")
    assert len(counted) == 2


def fill(engine: Engine, texts: int) -> None:
    """Long unused, of another model."""
    binary = "zeroblob(8)" if engine.dialect.name == "sqlite" else "'x'::bytea"
    rows = [{"key": f"{n:064}"} for n in range(texts)]
    with engine.begin() as connection:
        insert = f"INSERT INTO kdb_embedding_cache VALUES ('', :key, 'f', {binary}, '2026-01-01 00:00:00.000000')"
        connection.execute(text(insert.replace("::", "\\:\\:")), rows)


def cached(search: SearchEngine) -> int:
    return sum(part.texts for part in search.cache.status())


def test_a_callers_transaction_evicts_nothing_and_a_sync_all(
    make: Make, provider: HashProvider, engine: Engine
) -> None:
    search = make(provider, cache=True, cache_limit=10)
    fill(engine, 1_001)
    with engine.begin() as connection:
        counted = statements_about(engine, "count(*)")
        for n in range(3):
            search.index_record("A", str(n), f"text {n}", connection=connection)
        sent = list(counted)
    if engine.dialect.name == "sqlite":
        assert (sent, cached(search)) == ([], 1_004)
    deleted = statements_about(engine, "DELETE FROM")
    search.sync()
    assert cached(search) == 10
    assert len(deleted) >= 2 or engine.dialect.name == "postgresql"


def test_one_write_takes_a_bounded_part_of_a_surplus(make: Make, provider: HashProvider, engine: Engine) -> None:
    search = make(provider, cache=True, cache_limit=10)
    fill(engine, 5_000)
    search.index_record("A", "1", "text 1")
    assert cached(search) == 3_001
    search.index_record("A", "2", "text 2")
    assert cached(search) == 1_002


def statements_about(engine: Engine, what: str) -> list[str]:
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        if what in arguments[2] and "kdb_embedding_cache" in arguments[2]:
            sent.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    return sent


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_commits_of_sessions_keep_the_limit(make: Make, provider: HashProvider, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    search = make(provider, cache=True, cache_limit=10)
    maker = search.attach(sessionmaker(engine))
    fill(engine, 600)
    for n in range(3):
        with maker.begin() as session:
            session.add(Note(title=f"note {n}", body="b"))
    assert cached(search) == 10


def test_a_cache_that_cannot_be_written_costs_only_money(
    caching: SearchEngine, provider: HashProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = stored_cache(caching)

    def locked(*_args: Any) -> None:
        raise DatabaseLocked("busy")

    monkeypatch.setattr(cache, "write", locked)
    report = EmbeddingService(provider, cache=cache).embed_batch(["red fox"])
    assert report.errors == [None]
    assert "embed_batch:cache_skipped texts=1" in caplog.text


def test_listeners_are_called_for_every_batch(caching: SearchEngine) -> None:
    events: list[tuple[str, dict[str, float]]] = []
    caching.on("embedding.batch_generated", lambda event, figures: events.append((event, dict(figures))))
    caching.index_records_batch([("A", "1", "red fox"), ("A", "2", "grey wolf")])
    caching.index_record("B", "1", "red fox")
    (first, second) = events
    assert first[0] == "embedding.batch_generated"
    assert (first[1]["total_count"], first[1]["cache_hits"], first[1]["api_calls"]) == (2, 0, 1)
    assert (second[1]["total_count"], second[1]["cache_hits"], second[1]["api_calls"]) == (1, 1, 0)
    assert set(first[1]) == {"total_count", "cache_hits", "api_calls", "processing_time_ms", "avg_latency_ms"}
    with pytest.raises(ValueError, match=r"Known: embedding\.batch_generated"):
        caching.on("nonsense", lambda *_: None)


def test_threads_that_embed_the_same_texts_never_fail_each_other(file_engine: Engine) -> None:
    def work(worker: int) -> int:
        search = SearchEngine(file_engine, HashProvider(), cache=True)
        rows = [(f"E{worker}", str(n), f"text {n % 40}") for n in range(120)]
        return sum(search.index_records_batch(rows[start : start + 20]).failed for start in range(0, 120, 20))

    SearchEngine(file_engine)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [0, 0, 0, 0]
    search = SearchEngine(file_engine, HashProvider())
    assert [status.pending for status in search.get_status()] == [0, 0, 0, 0]
    assert [part.texts for part in search.cache.status()] == [40]
