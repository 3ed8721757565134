"""`kameleon purge`: what is left of deleted texts. Imports what commands share."""

from dataclasses import asdict

import click

from .app import App, common, pass_app, quiet


@click.command()
@quiet
@common
@pass_app
def purge(app: App) -> None:
    """Take deleted and replaced texts out of the keyword index and the embedding cache.

    Both keep words and embeddings of such texts until merges, and the cache's limit, drop them; no search finds them. A
    worker purges once a day. Reading and writing go on meanwhile.

    \b
    kameleon purge
    """
    report = app.open().admin.purge()
    text = f"{report.merges:,} steps of merges; {report.cached:,} cached embeddings dropped"
    app.show(asdict(report), text)
