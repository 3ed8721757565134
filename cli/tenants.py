"""`kameleon tenants`: tenants, and the policies that keep them apart. Imports what commands share."""

from collections.abc import Sequence

import click

from .app import App, common, pass_app, quiet


@click.group()
def tenants() -> None:
    """Keep tenants apart."""


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
