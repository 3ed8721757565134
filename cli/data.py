"""`kameleon data …`: records of the built-in store. Imports what commands share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from kameleon.errors import RecordMissing
from kameleon.files.folders import with_files_of_folders

from .app import App, bar, common, confirming, echo, parse_object, pass_app, quiet
from .inserting import Insertion
from .providing import providing
from .reading import check_documents, items, read_options, reading, sources_of
from .tenancy import chosen_tenants, of_tenant, of_tenants

if TYPE_CHECKING:
    import kameleon


@click.group()
def data() -> None:
    """Insert, read, change and delete records."""


@data.command()
@click.argument("entity")
@click.argument("inputs", metavar="[JSON|FILE...]", nargs=-1)
@click.option("--sync", is_flag=True, help="Delete the records of the folder whose files are gone.")
@click.option("--id-field", metavar="NAME", default="id", show_default=True, help="Which field is a record's key.")
@click.option("--tenant", metavar="NAME", help="The tenant of all these records.")
@click.option("--tenant-field", metavar="NAME", help="Which field is a record's tenant, of an entity that is made.")
@click.option("--batch-size", type=click.IntRange(1), default=100, show_default=True, help="Records a transaction.")
@click.option(
    "--on-conflict",
    type=click.Choice(["error", "replace", "merge", "ignore"]),
    default="error",
    show_default=True,
    help="Where an id exists: stop, replace the record, set its fields, or leave it.",
)
@click.option(
    "--embeddings", metavar="FIELD", help="The field that has a record's embedding, as exports have it; none is made."
)
@click.option("--no-create", is_flag=True, help="Do not make a missing entity.")
@click.option("--skip-invalid", is_flag=True, help="Go on after a bad record.")
@click.option("--rejects", type=click.File("ab", lazy=False), help="Add bad records to this file.")
@click.option(
    "--atomic", "is_atomic", is_flag=True, help="All or nothing: one transaction, holding the write lock throughout."
)
@reading
@providing
@confirming
@common
@pass_app
def insert(
    app: App,
    /,
    inputs: tuple[str, ...],
    files: tuple[str, ...],
    no_create: bool,
    no_confirm: bool,
    sync: bool,
    **options: Any,
) -> None:
    """Insert records: JSON, CSV, TSV, Parquet, Markdown, HTML, text; from stdin, files, folders or the command line.

    Each batch is one transaction with its index rows. A record's `id` is its key, or what
    --id-field names, which is kept as `id`. A bad record ends the run, and the
    message says how to go on from there; so does Ctrl-C.

    \b
    kameleon data insert Contact contacts.csv
    kameleon data insert Contact '{"id": "7", "name": "Ann Lee", "about": "met in Oslo"}'
    kameleon data insert Page docs/ --section --sync
    """
    how = read_options(options, keep_rest=bool(options["rejects"]))
    sources = list(with_files_of_folders(sources_of(inputs, files), how))
    is_of_documents = check_documents(sources, how, sync=sync, id_field=options["id_field"])
    records = app.records(create=True)
    with _progress(options["entity"]) as progress:
        insertion = Insertion(
            app=app, records=records, sources=sources, create=not no_create, progress=progress, **options
        )
        how = insertion.with_types(how)
        insertion.run(items(sources, insertion.passing_over(how) if is_of_documents else how))
    insertion.remove_gone(is_wanted=sync, no_confirm=no_confirm)
    _print_summary(app, insertion, is_indexed=bool(insertion.stored) and _finish(records))


def _finish(records: "kameleon.RecordStore") -> bool:
    """Merges keywords, and builds the vector index where one is due; returns whether it did."""
    records.search.index.keywords.maintain_all()
    is_indexed: bool = records.search.admin.index_vectors()
    return is_indexed


@contextmanager
def _progress(entity: str) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda _stored: None
        return
    from rich.progress import TimeElapsedColumn

    with bar(entity, "{task.description} {task.completed:,.0f} records", TimeElapsedColumn()) as update:
        yield lambda stored: update(completed=stored)


def _print_summary(app: App, insertion: Insertion, *, is_indexed: bool) -> None:
    if is_indexed:
        echo("built the vector index", err=True)
    made, outage, summary = insertion.report.created_entity, insertion.report.index.outage, insertion.summary()
    if made is not None:
        echo(f"made entity {made.name}, searchable: {', '.join(made.searchable) or 'nothing'}", err=True)
    if outage:
        echo(f"embeddings pending, the provider is down: {outage}", err=True)
    if app.as_json:
        app.print_json({**summary, "note": " ".join(insertion.notes)})
        return
    for note in insertion.notes:
        echo(note, err=True)
    shown = ("updated", "skipped", "rejected", "removed", "unchanged", "failed", "pending")
    extra = "".join(f", {summary[name]} {name}" for name in shown if summary[name])
    extra += f", {summary['unchanged_files']:,} files unchanged" if summary["unchanged_files"] else ""
    echo(
        f"{summary['entity']}: {summary['inserted']} inserted{extra}; {summary['embedded']} embedded, "
        f"{summary['reused']} reused, {summary['seconds']} s, {summary['records_per_second']:,.0f} records/s"
    )


@data.command()
@click.argument("entity")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@of_tenant("The tenant of the records, of an entity that has tenants.")
@common
@pass_app
def get(app: App, entity: str, ids: tuple[str, ...], tenant: str | None) -> None:
    """Print one record as JSON, or several in the order of their ids, one a line.

    Those that are missing are named at the end, and the status is 1.

    \b
    kameleon data get Ticket T-1001
    """
    found = app.records().get_many(entity, ids, tenant=tenant)
    rows = [{"id": record.id, **record.data} for record in found]
    for document in [rows] if app.as_json and len(ids) > 1 else rows:
        app.print_json(document)
    if missing := [id_ for id_ in dict.fromkeys(ids) if id_ not in {record.id for record in found}]:
        raise RecordMissing(f"{entity} has no record {', '.join(f'{id_!r:.80}' for id_ in missing)}")


@data.command("list")
@click.argument("entity")
@click.option("--where", metavar="JSON", help="Only records that match, as in search.")
@click.option("--sort", metavar="FIELDS", help="Order by these fields instead, as in search.")
@click.option("--limit", type=click.IntRange(1, 2**53), default=20, show_default=True, help="Records at most.")
@click.option("--offset", type=click.IntRange(0, 2**53), default=0, help="Skip so many records.")
@of_tenants
@common
@pass_app
def list_(
    app: App,
    entity: str,
    where: str | None,
    sort: str | None,
    limit: int,
    offset: int,
    tenants: tuple[str, ...],
    all_tenants: bool,
) -> None:
    """List records by id, one JSON object a line.

    \b
    kameleon data list Ticket --where '{"status": "open"}' --limit 5
    """
    condition = parse_object(where, "--where") if where else None
    tenant = chosen_tenants(tenants, all_tenants)
    found = app.records().list(entity, where=condition, sort=sort, tenant=tenant, limit=limit, offset=offset)
    rows = [{"id": record.id, **record.data} for record in found]
    for document in [rows] if app.as_json else rows:
        app.print_json(document)


@data.command()
@click.argument("entity")
@click.option("--where", metavar="JSON", help="Only records that match, as in search.")
@of_tenants
@common
@pass_app
def count(app: App, entity: str, where: str | None, tenants: tuple[str, ...], all_tenants: bool) -> None:
    """Count records.

    \b
    kameleon data count Ticket --where '{"status": "open"}'
    """
    condition = parse_object(where, "--where") if where else None
    found = app.records().count(entity, where=condition, tenant=chosen_tenants(tenants, all_tenants))
    app.show({"count": found}, f"{found}")


@data.command()
@click.argument("entity")
@click.argument("values", metavar="[ID] JSON", nargs=-1, required=True)
@click.option("--where", metavar="JSON", help="Change the records that match instead, as in search; {} is all.")
@click.option("--replace", "replace_all", is_flag=True, help="Drop the fields that JSON does not name.")
@of_tenants
@providing
@quiet
@common
@pass_app
def update(
    app: App,
    entity: str,
    values: tuple[str, ...],
    where: str | None,
    replace_all: bool,
    tenants: tuple[str, ...],
    all_tenants: bool,
) -> None:
    """Set fields of a record, or of those that match; what changed of their searchable fields is indexed.

    \b
    kameleon data update Ticket T-1001 '{"status": "closed"}'
    kameleon data update Ticket '{"status": "closed"}' --where '{"status": "solved"}'
    """
    if len(values) != (2 if where is None else 1):
        raise click.UsageError("give ID and JSON, or JSON and --where")
    patch, tenant = parse_object(values[-1], "JSON"), chosen_tenants(tenants, all_tenants)
    if where is not None:
        condition = parse_object(where, "--where")
        count = app.records().update(entity, changes=patch, where=condition, replace_all=replace_all, tenant=tenant)
        app.show({"updated": count}, f"updated {count:,} of {entity}")
        return
    if all_tenants or len(tenants) > 1:
        raise click.UsageError("a record has one tenant: --tenant NAME")
    (own,) = tenants or (None,)
    record = app.records().update(entity, values[0], patch, replace_all=replace_all, tenant=own)
    app.show({"id": record.id, **record.data}, f"updated {entity} {record.id}")


@data.command()
@click.argument("entity")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--where", metavar="JSON", help="Delete the records that match instead, as in search; {} is all.")
@of_tenants
@confirming
@common
@pass_app
def delete(
    app: App,
    entity: str,
    ids: tuple[str, ...],
    where: str | None,
    tenants: tuple[str, ...],
    all_tenants: bool,
    no_confirm: bool,
) -> None:
    """Delete records and their index rows in one transaction.

    \b
    kameleon data delete Ticket T-1001 T-1002
    kameleon data delete Ticket --where '{"status": "closed"}' --no-confirm
    """
    if bool(ids) == (where is not None):
        raise click.UsageError("give IDs or --where")
    tenant, records = chosen_tenants(tenants, all_tenants), app.records()
    if where is None:
        deleted = records.delete(entity, ids, tenant=tenant)
        app.show({"deleted": deleted}, f"deleted {deleted} of {len(ids)}")
        return
    condition = parse_object(where, "--where")
    if not no_confirm:
        click.confirm(f"Delete the records of {entity} that match {where}?", abort=True, err=True)
    deleted = records.delete(entity, where=condition, tenant=tenant)
    app.show({"deleted": deleted}, f"deleted {deleted:,} of {entity}")
