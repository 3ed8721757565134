"""Entities of the record store: altered, renamed and dropped, and the options of their fields."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import kameleon.doctor
from kameleon import Field, RecordStore, SearchEngine, searchable
from kameleon.errors import EntityExists, InvalidInput, KameleonError, UnknownEntity
from kameleon.records import Record
from kameleon.testing import HashProvider

from .conftest import ids, with_server

BOOKS = [
    {"id": "1", "title": "The old house", "code": "AB-12", "blurb": "<p>A wizard&#39;s <b>r</b>estraint</p>"},
    {"id": "2", "title": "A new house", "code": "CD-34", "blurb": "<script>var wizard</script>Storms at sea"},
]


MOST = {
    "sqlite": {"insert": 17, "replace": 19, "update": 24, "delete": 9},
    "postgresql": {"insert": 11, "replace": 12, "update": 20, "delete": 7},
    "postgresql-server": {"insert": 12, "replace": 13, "update": 19, "delete": 8},
}
"""Statements of writes through SQLAlchemy, no more than before fields had options."""


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def records(search: SearchEngine) -> RecordStore:
    return RecordStore(search)


def found(records: RecordStore, query: str, **options: Any) -> list[str]:
    return ids(records.search.search(query, mode=options.pop("mode", "keyword"), **options))


def is_sound(records: RecordStore) -> bool:
    return kameleon.doctor.is_ok(kameleon.doctor.examine(records.search))


def calls(provider: HashProvider) -> list[str]:
    made = [text for call in provider.calls for text in call]
    provider.calls.clear()
    return made


def test_a_field_that_is_made_searchable_is_searched(records: RecordStore, provider: HashProvider) -> None:
    records.create_entity("Book", search=["title"])
    assert records.insert("Book", BOOKS).unsearched == ("code", "blurb")
    assert found(records, "wizard") == []
    calls(provider)
    report = records.alter_entity(
        "Book", search={"blurb": Field(html=True), "code": Field(index="keyword")}, batch_size=1
    )
    assert (report.index.indexed, report.entity.searchable) == (2, ("title", "code", "blurb"))
    assert calls(provider) == ["The old house\nA wizard's restraint", "A new house\nStorms at sea"]
    assert (found(records, "wizard"), found(records, "restraint"), found(records, "CD-34")) == (["1"], ["1"], ["2"])
    assert is_sound(records)
    again = records.alter_entity("Book", unsearch=["code"])
    assert (again.index.indexed, found(records, "CD-34"), calls(provider)) == (2, [], []), "embeddings are kept"
    assert [status.pending for status in records.search.get_status()] == [0]
    assert records.alter_entity("Book", search={"title": 3}).index.indexed == 2
    assert calls(provider) == []
    assert records.alter_entity("Book").index.unchanged == 2
    assert is_sound(records)


def test_what_cannot_be_altered_is_refused(records: RecordStore) -> None:
    records.create_entity("Book", search=["title"])
    for options, message in (
        ({"unsearch": ["blurb"]}, "'blurb' is not searched. Searched: title"),
        ({"unsearch": ["title"]}, "one field at least"),
        ({"unsearch": "title"}, "unsearch is a list"),
        ({"search": ["title"], "unsearch": ["title"]}, "in search and in unsearch"),
        ({"search": ["id"]}, "no field"),
        ({"fields": {"n": "whole"}}, "unknown type 'whole'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            records.alter_entity("Book", **options)
    with pytest.raises(UnknownEntity, match="Known: Book"):
        records.alter_entity("Film", search=["title"])
    bound = RecordStore(records.search.for_tenant("a"))
    for call in (bound.drop_entity, bound.alter_entity):
        with pytest.raises(InvalidInput, match="tenants'"):
            call("Book")


def test_a_field_for_one_leg_is_in_it_alone(records: RecordStore, provider: HashProvider) -> None:
    fields = {"title": 1, "code": Field(index="keyword"), "notes": Field(index="vector")}
    records.create_entity("Part", search=fields)
    records.insert("Part", [{"id": "1", "title": "Brass pump", "code": "QX-77", "notes": "quiet garden water"}])
    assert calls(provider) == ["quiet garden water\nBrass pump"]
    assert (found(records, "QX-77"), found(records, "garden"), found(records, "brass")) == (["1"], [], ["1"])
    best = records.search.search("quiet garden water", mode="vector", explain=True)[0]
    assert best.id == "1"
    assert found(records, "notes:garden brass", entity="Part") == ["1"], "a filter reads the field"
    assert found(records, "notes:street brass", entity="Part") == []
    records.update("Part", "1", {"code": "QX-78"})
    assert (calls(provider), found(records, "QX-78")) == ([], ["1"])
    records.update("Part", "1", {"notes": "loud street"})
    assert calls(provider) == ["loud street\nBrass pump"]
    assert is_sound(records)


def test_a_record_with_nothing_to_embed_is_complete(records: RecordStore, provider: HashProvider) -> None:
    records.create_entity("Part", search={"title": 1, "code": Field(index="keyword")})
    report = records.insert("Part", [{"id": "1", "code": "QX-77"}, {"id": "2", "title": "Brass pump"}])
    assert (calls(provider), report.index.pending, report.index.failed) == (["Brass pump"], 0, 0)
    (status,) = records.search.get_status()
    assert (status.indexed, status.pending, status.failed) == (2, 0, 0)
    assert (records.search.sync().embedded, calls(provider)) == (0, [])
    assert (found(records, "QX-77"), is_sound(records)) == (["1"], True)
    assert records.search.reindex(force=True).embedded == 1
    assert calls(provider) == ["Brass pump"]
    assert [status.pending for status in records.search.get_status()] == [0]


def test_a_renamed_entity_keeps_its_records_index_and_embeddings(records: RecordStore, provider: HashProvider) -> None:
    records.insert("Book", BOOKS)
    records.insert("Film", [{"id": "1", "title": "Another house"}])
    records.search.index_record("Plain", "1", "a house of text")
    calls(provider)
    assert found(records, "storms", entity="Book") == ["2"]
    assert set(found(records, "house")) == {"1", "2"}
    assert records.rename_entity("Book", "Novel").name == "Novel"
    assert (found(records, "storms", entity="Novel"), found(records, "house", entity="Book")) == (["2"], [])
    hits = records.search.search("old house", mode="vector", entity="Novel")
    assert [(hit.entity, hit.id) for hit in hits][:1] == [("Novel", "1")]
    groups = records.search.search("house", mode="keyword", group_by="entity").groups or {}
    assert {name: len(hits) for name, hits in groups.items()} == {"Novel": 2, "Film": 1, "Plain": 1}
    assert (calls(provider), records.search.sync().embedded) == ([], 0)
    assert [entity.name for entity in records.entities()] == ["Film", "Novel"]
    assert records.insert("Novel", [{"id": "3", "title": "A third house"}]).inserted == 1
    assert len(found(records, "house", entity="Novel")) == 3
    assert is_sound(records)
    for taken in ("Film", "Plain"):
        with pytest.raises(EntityExists, match=f"'{taken}' exists already"):
            records.rename_entity("Novel", taken)


def test_segments_of_a_renamed_entity_are_read_under_its_name(records: RecordStore, engine: Engine) -> None:
    records.insert("Book", [{"id": n, "title": f"house number {n}"} for n in range(300)])
    other = RecordStore(SearchEngine(engine, None))
    for store in (records, other):
        assert len(found(store, "house", limit=300)) == 300
    records.rename_entity("Book", "Novel")
    for store in (records, other):
        assert found(store, "number 77", entity="Novel", limit=1) == ["77"]
        groups = store.search.search("number", mode="keyword", group_by="entity").groups or {}
        assert list(groups) == ["Novel"]
    assert is_sound(records)


def test_a_dropped_entity_leaves_nothing(records: RecordStore, engine: Engine) -> None:
    records.insert("Book", BOOKS)
    records.insert("Film", [{"id": "1", "title": "Another house"}])
    assert records.drop_entity("Book") == 2
    assert ([entity.name for entity in records.entities()], found(records, "house")) == (["Film"], ["1"])
    assert ids(records.search.search("old house", mode="vector")) == ["1"]
    with pytest.raises(UnknownEntity, match="Known: Film"):
        records.drop_entity("Book")
    assert records.insert("Book", BOOKS[:1]).inserted == 1
    assert (found(records, "wizard"), is_sound(records)) == (["1"], True)
    assert records.drop_entity("Book") == records.drop_entity("Film") == 1
    with engine.connect() as connection:
        for table in ("kdb_search", "kdb_records", "kdb_embedding_g1", "kdb_tail", "kdb_dead", "kdb_queue"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table


def test_an_entity_with_tenants_is_altered_renamed_and_dropped_for_all(
    records: RecordStore, provider: HashProvider
) -> None:
    records.create_entity("Order", search=["text"], tenant_field="org")
    rows = [{"id": "1", "org": org, "text": "Blue lamp", "note": "urgent"} for org in ("a", "b")]
    records.insert("Order", rows)
    records.alter_entity("Order", search={"note": Field(index="keyword")})
    records.rename_entity("Order", "Sale")
    assert records.search.tenanted if hasattr(records.search, "tenanted") else True
    for org in ("a", "b"):
        assert found(records, "urgent", entity="Sale", tenant=org) == ["1"]
    assert RecordStore(records.search.for_tenant("a")).get("Sale", "1").data["note"] == "urgent"
    assert len(calls(provider)) >= 1
    assert is_sound(records)
    assert records.drop_entity("Sale") == 2
    assert records.search.index.store.schema is not None


def test_what_has_options_survives_an_export_and_a_rebuild(
    records: RecordStore, engine: Engine, tmp_path: Any, provider: HashProvider
) -> None:
    search = {"title": 2, "code": Field(index="keyword"), "notes": Field(index="vector", html=True)}
    records.create_entity("Part", search=search, tenant_field="org")
    records.insert("Part", [{"id": "1", "org": "a", "title": "Pump", "code": "QX-77", "notes": "<p>quiet</p>"}])
    before = records.entity("Part")
    assert records.search.admin.export_tenant("a", tmp_path / "a.gz") == 1
    assert records.drop_entity("Part") == 1
    calls(provider)
    report = records.search.admin.import_tenant(tmp_path / "a.gz")
    assert (report.records, report.embedded, calls(provider)) == (1, 1, [])
    assert records.entity("Part") == before
    assert (found(records, "QX-77", tenant="a"), found(records, "quiet", tenant="a")) == (["1"], [])


def test_records_are_deleted_and_updated_by_a_condition(records: RecordStore, provider: HashProvider) -> None:
    rows = [{"id": n, "text": f"number {n}", "source": "old" if n % 2 else "new", "n": n} for n in range(10)]
    records.insert("Doc", rows)
    calls(provider)
    assert records.update("Doc", where={"source": "old", "n": {"$gt": 4}}, changes={"n": 0, "seen": True}) == 3
    assert [r.id for r in records.list("Doc", where={"seen": True})] == ["5", "7", "9"]
    assert records.update("Doc", where={"seen": True}, changes={"seen": True}) == 0
    assert calls(provider) == []
    assert records.update("Doc", where={"n": 2}, changes={"text": "twenty"}) == 1
    assert (calls(provider), found(records, "twenty")) == (["twenty"], ["2"])
    assert records.delete("Doc", where={"source": "old"}) == 5
    assert (len(records.list("Doc")), found(records, "number 7")[:1] == ["7"]) == (5, False)
    assert is_sound(records)
    assert records.delete("Doc", where={}) == 5
    for call in (
        lambda: records.delete("Doc"),
        lambda: records.delete("Doc", ["1"], where={}),
        lambda: records.update("Doc", "1", {}, where={}),  # type: ignore[call-overload]
    ):
        with pytest.raises(InvalidInput, match="not by both"):
            call()


def test_an_update_by_condition_is_written_in_batches(records: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kameleon.records.changing.UPDATED_AT_ONCE", 3)
    records.insert("Doc", [{"id": n, "text": "some words", "n": n} for n in range(8)])
    assert records.update("Doc", where={"n": {"$gte": 1}}, changes={"text": "other things"}) == 7
    assert len(found(records, "things")) == 7


def test_a_condition_is_of_the_tenant(records: RecordStore) -> None:
    records.create_entity("Order", search=["text"], tenant_field="org")
    records.insert("Order", [{"id": n, "org": org, "text": "lamp", "n": n} for org in ("a", "b") for n in (1, 2)])
    bound = RecordStore(records.search.for_tenant("a"))
    assert bound.update("Order", where={"n": 1}, changes={"text": "desk"}) == 1
    assert bound.delete("Order", where={"n": 2}) == 1
    every = records.list("Order", tenant=kameleon.ALL_TENANTS)
    assert [(r.tenant, r.id, r.data["text"]) for r in every] == [
        ("a", "1", "desk"),
        ("b", "1", "lamp"),
        ("b", "2", "lamp"),
    ]
    assert records.update("Order", where={}, changes={"org": "c"}, tenant="a") == 1
    assert records.delete("Order", where={}, tenant=kameleon.ALL_TENANTS) == 3


def test_a_conflict_is_resolved_as_chosen(records: RecordStore) -> None:
    records.insert("T", [{"id": "1", "title": "first words", "n": 1}])
    new: list[dict[str, Any]] = [
        {"id": "1", "title": "second words"},
        {"id": "2", "title": "other words"},
        {"id": "2", "n": 5},
    ]
    merged = records.insert("T", new, on_conflict="merge")
    assert (merged.inserted, merged.updated, merged.skipped) == (1, 1, 1)
    assert [dict(r.data) for r in records.list("T")] == [
        {"title": "second words", "n": 1},
        {"title": "other words", "n": 5},
    ]
    assert (found(records, "second"), found(records, "first")) == (["1"], [])
    ignored = records.insert("T", new[:1], on_conflict="ignore")
    assert (ignored.inserted, ignored.updated, ignored.skipped) == (0, 0, 1)
    replaced = records.insert("T", new[:1], on_conflict="replace")
    assert (replaced.updated, records.get("T", "1").data) == (1, {"title": "second words"})
    assert is_sound(records)


def test_changes_are_those_of_the_callers_transaction(records: RecordStore, engine: Engine) -> None:
    titles = ["apple pie", "brown bread", "cedar wood"]
    records.insert("T", [{"id": n, "title": title, "n": n} for n, title in enumerate(titles, 1)])
    with engine.connect() as connection:
        assert records.update("T", where={"n": 1}, changes={"title": "changed"}, connection=connection) == 1
        assert records.update("T", "2", {"title": "too"}, connection=connection).data["title"] == "too"
        assert records.delete("T", where={"n": 3}, connection=connection) == 1
        assert len(records.list("T", connection=connection)) == 2
        connection.rollback()
    assert [r.data["title"] for r in records.list("T")] == titles
    assert (found(records, "changed"), found(records, "cedar")) == ([], ["3"])


@pytest.fixture
def statements(engine: Engine) -> Sequence[str]:
    run: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: run.append(args[2]))
    return run


def test_writes_without_options_take_as_many_statements_as_ever(
    records: RecordStore, statements: list[str], backend: str
) -> None:
    records.create_entity("T", search={"title": 2, "text": 1})
    rows = [{"id": n, "title": "a b", "text": f"some words {n}"} for n in range(5)]
    records.insert("T", rows)
    took = {}
    writes: dict[str, Callable[[], object]] = {
        "insert": lambda: records.insert("T", [{**row, "id": f"new {row['id']}"} for row in rows]),
        "replace": lambda: records.insert("T", [{**row, "text": "others"} for row in rows], on_conflict="replace"),
        "update": lambda: records.update("T", 1, {"text": "changed"}),
        "delete": lambda: records.delete("T", [1, 2]),
    }
    for name, call in writes.items():
        statements.clear()
        call()
        took[name] = len(statements)
    assert min(took.values()) > 0
    allowed = MOST[backend]
    assert not {name: number for name, number in took.items() if number > allowed[name]}


def test_a_field_whose_name_has_dots_can_be_filtered_counted_and_sorted(records: RecordStore) -> None:
    rows = [
        {"id": "1", "message": "disk is full", "log.level": "error", "host": {"name": "b", "disk.size": 5}},
        {"id": "2", "message": "disk is fine", "log.level": "info", "host": {"name": "a", "disk.size": 7}},
        {"id": "3", "message": "disk is new", "log": {"level": "debug"}},
    ]
    records.insert("Log", rows[:2])
    assert found(records, "disk", where={"log.level": "error"}) == ["1"]
    assert found(records, "disk", where={"log.level": {"$not": {"$eq": "error"}}}) == ["2"]
    assert found(records, "disk", where={"host.name": "a"}) == ["2"]
    facets = records.search.search("disk", mode="keyword", facets=["log.level", "host.name"]).facets
    assert {name: dict(counts) for name, counts in facets.items()} == {
        "log.level": {"error": 1, "info": 1},
        "host.name": {"a": 1, "b": 1},
    }
    assert found(records, "disk", sort="-log.level") == ["2", "1"]
    assert found(records, "disk", sort="host.name") == ["2", "1"]
    assert [r.id for r in records.list("Log", where={"log.level": "info"})] == ["2"]
    records.insert("Other", rows[2:])
    assert found(records, "disk", entity="Other", where={"log.level": "debug"}) == ["3"]
    records.insert("Log", rows[2:])
    assert found(records, "disk", entity="Log", where={"log.level": "debug"}) == [], "the field of that name is meant"


def test_a_record_is_found_first_by_its_own_id(records: RecordStore) -> None:
    rows = [
        {"id": "INV-88213", "title": "Repair of the roof"},
        {"id": "INV-88214", "title": "Paint for the door, as in INV-88213"},
        {"id": "6", "title": "A door for number 12"},
        {"id": "12", "title": "Six windows"},
        {"id": "qwxyz", "title": "Garden gate"},
        {"id": "7f1b2c9e-0000-4000-8000-00000000beef", "title": "Fence"},
    ]
    records.insert("Invoice", rows)
    records.insert("Note", [{"id": "INV-88213", "title": "Another kind of thing"}])
    for mode in ("keyword", "hybrid"):
        for id_ in ("INV-88213", "12", "qwxyz", "7f1b2c9e-0000-4000-8000-00000000beef"):
            assert found(records, id_, entity="Invoice", mode=mode)[0] == id_
        assert found(records, "what about invoice INV-88213, the door?", entity="Invoice", mode=mode)[0] == "INV-88213"
    assert set(found(records, "INV-88213")) == {"INV-88213", "INV-88214"}
    assert found(records, "door 6", entity="Invoice") == ["6", "INV-88214"]
    assert found(records, "window 6", entity="Invoice") == ["12"], "a number among words is a number"
    assert found(records, "INV-88213", entity="Invoice", where={"title": "Fence"}) == []
    counted = records.search.search("INV-88213", entity="Invoice", mode="keyword", count=True, facets=["title"])
    assert (counted.total, len(counted.facets["title"])) == (2, 2)
    records.delete("Invoice", ["INV-88213"])
    assert found(records, "INV-88213", entity="Invoice") == ["INV-88214"]


def test_an_id_is_looked_for_among_the_tenants_that_are_read(records: RecordStore) -> None:
    records.create_entity("Order", search=["text"], tenant_field="org")
    records.insert("Order", [{"id": f"A-{org}", "org": org, "text": "lamp"} for org in ("a", "b")])
    assert found(records, "A-a", entity="Order", tenant="a") == ["A-a"]
    assert found(records, "A-b", entity="Order", tenant="a") == []
    records.search.index_record("Plain", "X-1", "some words")
    assert found(records, "X-1", entity="Plain") == [], "ids of what has no record are no words"


def mapped(search: SearchEngine) -> Any:
    class Base(DeclarativeBase):
        pass

    options = {"title": 2, "body": Field(html=True), "code": Field(index="keyword"), "notes": Field(index="vector")}

    @searchable(fields=options)
    class Part(Base):
        __tablename__ = "part"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]
        code: Mapped[str]
        notes: Mapped[str]

    Base.metadata.create_all(search.engine)
    return Part


def test_columns_of_a_mapped_class_have_the_options_of_a_field(search: SearchEngine, provider: HashProvider) -> None:
    cls, sessions = mapped(search), search.attach(sessionmaker(search.engine))
    with sessions() as session:
        session.add(cls(id=1, title="Brass pump", body="<p>For &lt;all&gt;</p>", code="QX-77", notes="quiet garden"))
        session.commit()
    assert calls(provider) == ["quiet garden\nBrass pump\nFor <all>"]

    def keywords(query: str) -> list[str]:
        return ids(search.search(query, entity=cls, mode="keyword"))

    assert (keywords("QX-77"), keywords("garden"), keywords("pump")) == (["1"], [], ["1"])
    with sessions() as session:
        session.get_one(cls, 1).code = "QX-78"
        session.commit()
    assert (keywords("QX-78"), search.sync().embedded) == (["1"], 0)
    assert calls(provider) == []
    assert kameleon.doctor.is_ok(kameleon.doctor.examine(search))
    with pytest.raises(InvalidInput, match="content= makes the text"):
        searchable(fields={"title": Field(html=True)}, content=str)


def test_a_rebuild_keeps_which_leg_has_a_field(search: SearchEngine, engine: Engine, backend: str) -> None:
    cls, sessions = mapped(search), search.attach(sessionmaker(search.engine))
    with sessions() as session:
        session.add(cls(id=1, title="Brass pump", body="", code="QX-77", notes="quiet garden"))
        session.commit()
    with engine.begin() as connection:
        connection.execute(text("UPDATE kdb_meta SET value = '1' WHERE key = 'schema_version'"))
    report = kameleon.rebuild(engine)
    assert (report.is_done, report.pending) == (True, 0)
    again = SearchEngine(engine, search.provider)
    found = {query: ids(again.search(query, entity=cls, mode="keyword")) for query in ("QX-77", "garden", "pump")}
    assert found == {"QX-77": ["1"], "garden": [], "pump": ["1"]}


def test_coroutines_update_delete_and_list(records: RecordStore) -> None:
    async def run() -> None:
        await records.ainsert("T", [{"id": n, "title": f"title {n}", "n": n} for n in (1, 2, 3)])
        assert await records.aupdate("T", where={"n": {"$gt": 1}}, changes={"n": 5}) == 2
        changed = await records.aupdate("T", 1, {"n": 9})
        assert isinstance(changed, Record)
        assert changed.data["n"] == 9
        assert [record.id for record in await records.alist("T", where={"n": 5})] == ["2", "3"]
        assert await records.adelete("T", where={"n": 5}) == 2
        assert await records.adelete("T", ["1"]) == 1

    asyncio.run(run())


def test_inserts_beside_an_alteration_are_indexed_as_the_entity_is(records: RecordStore, engine: Engine) -> None:
    """Each insert commits before the entity changes, or sees the change."""
    records.create_entity("T", search=["title"])
    begun, stop, errors = threading.Event(), threading.Event(), list[KameleonError]()

    def write() -> None:
        store, n = RecordStore(SearchEngine(engine, None)), 0
        try:
            while not stop.is_set() and n < 400:
                n += 1
                store.insert("T", [{"id": f"{n}", "title": "some words", "code": f"QX-{n}"}])
                begun.set()
        except KameleonError as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(30)
    try:
        for search in ({"code": 1}, {"code": Field(index="keyword")}):
            records.alter_entity("T", search=search)
    finally:
        stop.set()
        writer.join()
    assert not errors
    assert records.list("T")
    stale = [found for found in kameleon.doctor.examine(records.search) if found.check in ("stale", "missing")]
    assert stale == []


def test_a_keyword_only_field_is_shown_where_a_word_is_in_it_alone(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("R", search={"text": 1, "code": Field(index="keyword")})
    store.insert("R", [{"id": 1, "text": "red fox", "code": "QX-77"}])
    assert search.search("fox", entity="R", mode="keyword")[0].matched_text == "red fox"
    assert search.search("red fox", entity="R", mode="vector")[0].matched_text == "red fox"
    assert search.search("QX-77", entity="R")[0].matched_text == "red fox\nQX-77"
