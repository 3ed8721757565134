"""Diversity: an order of hits by maximal marginal relevance, in all modes and over all pages, on both databases."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import ALL_TENANTS, RecordStore, SearchEngine, SearchResult, searchable
from kameleon.errors import InvalidInput, ProviderUnavailable
from kameleon.search.diversity import ordered
from kameleon.search.query import DIVERSIFIED
from kameleon.testing import HashProvider

from .conftest import Indexes, Make, ids, pages

TOPICS = ("fox", "owl", "elk", "cod", "yak")
WORDS = ("snow", "night", "hill", "lake", "wood", "moss", "rain")
MODES = ("hybrid", "keyword", "vector")


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class Story(Base):
    __tablename__ = "diverse_story"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def story(n: int) -> str:
    """Of a tale about one of the topics; each topic's tales share its word twice, so that they are near each other."""
    words = [word for place, word in enumerate(WORDS) if n >> place & 1]
    return " ".join(["tale", TOPICS[n % 5], TOPICS[n % 5], *words])


def fill_stored(search: SearchEngine) -> None:
    RecordStore(search).insert("Story", [{"id": n, "text": story(n)} for n in range(130)])


def fill_mapped(search: SearchEngine) -> None:
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add_all(Story(id=n, text=story(n)) for n in range(130))


Filled = tuple[SearchEngine, Any]
FILLED = {"stored": (fill_stored, "Story"), "mapped": (fill_mapped, Story)}


@pytest.fixture(params=FILLED)
def filled(indexes: Indexes, backend: str, request: pytest.FixtureRequest) -> Filled:
    """An index that tests only read, and the entity in it."""
    fill, entity = FILLED[request.param]
    return indexes(backend, fill), entity


def topics(hits: Iterable[SearchResult]) -> set[str]:
    return {hit.matched_text.split()[1] for hit in hits}


def check_order(hits: Sequence[SearchResult], diversity: float) -> None:
    """Each of the hits, which have explanations, is the one of the greatest marginal relevance, by brute force."""
    assert {hit.explanation[-1].leg for hit in hits} == {"diversity"}
    relevance = np.array([hit.explanation[-1].score for hit in hits])
    vectors = np.array([HashProvider().embed_query(hit.matched_text) for hit in hits], np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.maximum(0, vectors @ vectors.T)
    for place in range(len(hits)):
        likeness = cosines[place:, :place].max(axis=1, initial=0)
        values = (1 - diversity) * relevance[place:] - diversity * likeness
        assert values[0] == pytest.approx(values.max(), abs=1e-5), (place, hits[place].id)
        assert hits[place].explanation[-1].raw == pytest.approx(likeness[0], abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_first_hits_are_of_several_topics(filled: Filled, mode: str) -> None:
    search, entity = filled
    options: dict[str, Any] = {"entity": entity, "mode": mode, "count": True}
    plain = search.search("fox tale", limit=130, **options)
    assert topics(plain[:5]) == {"fox"}
    found = search.search("fox tale", limit=5, diversity=0.8, **options)
    assert len(topics(found)) >= 4
    assert (found[0].id, found.total) == (plain[0].id, plain.total)
    scores = {hit.id: hit.score for hit in plain}
    assert [hit.score for hit in found] == [scores[hit.id] for hit in found]


@pytest.mark.parametrize(("mode", "diversity"), [("hybrid", 0.3), ("keyword", 0.7), ("vector", 1.0)])
def test_pages_are_parts_of_the_order_that_brute_force_gives(filled: Filled, mode: str, diversity: float) -> None:
    search, entity = filled
    options: dict[str, Any] = {"entity": entity, "mode": mode, "diversity": diversity, "explain": True}
    query = "fox tale of snow night"
    whole = search.search(query, limit=130, **options)
    best = [hit for hit in whole if hit.explanation[-1].leg == "diversity"]
    assert len(best) == DIVERSIFIED == len(set(ids(best)))
    assert ids(best) == ids(whole)[:DIVERSIFIED]
    check_order(best, diversity)
    by_relevance = search.search(query, limit=130, entity=entity, mode=mode)
    assert sorted(ids(by_relevance)) == sorted(ids(whole))
    by_offset = [hit for at in range(0, 130, 26) for hit in search.search(query, limit=26, offset=at, **options)]
    by_cursor = [hit for page in pages(search, query, limit=26, **options) for hit in page]
    assert ids(by_offset) == ids(by_cursor) == ids(whole)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9)), min_size=1, max_size=12),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_each_place_has_the_greatest_marginal_relevance(
    records: list[tuple[float, int]], diversity: float, shown: int
) -> None:
    chance = np.random.default_rng(len(records))
    directions = chance.normal(size=(10, 4))
    directions[9] = 0
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    matrix = directions[[kind for _, kind in records]]
    relevance = np.array([score for score, _ in records])
    first = list(range(len(records)))[::-1][:shown]
    order, likeness = ordered(relevance, matrix, diversity, first, 12)
    assert sorted(order) == list(range(len(records)))
    assert order[: len(first)] == first
    assert ordered(relevance, matrix, diversity, first, 5)[0] == order[:5]
    for place, chosen in enumerate(order):
        before = order[:place]
        likes = {n: max((max(0.0, float(matrix[n] @ matrix[m])) for m in before), default=0.0) for n in order[place:]}
        assert likeness[place] == pytest.approx(likes[chosen])
        values = {n: (1 - diversity) * relevance[n] - diversity * likes[n] for n in likes}
        if place >= len(first):
            assert values[chosen] == pytest.approx(max(values.values()), abs=1e-9)


