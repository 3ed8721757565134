"""The record store: entities, inserts, updates, deletes and lists, each in one transaction with the index."""

import math
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

import kameleon.doctor
import kameleon.records.changing
import kameleon.records.entities
from kameleon import RecordStore, SearchEngine
from kameleon.errors import (
    EntityExists,
    InvalidFilter,
    InvalidInput,
    InvalidRecord,
    KameleonError,
    RecordExists,
    RecordMissing,
    UnknownEntity,
)
from kameleon.records.rows import without_nul
from kameleon.search.syntax import parse
from kameleon.testing import HashProvider

from .conftest import ids, with_namespaces, with_server


@pytest.fixture(params=with_namespaces(*with_server("sqlite", "sqlite-memory", "postgresql")))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def records(search: SearchEngine) -> RecordStore:
    return RecordStore(search)


def test_an_insert_is_stored_and_found_in_one_transaction(records: RecordStore, provider: HashProvider) -> None:
    report = records.insert(
        "Ticket", [{"id": "1", "subject": "no refund", "n": 1}, {"id": "2", "subject": "late parcel"}]
    )
    assert (report.inserted, report.index.embedded) == (2, 2)
    assert provider.calls == [["no refund", "late parcel"]]
    assert records.get("Ticket", "1").data == {"subject": "no refund", "n": 1}
    assert ids(records.search.search("refund", mode="keyword")) == ["1"]


def test_a_missing_entity_is_inferred_from_its_records(records: RecordStore) -> None:
    made = records.insert(
        "T", [{"id": "1", "title": "two words", "code": "one"}, {"id": "2", "title": "x", "about": "more words"}]
    ).created_entity
    assert made is not None
    assert made.searchable == made.field_names == ("title", "code", "about")
    assert [field.search and field.search.index for field in made.fields] == ["both", "keyword", "both"]
    later = [
        {"id": "3", "title": "three", "later": "late words", "tags": ["sea salt"], "place": {"city": "Oslo"}, "n": 3}
    ]
    report = records.insert("T", later)
    assert (report.created_entity, report.unsearched, report.keyword_only) == (None, (), ())
    for query, id_ in {"one": "1", "late": "3", "salt": "3", "oslo": "3"}.items():
        assert ids(records.search.search(query, entity="T", mode="keyword")) == [id_]
    assert records.entity("T").field_names == ("title", "code", "about", "later", "tags", "place", "n")
    assert records.entity("T").searchable == ("title", "code", "about", "later", "tags", "place")
    assert records.insert("T", [{"title": "four", "code": "two words", "n": "five"}]).keyword_only == ("code",)


def test_a_field_that_was_null_is_searched_once_it_has_a_text(records: RecordStore) -> None:
    records.insert("T", [{"id": "1", "title": "two words", "about": None, "n": 1}])
    assert records.entity("T").field_names == ("title", "about", "n")
    report = records.insert("T", [{"id": "2", "title": "three words", "about": "a quiet sea", "n": "five"}])
    assert ids(records.search.search("quiet", entity="T", mode="keyword")) == ["2"]
    assert report.unsearched == ("n",)
    assert kameleon.doctor.is_ok(kameleon.doctor.examine(records.search))


def test_what_a_declared_entity_does_not_search_is_reported(records: RecordStore) -> None:
    records.create_entity("T", search=["title"], fields={"status": "text"})
    rows = [{"id": n, "title": "a", "status": "open", "n": n, "blurb": "a long text", "tags": ["x"]} for n in (1, 2)]
    assert records.insert("T", rows).unsearched == ("blurb", "tags")
    assert records.entity("T").searchable == ("title",)
    records.create_entity("Tenanted", search=["title"], tenant_field="org")
    assert records.insert("Tenanted", [{"id": 1, "org": "a", "title": "b", "blurb": "c"}]).unsearched == ("blurb",)


def test_where_no_text_is_longer_than_a_word_every_text_is_searchable(records: RecordStore) -> None:
    records.insert("T", [{"id": 1, "name": "Ann", "n": 3}])
    assert records.entity("T").searchable == ("name",)


