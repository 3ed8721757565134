"""Pages, facets, orders, groups, rerankers, highlights and explanations of a search's results."""

import random
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, SearchResult, searchable
from kameleon.analysis.collation import sort_key
from kameleon.errors import InvalidFilter, InvalidInput, RecordMissing, UnknownEntity
from kameleon.search.ordering import Sort, by_field, by_group
from kameleon.search.paging import Cursor, first_page, read_cursor
from kameleon.testing import HashProvider
from kameleon.values import Ref

from .conftest import Make, ids, pages, with_server

LAMPS = 130


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(search: SearchEngine) -> SearchEngine:
    store = RecordStore(search)
    store.insert("Lamp", [lamp(n) for n in range(LAMPS)])
    store.insert("Chair", [{"id": f"c{n}", "name": f"oak chair for a desk {n}", "price": n} for n in range(3)])
    return search


def lamp(n: int) -> dict[str, Any]:
    return {
        "id": str(n),
        "name": f"desk lamp number{n} " + "bright " * (n % 5),
        "price": n % 7,
        "tags": ["led", "led", "warm"] if n % 2 else ["warm"],
        "is_new": n % 3 == 0,
        "maker": {"city": "Oslo" if n % 10 else "Rome"},
    }


def refs(found: Iterable[SearchResult]) -> list[tuple[str, str]]:
    return [(hit.entity, hit.id) for hit in found]


def test_pages_by_offset_are_slices_of_one_ranking(shop: SearchEngine) -> None:
    ranking = refs(shop.search("bright desk lamp", limit=50))
    assert len(set(ranking)) == 50
    assert refs(shop.search("bright desk lamp", limit=10)) == ranking[:10]
    assert refs(shop.search("bright desk lamp", limit=10, offset=23)) == ranking[23:33]
    assert shop.search("bright desk lamp", offset=5_000) == []


@pytest.mark.parametrize("mode", ["hybrid", "keyword", "vector"])
def test_cursors_go_through_every_match_once(shop: SearchEngine, mode: str) -> None:
    found = pages(shop, "bright desk lamp", mode=mode, limit=30)
    seen = [ref for page in found for ref in refs(page)]
    assert len(seen) == len(set(seen)) == LAMPS + 3
    totals = [page.total for page in found]
    assert totals == sorted(totals)
    assert (totals[-1], found[-1].is_total_exact, found[0].is_total_exact) == (LAMPS + 3, True, False)
    assert shop.search("bright desk lamp", mode="keyword", count=True).total == LAMPS + 3
    assert refs(found[1]) == refs(shop.search("bright desk lamp", mode=mode, limit=30, offset=30))


def test_no_page_repeats_another_whatever_is_written_in_between(shop: SearchEngine) -> None:
    chance, seen, cursor = random.Random(3), list[tuple[str, str]](), None
    for number in range(8):
        found = shop.search("bright desk lamp", limit=9, cursor=cursor)
        seen += refs(found)
        cursor = found.cursor
        shop.index_record("Lamp", chance.randrange(LAMPS), "bright " * number + "lamp")
        shop.index_record("Lamp", f"new{number}", "bright desk lamp")
    assert len(seen) == len(set(seen)) == 72
    assert any(id_.startswith("new") for _, id_ in seen)


def test_a_cursor_is_one_querys_own(shop: SearchEngine) -> None:
    cursor = shop.search("desk lamp", where={"price": {"$in": {1, 2}}}, entity="Lamp").cursor
    assert cursor
    assert shop.search("desk lamp", where={"price": {"$in": {2, 1}}}, entity="Lamp", cursor=cursor, limit=3)
    changes: list[dict[str, Any]] = [
        {"mode": "keyword"},
        {"where": {"price": 1}},
        {"min_score": 0.1},
        {"sort": "price"},
    ]
    for changed in changes:
        with pytest.raises(InvalidInput, match="belongs to another query"):
            shop.search(
                "desk lamp", **{"where": {"price": {"$in": {1, 2}}}, "entity": "Lamp", **changed}, cursor=cursor
            )
    for broken in ("", "!", "ü", cursor[:9], cursor + "A"):
        with pytest.raises(InvalidInput, match="no cursor"):
            shop.search("desk lamp", where={"price": {"$in": {1, 2}}}, entity="Lamp", cursor=broken)
    with pytest.raises(InvalidInput, match="leave offset out"):
        shop.search("desk lamp", cursor=cursor, offset=1)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=20))