def test_a_page_by_cursor_goes_on_whatever_is_written_in_between(search: SearchEngine) -> None:
    search.index_records_batch([("Story", str(n), story(n)) for n in range(60)])
    options: dict[str, Any] = {"diversity": 0.4, "limit": 7}
    first = search.search("fox tale", **options)
    seen, cursor = ids(first), first.cursor
    for n in range(6):
        search.index_record("Story", f"new{n}", f"fox tale {story(n)}")
        search.index_record("Story", str(n), story(n + 1))
        found = search.search("fox tale", cursor=cursor, **options)
        seen, cursor = [*seen, *ids(found)], found.cursor
    assert len(seen) == len(set(seen)) == 49
    with pytest.raises(InvalidInput, match="belongs to another query"):
        search.search("fox tale", cursor=cursor, diversity=0.5)
    assert search.search("fox tale", cursor=first.cursor, diversity=0.4, limit=3)


def test_the_next_page_is_unlike_what_was_shown(search: SearchEngine) -> None:
    search.index_records_batch([("Story", "fox", "tale fox fox"), ("Story", "owl", "tale owl owl fox night")])
    first = search.search("fox tale", limit=1, diversity=0.8)
    search.index_records_batch([("Story", f"fox{n}", "fox tale") for n in range(3)])
    assert ids(search.search("fox tale", limit=1)) != ids(first) == ["fox"]
    assert ids(search.search("fox tale", limit=1, diversity=0.8, cursor=first.cursor)) == ["owl"]


def test_a_page_begins_alike_whatever_its_length(search: SearchEngine) -> None:
    chance = random.Random(1)
    texts = [" ".join(chance.choices([*WORDS, *TOPICS], k=chance.randrange(3, 9))) for _ in range(400)]
    search.index_records_batch([("Story", str(n), text) for n, text in enumerate(texts)])
    queries = [f"{topic} {word}" for topic in TOPICS for word in WORDS[:3]]
    for query in queries:
        short, long = (search.search(query, limit=limit, diversity=0.9) for limit in (5, 95))
        assert ids(short) == ids(long)[:5], query


def test_a_record_without_an_embedding_is_like_no_other(make: Make) -> None:
    def refuse(text: str) -> Exception | None:
        return ProviderUnavailable("down") if "late" in text else None

    search = make(HashProvider(refuse=refuse))
    search.index_records_batch([("Story", str(n), "fox tale in snow") for n in range(3)])
    make().index_records_batch([("Story", "late", "late fox tale in snow"), ("Story", "owl", "late owl tale in snow")])
    found = search.search("fox tale", mode="keyword", diversity=0.5, explain=True)
    assert ids(found) == ["0", "late", "owl", "1", "2"]
    assert found.plan.note == ("diversity: 2 of the 5 best records have no embedding, and count as unlike all others")
    assert [hit.explanation[-1].raw for hit in found[:4]] == [0.0, 0.0, 0.0, pytest.approx(1.0)]
    assert "diversity" in found.plan.legs
    assert search.search("fox tale", mode="keyword", diversity=0.0).plan.note is not found.plan.note


def test_a_provider_that_is_down_or_missing_changes_nothing(make: Make) -> None:
    class Down(HashProvider):
        def embed_query(self, text: str) -> Any:
            raise ProviderUnavailable("the server is down")

    make(HashProvider()).index_records_batch([("Story", str(n), story(n)) for n in range(40)])
    wanted = ids(make(HashProvider()).search("fox tale", mode="keyword", diversity=0.6))
    assert ids(make().search("fox tale", diversity=0.6)) == wanted
    found = make(Down()).search("fox tale", diversity=0.6)
    assert ids(found) == wanted != ids(make().search("fox tale"))
    assert "the server is down" in found.plan.note


