"""`kameleon doctor`: what is wrong with the index, and mending it."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module

import click

from .app import App, common, pass_app


@click.command()
@click.option(
    "--import",
    "modules",
    metavar="MODULE",
    multiple=True,
    help="Import this module first, so that its searchable classes are known; may be repeated.",
)
@click.option("--fix", is_flag=True, help="Mend what can be mended; this embeds what is pending, too.")
@click.option("--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Records a transaction.")
@common
@pass_app
def doctor(app: App, modules: Sequence[str], fix: bool, batch_size: int) -> None:
    """Compare tables, index and embeddings, and say what is wrong and what cures it.

    The exit status is 1 if an error is left: rows that are missing, stale, orphaned or duplicate, embeddings that are
    left over or no good, generations without a table, broken indexes. Warnings and notes leave it at 0.

    \b
    kameleon doctor --import myapp.models --fix
    """
    import_all(modules)
    search = app.open()
    from kameleon.doctor import examine, is_ok

    findings = examine(search, fix=fix, batch_size=batch_size)
    if app.as_json:
        app.print_json({"findings": [asdict(finding) for finding in findings], "ok": is_ok(findings)})
    elif not findings:
        click.echo("nothing found")
    else:
        rows = [
            ("fixed" if f.is_fixed else f.severity, f.check, f.entity, f.count, ", ".join(f.ids), f.message, f.cure)
            for f in findings
        ]
        app.print_rows(("state", "check", "entity", "count", "ids", "what", "cure"), rows)
    if not is_ok(findings):
        raise click.exceptions.Exit(1)


def import_all(modules: Sequence[str]) -> None:
    """From the current folder, as `python -m` does."""
    if modules:
        sys.path.insert(0, "")
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:
            raise click.UsageError(f"--import {name}: {error}. Run it in the folder that holds the module") from error
