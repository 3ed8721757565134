"""Rows that no session shows: triggers on a class's tables mark them in `kdb_dirty`, whoever wrote them.

A mark says that a row changed, not how: what it says is read when the mark is worked off, by `sync` or a worker. Marks
of rows that a session's own commit writes to the index go with that commit.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, select

from ..errors import InvalidInput, InvalidRecord
from ..indexing.ahead import embed_ahead
from ..stores.claims import Mark, claim_marks, release_marks
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import IndexReport, Ref, ids_by_entity
from .mapping import Mapped
from .pending import Put

if TYPE_CHECKING:
    from .events import Sessions

TRACKED = "tracked:"

log = logging.getLogger("kameleon.sessions")


class Tracking:
    def __init__(self, sessions: "Sessions") -> None:
        self._sessions = sessions
        self._index = sessions.index
        self._tables = sessions.index.tables
        self._tracked: set[str] | None = None
        self._unreadable: set[Ref] = set()

    def track(self, mapped: Mapped) -> None:
        """Idempotent; what changed before is for `doctor` to find."""
        tables = list(self._tables_of(mapped))
        with self._index.transaction() as connection:
            for table, entities in tables:
                self._index.store.triggers.set(connection, table, key_columns(mapped, table), sorted(entities))
            meta = self._tables.meta
            for entity in {entity for _, entities in tables for entity in entities}:
                connection.execute(meta.delete().where(meta.c.key == TRACKED + entity))
                connection.execute(meta.insert(), {"key": TRACKED + entity, "value": "triggers"})
        self._tracked = None

    def untrack(self, mapped: Mapped) -> None:
        tables = list(self._tables_of(mapped))
        with self._index.transaction() as connection:
            for table, entities in tables:
                self._index.store.triggers.set(connection, table, [], [])
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

    def marks(self, connection: Connection, refs: Sequence[Ref]) -> list[int]:
        """The marks, so far, of tracked records that are about to be written; they are to be read from their tables,
        for raw SQL of this very transaction may have set the marks."""
        dirty = self._tables.dirty
        found: list[int] = []
        for entity, ids in ids_by_entity(refs).items():
            for part in parts(ids, IDS_A_STATEMENT):
                asked = select(dirty.c.seq).where(dirty.c.entity_name == entity, dirty.c.record_id.in_(part))
                found += connection.execute(asked).scalars()
        return found

    def forget(self, connection: Connection, marks: Sequence[int]) -> None:
        dirty = self._tables.dirty
        for part in parts(marks, IDS_A_STATEMENT):
            connection.execute(dirty.delete().where(dirty.c.seq.in_(part)))

    def catch_up(self, limit: int, worker: str, lease: timedelta, *, takes_over: bool) -> IndexReport | None:
        """Index the rows of up to `limit` marks as they stand, claimed until the lease ends; None if none is due."""
        claim = partial(self._claim, limit=limit, worker=worker, lease=lease, takes_over=takes_over)
        marks = self._index.committed(claim)
        if not marks:
            return None
        try:
            return self._index_marked([mark.ref for mark in marks], worker, marks)
        except BaseException:
            self._release(worker, marks)
            raise

    def _index_marked(self, refs: Sequence[Ref], worker: str, marks: Sequence[Mark]) -> IndexReport:
        with self._index.reading() as connection:
            contents = self._contents(connection, refs)
        puts = {ref: put for ref, put in contents.items() if put is not None}
        ahead = embed_ahead(self._index, puts, [], connection=None, indexing="sync")

        def attempt() -> IndexReport:
            with self._index.transaction() as connection:
                queue = self._sessions.queue(connection)
                for ref in contents:
                    queue.load(ref)
                return self._sessions.write_queue(connection, ahead, "sync")

        report = self._index.retried(attempt)
        self._release(worker, [mark for mark in marks if mark.ref not in contents])
        return report

    def _claim(
        self, connection: Connection, *, limit: int, worker: str, lease: timedelta, takes_over: bool
    ) -> list[Mark]:
        known = [entity for entity in self._entities(connection) if self._sessions.mappings.named(entity) is not None]
        claimed = claim_marks(
            connection,
            self._tables.dirty,
            worker,
            known,
            limit=limit + len(self._unreadable),
            now=datetime.now(UTC),
            lease=lease,
            may_skip=self._index.store.connections.can_lock_rows(),
            takes_over=takes_over,
        )
        left = [mark for mark in claimed if mark.ref in self._unreadable]
        release_marks(connection, self._tables.dirty, worker, left)
        return [mark for mark in claimed if mark.ref not in self._unreadable]

    def _release(self, worker: str, marks: Sequence[Mark]) -> None:
        if marks:
            self._index.committed(partial(release_marks, dirty=self._tables.dirty, worker=worker, marks=marks))

    def unknown(self, connection: Connection) -> list[str]:
        """Entities with marks whose classes are not imported here."""
        return [entity for entity in self._entities(connection) if self._sessions.mappings.named(entity) is None]

    def _entities(self, connection: Connection) -> list[str]:
        return sorted(connection.execute(select(self._tables.dirty.c.entity_name).distinct()).scalars())

    def _contents(self, connection: Connection, refs: Sequence[Ref]) -> dict[Ref, Put | None]:
        """The contents of marked rows. One that cannot be read keeps its mark, is logged, and is left to others."""
        try:
            return self._sessions.read(connection, refs)
        except InvalidRecord as error:
            if len(refs) > 1:
                return {found: put for ref in refs for found, put in self._contents(connection, [ref]).items()}
            self._unreadable.update(refs)
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
