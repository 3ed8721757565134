"""Names of fields: with dots and quotes, in an object of the record, and of dates, in filters, facets and orders."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, Engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.boosts import number
from kameleon.errors import InvalidFilter, InvalidInput, InvalidRecord
from kameleon.stores.paths import FieldNames, path_of, split
from kameleon.testing import HashProvider

from .conftest import ids, pages
from .test_cli import Run, checked


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class NamedRow(Base):
    __tablename__ = "field_names_row"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    data: Mapped[Any] = mapped_column(JSON)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


ODD = ["a.b", 'say "x"', "back\\slash", "'", "[0]", "$", "ä 😀", "*", "a[b].c", "\\\\", '"', ":x", "%(a)s"]


def escaped(name: str) -> str:
    return "".join(f"\\{one}" if one in '.\\"$' else one for one in name)


def test_a_name_may_have_any_printable_characters(search: SearchEngine) -> None:
    store = RecordStore(search)
    inner = {name: n for n, name in enumerate(ODD)}
    store.create_entity("Odd", search=["text"], fields=dict.fromkeys(ODD, "any") | {"in": "object"})
    rows = [{"id": str(n), "text": "x", **inner, "in": {"der": inner}} for n in range(2)]
    store.insert("Odd", [rows[0], {**rows[1], **{name: n + 100 for name, n in inner.items()}}])
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add(NamedRow(id=1, text="x", data=inner))
    for name, n in inner.items():
        key = escaped(name)
        assert ids(search.search(where={key: n}, entity="Odd")) == ["0"], name
        assert ids(search.search(where={f"in.der.{key}": {"$gte": n}}, entity="Odd")) == ["0", "1"], name
        assert ids(search.search(where={key: {"$not": {"$lt": 50}}}, entity="Odd")) == ["1"], name
        found = search.search("x", entity="Odd", sort=[f"-{key}"], facets=[key, f"in.der.{key}"], limit_by={key: 1})
        assert ids(found) == ["1", "0"], name
        assert found.facets == {key: {n: 1, n + 100: 1}, f"in.der.{key}": {n: 2}}
        assert ids(search.search("x", entity="Odd", boost=[number(key, half=50, weight=5)], mode="keyword"))[0] == "1"
        if not name.isascii():
            continue  # SQLAlchemy escapes it in columns of JSON, and SQLite compares names as they are written
        assert ids(search.search(where={f"data.{key}": n}, entity=NamedRow)) == ["1"], name
        assert search.search(where={}, entity=NamedRow, facets=[f"data.{key}"]).facets == {f"data.{key}": {n: 1}}


def test_a_name_is_split_at_dots_that_nothing_escapes() -> None:
    assert split(r"a\.b.c\\.d\"\e") == ("a.b", "c\\", 'd"e')
    names = FieldNames(frozenset({"a.b", "a", "c.d"}))
    assert [path_of(key, names) for key in ("a.b.c", r"a\.b.c", ".a.x", "c.d", r"c\.d.e")] == [
        ("a.b", "c"),
        ("a.b", "c"),
        ("a", "x"),
        ("c.d",),
        ("c.d", "e"),
    ]
    for wrong in ("", ".", "a..b", "a.", "..a", "a\\", "a.\\", "a\tb", r'a"\.b'):
        with pytest.raises(InvalidFilter, match="is no field"):
            path_of(wrong)


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5), min_size=1, max_size=4))
def test_any_path_can_be_written(path: list[str]) -> None:
    if any('"' in name and set(".[") & set(name) for name in path) or not "".join(path).isprintable():
        return
    assert split(".".join(map(escaped, path))) == tuple(path)


# dates

TIMES = {
    "a": "2026-01-31T12:30Z",
    "b": "2026-01-31T14:30:00+02:00",
    "c": "2026-01-31",
    "d": "2026-01-31T13:00:00.500",
    "e": "2026-01-31 13:00:00Z",
    "f": None,
}


@pytest.fixture
def dated(search: SearchEngine) -> SearchEngine:
    store = RecordStore(search)
    store.create_entity("Dated", search=["text"], fields={"at": "datetime", "other": "text"})
    store.insert("Dated", [{"id": id_, "text": "x", "at": at, "other": at} for id_, at in TIMES.items()])
    return search


def test_declared_datetimes_are_compared_as_instants(dated: SearchEngine) -> None:
    def found(condition: Any, field: str = "at") -> str:
        hits = dated.search(where={field: condition}, entity="Dated")
        listed = RecordStore(dated).list("Dated", where={field: condition})
        assert [record.id for record in listed] == ids(hits)
        return "".join(ids(hits))

    assert found("2026-01-31T12:30:00.000Z") == "ab" == found(datetime(2026, 1, 31, 12, 30, tzinfo=UTC))
    assert found("2026-01-31T12:30:00.000Z", "other") == ""
    assert found({"$gt": "2026-01-31T12:30+00:00"}) == "de"
    assert found({"$between": ["2026-01-31", "2026-01-31T13:30:00+01:00"]}) == "abc"
    assert found({"$in": ["2026-01-31T00:00Z", "2026-01-31T13:00Z", None]}) == "cef"
    assert found({"$not": ["2026-01-31T12:30Z"]}) == "cdef" == found({"$ne": "2026-01-31T12:30Z"})
    assert found({"$lt": date(2026, 1, 31)}) == "" == found({"$gt": "2026-02-01"})
    assert found({"$startswith": "2026-01-31T1"}) == "abd"
    assert found(None) == "f"
    for wrong in ({"$gt": "yesterday"}, "2026-02-31", {"$in": ["2026-01-31", 5]}, 5, True):
        with pytest.raises(InvalidFilter, match="'at' is declared datetime, which compares with dates"):
            found(wrong)


def test_declared_datetimes_are_ordered_and_counted_as_instants(dated: SearchEngine) -> None:
    assert ids(dated.search("", entity="Dated", sort="at")) == list("cabedf")
    assert ids(dated.search("x", entity="Dated", sort="-at")) == list("deabcf")
    found = [each for page in pages(dated, "", entity="Dated", sort="-at", limit=2) for each in ids(page)]
    assert found == list("deabcf")
    store = RecordStore(dated)
    listed = store.list("Dated", sort="-at", limit=3)
    listed += store.list("Dated", sort="-at", limit=3, after=listed[-1])
    assert [record.id for record in listed] == list("deabcf")
    counted = dated.search("", entity="Dated", facets={"at": None}).facets["at"]
    assert list(counted.items()) == [
        ("2026-01-31T12:30:00Z", 2),
        ("2026-01-31T00:00:00Z", 1),
        ("2026-01-31T13:00:00.500Z", 1),
        ("2026-01-31T13:00:00Z", 1),
    ]
    buckets = dated.search("", entity="Dated", facets={"at": ["2026-01-31", "2026-01-31T12:45Z"]}).facets["at"]
    assert list(buckets.values()) == [3, 2]
    assert ids(dated.search("x", entity="Dated", limit_by={"at": 1}, sort="at")) == list("caedf")


def test_what_is_no_datetime_is_not_stored(dated: SearchEngine) -> None:
    store = RecordStore(dated)
    for wrong in ("yesterday", "2026-02-31", 5, "2026-01-31T25:00Z", "0001-01-01T00:00+14:00", "", ["2026-01-31"]):
        with pytest.raises(InvalidRecord, match="'at' is declared datetime, a text such as 2026-01-31T12:30Z, this is"):
            store.insert("Dated", [{"id": "z", "text": "x", "at": wrong}])
    with pytest.raises(InvalidRecord, match="is declared datetime"):
        store.update("Dated", "a", {"at": "soon"})


def test_a_field_that_is_declared_datetime_later_keeps_what_it_has(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("Late", search=["text"], fields={"at": "any"})
    rows = [{"id": "a", "text": "x", "at": "soon"}, {"id": "b", "text": "x", "at": "2026-01-31"}]
    store.insert("Late", [*rows, {"id": "c", "text": "x", "at": 7}, {"id": "d", "text": "x", "at": "2025-01-31"}])
    store.alter_entity("Late", fields={"at": "datetime"})
    assert ids(search.search(where={"at": {"$gte": "2025-01-31"}}, entity="Late")) == ["b", "d"]
    assert ids(search.search("", entity="Late", sort="at")) == ["d", "b", "a", "c"]
    assert set(search.search("", entity="Late", facets=["at"]).facets["at"]) == {
        "soon",
        "2026-01-31T00:00:00Z",
        "2025-01-31T00:00:00Z",
        7,
    }


# an object that names begin in


@pytest.fixture
def documents(search: SearchEngine) -> SearchEngine:
    store = RecordStore(search)
    store.create_entity(
        "documents",
        search=["text"],
        fields={"metadata.year": "integer", "metadata.at": "datetime", "metadata.who.name": "text"},
        filters="metadata",
        boost=[number("stars", half=10)],
    )
    store.insert(
        "documents",
        [
            {
                "id": f"d{n}",
                "text": f"lamp number{n}",
                "metadata": {
                    "id": f"m{n}",
                    "text": f"other{n}",
                    "year": 2000 + n,
                    "at": f"2026-01-0{n + 1}",
                    "a.b": n % 2,
                    "who": {"name": "Ann" if n < 2 else "Bob"},
                    "stars": n,
                },
            }
            for n in range(4)
        ],
    )
    return search


def test_names_begin_in_an_object(documents: SearchEngine) -> None:
    def found(where: dict[str, Any]) -> str:
        listed = [record.id for record in RecordStore(documents).list("documents", where=where)]
        hits = ids(documents.search(where=where, entity="documents"))
        assert hits == listed == sorted(ids(documents.search("lamp", where=where, entity="documents")))
        return "".join(hits).replace("d", "")

    assert found({"year": 2001}) == "1"
    assert found({"year": {"$between": [2001, 2002]}, "who.name": "Bob"}) == "2"
    assert found({"text": "other3"}) == "3"
    assert found({".text": {"$icontains": "NUMBER2"}}) == "2"
    assert found({"id": "d1"}) == "1"
    assert found({"id": {"$in": ["d1", "d3"]}}) == "13"
    assert found({".metadata.id": "m2"}) == "2"
    assert found({r"a\.b": 1}) == "13"
    assert found({"at": {"$gt": "2026-01-02T12:00+13:00"}}) == "123"
    assert found({"nothing": None}) == "0123"
    hits = documents.search("lamp", entity="documents", sort="-year", facets=["who.name", ".metadata.year"], limit=2)
    assert ids(hits) == ["d3", "d2"]
    assert hits.facets["who.name"] == {"Ann": 2, "Bob": 2}
    assert ids(documents.search("lamp", entity="documents", sort=".text", limit_by={"who.name": 1})) == ["d0", "d2"]
    assert ids(documents.search("lamp", entity="documents", mode="keyword"))[0] == "d3"
    assert ids(documents.search("lamp", entity="documents", boost=[number("year", half=1)], mode="keyword"))[0] == "d3"
    assert ids(documents.search("text:number2", entity="documents")) == ["d2"]
    with pytest.raises(InvalidFilter, match=r"unknown field .title.\. Known: metadata, text"):
        found({".title": 1})


def test_records_are_changed_by_names_in_an_object(documents: SearchEngine) -> None:
    store = RecordStore(documents)
    assert store.update("documents", where={"year": {"$lt": 2002}}, changes={"text": "shade"}) == 2
    assert store.delete("documents", where={"who.name": "Bob"}) == 2
    assert sorted(ids(documents.search("shade", entity="documents"))) == ["d0", "d1"]
    with pytest.raises(InvalidRecord, match=r"field .metadata\.year. is declared integer, this is str"):
        store.insert("documents", [{"text": "x", "metadata": {"year": "2001"}}])
    with pytest.raises(InvalidRecord, match="field 'metadata' is declared object"):
        store.insert("documents", [{"text": "x", "metadata": "year"}])
    store.insert("documents", [{"text": "x"}, {"text": "x", "metadata": {"who": 5}}])


def test_entities_whose_names_begin_elsewhere_are_searched_by_one(documents: SearchEngine) -> None:
    store = RecordStore(documents)
    store.insert("Plain", [{"id": "p", "text": "lamp", "year": 2001}])
    with pytest.raises(InvalidFilter, match="'year' is in another object of each of the searched entities"):
        documents.search("lamp", where={"year": 2001})
    assert ids(documents.search("lamp", where={".text": {"$contains": "number1"}})) == ["d1"]
    assert ids(documents.search("lamp", where={"year": 2001}, entity="Plain")) == ["p"]
    assert len(documents.search("lamp")) == 5


def test_an_entity_keeps_its_object_of_names(documents: SearchEngine) -> None:
    store = RecordStore(documents)
    assert store.entity("documents").filters == "metadata"
    assert store.alter_entity("documents", fields={"metadata.stars": "number"}).entity.filters == "metadata"
    store.rename_entity("documents", "papers")
    assert ids(documents.search(where={"stars": 2}, entity="papers")) == ["d2"]
    assert documents.for_tenant("t").search("lamp", where={"stars": 2}) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": "id"}, "filters is the name of the object"),
        ({"filters": "a.b"}, "without dots, quotes or backslashes"),
        ({"filters": 5}, "not 5"),
        ({"filters": "text"}, "an object, which is not searched"),
        ({"filters": "meta", "fields": {"meta": "text"}}, "an object, which is not searched"),
        ({"filters": "meta", "search": ["meta.title"]}, "are fields of the record itself"),
        ({"filters": "meta", "tenant_field": "meta.owner"}, "are fields of the record itself"),
        ({"filters": "meta", "fields": {"meta..x": "text"}}, "is no field"),
    ],
)
def test_an_object_of_names_that_cannot_be_is_refused(
    file_engine: Engine, options: dict[str, Any], message: str
) -> None:
    store = RecordStore(SearchEngine(file_engine, HashProvider(8)))
    with pytest.raises(InvalidInput, match=message):
        store.create_entity("R", **{"search": ["text"], **options})


def test_a_declared_field_in_an_object_has_an_index(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider(8))
    store = RecordStore(search)
    store.create_entity("R", search=["text"], fields={"meta.n": "integer", "meta.code": "text"}, filters="meta")
    store.insert("R", [{"id": str(n), "text": "x", "meta": {"n": n, "code": f"c{n}"}} for n in range(30)])
    seen: list[str] = []
    file_engine.dispose()
    event.listen(file_engine, "connect", lambda driver, _: driver.set_trace_callback(seen.append))
    for where, wanted in ({"n": 7}, "7"), ({"code": {"$startswith": "c2"}, "n": {"$lt": 20}}, "2"):
        seen.clear()
        assert ids(search.search("x", where=where, entity="R")) == [wanted]
        (statement,) = [statement for statement in seen if "json_group_array" in statement]
        with file_engine.connect() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        assert any("USING INDEX kdb_records_by_meta." in step for step in plan), plan


@pytest.fixture
def run(command: Any) -> Run:
    return checked(command)


def test_the_command_declares_an_object_of_names(run: Run) -> None:
    run("entity", "create", "R", "--search", "text", "--field", "meta.n:integer", "--filters", "meta")
    run("data", "insert", "R", stdin='{"id": "1", "text": "x", "meta": {"n": 7}}\n')
    assert "filters" in run("entity", "describe", "R").stdout
    assert '"filters": "meta"' in run("entity", "describe", "R", "--json").stdout
    found = run("search", "x", "--entity", "R", "--where", '{"n": 7}', "--facet", "n", "--mode", "keyword", "--json")
    assert '"id": "1"' in found.stdout
    assert '"id": "1"' in run("data", "list", "R", "--where", '{"n": {"$between": [7, 8]}}', "--json").stdout
