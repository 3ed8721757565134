"""Searches by a vector that the caller gives: alone and beside a text, with every provider and with none."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.embeddings import GivenVectors
from kameleon.embeddings.provider import Vector
from kameleon.errors import InvalidInput, ModelMismatch, NoProvider, ProviderUnavailable
from kameleon.testing import HashProvider
from kameleon.values import SearchResults

from .conftest import Make, ids, pages

COLOURS = ("red", "grey", "blue")
DIMENSIONS = 16
ROWS = np.random.default_rng(7).normal(size=(201, DIMENSIONS)).astype("f4")
VECTOR = np.random.default_rng(8).normal(size=DIMENSIONS)


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class Painting(Base):
    __tablename__ = "vector_painting"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def records(count: int = len(ROWS)) -> list[dict[str, Any]]:
    return [{"id": f"{n:03}", "text": f"{COLOURS[n % 3]} plate", "colour": COLOURS[n % 3]} for n in range(count)]


def nearest(vector: Any = VECTOR, among: Iterable[int] = range(len(ROWS))) -> list[str]:
    """By the cosine, as NumPy has it."""
    rows: NDArray[np.float64] = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    cosines = rows @ np.asarray(vector, "f8")
    return [f"{n:03}" for n in sorted(among, key=lambda n: -cosines[n])]


@pytest.fixture
def given(make: Make) -> SearchEngine:
    search = make(GivenVectors("outside"))
    RecordStore(search).insert("Plate", records(), embeddings=ROWS)
    return search


@pytest.mark.parametrize("kind", [list, tuple, np.asarray, lambda v: np.asarray(v, "f4"), lambda v: 7 * v])
def test_a_vector_finds_the_records_nearest_to_it(given: SearchEngine, kind: Any) -> None:
    found = given.search(vector=kind(VECTOR), limit=60)
    assert ids(found) == nearest()[:60]
    assert (found.plan.mode, found.plan.weight, found.plan.is_query_cached) == ("vector", 1.0, False)
    assert found.plan.note == ""


def test_a_text_beside_a_vector_is_searched_for_keywords(given: SearchEngine) -> None:
    found = given.search("grey", vector=VECTOR, limit=10, explain=True)
    assert found.plan.mode == "hybrid"
    legs = {leg.leg for hit in found for leg in hit.explanation}
    assert legs == {"keyword", "vector"}
    assert {hit.data["colour"] for hit in found if hit.data} == {"grey"}
    assert ids(given.search("grey", vector=VECTOR, mode="vector", limit=10)) == nearest()[:10]


def test_operators_hold_beside_a_vector(given: SearchEngine) -> None:
    without = [n for n in range(len(ROWS)) if n % 3]
    assert ids(given.search("-red", vector=VECTOR)) == nearest(among=without)[:10]
    blue = range(2, len(ROWS), 3)
    assert ids(given.search('"blue plate"', vector=VECTOR, mode="vector")) == nearest(among=blue)[:10]


def test_no_provider_is_called_and_no_cache_read_or_filled(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    search.index_records_batch(("D", n, f"fox number {n}") for n in range(5))
    search.search("fox number 3")
    provider.calls.clear()
    far = -provider.embed_query("fox number 3")
    provider.calls.clear()
    found = search.search("fox number 3", vector=far, mode="vector", highlight=True)
    assert (found[-1].id, provider.calls, found.plan.is_query_cached) == ("3", [], False)
    own = search.search("fox number 3", mode="vector")
    assert (own[0].id, own.plan.is_query_cached) == ("3", True)


class Silent(HashProvider):
    def embed_query(self, text: str) -> Vector:
        raise ProviderUnavailable("down")


def test_a_provider_that_is_down_is_not_needed(make: Make) -> None:
    provider = Silent()
    search = make(provider)
    search.index_records_batch([("D", "1", "red fox"), ("D", "2", "lazy dog")])
    vector = HashProvider().embed_query("lazy dog")
    with pytest.raises(ProviderUnavailable):
        search.search("lazy dog", mode="vector")
    assert ids(search.search(vector=vector))[0] == "2"
    assert ids(search.search("fox", vector=vector, mode="vector"))[0] == "2"


@pytest.mark.parametrize("other", [None, "static"])
def test_an_engine_without_the_model_searches_the_active_generation(
    given: SearchEngine, make: Make, other: str | None
) -> None:
    found = make(other).search(vector=VECTOR)
    assert (ids(found), found.plan.model) == (nearest()[:10], "outside")


def test_an_engine_with_another_model_refuses_a_vector(given: SearchEngine, make: Make) -> None:
    search = make(HashProvider(DIMENSIONS))
    with pytest.raises(ModelMismatch, match="outside"):
        search.search(vector=VECTOR)
    beside = search.search("grey", vector=VECTOR)
    assert beside.plan.note.startswith("keywords only")
    assert len(beside) == 10


@pytest.mark.parametrize("query", ["", "grey"])
def test_a_vector_of_other_dimensions_is_refused_with_both_numbers(given: SearchEngine, query: str) -> None:
    with pytest.raises(ModelMismatch, match=r"3 numbers, .* 16"):
        given.search(query, vector=[1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([0.0] * DIMENSIONS, "zero"),
        ([], "zero"),
        ([float("nan")] * DIMENSIONS, "NaN"),
        (["a"] * DIMENSIONS, "not a vector"),
        ("1, 2", "not a vector"),
        (7, "int"),
        (np.array(1.0), "ndarray"),
        ([[1.0] * DIMENSIONS], "list of numbers"),
        ({"a": 1.0}, "list of numbers"),
    ],
)
def test_what_is_no_vector_is_refused(given: SearchEngine, vector: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        given.search(vector=vector)


def test_what_a_vector_cannot_be_combined_with_is_refused(given: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="mode='keyword'"):
        given.search("grey", vector=VECTOR, mode="keyword")
    with pytest.raises(InvalidInput, match="mode='keyword'"):
        given.search(vector=VECTOR, mode="keyword")
    with pytest.raises(InvalidInput, match="rerank"):
        given.search(vector=VECTOR, rerank=lambda _, texts: [0.0] * len(texts))
    with pytest.raises(InvalidInput, match="similar"):
        given.similar("Plate", "000", vector=VECTOR)


def test_an_index_without_embeddings_has_no_hits(make: Make) -> None:
    for search in (make(), make(GivenVectors("outside"))):
        assert list(search.search(vector=VECTOR)) == []
        search.index_record("D", "1", "red fox")
        found = search.search(vector=VECTOR)
        assert (list(found), found.total) == ([], 0)
        assert "no embeddings" in found.plan.note
        beside = search.search("fox", vector=VECTOR)
        assert ids(beside) == ["1"]
        assert "no embeddings" in beside.plan.note


def test_pages_by_cursor_and_by_offset_have_every_record_once(given: SearchEngine) -> None:
    options: dict[str, Any] = {"vector": VECTOR, "limit": 51, "mode": "vector"}
    paged = [hit.id for page in pages(given, "", **options) for hit in page]
    assert paged == nearest()
    by_offset = [hit.id for at in range(0, len(ROWS), 51) for hit in given.search(offset=at, **options)]
    assert by_offset == paged
    first = given.search(vector=VECTOR)
    with pytest.raises(InvalidInput, match="another query"):
        given.search(vector=-VECTOR, cursor=first.cursor)
    assert ids(given.search(vector=list(VECTOR), cursor=first.cursor)) == nearest()[10:20]


def test_a_vector_takes_the_options_of_a_query(given: SearchEngine) -> None:
    blue = range(2, len(ROWS), 3)
    narrowed = given.search(vector=VECTOR, where={"colour": "blue"}, facets=["colour"])
    assert ids(narrowed) == nearest(among=blue)[:10]
    assert (narrowed.total, narrowed.facets) == (67, {"colour": {"blue": 67}})
    counted = given.search(vector=VECTOR, facets=["colour"])
    assert (counted.total, counted.facets["colour"]) == (201, {"red": 67, "grey": 67, "blue": 67})
    assert ids(given.search(vector=VECTOR, ids=["003", "007"])) == nearest(among=[3, 7])
    picked = given.search(vector=VECTOR, pin=[("Plate", "009")], hide=[("Plate", nearest()[0])])
    assert ids(picked)[:2] == ["009", nearest()[1]]
    capped = given.search(vector=VECTOR, limit_by={"colour": 1})
    assert len({hit.data["colour"] for hit in capped if hit.data}) == len(capped) == 3
    assert ids(given.search(vector=VECTOR, sort="colour", limit=1))[0] in nearest(among=blue)
    assert ids(given.search(vector=VECTOR, diversity=0.5))[0] == nearest()[0]
    assert all(hit.score >= 0.5 for hit in given.search(vector=VECTOR, min_score=0.5))
    (marked,) = given.search(vector=VECTOR, highlight=True, passages=1, limit=1)
    assert (marked.spans, marked.id, len(marked.passages)) == ((), nearest()[0], 1)


def test_groups_have_their_own_nearest(given: SearchEngine) -> None:
    RecordStore(given).insert("Cup", records(3), embeddings=ROWS[:3])
    found = given.search(vector=VECTOR, group_by="entity", limit=2)
    assert {name: ids(hits) for name, hits in found.groups.items()} == {
        "Cup": nearest(among=range(3))[:2],
        "Plate": nearest()[:2],
    }


def test_a_reranker_orders_what_a_vector_and_a_text_find(given: SearchEngine) -> None:
    read: list[str] = []

    def rerank(query: str, texts: Any) -> list[float]:
        read.append(query)
        return [1.0 / (1 + place) for place in range(len(texts))][::-1]

    found = given.search("grey", vector=VECTOR, rerank=rerank, limit=3)
    assert (read, len(found)) == (["grey"], 3)


def test_a_tenants_records_alone_are_compared(make: Make) -> None:
    search = make(GivenVectors("outside"))
    RecordStore(search).create_entity("Plate", search=["text"], tenant_field="tenant")
    for number, tenant in enumerate(("a", "b")):
        store = RecordStore(search.for_tenant(tenant))
        store.insert("Plate", records(2), embeddings=ROWS[2 * number : 2 * number + 2])
    found = search.for_tenant("b").search(vector=ROWS[0])
    assert {(hit.tenant, hit.id) for hit in found} == {("b", "000"), ("b", "001")}
    assert len(search.search(vector=ROWS[0], tenant=["a", "b"])) == 4


def test_coroutines_search_by_a_vector(given: SearchEngine) -> None:
    found: SearchResults = asyncio.run(given.asearch(vector=VECTOR))
    assert ids(found) == nearest()[:10]


def test_mapped_classes_are_searched_by_a_vector(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    Base.metadata.create_all(search.engine)
    sessions = search.attach(sessionmaker(search.engine))
    with sessions.begin() as session:
        session.add_all(Painting(id=n, text=f"painting number {n}") for n in range(51))
    vector = provider.embed_query("painting number 7")
    with sessions() as session:
        found = search.search(vector=vector, entity=Painting, session=session, load=True, where=Painting.id > 3)
        assert found.objects(Painting)[0].id == 7
        chosen: Any = session.scalars(search.select(Painting, vector=vector, limit=1)).one()
        assert chosen.id == 7


def test_what_a_transaction_has_written_is_found(given: SearchEngine) -> None:
    with given.engine.begin() as connection:
        RecordStore(given).insert("Plate", [{"id": "new"}], embeddings=[VECTOR], connection=connection)
        assert ids(given.search(vector=VECTOR, connection=connection))[0] == "new"
        assert ids(given.search(vector=VECTOR, limit=1, ids=["new"], connection=connection)) == ["new"]


def cosines(vector: Any = VECTOR) -> dict[str, float]:
    rows = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    return {f"{n:03}": float(value) for n, value in enumerate(rows @ (vector / np.linalg.norm(vector)))}


@pytest.mark.parametrize("query", ["", "grey"])
def test_a_hit_has_the_cosine_of_its_embedding(given: SearchEngine, query: str) -> None:
    wanted = cosines()
    for hit in given.search(query, vector=VECTOR, limit=30):
        assert hit.similarity == pytest.approx(wanted[hit.id], abs=1e-6)


def test_a_hit_that_words_found_has_a_cosine_unless_it_has_no_embedding(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    search.index_records_batch([("D", "near", "red fox"), ("D", "words", "fox den under a tall old oak")])
    search.index_records_batch([("D", "pending", "fox tail")], embeddings=[None])
    hits = {hit.id: hit for hit in search.search("fox", explain=True)}
    by_leg = {id_: {leg.leg: leg.raw for leg in hit.explanation} for id_, hit in hits.items()}
    assert set(hits) == {"near", "words", "pending"}
    assert hits["pending"].similarity is None
    for id_ in ("near", "words"):
        assert hits[id_].similarity == by_leg[id_]["vector"]
    assert [hit.similarity for hit in search.search("fox", mode="keyword")] == [None] * 3
    assert [hit.similarity for hit in search.search(limit=1)] == [None]
    (own,) = search.search("fox den under a tall old oak", mode="vector", limit=1)
    assert own.similarity == pytest.approx(1.0, abs=1e-6)
    assert own.similarity is not None
    assert own.similarity <= 1.0


def test_similar_records_and_pinned_ones_have_a_cosine(given: SearchEngine) -> None:
    wanted = cosines(ROWS[0])
    for hit in given.similar("Plate", "000", mode="vector"):
        assert hit.similarity == pytest.approx(wanted[hit.id], abs=1e-6)
    pinned = given.search(vector=ROWS[0], entity="Plate", pin=["150"])[0]
    assert (pinned.id, pinned.is_pinned) == ("150", True)
    assert pinned.similarity == pytest.approx(wanted["150"], abs=1e-6)


@pytest.mark.parametrize("least", [-1, -0.25, 0, 0.3, 0.99])
@pytest.mark.parametrize("query", ["", "grey"])
def test_hits_below_a_similarity_are_left_out(given: SearchEngine, query: str, least: float) -> None:
    wanted = cosines()
    options: dict[str, Any] = {"vector": VECTOR, "min_similarity": least}
    every = given.search(query, limit=500, vector=VECTOR)
    kept = [hit.id for hit in every if wanted[hit.id] >= least]
    assert (len(every) == 201) == (query == "")
    whole = given.search(query, limit=500, **options)
    assert (ids(whole), whole.total, whole.is_total_exact, whole.exact) == (kept, len(kept), True, True)
    page = given.search(query, limit=5, facets=["colour"], **options)
    assert (ids(page), page.total, page.is_total_exact) == (kept[:5], len(kept), True)
    assert sum(page.facets["colour"].values()) == len(kept)
    assert [hit.id for each in pages(given, query, limit=51, **options) for hit in each] == kept
    uncounted = given.search(query, limit=5, **options)
    assert uncounted.total == len(kept) or (not uncounted.is_total_exact and uncounted.total < len(kept))


def test_the_order_of_hits_is_exact_where_all_that_are_alike_were_read(given: SearchEngine) -> None:
    found = given.search("plate", vector=VECTOR, min_similarity=0.3, limit=200)
    wanted = {id_ for id_, cosine in cosines().items() if cosine >= 0.3}
    assert ({hit.id for hit in found}, found.exact, found.is_total_exact) == (wanted, True, True)
    ranked = given.search("plate", vector=VECTOR, min_similarity=0.3, fusion="rrf", count=True)
    assert (ranked.total, ranked.is_total_exact) == (len(wanted), True)


def test_a_least_similarity_holds_with_the_options_of_a_query(given: SearchEngine) -> None:
    wanted = {id_ for id_, cosine in cosines().items() if cosine >= 0.3}
    options: dict[str, Any] = {"vector": VECTOR, "min_similarity": 0.3, "limit": 200}
    far = min(cosines(), key=cosines().__getitem__)
    assert ids(given.search(pin=[("Plate", far)], **options))[0] == far
    assert set(ids(given.search(sort="colour", **options))) == wanted
    assert set(ids(given.search(diversity=0.5, **options))) == wanted
    capped = given.search(limit_by={"colour": 1}, **options)
    assert set(ids(capped)) <= wanted
    assert len(capped) == 3
    reranked = given.search("grey", rerank=lambda _, texts: [0.5] * len(texts), rerank_top=200, **options)
    assert set(ids(reranked)) <= wanted
    first = given.search(vector=VECTOR, min_similarity=0.3, limit=2)
    with pytest.raises(InvalidInput, match="another query"):
        given.search(vector=VECTOR, min_similarity=0.2, limit=2, cursor=first.cursor)


def test_records_without_an_embedding_are_no_hits_of_a_least_similarity(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    search.index_records_batch([("D", "1", "red fox"), ("D", "2", "fox tail")], embeddings=[None, provider.embed("x")])
    assert ids(search.search("fox", min_similarity=-1)) == ["2"]
    assert set(ids(search.search("fox"))) == {"1", "2"}


def test_a_least_similarity_that_cannot_be_compared_is_refused(make: Make) -> None:
    search = make(Silent())
    search.index_record("D", "1", "red fox")
    assert ids(search.search("fox")) == ["1"]
    with pytest.raises(ProviderUnavailable):
        search.search("fox", min_similarity=0.1)
    with pytest.raises(NoProvider):
        make().search("fox", min_similarity=0.1)
    for query, options in (("fox", {"mode": "keyword"}), ("", {})):
        with pytest.raises(InvalidInput, match="leave min_similarity out"):
            search.search(query, min_similarity=0.1, **options)  # type: ignore[arg-type]
    wrong: list[Any] = [2, "0.5", True, float("nan")]
    for value in wrong:
        with pytest.raises(InvalidInput, match="min_similarity"):
            search.search("fox", min_similarity=value)


def test_hits_have_their_embeddings_where_these_are_wanted(given: SearchEngine) -> None:
    rows = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    searches: list[tuple[str, dict[str, Any]]] = [
        ("", {"vector": VECTOR}),
        ("grey", {"vector": VECTOR}),
        ("grey", {"mode": "keyword"}),
        ("", {}),
        ("grey", {"group_by": "entity"}),
        ("grey", {"pin": [("Plate", "150")]}),
        ("grey", {"rerank": lambda _, texts: [0.5] * len(texts)}),
    ]
    for query, options in searches:
        found = given.search(query, vectors=True, limit=51, **options)
        assert len(found) >= 50
        for hit in found:
            assert isinstance(hit.vector, tuple)
            assert hit.vector == pytest.approx(rows[int(hit.id)], abs=1e-6)
            assert tuple(np.asarray(hit.vector, "f4").tolist()) == hit.vector
        assert {hit.vector for hit in given.search(query, limit=51, **options)} == {None}


def test_a_hit_without_an_embedding_has_no_vector(make: Make, provider: HashProvider) -> None:
    bare = make()
    bare.index_record("D", "0", "fox")
    assert [hit.vector for hit in bare.search("fox", vectors=True)] == [None]
    search = make(provider)
    long = "fox den " * 900
    search.index_records_batch([("D", "1", "fox"), ("D", "2", "fox tail")], embeddings=[None, provider.embed("x")])
    passages = [{"start": 0, "end": 3_600, "embedding": provider.embed_query("a")}]
    passages += [{"start": 3_600, "end": 7_200, "embedding": provider.embed_query("fox")}]
    search.index_records_batch([("D", "3", long)], embeddings=[passages])
    found = {hit.id: hit for hit in search.search("fox", vectors=True)}
    assert (found["0"].vector, found["1"].vector) == (None, None)
    first, nearest = (
        vector / np.linalg.norm(vector) for vector in (provider.embed_query("a"), provider.embed_query("fox"))
    )
    assert found["3"].vector == pytest.approx(first, abs=1e-6)
    assert found["3"].similarity == pytest.approx(float(nearest @ nearest), abs=1e-6)


def test_an_answer_is_a_json_document(given: SearchEngine) -> None:
    found = given.search("grey", vector=VECTOR, vectors=True, facets=["colour"], highlight=True, passages=1, limit=2)
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["total"] == found.total
    for hit, shown in zip(found, document["hits"], strict=True):
        assert (hit.similarity, hit.vector) != (None, None)
        assert shown["similarity"] == pytest.approx(hit.similarity, abs=1e-6)
        assert tuple(shown["vector"]) == hit.vector
        assert (shown["id"], shown["data"]) == (hit.id, hit.data)
    assert document["facets"]["colour"]
    assert "plan" not in document
    plain = json.loads(json.dumps(given.search("grey", mode="keyword", explain=True).as_dict(explain=True)))
    assert plain["plan"]["mode"] == "keyword"
    assert plain["hits"][0]["explanation"]
    assert plain["hits"][0].keys().isdisjoint({"similarity", "vector"})


@pytest.mark.parametrize("verb", ["search", "suggest"])
def test_an_option_that_there_is_not_is_refused(search: SearchEngine, verb: str) -> None:
    with pytest.raises(TypeError, match="'vectr'"):
        getattr(search, verb)("fox", vectr=[1.0])
