"""Marks in `kdb_dirty`: which entities have triggers that set them, and the marks of records that are about to be
written. Imports `values` and `stores`."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from ..stores.refs import ids_by_entity
from ..stores.tables import IDS_A_STATEMENT, Tables, parts
from ..values import Ref

TRACKED = "tracked:"


class Marks:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._tracked: set[str] | None = None

    def set_tracked(self, connection: Connection, entity: str, *, is_tracked: bool) -> None:
        meta = self._tables.meta
        connection.execute(meta.delete().where(meta.c.key == TRACKED + entity))
        if is_tracked:
            connection.execute(meta.insert(), {"key": TRACKED + entity, "value": "triggers"})
        else:
            dirty = self._tables.dirty
            connection.execute(dirty.delete().where(dirty.c.entity_name == entity))

    def forget_tracked(self) -> None:
        """`tracked` reads the table at its next call."""
        self._tracked = None

    def tracked(self, connection: Connection) -> set[str]:
        """Entities with triggers; one that another process adds is found after this process's next start."""
        if (found := self._tracked) is None:
            meta = self._tables.meta
            keys = connection.execute(select(meta.c.key).where(meta.c.key.startswith(TRACKED, autoescape=True)))
            found = self._tracked = {key.removeprefix(TRACKED) for key in keys.scalars()}
        return found

    def of(self, connection: Connection, refs: Sequence[Ref]) -> list[int]:
        """The marks, so far, of tracked records that are about to be written. Their content is to be read from their
        tables, for raw SQL of the same transaction may have set the marks."""
        dirty = self._tables.dirty
        found: list[int] = []
        for entity, ids in ids_by_entity(refs).items():
            for part in parts(ids, IDS_A_STATEMENT):
                query = select(dirty.c.seq).where(dirty.c.entity_name == entity, dirty.c.record_id.in_(part))
                found += connection.execute(query).scalars()
        return found

    def delete(self, connection: Connection, marks: Sequence[int]) -> None:
        dirty = self._tables.dirty
        for part in parts(marks, IDS_A_STATEMENT):
            connection.execute(dirty.delete().where(dirty.c.seq.in_(part)))
