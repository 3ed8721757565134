"""The operators of a query: phrases, exclusions, fields and columns, in both legs and on both databases."""

import pytest
from sqlalchemy import JSON, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.stores.bm25 import K1, B, idf
from kameleon.testing import HashProvider, assert_indexed

from .conftest import Make, ids, with_server

MODES = ("keyword", "vector", "hybrid")
NOTES = [
    ("N", "exact", "The refund request was paid. Written in C++ and Go, don't ask"),
    ("N", "apart", "a request for a refund, written in C mostly"),
    ("N", "other", "to be or not to be is the question of café owners"),
    ("N", "cjk", "これは全文検索の例です, iPhone手机壳"),
    ("N", "runs", "全体の文は検討 and 手 iPhone 机"),
]


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def notes(search: SearchEngine) -> SearchEngine:
    search.index_records_batch(NOTES)
    return search


def found(search: SearchEngine, query: str, **options: object) -> list[set[str]]:
    return [set(ids(search.search(query, mode=mode, **options))) for mode in MODES]  # type: ignore[arg-type]


PHRASES = [
    ('"refund requests"', "exact"),
    ('"request for a refund"', "apart"),
    ('refund "C++"', "exact"),
    ('"CAFE owners"', "other"),
    ('"全文検索"', "cjk"),
    ('"iPhone手机"', "cjk"),
    ('"don\'t ask" refund', "exact"),
]
EXCLUSIONS = [
    ("request -paid", {"exact"}),
    ("written -C++", {"exact"}),
    ('request -"refund request"', {"exact"}),
    ("request -文検", {"cjk"}),
    ("request -refunds", {"exact", "apart"}),
]


def test_a_phrase_is_in_every_hit_of_both_legs(notes: SearchEngine) -> None:
    for query, wanted in PHRASES:
        assert found(notes, query) == [{wanted}] * 3, query
    keyword, vector, hybrid = found(notes, '"to be or not to be"')
    assert vector == hybrid == {"other"}
    assert keyword <= {"other"}


def test_what_is_excluded_is_in_no_hit_of_either_leg(notes: SearchEngine) -> None:
    for query, unwanted in EXCLUSIONS:
        keyword, vector, hybrid = found(notes, query)
        assert vector == {id_ for _, id_, _ in NOTES} - unwanted, query
        assert keyword <= hybrid <= vector, query
    assert found(notes, "-refund") == [set(), set(), set()]


def test_few_matches_of_a_phrase_fill_the_limit(search: SearchEngine) -> None:
    search.index_records_batch([("N", str(n), f"fox number {n} " + "of snow" * (n % 20 == 0)) for n in range(200)])
    assert [len(hits) for hits in found(search, '"of snow" fox -bear', limit=10)] == [10, 10, 10]


def test_a_phrase_of_a_long_text_is_found_as_it_is_written(make: Make) -> None:
    search = make()
    long = " ".join(f"w{n % 4_000} fox" for n in range(10_000))
    search.index_records_batch([("N", "in", f"{long} red bear {long}"), ("N", "out", f"{long} bear red {long}")])
    assert ids(search.search('"red bear"', mode="keyword")) == ["in"]


@pytest.mark.parametrize("others", [0, 1_000])
def test_no_phrase_matches_in_the_repeats_of_a_weighted_field(make: Make, others: int) -> None:
    search = make()
    store = RecordStore(search)
    store.create_entity("Book", search={"blurb": 1, "title": 3})
    fox = {"id": "fox", "title": "fox red", "blurb": "a bear's"}
    store.insert("Book", [fox, *({"id": str(n), "title": "whale", "blurb": "sea"} for n in range(others))])
    for phrase in ("fox red", "bear's fox red", "bear fox", "red fox", "red bear", "fox red fox"):
        wanted = ["fox"] if phrase == "fox red" else []
        assert ids(search.search(f'"{phrase}"', mode="keyword")) == wanted, phrase
        assert ids(search.search(f'fox -"{phrase}"', mode="keyword")) == ([] if wanted else ["fox"]), phrase
    (hit,) = search.search("fox", mode="keyword", limit=1, explain=True)
    norm = K1 * (1 - B + B * 8 * (1 + others) / (8 + 4 * others))
    score = idf(others + 1, 1) * 3 * (K1 + 1) / (3 + norm)
    assert hit.explanation[0].raw == pytest.approx(score)


