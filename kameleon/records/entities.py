"""Declares entities, infers them from records, and makes entries of the index from records. Pure. Imports `values`,
`errors`, `boosts`, `content`, `files`, `search`, `stores` and `indexing`."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any

from ..boosts import Boosts, FieldBoost, NumberBoost, read_boosts
from ..content import PLAIN, Field, SearchFields, check_entity, compose, field_options, items_of
from ..errors import InvalidFilter, InvalidInput, UnknownEntity, seen
from ..files.loaded import FILE_FIELD
from ..indexing.entries import make_entry
from ..search.boost_sets import probe_of
from ..stores.catalog import DeclaredField, Entity
from ..stores.paths import DATETIME, FieldNames, field_path, is_nested, path_of, split
from ..stores.values import Entry
from ..values import Ref
from .rows import TYPES, check_field

BY_KEYWORD = Field(index="keyword")
"""How texts of one word are searched that were not declared: codes, names, states."""


def declared_entity(
    name: str, search: SearchFields, fields: Mapping[str, str], tenant_field: str | None, filters: str = ""
) -> Entity:
    """A checked entity. Raises InvalidInput."""
    check_entity(name)
    options = checked_options(search)
    check_names([*fields, *([tenant_field] if tenant_field else [])], fields.values())
    if not options:
        raise InvalidInput(f"{name}: name at least one searchable field")
    names = dict.fromkeys([*options, *fields, *([tenant_field] if tenant_field else [])])
    declared = tuple(DeclaredField(check_field(n), fields.get(n, "any"), options.get(n)) for n in names)
    return within(Entity(name, declared, tenant_field), filters)


def within(entity: Entity, filters: Any) -> Entity:
    """The entity whose names of fields begin in the object `filters`. Raises InvalidInput."""
    if filters == "":
        return entity
    if not isinstance(filters, str) or not filters.isprintable() or set('.\\"') & set(filters) or filters == "id":
        raise InvalidInput(
            "filters is the name of the object that names of fields begin in, such as 'metadata', without dots, quotes "
            f"or backslashes, not {seen(filters)}"
        )
    fields = {field.name: field for field in entity.fields}
    fields.setdefault(filters, DeclaredField(filters, "object"))
    if fields[filters] != DeclaredField(filters, "object"):
        raise InvalidInput(f"{filters!r:.80} is what names of fields begin in: an object, which is not searched")
    made = replace(entity, fields=tuple(fields.values()), filters=filters)
    check_nested(made)
    return made


def check_nested(entity: Entity) -> None:
    """Raises InvalidInput for a field in the object of names that cannot be there."""
    for field in entity.fields:
        if is_nested(field.name, entity.filters):
            split(field.name)
            if field.is_searchable or field.name == entity.tenant_field:
                raise InvalidInput(
                    f"{field.name!r:.80} is a field of {entity.filters!r:.80}: the searched ones, and that of tenants, "
                    "are fields of the record itself"
                )


def altered(entity: Entity, search: SearchFields, unsearch: Iterable[str], fields: Mapping[str, str]) -> Entity:
    """An entity with other options of these fields, those of `unsearch` not searched any more. Raises InvalidInput."""
    if isinstance(unsearch, str):
        raise InvalidInput(f"unsearch is a list of field names; for one, use [{seen(unsearch)}]")
    options, gone = checked_options(search), set(unsearch)
    check_names([*gone, *fields], fields.values())
    if unknown := sorted(gone - set(entity.searchable)):
        raise InvalidInput(f"{unknown[0]!r:.80} is not searched. Searched: {', '.join(entity.searchable)}")
    if both := sorted(gone & set(options)):
        raise InvalidInput(f"{both[0]!r:.80} is in search and in unsearch")
    known = {field.name: field for field in entity.fields}
    known |= {name: DeclaredField(check_field(name)) for name in (*options, *fields) if name not in known}
    made = tuple(
        replace(
            field,
            type=fields.get(name, field.type),
            search=options.get(name, None if name in gone else field.search),
            is_empty=field.is_empty and name not in options and name not in fields,
        )
        for name, field in known.items()
    )
    if not any(field.is_searchable for field in made):
        raise InvalidInput(f"{entity.name}: one field at least has to be searchable")
    if entity.filters and entity.filters not in [field.name for field in made if field.type == "object"]:
        raise InvalidInput(f"{entity.filters!r:.80} is what names of fields begin in: an object, which is not searched")
    check_nested(replace(entity, fields=made))
    return replace(entity, fields=made)


def boosted(entity: Entity, boosts: Boosts | None) -> Entity:
    """The entity with these boosts, with its own where it is None. Raises InvalidInput, InvalidFilter."""
    if boosts is None:
        return entity
    types = {field_path(field.name, entity.filters): field.type for field in entity.fields}
    made = read_boosts(boosts)
    for boost in made:
        boost.as_json()
        if not isinstance(boost, FieldBoost):
            probe_of(boost, entity.names)
            continue
        try:
            path = path_of(boost.field, entity.names)
        except InvalidFilter as error:
            raise InvalidFilter(f"{error}. Declare what is boosted: fields=, or --field NAME:TYPE") from None
        is_number = isinstance(boost, NumberBoost)
        type_ = types[path] if path in types else types[path[:1]]
        counted = {"any", *(("integer", "number") if is_number else ("text", DATETIME))}
        if type_ not in (counted if path in types else {"any", "object"}):
            values = "numbers" if is_number else "texts that are dates or times"
            raise InvalidInput(f"{boost.field!r:.80} is {type_}, and a boost by it counts {values} alone")
    return replace(entity, boosts=made)


def difference(stored: Entity, declared: Entity) -> str:
    """What a stored entity has otherwise than one that is declared; empty where nothing. Fields that records have added
    since are none."""
    there, wanted = ({field.name: field for field in entity.fields} for entity in (stored, declared))
    for name in dict.fromkeys([*wanted, *there]):
        field = wanted.get(name, inferred_field(name, (), is_searched=False))
        if name not in there:
            return f"it has no field {name!r:.80}"
        if replace(there[name], is_empty=False) != field:
            return f"its field {name!r:.80} is {described(there[name])}, not {described(field)}"
    if stored.searchable != declared.searchable:
        return f"its searchable fields are in the order {', '.join(stored.searchable)}"
    for each in dataclass_fields(Entity):
        one, other = getattr(stored, each.name), getattr(declared, each.name)
        if each.name != "fields" and one != other:
            return f"its {each.name} is {seen(one, 200)}, not {seen(other, 200)}"
    return ""


def described(field: DeclaredField) -> str:
    return f"{field.type} and {'not searched' if field.search is None else f'searched as {field.search}'}"


def checked_options(search: SearchFields) -> dict[str, Field]:
    if isinstance(search, str):
        raise InvalidInput(f"search is a list of field names; for one, use [{seen(search)}]")
    options = field_options(search)
    check_names(options)
    return options


def check_names(names: Collection[Any], types: Iterable[Any] = ()) -> None:
    """Raises InvalidInput for what is no field, or no type of one."""
    for given in (*names, *types):
        if not isinstance(given, str):
            raise InvalidInput(f"fields and their types are named by texts, not {seen(given)}")
    if "id" in names:
        raise InvalidInput("`id` is the key of every record and no field: get a record by it")
    if unknown := sorted(set(types) - set(TYPES)):
        raise InvalidInput(f"unknown type {seen(unknown[0])}. Known: {', '.join(TYPES)}")


def entity_named(entities: Mapping[str, Entity], name: object) -> Entity:
    """Raises UnknownEntity."""
    if not isinstance(name, str) or name not in entities:
        raise UnknownEntity(f"unknown entity {seen(name)}. Known: {', '.join(entities) or 'none'}")
    return entities[name]


def divided(entity: Entity, tenant_field: str | None) -> Entity:
    """An entity whose records have tenants; as it is where `tenant_field` is None. Raises InvalidInput where they are
    not those of that field."""
    if tenant_field in (None, entity.tenant_field):
        return entity
    if tenant_field == "":
        return entity if entity.has_tenants else replace(entity, tenant_field="")
    own = f"those of the field {entity.tenant_field!r:.80}" if entity.tenant_field else "given with each call"
    has = f"are {own}" if entity.has_tenants else "were not declared"
    raise InvalidInput(f"the tenants of {entity.name} {has}; their field is not {seen(tenant_field, 80)}")


def infer_entity(name: str, records: Sequence[Mapping[str, Any]], tenant_field: str | None = None) -> Entity:
    return with_fields(Entity(name, tenant_field=tenant_field, is_inferred=True), records)


def with_fields(entity: Entity, records: Sequence[Mapping[str, Any]]) -> Entity:
    """The entity with the fields that its records add; of an entity that was inferred, their texts are searchable.
    Those of an entity with tenants add none once it has a searchable field: whoever searches it sees which it has."""
    if is_unsearchable(entity):
        return with_first_texts(entity, records)
    if entity.has_tenants:
        return entity
    return with_inferred(entity, records, {field.name for field in entity.fields if not field.is_empty} | {"id"})


def is_unsearchable(entity: Entity) -> bool:
    """Whether it was made from records none of which had a text; fields that get texts later are searchable, too."""
    return entity.is_inferred and not entity.searchable


def searchable_since(before: Entity | None, after: Entity) -> Entity | None:
    """The entity if it had no searchable field before and has one now."""
    return after if before is not None and is_unsearchable(before) and after.searchable else None


def with_first_texts(entity: Entity, records: Sequence[Mapping[str, Any]]) -> Entity:
    """Every text is searchable, but for the tenant's: those of one word by keyword alone, unless all are."""
    made = with_inferred(entity, records, {f.name for f in entity.fields if f.type != "any"} | {"id"})
    fields = tuple(replace(f, search=None) if f.name == entity.tenant_field else f for f in made.fields)
    if not any(field.search is PLAIN for field in fields):
        fields = tuple(replace(f, search=f.search and PLAIN) for f in fields)
    return replace(made, fields=fields)


