"""Describes the entities to clients: their fields, how many records they have, and values to filter by. Imports
`documents`, `entities`, `errors` and `values`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...documents import facets_document
from ...entities import EntityDescription, count_values, describe
from ...errors import InvalidInput, KameleonError, UnknownEntity, printable, seen
from ...values import ALL_TENANTS
from ..serving import Serving
from .budget import tokens

VALUES, EXAMPLES = 10, 3
"""Bound the values of a field that are given: where these are the values of half of the records, and where they are
examples of many. Chosen, not measured."""
DETAILED = 200_000
"""Bounds the records whose values are counted where no entity is named: 100,000 take 1 s of CPU."""
SUMMARIZED, FIELDS, NAME = 10, 12, 60
"""Bound the entities and the fields of each in a tool's description, and the characters of a name or a value. Chosen,
not measured."""


def entities_of(serving: Serving, within: Mapping[str, Any]) -> list[EntityDescription]:
    """All, or those that have tenants where one is named."""
    found = describe(serving.search, tenant=within.get("tenant", ALL_TENANTS))
    return [one for one in found if one.has_tenants or "tenant" not in within]


def names_of(serving: Serving, within: Mapping[str, Any]) -> list[str]:
    return [one.name for one in entities_of(serving, within)]


def entities_document(serving: Serving, within: Mapping[str, Any], name: str | None, budget: int) -> dict[str, Any]:
    """All entities, or one; those that the budget is enough for, at least one. Raises UnknownEntity."""
    found = entities_of(serving, within)
    wanted = [one for one in found if name in (None, one.name)]
    if name is not None and not wanted:
        raise UnknownEntity(f"unknown entity {seen(name)}. Known: {', '.join(one.name for one in found) or 'none'}")
    shown: list[dict[str, Any]] = []
    counted = 0
    left = budget - tokens({"entities": [], "left_out": len(wanted)})
    for one in wanted:
        counted += one.indexed
        is_detailed = name is not None or counted <= DETAILED
        document = entity_document(one, values_of(serving, one, within) if is_detailed else {})
        if tokens(document) >= left:
            document = entity_document(one, {})
        left -= tokens(document) + 1
        if left < 0 and shown:
            return {"entities": shown, "left_out": len(wanted) - len(shown)}
        shown.append(document)
    return {"entities": shown}


def entity_document(one: EntityDescription, values: Mapping[str, Any]) -> dict[str, Any]:
    fields = [
        asdict(field) | ({"values": values[field.name]} if values.get(field.name) else {}) for field in one.fields
    ]
    return {
        "name": one.name,
        "kind": one.kind,
        "records": one.indexed,
        "has_tenants": one.has_tenants,
        "fields": fields,
    }


def values_of(serving: Serving, one: EntityDescription, within: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of each field that most records have, with how many; none of an entity whose tenant is not named."""
    try:
        counted = count_values(serving.search, one, **within)
    except InvalidInput:
        return {}
    return {name: chosen(values, one.indexed) for name, values in facets_document(counted).items()}


def chosen(values: Sequence[Mapping[str, Any]], records: int) -> list[Mapping[str, Any]]:
    """The values of a field that are given, the most frequent first; none that are long."""
    is_shared = len(values) <= VALUES or 2 * sum(one["count"] for one in values[:VALUES]) >= records
    return [one for one in values[: VALUES if is_shared else EXAMPLES] if len(str(one["value"])) <= NAME]


def summary_of(serving: Serving, within: Mapping[str, Any]) -> str:
    """A sentence on each of the entities, for the description of a tool; none while the index cannot be read."""
    try:
        found = entities_of(serving, within)
    except KameleonError:
        return ""
    more = f"\n… and {len(found) - SUMMARIZED} more: list_entities" if len(found) > SUMMARIZED else ""
    return "\n".join(["Entities:", *map(sentence_of, found[:SUMMARIZED])]) + more if found else ""


def sentence_of(one: EntityDescription) -> str:
    texts = listed(field.name for field in one.fields if field.text)
    filters = listed(f"{field.name} ({field.type})" for field in one.fields if field.filterable)
    parts = [f"texts: {texts}"] * bool(texts) + [f"filters: {filters}"] * bool(filters)
    parts += ["records have tenants"] * one.has_tenants
    return "; ".join([f"- {shown(one.name)}: {one.indexed:,} records", *parts])


def listed(names: Iterable[str]) -> str:
    found = [shown(name) for name in names]
    return ", ".join(found[:FIELDS]) + (", …" if len(found) > FIELDS else "")


def shown(name: str) -> str:
    """A name as one short line: those of records may be anything."""
    return printable(name if len(name) <= NAME else f"{name[:NAME]}…")
