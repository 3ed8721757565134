"""Renders records as searchable text, and checks their keys. Imports `values` and `errors`."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import accumulate, pairwise
from math import inf, log10
from typing import Any, NamedTuple, cast
from uuid import UUID

from .errors import InvalidInput, InvalidRecord, seen
from .values import ALL_TENANTS, Tenants

MAX_ID_BYTES, MAX_ENTITY_BYTES, MAX_TENANT_BYTES = 1024, 255, 255
"""Bound the columns of a key: PostgreSQL indexes 2,704 bytes at most."""
MAX_WEIGHT = 10
"""Bounds how often the keyword index holds the words of a field. Chosen, not measured."""
BETWEEN_FIELDS, BETWEEN_ITEMS = "\n", ", "


class Content(NamedTuple):
    """The searchable text of a record. Keywords count the words of `emphasis` once more. `gaps` are where in the text
    another field, or another item of a list, begins: no phrase extends across them. `tenant` is the record's."""

    text: str
    emphasis: str = ""
    gaps: tuple[int, ...] = ()
    tenant: str = ""


def normalize(text: str) -> str:
    """The text as both databases can hold it: PostgreSQL refuses NUL, and neither takes half of a surrogate pair.

    NUL becomes a space. Raises InvalidRecord for a lone surrogate, the remains of a lost character.
    """
    if "\0" in text:
        text = text.replace("\0", " ")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRecord(
            f"a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}: no database can store it. "
            "Decode the source with errors='replace', or drop the character"
        ) from error
    return text


def content_hash(content: str) -> str:
    """Hashes a text: 128 bits of BLAKE2b in hex; the empty string for empty content or white space."""
    if not content or content.isspace():
        return ""
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def render(data: Mapping[str, Any], fields: Iterable[str]) -> Content:
    """Renders a record: its searchable fields in order, one line each; lists are joined, objects too, in the order of
    their names (JSONB keeps no other); empty fields are left out."""
    return join([items_of(data.get(field)) for field in fields])


def join(fields: Iterable[Sequence[str]]) -> Content:
    """Joins the items of fields to one text."""
    filled = [items for items in fields if items]
    if not filled:
        return Content("")
    gaps: list[int] = []
    end = 0
    for items in filled:
        for item in items:
            gaps.append(end)
            end += len(item) + len(BETWEEN_ITEMS)
        end += len(BETWEEN_FIELDS) - len(BETWEEN_ITEMS)
    return Content(BETWEEN_FIELDS.join(map(BETWEEN_ITEMS.join, filled)), gaps=tuple(gaps[1:]))


def gaps_as_text(gaps: Iterable[int]) -> str:
    """Renders gaps as a column holds them: the number of characters between one and the next, in decimal."""
    return " ".join([str(gap - before) for before, gap in pairwise((0, *gaps))])


def gaps_of_text(text: str) -> tuple[int, ...]:
    return tuple(accumulate(map(int, text.split())))


def emphasized(weighted: Iterable[tuple[str, int]]) -> str:
    """Repeat texts that weigh more than 1, for the keyword index."""
    return " ".join(text for text, weight in weighted if text for _ in range(weight - 1))


def field_weights(fields: Iterable[str] | Mapping[str, float]) -> dict[str, int]:
    """Fields by weight, 1 where none is named. Raises InvalidInput."""
    named = dict(fields) if isinstance(fields, Mapping) else dict.fromkeys(fields, 1)
    for field, weight in named.items():
        if not isinstance(weight, int | float) or weight not in range(1, MAX_WEIGHT + 1):
            raise InvalidInput(
                f"the weight of {seen(field)} is a whole number from 1 to {MAX_WEIGHT}, not {seen(weight)}"
            )
    return {field: int(weight) for field, weight in named.items()}


def text_of(value: Any) -> str:
    return BETWEEN_ITEMS.join(items_of(value))


def items_of(value: Any) -> list[str]:
    """Returns the texts in a value, nested ones too; empty ones are left out."""
    if value is None or isinstance(value, bool):
        return []
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, Mapping):
        return [text for name in sorted(value, key=str) for text in items_of(value[name])]
    if isinstance(value, list | tuple):
        return [text for item in value for text in items_of(item)]
    if isinstance(value, float):
        return [str(int(value) if 1e16 <= abs(value) < inf else value + 0.0)]  # JSONB keeps no exponent and no -0.0
    return [text] if (text := str(value)) else []


def check_entity(name: object) -> str:
    return _check_key(name, "an entity name", MAX_ENTITY_BYTES, takes_numbers=False)


def check_id(value: object) -> str:
    """A record's id as text: strings and integers as they are."""
    return _check_key(value, "a record id", MAX_ID_BYTES)


def check_tenant(value: object) -> str:
    """A tenant as text: strings, whole numbers, UUIDs and the values of enumerations; "" for None. Raises
    InvalidRecord."""
    if value is ALL_TENANTS:
        raise InvalidRecord("one tenant is needed here: kameleon.ALL_TENANTS stands alone, and is for calls that read")
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, UUID):
        value = str(value)
    return _check_key(value, "a tenant", MAX_TENANT_BYTES) if value is not None and value != "" else ""


def check_tenants(value: object) -> Tenants:
    """One tenant, several, or ALL_TENANTS, which is None here. Raises InvalidInput."""
    if value is ALL_TENANTS:
        return None
    is_one = isinstance(value, str | bytes | bytearray | Mapping | type) or not isinstance(value, Iterable)
    several = [value] if is_one else list(cast("Iterable[object]", value))
    if None in several:
        raise InvalidInput('a tenant is text, or "" for the records that have none; kameleon.ALL_TENANTS means all')
    return tuple(sorted({check_tenant(one) for one in several}))


def _check_key(value: object, what: str, limit: int, *, takes_numbers: bool = True) -> str:
    if takes_numbers and isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > 4 * limit:  # Python converts no number of over 4,300 digits
            digits = int(value.bit_length() * log10(2)) + 1
            raise InvalidRecord(f"{what} may have {limit} bytes at most, this number has about {digits} digits")
        value = str(value)
    if not isinstance(value, str):
        raise InvalidRecord(f"{what} is text or a whole number, not {type(value).__name__} ({seen(value)})")
    if not value or "\0" in value:
        raise InvalidRecord(f"{what} must not be empty or hold NUL, got {seen(value)}")
    if 4 * len(value) <= limit and value.isascii():
        return value
    if len(normalize(value).encode()) > limit:
        raise InvalidRecord(
            f"{what} may have {limit} bytes at most, this one has {len(value.encode())}: {seen(value, 40)}…"
        )
    return value