def with_inferred(entity: Entity, records: Sequence[Mapping[str, Any]], present: Collection[str]) -> Entity:
    """The entity with the fields of records that are not `present`, as their values have them."""
    names = dict.fromkeys(name for record in records for name in record if name not in present)
    fields = {field.name: field for field in entity.fields}
    for name in names:
        values = [record[name] for record in records if record.get(name) is not None]
        if values or name not in fields:
            fields[name] = inferred_field(name, values, is_searched=entity.is_inferred)
    made = tuple(fields.values())
    return entity if made == entity.fields else replace(entity, fields=made)


def inferred_field(name: str, values: Sequence[Any], *, is_searched: bool) -> DeclaredField:
    """A field as its values have it; where a record was read from is not searched."""
    if name == FILE_FIELD:
        return DeclaredField(name, "object")
    return DeclaredField(name, search=searched_as(values) if is_searched else None, is_empty=is_searched and not values)


def searched_as(values: Iterable[Any]) -> Field | None:
    """How a field with these values is searched: None without texts, by keyword alone if each is one word."""
    found = None
    for value in values:
        for text in texts_in(value):
            if is_long(text):
                return PLAIN
            found = BY_KEYWORD
    return found


def texts_in(value: Any) -> Iterator[str]:
    """The texts in a value, nested ones too, without blank ones."""
    if isinstance(value, str):
        if value and not value.isspace():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def is_long(text: str) -> bool:
    return len(text.split(maxsplit=1)) > 1


