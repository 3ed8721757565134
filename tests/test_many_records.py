"""Records read by several ids, counted, and replaced in one transaction; entities declared in one."""

import asyncio
import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from kameleon import RecordStore, SearchEngine
from kameleon.boosts import number
from kameleon.doctor import examine, is_ok
from kameleon.errors import EntityExists, InvalidFilter, InvalidInput, InvalidRecord, TenantRequired, UnknownEntity
from kameleon.records import Record
from kameleon.stores.filters import typed
from kameleon.testing import HashProvider

from .conftest import ids, with_server


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


def test_records_are_listed_in_the_order_of_fields(records: RecordStore) -> None:
    rows = [
        {"id": f"n{n:04}", "text": f"note {n}", "n": n % 7, "name": "Äa ba Zz zb"[3 * (n % 4) :][:2]}
        for n in range(1_001)
    ]
    rows += [{"id": "x", "text": "none"}, {"id": "y", "text": "a list", "n": None, "name": ["a"]}]
    records.insert("Note", rows)
    for sort in ("n", "-n", ["name", "-n"], "-name,n"):
        searched = [hit.id for hit in records.search.search("", entity="Note", sort=sort, limit=1_003)]
        assert [each.id for each in records.list("Note", sort=sort, limit=2_000)] == searched
        paged: list[Record] = []
        while page := records.list("Note", sort=sort, limit=400, after=paged[-1] if paged else None):
            paged += page
        assert [each.id for each in paged] == searched
        assert [each.id for each in records.list("Note", sort=sort, limit=2, offset=400)] == searched[400:402]
    found = records.list("Note", sort="-n", where={"n": {"$lt": 2}}, limit=2)
    assert [(each.id, each.data["n"]) for each in found] == [("n0001", 1), ("n0008", 1)]
    with pytest.raises(InvalidFilter, match="unknown field 'nope'"):
        records.list("Note", sort="nope")
    with pytest.raises(InvalidInput, match="sort is a field"):
        records.list("Note", sort=[])


