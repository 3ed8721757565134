"""The parts of a store with records of one entity and id in several tenants, on both databases."""

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from kameleon import RecordStore, SearchEngine
from kameleon.stores.claims import rows_of
from kameleon.stores.filters import parse_filter
from kameleon.stores.values import ATTEMPTS, Embedding, Entry, Scope, State
from kameleon.testing import HashProvider
from kameleon.values import Ref, Tenants

from .test_store_parts import NOW, Parts, entry, unit_rows
from .test_store_parts import parts as parts

ONE, TWO, NONE = Ref("Note", "1", "t1"), Ref("Note", "1", "t2"), Ref("Note", "1")
OTHER, FILM = Ref("Note", "2", "t1"), Ref("Film", "1", "t2")
ALL = [ONE, TWO, NONE, OTHER, FILM]
T1 = Scope(tenants=("t1",))
TENANTS: list[tuple[Tenants, list[Ref]]] = [
    (("",), [NONE]),
    (("t1",), [ONE, OTHER]),
    (("t2",), [TWO, FILM]),
    (("", "t2"), [NONE, TWO, FILM]),
    (("none", "t1"), [ONE, OTHER]),
    (("none",), []),
    ((), []),
    (None, ALL),
]


def of(ref: Ref, content: str | None = None) -> Entry:
    return entry(ref.id, content or f"of {ref.tenant} {ref.entity} {ref.id}", ref.entity, ref.tenant)


@pytest.fixture
def tenants(parts: Parts) -> Parts:
    """The same id in two tenants and without one, all embedded, with data in the record store."""
    parts.put(*map(of, ALL))
    parts.embed(*map(of, ALL))
    with parts.writing() as connection:
        for ref in ALL:
            data = {"of": f"{ref.tenant} {ref.entity} {ref.id}", "id": ref.id}
            parts.store.records.add(connection, ref.entity, [(ref.tenant, ref.id, data)], NOW)
    return parts


def test_a_record_is_read_and_written_in_its_tenant_alone(tenants: Parts) -> None:
    contents, before = tenants.store.contents, tenants.docs()
    assert set(before) == set(ALL)
    written = tenants.put(of(ONE, "changed"), of(Ref("Note", "1", "t3"), "new"))
    assert {ref: made.replaced for ref, made in written.items()} == {ONE: before[ONE], Ref("Note", "1", "t3"): None}
    missing, docs = Ref("Film", "1", "t1"), tenants.docs()
    with tenants.reading() as connection:
        states = contents.states(connection, [ONE, TWO, missing], tenants.generation)
        entries = contents.entries(connection, [TWO, missing, ONE, NONE])
        hits = contents.hits(connection, list(docs.values()))
        refs = contents.refs(connection, list(docs.values()))
    assert states == {
        ONE: State(of(ONE, "changed").content_hash, None),
        TWO: State(of(TWO).content_hash, of(TWO).content_hash),
    }
    assert {made.ref: made.content for made in entries} == {
        ONE: "changed",
        TWO: of(TWO).content,
        NONE: of(NONE).content,
    }
    assert {hit.ref: hit.data and hit.data["of"] for hit in hits.values()} == {
        Ref("Note", "1", "t3"): None,
        **{ref: f"{ref.tenant} {ref.entity} {ref.id}" for ref in ALL},
    }
    assert refs == {doc: ref for ref, doc in docs.items()}


def test_a_deleted_record_stays_in_other_tenants(tenants: Parts) -> None:
    before = tenants.docs()
    with tenants.writing() as connection:
        gone = tenants.store.writes.delete(connection, [TWO, Ref("Film", "1", "t1")], [tenants.generation])
    assert gone == [(TWO, before[TWO])]
    assert set(tenants.docs()) == {*ALL} - {TWO}
    assert tenants.nearest(unit_rows(1, seed=1)[0], 9, Scope(tenants=None)).keys() == set(tenants.docs().values())


def test_records_are_located_under_whichever_tenant(tenants: Parts) -> None:
    with tenants.reading() as connection:
        found = tenants.store.contents.located(connection, [Ref("Note", "1"), Ref("Note", "9")], tenants.generation)
        without = tenants.store.contents.located(connection, [Ref("Film", "1", "t1")], None)
    assert sorted(found) == [
        (ref, State(of(ref).content_hash, of(ref).content_hash)) for ref in sorted([NONE, ONE, TWO])
    ]
    assert without == [(FILM, State(of(FILM).content_hash, None))]


