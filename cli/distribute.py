"""`kameleon distribute`: from one PostgreSQL server to many. Imports what commands share."""

from typing import Literal

import click

from .app import App, common, pass_app, quiet


@click.command()
@click.option(
    "--by",
    type=click.Choice(["record_id", "tenant"]),
    default="record_id",
    show_default=True,
    help="What rows are spread by: one large corpus by record_id, many tenants by tenant.",
)
@quiet
@common
@pass_app
def distribute(app: App, by: Literal["record_id", "tenant"]) -> None:
    """Spread records and embeddings over a Citus cluster, so that vectors are compared on all its servers at once.

    Rows that are there move along; writers wait meanwhile. A second run changes nothing. By record_id the keyword index
    is on each server as a whole; by tenant all that is read of one is on one server.

    \b
    KAMELEON_URL=postgresql://coordinator/app kameleon distribute --by record_id
    """
    tables = app.open().admin.distribute(by)
    text = f"distributed by {by}: {', '.join(tables)}" if tables else "all tables are distributed already"
    app.show({"by": by, "distributed": tables}, text)
