"""Records read by several ids, counted, and replaced in one transaction."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event

from kameleon import RecordStore, SearchEngine
from kameleon.errors import InvalidFilter, InvalidInput, TenantRequired, UnknownEntity
from kameleon.testing import HashProvider

from .conftest import with_server


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def records(search: SearchEngine) -> RecordStore:
    store = RecordStore(search)
    store.create_entity("Note", search=["text"], fields={"n": "integer"})
    return store


def made_of(provider: HashProvider, text: str) -> object:
    """What equals the vector of a text, of length 1."""
    vector = np.array(provider.embed_batch([text])[0], np.float64)
    return pytest.approx(vector / np.linalg.norm(vector), abs=1e-6)


@contextmanager
def statements(engine: Engine, word: str) -> Iterator[list[str]]:
    """Those with a word that are executed inside."""
    seen: list[str] = []

    def note(_: Connection, cursor: object, statement: str, *rest: object) -> None:
        if word in statement:
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_many_records_are_read_in_the_order_of_their_ids(records: RecordStore) -> None:
    records.insert("Note", [{"id": n, "text": f"note {n}", "n": n} for n in range(5)])
    found = records.get_many("Note", ["3", 1, "none", "3", "0"])
    assert [(each.id, each.data["n"], each.vector) for each in found] == [
        ("3", 3, None),
        ("1", 1, None),
        ("3", 3, None),
        ("0", 0, None),
    ]
    assert records.get_many("Note", iter(["2"]))[0] == records.get("Note", "2")
    assert records.get_many("Note", []) == []
    with pytest.raises(UnknownEntity):
        records.get_many("Nothing", ["1"])
    for wrong in ("12", b"12", {"1": 2}, 12, None):
        with pytest.raises(InvalidInput, match="ids is a list"):
            records.get_many("Note", wrong)  # type: ignore[arg-type]


def test_a_thousand_ids_are_one_statement(records: RecordStore) -> None:
    records.insert("Note", [{"id": n, "text": f"note {n}"} for n in range(1_002)])
    wanted = [str(n) for n in reversed(range(1_002))]
    for count, most in ((1_000, 1), (1_001, 2)):
        with statements(records.index.engine, "kdb_records") as seen:
            found = records.get_many("Note", wanted[:count], vectors=True)
        assert ([each.id for each in found], len(seen)) == (wanted[:count], most)
        assert all(each.vector is not None for each in found)


def test_vectors_come_back_as_they_are_stored(records: RecordStore, provider: HashProvider) -> None:
    records.insert("Note", [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}, {"id": "c", "text": ""}])
    records.insert("Note", [{"id": "d", "text": "four"}], embeddings=[None])
    given = [3.0, 4.0, *[0.0] * (provider.dimensions - 2)]
    records.insert("Note", [{"id": "e", "text": "five"}], embeddings=[given])
    one, two, empty, pending, own = records.get_many("Note", list("abcde"), vectors=True)
    assert one.vector == made_of(provider, "one")
    assert two.vector != one.vector
    assert (empty.vector, pending.vector) == (None, None)
    assert own.vector == pytest.approx([0.6, 0.8, *given[2:]], abs=1e-6)
    records.update("Note", "a", {"text": "changed"})
    (changed,) = records.get_many("Note", ["a"], vectors=True)
    assert changed.vector == made_of(provider, "changed")


def test_no_vectors_are_read_of_an_index_without_embeddings(engine: Engine) -> None:
    store = RecordStore(SearchEngine(engine, None))
    store.insert("Plain", [{"id": "1", "text": "two words"}])
    assert [each.vector for each in store.get_many("Plain", ["1"], vectors=True)] == [None]


def test_records_are_counted_by_a_condition(records: RecordStore) -> None:
    records.insert("Note", [{"id": f"n{n:04}", "text": f"note {n}", "n": n} for n in range(1_001)])
    assert records.count("Note") == records.count("Note", where={}) == 1_001
    assert records.count("Note", where={"n": {"$gte": 951}}) == 50
    assert records.count("Note", where={"$or": [{"n": 3}, {"id": "n0004"}]}) == 2
    with pytest.raises(InvalidFilter, match="unknown field 'nope'"):
        records.count("Note", where={"nope": 1})
    with pytest.raises(UnknownEntity):
        records.count("Nothing")


def test_the_id_is_a_field_of_every_condition(records: RecordStore) -> None:
    records.insert("Note", [{"id": f"n{n}", "text": f"same note {n}", "n": n} for n in range(10)])
    search = records.search
    conditions: list[tuple[dict[str, object], set[int]]] = [
        ({"id": "n3"}, {3}),
        ({"id": {"$in": ["n1", "n5", "none"]}}, {1, 5}),
        ({"id": {"$gt": "n7"}}, {8, 9}),
        ({"id": {"$ne": "n0"}, "n": {"$lt": 2}}, {1}),
        ({"$not": {"id": {"$nin": ["n2"]}}}, {2}),
    ]
    for where, wanted in conditions:
        expected = {f"n{n}" for n in wanted}
        assert {each.id for each in records.list("Note", where=where)} == expected
        assert records.count("Note", where=where) == len(expected)
        assert {hit.id for hit in search.search("same", entity="Note", where=where)} == expected
    assert records.update("Note", changes={"n": 99}, where={"id": {"$in": ["n1", "n2"]}}) == 2
    assert records.delete("Note", where={"id": {"$gte": "n2"}}) == 8
    assert {each.id: each.data["n"] for each in records.list("Note")} == {"n0": 0, "n1": 99}


def test_each_tenant_reads_and_counts_its_own(search: SearchEngine, provider: HashProvider) -> None:
    everyone = RecordStore(search)
    everyone.create_entity("Owned", search=["text"], tenant_field="org")
    for org in ("a", "b"):
        everyone.insert("Owned", [{"id": n, "text": f"{org} {n}", "org": org} for n in range(3)])
    own = RecordStore(search.for_tenant("a"))
    assert [each.data["text"] for each in own.get_many("Owned", [2, 0])] == ["a 2", "a 0"]
    (found,) = everyone.get_many("Owned", [1], tenant="b", vectors=True)
    assert found.vector == made_of(provider, "b 1")
    assert (own.count("Owned"), everyone.count("Owned", tenant=["a", "b"], where={"id": "1"})) == (3, 2)
    for read in (everyone.count, lambda entity: everyone.get_many(entity, [1])):
        with pytest.raises(TenantRequired):
            read("Owned")
    for read_other in (own.count, lambda entity, tenant: own.get_many(entity, [1], tenant=tenant)):
        with pytest.raises(InvalidInput):
            read_other("Owned", tenant="b")


def test_what_a_transaction_has_written_is_read_inside_it(records: RecordStore) -> None:
    with records.index.engine.connect() as connection, connection.begin() as transaction:
        records.insert("Note", [{"id": "1", "text": "one"}], connection=connection)
        (inside,) = records.get_many("Note", ["1"], vectors=True, connection=connection)
        assert inside.vector is not None
        assert records.count("Note", connection=connection) == 1
        transaction.rollback()
    assert (records.get_many("Note", ["1"]), records.count("Note")) == ([], 0)


def test_coroutines_read_many_and_count(records: RecordStore) -> None:
    records.insert("Note", [{"id": n, "text": f"note {n}", "n": n} for n in range(3)])

    async def read() -> tuple[list[str], int]:
        found = await records.aget_many("Note", [2, 1], vectors=True)
        assert all(each.vector for each in found)
        return [each.id for each in found], await records.acount("Note", where={"n": {"$gt": 0}})

    assert asyncio.run(read()) == (["2", "1"], 2)