def test_a_declared_entity_checks_its_types(records: RecordStore) -> None:
    records.create_entity(
        "T", search=["title"], fields={"n": "integer", "ok": "boolean", "tags": "list", "x": "number"}
    )
    records.insert("T", [{"id": "1", "title": "a", "n": 3, "ok": True, "tags": ["a"], "x": 1.5, "other": None}])
    for field, value in [("n", 1.5), ("n", True), ("n", "3"), ("ok", 1), ("tags", {}), ("x", "1")]:
        with pytest.raises(InvalidRecord, match=f"field '{field}' is declared"):
            records.insert("T", [{"id": "2", "title": "b", field: value}])
    with pytest.raises(EntityExists, match="entity describe T"):
        records.create_entity("T", search=["title"])
    with pytest.raises(InvalidInput, match=r"unknown type 'date'\. Known: any, text"):
        records.create_entity("U", search=["title"], fields={"day": "date"})
    with pytest.raises(InvalidInput, match="at least one searchable"):
        records.create_entity("U")


def test_an_unknown_entity_names_the_existing_ones(records: RecordStore) -> None:
    records.insert("Ticket", [{"subject": "a b"}])
    for call in (
        lambda: records.get("Tickt", "1"),
        lambda: records.list("Tickt"),
        lambda: records.update("Tickt", "1", {}),
        lambda: records.delete("Tickt", ["1"]),
        lambda: records.insert("Tickt", [{"a": "b"}], create=False),
    ):
        with pytest.raises(UnknownEntity, match=r"unknown entity 'Tickt'\. Known: Ticket"):
            call()


def test_a_duplicate_id_is_named_and_nothing_is_stored(records: RecordStore, provider: HashProvider) -> None:
    records.insert("T", [{"id": "1", "text": "old text"}])
    with pytest.raises(RecordExists, match="T has a record '1' already") as caught:
        records.insert("T", [{"id": "2", "text": "new text"}, {"id": "1", "text": "other text"}])
    assert caught.value.position == 1
    with pytest.raises(RecordExists) as caught:
        records.insert("T", [{"id": "3", "text": "a b"}, {"id": "3", "text": "c d"}])
    assert caught.value.position == 1
    assert [r.id for r in records.list("T")] == ["1"]
    assert len(provider.calls) == 1


def test_upsert_replaces_and_skip_leaves(records: RecordStore) -> None:
    records.insert("T", [{"id": "1", "text": "old text", "n": 1}])
    created = records.get("T", "1").created_at
    report = records.insert("T", [{"id": "1", "text": "new text"}, {"id": "2", "text": "b b"}], on_conflict="replace")
    assert (report.inserted, report.updated) == (1, 1)
    assert records.get("T", "1").data == {"text": "new text"}
    assert records.get("T", "1").created_at == created
    report = records.insert("T", [{"id": "1", "text": "third text"}, {"id": "3", "text": "c c"}], on_conflict="ignore")
    assert (report.inserted, report.skipped) == (1, 1)
    assert ids(records.search.search("text", mode="keyword")) == ["1"]
    assert records.search.search("third", mode="keyword") == []


def test_ids_are_text_and_a_missing_one_is_made(records: RecordStore) -> None:
    records.insert("T", [{"id": 7, "text": "a b"}, {"text": "c d"}])
    given, made = sorted((record.id for record in records.list("T")), key=len)
    assert given == "7"
    assert uuid.UUID(made).version == 4
    refused: list[Any] = [1.5, True, "", [], {"a": 1}, "x" * 2000]
    for bad in refused:
        with pytest.raises(InvalidRecord, match="record id"):
            records.insert("T", [{"id": bad, "text": "a"}])


def test_update_keeps_other_fields_and_embeds_only_changed_text(records: RecordStore, provider: HashProvider) -> None:
    records.insert("T", [{"id": "1", "text": "red fox", "status": "open"}])
    assert records.update("T", "1", {"status": "closed"}).data == {"text": "red fox", "status": "closed"}
    assert len(provider.calls) == 1
    records.update("T", "1", {"text": "grey wolf", "new": 1})
    assert provider.calls[1:] == [["grey wolf"]]
    assert ids(records.search.search("wolf", mode="keyword", where={"new": 1})) == ["1"]
    assert records.update("T", "1", {"text": "only"}, replace_all=True).data == {"text": "only"}
    with pytest.raises(RecordMissing, match="T has no record '9'"):
        records.update("T", "9", {"a": 1})
    with pytest.raises(InvalidRecord, match="cannot change the id"):
        records.update("T", "1", {"id": "2"})


