"""`kameleon doctor`: finds and repairs faults of the index. Imports what commands share."""

from dataclasses import asdict, replace
from typing import Any

import click

from .app import App, common, echo, importing, pass_app, quiet
from .providing import providing
from .tenancy import limited_to_tenants

NO_DRIVER = ("no-extension", "note")
"""Names the note about SQLite's driver, which an application passes to its engine and the command cannot choose."""


@click.command()
@click.option("--fix", is_flag=True, help="Repair what can be repaired; this embeds what is pending, too.")
@click.option("--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Records a transaction.")
@limited_to_tenants("Compare this tenant's records alone.")
@importing
@providing
@quiet
@common
@pass_app
def doctor(app: App, fix: bool, batch_size: int, tenant: Any) -> None:
    """Compare tables, index and embeddings, and report what is wrong and how to repair it.

    The exit status is 1 if an error is left: rows that are missing, stale, orphaned or duplicate, contents that the
    keyword index lacks, embeddings that are left over or invalid, generations without a table, broken indexes. Warnings
    and notes leave it at 0.

    \b
    kameleon doctor --import myapp.models --fix
    """
    from kameleon.doctor import examine, is_ok

    found = examine(app.open(), fix=fix, batch_size=batch_size, tenant=tenant)
    shown = (finding for finding in found if (finding.check, finding.severity) != NO_DRIVER)
    findings = [replace(finding, cure=app.advised(finding.cure)) for finding in shown]
    if app.as_json:
        app.print_json({"findings": [asdict(finding) for finding in findings], "ok": is_ok(findings)})
    elif not findings:
        echo("nothing found")
    else:
        rows = [
            ("fixed" if f.is_fixed else f.severity, f.check, f.entity, f.count, ", ".join(f.ids), f.message, f.cure)
            for f in findings
        ]
        app.print_rows(("state", "check", "entity", "count", "ids", "what", "cure"), rows)
    if not is_ok(findings):
        raise click.exceptions.Exit(1)