def test_a_cursor_survives_being_text(shown: list[tuple[str, str]]) -> None:
    first = first_page(["query", None, {"a": {1, 2}}])
    page = first.after(Ref(*ref) for ref in shown)
    assert read_cursor(str(page), first) == page
    assert len(page.shown) == len(shown)
    assert isinstance(page, Cursor)


def test_facets_count_all_that_match(shop: SearchEngine) -> None:
    found = shop.search("lamp", entity="Lamp", limit=1, facets=["price", "tags", "is_new", "maker.city"])
    prices = {price: sum(n % 7 == price for n in range(LAMPS)) for price in range(7)}
    assert found.facets["price"] == prices
    assert list(found.facets["price"].values()) == sorted(prices.values(), reverse=True)
    assert found.facets["tags"] == {"warm": LAMPS, "led": LAMPS // 2}
    assert {type(value) for value in found.facets["is_new"]} == {bool}
    assert found.facets["maker.city"] == {"Oslo": LAMPS * 9 // 10, "Rome": LAMPS // 10}
    assert (found.total, found.is_total_exact) == (LAMPS, True)
    alone = shop.search("lamp", entity="Lamp", mode="keyword", limit=1, facets=["price"])
    assert (alone.facets["price"], alone.total, alone.is_total_exact) == (prices, LAMPS, True)
    narrow = shop.search("lamp", entity="Lamp", where={"price": 3}, facets=["is_new", "price"])
    assert narrow.facets["price"] == {3: prices[3]}
    assert sum(narrow.facets["is_new"].values()) == prices[3]


def test_facets_of_a_keyword_search_leave_out_what_has_no_word_of_it(shop: SearchEngine) -> None:
    found = shop.search("oak lamp", mode="keyword", facets=["price"], where={"price": {"$lte": 1}})
    cheap = sum(n % 7 <= 1 for n in range(LAMPS))
    assert found.facets == {"price": {0: found.facets["price"][0], 1: cheap + 2 - found.facets["price"][0]}}
    assert found.total == cheap + 2
    assert shop.search("oak", mode="keyword", facets=["price"]).facets == {"price": {0: 1, 1: 1, 2: 1}}


def test_a_field_that_no_entity_has_is_refused(shop: SearchEngine) -> None:
    for options in ({"facets": ["colour"]}, {"sort": "colour"}, {"sort": "-colour"}):
        with pytest.raises(InvalidFilter, match=r"unknown field 'colour'\. Known: is_new, maker, name, price, tags"):
            shop.search("lamp", entity="Lamp", **options)
    with pytest.raises(UnknownEntity, match="facets, sort and limit_by look at the fields"):
        shop.search("lamp", entity="Sofa", facets=["price"])
    with pytest.raises(InvalidInput, match="for one, use facets="):
        shop.search("lamp", facets="price")


def test_hits_are_sorted_by_a_field(shop: SearchEngine) -> None:
    dear = shop.search("lamp", entity="Lamp", sort="-price", limit=25)
    assert [hit.data["price"] for hit in dear if hit.data] == [6] * 18 + [5] * 7
    best = {hit.id: hit.score for hit in shop.search("lamp", entity="Lamp", limit=LAMPS)}
    assert [hit.score for hit in dear] == [best[hit.id] for hit in dear]
    assert [hit.score for hit in dear[:18]] == sorted((hit.score for hit in dear[:18]), reverse=True)
    cheap = pages(shop, "lamp", entity="Lamp", sort="price", limit=40)
    assert [hit.data["price"] for page in cheap for hit in page if hit.data] == sorted(n % 7 for n in range(LAMPS))
    mixed = [hit.entity for hit in shop.search("desk", sort="is_new", limit=LAMPS + 3)]
    assert mixed[-3:] == ["Chair"] * 3
    assert {hit.entity for hit in shop.search("oak", sort="price", limit=LAMPS)} == {"Chair"}


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=1)


@given(st.dictionaries(st.integers(), VALUES), st.booleans())
def test_a_sort_keeps_every_item_and_puts_the_valueless_last(values: dict[int, Any], is_descending: bool) -> None:
    ranked = list(values)
    ordered = by_field(ranked, values, Sort("f", is_descending), sort_key("english"))
    assert sorted(ordered) == sorted(ranked)
    numbers = [values[n] for n in ordered if isinstance(values[n], int | float) and values[n] == values[n]]
    assert numbers == sorted(numbers, reverse=is_descending)
    blank = [n for n in ranked if values[n] is None or isinstance(values[n], list) or values[n] != values[n]]
    assert ordered[len(ordered) - len(blank) :] == blank


def test_groups_give_each_entity_its_best(shop: SearchEngine) -> None:
    found = shop.search("desk lamp", group_by="entity", limit=2)
    assert {name: len(hits) for name, hits in found.groups.items()} == {"Lamp": 2, "Chair": 2}
    assert [hit for hits in found.groups.values() for hit in hits] == list(found)
    alone = {name: refs(shop.search("desk lamp", entity=name, limit=2)) for name in ("Lamp", "Chair")}
    assert {name: [(hit.entity, hit.id) for hit in hits] for name, hits in found.groups.items()} == alone
    assert next(iter(found.groups)) == "Lamp"
    assert list(shop.search("oak", group_by="entity", limit=1, mode="keyword").groups) == ["Chair"]
    with pytest.raises(InvalidInput, match=r"unknown group_by 'price'\. Known: entity"):
        shop.search("desk", group_by="price")


def test_groups_are_kept_within_their_limit() -> None:
    assert by_group("abcde", dict(zip("abcde", "xyxxy", strict=True)), 2) == {"x": ["a", "c"], "y": ["b", "e"]}


def test_a_reranker_orders_the_best_anew(shop: SearchEngine) -> None:
    queries: list[tuple[str, int]] = []

    def dullest(query: str, texts: Any) -> list[float]:
        queries.append((query, len(texts)))
        return [1 / (1 + text.count("bright")) for text in texts]

    options: dict[str, Any] = {"entity": "Lamp", "rerank": dullest, "rerank_top": 40}
    found = shop.search("bright lamp", limit=5, explain=True, **options)
    best = shop.search("bright lamp", entity="Lamp", limit=40)
    wanted = sorted((1 / (1 + hit.matched_text.count("bright")) for hit in best), reverse=True)
    assert queries == [("bright lamp", 40)]
    assert [hit.score for hit in found] == wanted[:5]
    assert (found[0].explanation[-1].leg, found[0].explanation[-1].score) == ("rerank", found[0].score)
    assert shop.search("bright lamp", rerank=dullest, min_score=0.9, rerank_top=10) == []
    by_offset = [
        hit for offset in range(0, 40, 8) for hit in shop.search("bright lamp", limit=8, offset=offset, **options)
    ]
    by_cursor = [hit for page in pages(shop, "bright lamp", limit=8, **options) for hit in page]
    assert [hit.score for hit in by_offset] == [hit.score for hit in by_cursor] == wanted
    assert refs(by_offset) == refs(by_cursor)
    with pytest.raises(InvalidInput, match="rerank orders the 40 best, and this page ends at 48"):
        shop.search("bright lamp", limit=8, offset=40, **options)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([0.5], "1 scores for 100"), ([2.0] * 100, "the score 2.0"), ([float("nan")] * 100, "the score nan")],
)
def test_a_reranker_that_breaks_its_contract_is_named(scores: list[float], message: str) -> None:
    search = SearchEngine(create_engine("sqlite://"))
    search.index_records_batch([("Lamp", str(n), "lamp") for n in range(100)])
    with pytest.raises(InvalidInput, match=message):
        search.search("lamp", rerank=lambda query, texts: scores, rerank_top=100)
    with pytest.raises(InvalidInput, match="rerank is a callable"):
        search.search("lamp", rerank="cross-encoder")  # type: ignore[arg-type]