def test_an_update_never_loses_another_s(records: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    records.insert("T", [{"id": "1", "text": "a b", "n": 0}])
    plain = kameleon.records.entities.record_entry
    calls: list[int] = []

    def meanwhile(*args: Any) -> Any:
        if not calls:
            calls.append(1)
            records.update("T", "1", {"n": 5})
        return plain(*args)

    monkeypatch.setattr(kameleon.records.changing, "record_entry", meanwhile)
    assert records.update("T", "1", {"m": 1}).data == {"text": "a b", "n": 5, "m": 1}


def test_delete_takes_record_and_index_together(records: RecordStore) -> None:
    records.insert("T", [{"id": str(n), "text": f"fox {n}"} for n in range(3)])
    assert records.delete("T", ["0", "2", "9"]) == 2
    assert [record.id for record in records.list("T")] == ["1"]
    assert ids(records.search.search("fox")) == ["1"]
    with pytest.raises(RecordMissing):
        records.get("T", "0")


def test_list_pages_by_id(records: RecordStore) -> None:
    records.insert("T", [{"id": f"{n}", "text": f"fox {n}"} for n in range(5)])
    assert [r.id for r in records.list("T", limit=2, offset=1)] == ["1", "2"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": {"b": ["\ud800"]}}, r"a\.b: a lone surrogate"),
        ({"a": math.nan}, "a is nan"),
        ({"a": [math.inf]}, "a is inf"),
        ({"a": object()}, "a is object"),
        ({"": 1}, "field's name"),
        ({"x\0": 1}, "field's name holds a NUL"),
        ({3: 1}, "field's name"),
    ],
)
def test_what_a_database_cannot_hold_is_refused_by_its_place(
    records: RecordStore, data: dict[Any, Any], message: str
) -> None:
    with pytest.raises(InvalidRecord, match=message) as caught:
        records.insert("T", [{"text": "good words"}, data])
    assert caught.value.position == 1
    assert records.entities() == []


def test_arguments_that_would_do_something_else_are_refused(records: RecordStore) -> None:
    assert records.insert("T", ({"id": n, "text": "a b"} for n in (1, 2, 3))).inserted == 3
    with pytest.raises(InvalidInput, match="unknown on_conflict 'upsert'"):
        records.insert("T", [{"id": 1, "text": "c"}], on_conflict="upsert")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="ids is a list"):
        records.delete("T", "123")
    with pytest.raises(InvalidInput, match="search is a list"):
        records.create_entity("U", search="text")
    with pytest.raises(InvalidInput, match="no field"):
        records.create_entity("U", search=["id"])
    for limit in (0, -1, 2**70):
        with pytest.raises(InvalidInput, match="limit is"):
            records.list("T", limit=limit)
    for bad, reason in (
        ({"id": 10**5000, "text": "a"}, "1024 bytes at most, this number has about 5001 digits"),
        ({"id": 10**1024, "text": "a"}, "1024 bytes at most, this one has 1025"),
        ({"id": "9", "n": 10**5000}, r"n is a whole number of 16610 bits, and one may have 1024 .* as text"),
    ):
        with pytest.raises(InvalidRecord, match=reason):
            records.insert("T", [bad])
    assert len(records.list("T")) == 3


def test_a_record_nested_too_deep_is_refused(records: RecordStore) -> None:
    deep: Any = "x"
    for _ in range(80):
        deep = [deep]
    with pytest.raises(InvalidRecord, match="more than 64 deep"):
        records.insert("T", [{"a": deep}])


