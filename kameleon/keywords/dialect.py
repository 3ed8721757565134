"""A partition, and what the keyword index needs of a database. Imports the stores' protocols."""

from typing import NamedTuple

from ..stores.protocols import Postings as Dialect

__all__ = ["Dialect", "Partition"]


class Partition(NamedTuple):
    tenant: str
    entity: str
