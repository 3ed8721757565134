"""Describes the entities of an index, stored ones and mapped classes alike, and finds one by its name, for programs
that have names alone. Imports `values`, `errors`, `content`, `indexing`, `search`, `stores`, `orm`, `records` and
`engine`."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack

from .content import check_tenants
from .errors import UnknownEntity, seen
from .indexing.index import HasIndex
from .orm.callers import sessions_of
from .orm.syncing import status as status_of
from .orm.table_entities import table_entities
from .records import RecordStore
from .search.facets import MAX_FACETS
from .search.options import TenantOption
from .stores.paths import written
from .values import ALL_TENANTS

if TYPE_CHECKING:
    from .engine import SearchEngine
    from .orm.mapping import Mapped
    from .stores.catalog import Entity

Kind = Literal["records", "class", "table", "indexed"]


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """`name` is as `where` takes it. `type` is any, text, datetime, integer, number, boolean, list or object, of a
    column date, too. `text`: its words are searched. `filterable`: it is of few words, so that its values are worth
    counting; `where` takes any."""

    name: str
    type: str
    text: bool = False
    filterable: bool = True


@dataclass(frozen=True, slots=True)
class EntityDescription:
    """`kind` is "records" for those of the record store, "class" for those of a mapped class of this process, "table"
    for the rows of a table that was added, "indexed" for what else was indexed, whose fields are not known. `indexed`
    records are in the index."""

    name: str
    kind: Kind
    fields: tuple[FieldDescription, ...] = ()
    indexed: int = 0
    has_tenants: bool = False


def describe(search: HasIndex, *, tenant: object = ALL_TENANTS) -> list[EntityDescription]:
    """The entities by name: those of the record store, tables that were added, and those that have records in the
    index. `indexed` counts the records of one tenant, of several or of all."""
    tables = table_entities(search.index)
    stored = {entity.name: entity for entity in RecordStore(search).entities()}
    counts = {one.entity: one.indexed for one in status_of(search.index, None, check_tenants(tenant))}
    tenanted = search.index.tenanted()
    names = sorted({*stored, *counts, *tables, *(tenanted if tenant is ALL_TENANTS else ())})
    return [_described(search, name, stored.get(name), counts.get(name, 0), name in tenanted) for name in names]


def named(search: HasIndex, names: Iterable[str]) -> list[object]:
    """What a search takes for the names: the class of a mapped one, and of a table, so that `where` reads its columns,
    and else the name. Raises UnknownEntity for one that is neither declared nor indexed."""
    found: list[object] = []
    for name in dict.fromkeys(names):
        kind = kind_of(search, name)
        if kind is None:
            known = ", ".join(sorted({*search.index.part(Known).names, *table_entities(search.index)})) or "none"
            raise UnknownEntity(f"unknown entity {seen(name)}. Known: {known}")
        mapped = _mapped(search, name) if kind in ("class", "table") else None
        found.append(name if mapped is None else mapped.owner.class_)
    return found


def count_values(
    search: "SearchEngine", entity: EntityDescription, **options: Unpack[TenantOption]
) -> Mapping[str, Mapping[Any, int]]:
    """The facets of the filterable fields of an entity, the first 20 of these. `tenant` as in `search`."""
    fields = [field.name for field in entity.fields if field.filterable][:MAX_FACETS]
    if not fields or not entity.indexed:
        return {}
    return search.search("", entities=named(search, [entity.name]), facets=fields, limit=1, **options).facets


def kind_of(search: HasIndex, name: str) -> Kind | None:
    """What an entity is; None for a name that is neither declared nor indexed."""
    if name in table_entities(search.index):
        return "table"
    known = search.index.part(Known)
    if name not in known.names:
        known.read(search)
    if name in known.stored:
        return "records"
    if _mapped(search, name) is not None:
        return "class"
    return "indexed" if name in known.names else None


def has_made_text(search: HasIndex, name: str) -> bool:
    """Whether a function of a mapped class makes the texts of an entity, which no field has then. A class of another
    database may have the name of stored records."""
    mapped = _mapped(search, name)
    return mapped is not None and mapped.declaration.content is not None and kind_of(search, name) == "class"


class Known:
    """The names that were in an index when one was last looked for that had not been among them."""

    def __init__(self, _index: object) -> None:
        self.stored: frozenset[str] = frozenset()
        self.names: frozenset[str] = frozenset()

    def read(self, search: HasIndex) -> None:
        self.stored = frozenset(entity.name for entity in RecordStore(search).entities())
        self.names = self.stored | {one.entity for one in status_of(search.index)}


def _described(
    search: HasIndex, name: str, entity: "Entity | None", indexed: int, is_tenanted: bool
) -> EntityDescription:
    if entity is not None:
        fields = tuple(_stored_fields(entity))
        return EntityDescription(name, "records", fields, indexed, entity.has_tenants or is_tenanted)
    mapped = _mapped(search, name)
    if mapped is None:
        return EntityDescription(name, "indexed", (), indexed, is_tenanted)
    kind: Kind = "table" if name in table_entities(search.index) else "class"
    return EntityDescription(name, kind, tuple(_fields(mapped)), indexed, mapped.has_tenants)


def _stored_fields(entity: "Entity") -> Iterator[FieldDescription]:
    for field in entity.fields:
        is_long = field.search is not None and field.search.index != "keyword"
        name, is_filterable = written(field.name, entity.filters), not is_long and field.type != "object"
        yield FieldDescription(name, field.type, field.is_searchable, is_filterable)


def _fields(mapped: "Mapped") -> Iterator[FieldDescription]:
    from .orm.described import described

    for field in described(mapped):
        yield FieldDescription(field.name, field.type, field.is_text, field.is_filterable)


def _mapped(search: HasIndex, name: str) -> "Mapped | None":
    """The class, where this process has classes."""
    if "kameleon.orm.declaration" not in sys.modules:
        return None
    return sessions_of(search.index).mappings.named(name)
