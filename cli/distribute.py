"""`kameleon distribute`: from one PostgreSQL server to many. Imports what commands share."""

import click

from .app import App, common, pass_app, quiet


@click.command()
@click.option(
    "--by",
    type=click.Choice(["record_id", "tenant"]),
    default="record_id",
    show_default=True,
    help="What rows are spread by.",
)
@quiet
@common
@pass_app
def distribute(app: App, by: str) -> None:
    """Spread records and embeddings over a Citus cluster, so that vectors are compared on all its servers at once.

    By record_id, for one large corpus, the keyword index is on each server as a whole. By tenant, for many of them, all
    of a tenant is on one server, and its searches go there alone.

    Rows that are there move along; writers wait meanwhile. A second run changes nothing.

    \b
    KAMELEON_URL=postgresql://coordinator/app kameleon distribute --by tenant
    """
    tables = app.open().admin.distribute(by)
    text = f"distributed by {by}: {', '.join(tables)}" if tables else "all tables are distributed already"
    app.show({"by": by, "distributed": tables}, text)
