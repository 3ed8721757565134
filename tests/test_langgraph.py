"""LangGraph's store over ours: what its stores for SQLite and PostgreSQL are tested for, and the transactions."""

import asyncio
import runpy
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.store.base")

from langchain_core.embeddings import Embeddings
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchItem,
    SearchOp,
)
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from kameleon import RecordStore
from kameleon.errors import InvalidInput
from kameleon.integrations.langchain import provider
from kameleon.integrations.langgraph import KameleonStore

from .conftest import Make


class Letters(Embeddings):
    """How often a text has each of four letters, and any other."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        counts = [[float(text.count(letter)) for letter in "xyzw"] for text in texts]
        return [[*each, 0.1 + (len(text) - sum(each)) / 100] for each, text in zip(counts, texts, strict=True)]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(make: Make) -> KameleonStore:
    return KameleonStore(make(provider(Letters())))


def keys(items: list[SearchItem]) -> list[str]:
    return [item.key for item in items]


def filled(store: KameleonStore, *namespaces: tuple[str, ...]) -> KameleonStore:
    store.batch([PutOp(namespace, "k", {"v": 1}) for namespace in namespaces])
    return store


def scope(store: KameleonStore, *prefix: str) -> set[tuple[str, ...]]:
    return {item.namespace for item in store.search(prefix, limit=100)}


def test_an_item_is_put_read_replaced_and_deleted(store: KameleonStore) -> None:
    began = datetime.now(UTC) - timedelta(seconds=5)
    store.put(("test", "documents"), "doc1", {"title": "Hello", "n": {"list": [1, None, "x"]}})
    item = store.get(("test", "documents"), "doc1")
    assert item is not None
    assert (item.namespace, item.key) == (("test", "documents"), "doc1")
    assert item.value == {"title": "Hello", "n": {"list": [1, None, "x"]}}
    assert began < item.created_at <= item.updated_at <= datetime.now(UTC) + timedelta(seconds=5)
    store.put(("test", "documents"), "doc1", {"title": "Changed"})
    changed = store.get(("test", "documents"), "doc1")
    assert changed is not None
    assert changed.value == {"title": "Changed"}
    assert changed.updated_at > item.updated_at
    assert item.created_at <= changed.created_at < changed.updated_at
    assert store.get(("test", "other"), "doc1") is None
    store.delete(("test", "documents"), "doc1")
    store.delete(("test", "documents"), "missing")
    assert store.get(("test", "documents"), "doc1") is None


def test_a_batch_reads_what_was_there_before_its_puts(store: KameleonStore) -> None:
    store.put(("test", "foo"), "key1", {"data": "value1"})
    results: Any = store.batch(
        [
            GetOp(("test", "foo"), "key1"),
            PutOp(("test", "bar"), "key2", {"data": "first"}),
            PutOp(("test", "bar"), "key2", {"data": "value2"}),
            SearchOp(("test",), {"data": "value1"}, 10, 0),
            ListNamespacesOp(None, None, 10, 0),
            GetOp(("test",), "key3"),
            PutOp(("test", "foo"), "key1", None),
        ]
    )
    assert results[0].value == {"data": "value1"}
    assert keys(results[3]) == ["key1"]
    assert results[1:3] + results[4:] == [None, None, [("test", "foo")], None, None]
    assert store.get(("test", "foo"), "key1") is None
    assert store.get(("test", "bar"), "key2").value == {"data": "value2"}  # type: ignore[union-attr]


def test_namespaces_end_at_their_labels(store: KameleonStore) -> None:
    nested = [("foo",), ("foo", "child"), ("foo", "child", "deep")]
    filled(store, *nested, ("foobar",), ("Foo",), ("user_1", "child"), ("userX1",), ("a%b",), ("axxb",), ("a*",))
    assert scope(store, "foo") == set(nested)
    assert scope(store, "foo", "child") == set(nested[1:])
    assert scope(store, "fo") == set()
    assert scope(store, "user_1") == {("user_1", "child")}
    assert scope(store, "a%b") == {("a%b",)}
    assert scope(store, "a*") == {("a*",)}
    assert len(scope(store)) == 10


def test_keys_with_periods_are_of_their_own_namespace(store: KameleonStore) -> None:
    store.put(("a",), "b.c", {"v": 1})
    store.put(("a", "b"), "c", {"v": 2})
    store.put(("a",), ".b..c", {"v": 3})
    assert [store.get(*at).value["v"] for at in ((("a",), "b.c"), (("a", "b"), "c"), (("a",), ".b..c"))] == [1, 2, 3]  # type: ignore[union-attr]
    with pytest.raises(InvalidNamespaceError):
        store.batch([PutOp(("a.b",), "c", {"v": 4})])


def test_namespaces_are_listed(store: KameleonStore) -> None:
    users = [("uid", "users", "alice"), ("uid", "users", "malice"), ("uid", "a", "b", "alice")]
    filled(store, ("foo",), ("foo", "child"), ("foobar",), *users)
    assert store.list_namespaces(prefix=("foo",)) == [("foo",), ("foo", "child")]
    assert store.list_namespaces(suffix=("alice",)) == [users[2], users[0]]
    assert store.list_namespaces(prefix=("uid", "*", "alice")) == [users[0]]
    assert store.list_namespaces(prefix=("uid",), suffix=("*", "alice"), max_depth=2) == [
        ("uid", "a"),
        ("uid", "users"),
    ]
    assert store.list_namespaces(max_depth=1, limit=1, offset=1) == [("foobar",)]
    both = (MatchCondition("prefix", ("uid",)), MatchCondition("suffix", ("malice",)))
    assert store.batch([ListNamespacesOp(both)]) == [[users[1]]]
    assert KameleonStore(store.engine, "none").list_namespaces() == []


def test_many_namespaces_are_all_listed(store: KameleonStore) -> None:
    filled(store, *[("user", f"{number:04}") for number in range(201)])
    assert len(store.list_namespaces(prefix=("user",), limit=1000)) == 201
    assert store.list_namespaces(limit=2, offset=199) == [("user", "0199"), ("user", "0200")]


def test_items_are_searched_by_their_texts(make: Make) -> None:
    store = KameleonStore(make(provider(Letters())), index={"fields": ["title", "parts[*].text"]})
    store.put(("t",), "a", {"title": "xxx", "parts": [{"text": "yyy"}], "other": "www"})
    store.put(("t",), "b", {"title": "zzz"})
    store.put(("t",), "c", {"title": "zzzz", "other": "www"}, index=["other"])
    store.put(("t",), "d", {"title": "xxx"}, index=False)
    assert keys(store.search(("t",), query="yyy", limit=1)) == ["a"]
    assert keys(store.search(("t",), query="www", limit=1)) == ["c"]
    assert set(keys(store.search(("t",), query="xxx"))) == {"a", "b", "c"}
    assert keys(store.search(("t",))) == ["d", "c", "b", "a"]
    best, *_ = store.search((), query="zzz")
    assert (best.key, best.namespace) == ("b", ("t",))
    assert best.score == pytest.approx(1.0, abs=0.01)


def test_a_score_is_the_cosine(store: KameleonStore) -> None:
    vectors = KameleonStore(store.engine, "vectors", index={"fields": ["text"]})
    vectors.put(("t",), "a", {"text": "xxxy"})
    (item,) = vectors.search((), query="xyyy")
    assert item.score == pytest.approx(0.6, abs=0.01)


def test_pages_follow_each_other(store: KameleonStore) -> None:
    store.batch([PutOp(("t",), f"doc{number}", {"text": f"xyz number {number}"}) for number in range(51)])
    for query in (None, "xyz"):
        pages = [keys(store.search(("t",), query=query, limit=20, offset=offset)) for offset in (0, 20, 40)]
        assert [len(page) for page in pages] == [20, 20, 11]
        assert len({key for page in pages for key in page}) == 51


def test_values_are_filtered(store: KameleonStore) -> None:
    store.put(("d",), "1", {"color": "red", "score": 4.5, "user": {"access-level": "a", "age": 3}, "on": True})
    store.put(("d",), "2", {"color": "red", "score": 3, "tags": ["a", "b"], "123abc": "O'Brien", "on": False})
    store.put(("d",), "3", {"color": "green", "score": -10, "namespace": "own", "text": "own"})
    wanted: list[tuple[dict[str, Any], str]] = [
        ({"color": "red"}, "21"),
        ({"color": {"$ne": "red"}}, "3"),
        ({"score": {"$gte": 3, "$lt": 4}}, "2"),
        ({"score": {"$gt": 3.2}, "color": "red"}, "1"),
        ({"user": {"access-level": "a"}}, "1"),
        ({"user.access-level": "a"}, "1"),
        ({"user": {"age": {"$gt": 2}, "access-level": "b"}}, ""),
        ({"tags": ["a", "b"]}, "2"),
        ({"123abc": "O'Brien"}, "2"),
        ({"on": False}, "2"),
        ({"namespace": "own"}, "3"),
        ({"text": "own"}, "3"),
        ({"color": "red' OR '1'='1"}, ""),
        ({"missing": None}, "321"),
    ]
    for condition, expected in wanted:
        assert "".join(keys(store.search(("d",), filter=condition))) == expected, condition
    assert set(keys(store.search(("d",), query="red", filter={"color": "red"}))) == {"1", "2"}
    with pytest.raises(ValueError, match=r"\$unknown"):
        store.search(("d",), filter={"color": {"$unknown": 1}})


def expire(store: KameleonStore, key: str) -> None:
    RecordStore(store.engine).update("memories", f"foo..{key}", {"expires_at": 1.0})


def expiry(store: KameleonStore, key: str) -> float:
    return float(RecordStore(store.engine).get("memories", f"foo..{key}").data["expires_at"])


def test_what_has_expired_is_not_read_and_is_deleted(make: Make) -> None:
    store = KameleonStore(make(provider(Letters())), ttl={"default_ttl": 5})
    for key in ("gone", "live", "never"):
        store.put(("foo",), key, {"text": "xyz"}, **({"ttl": None} if key == "never" else {}))
    expire(store, "gone")
    before = expiry(store, "live")
    assert store.get(("foo",), "gone") is None
    assert keys(store.search(("foo",))) == ["never", "live"]
    assert set(keys(store.search(("foo",), query="xyz"))) == {"never", "live"}
    assert expiry(store, "gone") == 1.0
    assert expiry(store, "live") > before
    assert store.sweep_ttl() == 1
    assert RecordStore(store.engine).count("memories") == 2
    expire(store, "live")
    store.delete(("foo",), "never")
    assert store.list_namespaces() == []


def test_reads_refresh_only_what_they_are_to(make: Make) -> None:
    store = KameleonStore(make(provider(Letters())), ttl={"refresh_on_read": False})
    store.put(("foo",), "a", {"text": "xyz"}, ttl=5)
    before, item = expiry(store, "a"), store.get(("foo",), "a")
    assert expiry(store, "a") == before
    again = store.get(("foo",), "a", refresh_ttl=True)
    assert expiry(store, "a") > before
    assert item is not None
    assert item == again == store.get(("foo",), "a")


def test_a_search_refreshes_each_item_by_its_own_minutes(store: KameleonStore) -> None:
    for key, minutes in (("a", 5), ("b", 500)):
        store.put(("foo",), key, {"text": "xyz"}, ttl=minutes)
    assert len(store.search(("foo",), refresh_ttl=True)) == 2
    assert expiry(store, "b") - expiry(store, "a") == pytest.approx(495 * 60)


def test_a_put_sweeps_when_it_is_due(make: Make) -> None:
    store = KameleonStore(make(provider(Letters())), ttl={"sweep_interval_minutes": 0})
    store.put(("foo",), "gone", {"v": 1}, ttl=5)
    expire(store, "gone")
    store.put(("foo",), "a", {"v": 1})
    assert RecordStore(store.engine).count("memories") == 1


def test_a_store_in_a_session_is_in_its_transaction(store: KameleonStore) -> None:
    store.put(("a",), "old", {"v": 1})
    with Session(store.engine.engine) as session:
        inside = store.in_session(session)
        inside.batch([PutOp(("a",), "new", {"v": 2}), PutOp(("a",), "old", None)])
        assert keys(inside.search(("a",))) == ["new"]
        session.rollback()
    assert keys(store.search(("a",))) == ["old"]


def test_coroutines_do_the_same(store: KameleonStore) -> None:
    async def use() -> None:
        await store.aput(("t", "x"), "a", {"text": "xxx"})
        await asyncio.gather(*[store.aput(("t", "y"), f"b{number}", {"text": "yyy"}, ttl=5) for number in range(5)])
        (item,) = await store.asearch(("t",), query="xxx", limit=1)
        assert (item.key, item.namespace) == ("a", ("t", "x"))
        assert len(await store.asearch(("t", "y"))) == 5
        assert await store.alist_namespaces(suffix=("y",)) == [("t", "y")]
        await store.adelete(("t", "x"), "a")
        assert await store.aget(("t", "x"), "a") is None
        assert await store.asweep_ttl() == 0

    asyncio.run(use())


def test_texts_of_any_script_are_found(make: Make) -> None:
    store = KameleonStore(make(provider(Letters())), mode="hybrid")
    texts = ["这是中文", "これは日本語です", "이건 한국어야", "Это русский", "यह रूसी है"]
    for number, text in enumerate(texts):
        store.put(("user_123", "memories"), str(number), {"text": text})
    found = [store.search(("user_123",), query=text)[0].key for text in texts]
    assert found == ["0", "1", "2", "3", "4"]


def test_an_embedding_is_for_an_engine_of_sqlalchemy(make: Make, engine: Engine) -> None:
    search = make("static")
    with pytest.raises(InvalidInput, match="leave the embedding out"):
        KameleonStore(search, index={"embed": Letters(), "dims": 5})

    def embed(texts: Sequence[str]) -> list[list[float]]:
        return Letters().embed_documents(list(texts))

    own = KameleonStore(engine, "own", index={"embed": embed, "fields": ["text"], "dims": 5})
    own.put(("t",), "a", {"text": "xxx"})
    assert keys(own.search((), query="xxx")) == ["a"]
    RecordStore(search).create_entity("Shelf", search=["title"])
    with pytest.raises(InvalidInput, match="Name another"):
        KameleonStore(search, "Shelf")


def test_the_example_finds_what_it_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "langgraph_notes.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == [
        "users.ann m1: Ann is allergic to peanuts",
        "users.bo m1: Bo cooks with peanuts every day",
        "[('users', 'ann'), ('users', 'bo')]",
    ]