def test_similar_records_are_found_by_words_and_by_the_stored_embedding(make: Any, provider: HashProvider) -> None:
    search = make(provider)
    texts = ["red fox in deep snow", "a red fox asleep", "wages for march", "fox tracks in the snow", "unpaid wages"]
    search.index_records_batch([("Note", str(n), text) for n, text in enumerate(texts)])
    search.index_record("Page", "1", "deep snow and a fox")
    calls = len(provider.calls)
    assert set(ids(search.similar("Note", 0, limit=2))) == {"1", "3"}
    assert refs(search.similar("Note", "0", entities=["Page"], limit=1)) == [("Page", "1")]
    assert len(provider.calls) == calls
    assert "0" not in ids(search.similar("Note", "0", mode="vector", limit=10))
    with pytest.raises(RecordMissing, match="Note '9' is not in the index"):
        search.similar("Note", 9)


def test_a_record_without_an_embedding_is_similar_by_words(make: Any) -> None:
    make().index_records_batch([("Note", "1", "red fox"), ("Note", "2", "grey fox"), ("Note", "3", "wages")])
    search = make(HashProvider())
    search.index_record("Note", "4", "rain")
    found = search.similar("Note", "1")
    assert ids(found) == ["2"]
    assert "keywords only" in found.plan.note


