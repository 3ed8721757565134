"""The parts of a store on both databases: numbers of contents, scopes, vectors by number, matches."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, text

from kameleon.content import content_hash
from kameleon.errors import InvalidInput, SchemaMismatch
from kameleon.keywords.writing import DEAD, SEGMENT, TAIL
from kameleon.stores.catalog import Catalog
from kameleon.stores.factory import make_store
from kameleon.stores.filters import parse_filter
from kameleon.stores.keyword_tables import LIVE
from kameleon.stores.protocols import Store
from kameleon.stores.values import Among, Embedding, Entry, Scope, Written
from kameleon.testing import HashProvider
from kameleon.values import Ref

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIMENSIONS = 16
EVERYTHING = Scope()


def entry(id_: str, content: str, entity: str = "Note", tenant: str = "") -> Entry:
    return Entry(Ref(entity, id_, tenant), content, content_hash(content))


class Parts:
    """A store with one generation."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.engine, self.is_sqlite = engine, engine.dialect.name == "sqlite"
        self.store: Store = make_store(engine, options)
        self.writing = self.store.connections.writing
        self.reading = self.store.connections.reading
        with self.writing() as connection:
            self.store.schema.create(connection, with_vectors=True)
            catalog = Catalog(self.store)
            made = catalog.ensure_generation(connection, [], HashProvider(dimensions=DIMENSIONS))
        assert made is not None
        self.generation = made

    def put(self, *entries: Entry) -> dict[Ref, Written]:
        with self.writing() as connection:
            return dict(self.store.writes.upsert(connection, entries, [self.generation], NOW))

    def embed(self, *entries: Entry, passages: int = 1) -> dict[Ref, np.ndarray]:
        """Random vectors of each entry's passages, a row each."""
        made = {e.ref: unit_rows(passages, seed=hash_of(e)) for e in entries}
        embeddings = [
            Embedding(e.ref, e.content_hash, made[e.ref][n].tobytes(), passage=n, start_at=n, end_at=n + 1)
            for e in entries
            for n in range(passages)
        ]
        with self.writing() as connection:
            self.store.embeddings.write(connection, self.generation, embeddings, NOW, {})
        return made

    def docs(self) -> dict[Ref, int]:
        column = "id" if self.is_sqlite else "doc"
        with self.reading() as connection:
            rows = connection.execute(text(f"SELECT entity_name, record_id, tenant, {column} FROM kdb_search"))
            return {Ref(*ref): doc for *ref, doc in rows}

    def nearest(self, vector: np.ndarray, limit: int, scope: Scope = EVERYTHING, **more: Any) -> dict[int, float]:
        with self.reading() as connection:
            found = self.store.vectors.nearest(connection, self.generation, vector, scope, limit, **more)
        assert found.is_exact
        return dict(found.scores)

    def cosines(self, connection: Connection, vector: np.ndarray, docs: Sequence[int]) -> dict[int, float]:
        vectors = self.store.vectors
        found = vectors.nearest(connection, self.generation, vector, EVERYTHING, 1, docs=[], beside=docs)
        assert not found.scores
        return dict(found.others)


def hash_of(made: Entry) -> int:
    return int(made.content_hash[:8], 16)


def unit_rows(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, DIMENSIONS)).astype("<f4")
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.fixture
def parts(engine: Engine) -> Parts:
    return Parts(engine)


# contents and their numbers


def test_a_content_has_a_number_that_none_had_before(parts: Parts) -> None:
    refs = [Ref("Note", str(n)) for n in range(1, 4)]
    first = parts.put(*(entry(ref.id, "one") for ref in refs))
    again = parts.put(entry("2", "two"), entry("4", "four"))
    with parts.writing() as connection:
        deleted = parts.store.writes.delete(connection, [refs[2], refs[0], Ref("Note", "none")], [parts.generation])
    back = parts.put(entry("3", "three"))

    assert [made.replaced for made in first.values()] == [None] * 3
    assert again[refs[1]].replaced == first[refs[1]].doc
    assert again[Ref("Note", "4")].replaced is None
    assert sorted(deleted) == [(refs[0], first[refs[0]].doc), (refs[2], first[refs[2]].doc)]
    assert back[refs[2]].replaced is None
    numbers = [made.doc for written in (first, again, back) for made in written.values()]
    assert len(set(numbers)) == len(numbers) == 6
    assert numbers == sorted(numbers)
    assert parts.docs() == {refs[1]: again[refs[1]].doc, refs[2]: back[refs[2]].doc, Ref("Note", "4"): numbers[4]}


