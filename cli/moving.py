"""`kameleon export` and `kameleon import …`: records with their embeddings, to a file and from other places. Imports
what commands share."""

import gzip
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click

from .app import App, bar, common, importing, pass_app, quiet
from .providing import providing
from .tenancy import chosen_tenants, of_tenant, of_tenants

if TYPE_CHECKING:
    from kameleon.importers import Source

F = TypeVar("F", bound=Callable[..., Any])


@click.command()
@click.argument("entity")
@click.option("--format", type=click.Choice(["jsonl", "csv", "parquet"]), help="By the file's name, else jsonl.")
@click.option("--with-embeddings", is_flag=True, help="Write the embeddings, too.")
@click.option("-o", "--output", metavar="FILE", help="Write this file, compressed if it ends in .gz; else stdout.")
@of_tenants
@importing
@quiet
@common
@pass_app
def export(
    app: App,
    entity: str,
    format: str | None,
    with_embeddings: bool,
    output: str | None,
    tenants: tuple[str, ...],
    all_tenants: bool,
) -> None:
    """Write the records of an entity that are in the index: stored ones, those of existing tables, and with --import
    those of the application's classes. `kameleon data insert ENTITY FILE --embeddings embedding` reads them again, and
    embeds nothing.

    \b
    kameleon export Ticket --with-embeddings -o tickets.parquet
    """
    from kameleon.exporting import Export  # SQLAlchemy's ORM loads with it

    chosen = format or format_of(output)
    if output is None and chosen == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text: name a file with --output, or pipe it")
    rows = Export(app.open(), entity, with_embeddings=with_embeddings, tenant=chosen_tenants(tenants, all_tenants))
    with opened(output) as stream:
        count = rows.write(stream, chosen)
    if output is not None:
        app.show({"exported": count}, f"exported {count:,} records of {entity} to {output}")


def format_of(output: str | None) -> str:
    """The format that a file's name has. Raises click.UsageError."""
    suffix = (output or ".jsonl").removesuffix(".gz").rpartition(".")[2]
    if suffix not in ("jsonl", "ndjson", "csv", "parquet"):
        raise click.UsageError(f"name the format, --format: {output} ends in none of .jsonl, .csv and .parquet")
    return "jsonl" if suffix == "ndjson" else suffix


@contextmanager
def opened(output: str | None) -> Iterator[BinaryIO]:
    """The file, which has its name once it is complete; stdout without one."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = f"{output}.part"
    try:
        with cast("BinaryIO", gzip.open(part, "wb")) if output.endswith(".gz") else open(part, "wb") as stream:
            yield stream
        os.replace(part, output)
    finally:
        if os.path.exists(part):
            os.remove(part)


@click.group("import")
def import_() -> None:
    """Store the records of another place with the embeddings that they have there; nothing is embedded."""


def importable(command: F) -> F:
    """Add the options of every import."""
    for option in (
        common,
        quiet,
        providing,
        click.option(
            "--batch-size", type=click.IntRange(1), default=500, show_default=True, help="Records a transaction."
        ),
        of_tenant("The tenant of all these records."),
        click.option("--entity", metavar="NAME", help="The entity here; else it has the name that it has there."),
    ):
        command = option(command)
    return command


def of_columns(command: F) -> F:
    """Add the options that name columns."""
    for option in (
        click.option("--vector", metavar="NAME", help="The column of the embeddings, where there are several."),
        click.option("--text", metavar="NAME", multiple=True, help="A column whose text is searched. Repeatable."),
        click.option("--id", metavar="NAME", help="The column that is a record's key."),
    ):
        command = option(command)
    return command


@import_.command()
@click.argument("path")
@click.option("--collection", metavar="NAME", help="The collection, where the folder has several.")
@importable
@pass_app
def chroma(app: App, /, path: str, collection: str | None, **options: Any) -> None:
    """Store the documents of a Chroma folder, with their metadata as fields.

    \b
    kameleon import chroma ./chroma --model sentence-transformers/all-MiniLM-L6-v2
    """
    from kameleon.importers.chroma import ChromaCollection

    run(app, ChromaCollection(path, collection), **options)


@import_.command()
@click.argument("path")
@click.option("--table", metavar="NAME", help="The table, where the folder has several.")
@of_columns
@importable
@pass_app
def lancedb(
    app: App, /, path: str, table: str | None, id: str | None, text: tuple[str, ...], vector: str | None, **options: Any
) -> None:
    """Store the rows of a LanceDB table, its columns as fields.

    \b
    kameleon import lancedb ./lance --table notes --provider given --model my-model
    """
    from kameleon.importers.lancedb import LanceTable

    run(app, LanceTable(path, table, id=id, text=text, vector=vector), **options)


@import_.command()
@click.argument("table")
@click.option("--from", "url", metavar="URL", help="The database of the table; else the one that is worked on.")
@click.option("--table-schema", metavar="NAME", help="The table's schema.")
@of_columns
@importable
@pass_app
def pgvector(
    app: App,
    /,
    table: str,
    url: str | None,
    table_schema: str | None,
    id: str | None,
    text: tuple[str, ...],
    vector: str | None,
    **options: Any,
) -> None:
    """Store the rows of a PostgreSQL table with a column of pgvector's, its columns as fields.

    \b
    kameleon import pgvector items --from postgresql+psycopg:///shop --provider given --model my-model
    """
    import kameleon
    from kameleon.importers.pgvector import VectorTable

    engine = app.engine(create=True) if url is None else kameleon.create_engine(url, hide_parameters=True)
    run(app, VectorTable(engine, table, schema=table_schema, id=id, text=text, vector=vector), **options)


def run(app: App, source: "Source", *, entity: str | None, tenant: str | None, batch_size: int) -> None:
    from kameleon.importers import import_records

    search = app.open(create=True)
    with progress(entity or source.name) as update:
        report = import_records(
            search,
            source,
            entity,
            tenant=tenant,
            batch_size=batch_size,
            is_model_named=app.chosen is not None,
            progress=update,
        )
    search.index.keywords.maintain_all()
    search.admin.index_vectors()
    index = report.index
    counts = {"inserted": report.inserted, "updated": report.updated, "unchanged": index.unchanged}
    document = {"entity": entity or source.name, **counts, "with_embedding": index.reused, "pending": index.pending}
    text = f"{document['entity']}: {report.inserted:,} inserted, {report.updated:,} updated"
    app.show(document, f"{text}; {index.reused:,} embeddings stored, {index.pending:,} pending")


@contextmanager
def progress(entity: str) -> Iterator[Callable[[int, int], None]]:
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with bar(entity, "{task.description} {task.completed:,.0f} of {task.total:,.0f} records") as update:
        yield lambda done, total: update(completed=done, total=total)
