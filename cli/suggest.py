"""`kameleon suggest`: completions of a word. Imports what commands share."""

import click

from .app import App, common, pass_app


@click.command()
@click.argument("text")
@click.option("--limit", type=click.IntRange(1, 200), default=10, show_default=True, help="Suggestions at most.")
@common
@pass_app
def suggest(app: App, text: str, limit: int) -> None:
    """Complete the last word of TEXT with words of the index, those in most records first.

    \b
    kameleon suggest "refund re"
    """
    suggestions = app.open().suggest(text, limit=limit)
    if app.as_json:
        app.print_json({"text": text, "suggestions": suggestions})
        return
    for suggestion in suggestions:
        click.echo(suggestion)