def test_embeddings_go_to_a_record_s_new_key(tenants: Parts) -> None:
    """Those of a changed content do not."""
    moved, changed = Ref("Note", "1", "t9"), Ref("Note", "2", "t9")
    vector = tenants.embed(of(ONE))[ONE][0]
    before = tenants.docs()
    written = tenants.put(of(moved, of(ONE).content), of(changed, "changed"))
    moves = [(ONE, before[ONE], moved, written[moved].doc), (OTHER, before[OTHER], changed, written[changed].doc)]
    assert tenants.nearest(vector, 9, Scope(tenants=("t9",))) == {}
    with tenants.writing() as connection:
        tenants.store.embeddings.rekey(connection, tenants.generation, moves)
        tenants.store.writes.delete(connection, [ONE, OTHER], [tenants.generation])
    assert tenants.nearest(vector, 9, Scope(tenants=("t9",))) == {written[moved].doc: pytest.approx(1, abs=1e-5)}
    with tenants.reading() as connection:
        states = tenants.store.contents.states(connection, [ONE, moved, changed], tenants.generation)
        found = tenants.store.embeddings.vectors_at(connection, tenants.generation, [moved]).get(moved)
        leftovers, _ = tenants.store.health.leftovers(connection, tenants.generation, None, 9)
    content_hash = of(ONE).content_hash
    assert states == {
        moved: State(content_hash, content_hash),
        changed: State(of(changed, "changed").content_hash, None),
    }
    assert found == vector.tobytes()
    assert list(leftovers) == []


def test_a_vector_is_of_one_tenant(tenants: Parts) -> None:
    made = tenants.embed(*map(of, ALL))
    with tenants.reading() as connection:
        for ref in ALL:
            found = tenants.store.embeddings.vectors_at(connection, tenants.generation, [ref]).get(ref)
            assert found == made[ref][0].tobytes()
        assert tenants.store.embeddings.vectors_at(connection, tenants.generation, [Ref("Film", "1")]) == {}


@pytest.mark.parametrize(("named", "refs"), TENANTS)
def test_a_scope_has_the_records_of_its_tenants(tenants: Parts, named: Tenants, refs: list[Ref]) -> None:
    docs = tenants.docs()
    filters = [None, parse_filter({"id": "1"})]
    with tenants.reading() as connection:
        for entities in ((), ("Note",)):
            for filter_ in filters:
                scope = Scope(entities, filter_, tenants=named)
                inside = [r for r in refs if (not entities or r.entity == "Note") and (not filter_ or r.id == "1")]
                expected = sorted(docs[ref] for ref in inside)
                found = tenants.store.scopes.docs(connection, scope, 9)
                assert found is not None
                assert sorted(found) == expected
                assert sorted(tenants.store.scopes.within(connection, scope, list(docs.values()))) == expected
                matches = tenants.store.contents.matches(scope, list(docs.values()))
                assert tenants.store.contents.count(connection, matches) == len(expected)
                (facet,) = tenants.store.records.facets(connection, matches, [["of"]], 9)
                assert sorted(facet) == sorted((f"{ref.tenant} {ref.entity} {ref.id}", 1) for ref in inside)
        assert tenants.store.contents.entities(connection, named) == sorted({ref.entity for ref in refs})


def test_a_scope_leaves_out_a_record_of_one_tenant(tenants: Parts) -> None:
    docs, scope = tenants.docs(), Scope(("Note",), without=(ONE,), tenants=None)
    with tenants.reading() as connection:
        found = tenants.store.scopes.docs(connection, scope, 9)
    assert sorted(found or ()) == sorted(docs[ref] for ref in (TWO, NONE, OTHER))


