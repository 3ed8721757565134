"""Groups refs. Imports `values`."""

from collections.abc import Iterable

from ..values import Ref, Tenants


def tenants_of(refs: Iterable[Ref]) -> Tenants:
    return tuple(sorted({ref.tenant for ref in refs}))


def ids_by_entity(refs: Iterable[Ref]) -> dict[str, list[str]]:
    """In the order of the refs, whatever their tenants: for mapped classes, whose ids have one."""
    grouped: dict[str, list[str]] = {}
    for entity, id_, _ in refs:
        grouped.setdefault(entity, []).append(id_)
    return grouped


def ids_by_tenant(refs: Iterable[Ref]) -> dict[str, list[str]]:
    """Of records of one entity, in their order."""
    grouped: dict[str, list[str]] = {}
    for _, id_, tenant in refs:
        grouped.setdefault(tenant, []).append(id_)
    return grouped
