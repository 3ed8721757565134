"""Makes responses of documents: JSON, packed where the client takes it, with an ETag. Imports `documents`."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..documents import plain

PACKED_FROM = 1_000
"""Bounds from below the bytes of a body that is packed. Chosen, not measured."""
PACKING = 1
"""The level of gzip."""


@dataclass(frozen=True)
class Reply:
    """`timings` are milliseconds by what took them, for the header Server-Timing."""

    document: Any
    status: int = 200
    timings: Mapping[str, float] = field(default_factory=dict)
    media_type: str = "application/json"


def response(request: Request, reply: Reply) -> Response:
    """The same document has the same ETag, one for each encoding; a GET that has it already gets 304."""
    body = encoded(reply.document)
    headers = {"Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
    if reply.timings:
        headers["Server-Timing"] = ", ".join(f"{name};dur={ms:g}" for name, ms in reply.timings.items())
    is_packed = len(body) >= PACKED_FROM and takes_gzip(request.headers.get("accept-encoding", ""))
    if request.method in ("GET", "HEAD"):
        headers["ETag"] = f'"{sha256(body).hexdigest()[:32]}{"-gzip" if is_packed else ""}"'
        if is_among(headers["ETag"], request.headers.get("if-none-match", "")):
            return Response(None, 304, headers)
    if is_packed:
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body, PACKING, mtime=0)
    return Response(body, reply.status, headers, reply.media_type)


def encoded(document: Any) -> bytes:
    """A text as it is; else JSON, without infinities, and with U+FFFD for what UTF-8 cannot have."""
    if isinstance(document, str):
        return document.encode("utf-8", "replace")
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)
    return text.encode("utf-8", "replace")


def takes_gzip(accepted: str) -> bool:
    """Whether a header Accept-Encoding names gzip, and not with a quality of 0."""
    for one in accepted.lower().split(","):
        name, *parameters = (part.strip().replace(" ", "") for part in one.split(";"))
        if name in ("gzip", "*"):
            return not any(parameter in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters)
    return False


def is_among(tag: str, given: str) -> bool:
    """Whether a header If-None-Match has the tag, by weak comparison."""
    tags = {one.strip().removeprefix("W/") for one in given.split(",")}
    return "*" in tags or tag in tags
