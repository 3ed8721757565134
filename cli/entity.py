"""`kameleon entity …`: the kinds of record in the built-in store. Imports what commands share."""

from typing import TYPE_CHECKING, Any

import click

from .app import App, common, pass_app

if TYPE_CHECKING:
    from kameleon.stores.catalog import Entity, Field


@click.group()
def entity() -> None:
    """Declare and describe the kinds of record."""


@entity.command()
@click.argument("name")
@click.option(
    "--search",
    "searchable",
    metavar="FIELD[:WEIGHT]",
    multiple=True,
    required=True,
    help="A searchable field, and how often its words count (1 to 10). Repeatable.",
)
@click.option(
    "--field", "fields", metavar="NAME:TYPE", multiple=True, help="A field and its type, checked. Repeatable."
)
@click.option(
    "--tenant-field",
    metavar="NAME",
    help="Which field is a record's tenant; empty where --tenant gives it with each command.",
)
@common
@pass_app
def create(app: App, name: str, searchable: tuple[str, ...], fields: tuple[str, ...], tenant_field: str | None) -> None:
    """Declare an entity. Types: any, text, integer, number, boolean, list, object.

    \b
    kameleon entity create Ticket --search subject:2 --search body --field priority:text --field rating:integer
    """
    types = {}
    for declared in fields:
        field, colon, type_ = declared.rpartition(":")
        if not colon or not field:
            raise click.UsageError(f"--field is NAME:TYPE, such as priority:text, not {declared!r}")
        types[field] = type_
    search = dict(map(weighted, searchable))
    made = app.records(create=True).create_entity(name, search=search, fields=types, tenant_field=tenant_field)
    app.show(as_json(made), f"made entity {made.name}, searchable: {', '.join(made.searchable)}")


def weighted(declared: str) -> tuple[str, int]:
    """A field and its weight; what follows the last colon is one if it is a number."""
    field, colon, weight = declared.rpartition(":")
    return (field, int(weight)) if colon and field and weight.isdecimal() else (declared, 1)


@entity.command("list")
@common
@pass_app
def list_(app: App) -> None:
    """List the entities and their searchable fields."""
    found = app.records().entities()
    if app.as_json:
        app.print_json([as_json(entity) for entity in found])
    else:
        app.print_rows(("entity", "searchable"), [(e.name, ", ".join(e.searchable)) for e in found])


@entity.command()
@click.argument("name")
@common
@pass_app
def describe(app: App, name: str) -> None:
    """Show an entity's fields.

    \b
    kameleon entity describe Ticket
    """
    found = app.records().entity(name)
    if app.as_json:
        app.print_json(as_json(found))
    else:
        rows = [(f.name, f.type, search_of(f, found)) for f in found.fields]
        app.print_rows(("field", "type", ""), rows)


def as_json(entity: Any) -> dict[str, Any]:
    return {
        "name": entity.name,
        **({"tenant_field": entity.tenant_field} if entity.has_tenants else {}),
        "fields": [
            {"name": f.name, "type": f.type, "searchable": f.is_searchable, "weight": f.weight} for f in entity.fields
        ],
    }


def search_of(field: "Field", entity: "Entity") -> str:
    if field.name == entity.tenant_field:
        return "tenant, searchable" if field.is_searchable else "tenant"
    if not field.is_searchable:
        return ""
    return f"searchable, weight {field.weight}" if field.weight > 1 else "searchable"