def test_records_of_tenants_are_listed_in_the_order_of_fields(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("Owned", search=["text"], tenant_field="org")
    store.insert("Owned", [{"id": n, "text": "a", "n": -n, "org": org} for n in range(3) for org in ("a", "b")])
    found = store.list("Owned", sort="n", tenant=["a", "b"], limit=3)
    assert [(each.id, each.tenant) for each in found] == [("2", "a"), ("2", "b"), ("1", "a")]
    after = store.list("Owned", sort="n", tenant=["a", "b"], after=found[-1])
    assert [(each.id, each.tenant) for each in after] == [("1", "b"), ("0", "a"), ("0", "b")]
    own = RecordStore(search.for_tenant("b"))
    assert [each.id for each in own.list("Owned", sort="-n")] == ["0", "1", "2"]


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


def test_a_documents_chunks_are_replaced_in_one_transaction(records: RecordStore) -> None:
    search = records.search
    chunks = [{"id": f"a#{n}", "text": f"old chunk {n}", "n": n} for n in range(3)]
    records.insert("Note", [*chunks, {"id": "b#0", "text": "other chunk", "n": 0}])

    def replace_chunks(connection: Connection) -> None:
        of_document = {"id": {"$in": [f"a#{n}" for n in range(3)]}}
        assert records.delete("Note", where=of_document, connection=connection) == 3
        report = records.insert("Note", [{"id": "a#0", "text": "new chunk", "n": 9}], connection=connection)
        assert report.inserted == 1

    def found(word: str) -> list[str]:
        return sorted(hit.id for hit in search.search(word, entity="Note", mode="keyword"))

    with records.index.engine.connect() as connection, connection.begin() as transaction:
        replace_chunks(connection)
        transaction.rollback()
    assert (found("old"), found("new"), records.count("Note")) == (["a#0", "a#1", "a#2"], [], 4)
    with records.index.engine.begin() as connection:
        replace_chunks(connection)
    assert (found("old"), found("new"), found("other"), records.count("Note")) == ([], ["a#0"], ["b#0"], 2)
    with Session(records.index.engine) as session, session.begin():
        records.delete("Note", ["a#0"], session=session)
        records.insert("Note", [{"id": "a#0", "text": "newest chunk"}], session=session)
        assert [each.data for each in records.get_many("Note", ["a#0"], session=session)] == [{"text": "newest chunk"}]
    assert (found("new"), found("newest")) == ([], ["a#0"])
    assert is_ok(examine(search))


def test_a_report_names_the_ids_of_its_records(records: RecordStore) -> None:
    report = records.insert("Note", [{"text": "one"}, {"id": 7, "text": "two"}, {"id": "x", "text": "three"}])
    made, *others = report.ids
    assert others == ["7", "x"]
    assert records.get("Note", made).data == {"text": "one"}
    again = records.insert("Note", [{"id": "x"}, {"id": "y", "text": "y"}, {"id": "x"}], on_conflict="ignore")
    assert (again.ids, again.inserted, again.skipped) == (("x", "y", "x"), 1, 2)


def test_no_records_declare_nothing(search: SearchEngine) -> None:
    store = RecordStore(search)
    for options in ({}, {"create": False}, {"tenant": "t"}):
        report = store.insert("Nowhere", [], **options)
        assert (report.inserted, report.ids, report.created_entity) == (0, (), None)
    assert asyncio.run(store.ainsert("Nowhere", iter([]))).ids == ()
    assert store.entities() == []
    with pytest.raises(InvalidInput, match="1 places for 0 records"):
        store.insert("Nowhere", [], embeddings=[[1.0]])
    store.insert("Nowhere", [{"id": "1", "text": "somewhere else"}])
    assert ids(search.search("somewhere", entity="Nowhere")) == ["1"]


def test_an_entity_without_texts_learns_them_and_indexes_what_came_before(search: SearchEngine) -> None:
    store = RecordStore(search)
    assert store.insert("Reading", [{"id": n, "value": n, "unit": None} for n in range(1_002)]).index.pending == 0
    assert store.entity("Reading").searchable == ()
    report = store.insert("Reading", [{"id": "x", "value": "far too high", "unit": "bar", "place": "cellar"}])
    assert [(f.name, f.search and f.search.index) for f in store.entity("Reading").fields] == [
        ("value", "both"),
        ("unit", "keyword"),
        ("place", "keyword"),
    ]
    assert report.index.indexed == 1_003
    assert ids(search.search("far", entity="Reading", mode="keyword")) == ["x"]
    assert ids(search.search("1001", entity="Reading", mode="keyword"))[0] == "1001"
    assert is_ok(examine(search))


def test_an_update_teaches_an_entity_its_texts_in_the_callers_transaction(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("Reading", [{"id": "1", "value": 11}, {"id": "2", "value": 22}])
    with store.index.engine.connect() as connection, connection.begin() as transaction:
        store.update("Reading", "1", {"value": "too high"}, connection=connection)
        transaction.rollback()
    assert store.entity("Reading").searchable == ()
    with store.index.engine.begin() as connection:
        store.update("Reading", changes={"value": "too high"}, where={"value": 11}, connection=connection)
    assert store.entity("Reading").searchable == ("value",)
    assert ids(search.search("high", entity="Reading", mode="keyword")) == ["1"]
    assert ids(search.search("22", entity="Reading", mode="keyword")) == ["2"]
    assert is_ok(examine(search))


def test_an_entity_of_tenants_learns_its_texts_but_not_of_a_store_for_one(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("Gauge", [{"id": "1", "value": 1}], tenant="a")
    own = RecordStore(search.for_tenant("a"))
    assert own.insert("Gauge", [{"id": "2", "value": "too high"}]).unsearched == ("value",)
    assert store.entity("Gauge").searchable == ()
    store.insert("Gauge", [{"id": "3", "value": "too low"}], tenant="b")
    assert store.entity("Gauge").searchable == ("value",)
    assert ids(search.search("high", entity="Gauge", mode="keyword", tenant="a")) == ["2"]
    store.insert("Gauge", [{"id": "4", "value": "fine", "note": "not searched"}], tenant="b")
    assert store.entity("Gauge").field_names == ("value",)


def test_nul_is_a_space_wherever_it_comes_from(records: RecordStore, tmp_path: Path) -> None:
    search = records.search
    nested = {"text": "red\0fox", "tags": ["a\0b", {"c": "d\0"}], "ünder": "ü\0"}
    records.insert("Note", [{"id": "1", **nested}])
    assert records.get("Note", "1").data == {"text": "red fox", "tags": ["a b", {"c": "d "}], "ünder": "ü "}
    records.update("Note", "1", {"more": ("x\0", 1)})
    records.insert("Note", [{"id": "1", "last": "\0"}], on_conflict="merge")
    data = records.get("Note", "1").data
    assert (data["more"], data["last"]) == (["x ", 1], " ")
    for where in ({"text": "red\0fox"}, {"tags": {"$contains": "a\0b"}}, {"more": {"$in": ["x\0", "y"]}}):
        assert records.count("Note", where=where) == len(search.search("fox", entity="Note", where=where)) == 1
    (tmp_path / "a.txt").write_bytes(b"blue\0whale")
    records.load_files("Note", tmp_path)
    assert ids(search.search("whale", entity="Note", mode="keyword")) == ["a.txt"]
    search.index_record("Loose", "1", "green\0turtle")
    assert search.search("turtle", entity="Loose")[0].matched_text == "green turtle"
    with pytest.raises(InvalidFilter, match="compared with a column holds NUL"):
        typed("a\0")
    for wrong in ({"a\0": 1}, {"a": {"b\0": 1}}):
        with pytest.raises(InvalidRecord, match="field's name holds a NUL"):
            records.insert("Note", [wrong])


def test_an_entity_is_declared_again_as_it_is(records: RecordStore) -> None:
    declare = partial(records.create_entity, "Again", search={"title": 2, "body": 1}, fields={"n": "integer"})
    made = declare(boost=number("n", half=10))
    assert declare(boost=number("n", half=10), exist_ok=True) == made
    records.insert("Again", [{"id": "1", "title": "a", "added": "later"}])
    records.load_files("Again", [])
    assert declare(boost=number("n", half=10), exist_ok=True).field_names == ("title", "body", "n", "added")
    with pytest.raises(EntityExists, match="exists already"):
        declare(boost=number("n", half=10))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"search": ["title", "body"]}, r"field 'title' is any and searched as Field\(weight=2"),
        ({"search": {"body": 1, "title": 2}}, "searchable fields are in the order title, body"),
        ({"search": {"title": 2}}, "field 'body' is any and searched as .*, not any and not searched"),
        ({"fields": {"n": "text"}, "boost": ()}, "field 'n' is integer and not searched, not text"),
        ({"fields": {"n": "integer", "m": "text"}}, "has no field 'm'"),
        ({"fields": {"n": "integer", "added": "text"}}, "field 'added' is any and not searched, not text"),
        ({"tenant_field": ""}, "its tenant_field is None, not ''"),
        ({"boost": ()}, "its boosts is "),
    ]
    for options, message in wrong:
        with pytest.raises(EntityExists, match=f"'Again' exists and is another: .*{message}"):
            declare(**{"boost": number("n", half=10), **options, "exist_ok": True})
    records.insert("Guessed", [{"id": "1", "title": "two words"}])
    with pytest.raises(EntityExists, match="is_inferred is True, not False"):
        records.create_entity("Guessed", search=["title"], exist_ok=True)


