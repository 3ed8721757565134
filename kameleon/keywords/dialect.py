"""A partition, and what the keyword index needs of a database. Imports `values` and `stores`."""

from typing import Any, NamedTuple

from ..stores.search_protocols import Postings as Dialect
from ..values import Tenants

__all__ = ["Dialect", "Partition", "Partitions"]


class Partition(NamedTuple):
    tenant: str
    entity: str


class Partitions(NamedTuple):
    """What one query reads: the partitions of some tenants and entities, of all where none are named."""

    tenants: Tenants
    entities: tuple[str, ...] = ()

    @property
    def binds(self) -> dict[str, Any]:
        """Those of a statement that reads them: `tenant` where it is one."""
        one = self.tenants[0] if self.tenants and len(self.tenants) == 1 else None
        tenants = None if self.tenants is None else list(self.tenants)
        return {"tenant": one, "tenants": tenants, "entities": list(self.entities)}
