"""Embeddings that callers give: checked, stored as they are, and never asked of a provider."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.embeddings import CallableProvider, GivenVectors
from kameleon.errors import InvalidInput, InvalidRecord, ModelMismatch, NoProvider, ProviderError
from kameleon.exporting import Export
from kameleon.testing import HashProvider
from kameleon.worker import Worker

from .conftest import Make, ids

RECORDS = [{"id": "1", "title": "red fox"}, {"id": "2", "title": "red fox"}, {"id": "3", "title": "lazy dog"}]
VECTORS: list[Any] = [[1.0, 0.0, 0.0], (0.0, 2.0, 0.0), np.array([0.0, 3.0, 0.1])]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def search(make: Make) -> SearchEngine:
    return make(GivenVectors("outside"))


def pending(search: SearchEngine, entity: str = "D") -> int:
    (status,) = search.get_status(entity)
    return status.pending


def nearest(search: SearchEngine, id_: str, entity: str = "D") -> list[str]:
    return ids(search.similar(entity, id_, mode="vector"))


def test_records_are_stored_with_the_vectors_that_are_given(search: SearchEngine) -> None:
    report = RecordStore(search).insert("D", RECORDS, embeddings=VECTORS)
    assert (report.index.embedded, report.index.reused, report.index.pending) == (0, 3, 0)
    assert nearest(search, "2") == ["3", "1"]
    (generation,) = search.generations()
    assert (generation.provider, generation.model_name, generation.dimensions) == ("given", "outside", 3)


def test_equal_vectors_are_written_once_and_changed_ones_again(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("D", RECORDS, embeddings=VECTORS)
    again = store.insert("D", RECORDS, embeddings=VECTORS, on_conflict="replace").index
    assert (again.unchanged, again.reused, again.pending) == (3, 0, 0)
    changed = [[0.0, 1.0, 0.1], *VECTORS[1:]]
    again = store.insert("D", RECORDS, embeddings=changed, on_conflict="replace").index
    assert (again.unchanged, again.reused) == (3, 1)
    assert nearest(search, "1") == ["3", "2"]


def test_a_record_without_a_vector_stays_pending_and_the_provider_is_not_called(
    make: Make, provider: HashProvider
) -> None:
    search = make(provider)
    vector = provider.embed("anything")
    report = RecordStore(search).insert("D", RECORDS, embeddings=[vector, None, vector])
    assert (report.index.reused, report.index.pending, provider.calls) == (2, 1, [["anything"]])
    assert pending(search) == 1
    assert search.sync().embedded == 1
    assert pending(search) == 0


def test_a_worker_makes_what_was_not_given(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    RecordStore(search).insert("D", RECORDS, embeddings=[None] * 3)
    assert provider.calls == []
    done = Worker(search).run()
    assert (done.embedded, done.reused) == (2, 1)


def test_a_changed_text_without_a_vector_is_pending(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("D", RECORDS, embeddings=VECTORS)
    store.update("D", "1", {"title": "grey wolf"})
    assert pending(search) == 1
    assert "1" not in nearest(search, "2")


def test_a_record_without_text_may_have_a_vector(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("D", [*RECORDS, {"id": "picture"}], embeddings=[*VECTORS, [1.0, 0.1, 0.0]])
    assert nearest(search, "1")[0] == "picture"
    assert [finding.check for finding in examine(search) if finding.severity != "note"] == []
    store.insert("D", [{"id": "picture"}], embeddings=[[0.0, 1.0, 0.0]], on_conflict="replace")
    assert nearest(search, "2")[0] == "picture"


def test_vectors_of_empty_texts_are_found_by_a_vector(search: SearchEngine) -> None:
    report = search.index_records_batch([("X", "1", ""), ("X", "2", "red fox")], embeddings=VECTORS[:2])
    assert (report.indexed, report.reused, report.pending) == (2, 2, 0)
    empty: list[dict[str, Any]] = [{"id": "a", "title": ""}, {"id": "b"}, {"id": "c", "title": None}]
    assert RecordStore(search).insert("P", empty, embeddings=VECTORS).index.pending == 0
    assert ids(search.search(vector=[1.0, 0.1, 0.0], entity="X")) == ["1", "2"]
    found = search.search(vector=[1.0, 0.1, 0.0], entity="P", highlight=True, passages=1, vectors=True)
    assert [(hit.id, hit.matched_text, hit.passages) for hit in found] == [("a", "", ()), ("b", "", ()), ("c", "", ())]
    assert ids(search.search(vector=[1.0, 0.1, 0.0], entity="P", min_similarity=0.9)) == ["a"]
    assert search.sync().pending == 0
    assert [finding.check for finding in examine(search) if finding.severity != "note"] == []


def test_an_index_moves_from_given_vectors_to_a_model_and_not_back(
    make: Make, search: SearchEngine, provider: HashProvider
) -> None:
    RecordStore(search).insert("D", RECORDS, embeddings=VECTORS)
    owner = make(provider)
    with pytest.raises(ModelMismatch, match="move the index"):
        owner.search("fox", mode="vector")
    report = owner.reindex()
    assert (report.action, report.switched, report.failed) == ("built", True, 0)
    assert set(ids(owner.search("fox", mode="vector"))[:2]) == {"1", "2"}
    for given in (search, make(GivenVectors("another", 3))):
        with pytest.raises(InvalidInput, match="come from outside"):
            given.reindex()
    with pytest.raises(ModelMismatch, match="an index of their own"):
        make(GivenVectors("another", 3)).search(vector=[1.0, 0.0, 0.0])
    assert ids(search.search(vector=[1.0, 0.1, 0.0]))[0] == "1"


def test_the_last_vector_of_an_id_is_stored_and_the_first_where_ids_are_ignored(search: SearchEngine) -> None:
    store = RecordStore(search)
    twice = [{"id": "1", "title": "red"}, {"id": "1", "title": "blue"}, {"id": "2", "title": "x"}]
    vectors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    store.insert("Last", twice, embeddings=vectors, on_conflict="replace")
    store.insert("First", twice, embeddings=vectors, on_conflict="ignore")
    (last,), (first,) = (search.similar(entity, "2", mode="vector") for entity in ("Last", "First"))
    assert last.score > first.score


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1.0, 0.0], "numbers, the model has 3"),
        ([float("nan"), 0.0, 0.0], "NaN"),
        ([0.0, 0.0, 0.0], "zero"),
        ([1e39, 0.0, 0.0], "infinity"),
        (["a", "b", "c"], "not a vector"),
        ("[1, 2, 3]", "not a vector"),
        ([{"start": 0}], "a text of 7 characters"),
        ([{"start": 0, "end": 99, "embedding": [1.0, 0.0, 0.0]}], "a text of 7 characters"),
    ],
)
def test_a_vector_that_cannot_be_stored_is_refused_with_its_position(
    search: SearchEngine, bad: Sequence[Any], message: str
) -> None:
    store = RecordStore(search)
    store.insert("D", RECORDS[2:], embeddings=VECTORS[2:])
    with pytest.raises(InvalidRecord, match=message) as raised:
        store.insert("D", RECORDS[:2], embeddings=[VECTORS[0], bad])
    assert raised.value.position == 1
    assert len(store.list("D")) == 1


def test_dimensions_of_a_call_that_was_refused_are_not_kept(search: SearchEngine) -> None:
    store = RecordStore(search)
    with pytest.raises(InvalidRecord, match="the model has 2"):
        store.insert("D", RECORDS, embeddings=[[1.0, 0.0], *VECTORS[1:]])
    assert store.insert("D", RECORDS, embeddings=VECTORS).index.reused == 3
    with pytest.raises(InvalidRecord, match="the model has 3"):
        store.insert("D", [{"id": "4", "title": "x"}], embeddings=[[1.0, 0.0]])


def test_embeddings_are_one_a_record(search: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="2 places for 3 records"):
        RecordStore(search).insert("D", RECORDS, embeddings=VECTORS[:2])
    for wrong in ("abc", 5, {"1": VECTORS[0]}):
        with pytest.raises(InvalidInput, match="embeddings is a list, one a record"):
            RecordStore(search).insert("D", RECORDS, embeddings=wrong)  # type: ignore[arg-type]
    assert RecordStore(search).insert("D", RECORDS, embeddings=iter(VECTORS)).index.reused == 3


def test_vectors_of_another_model_are_refused(make: Make, search: SearchEngine) -> None:
    RecordStore(search).insert("D", RECORDS, embeddings=VECTORS)
    with pytest.raises(ModelMismatch, match="outside"):
        RecordStore(make(GivenVectors("other", 3))).insert("E", RECORDS, embeddings=VECTORS)
    with pytest.raises(NoProvider, match="GivenVectors"):
        RecordStore(make()).insert("E", RECORDS, embeddings=VECTORS)


def test_sync_doctor_search_and_reindex_state_that_the_vectors_come_from_outside(
    make: Make, search: SearchEngine
) -> None:
    RecordStore(search).insert("D", RECORDS, embeddings=[*VECTORS[:2], None])
    for engine in (search, make("static")):
        report = engine.sync()
        assert report.pending == 1
        assert "come from outside" in str(report.outage)
        assert engine.get_status("D")[0].pending == 1
        found = engine.search("fox")
        assert ids(found) == ["1", "2"]
        assert "come from outside" in found.plan.note
        with pytest.raises(ProviderError, match="come from outside"):
            engine.search("fox", mode="vector")
        with pytest.raises(InvalidInput, match="come from outside"):
            engine.reindex(force=True)
        (finding,) = [finding for finding in examine(engine) if finding.severity != "note"]
        assert (finding.check, finding.cure) == ("pending", "give the vectors: insert(…, embeddings=[…])")


def test_a_provider_of_the_same_model_name_searches_and_completes_the_index(make: Make, search: SearchEngine) -> None:
    RecordStore(search).insert("D", RECORDS, embeddings=[*VECTORS[:2], None])
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[0.0, 1.0, 0.1] for _ in texts]

    owner = make(CallableProvider(embed, dimensions=3, model_name="outside"))
    assert owner.sync().embedded == 1
    assert "lazy dog" in asked
    assert ids(owner.search("fox", mode="vector"))[:2] == ["3", "2"]


def test_texts_are_indexed_with_the_vectors_of_their_passages(search: SearchEngine) -> None:
    passages = [
        {"start": 0, "end": 5, "embedding": [1.0, 0.0, 0.0]},
        {"start": 6, "end": 11, "embedding": [0.0, 1.0, 0.0]},
    ]
    given = [("X", "1", "hello world"), ("X", "2", "hello")]
    report = search.index_records_batch(given, embeddings=[passages, [0.0, 1.0, 0.0]])
    assert (report.indexed, report.reused) == (2, 2)
    again = search.index_records_batch(given, embeddings=[passages, [0.0, 1.0, 0.0]])
    assert (again.unchanged, again.reused) == (2, 0)
    (hit,) = search.similar("X", "2", mode="vector", passages=1)
    (passage,) = hit.passages
    assert (hit.id, passage.text) == ("1", "world")


def test_one_vector_takes_the_place_of_those_of_passages(search: SearchEngine) -> None:
    passages = [
        {"start": 0, "end": 5, "embedding": [1.0, 0.0, 0.0]},
        {"start": 6, "end": 11, "embedding": [0.0, 1.0, 0.0]},
    ]
    search.index_records_batch([("X", "1", "hello world")], embeddings=[passages])
    report = search.index_records_batch([("X", "1", "hello world")], embeddings=[[0.0, 0.0, 1.0]])
    assert (report.unchanged, report.reused) == (1, 1)
    (row,) = Export(search, "X", with_embeddings=True)
    assert row["embedding"] == [0.0, 0.0, 1.0]
    assert "embedding_passages" not in row


def test_vectors_are_written_in_the_callers_transaction(search: SearchEngine) -> None:
    sessions = search.attach(sessionmaker(search.engine))
    with sessions() as session:
        report = search.index_records_batch([("X", "1", "hello")], embeddings=[[1.0, 0.0, 0.0]], session=session)
        RecordStore(search).insert("D", RECORDS, embeddings=VECTORS, session=session)
        assert report.reused == 1
        session.rollback()
    assert search.get_status() == []
    with sessions.begin() as session:
        search.index_records_batch([("X", "1", "hello")], embeddings=[[1.0, 0.0, 0.0]], session=session)
        RecordStore(search).insert("D", RECORDS, embeddings=VECTORS, session=session)
    assert [(one.entity, one.indexed, one.pending) for one in search.get_status()] == [("D", 3, 0), ("X", 1, 0)]


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"], name="GivenNote")
class Note(Base):
    __tablename__ = "given_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


def test_objects_of_a_session_stay_pending_and_get_their_vectors_later(make: Make) -> None:
    search = make(GivenVectors("outside", 3), on_provider_error="raise")
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add_all([Note(id=1, title="red fox"), Note(id=2, title="lazy dog")])
    assert pending(search, "GivenNote") == 2
    given = [("GivenNote", 1, "red fox"), ("GivenNote", 2, "lazy dog")]
    report = search.index_records_batch(given, embeddings=VECTORS[:2])
    assert (report.unchanged, report.reused) == (2, 2)
    assert pending(search, "GivenNote") == 0


def test_tenants_have_vectors_of_their_own(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("T", search=["title"], tenant_field="")
    store.insert("T", RECORDS[:2], embeddings=VECTORS[:2], tenant="a")
    store.insert("T", RECORDS[:2], embeddings=VECTORS[1:], tenant="b")
    (of_a,) = search.similar("T", "1", tenant="a", mode="vector")
    (of_b,) = search.similar("T", "1", tenant="b", mode="vector")
    assert of_a.score < of_b.score


def test_more_dimensions_than_float32_columns_have_are_compared_as_they_are_stored(make: Make) -> None:
    vectors = np.random.default_rng(7).normal(size=(3, 2_100))
    search = make(GivenVectors("wide"))
    store = RecordStore(search)
    store.insert("D", RECORDS, embeddings=vectors)
    again = store.insert("D", RECORDS, embeddings=vectors, on_conflict="replace").index
    assert (again.unchanged, again.reused, again.pending) == (3, 0, 0)


def test_the_noise_of_a_model_from_outside_is_that_of_its_first_vectors(search: SearchEngine) -> None:
    store = RecordStore(search)
    vectors = np.random.default_rng(5).normal(size=(40, 16)) + 0.5
    store.insert("D", [{"id": str(n), "title": "x"} for n in range(8)], embeddings=vectors[:8])
    assert search.generations()[0].noise is None
    store.insert("D", [{"id": str(n), "title": "x"} for n in range(8, 40)], embeddings=vectors[8:])
    noise = search.generations()[0].noise
    assert noise is not None
    units = vectors[8:] / np.linalg.norm(vectors[8:], axis=1, keepdims=True)
    cosines = (units @ units.T)[np.triu_indices(32, 1)]
    assert noise == pytest.approx((cosines.mean(), cosines.std()), abs=1e-3)