def test_a_failing_write_leaves_neither_record_nor_index(
    records: RecordStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.insert("T", [{"id": "0", "text": "a b"}])

    def fail(*_args: Any) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr(records.search.index, "apply", fail)
    with pytest.raises(RuntimeError, match="stopped"):
        records.insert("T", [{"id": "1", "text": "c d"}])
    monkeypatch.undo()
    assert [r.id for r in records.list("T")] == ["0"]
    assert records.search.get_status()[0].indexed == 1


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
storable = texts.filter(lambda text: "\0" not in text)


@given(st.lists(st.tuples(storable.filter(bool), texts), min_size=1, max_size=8), texts)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_unicode_text_can_be_stored_and_any_string_can_be_a_query(
    records: RecordStore, rows: list[tuple[str, str]], query: str
) -> None:
    records.search.index_records_batch([("Any", id_, text) for id_, text in rows])
    spaced = {id_: text.replace("\0", " ") for id_, text in rows}
    wanted = {id_: "" if text.isspace() else text for id_, text in spaced.items()}
    for mode in ("hybrid", "keyword", "vector"):
        records.search.search(query, mode=mode)
    with records.search.index.reading() as connection:
        stored = connection.exec_driver_sql("SELECT record_id, content FROM kdb_search WHERE entity_name = 'Any'")
        found = {row[0]: row[1] for row in stored}
    assert {id_: found[id_] for id_ in wanted} == wanted
    for text in wanted.values():
        hits = records.search.search(text, mode="keyword", limit=1000)
        says_all = not parse(text).excluded
        if says_all and any(character.isdigit() and character.isascii() for character in text):
            assert text in {hit.matched_text for hit in hits}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_json_is_stored_as_it_is_or_refused_with_our_error(records: RecordStore, data: dict[str, Any]) -> None:
    try:
        records.insert("Json", [{**data, "id": "1"}], on_conflict="replace")
    except KameleonError as error:
        assert isinstance(error, InvalidRecord)  # noqa: PT017
        return
    assert records.get("Json", "1").data == {name: without_nul(value) for name, value in data.items() if name != "id"}


def test_the_text_of_a_record_does_not_depend_on_how_it_is_stored(records: RecordStore, provider: HashProvider) -> None:
    records.create_entity("D", search=["address", "numbers"])
    data = {"address": {"street": "Main Road", "city": "Oslo town"}, "numbers": [1e16, -0.0, 1e22, 2.5]}
    records.insert("D", [{"id": "1", **data, "status": 1}])
    records.update("D", "1", {"status": 2})
    assert records.insert("D", [{"id": "1", **data, "status": 3}], on_conflict="replace").index.unchanged == 1
    assert len(provider.calls) == 1


@pytest.mark.parametrize("number", [2.5e22 / 7, 1.7976931348623157e308, 1e16, 0.1])
def test_a_number_is_found_in_any_field(records: RecordStore, number: float) -> None:
    records.insert("N", [{"id": "1", "text": "a b", "n": number, "list": [number, 1], "object": {"x": number}}])
    for where in (
        {"n": number},
        {"n": {"$in": [number]}},
        {"list": {"$contains": number}},
        {"list": [number, 1]},
        {"object": {"x": number}},
        {"object.x": number},
    ):
        assert [record.id for record in records.list("N", where=where)] == ["1"]


def test_a_word_of_a_weightier_field_counts_for_more(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("Book", search={"blurb": 1, "title": 3})
    data = {"title": "whales", "blurb": "a story of the sea"}
    store.insert("Book", [{"id": "1", "title": "the sea", "blurb": "a story of whales"}, {"id": "2", **data}])
    assert ids(search.search("whales", entity="Book", mode="keyword")) == ["2", "1"]
    assert [field.search and field.search.weight for field in store.entity("Book").fields] == [1, 3]
    (hit,) = search.search("whales", entity="Book", mode="keyword", limit=1)
    assert hit.matched_text == "a story of the sea\nwhales"
    with pytest.raises(InvalidInput, match=r"the weight of 'title' is a whole number from 1 to 10, not 0\.5"):
        store.create_entity("Poem", search={"title": 0.5})


def test_a_record_store_of_an_engine_names_what_it_takes(search: SearchEngine) -> None:
    for wrong, name in ((search.engine, "Engine"), ("sqlite:///app.db", "str")):
        with pytest.raises(InvalidInput, match=f"takes a SearchEngine, or that of a tenant, not {name}"):
            RecordStore(wrong)  # type: ignore[arg-type]


def test_an_option_or_a_filter_that_is_none_is_named(search: SearchEngine, records: RecordStore) -> None:
    records.insert("Note", [{"id": "1", "text": "wages"}])
    with pytest.raises(TypeError, match=r"no option 'filter'\. Its options: boost, .*where"):
        search.search("wages", filter={"text": "wages"})  # type: ignore[call-arg]
    for wrong in ("text = 1", [("text", 1)]):
        for names in (["Note"], None):
            with pytest.raises(InvalidFilter, match=r"where= is a mapping such as \{'status': 'open'\}, not"):
                search.search("wages", entities=names, where=wrong)
