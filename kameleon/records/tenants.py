"""Whose records a call of the record store is for. Imports `values`, `errors`, `content` and `stores`."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Table

from ..content import check_tenant, check_tenants
from ..errors import InvalidInput, TenantRequired, seen
from ..stores.catalog import Entity
from ..values import ALL_TENANTS, Tenants


def tenant_named(entity: Entity, given: object) -> str:
    """The one tenant that a call is for. Raises TenantRequired, InvalidInput and InvalidRecord."""
    if given is ALL_TENANTS or (isinstance(given, Iterable) and not isinstance(given, str)):
        raise InvalidInput(f"one tenant is needed here, not {seen(given)}")
    if given is None and entity.has_tenants:
        raise TenantRequired(entity.name)
    return check_tenant(given)


def tenants_named(entity: Entity, given: object) -> Tenants:
    """The tenants that a call is for. Raises TenantRequired, InvalidInput and InvalidRecord."""
    return (tenant_named(entity, None),) if given is None else check_tenants(given)


def of_tenants(table: Table, entity: Entity, tenants: Tenants) -> list[ColumnElement[bool]]:
    """Conditions on `kdb_records`."""
    of_entity = table.c.entity_name == entity.name
    return [of_entity] if tenants is None else [table.c.tenant.in_(tenants), of_entity]
