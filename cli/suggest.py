"""`kameleon suggest`: completions of a word. Imports what commands share."""

from collections.abc import Mapping
from typing import Any

import click

from .app import App, common, importing, pass_app
from .search import entities_of
from .tenancy import within_tenants


@click.command()
@click.argument("text")
@click.option("--limit", type=click.IntRange(1, 200), default=10, show_default=True, help="Suggestions at most.")
@click.option("-e", "--entity", "entities", metavar="NAME", multiple=True, help="Only this entity. Repeatable.")
@within_tenants
@importing
@common
@pass_app
def suggest(app: App, text: str, entities: tuple[str, ...], limit: int, within: Mapping[str, Any]) -> None:
    """Complete the last word of TEXT with words of the index, those in most records first.

    \b
    kameleon suggest "refund re"
    kameleon suggest "refund re" --entity Ticket --tenant acme
    """
    engine = app.open()
    among = entities_of(engine, entities) or None
    suggestions = engine.suggest(text, entities=among, limit=limit, **within)
    if app.as_json:
        app.print_json({"text": text, "suggestions": suggestions})
        return
    for suggestion in suggestions:
        click.echo(suggestion)
