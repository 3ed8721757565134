"""`kameleon purge`: nothing is left of deleted texts. Each test runs on each database."""

import pytest
from sqlalchemy import Engine, text

from kameleon import SearchEngine
from kameleon.testing import HashProvider

from .conftest import Make, ids, with_citus, with_namespaces


@pytest.fixture(params=with_namespaces(*with_citus("sqlite", "postgresql")))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def words(search: SearchEngine) -> set[str]:
    return {word for prefix in "abcdefghijklmnopqrstuvwxyz" for word in search.suggest(prefix, limit=200)}


def test_purging_drops_words_and_cached_embeddings_of_deleted_texts(make: Make, engine: Engine) -> None:
    search = make(HashProvider(), cache=True)
    search.index_records_batch([("N", str(n), f"secret{chr(97 + n)} text") for n in range(4)])
    search.index_record("N", "0", "other text")
    search.delete_record("N", "1")
    assert count(engine, "kdb_embedding_cache") == 5
    report = search.admin.purge()
    assert (report.merges > 0, report.cached) == (True, 2)
    tables = ("kdb_tail", "kdb_posting", "kdb_dead", "kdb_embedding_cache")
    assert [count(engine, table) for table in tables] == [3, 0, 0, 3]
    with engine.connect() as connection:
        kept = b"\n".join(connection.execute(text("SELECT words FROM kdb_tail")).scalars())
    assert {b"secretc", b"secretd", b"other", b"text"} <= set(kept.split(b"\n"))
    assert b"secreta" not in kept
    assert b"secretb" not in kept
    assert words(search) == {"secretc", "secretd", "other", "text"}
    assert set(ids(search.search("text", mode="keyword"))) == {"0", "2", "3"}
    again = search.admin.purge()
    assert (again.merges, again.cached) == (0, 0)


def test_purging_keeps_the_cached_passages_of_long_texts(make: Make, engine: Engine) -> None:
    search = make("static", cache=True)
    search.index_records_batch([("N", "1", "wages and rivers " * 400), ("N", "2", "short text")])
    cached = count(engine, "kdb_embedding_cache")
    assert cached > 2
    assert search.admin.purge().cached == 0
    search.delete_record("N", "1")
    assert search.admin.purge().cached == cached - 1
