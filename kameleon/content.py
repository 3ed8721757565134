"""Renders records as searchable text, and checks their keys. Imports `values`, `errors` and `markup`."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, islice, pairwise
from math import inf, log10
from typing import Any, Final, Literal, NamedTuple, cast, get_args
from uuid import UUID

from .errors import InvalidInput, InvalidRecord, seen
from .markup import strip_html
from .values import ALL_TENANTS, Tenants

MAX_TENANTS = 1_000
"""Bounds the tenants of one call: a search on PostgreSQL took 1.6 s for 1,000, and minutes for 100,000."""
MAX_ID_BYTES, MAX_ENTITY_BYTES, MAX_TENANT_BYTES = 1024, 255, 255
"""Bound the columns of a key: PostgreSQL indexes 2,704 bytes at most."""
MAX_WEIGHT = 10
"""Bounds how often the keyword index holds the words of a field. Chosen, not measured."""
BETWEEN_FIELDS, BETWEEN_ITEMS = "\n", ", "


FieldIndex = Literal["vector", "both", "keyword"]
FIELD_INDEXES: tuple[str, ...] = get_args(FieldIndex)
"""In the order of the fields in a record's text."""


@dataclass(frozen=True, slots=True)
class Field:
    """How a field is searched.

    A word of a field of `weight` 2 counts for keywords as if the text had it twice (whole numbers from 1 to 10).
    `index="keyword"` keeps a field out of the embedding (codes, names), `index="vector"` out of the keyword index.
    `html=True` strips tags, comments, scripts and styles, and makes characters of entities. Raises InvalidInput.
    """

    weight: float = 1
    index: FieldIndex = "both"
    html: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.weight, int | float) or self.weight not in range(1, MAX_WEIGHT + 1):
            raise InvalidInput(f"weight is a whole number from 1 to {MAX_WEIGHT}, not {seen(self.weight)}")
        if self.index not in FIELD_INDEXES:
            raise InvalidInput(f"index is {', '.join(FIELD_INDEXES)}, not {seen(self.index)}")
        if self.index == "vector" and self.weight > 1:
            raise InvalidInput("weight counts for keywords, and a field of index='vector' has none")
        if not isinstance(self.html, bool):
            raise InvalidInput(f"html is True or False, not {seen(self.html)}")


PLAIN: Final = Field()
SearchFields = Iterable[str] | Mapping[str, float | Field]


class Extent(NamedTuple):
    """Which part of a text the keyword index has, and which is embedded: from a character on, and up to one; None is
    the end."""

    keywords_from: int = 0
    vectors_to: int | None = None


FULL: Final = Extent()


class Content(NamedTuple):
    """The searchable text of a record. Keywords count the words of `emphasis` once more. `gaps` are where in the text
    another field, or another item of a list, begins: no phrase extends across them. `tenant` is the record's."""

    text: str
    emphasis: str = ""
    gaps: tuple[int, ...] = ()
    tenant: str = ""
    extent: Extent = FULL

    @property
    def embedded(self) -> str:
        """The part of the text that is embedded."""
        return self.text[: self.extent.vectors_to]


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


def compose(fields: Sequence[tuple[Sequence[str], Field]]) -> Content:
    """Composes the text of a record: of each field, in order, one line of its items; empty ones are left out. Those for
    vectors alone come first and those for keywords alone last, so that each leg has one part of the text."""
    if all(field is PLAIN for _, field in fields):
        return join([items for items, _ in fields])
    stripped = [(strip_all(items) if field.html else items, field) for items, field in fields]
    groups = [[items for items, field in stripped if field.index == index] for index in FIELD_INDEXES]
    text, _, gaps, *_ = join([items for group in groups for items in group])
    for_vectors, for_both, _ = (len(join(group).text) for group in groups)
    begin = for_vectors + len(BETWEEN_FIELDS) if for_vectors else 0
    end = begin + for_both if for_both else for_vectors
    vectors_to = None if end == len(text) else 0 if not text[:end].strip() else end
    extent = Extent(min(begin, len(text)), vectors_to)
    weighty = [(BETWEEN_ITEMS.join(items), int(field.weight)) for items, field in stripped if field.weight > 1]
    return Content(text, emphasized(weighty), gaps, extent=extent)


def strip_all(items: Iterable[str]) -> list[str]:
    """Strips the HTML of items; those without text are left out."""
    return list(filter(None, map(strip_html, items)))


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


def layout_as_text(gaps: Iterable[int], extent: Extent = FULL) -> str:
    """Renders gaps and extent as a column holds them: the number of characters between one gap and the next, in
    decimal, then `k` and where keywords begin, and `v` and where vectors end."""
    layout = [str(gap - before) for before, gap in pairwise((0, *gaps))]
    if extent.keywords_from:
        layout.append(f"k{extent.keywords_from}")
    if extent.vectors_to is not None:
        layout.append(f"v{extent.vectors_to}")
    return " ".join(layout)


def layout_of_text(text: str) -> tuple[tuple[int, ...], Extent]:
    """Reads what `layout_as_text` rendered."""
    if "v" not in text and "k" not in text:
        return tuple(accumulate(map(int, text.split()))), FULL
    parts = text.split()
    ends = {part[0]: int(part[1:]) for part in parts if part[0] in "kv"}
    gaps = accumulate(int(part) for part in parts if part[0] not in "kv")
    return tuple(gaps), Extent(ends.get("k", 0), ends.get("v"))


def emphasized(weighted: Iterable[tuple[str, int]]) -> str:
    """Repeat texts that weigh more than 1, for the keyword index."""
    return " ".join(text for text, weight in weighted if text for _ in range(weight - 1))


def field_options(fields: SearchFields) -> dict[str, Field]:
    """Fields by their options; a number is a weight. Raises InvalidInput."""
    named = dict(fields) if isinstance(fields, Mapping) else dict.fromkeys(fields, PLAIN)
    return {name: _options(name, value) for name, value in named.items()}


def _options(name: str, value: "float | Field") -> Field:
    try:
        made = value if isinstance(value, Field) else Field(weight=value)
    except InvalidInput as error:
        raise InvalidInput(f"the {str(error).replace(' is ', f' of {seen(name)} is ', 1)}") from None
    return PLAIN if made == PLAIN else made


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


def bound_tenant(bound: str | None, given: Any) -> Any:
    """The tenant of a call; that of an object that is `bound` to one. Raises InvalidInput where another is given."""
    if not bound:
        return given
    if given is not None:
        raise InvalidInput(f"this object is for the tenant {bound!r:.80} alone: tenant= is not given to it")
    return bound


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
    several = [value] if is_one else list(islice(cast("Iterable[object]", value), MAX_TENANTS + 1))
    if len(several) > MAX_TENANTS:
        raise InvalidInput(f"tenants are {MAX_TENANTS:,} at most: name fewer, or kameleon.ALL_TENANTS for those of all")
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