def test_many_records_are_written_and_replaced(parts: Parts) -> None:
    many = [entry(f"{n:04}", f"content {n}") for n in range(1_200)]
    first = parts.put(*many)
    again = parts.put(*(entry(e.ref.id, f"{e.content} again") for e in many[:700]), entry("new", "new"))

    assert {ref: made.replaced for ref, made in again.items() if made.replaced is not None} == {
        e.ref: first[e.ref].doc for e in many[:700]
    }
    assert len({made.doc for made in (*first.values(), *again.values())}) == 1_901
    assert parts.docs() == {ref: made.doc for ref, made in {**first, **again}.items()}


def test_a_number_is_not_used_again_after_the_last_record_is_gone(parts: Parts) -> None:
    first = parts.put(entry("1", "one"))[Ref("Note", "1")].doc
    with parts.writing() as connection:
        parts.store.writes.delete(connection, [Ref("Note", "1")], [])
    assert parts.put(entry("1", "one"))[Ref("Note", "1")].doc > first


def test_writers_of_one_record_replace_each_others_content(parts: Parts) -> None:
    """Each content but the last is replaced exactly once, so that its document is marked dead once."""
    if parts.engine.pool.__class__.__name__ in ("SingletonThreadPool", "StaticPool"):
        pytest.skip("a database in memory has one connection")
    made: list[Written] = []
    begin = Barrier(2)

    def write(name: str) -> None:
        begin.wait()
        for n in range(20):
            written = parts.put(entry("1", f"{name} {n}"), entry(name, f"{n}"))
            made.append(written[Ref("Note", "1")])

    threads = [Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    left = {one.doc for one in made} - {one.replaced for one in made}
    assert len(made) == 40
    assert sum(one.replaced is None for one in made) == 1
    assert len({one.replaced for one in made}) == 40
    assert left == {parts.docs()[Ref("Note", "1")]}


def test_contents_are_read_by_number(parts: Parts) -> None:
    written = parts.put(entry("1", "one"), entry("2", "two"))
    old, kept = (written[Ref("Note", id_)].doc for id_ in ("1", "2"))
    new = parts.put(entry("1", "one more"))[Ref("Note", "1")].doc
    with parts.reading() as connection:
        assert parts.store.contents.refs(connection, [old, new, kept]) == {
            new: Ref("Note", "1"),
            kept: Ref("Note", "2"),
        }
        hits = parts.store.contents.hits(connection, [old, new, kept])
    assert {doc: hit.content for doc, hit in hits.items()} == {new: "one more", kept: "two"}


# embeddings


def test_an_embedding_is_of_one_content(parts: Parts) -> None:
    one, two = entry("1", "one"), entry("2", "two")
    parts.put(one, two)
    vectors = parts.embed(one, two)
    parts.put(entry("1", "changed"))
    docs = parts.docs()
    with parts.reading() as connection:
        found = parts.cosines(connection, vectors[one.ref][0], [docs[one.ref], docs[two.ref]])
        entries, _ = parts.store.embeddings.pending(connection, parts.generation, after=None, limit=10)
    assert list(found) == [docs[two.ref]]
    assert [e.ref for e in entries] == [one.ref]


def test_a_content_that_is_written_again_keeps_its_embedding(parts: Parts) -> None:
    one = entry("1", "one")
    parts.put(one)
    vectors = parts.embed(one, passages=2)
    vector = vectors[one.ref][1]
    assert parts.nearest(vector, 5) == {parts.docs()[one.ref]: pytest.approx(1, abs=1e-5)}
    parts.put(one)
    assert parts.nearest(vector, 5) == {parts.docs()[one.ref]: pytest.approx(1, abs=1e-5)}
    with parts.reading() as connection:
        assert not parts.store.embeddings.pending(connection, parts.generation, after=None, limit=10)[0]


# scopes and vectors


@pytest.fixture
def corpus(parts: Parts) -> tuple[Parts, dict[int, Ref], dict[int, np.ndarray]]:
    """Two entities whose records have two passages, with a field in the record store."""
    entries = [entry(str(n), f"text {n}", entity) for entity in ("Film", "Note") for n in range(60)]
    parts.put(*entries)
    vectors = parts.embed(*entries, passages=2)
    with parts.writing() as connection:
        for entity in ("Film", "Note"):
            rows = [("", str(n), {"n": n, "even": n % 2 == 0}) for n in range(60)]
            parts.store.records.add(connection, entity, rows, NOW)
    refs = {doc: ref for ref, doc in parts.docs().items()}
    return parts, refs, {doc: vectors[ref] for doc, ref in refs.items()}


Corpus = tuple[Parts, dict[int, Ref], dict[int, np.ndarray]]
AMONG = Among("SELECT '7' UNION ALL SELECT '8' UNION ALL SELECT 'none'", {})
SCOPES = [
    (Scope(), lambda ref: True),
    (Scope(("Note",)), lambda ref: ref.entity == "Note"),
    (Scope(("Film", "Note", "None")), lambda ref: True),
    (Scope(("Note",), parse_filter({"n": {"$lt": 9}})), lambda ref: ref.entity == "Note" and int(ref.id) < 9),
    (Scope((), parse_filter({"even": True})), lambda ref: int(ref.id) % 2 == 0),
    (Scope(("Note",), among=AMONG), lambda ref: ref.entity == "Note" and ref.id in ("7", "8")),
    (
        Scope(("Note",), parse_filter({"n": {"$lt": 8}}), AMONG, (Ref("Note", "3"), Ref("Note", "8"))),
        lambda ref: ref == Ref("Note", "7"),
    ),
    (Scope(("Note",), without=(Ref("Note", "3"),)), lambda ref: ref.entity == "Note" and ref.id != "3"),
    (Scope(without=(Ref("Note", "3"), Ref("Film", "2"))), lambda ref: ref[:2] not in {("Note", "3"), ("Film", "2")}),
]


@pytest.mark.parametrize(("scope", "is_in"), SCOPES)
def test_a_scope_selects_contents(corpus: Corpus, scope: Scope, is_in: Callable[[Ref], bool]) -> None:
    parts, refs, _ = corpus
    expected = sorted(doc for doc, ref in refs.items() if is_in(ref))
    some = [*list(refs)[::3], max(refs) + 1]
    with parts.reading() as connection:
        all_ = parts.store.scopes.docs(connection, scope, len(expected))
        assert all_ is not None
        assert sorted(all_) == expected
        assert parts.store.scopes.docs(connection, scope, len(expected) - 1) is None
        assert sorted(parts.store.scopes.within(connection, scope, some)) == sorted(set(some) & set(expected))
        matches = parts.store.contents.matches(scope, some)
        assert parts.store.contents.count(connection, matches) == len(set(some) & set(expected))


@pytest.mark.parametrize(("scope", "is_in"), SCOPES)
@pytest.mark.parametrize("leaves_out", [False, True])
def test_the_nearest_of_a_scope_are_those_of_all_comparisons(
    corpus: Corpus, scope: Scope, is_in: Callable[[Ref], bool], leaves_out: bool
) -> None:
    parts, refs, vectors = corpus
    query = unit_rows(1, seed=1)[0]
    cosines = {doc: float((rows @ query).max()) for doc, rows in vectors.items()}
    excluded = sorted(cosines, key=lambda doc: -cosines[doc])[::2] if leaves_out else []
    in_scope = [doc for doc, ref in refs.items() if is_in(ref)]
    allowed = sorted(set(in_scope) - set(excluded), key=lambda doc: -cosines[doc])
    expected = {doc: pytest.approx(cosines[doc], abs=1e-5) for doc in allowed[:7]}
    for _ in range(2):  # sqlite-vec answers the first, NumPy the second
        assert parts.nearest(query, 7, scope, excluded=excluded) == expected
        assert list(parts.nearest(query, 7, scope, excluded=excluded)) == allowed[:7]
        assert parts.nearest(query, 7, scope, docs=in_scope, excluded=excluded) == expected
    assert parts.nearest(query, 7, scope, docs=[]) == {}


def test_cosines_are_of_the_nearest_passage(corpus: Corpus) -> None:
    parts, _, vectors = corpus
    query = unit_rows(1, seed=2)[0]
    some = [*list(vectors)[::5], max(vectors) + 1]
    expected = {doc: pytest.approx(float((vectors[doc] @ query).max()), abs=1e-5) for doc in some[:-1]}
    for _ in range(2):
        with parts.reading() as connection:
            assert parts.cosines(connection, query, some) == expected
        parts.nearest(query, 3)


def test_matches_are_counted_by_field(corpus: Corpus) -> None:
    parts, refs, _ = corpus
    some = [doc for doc, ref in refs.items() if int(ref.id) < 5]
    with parts.reading() as connection:
        matches = parts.store.contents.matches(Scope(("Film",)), some)
        assert parts.store.records.facets(connection, matches, [["even"]], 10) == [[(True, 3), (False, 2)]]


# settings and faults


def test_a_language_is_one_of_the_analysers(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"no language 'klingon'. It has: arabic, .*, simple"):
        make_store(engine, {"language": "klingon"})
    assert Parts(engine, language="german").store.language == "german"
    store = make_store(engine, {})
    with store.connections.reading() as connection:
        store.schema.check(connection, with_vectors=True)
    assert store.language == "german"
    other = make_store(engine, {"language": "simple"})
    with other.connections.reading() as connection, pytest.raises(InvalidInput, match="reads texts as 'german'"):
        other.schema.check(connection, with_vectors=True)


def test_an_index_of_another_analyser_is_refused(parts: Parts) -> None:
    with parts.writing() as connection:
        connection.execute(text("UPDATE kdb_meta SET value = '0' WHERE key = 'analyser'"))
    with (
        parts.reading() as connection,
        pytest.raises(SchemaMismatch, match=r"made by version 0 of the analyser.*`kameleon rebuild`"),
    ):
        parts.store.schema.check(connection, with_vectors=True)


def test_a_keyword_index_that_differs_from_the_contents_is_found(parts: Parts) -> None:
    one, two, three = (made.doc for made in parts.put(entry("1", "a"), entry("2", "b"), entry("3", "c")).values())
    with parts.writing() as connection:
        assert [fault.name for fault in parts.store.health.keyword_faults(connection)] == ["Note"]
        insert = parts.store.postings.insert
        insert(connection, "kdb_tail", TAIL, [("", "Note", 7, one, 1, b"", b"", b"", b"")])
        docs = np.array([two, three, 90, 91, 92], "<i8").tobytes()
        insert(connection, "kdb_segment", SEGMENT, [("", "Note", 5, LIVE, 5, 1, b"", docs, b"")])
        insert(connection, "kdb_dead", DEAD, [("", "Note", 90, b"")])
        insert(connection, "kdb_dead", DEAD, [("", "Note", 91, np.array([91, 92], "<i8").tobytes())])
        assert parts.store.health.keyword_faults(connection) == []
        insert(connection, "kdb_dead", DEAD, [("", "Note", two, b"")])
        insert(connection, "kdb_tail", TAIL, [("", "Note", 7, 93, 1, b"", b"", b"", b"")])
        (fault,) = parts.store.health.keyword_faults(connection)
    assert (fault.check, fault.severity) == ("keyword-index", "error")
    assert fault.message == "the keyword index of Note lacks 1 records and has 1 that are gone"
    assert "kameleon rebuild" in fault.cure