def test_a_hit_without_a_word_of_the_query_is_highlighted_where_it_is_nearest(make: Any) -> None:
    search = make("static")
    search.index_record("Note", "1", "The cat sleeps on the router.\nMy wages were not paid in March. It rains.")
    (hit,) = search.search("salary overdue", highlight=True)
    assert hit.highlight("[", "]") == "The cat sleeps on the router.\n[My wages were not paid in March.] It rains."


def test_explain_has_the_plan_and_the_terms_of_each_hit(make: Any) -> None:
    search = make(HashProvider())
    search.index_records_batch([("Note", "1", "red fox"), ("Note", "2", "foxes in the snow"), ("Note", "3", "wages")])
    found = search.search("snow fox", explain=True, limit=2)
    terms = {hit.id: {term for leg in hit.explanation for term in leg.terms} for hit in found}
    assert terms == {"1": {"fox"}, "2": {"fox", "snow"}}
    assert found.plan.rows_scanned["keyword"] == 3
    assert (found.plan.is_query_cached, search.search("snow fox").plan.is_query_cached) == (False, True)
    assert search.search("snow fox")[0].explanation == ()


def test_a_count_that_went_no_further_is_called_a_bound() -> None:
    search = SearchEngine(create_engine("sqlite://"))
    search.index_records_batch([("Lamp", str(n), "lamp " * (1 + n % 9)) for n in range(400)])
    found = search.search("lamp")
    assert (found.total, found.is_total_exact) == (100, False)
    assert search.search("lamp", limit=400).is_total_exact
    everything = pages(search, "lamp", limit=90)
    assert len({ref for page in everything for ref in refs(page)}) == 400


def test_a_last_page_is_distinguished_from_one_that_rare_words_filled() -> None:
    search = SearchEngine(create_engine("sqlite://"))
    texts = (f"{'rare ' if n < 10 else ''}common {'filler ' * (n % 3)}" for n in range(9_000))
    search.index_records_batch([("A", f"{n:04}", text) for n, text in enumerate(texts)])
    assert search.search("rare common", limit=10).cursor


def test_counts_are_without_the_record_that_others_are_similar_to(search: SearchEngine) -> None:
    search.index_records_batch([("Note", str(n), "red fox") for n in range(4)])
    found = search.similar("Note", "2", count=True, limit=10)
    assert (found.total, sorted(ids(found))) == (3, ["0", "1", "3"])


def test_a_search_among_no_entities_finds_nothing(shop: SearchEngine) -> None:
    assert shop.search("lamp", entities=[], facets=["price"]) == []
    assert shop.search("lamp", entities=None)


def test_marks_that_are_tags_make_html(make: Any) -> None:
    search = make()
    search.index_record("Note", "1", "<script>wages</script> & wages")
    (hit,) = search.search("wages", highlight=True)
    assert hit.highlight() == "&lt;script&gt;<mark>wages</mark>&lt;/script&gt; &amp; <mark>wages</mark>"
    assert hit.highlight("[", "]") == "<script>[wages]</script> & [wages]"