def test_a_field_is_queried_by_its_name_where_it_exists(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert(
        "T",
        [
            {"id": "1", "text": "a fox here", "status": "wide open", "tags": ["vip", {"of": "x[1]"}], "stars": 4},
            {"id": "2", "text": "a fox is open there", "status": "reopened", "tags": [], "stars": 14},
        ],
    )
    for query in ("fox status:OPEN", 'fox status:"wide open"', "fox tags:vip", "fox tags:x[1]", "fox stars:4"):
        assert found(search, query) == [{"1"}, {"1"}, {"1"}], query
    assert found(search, "fox color:open", entity="T") == [{"1", "2"}] * 3
    assert found(search, "fox status:open", where={"stars": {"$gt": 5}}) == [set()] * 3


def test_a_searchable_field_is_queried_with_stems_and_accents(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert(
        "T",
        [
            {"id": "1", "title": "Invoices from Zürich", "body": "some text of Oslo"},
            {"id": "2", "title": "Letters from Oslo", "body": "an invoice of Zurich"},
        ],
    )
    for query in ("title:invoice", "text title:zurich", 'title:"invoice from zürich"', "title:INVOICES body:text"):
        assert found(search, query, entity="T") == [{"1"}] * 3, query
    assert found(search, "title:oslo", entity="T") == [{"2"}] * 3
    assert found(search, 'invoice title:"zurich from"', entity="T") == [set()] * 3
    counted = search.search("title:invoice", entity="T", mode="keyword", count=True)
    assert (counted.total, counted.is_total_exact) == (1, True)


WITHIN = ['"wild red"', '"apple pie"', '"dark green"', '"tea pots"', '"Tom Bo"', '"sweet fruit"', '"two lines"']
ACROSS = ['"red apple"', '"pie dark"', '"green tea"', '"pots sweet"', '"fruit Tom"', '"Bo two"', '"name Tom"']


def test_no_phrase_extends_across_the_fields_and_items_of_a_record(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    more = [["sweet fruit"], {"name": "Tom Bo", "z": {"of": ["two\n\nlines"]}}]
    record = {"id": "1", "title": "Wild red", "body": "apple pie", "tags": ["dark green", "tea pot"], "more": more}
    store = RecordStore(search)
    store.create_entity("T", search=["title", "body", "tags", "more"])
    store.insert("T", [record])
    assert_phrases_are_within_items(search)
    assert found(search, 'wild tags:"dark green"') == found(search, 'wild more:"sweet fruit"') == [{"1"}] * 3
    assert found(search, 'wild tags:"green tea"') == found(search, 'wild more:"fruit Tom"') == [set()] * 3
    (hit,) = search.search("wild", mode="keyword")
    assert hit.matched_text == "Wild red\napple pie\ndark green, tea pot\nsweet fruit, Tom Bo, two\n\nlines"
    assert [text for call in provider.calls for text in call if "apple" in text] == [hit.matched_text]
    store.update("T", "1", {"tags": ["dark, green", "tea pot"]})
    assert found(search, 'wild "dark green"') == [{"1"}] * 3
    store.update("T", "1", {"tags": ["dark", "green", "tea pot"]})
    assert found(search, 'wild "dark green"') == [set()] * 3


def test_no_phrase_extends_across_the_columns_of_an_object(make: Make) -> None:
    class Base(DeclarativeBase):
        pass

    @searchable(fields=["title", "body", "tags"])
    class Page(Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]
        tags: Mapped[list[str]] = mapped_column(JSON)

    search = make(HashProvider())
    Base.metadata.create_all(search.engine)
    sessions = search.attach(sessionmaker(search.engine))
    tags = ["dark green", "tea pot", "sweet fruit", "Tom Bo", "two lines"]
    with sessions.begin() as session:
        session.add(Page(id=1, title="Wild red", body="apple pie", tags=tags))
    with sessions() as session:
        assert_indexed(session.get_one(Page, 1))
    assert_phrases_are_within_items(search)
    with sessions.begin() as session:
        session.get_one(Page, 1).title, session.get_one(Page, 1).body = "Wild red\napple", "pie"
    assert found(search, 'wild "red apple"') == [{"1"}] * 3
    assert found(search, 'wild "apple pie"') == [set()] * 3


def assert_phrases_are_within_items(search: SearchEngine) -> None:
    for phrase in WITHIN:
        assert found(search, f"wild {phrase}") == [{"1"}] * 3, phrase
        assert found(search, f"wild -{phrase}") == [set()] * 3, phrase
    for phrase in ACROSS:
        assert found(search, f"wild {phrase}") == [set()] * 3, phrase
        assert found(search, f"wild -{phrase}") == [{"1"}] * 3, phrase


@pytest.mark.parametrize("between", ["\n", "\n\n", ", ", "\u2028", "\u2029", "\x1e", "\f"])
def test_a_phrase_extends_across_the_paragraphs_of_a_text(search: SearchEngine, between: str) -> None:
    text = f"wild red{between}apple pie"
    search.index_records_batch([("T", "1", text)])
    assert found(search, 'wild "red apple"') == [{"1"}] * 3
    assert [hit.matched_text for hit in search.search("wild")] == [text]


def test_a_column_is_queried_by_its_name_where_its_class_is(make: Make, backend: str) -> None:
    class Base(DeclarativeBase):
        pass

    @searchable(fields={"text": 1})
    class Memo(Base):
        __tablename__ = "memo"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        by: Mapped[str]

    search = make(HashProvider())
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add_all([Memo(id=1, text="a fox", by="Ann_Lee"), Memo(id=2, text="a fox of ann", by="Bo")])
    assert found(search, "fox by:ann_", entity=Memo) == [{"1"}] * 3
    assert found(search, "fox by:ann", entity=Memo, where=Memo.id > 1) == [set()] * 3
    assert found(search, "fox by:ann") == [{"1", "2"}] * 3


HOSTILE = [
    *("content:fox", "terms:fox", "{content}:fox", "kdb_search_fts:fox", "rowid:1", "fox:*", "!fox", "fox & !bear"),
    *("fox | bear", "fox <-> bear", "a\\'b", "'; DROP TABLE kdb_search; --", "fox\\", '"fox\\', "\"fox'\" '", ":x"),
    *('"🦊"', "-🦊 fox", '"fox\0bear"', "שועל מהיר", "e\u0301\u0327 \u200d", '"the"', "fox -the", '"' * 1_001),
    *(
        '"fox" ' * 50,
        "-a" * 30_000,
        '"a b" -c d* e:f ' * 2_000,
        "aa* " * 20_000,
        '"' + "x" * 100_000 + '"',
        "\ufeff",
    ),
    *(
        '"(fox|bear)+[" fox',
        "fox*",
        "*fox",
        "fox**",
        "NOT fox",
        "fox AND AND",
        "^",
        "fox^2",
        "+fox",
        "fox~1",
        "[a TO b]",
        '"' + "a " * 499 + '"',
    ),
]


def test_no_string_is_an_error_or_matches_a_column(notes: SearchEngine) -> None:
    for query in HOSTILE:
        for mode in MODES:
            assert set(ids(notes.search(query, mode=mode, highlight=True, entity="N"))) <= {id_ for _, id_, _ in NOTES}
    with notes.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM kdb_search")) == len(NOTES)


def test_columns_of_the_index_are_no_fields(notes: SearchEngine) -> None:
    notes.index_record("N", "word", "the word content")
    assert ids(notes.search("content:paid", mode="keyword")) == ["word", "exact"]


def test_operators_and_filters_hold_together(search: SearchEngine) -> None:
    store = RecordStore(search)
    phrase = ["late refund", "refund paid late", "late refund paid", "no refund"]
    store.insert("T", [{"id": str(n), "text": text, "stars": n % 2} for n, text in enumerate(phrase)])
    assert found(search, '"late refund" -paid', entity="T", where={"stars": 0}) == [{"0"}] * 3
    assert found(search, "refund -paid", entity="T", where={"stars": 1}) == [{"3"}] * 3
