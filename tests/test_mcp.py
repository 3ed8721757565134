"""The tools and resources of the MCP server, by the SDK's own client: stored records, mapped classes and what was only
indexed, with and without tenants."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError
from sqlalchemy import Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry, sessionmaker
from starlette.testclient import TestClient

from kameleon import RecordStore, SearchEngine, SearchResult, Snippet, searchable
from kameleon.excerpts import Passage
from kameleon.server import app
from kameleon.server.mcp.budget import fitted, part_of, tokens, uri_of
from kameleon.server.mcp.entities import entities_document
from kameleon.server.serving import Serving

from .agents import call, converse
from .conftest import Indexes

BACKENDS = ("sqlite", "postgresql")
READ = ["search", "fetch", "similar", "suggest", "list_entities", "status"]
SENTENCE = "The page of chapter {} says how a kettle of water is boiled on a small stove. "
BODY = 'a "quoted" wörd\n of a 漢字 text ' * 20
LONG = "".join(SENTENCE.format(n) for n in range(150))


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Lamp(Base):
    __tablename__ = "mcp_lamp"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    color: Mapped[str]
    photo: Mapped[bytes]
    password_hash: Mapped[str]


def fill(search: SearchEngine) -> None:
    records = RecordStore(search)
    records.create_entity(
        "Ticket", search=["title", "body"], fields={"status": "text", "stars": "integer", "url": "text"}
    )
    tickets = [
        {"id": f"T-{n}", "title": f"cannot log in {n}", "body": "short", "status": "open", "stars": n}
        for n in range(20)
    ]
    records.insert(
        "Ticket", [*tickets, {"id": "a b/ü?#%", "title": "slash", "body": "x", "status": "closed", "url": "x" * 500}]
    )
    records.insert("Book", [{"id": str(n), "title": f"kettle {n}", "text": LONG} for n in range(6)])
    for tenant in ("acme", "zork"):
        records.insert("Memo", [{"id": "1", "text": f"the merger of {tenant}"}], tenant=tenant, tenant_field="")
    search.index_record("Page", "p/1", "a page that lives elsewhere")
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine))() as session:
        session.add_all(
            Lamp(id=n, title=f"desk lamp {n}", color="red", photo=b"x", password_hash="h")  # noqa: S106
            for n in range(3)
        )
        session.commit()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def index(backend: str, indexes: Indexes) -> SearchEngine:
    return indexes(backend, fill)


# what there is


def test_tools_have_schemas_annotations_and_the_entities(index: SearchEngine) -> None:
    async def conversation(client: Client) -> Any:
        return (await client.list_tools()).tools

    tools = converse(index, conversation)
    assert [tool.name for tool in tools] == READ
    for tool in tools:
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint
        assert tool.annotations.open_world_hint is False
        assert tool.input_schema["additionalProperties"] is False
        assert tool.output_schema is not None
        assert all("description" in argument for argument in tool.input_schema["properties"].values())
    assert list(tools[0].input_schema["properties"])[:6] == ["query", "entity", "limit", "where", "mode", "tenant"]
    assert (
        "- Ticket: 21 records; texts: title, body; filters: status (text), stars (integer), url (text)"
        in tools[0].description
    )
    both = converse(index, conversation, write=True)
    assert [tool.name for tool in both] == [*READ, "store", "delete"]
    assert [tool.annotations.destructive_hint for tool in both[-2:]] == [True, True]
    assert [tool.annotations.read_only_hint for tool in both[-2:]] == [False, False]


def test_a_description_replaces_a_tools_own(index: SearchEngine) -> None:
    async def conversation(client: Client) -> Any:
        return {tool.name: tool.description for tool in (await client.list_tools()).tools}

    described = converse(index, conversation, descriptions={"search": "Search our tickets"})
    assert described["search"] == "Search our tickets"
    assert described["fetch"].startswith("Get one record")
    with pytest.raises(ValueError, match="no tool is named 'serch'"):
        converse(index, conversation, descriptions={"serch": "x"})
    with pytest.raises(ValueError, match="max_tokens is a whole number from 500 to 100,000, not '2000'"):
        converse(index, conversation, max_tokens="2000")


def test_entities_have_their_fields_counts_and_values(index: SearchEngine) -> None:
    found = {one["name"]: one for one in call(index, "list_entities", {})["entities"]}
    assert {name: (one["kind"], one["records"]) for name, one in found.items()} == {
        "Book": ("records", 6),
        "Lamp": ("class", 3),
        "Memo": ("records", 2),
        "Page": ("indexed", 1),
        "Ticket": ("records", 21),
    }
    fields = {field["name"]: field for field in found["Ticket"]["fields"]}
    assert fields["stars"]["type"] == "integer"
    assert fields["status"]["values"] == [{"value": "open", "count": 20}, {"value": "closed", "count": 1}]
    assert len(fields["stars"]["values"]) == 3, "examples: every record has another"
    assert "values" not in fields["url"], "it is long"
    columns = {field["name"]: field.get("values") for field in found["Lamp"]["fields"]}
    assert columns["color"] == [{"value": "red", "count": 3}]
    assert columns["photo"] is columns["password_hash"] is None
    assert found["Memo"]["has_tenants"]
    (only,) = call(index, "list_entities", {"entity": "Ticket"})["entities"]
    assert only == found["Ticket"]
    few = entities_document(Serving(index), {}, None, 200)
    assert tokens(few) <= 200
    assert len(few["entities"]) + few["left_out"] == len(found)


def test_the_status_is_that_of_the_index(index: SearchEngine) -> None:
    status = call(index, "status", {})
    assert {one["entity"]: one["indexed"] for one in status["entities"]} == {
        one.entity: one.indexed for one in index.get_status()
    }
    assert (status["model"], status["writes"], status["reindex"]) == ("hash", False, None)


# searches


def test_hits_are_those_of_the_library(index: SearchEngine) -> None:
    found = call(index, "search", {"query": "cannot log in", "entity": "Ticket", "where": {"stars": {"$lt": 3}}})
    expected = index.search("cannot log in", entities=["Ticket"], where={"stars": {"$lt": 3}})
    assert [(hit["id"], hit["score"], hit["data"]) for hit in found["hits"]] == [
        (hit.id, round(hit.score, 6), hit.data) for hit in expected
    ]
    assert len(found["hits"]) == 3
    assert found["hits"][0]["uri"] == f"kameleon://Ticket/{found['hits'][0]['id']}"
    as_text = call(index, "search", {"query": "cannot log in", "entity": ["Ticket"], "where": '{"stars": {"$lt": 3}}'})
    assert as_text == found
    alike = call(index, "search", {"query": "cannot log in", "entity": "Ticket", "min_similarity": 0.2})
    wanted = index.search("cannot log in", entities=["Ticket"], min_similarity=0.2)
    assert [(hit["id"], hit["similarity"]) for hit in alike["hits"]] == [
        (hit.id, round(hit.similarity, 3)) for hit in wanted if hit.similarity is not None
    ]
    assert 0 < len(wanted) < index.search("cannot log in", entities=["Ticket"]).total
    near = call(index, "similar", {"entity": "Ticket", "id": "T-3", "limit": "2"})
    assert [hit["id"] for hit in near["hits"]] == [hit.id for hit in index.similar("Ticket", "T-3", limit=2)]
    more = call(index, "similar", {"entity": "Ticket", "id": "T-3", "limit": 2, "cursor": near["cursor"]})
    assert [hit["id"] for hit in more["hits"]] == [hit.id for hit in index.similar("Ticket", "T-3", limit=4)][2:]
    assert call(index, "suggest", {"text": "cannot lo", "entity": "Ticket"}) == {"suggestions": ["cannot log"]}


def test_a_mapped_class_is_searched_by_its_columns_and_shows_its_texts_and_filterable_columns(
    index: SearchEngine,
) -> None:
    found = call(index, "search", {"query": "lamp", "entity": "Lamp", "where": {"color": "red"}})
    rows = [{"title": f"desk lamp {n}", "color": "red"} for n in range(3)]
    assert sorted((hit["data"] for hit in found["hits"]), key=lambda row: row["title"]) == rows
    fetched = call(index, "fetch", {"entity": "Lamp", "id": 1})
    assert fetched == {"entity": "Lamp", "id": "1", "uri": "kameleon://Lamp/1", "data": rows[1]}
    assert call(index, "fetch", {"entity": "Page", "id": "p/1"})["text"] == "a page that lives elsewhere"


def test_stored_records_show_their_data_beside_a_class_of_their_name(index: SearchEngine) -> None:
    elsewhere: Any = registry()

    @elsewhere.mapped
    @searchable(content=lambda memo: memo.text, name="Memo")
    class _Memo:
        __tablename__ = "mcp_memo"
        id = mapped_column(Integer, primary_key=True)
        text = mapped_column(String)

    try:
        found = call(index, "search", {"query": "merger", "entity": "Memo", "tenant": "acme"})
    finally:
        elsewhere.dispose()
    assert [hit["data"] for hit in found["hits"]] == [{"text": "the merger of acme"}]


@pytest.mark.parametrize("budget", [500, 2000, 8000])
def test_results_are_within_the_budget_and_cut_at_passages(index: SearchEngine, budget: int) -> None:
    arguments: dict[str, Any] = {"query": "kettle of water", "entity": "Book", "limit": 6}
    found = call(index, "search", arguments, max_tokens=budget)
    assert tokens(found) <= budget
    passages = {hit.id: hit.passages for hit in index.search("kettle of water", entities=["Book"], passages=20)}
    assert len(found["hits"]) > 1
    for hit in found["hits"]:
        assert hit["is_cut"]
        assert hit["data"] == {"title": f"kettle {hit['id']}"}
        whole = {(one.start, one.end) for one in passages[hit["id"]]}
        places = [(one["start"], one["end"]) for one in hit["passages"]]
        assert places == sorted(places)
        assert budget < 8000 or (len(places) > 2 and set(places) <= whole)
        if budget == 2000:  # less than a passage for each hit, which has a longer snippet then
            assert len(hit["passages"][0]["text"]) > 300


def test_the_cursor_continues_after_what_the_budget_left_out(index: SearchEngine) -> None:
    arguments: dict[str, Any] = {"query": "cannot log in", "entity": "Ticket", "limit": 20}
    seen: list[str] = []
    pages = 0
    while True:
        found = call(index, "search", arguments, max_tokens=500)
        seen += [hit["id"] for hit in found["hits"]]
        pages += 1
        if not found["cursor"]:
            break
        arguments["cursor"] = found["cursor"]
    assert pages > 1
    assert len(seen) == len(set(seen)) == found["total"]


def test_a_long_record_is_fetched_in_parts(index: SearchEngine) -> None:
    arguments: dict[str, Any] = {"entity": "Book", "id": "2"}
    parts = [call(index, "fetch", arguments, max_tokens=1000)]
    assert parts[0]["data"] == {"title": "kettle 2"}
    assert parts[0]["left_out"]["text"] == len(json.dumps(LONG))
    while parts[-1]["next_start"] is not None:
        assert tokens(parts[-1]) <= 1000
        assert parts[-1]["text"].endswith(". ")
        parts.append(call(index, "fetch", {**arguments, "start": parts[-1]["next_start"]}, max_tokens=1000))
    assert "".join(part["text"] for part in parts) == f"kettle 2\n{LONG}"
    assert len(parts) > 2
    field = call(index, "fetch", {**arguments, "field": "text", "start": 100}, max_tokens=1000)
    assert LONG[100:].startswith(field["text"])
    assert call(index, "fetch", {"entity": "Ticket", "id": "T-4"})["data"]["stars"] == 4


# resources


def test_records_and_entities_are_resources(index: SearchEngine) -> None:
    async def conversation(client: Client) -> Any:
        listed = (await client.list_resources()).resources
        (template,) = (await client.list_resource_templates()).resource_templates
        uris = [*(one.uri for one in listed), uri_of("Ticket", "a b/ü?#%"), uri_of("Memo", "1", "zork")]
        read = [(await client.read_resource(uri)).contents[0] for uri in uris]
        return template.uri_template, {one.uri: json.loads(one.text) for one in read}  # type: ignore[union-attr]

    template, read = converse(index, conversation)
    assert template == "kameleon://{entity}/{id}{?tenant}"
    assert [one["name"] for one in list(read.values())[:5]] == ["Book", "Lamp", "Memo", "Page", "Ticket"]
    slash, memo = list(read.values())[5:]
    assert (slash["id"], slash["data"]["title"]) == ("a b/ü?#%", "slash")
    assert (memo["tenant"], memo["data"]) == ("zork", {"text": "the merger of zork"})
    assert "kameleon://Ticket/a%20b%2F%C3%BC%3F%23%25" in read


@pytest.mark.parametrize(
    "uri",
    [
        *("kameleon://Ticket/none", "kameleon://Nothing/1", "kameleon://Memo/1", "kameleon:///T-1"),
        *("kameleon://Ticket/..%2f..%2fetc%2fpasswd", "file:///etc/passwd", "kameleon://Ticket/T-1?tenant=acme"),
    ],
)
def test_another_uri_is_an_error(index: SearchEngine, uri: str) -> None:
    async def conversation(client: Client) -> Any:
        with pytest.raises(MCPError) as raised:
            await client.read_resource(uri)
        return raised.value

    error = converse(index, conversation)
    assert error.error.code == -32602
    assert error.error.data == {"uri": uri}


# tenants


def test_a_tenants_records_are_read_where_it_is_named(index: SearchEngine) -> None:
    assert call(index, "search", {"query": "merger", "entity": "Memo"}).startswith("TenantRequired: Memo has tenants")
    found = call(index, "search", {"query": "merger", "entity": "Memo", "tenant": "acme"})
    assert [(hit["tenant"], hit["uri"]) for hit in found["hits"]] == [("acme", "kameleon://Memo/1?tenant=acme")]
    both = call(index, "search", {"query": "merger", "entity": "Memo", "tenant": ["acme", "zork"]})
    assert len(both["hits"]) == 2


@pytest.mark.parametrize("tenant", ["acme", lambda _request: "acme"])
def test_a_server_of_one_tenant_gives_nothing_of_others(index: SearchEngine, tenant: Any) -> None:
    async def conversation(client: Client) -> Any:
        tools = (await client.list_tools()).tools
        results = [
            await client.call_tool("search", {"query": "merger"}),
            await client.call_tool("search", {"query": "merger", "tenant": "zork"}),
            await client.call_tool("search", {"query": "merger", "tenant": ["acme", "zork"]}),
            await client.call_tool("fetch", {"entity": "Memo", "id": "1", "tenant": "zork"}),
            await client.call_tool("list_entities", {"tenant": "zork"}),
        ]
        with pytest.raises(MCPError, match="leave the tenant out"):
            await client.read_resource("kameleon://Memo/1?tenant=zork")
        entities = await client.call_tool("list_entities", {})
        return tools, results, entities.structured_content

    tools, (own, *others), entities = converse(index, conversation, tenant=tenant)
    assert all("tenant" not in tool.input_schema["properties"] for tool in tools)
    assert [hit["tenant"] for hit in own.structured_content["hits"]] == ["acme"]
    assert all(other.is_error and "leave the tenant out" in other.content[0].text for other in others)
    assert {one["name"]: one["records"] for one in entities["entities"]} == {"Memo": 1}
    assert "zork" not in json.dumps(entities)


# writes


def test_a_server_that_does_not_write_changes_nothing(index: SearchEngine) -> None:
    calls: list[tuple[str, Any]] = [
        ("store", {"entity": "Ticket", "records": [{"id": "T-1", "title": "gone"}], "on_conflict": "replace"}),
        ("delete", {"entity": "Ticket", "ids": ["T-1"]}),
    ]
    for tool, arguments in calls:
        assert call(index, tool, arguments).startswith("ReadOnly: this server is read-only: start it with --write")
    assert RecordStore(index).get("Ticket", "T-1").data["title"] == "cannot log in 1"


def test_records_are_stored_and_deleted(search: SearchEngine) -> None:
    note = {"text": "water the plants"}
    refused = call(search, "store", {"entity": "Poster", "records": [note]}, write=True)
    assert (
        refused == "UnknownEntity: unknown entity 'Poster'. Known: none. With create = true it is made of these records"
    )
    made = call(
        search,
        "store",
        {"entity": "Poster", "records": [note, {"id": 7, **note}, {"id": 0, **note}], "create": True},
        write=True,
    )
    assert (made["inserted"], made["created_entity"], made["ids"][1:]) == (3, True, ["7", "0"])
    found = call(search, "search", {"query": "plants"})
    assert {hit["id"] for hit in found["hits"]} == set(made["ids"])
    again = {"entity": "Poster", "records": [{"id": "7", "text": "feed the cat"}]}
    assert call(search, "store", again, write=True).startswith("RecordExists: ")
    assert call(search, "store", {**again, "on_conflict": "replace"}, write=True)["updated"] == 1
    assert call(search, "fetch", {"entity": "Poster", "id": "7"})["data"] == {"text": "feed the cat"}
    assert call(search, "delete", {"entity": "Poster", "ids": [7, "none"]}, write=True) == {"deleted": 1}
    assert call(search, "fetch", {"entity": "Poster", "id": "7"}) == "RecordMissing: Poster has no record '7'"
    own = {"entity": "Memo", "records": [note], "create": True}
    call(search, "store", own, write=True, tenant="acme")
    assert [one.tenant for one in RecordStore(search).list("Memo", tenant="acme")] == ["acme"]


# columns that hold secrets


COLUMN = "password_hash"
TAKING: list[dict[str, Any]] = [
    {"facets": [COLUMN]},
    {"facets": [{COLUMN: "day"}]},
    {"sort": f"-{COLUMN}"},
    {"limit_by": {COLUMN: 1}},
    {"boost": [{"field": COLUMN, "half": 1, "weight": 0.5}]},
    {"where": {COLUMN: "h"}},
    {"where": {"$or": [{"color": "red"}, {"$not": {COLUMN: {"$gt": "g"}}}]}},
]


def test_no_option_shows_a_column_that_is_named_as_a_secret(index: SearchEngine) -> None:
    client = TestClient(app(index), "http://127.0.0.1")
    for options in TAKING:
        for named in ({"entity": "Lamp"}, {"entity": ["Lamp", "Page"]}, {}):
            refused = client.post("/api/search", json={"query": "lamp", "tenant": "acme", **named, **options})
            assert (refused.status_code, refused.json()["title"]) == (400, "InvalidFilter"), refused.text
            assert "is named as a secret" in refused.json()["detail"]
        alike = client.post("/api/similar", json={"entity": "Lamp", "id": "1", **options})
        assert "is named as a secret" in alike.json()["detail"]
    listed = client.get("/api/records", params={"entity": "Lamp", "where": '{"password_hash": "h"}'})
    assert "is named as a secret" in listed.json()["detail"]
    for tool, named in (("search", {"query": "lamp", "entity": "Lamp"}), ("similar", {"entity": "Lamp", "id": "1"})):
        assert "is named as a secret" in call(index, tool, {**named, "where": {COLUMN: "h"}})
        assert call(index, tool, {**named, "where": {"color": "red"}})["hits"]


def test_a_stored_field_is_filtered_by_whatever_its_name(search: SearchEngine) -> None:
    RecordStore(search).insert("Prompt", [{"id": "1", "text": "a lamp", "token_count": 3}])
    wanted = {"query": "lamp", "entity": "Prompt", "where": {"token_count": 3}, "facets": ["token_count"]}
    found = TestClient(app(search), "http://127.0.0.1").post("/api/search", json=wanted).json()
    assert found["facets"] == {"token_count": [{"value": 3, "count": 1}]}


# a client that lies


LIES: list[tuple[str, Any]] = [
    ("search", {}),
    ("search", {"query": ["x"]}),
    ("search", {"query": None}),
    ("search", {"query": "x", "limit": 10**30}),
    ("search", {"query": "x", "limit": 0}),
    ("search", {"query": "x", "limit": True, "mode": "magic"}),
    ("search", {"query": "x", "where": '{"a"'}),
    ("search", {"query": "x", "where": {"$where": "1"}}),
    ("search", {"query": "x", "where": {"status": {"$gt": {"$gt": [1]}}}, "entity": "Ticket"}),
    ("search", {"query": "x", "rerank": "os.system"}),
    ("search", {"query": "x", "connection": 1, "session": 2, "load": True}),
    ("search", {"query": "x", "entity": {"name": "Ticket"}}),
    ("search", {"query": "x", "entity": ["Ticket", "Nothing"]}),
    ("search", {"query": "x", "cursor": "AAAA"}),
    ("search", {"query": "x", "tenant": {"$ne": ""}}),
    ("search", {"query": "\ud800"}),
    ("similar", {"entity": "Ticket", "id": "none"}),
    ("fetch", {"entity": "Ticket", "id": "x" * 5000}),
    ("fetch", {"entity": "Ticket", "id": "T-1", "start": -1}),
    ("fetch", {"entity": "Ticket", "id": "T-1", "field": "__class__"}),
    ("suggest", {"text": 3}),
    ("list_entities", {"entity": "x' OR 1=1 --"}),
    ("status", {"tenant": 1.5}),
    ("store", {"entity": "Ticket", "records": [1]}),
    ("store", {"entity": "Ticket", "records": [{"id": "T-1", "title": "x"}]}),
    ("store", {"entity": "Lamp", "records": [{"title": "x"}]}),
    ("store", {"entity": "Lamp", "records": [{"title": "x"}], "create": True}),
    ("store", {"entity": "Ticket", "records": [{"stars": "many", "title": "x"}]}),
    ("store", {"entity": "Ticket", "records": [{"title": "x"}] * 101}),
    ("delete", {"entity": "Ticket"}),
    ("delete", {"entity": "Ticket", "ids": [], "where": {}}),
    ("delete", {"entity": "Ticket", "ids": [{"$ne": ""}]}),
    ("delete", {"entity": "Lamp", "ids": ["1"]}),
]


def test_lies_are_errors_that_name_what_is_wrong_and_change_nothing(index: SearchEngine) -> None:
    async def conversation(client: Client) -> Any:
        return await asyncio.gather(*(client.call_tool(tool, arguments) for tool, arguments in LIES))

    before = index.get_status()
    results = converse(index, conversation, write=True)
    texts = [result.content[0].text for result in results]
    assert [(lie, text) for lie, result, text in zip(LIES, results, texts, strict=True) if not result.is_error] == []
    assert [text for text in texts if text.startswith("InternalError") or len(text) > 2100] == []
    assert "rerank takes an object of Python, which JSON cannot have" in texts[9]
    assert "unknown name 'where'. Known: entity, ids, tenant" in texts[-3]
    assert index.get_status() == before


def test_an_unknown_tool_is_an_error_of_the_protocol(index: SearchEngine) -> None:
    async def conversation(client: Client) -> Any:
        with pytest.raises(MCPError) as raised:
            await client.call_tool("drop_tables", {})
        return raised.value.error

    error = converse(index, conversation)
    assert (error.code, error.message) == (-32602, f"unknown tool 'drop_tables'. Known: {', '.join(READ)}")


def test_what_fails_inside_is_not_shown(
    index: SearchEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("password hunter2")

    monkeypatch.setattr(SearchEngine, "suggest", fail)
    assert call(index, "suggest", {"text": "x"}) == "InternalError: the request failed: the server's log has the error"
    assert "hunter2" in caplog.text


# the budget


hits = st.builds(
    lambda id_, size, sizes: SearchResult(
        "E",
        "ü" * id_,
        0.5,
        {str(n): "1 " * each for n, each in enumerate(sizes)} if sizes else None,
        BODY[:size],
        snippet=Snippet(BODY[: min(size, 100)]),
        passages=tuple(Passage(BODY[n : n + 90], n, n + 90, 1.0) for n in range(0, size, 90)),
    ),
    st.integers(1, 30),
    st.integers(0, 400),
    st.lists(st.integers(0, 400), max_size=5),
)


@settings(max_examples=20, deadline=None)
@given(found=st.lists(hits, max_size=8), budget=st.integers(100, 3000))
def test_hits_fit_in_any_budget(found: list[SearchResult], budget: int) -> None:
    made = fitted(found, budget)
    assert [hit["id"] for hit in made] == [hit.id for hit in found][: len(made)]
    assert bool(made) == bool(found)
    assert len(made) <= 1 or tokens(made) <= budget + 1
    if sum(tokens({"d": hit.data, "t": hit.matched_text}) + 140 for hit in found) < budget:
        assert [hit["is_cut"] for hit in made] == [False] * len(found)


@settings(max_examples=20, deadline=None)
@given(text=st.text(max_size=600), budget=st.integers(1, 150))
def test_parts_are_the_whole_text(text: str, budget: int) -> None:
    start, parts = 0, []
    while start < len(text):
        parts.append(part_of(text, start, budget))
        assert parts[-1]
        start += len(parts[-1])
    assert "".join(parts) == text
    assert all(len(part) == 1 or tokens(part) <= budget for part in parts)