def test_invalid_queries_are_refused_before_any_statement(shop: SearchEngine) -> None:
    nested: dict[str, Any] = {"price": 1}
    for _ in range(3_000):
        nested = {"$not": nested}
    wrong: list[dict[str, Any]] = [
        *({"where": {1: 2, "price": 3}}, {"where": {("price",): 1}}, {"where": nested}),
        *({"facets": 5}, {"facets": [["price"]]}, {"min_score": "x"}, {"min_score": None}),
        {"rerank": len, "group_by": "entity"},
    ]
    for options in wrong:
        with pytest.raises(InvalidInput):
            shop.search("lamp", entity="Lamp", **options)


def test_a_cursor_belongs_to_one_ranking(shop: SearchEngine) -> None:
    cursor = shop.search("desk lamp").cursor
    for options in ({"fusion": "rrf"}, {"weight": 0.9}, {"rerank": lambda query, texts: [0.5] * len(texts)}):
        with pytest.raises(InvalidInput, match="belongs to another query"):
            shop.search("desk lamp", cursor=cursor, **options)


class Base(DeclarativeBase):
    pass


class Shade(Enum):
    dark = 2
    light = 1


@searchable(fields=["title"])
class Album(Base):
    __tablename__ = "album"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    year: Mapped[int | None]
    genre: Mapped[str]
    shade: Mapped[Shade] = mapped_column(default=Shade.dark)
    extra: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    odd: Mapped[int] = mapped_column("a-b", default=3)


def test_a_mapped_class_is_sorted_and_counted_by_its_columns(make: Any, engine: Any) -> None:
    Base.metadata.create_all(engine)
    search = make(HashProvider())
    with search.attach(sessionmaker(engine)).begin() as session:
        for n in range(30):
            year = 1990 + n % 4 if n else None
            session.add(Album(id=n + 1, title=f"blue songs {n}", year=year, genre="jazz" if n % 3 else "folk"))
    found = search.search("blue", entity=Album, facets=["genre", "year"], sort="-year", limit=30)
    assert found.facets["genre"] == {"jazz": 20, "folk": 10}
    assert found.facets["year"] == {1991: 8, 1990: 7, 1992: 7, 1993: 7}
    assert ids(found)[-1] == "1"
    years = [1990 + (int(id_) - 1) % 4 for id_ in ids(found)[:-1]]
    assert years == sorted(years, reverse=True)
    narrow = search.search("blue", entity=Album, where=Album.genre == "folk", facets=["genre"])
    assert (narrow.facets, narrow.total) == ({"genre": {"folk": 10}}, 10)
    with pytest.raises(InvalidFilter, match=r"Album has no column 'artist'\. Known: extra, genre, id, odd"):
        search.search("blue", entity=Album, facets=["artist"])
    assert len(search.search("blue", entity=Album, sort="shade")) == 10
    assert ids(search.search("blue", entity=Album, where=Album.odd.in_([3]) & (Album.id == 7))) == ["7"]
    assert search.search("blue", entity=Album, facets=["extra"]).facets == {"extra": {}}  # objects are no values


@pytest.mark.parametrize("count", [6, 51, 201, 1_001])
def test_a_sorted_searchs_total_and_facets_are_those_of_its_hits(make: Make, count: int) -> None:
    search = make(HashProvider())
    records = RecordStore(search)
    rows: list[Any] = [
        {"id": str(n), "name": f"{'red' if n % 3 == 0 else 'blue'} tent {n}", "price": n % 5} for n in range(count)
    ]
    records.insert("P", rows)
    wanted = [row for row in rows if row["name"].startswith("red")]
    found = search.search("red", entity="P", sort="price", count=True, facets=["price"], limit=1_000)
    assert sorted(ids(found)) == sorted(str(row["id"]) for row in wanted)
    assert (found.total, found.is_total_exact) == (len(wanted), True)
    assert found.facets == {"price": dict(Counter(row["price"] for row in wanted))}
    some = search.search("red", entity="P", sort="price", count=True, min_score=0.1, facets=["price"], limit=1_000)
    assert (some.total, sum(some.facets["price"].values())) == (len(some), len(some))
