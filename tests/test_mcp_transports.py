"""The MCP server over standard input and output and over Streamable HTTP: the SDK's own client, and clients that do not
keep to the protocol."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from sqlalchemy import URL
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.server import app

from .agents import ADDRESS, converse_by_http
from .conftest import Indexes, without_fsync
from .test_cli import Run, checked

VERSION = "2026-07-28"
TOKEN = "a-token-of-the-tests"  # noqa: S105
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def fill(search: SearchEngine) -> None:
    RecordStore(search).insert("Note", [{"id": str(n), "text": f"water the plants {n}"} for n in range(5)])


@pytest.fixture(params=["sqlite", "postgresql"])
def index(request: pytest.FixtureRequest, indexes: Indexes) -> SearchEngine:
    return indexes(request.param, fill)


@pytest.fixture
def sqlite_index(indexes: Indexes) -> SearchEngine:
    return indexes("sqlite", fill)


@pytest.fixture
def run(command: Callable[..., Any]) -> Run:
    return checked(command)


async def found_by(client: Client) -> Any:
    """What a client gets that does a little of everything."""
    tools = [tool.name for tool in (await client.list_tools()).tools]
    results = await asyncio.gather(
        *(client.call_tool("search", {"query": "plants", "limit": 1 + n % 3}) for n in range(8))
    )
    refused = await client.call_tool("store", {"entity": "Note", "records": [{"text": "x"}]})
    with pytest.raises(MCPError):
        await client.call_tool("nothing", {})
    note = (await client.read_resource("kameleon://Note/3")).contents[0]
    return {
        "tools": tools,
        "found": [[hit["id"] for hit in result.structured_content["hits"]] for result in results],
        "refused": refused.content[0].text,  # type: ignore[union-attr]
        "note": json.loads(note.text)["data"],  # type: ignore[union-attr]
    }


def check(made: Any, search: SearchEngine) -> None:
    assert made["tools"] == ["search", "fetch", "similar", "suggest", "list_entities", "status"]
    assert made["found"] == [[hit.id for hit in search.search("plants", limit=1 + n % 3)] for n in range(8)]
    assert made["refused"].startswith("ReadOnly")
    assert made["note"] == {"text": "water the plants 3"}


# Streamable HTTP


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_is_answered_by_http(index: SearchEngine, mode: str) -> None:
    check(converse_by_http(index, found_by, mode=mode), index)


def test_an_application_mounts_it_without_its_lifespan(sqlite_index: SearchEngine) -> None:
    async def run() -> Any:
        host = Starlette(routes=[Mount("/search", app(sqlite_index, mcp=True))])
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(host), base_url=ADDRESS) as http:
            answers = await asyncio.gather(
                *(http.post("/search/mcp", json=legacy("tools/list"), headers=ACCEPT) for _ in range(3))
            )
            return [len(answer.json()["result"]["tools"]) for answer in answers]

    assert asyncio.run(run()) == [6, 6, 6]


def test_a_token_is_required_where_there_is_one(sqlite_index: SearchEngine) -> None:
    with TestClient(app(sqlite_index, mcp=True, token=TOKEN), base_url=ADDRESS) as http:
        refused = http.post("/mcp", json=legacy("tools/list"), headers=ACCEPT)
    assert (refused.status_code, refused.json()["title"]) == (401, "TokenRequired")
    headers = {"authorization": f"Bearer {TOKEN}"}
    check(converse_by_http(sqlite_index, found_by, token=TOKEN, headers=headers), sqlite_index)


def test_a_proxy_names_the_tenant_of_a_request(sqlite_index: SearchEngine) -> None:
    async def conversation(client: Client) -> Any:
        result = await client.call_tool("search", {"query": "plants"})
        return result.content[0].text  # type: ignore[union-attr]

    tenant = kameleon.server.tenant_of_header("x-tenant")
    unnamed = converse_by_http(sqlite_index, conversation, tenant=tenant)
    assert unnamed.startswith("InvalidInput: a request has its tenant in one header x-tenant")
    named = converse_by_http(sqlite_index, conversation, tenant=tenant, headers={"x-tenant": "acme"})
    assert json.loads(named)["hits"] == []


def legacy(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def modern(method: str, **params: Any) -> dict[str, Any]:
    return legacy(method, _meta=META, **params)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "evil.example"}, 421),
        ({"content-type": "text/plain"}, 400),
        ({"accept": "text/html"}, 406),
        ({"mcp-protocol-version": "1999-01-01"}, 400),
        ({"mcp-protocol-version": VERSION, "mcp-method": "tools/call"}, 400),
    ],
)
def test_requests_of_other_sites_and_of_no_client_are_refused(
    sqlite_index: SearchEngine, headers: dict[str, str], status: int
) -> None:
    with TestClient(app(sqlite_index, mcp=True), base_url=ADDRESS) as http:
        answer = http.post("/mcp", json=modern("tools/list"), headers={**ACCEPT, **headers})
        assert answer.status_code == status
        assert "result" not in answer.text


def test_other_methods_are_refused(sqlite_index: SearchEngine) -> None:
    with TestClient(app(sqlite_index, mcp=True), base_url=ADDRESS) as http:
        for method in ("GET", "DELETE", "PUT"):
            answer = http.request(method, "/mcp", headers=ACCEPT)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert http.post("/mcp", content=b"x" * (5 * 2**20), headers=ACCEPT).status_code == 413
    with TestClient(app(sqlite_index), base_url=ADDRESS) as http:
        assert http.post("/mcp", json=legacy("tools/list"), headers=ACCEPT).status_code == 404


BROKEN: list[bytes] = [
    *(b"", b"{", b"nul", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"jsonrpc":"2.0","id":1}', b'"x"'),
    *(json.dumps(one).encode() for one in ([legacy("tools/list")], {**legacy("tools/list"), "id": {"a": 1}})),
    json.dumps(legacy("tools/call", name=["search"], arguments={})).encode(),
    json.dumps(legacy("tools/call", name="search", arguments=[1])).encode(),
    json.dumps(legacy("tools/delete")).encode(),
    json.dumps(legacy("resources/read", uri=5)).encode(),
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"query":NaN}}}',
]


@pytest.mark.parametrize("version", [None, VERSION])
def test_messages_of_another_shape_are_errors(sqlite_index: SearchEngine, version: str | None) -> None:
    headers = {**ACCEPT, **({"mcp-protocol-version": version} if version else {})}
    with TestClient(app(sqlite_index, mcp=True, write=True), base_url=ADDRESS) as http:
        answers = [http.post("/mcp", content=body, headers=headers) for body in BROKEN]
        assert [answer.status_code for answer in answers if answer.status_code >= 500] == []
        documents = [answer.json() for answer in answers if answer.status_code != 202]
        assert len(documents) > 10
        assert [one for one in documents if not ("error" in one or one["result"]["isError"])] == []
        assert "Traceback" not in json.dumps(documents)
        assert len(http.post("/mcp", json=legacy("tools/list"), headers=ACCEPT).json()["result"]["tools"]) == 8


# standard input and output


def test_a_client_is_answered_over_stdio(console_script: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    engine = without_fsync(kameleon.create_engine(url))
    search = SearchEngine(engine, "static")
    fill(search)
    check(converse_over_stdio(console_script, url), search)
    engine.dispose()


def test_a_client_is_answered_over_stdio_from_postgresql(console_script: str, pg_url: URL) -> None:
    engine = kameleon.create_engine(pg_url)
    search = SearchEngine(engine, "static")
    fill(search)
    check(converse_over_stdio(console_script, pg_url.render_as_string(hide_password=False), mode="legacy"), search)
    engine.dispose()


def converse_over_stdio(script: str, url: str, *, mode: str = "auto") -> Any:
    async def run() -> Any:
        environment = {"PATH": os.environ["PATH"], "KAMELEON_URL": url}
        server = StdioServerParameters(command=script, args=["mcp"], env=environment)
        async with Client(stdio_client(server), mode=mode) as client:
            return await found_by(client)

    return asyncio.run(run())


def test_input_of_no_client_ends_in_order(run: Run) -> None:
    """The requests after it are answered, and nothing but messages is printed."""
    run("data", "insert", "Note", '{"id": "1", "text": "water the plants"}')
    asked = [*BROKEN, json.dumps(modern("tools/list") | {"id": 99}).encode()]
    done = run(
        "mcp",
        "--describe",
        "search=Search the notes",
        stdin=b"\n".join(asked) + b"\n",
        KAMELEON_MCP_DESCRIBE_FETCH="Get it",
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert messages
    assert all(message["jsonrpc"] == "2.0" for message in messages)


def test_the_command_describes_tools_as_it_is_given(run: Run, tmp_path: Path) -> None:
    run("data", "insert", "Note", '{"id": "1", "text": "water the plants"}')
    bad = run("mcp", "--describe", "serch=x", status=1)
    assert "no tool is named 'serch'. Tools: search, fetch" in bad.stderr
    assert "--describe is TOOL=TEXT" in run("mcp", "--describe", "search", status=2).stderr
    assert "--tenant-header is of requests by HTTP" in run("mcp", "--tenant-header", "x", status=2).stderr
    assert "no tool is named 'serch'" in run("mcp", KAMELEON_MCP_DESCRIBE_SERCH="x", status=1).stderr
    assert "is not in the range" in run("mcp", KAMELEON_MCP_MAX_TOKENS="5", status=2).stderr
