"""`sort`: the language's order of texts, several fields, and records without a value, on each database."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.analysis.collation import sort_key
from kameleon.errors import InvalidInput
from kameleon.search.ordering import MAX_SORTS, Sort, by_field, by_fields

from .conftest import ids, with_server

NAMES = ["adam", "Adam", "ädam", "Äneas", "Bob", "Émile", "Erik", "Zoe"]


class Base(DeclarativeBase):
    pass


@searchable(fields=["about"])
class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    about: Mapped[str]
    name: Mapped[str | None]
    year: Mapped[int | None]


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("language", "ordered"),
    [
        ("english", NAMES),
        ("german", ["strasse", "straße", "Straße", "Straßen", "u", "ü", "v"]),
        ("french", ["cote", "coté", "côte", "côté"]),
        ("english", ["", "~", "10", "2", "a", "a b", "a-b", "ab", "Łódź", "m", "ol", "øl", "olé"]),
        ("swedish", ["apa", "zebra", "åre", "äpple", "öl"]),
        ("danish", ["abe", "zebra", "æble", "øl", "år"]),
        ("spanish", ["nube", "nz", "ñandú", "oso"]),
        ("turkish", ["cz", "çay", "hız", "ılık", "ISI", "ilk", "İzmir"]),
        ("polish", ["lz", "łan", "zorro", "źle", "żaba"]),
        ("russian", ["ежик", "ёлка", "ель", "иод", "йод"]),
    ],
)
def test_texts_are_in_the_order_of_their_language(language: str, ordered: list[str]) -> None:
    for shuffled in (sorted(ordered), sorted(ordered, reverse=True), ordered[::-1]):
        assert sorted(shuffled, key=sort_key(language)) == ordered


@given(st.lists(st.text(max_size=4), max_size=4))
def test_any_texts_have_an_order_in_which_letters_come_before_accents_and_case(texts: list[str]) -> None:
    key = sort_key("english")
    for first, second in pairwise(sorted(texts, key=key)):
        assert key(first) <= key(second)
        if first.isascii() and second.isascii() and (first + second).isalpha():
            assert first.lower() <= second.lower()


def people() -> list[dict[str, Any]]:
    """Each name twice, in years that differ, and some records without a name or a year."""
    rows: list[dict[str, Any]] = [{"name": name, "year": year} for year in (2001, 1999) for name in NAMES[::-1]]
    rows += [{"name": None, "year": 2002}, {"name": "Bob", "year": None}, {"name": None, "year": None}]
    return [{"id": n, "about": "some thing", **row} for n, row in enumerate(rows, 1)]


def by_hand(rows: Sequence[dict[str, Any]], *sorts: str) -> list[str]:
    """The ids in order, ties by id as text, which is the rank of equal scores."""
    ordered = sorted(rows, key=lambda row: str(row["id"]))
    for sort in reversed(sorts):
        name = sort.removeprefix("-")
        valued = [row for row in ordered if row[name] is not None]
        places: dict[Any, int] = {value: place for place, value in enumerate(NAMES)}
        valued.sort(key=lambda row: places.get(row[name], row[name]), reverse=sort.startswith("-"))
        ordered = [*valued, *(row for row in ordered if row[name] is None)]
    return [str(row["id"]) for row in ordered]


SORTS = [("name",), ("-name",), ("-year", "name"), ("name", "-year"), ("-name", "year"), ("year",), ("-year",)]


def test_records_are_sorted_by_several_fields_and_those_without_a_value_are_last(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("Row", search=["about"])
    store.insert("Row", people())
    for sorts in SORTS:
        options: dict[str, Any] = {"entity": "Row", "limit": 40, "mode": "keyword"}
        wanted = by_hand(people(), *sorts)
        assert ids(search.search("thing", sort=",".join(sorts), **options)) == wanted, sorts
        assert ids(search.search("thing", sort=list(sorts), **options)) == wanted
        first = search.search("thing", sort=", ".join(sorts), **{**options, "limit": 4})
        assert ids(first) + ids(search.search("thing", sort=list(sorts), cursor=first.cursor, **options)) == wanted


def test_mapped_classes_are_sorted_as_records_are(engine: Engine, search: SearchEngine) -> None:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all([Person(**row) for row in people()])
    for sorts in SORTS:
        found = search.search("thing", entity=Person, limit=40, mode="keyword", sort=",".join(sorts))
        assert ids(found) == by_hand(people(), *sorts), sorts
    with Session(engine) as session:
        statement: Any = search.select(Person, "thing", limit=4, mode="keyword", sort="name,-year")
        chosen = session.scalars(statement).all()
    assert [(one.name, one.year) for one in chosen] == [(n, y) for n in NAMES[:2] for y in (2001, 1999)]


def test_the_language_of_the_index_decides(engine: Engine) -> None:
    search = SearchEngine(engine, language="swedish")
    RecordStore(search).insert("Row", [{"id": n, "name": n, "about": "en sak"} for n in ("ål", "zebra", "Ask", "öl")])
    assert ids(search.search("sak", sort="name")) == ["Ask", "zebra", "ål", "öl"]


def test_a_field_with_a_comma_in_its_name_is_named_in_a_list(search: SearchEngine) -> None:
    rows = [{"id": n, "about": "some thing", "a,b": -n} for n in range(3)]
    RecordStore(search).insert("Row", rows)
    assert ids(search.search("thing", sort=["a,b"])) == ["2", "1", "0"]


def test_equal_values_keep_the_order_of_their_rank_in_both_directions() -> None:
    values = dict.fromkeys("dcba", 1) | {"e": None}
    for is_descending in (False, True):
        assert by_field("edcba", values, Sort("f", is_descending), sort_key("english")) == list("dcbae")
    first = {"a": 1, "b": 1, "c": 0}
    assert by_fields("cba", [first, {"a": "x", "b": "y"}], [Sort("f"), Sort("g", True)], sort_key("english")) == [
        *("c", "b", "a")
    ]


@pytest.mark.parametrize("sort", ["", "-", "a,,b", "a,", [], ["a", ""], ["a", 1], 5, ["-"], ["a"] * (MAX_SORTS + 1)])
def test_a_sort_that_names_no_field_is_refused(search: SearchEngine, sort: Any) -> None:
    with pytest.raises(InvalidInput, match=r"sort is a field, or -field|fields at most, not 6"):
        search.search("thing", sort=sort)