@pytest.mark.parametrize(("named", "refs"), TENANTS)
def test_the_nearest_are_of_the_tenants(tenants: Parts, named: Tenants, refs: list[Ref]) -> None:
    made, docs, query = tenants.embed(*map(of, ALL)), tenants.docs(), unit_rows(1, seed=3)[0]
    expected = {docs[ref]: pytest.approx(float(made[ref][0] @ query), abs=1e-5) for ref in refs}
    best = sorted(expected, key=lambda doc: -expected[doc].expected)
    for _ in range(3):  # sqlite-vec answers the first of a tenant, NumPy the others
        assert tenants.nearest(query, 9, Scope(tenants=named)) == expected
        assert list(tenants.nearest(query, 2, Scope(tenants=named))) == best[:2]
        notes = {docs[ref]: expected[docs[ref]] for ref in refs if ref.entity == "Note"}
        assert tenants.nearest(query, 9, Scope(("Note",), tenants=named)) == notes
        some = Scope(filter=parse_filter({"id": "1"}), tenants=named)
        assert set(tenants.nearest(query, 9, some)) == {docs[ref] for ref in refs if ref.id == "1"}


def test_values_are_those_of_the_tenant_s_record(tenants: Parts) -> None:
    docs = tenants.docs()
    with tenants.reading() as connection:
        by_ref = tenants.store.records.values(connection, [*ALL, Ref("Film", "1")], ["of"])
        by_doc = tenants.store.records.values_of(connection, list(docs.values()), ["of"])
    assert by_ref == {ref: f"{ref.tenant} {ref.entity} {ref.id}" for ref in ALL}
    assert by_doc == {docs[ref]: value for ref, value in by_ref.items()}


def test_ids_are_stored_by_tenant(tenants: Parts) -> None:
    keys = [("t1", "1"), ("t1", "9"), ("t3", "1"), ("", "1"), ("t2", "2")]
    with tenants.reading() as connection:
        assert tenants.store.records.stored_ids(connection, "Note", keys) == {("t1", "1"), ("", "1")}
        assert tenants.store.records.stored_ids(connection, "Film", keys) == set()


@pytest.mark.parametrize(("named", "refs"), TENANTS)
def test_status_and_failures_are_of_the_tenants(parts: Parts, named: Tenants, refs: list[Ref]) -> None:
    parts.put(*map(of, ALL))
    embeddings, refused = parts.store.embeddings, [ONE, TWO, FILM]
    tombstones = [Embedding(ref, of(ref).content_hash, None, "bad_text", ref.tenant) for ref in refused]
    with parts.writing() as connection:
        embeddings.write(connection, parts.generation, tombstones, NOW, {})
    with parts.reading() as connection:
        status = embeddings.status(connection, parts.generation, has_provider=True, tenants=named)
        failures = embeddings.failures(connection, parts.generation, named)
        pending, _ = embeddings.pending(connection, parts.generation, after=None, limit=9)
    counts = {made.entity: (made.indexed, made.pending, made.failed) for made in status}
    assert counts == {
        entity: (len(of_it), len([ref for ref in of_it if ref not in refused]), len({*of_it} & {*refused}))
        for entity in ("Film", "Note")
        if (of_it := [ref for ref in refs if ref.entity == entity])
    }
    expected = sorted({*refs} & {*refused})
    assert [Ref(made.entity, made.id, made.tenant) for made in failures] == expected
    assert [made.message for made in failures] == [ref.tenant for ref in expected]
    assert sorted(made.ref for made in pending) == sorted([NONE, OTHER])


def test_a_text_is_given_up_in_its_tenant_alone(parts: Parts) -> None:
    parts.put(of(ONE), of(TWO))
    tried = [Embedding(ref, of(ref).content_hash, None, "server_error", "") for ref in (ONE, TWO)]
    with parts.writing() as connection:
        for _ in range(ATTEMPTS - 1):
            parts.store.embeddings.write(connection, parts.generation, tried, NOW, {})
        parts.store.embeddings.write(connection, parts.generation, tried[:1], NOW, {})
        assert parts.store.embeddings.give_up(connection, parts.generation, [ONE, TWO]) == [ONE]


def test_texts_are_cached_by_tenant(parts: Parts) -> None:
    embeddings = parts.store.embeddings
    with parts.writing() as connection:
        embeddings.cache(connection, "model", [("", "a", b"0"), ("t1", "a", b"1"), ("t2", "b", b"2")], NOW)
        embeddings.cache(connection, "model", [("t1", "a", b"9")], NOW)
        keys = [("t1", "a"), ("t2", "a"), ("t2", "b"), ("", "b")]
        found = embeddings.cached(connection, "model", keys)
        assert embeddings.cached(connection, "other", keys) == []
    assert sorted((row.tenant, row.key, row.vector) for row in found) == [("t1", "a", b"1"), ("t2", "b", b"2")]