def test_an_index_without_embeddings_is_refused(make: Make) -> None:
    make().index_record("Story", "1", "fox tale")
    with pytest.raises(InvalidInput, match=r"this index has none: give the engine an embedding_provider=.*limit_by="):
        make().search("fox tale", diversity=0.1)
    assert ids(make().search("fox tale", diversity=0)) == ["1"]


def test_what_sets_the_order_otherwise_is_refused(search: SearchEngine) -> None:
    search.index_record("Story", "1", "fox tale")
    for options, message in (
        ({"sort": "text"}, "diversity and sort both set the order"),
        ({"group_by": "entity"}, "diversity and group_by both set the order"),
        ({"diversity": 1.5}, r"diversity is a number from 0 \(by relevance alone\) to 1, not 1\.5"),
        ({"diversity": True}, "not True"),
        ({"diversity": None}, "not None"),
        ({"diversity": float("nan")}, "not nan"),
    ):
        with pytest.raises(InvalidInput, match=message):
            search.search("fox", **{"diversity": 0.2, **options})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="diversity chooses among ranked hits, and an empty query ranks none"):
        search.search("", diversity=0.2)


def test_the_scores_of_a_reranker_are_the_relevance(search: SearchEngine) -> None:
    search.index_records_batch([("Story", str(n), story(n)) for n in range(40)])

    def longest(_query: str, texts: Sequence[str]) -> list[float]:
        return [len(text.split()) / 20 for text in texts]

    options: dict[str, Any] = {"rerank": longest, "rerank_top": 30, "diversity": 0.5}
    found = search.search("tale", limit=30, explain=True, **options)
    check_order(found, 0.5)
    best = max(hit.score for hit in found)
    assert [hit.explanation[-1].score for hit in found] == pytest.approx([hit.score / best for hit in found])
    assert [hit.explanation[-2].leg for hit in found] == ["rerank"] * 30
    assert ids(found) != ids(search.search("tale", limit=30, rerank=longest, rerank_top=30))
    by_cursor = [hit for page in pages(search, "tale", limit=6, **options) for hit in page]
    assert ids(by_cursor) == ids(found)


def test_min_score_and_the_total_are_decided_before(indexes: Indexes, backend: str) -> None:
    search = indexes(backend, fill_stored)
    plain = search.search("fox tale of snow", limit=130, min_score=0.3, mode="vector")
    found = search.search("fox tale of snow", limit=130, min_score=0.3, mode="vector", diversity=0.8)
    assert 5 < len(plain) < 100
    assert sorted(ids(found)) == sorted(ids(plain)) != ids(found)
    assert (found.total, found.exact) == (plain.total, True)
    assert search.search("fox tale", mode="keyword", diversity=0.8, count=True, facets=["text"]).total == 130


def test_a_page_is_exact_where_no_other_record_can_be_among_those_compared(search: SearchEngine, make: Make) -> None:
    search.index_records_batch([("Story", str(n), f"fox tale {n}") for n in range(150)])
    assert search.search("fox", mode="keyword", limit=5, diversity=0.5).exact
    search.index_records_batch([("Story", f"b{n}", f"fox tale b{n}") for n in range(150)])
    assert search.search("fox", mode="keyword", limit=5).exact
    found = search.search("fox", mode="keyword", limit=5, diversity=0.5)
    assert (found.exact, found.is_total_exact) == (True, False)
    assert not search.search("fox", limit=5, diversity=0.5, fusion="rrf", mode="keyword").exact


def test_the_hits_of_tenants_are_compared(search: SearchEngine) -> None:
    acme, globex = search.for_tenant("acme"), search.for_tenant("globex")
    acme.index_records_batch([("Story", str(n), story(n)) for n in range(25)])
    globex.index_records_batch([("Story", str(n), story(n)) for n in range(5)])
    found = acme.search("fox tale", limit=5, diversity=0.6)
    assert {hit.tenant for hit in found} == {"acme"}
    assert len(topics(found)) >= 4
    everywhere = search.search("fox tale", limit=30, diversity=0.9, tenant=ALL_TENANTS, explain=True)
    check_order(everywhere, 0.9)
    twins = [hit.tenant for hit in everywhere if hit.matched_text == story(0)]
    assert sorted(twins) == ["acme", "globex"]


def test_similar_records_can_be_diverse(search: SearchEngine) -> None:
    search.index_records_batch([("Story", str(n), story(n)) for n in range(40)])
    found = search.similar("Story", "0", limit=5, diversity=0.7, explain=True)
    assert "0" not in ids(found)
    assert len(topics(found)) > len(topics(search.similar("Story", "0", limit=5)))
