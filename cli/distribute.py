"""`kameleon distribute`: from one PostgreSQL to many."""

import click

from .app import App, common, pass_app, quiet


@click.command()
@click.option(
    "--by", type=click.Choice(["record_id"]), default="record_id", show_default=True, help="What rows are spread by."
)
@quiet
@common
@pass_app
def distribute(app: App, by: str) -> None:
    """Spread the tables over a Citus cluster, so that each search asks all its servers at once.

    Rows that are there move along; writers wait meanwhile. Doing it twice does nothing twice.

    \b
    KAMELEON_URL=postgresql://coordinator/app kameleon distribute --by record_id
    """
    tables = app.open().admin.distribute()
    if app.as_json:
        app.print_json({"by": by, "distributed": tables})
    else:
        click.echo(f"distributed by {by}: {', '.join(tables)}" if tables else "all tables are distributed already")
