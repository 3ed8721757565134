"""Encodes where a page of hits ended, as a text that a caller passes back for the next page. Pure. Imports `values` and
`errors`.

A cursor names every record that was shown, by 40 bits of its digest. A score to go on from would be shorter, but a
record that is written between two pages changes all scores: only what was shown itself keeps a page from repeating
another.
"""

import binascii
import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from ..values import Ref

VERSION = b"\x01"
QUERY_BYTES, HIT_BYTES = 8, 5
"""Bound a cursor's size: a digest of the query, and one of each hit that was shown."""
MAX_DEPTH = 40
"""Bounds how deep a filter is read into the query's digest."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """`query` is the digest of a query, `shown` are those of the hits so far, in their order."""

    query: bytes
    shown: tuple[bytes, ...] = ()

    def after(self, hits: Iterable[Ref]) -> "Cursor":
        return Cursor(self.query, (*self.shown, *map(digest_of, hits)))

    def __str__(self) -> str:
        return urlsafe_b64encode(VERSION + self.query + b"".join(self.shown)).rstrip(b"=").decode()


def first_page(parts: Iterable[Any]) -> Cursor:
    """The cursor of a query's first page; `parts` is whatever changes its ranking."""
    text = json.dumps([_plain(part) for part in parts])
    return Cursor(hashlib.blake2b(text.encode(), digest_size=QUERY_BYTES).digest())


def read_cursor(text: object, first: Cursor) -> Cursor:
    """The cursor of a text that `str` made of one. Raises InvalidInput where it is none, or another query's."""
    if not isinstance(text, str):
        raise InvalidInput(f"a cursor is the text that the page before gave as `cursor`, not {type(text).__name__}")
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error):
        data = b""
    head = len(VERSION) + QUERY_BYTES
    if len(data) < head or not data.startswith(VERSION) or (len(data) - head) % HIT_BYTES:
        raise InvalidInput(f"this is no cursor of a search: {text!r:.40}. Take `cursor` of the page before")
    if data[len(VERSION) : head] != first.query:
        raise InvalidInput(
            "this cursor belongs to another query: only limit, highlight, count, facets and explain may differ between "
            "pages"
        )
    return Cursor(first.query, tuple(data[at : at + HIT_BYTES] for at in range(head, len(data), HIT_BYTES)))


def digest_of(ref: Ref) -> bytes:
    return hashlib.blake2b("\0".join(ref.key).encode(), digest_size=HIT_BYTES).digest()


def _plain(value: Any, depth: int = 0) -> Any:
    """A form of a value in which equal values are equal, whatever their order; of what no filter can hold, anything."""
    if value is None or isinstance(value, str):
        return repr(value)
    if depth > MAX_DEPTH:
        return ""
    if isinstance(value, Mapping):
        return sorted(([repr(name), _plain(item, depth + 1)] for name, item in value.items()), key=lambda pair: pair[0])
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return value.hex() if isinstance(value, float) else hex(value) if isinstance(value, int) else repr(value)
