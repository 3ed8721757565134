"""A partition, and what the keyword index needs of a database. Imports `stores`."""

from typing import NamedTuple

from ..stores.search_protocols import Postings as Dialect

__all__ = ["Dialect", "Partition", "Partitions"]


class Partition(NamedTuple):
    tenant: str
    entity: str


class Partitions(NamedTuple):
    """What one query reads: some of a tenant's partitions, or all of them where no `entities` are named."""

    tenant: str
    entities: tuple[str, ...] = ()