def test_threads_declare_one_entity(records: RecordStore) -> None:
    declare = partial(records.create_entity, "Shared", search=["title"], exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: declare(), range(16)))
    assert set(made) == {records.entity("Shared")}


def test_entities_change_in_the_callers_transaction(records: RecordStore) -> None:
    engine, search = records.index.engine, records.search
    records.insert("Note", [{"id": n, "text": f"first {n}", "extra": f"second {n}"} for n in range(201)])

    def change(connection: Connection) -> None:
        records.create_entity("Made", search=["title"], connection=connection)
        assert records.create_entity("Made", search=["title"], exist_ok=True, connection=connection).name == "Made"
        report = records.alter_entity("Note", search=["extra"], batch_size=50, connection=connection)
        assert report.index.indexed == 201
        records.rename_entity("Note", "Memo", connection=connection)
        records.insert("Gone", [{"id": "1", "text": "two words"}], connection=connection)
        assert records.drop_entity("Gone", connection=connection) == 1
        assert [each.name for each in records.entities(connection=connection)] == ["Made", "Memo"]

    with engine.connect() as connection, connection.begin() as transaction:
        change(connection)
        transaction.rollback()
    assert [each.name for each in records.entities()] == ["Note"]
    assert search.search("second", entity="Note", mode="keyword") == []
    with engine.begin() as connection:
        change(connection)
    assert [each.name for each in records.entities()] == ["Made", "Memo"]
    assert len(search.search("second", entity="Memo", mode="keyword", limit=300)) == 201
    with Session(engine) as session, session.begin():
        assert records.drop_entity("Memo", session=session) == 201
        assert [each.name for each in records.entities(session=session)] == ["Made"]
    assert is_ok(examine(search))


def test_a_change_of_entities_leaves_the_callers_time_out(records: RecordStore, backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite has no such setting")
    with records.index.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '3s'")
        records.drop_entity("Note", connection=connection)
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "3s"


def test_files_are_loaded_in_the_callers_transaction(records: RecordStore, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("blue whale")
    with records.index.engine.connect() as connection, connection.begin() as transaction:
        assert records.load_files("Page", tmp_path, connection=connection).inserted.inserted == 1
        assert records.load_files("Page", tmp_path, connection=connection).unchanged_files == 1
        transaction.rollback()
    assert [each.name for each in records.entities()] == ["Note"]
    assert records.load_files("Page", tmp_path).inserted.inserted == 1


def test_coroutines_declare_entities(records: RecordStore) -> None:
    async def change() -> list[str]:
        await records.acreate_entity("Made", search=["title"])
        await records.acreate_entity("Made", search=["title"], exist_ok=True)
        await records.ainsert("Made", [{"id": "1", "title": "a", "more": "words"}])
        assert (await records.aalter_entity("Made", search=["more"])).index.indexed == 1
        await records.arename_entity("Made", "Other")
        assert await records.adrop_entity("Note") == 0
        return [each.name for each in await records.aentities()]

    assert asyncio.run(change()) == ["Other"]


VERBS = [name[1:] for name, _ in inspect.getmembers(RecordStore, inspect.iscoroutinefunction)]


@pytest.mark.parametrize("verb", VERBS)
def test_coroutines_take_what_the_verbs_take(verb: str) -> None:
    own, awaited = (inspect.signature(getattr(RecordStore, name)).parameters for name in (verb, f"a{verb}"))
    takes_any = any(each.kind is each.VAR_KEYWORD for each in awaited.values())
    assert takes_any or own.keys() - awaited.keys() <= {"connection", "ahead"}
