"""Rows that no session shows: triggers on a class's tables mark them in `kdb_dirty`, whoever wrote them.

A mark says that a row changed, not how: what it says is read when the mark is worked off, by `sync` or a worker. Marks
of rows that a session's own commit writes to the index go with that commit.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, func, select

from .errors import InvalidInput, InvalidRecord
from .mapping import Mapped
from .queue import Put, Queue
from .search.tables import IDS_A_STATEMENT, parts
from .values import IndexReport, Ref, ids_by_entity

if TYPE_CHECKING:
    from .listener import Sessions

TRACKED = "tracked:"

log = logging.getLogger("kameleon.sessions")


class Tracking:
    def __init__(self, sessions: "Sessions") -> None:
        self._sessions = sessions
        self._search = sessions.search
        self._tables = sessions.search.tables
        self._tracked: set[str] | None = None
        self._mute: set[Ref] = set()

    def track(self, mapped: Mapped) -> None:
        """Idempotent; what changed before is for `doctor` to find."""
        tables = list(self._tables_of(mapped))
        with self._search.transaction() as connection:
            for table, entities in tables:
                self._search.set_triggers(connection, table, key_columns(mapped, table), sorted(entities))
            meta = self._tables.meta
            for entity in {entity for _, entities in tables for entity in entities}:
                connection.execute(meta.delete().where(meta.c.key == TRACKED + entity))
                connection.execute(meta.insert(), {"key": TRACKED + entity, "value": "triggers"})
        self._tracked = None

    def untrack(self, mapped: Mapped) -> None:
        tables = list(self._tables_of(mapped))
        with self._search.transaction() as connection:
            for table, entities in tables:
                self._search.set_triggers(connection, table, [], [])
                meta, dirty = self._tables.meta, self._tables.dirty
                for entity in entities:
                    connection.execute(meta.delete().where(meta.c.key == TRACKED + entity))
                    connection.execute(dirty.delete().where(dirty.c.entity_name == entity))
        self._tracked = None

    def tracked(self, connection: Connection) -> set[str]:
        """Entities with triggers; what another process adds is known here when this one starts anew."""
        if self._tracked is None:
            meta = self._tables.meta
            keys = connection.execute(select(meta.c.key).where(meta.c.key.startswith(TRACKED, autoescape=True)))
            self._tracked = {key.removeprefix(TRACKED) for key in keys.scalars()}
        return self._tracked

    def marks(self, connection: Connection, queue: Queue, refs: Iterable[Ref]) -> list[int]:
        """The marks, so far, of records that are about to be written; they are to be read from their tables, for raw
        SQL of this very transaction may have set the marks."""
        tracked = self.tracked(connection)
        if not tracked:
            return []
        marked = [ref for ref in refs if ref.entity in tracked]
        for ref in marked:
            queue.load(ref)
        dirty = self._tables.dirty
        found: list[int] = []
        for entity, ids in ids_by_entity(marked).items():
            for part in parts(ids, IDS_A_STATEMENT):
                asked = select(dirty.c.seq).where(dirty.c.entity_name == entity, dirty.c.record_id.in_(part))
                found += connection.execute(asked).scalars()
        return found

    def forget(self, connection: Connection, marks: Sequence[int]) -> None:
        dirty = self._tables.dirty
        for part in parts(marks, IDS_A_STATEMENT):
            connection.execute(dirty.delete().where(dirty.c.seq.in_(part)))

    def catch_up(self, limit: int) -> IndexReport | None:
        """Index what up to `limit` marked rows say now; None if there is no mark."""
        with self._search.reading() as connection:
            refs = self._marked(connection, limit)
            said = self._said(connection, refs)
        if not refs:
            return None
        refs = list(said)
        puts = {ref: put for ref, put in said.items() if put is not None}
        ahead = self._search.embed_ahead(puts, [], connection=None, indexing="sync")

        def attempt() -> IndexReport:
            with self._search.transaction() as connection:
                queue = self._sessions.queue(connection)
                for ref in refs:
                    queue.load(ref)
                return self._sessions.write_queue(connection, ahead, "sync")

        return self._search.retried(attempt)

    def unknown(self, connection: Connection) -> list[str]:
        """Entities with marks whose classes are not imported here."""
        return [entity for entity in self._entities(connection) if self._sessions.mappings.named(entity) is None]

    def _entities(self, connection: Connection) -> list[str]:
        return sorted(connection.execute(select(self._tables.dirty.c.entity_name).distinct()).scalars())

    def _marked(self, connection: Connection, limit: int) -> list[Ref]:
        dirty = self._tables.dirty
        known = [entity for entity in self._entities(connection) if self._sessions.mappings.named(entity) is not None]
        oldest = select(dirty.c.entity_name, dirty.c.record_id).where(dirty.c.entity_name.in_(known))
        oldest = oldest.group_by(dirty.c.entity_name, dirty.c.record_id).order_by(func.min(dirty.c.seq))
        rows = connection.execute(oldest.limit(limit + len(self._mute)))
        return [ref for row in rows if (ref := Ref(*row)) not in self._mute][:limit]

    def _said(self, connection: Connection, refs: Sequence[Ref]) -> dict[Ref, Put | None]:
        """What marked rows say. One that cannot say it keeps its mark, is told of, and is not asked again here."""
        try:
            return self._sessions.read(connection, refs)
        except InvalidRecord as error:
            if len(refs) > 1:
                return {found: put for ref in refs for found, put in self._said(connection, [ref]).items()}
            self._mute.update(refs)
            log.warning("catch_up: %s", error)
            return {}

    def _tables_of(self, mapped: Mapped) -> Iterable[tuple[Table, set[str]]]:
        """The tables of a class and those that inherit it, each with the entities that its rows may be of."""
        found: dict[Table, set[str]] = {}
        for mapper in mapped.owner.self_and_descendants:
            inner = self._sessions.mappings.of(mapper.class_)
            for table in mapper.tables:
                if inner is not None and isinstance(table, Table):
                    found.setdefault(table, set()).add(inner.entity)
        yield from found.items()


def key_columns(mapped: Mapped, table: Table) -> list[tuple[Any, str]]:
    """A table's own columns for the key's, with their kinds. Raises InvalidInput."""
    columns = list(table.primary_key.columns)
    kinds = [column.kind for column in mapped.identity.columns]
    if len(columns) != len(kinds):
        raise InvalidInput(f"{table} cannot be tracked: it has no primary key that names its {mapped.entity}")
    return list(zip(columns, kinds, strict=True))