def unsearched(entity: Entity, records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The fields of records that have texts which no search reads, without those declared with a type."""
    chosen = {"id", FILE_FIELD, *(f.name for f in entity.fields if f.is_searchable or f.type != "any")}
    chosen.update([entity.tenant_field] if entity.tenant_field else [])
    found: dict[str, None] = {}
    for record in records:
        for name, value in record.items():
            if name not in chosen and name not in found and next(texts_in(value), None) is not None:
                found[name] = None
    return tuple(found)


def by_keyword_alone(entity: Entity, records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The fields that were taken for names and codes when the entity was inferred, and have longer texts here."""
    names = [f.name for f in entity.fields if entity.is_inferred and f.search == BY_KEYWORD and f.type == "any"]
    return tuple(
        name
        for name in names
        if any(is_long(text) for record in records if name in record for text in texts_in(record[name]))
    )


def fields_of(entity: Entity) -> FieldNames:
    """Those that a filter may name; any of an entity with tenants."""
    return replace(entity.names, own=None) if entity.has_tenants else entity.names


def record_entry(entity: Entity, id_: str, data: Mapping[str, Any], tenant: str = "") -> Entry:
    fields = [(items_of(data.get(field.name)), field.search) for field in entity.fields if field.search is not None]
    text, emphasis, gaps, _, extent = compose(fields)
    return make_entry(Ref(entity.name, id_, tenant), text, emphasis, gaps, extent=extent)
