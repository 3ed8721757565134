"""`kameleon entity …`: the kinds of record in the built-in store. Imports what commands share."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from kameleon.errors import UnknownEntity

from .app import App, common, confirming, echo, importing, pass_app, quiet
from .boosts import boost_option, read_boosts
from .providing import providing

if TYPE_CHECKING:
    from kameleon import IndexReport, RecordStore
    from kameleon.boosts import Boost
    from kameleon.stores.catalog import DeclaredField, Entity


@click.group()
def entity() -> None:
    """Declare and describe the kinds of record."""


SEARCH = click.option(
    "--search",
    "searchable",
    metavar="FIELD[:OPTION...]",
    multiple=True,
    help="A searchable field. Options: how often its words count (1 to 10), html, keyword, vector. Repeatable.",
)
FIELDS = click.option(
    "--field", "fields", metavar="NAME:TYPE", multiple=True, help="A field and its type, checked. Repeatable."
)


@entity.command()
@click.argument("name")
@SEARCH
@FIELDS
@boost_option
@click.option(
    "--tenant-field",
    metavar="NAME",
    help="Which field is a record's tenant; empty where --tenant gives it with each command.",
)
@click.option("--filters", metavar="NAME", default="", help="The object that names of fields in filters begin in.")
@click.option("--exist-ok", is_flag=True, help="Leave an entity that is declared like this as it is.")
@common
@pass_app
def create(
    app: App,
    name: str,
    searchable: tuple[str, ...],
    fields: tuple[str, ...],
    tenant_field: str | None,
    boosts: tuple[str, ...],
    filters: str,
    exist_ok: bool,
) -> None:
    """Declare an entity. Types: any, text, datetime, integer, number, boolean, list, object.

    \b
    kameleon entity create Ticket --search subject:2 --search body:html --search code:keyword --field rating:integer
    """
    if not searchable:
        raise click.UsageError("name a searchable field: --search FIELD")
    search = dict(map(optioned, searchable))
    types = types_of(fields)
    options: dict[str, Any] = {"tenant_field": tenant_field, "boost": read_boosts(boosts), "filters": filters}
    options["exist_ok"] = exist_ok
    made = app.records(create=True).create_entity(name, search=search, fields=types, **options)
    verb = "declared" if exist_ok else "made"
    app.show(as_json(made), f"{verb} entity {made.name}, searchable: {', '.join(made.searchable)}")


@entity.command()
@click.argument("entity_name", metavar="NAME")
@SEARCH
@click.option("--unsearch", metavar="FIELD", multiple=True, help="A field that is not searched any more. Repeatable.")
@FIELDS
@boost_option
@click.option("--no-boost", is_flag=True, help="Remove its boosts.")
@click.option("--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Records a transaction.")
@importing
@providing
@quiet
@common
@pass_app
def update(
    app: App,
    entity_name: str,
    searchable: tuple[str, ...],
    unsearch: tuple[str, ...],
    fields: tuple[str, ...],
    batch_size: int,
    boosts: tuple[str, ...],
    no_boost: bool,
) -> None:
    """Change how fields are searched, and index the records again; other fields stay as they are.

    Of a mapped class, with --import, index all rows again as the class is declared now; its fields are changed there.
    Nothing is embedded whose text is as it was. A run that was interrupted is completed by another. --boost replaces
    the entity's boosts, which have effect at once.

    \b
    kameleon entity update Ticket --search summary --search code:keyword --unsearch notes
    """
    if boosts and no_boost:
        raise click.UsageError("--boost and --no-boost exclude each other")
    search, types = dict(map(optioned, searchable)), types_of(fields)
    boost = read_boosts(boosts) if boosts or no_boost else None
    records = app.records()
    if app.has_imported and entity_name not in {entity.name for entity in records.entities()}:
        if search or unsearch or types or boost is not None:
            raise click.UsageError(
                f"the fields and boosts of a mapped class are changed in its declaration: {entity_name}"
            )
        index = records.search.admin.index_class(entity_name, batch_size=batch_size)
        show_update(app, {"name": entity_name}, index, "")
        return
    try:
        report = records.alter_entity(
            entity_name, search=search, unsearch=unsearch, fields=types, batch_size=batch_size, boost=boost
        )
    except UnknownEntity as error:
        raise UnknownEntity(f"{error}. A mapped class is found with --import MODULE") from error
    show_update(app, as_json(report.entity), report.index, f"; searchable: {', '.join(report.entity.searchable)}")


def show_update(app: App, document: dict[str, Any], index: "IndexReport", fields: str) -> None:
    counts = {key: getattr(index, key) for key in ("indexed", "unchanged", "embedded", "reused", "failed", "pending")}
    if index.outage:
        echo(f"embeddings pending, the provider is down: {index.outage}", err=True)
    text = f"{document['name']}: {index.indexed:,} records indexed again, {index.embedded:,} embedded"
    app.show({**document, **counts}, text + fields)


@entity.command()
@click.argument("name")
@click.argument("new_name")
@quiet
@common
@pass_app
def rename(app: App, name: str, new_name: str) -> None:
    """Rename an entity, with its records, index and embeddings, in one transaction.

    \b
    kameleon entity rename Ticket Case
    """
    renamed = app.records().rename_entity(name, new_name)
    app.show(as_json(renamed), f"renamed {name} to {new_name}")


@entity.command()
@click.argument("name")
@confirming
@common
@pass_app
def delete(app: App, name: str, no_confirm: bool) -> None:
    """Delete an entity with its records and their index, in one transaction.

    \b
    kameleon entity delete Ticket --no-confirm
    """
    if not no_confirm:
        click.confirm(f"Delete the entity {name} with all of its records?", abort=True, err=True)
    count = app.records().drop_entity(name)
    app.show({"entity": name, "deleted": count}, f"deleted {name}: {count:,} records")


def types_of(fields: Iterable[str], option: str = "--field") -> dict[str, str]:
    types = {}
    for declared in fields:
        field, colon, type_ = declared.rpartition(":")
        if not colon or not field:
            raise click.UsageError(f"{option} is NAME:TYPE, such as priority:text, not {declared!r}")
        types[field] = type_
    return types


def optioned(declared: str) -> tuple[str, Any]:
    """A field and its options: what follows its last colons, as far as these are options."""
    from kameleon import Field

    options: dict[str, Any] = {}
    name = declared
    while True:
        rest, _, last = name.rpartition(":")
        if not rest or not (last.isdecimal() or last in ("html", "keyword", "vector")):
            return name, Field(**options)
        options |= {"weight": int(last)} if last.isdecimal() else {"html": True} if last == "html" else {"index": last}
        name = rest


@entity.command("list")
@common
@pass_app
def list_(app: App) -> None:
    """List the entities, their searchable fields and their boosts; those of tables that were added after the others."""
    records = app.records()
    found = [*records.entities(), *tables_of(records)]
    if app.as_json:
        app.print_json([as_json(entity) for entity in found])
    else:
        rows = [(e.name, ", ".join(e.searchable), ", ".join(map(shown_boost, e.boosts))) for e in found]
        app.print_rows(("entity", "searchable", "boosts"), rows)


@entity.command()
@click.argument("name")
@common
@pass_app
def describe(app: App, name: str) -> None:
    """Show an entity's fields and boosts; of a table that was added, its columns.

    \b
    kameleon entity describe Ticket
    """
    from kameleon import entities

    records = app.records()
    entities.named(records.search, [name])
    found = next((table for table in tables_of(records) if table.name == name), None) or records.entity(name)
    if app.as_json:
        app.print_json(as_json(found))
    else:
        rows = [(f.name, f.type, search_of(f, found)) for f in found.fields]
        rows += [("", "boost", shown_boost(boost)) for boost in found.boosts]
        rows += [("", "filters", found.filters)] if found.filters else []
        app.print_rows(("field", "type", ""), rows)


def tables_of(records: "RecordStore") -> Iterator["Entity"]:
    """The tables that were added, without those that have changed."""
    from kameleon import entities
    from kameleon.stores.catalog import DeclaredField, Entity

    texts = {one.entity: one.text for one in records.search.tables.list()}
    for one in entities.describe(records.search) if texts else ():
        if one.kind == "table":
            text = texts[one.name]
            yield Entity(one.name, tuple(DeclaredField(of.name, of.type, text.get(of.name)) for of in one.fields))


def as_json(entity: "Entity") -> dict[str, Any]:
    from kameleon.stores.catalog import as_definition

    return {"name": entity.name, **as_definition(entity)}


def shown_boost(boost: "Boost") -> str:
    """A boost as `--boost` takes it."""
    made = boost.as_json()
    if "where" in made:
        return f"{json.dumps(made['where'])}:{made['factor']:g}"
    half = made["half_life"] if "half_life" in made else f"{made['half']:g}"
    return f"{made['field']}:{half}:{made['weight']:g}"


def search_of(field: "DeclaredField", entity: "Entity") -> str:
    parts = ["tenant"] if field.name == entity.tenant_field else []
    if field.search is not None:
        parts.append("searchable")
        parts += [f"weight {int(field.search.weight)}"] if field.search.weight > 1 else []
        parts += [] if field.search.index == "both" else [f"by {field.search.index} alone"]
        parts += ["html"] if field.search.html else []
    return ", ".join(parts)
