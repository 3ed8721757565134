"""`kameleon tenants`: tenants, and the policies that keep them apart. Imports what commands share."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from .app import App, common, confirming, importing, pass_app, quiet


@click.group()
def tenants() -> None:
    """Keep tenants apart, delete them, and move them to other databases."""


@tenants.command("list")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many tenants.")
@common
@pass_app
def list_(app: App, limit: int) -> None:
    """List the tenants that have most records, with how many.

    \b
    kameleon tenants list --limit 10
    """
    found = app.open().admin.tenants(limit)
    if app.as_json:
        app.print_json({"tenants": [asdict(one) for one in found]})
    else:
        app.print_rows(("tenant", "records"), [(one.tenant, one.indexed) for one in found])


@tenants.command()
@click.argument("tenant")
@confirming
@common
@pass_app
def drop(app: App, tenant: str, no_confirm: bool) -> None:
    """Delete every trace of TENANT: contents, records, words, embeddings, cache, queue, synonyms, query rules.

    The rows of mapped classes are the application's, and stay. The database's files keep what was deleted until VACUUM
    (SQLite) or VACUUM FULL (PostgreSQL).

    \b
    kameleon tenants drop acme --no-confirm
    """
    from kameleon.tenants import nothing_of

    search = app.open()
    search.for_tenant(tenant)  # refuses what is no tenant
    if not no_confirm:
        click.confirm(f"Delete all records of the tenant {tenant}?", abort=True, err=True)
    count = search.admin.drop_tenant(tenant)
    if not count:
        raise nothing_of(tenant)
    app.show({"tenant": tenant, "deleted": count}, f"deleted {tenant}: {count:,} records")


@tenants.command("export")
@click.argument("tenant")
@click.argument("file", type=click.Path(dir_okay=False, writable=True))
@importing
@quiet
@common
@pass_app
def export(app: App, tenant: str, file: str) -> None:
    """Write the contents, records, embeddings, synonyms and query rules of TENANT to FILE, compressed JSON lines.

    --import the application's classes whose fields have weights: which words count more is read from their rows.

    \b
    kameleon tenants export acme acme.jsonl.gz
    """
    count = app.open().admin.export_tenant(tenant, file)
    app.show({"tenant": tenant, "exported": count, "file": file}, f"exported {tenant}: {count:,} records to {file}")


@tenants.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@quiet
@common
@pass_app
def import_(app: App, file: str) -> None:
    """Write the records of an exported FILE to this database, SQLite or PostgreSQL, with their embeddings.

    Records of the same keys are replaced. Nothing is embedded: where the index has another model, `kameleon embeddings
    sync` does so. A run that was interrupted is completed by another.

    \b
    kameleon tenants import acme.jsonl.gz
    """
    report = app.open(create=True).admin.import_tenant(file)
    text = f"imported {report.tenant}: {report.records:,} records, {report.embedded:,} with their embeddings"
    app.show(asdict(report), "\n".join(filter(None, (text, report.note))))


@tenants.command()
@click.option("--setting", default="app.tenant", show_default=True, help="Names the tenant of a transaction.")
@click.option(
    "--worker", "workers", multiple=True, metavar="ROLE", help="A role that has all tenants; may be repeated."
)
@quiet
@common
@pass_app
def protect(app: App, setting: str, workers: Sequence[str]) -> None:
    """Put policies of row-level security on kameleon's own tables, in PostgreSQL.

    A role then has the rows of the tenant that the setting names, in raw SQL, too, and reads rows without a tenant.
    Policies hold for the tables' owner, not for superusers and roles with BYPASSRLS. Restart the applications
    afterwards. A second run replaces the policies.

    \b
    kameleon tenants protect --setting app.tenant --worker kameleon_worker
    """
    tables = app.open().admin.protect(setting, workers)
    text = f"protected by {setting}: {', '.join(tables)}"
    app.show({"setting": setting, "workers": list(workers), "protected": tables}, text)


@tenants.command()
@quiet
@common
@pass_app
def unprotect(app: App) -> None:
    """Take the policies off kameleon's tables.

    \b
    kameleon tenants unprotect
    """
    tables = app.open().admin.unprotect()
    app.show({"unprotected": tables}, f"unprotected: {', '.join(tables)}" if tables else "there were no policies")
