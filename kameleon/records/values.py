"""What calls of the record store return. Imports `values` and `stores`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..stores.catalog import Entity
from ..stores.tables import utc
from ..values import IndexReport


@dataclass(frozen=True, slots=True)
class Record:
    entity: str
    id: str
    data: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    tenant: str = ""
    vector: tuple[float, ...] | None = None
    """As it is stored, of length 1; None where it was not requested, or the record has none of its present content."""


@dataclass(frozen=True, slots=True)
class InsertReport:
    """What an insert did, in records: those whose id was taken are `updated` where they were replaced or merged, or
    `skipped`. `index` is what became of their index rows. `unsearched` are fields whose texts no search reads, but for
    those declared with a type; `keyword_only` those that an entity made from its records took for codes and names, and
    that have longer texts: `alter_entity` changes either. `ids` are those of the records, in their order; a sum of
    reports, such as that of files, has none."""

    inserted: int = 0
    updated: int = 0
    skipped: int = 0
    index: IndexReport = field(default_factory=IndexReport)
    created_entity: Entity | None = None
    unsearched: tuple[str, ...] = ()
    keyword_only: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    def __add__(self, other: "InsertReport") -> "InsertReport":
        return InsertReport(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.skipped + other.skipped,
            self.index + other.index,
            self.created_entity or other.created_entity,
            tuple(dict.fromkeys((*self.unsearched, *other.unsearched))),
            tuple(dict.fromkeys((*self.keyword_only, *other.keyword_only))),
        )


@dataclass(frozen=True, slots=True)
class AlterReport:
    """What altering an entity did; `index` counts its records."""

    entity: Entity
    index: IndexReport = field(default_factory=IndexReport)


def make_record(row: Any) -> Record:
    return Record(row.entity_name, row.id, row.data, utc(row.created_at), utc(row.updated_at), row.tenant)
