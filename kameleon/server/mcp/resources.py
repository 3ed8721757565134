"""The resources of the MCP server: `kameleon://{entity}` describes an entity, `kameleon://{entity}/{id}` is a record.
Imports `errors` and `records`."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from ...errors import InvalidInput, seen
from ...records import Record
from .budget import key_of
from .entities import entities_document
from .tools import Call, content_of, read

TEMPLATE = "kameleon://{entity}/{id}{?tenant}"
URI = re.compile(r"kameleon://([^/?#]+)(?:/([^?#]+))?(?:\?tenant=([^&#]*))?")
WHOLE = 10**9
"""The tokens of a description that nothing is cut of."""


def resource(call: Call, uri: str) -> Mapping[str, Any]:
    """The document of a resource. Raises InvalidInput for another URI, RecordMissing, UnknownEntity."""
    found = URI.fullmatch(uri)
    if found is None:
        raise InvalidInput(f"no resource is named {seen(uri, 80)}: records are {TEMPLATE}")
    entity, id_, tenant = (None if part is None else unquote(part) for part in found.groups())
    if id_ is None:
        (described,) = entities_document(call.serving, call.within(tenant), entity, WHOLE)["entities"]
        return dict(described)
    record, _ = read(call, str(entity), id_, tenant)
    times = {}
    if isinstance(record, Record):
        times = {"created_at": record.created_at, "updated_at": record.updated_at}
    return {**key_of(record.entity, record.id, record.tenant), **content_of(record), **times}


def entity_uri(name: str) -> str:
    return f"kameleon://{quote(name, safe='')}"