def test_refs_come_in_pages_in_the_order_of_their_keys(parts: Parts) -> None:
    refs = [Ref("Note", str(n), tenant) for tenant in ("", "t1", "t2") for n in range(4)]
    parts.put(*map(of, refs), of(FILM), of(Ref("Zebra", "1", "t1")))
    found: list[Ref] = []
    while True:
        with parts.reading() as connection:
            page = parts.store.health.refs_after(connection, "Note", found[-1] if found else None, 3)
        if not page:
            break
        assert len(page) == 3
        found += page
    assert found == refs


NAME = "Quetzalcoatl"


def test_nothing_of_a_dropped_tenant_is_in_the_database_s_files(file_engine: Engine) -> None:
    search, store = SearchEngine(file_engine, HashProvider(8)), RecordStore(SearchEngine(file_engine, HashProvider(8)))
    store.create_entity("Film", search=["title"], fields={"year": "integer"}, tenant_field="org")
    for tenant in (NAME, "kept"):
        rows = [("Note", f"{tenant} {n}", f"a note {n} of {tenant}") for n in range(300)]
        search.index_records_batch(rows, tenant=tenant)
        store.insert("Film", [{"id": f"{tenant}-1", "title": f"{tenant} film", "year": 1990, "org": tenant}])
        search.delete_record("Note", f"{tenant} 7", tenant=tenant)
    (generation,) = search.generations()
    with search.index.store.connections.writing() as connection:
        (vector,) = search.index.store.embeddings.vectors_at(
            connection, generation, [Ref("Note", f"{NAME} 5", NAME)]
        ).values()
        queued = [Ref("Note", f"{NAME} 1", NAME), Ref("Note", "kept 1", "kept")]
        search.index.store.writes.enqueue(connection, rows_of(queued, NOW))
        dirty = "INSERT INTO kdb_dirty (tenant, entity_name, record_id) VALUES (?, 'Note', ?)"
        connection.exec_driver_sql(dirty, (NAME, f"{NAME} 1"))
    assert search.search(NAME, tenant=NAME, mode="hybrid")
    before = files_of(file_engine)
    assert before.count(NAME.encode()) > 300
    assert vector is not None
    assert vector in before

    with search.index.store.connections.writing() as connection:
        search.index.store.schema.drop_tenant(connection, NAME, [generation])
    assert not search.search("note", tenant=NAME, mode="vector")
    assert len(search.search("note", tenant="kept", mode="vector", limit=400)) == 300
    with closing(file_engine.raw_connection()) as connection_:
        connection_.cursor().execute("VACUUM")
        connection_.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    after = files_of(file_engine)
    assert after.count(b"kept") > 300
    assert NAME.lower().encode() not in after.lower()
    assert vector not in after


def files_of(engine: Engine) -> bytes:
    """The database and its write-ahead log."""
    path = Path(str(engine.url.database))
    return b"".join(file.read_bytes() for file in (path, path.with_name(f"{path.name}-wal")) if file.is_file())


def test_a_dropped_tenant_leaves_others_as_they_are(tenants: Parts) -> None:
    vector, before = unit_rows(1, seed=4)[0], tenants.docs()
    kept = [NONE, TWO, FILM]
    assert len(tenants.nearest(vector, 9, Scope(tenants=None))) == len(tenants.nearest(vector, 9, T1)) + 3 == 5
    with tenants.writing() as connection:
        tenants.store.schema.drop_tenant(connection, "t1", [tenants.generation])
    assert tenants.docs() == {ref: before[ref] for ref in kept}
    assert tenants.nearest(vector, 9, T1) == {}
    assert tenants.nearest(vector, 9, Scope(tenants=None)).keys() == {before[ref] for ref in kept}
    with tenants.reading() as connection:
        assert tenants.store.records.values(connection, ALL, ["id"]) == {ref: ref.id for ref in kept}
        leftovers, _ = tenants.store.health.leftovers(connection, tenants.generation, None, 9)
    assert list(leftovers) == []
