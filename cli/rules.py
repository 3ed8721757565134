"""`kameleon rules`: pinned and hidden records for a query. Imports what commands share."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .app import App, common, naming_records, pass_app, quiet
from .tenancy import chosen_tenants, of_searches, of_tenants

if TYPE_CHECKING:
    from kameleon.query_rules import QueryRule

Pairs = Sequence[tuple[str, str]]


@click.group()
def rules() -> None:
    """Pin records for a query, or hide them from it."""


@rules.command("set")
@click.argument("query")
@naming_records("pin", "Put this record first, in this order.")
@naming_records("hide", "Do not find this record.")
@of_searches
@quiet
@common
@pass_app
def set_(app: App, query: str, pin: Pairs, hide: Pairs, tenant: str | None) -> None:
    """Pin and hide records for queries of the same words as QUERY, in place of the rule that these have.

    Case, accents, endings and stop words make no difference. A record need not be there yet.

    \b
    kameleon rules set "running shoes" --pin Product/p-1 --hide Product/p-9
    """
    rule = app.open().rules.set(query, pin=pin, hide=hide, tenant=tenant)
    lacking = f"; not in the index: {named(rule.missing)}" if rule.missing else ""
    app.show(asdict(rule), f"{rule.query}: pinned {len(rule.pinned)}, hidden {len(rule.hidden)}{lacking}")


@rules.command("list")
@of_tenants
@common
@pass_app
def list_(app: App, tenants: tuple[str, ...], all_tenants: bool) -> None:
    """List the rules, and which of their records are not in the index: of no tenant, or of those that are named.

    \b
    kameleon rules list
    """
    found = app.open().rules.list(tenant=chosen_tenants(tenants, all_tenants))
    if app.as_json:
        app.print_json([asdict(rule) for rule in found])
        return
    columns = ("query", "pinned", "hidden", "missing", "tenant")
    app.print_rows(columns, map(row_of, found))


@rules.command("remove")
@click.argument("query")
@of_searches
@quiet
@common
@pass_app
def remove(app: App, query: str, tenant: str | None) -> None:
    """Remove the rule of the same words as QUERY.

    \b
    kameleon rules remove "running shoes"
    """
    if not app.open().rules.remove(query, tenant=tenant):
        of = f"of the tenant {tenant}" if tenant else "without a tenant"
        raise click.ClickException(f"no rule {of} has the words of {query!r:.80}. See them: `kameleon rules list`")
    app.show({"query": query, "tenant": tenant or "", "removed": True}, f"removed: {query}")


def row_of(rule: "QueryRule") -> Sequence[Any]:
    return rule.query, named(rule.pinned), named(rule.hidden), named(rule.missing), rule.tenant


def named(pairs: Pairs) -> str:
    return " ".join(f"{entity}/{id_}" for entity, id_ in pairs)
