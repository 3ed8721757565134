"""The SDK's own client of MCP, connected to a server of kameleon in one of its ways."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from kameleon import SearchEngine
from kameleon.server import app
from kameleon.server.mcp.server import MCP
from kameleon.server.serving import Serving

T = TypeVar("T")
Conversation = Callable[[Client], Awaitable[T]]
ADDRESS = "http://127.0.0.1:8765"


def converse(
    search: SearchEngine, conversation: Conversation[T], *, write: bool = False, tenant: Any = None, **options: Any
) -> T:
    """What a conversation gives with a server in this process."""

    async def run() -> T:
        async with Client(MCP(Serving(search, write, tenant), **options).server) as client:
            return await conversation(client)

    return asyncio.run(run())


def converse_by_http(
    search: SearchEngine,
    conversation: Conversation[T],
    *,
    mode: str = "auto",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> T:
    """The same by Streamable HTTP, without sockets."""

    async def run() -> T:
        served = httpx2.ASGITransport(app(search, **{"mcp": True, **options}))
        async with httpx2.AsyncClient(transport=served, base_url=ADDRESS, headers=headers) as http:
            transport = streamable_http_client(f"{ADDRESS}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await conversation(client)

    return asyncio.run(run())


def call(search: SearchEngine, tool: str, arguments: dict[str, Any], **options: Any) -> Any:
    """The structured result of a tool; that of an error is its text."""

    async def conversation(client: Client) -> Any:
        result = await client.call_tool(tool, arguments)
        (content,) = result.content
        return content.text if result.is_error else result.structured_content  # type: ignore[union-attr]

    return converse(search, conversation, **options)
