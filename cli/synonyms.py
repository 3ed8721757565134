"""`kameleon synonyms`: words that find each other. Imports what commands share."""

from typing import TextIO

import click

from .app import App, common, pass_app, quiet
from .tenancy import of_searches


@click.group()
def synonyms() -> None:
    """Let words find each other, or one word others, with the next search.

    \b
    "nyc, new york, big apple"        each finds the others
    "tablet => ipad, galaxy tab"      tablet finds the others, too, and not back
    """


@synonyms.command()
@click.argument("rules", nargs=-1, required=True, metavar="RULE...")
@of_searches
@quiet
@common
@pass_app
def add(app: App, rules: tuple[str, ...], tenant: str | None) -> None:
    """Add rules; those that are there stay.

    \b
    kameleon synonyms add "nyc, new york, big apple" "tablet => ipad, galaxy tab"
    """
    added = app.open(create=True).synonyms.add(*rules, tenant=tenant)
    app.show({"added": added}, f"added {added:,}")


@synonyms.command()
@click.argument("file", type=click.File(encoding="utf-8-sig"))
@click.option("--replace", is_flag=True, help="Remove the rules that FILE does not have.")
@of_searches
@quiet
@common
@pass_app
def load(app: App, file: TextIO, replace: bool, tenant: str | None) -> None:
    """Add the rules of FILE, one a line; all of them or, where a line is no rule, none. `-` reads stdin.

    Empty lines and lines that begin with # are left out.

    \b
    kameleon synonyms load synonyms.txt --replace
    """
    added = app.open(create=True).synonyms.load(file, replace=replace, tenant=tenant)
    app.show({"added": added}, f"added {added:,}")


@synonyms.command("list")
@of_searches
@quiet
@common
@pass_app
def list_(app: App, tenant: str | None) -> None:
    """List the rules, as FILE of `load` has them.

    \b
    kameleon synonyms list --tenant acme
    """
    rules = app.open().synonyms.list(tenant=tenant)
    if app.as_json:
        app.print_json({"rules": rules})
        return
    for rule in rules:
        click.echo(rule)


@synonyms.command()
@click.argument("rules", nargs=-1, required=True, metavar="RULE...")
@of_searches
@quiet
@common
@pass_app
def remove(app: App, rules: tuple[str, ...], tenant: str | None) -> None:
    """Remove rules, each with its words in any order.

    \b
    kameleon synonyms remove "nyc, new york, big apple"
    """
    from kameleon.errors import InvalidInput

    removed = app.open().synonyms.remove(*rules, tenant=tenant)
    if not removed:
        raise InvalidInput("none of these rules is there. `kameleon synonyms list` prints those that are")
    app.show({"removed": removed}, f"removed {removed:,}")
