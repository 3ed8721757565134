"""The options that name tenants. Imports `kameleon` alone."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])


def of_tenant(command: F) -> F:
    """Add --tenant, for commands on the records of one."""
    return click.option("--tenant", metavar="NAME", help="The tenant of the record, of an entity that has tenants.")(
        command
    )


def of_searches(command: F) -> F:
    """Add --tenant, for commands on the rules of one tenant's searches."""
    return click.option(
        "--tenant", metavar="NAME", help="The tenant whose searches have the rules; else those of all."
    )(command)


def of_tenants(command: F) -> F:
    """Add --tenant and --all-tenants, for commands on the records of several."""
    named = click.option(
        "--tenant", "tenants", multiple=True, metavar="NAME", help="The tenant whose records are meant. Repeatable."
    )
    return named(click.option("--all-tenants", is_flag=True, help="The records of all tenants.")(command))


def limited_to_tenants(help: str) -> Callable[[F], F]:
    """Add --tenant as `tenant`, for commands on the records of all where it is absent."""

    def chosen(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> Any:
        from kameleon import ALL_TENANTS

        return list(names) or ALL_TENANTS

    return click.option("--tenant", multiple=True, metavar="NAME", callback=chosen, help=f"{help} Repeatable.")


def chosen_tenants(tenants: tuple[str, ...], all_tenants: bool) -> Any:
    """What these options give for `tenant`; None where they are absent."""
    from kameleon import ALL_TENANTS

    if tenants and all_tenants:
        raise click.UsageError("--tenant and --all-tenants exclude each other")
    return ALL_TENANTS if all_tenants else list(tenants) or None


def within_tenants(command: F) -> F:
    """Add --tenant and --all-tenants as `within`, options of a search: none where both are absent."""

    @wraps(command)
    def called(*args: Any, tenants: tuple[str, ...], all_tenants: bool, **options: Any) -> Any:
        tenant = chosen_tenants(tenants, all_tenants)
        return command(*args, within={} if tenant is None else {"tenant": tenant}, **options)

    return of_tenants(cast("F", called))
