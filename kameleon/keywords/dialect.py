"""A partition, and what the keyword index needs of a database. Imports `values` and `stores`."""

from typing import NamedTuple

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
