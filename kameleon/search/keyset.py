"""Encodes the place after a record in an order by values and key, as a text that a caller passes back for the next
page. Pure. Imports `values` and `errors`.

Unlike a cursor of a search, which names all that was shown, it is as short after a million records as after ten. A
record is before or after it by its present values.
"""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from ..errors import InvalidInput
from ..values import Ref

VERSION = b"\x02"


@dataclass(frozen=True, slots=True)
class Place:
    """`values` are the record's of the fields that it is ordered by, None where it has none that has an order."""

    ref: Ref
    values: Sequence[Any] = ()

    def encode(self, query: bytes) -> str:
        text = json.dumps([*self.ref, *map(tagged, self.values)], ensure_ascii=False, separators=(",", ":"))
        return urlsafe_b64encode(VERSION + query + text.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


def read_place(text: object, query: bytes) -> Place:
    """The place of a text that `encode` made for the query. Raises InvalidInput where it is none, or another's."""
    if not isinstance(text, str):
        raise InvalidInput(f"a cursor is the text that the page before gave as `cursor`, not {type(text).__name__}")
    head = len(VERSION) + len(query)
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        entity, id_, tenant, *values = json.loads(data[head:])
        place = Place(Ref(entity, id_, tenant), tuple(map(untagged, values)))
    except (ValueError, binascii.Error, TypeError, KeyError, ArithmeticError, RecursionError):
        data, place = b"", None
    if place is None or not all(isinstance(part, str) for part in place.ref):
        raise InvalidInput(f"this is no cursor of an empty query: {text!r:.40}. Take `cursor` of the page before")
    if data[:head] != VERSION + query:
        raise InvalidInput(
            "this cursor belongs to another query: only limit, highlight, count, facets and explain may differ between "
            "pages"
        )
    return place


def tagged(value: Any) -> Any:
    """A value as JSON has it; of a type that JSON has not, its text beside the type's name."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    made = next((name for name, (type_, _, _) in TAGS.items() if isinstance(value, type_)), None)
    return None if made is None else {made: TAGS[made][1](value)}


def untagged(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    ((name, text),) = value.items()
    return float.fromhex(text) if name == "float" else TAGS[name][2](text)


TAGS: Mapping[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "decimal": (Decimal, str, Decimal),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "interval": (
        timedelta,
        lambda value: value // timedelta(microseconds=1),
        lambda number: timedelta(microseconds=number),
    ),
    "uuid": (UUID, str, UUID),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}
"""The values that have an order and that JSON does not have, a datetime before the date that it is."""
