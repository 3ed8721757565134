"""The tenant that a writing call is for. Imports `errors` and `content`."""

from collections.abc import Iterable

from sqlalchemy import Connection

from ..content import check_tenant
from ..errors import TenantRequired
from .index import Index


def tenant_written(index: Index, entities: Iterable[str], given: object, connection: Connection | None) -> str:
    """The tenant that is given, "" without one. Raises InvalidRecord for what is none, and TenantRequired where none is
    given and one of the entities has tenants. That is read beside the caller's transaction, where it can be: on SQLite
    one that has read may not write after another did."""
    if given is not None:
        return check_tenant(given)
    if connection is not None:
        if index.store.connections.has_spare_reader():
            connection = None
        else:
            index.begin_writing(connection)
    known = index.tenanted(connection)
    for entity in entities if known else ():
        if entity in known:
            raise TenantRequired(entity)
    return ""
