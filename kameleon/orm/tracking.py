"""Sets triggers on the tables of searchable classes, and indexes the rows that they mark in `kdb_dirty`, whatever wrote
them. Imports `values`, `errors`, `telemetry`, `content`, `stores` and `indexing`.

A mark states that a row changed, not how: its content is read when the mark is worked off, by `sync` or a worker. Marks
of rows that a session's own commit writes to the index are deleted by that commit.
"""

import logging
from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Table, select

from ..content import Content
from ..errors import InvalidInput, InvalidRecord
from ..indexing.ahead import embed_ahead
from ..indexing.index import Index
from ..stores.claims import Mark, claim_marks, release_marks
from ..stores.refs import ids_by_entity
from ..telemetry import operation
from ..telemetry.measures import TAKEN, TASK, WORK
from ..values import IndexReport, Ref
from .mapping import Mapped
from .marks import Marks
from .pending import Pending
from .registry import Mappings

log = logging.getLogger("kameleon.sessions")


class Tracking:
    def __init__(self, index: Index, mappings: Mappings, pending: Pending, marks: Marks) -> None:
        self._index = index
        self._tables = index.tables
        self._mappings = mappings
        self._pending = pending
        self._marks = marks
        self._unreadable: set[Ref] = set()

    def track(self, cls: type, connection: Connection | None = None) -> None:
        """Set the triggers; what changed before is for `doctor` to find. Raises InvalidInput."""
        self._set_triggers(self._mappings.searchable(cls), connection, is_tracked=True)

    def untrack(self, cls: type) -> None:
        """Drop the triggers, and the marks that are left. Raises InvalidInput."""
        self._set_triggers(self._mappings.searchable(cls), is_tracked=False)

    def _set_triggers(self, mapped: Mapped, connection: Connection | None = None, *, is_tracked: bool) -> None:
        tables = self._tables_of(mapped)
        with self._index.transaction(connection) as connection:
            for table, entities in tables.items():
                key = key_columns(mapped, table) if is_tracked else []
                tenant = self._tenant_part(table, entities)
                names = sorted(entities) if is_tracked else []
                self._index.store.triggers.set(connection, table, key, names, tenant)
            for entity in set[str]().union(*tables.values()):
                self._marks.set_tracked(connection, entity, is_tracked=is_tracked)
        self._marks.forget_tracked()

    def _tenant_part(self, table: Table, entities: Set[str]) -> tuple[Any, str] | None:
        """The column of the table that is the tenant of its rows, of whichever of the entities they are."""
        dialect = self._index.engine.dialect
        found = {self._mappings.of_entity(entity).tenant_part(table, dialect) for entity in entities}
        return found.pop() if len(found) == 1 else None

    def catch_up(self, limit: int, worker: str, lease: timedelta, *, takes_over: bool) -> IndexReport | None:
        """Index the rows of up to `limit` marks, claimed until the lease ends, as they are now; None if none is due."""
        claim = partial(self._claim, limit=limit, worker=worker, lease=lease, takes_over=takes_over)
        marks = self._index.committed(claim)
        if not marks:
            return None
        try:
            with operation(WORK, attributes={TASK: "marks", TAKEN: len(marks)}):
                return self._index_marked([mark.ref for mark in marks], worker, marks)
        except BaseException:  # whatever ends the work, the marks are not to wait for the lease
            self._release(worker, marks)
            raise

    def _index_marked(self, refs: Sequence[Ref], worker: str, marks: Sequence[Mark]) -> IndexReport:
        with self._index.reading() as connection:
            contents = self._contents(connection, refs)
        texts = {ref: content for ref, content in contents.items() if content is not None}
        unique = self._mappings.tenanted({ref.entity for ref in texts})
        ahead = embed_ahead(self._index, texts, [], connection=None, indexing="sync", unique=unique)

        def attempt() -> IndexReport:
            with self._index.transaction() as connection:
                for entity, ids in ids_by_entity(contents).items():
                    self._mappings.of_entity(entity).lock(self._index.store.connections, connection, ids)
                changes = self._pending.changes(connection)
                for ref in contents:
                    changes.read_later(ref)
                return self._pending.write(connection, ahead, "sync")

        report = self._index.retried(attempt)
        self._release(worker, [mark for mark in marks if mark.ref not in contents])
        return report

    def _claim(
        self, connection: Connection, *, limit: int, worker: str, lease: timedelta, takes_over: bool
    ) -> list[Mark]:
        entities = [entity for entity in self._entities(connection) if self._mappings.named(entity) is not None]
        claimed = claim_marks(
            connection,
            self._tables.dirty,
            worker,
            entities,
            limit=limit + len(self._unreadable),
            now=datetime.now(UTC),
            lease=lease,
            may_skip=self._index.store.connections.can_lock_rows(),
            takes_over=takes_over,
        )
        skipped = [mark for mark in claimed if mark.ref in self._unreadable]
        release_marks(connection, self._tables.dirty, worker, skipped)
        return [mark for mark in claimed if mark.ref not in self._unreadable]

    def _release(self, worker: str, marks: Sequence[Mark]) -> None:
        if marks:
            self._index.committed(partial(release_marks, dirty=self._tables.dirty, worker=worker, marks=marks))

    def unknown(self, connection: Connection) -> list[str]:
        """Entities with marks whose classes are not imported here."""
        return [entity for entity in self._entities(connection) if self._mappings.named(entity) is None]

    def _entities(self, connection: Connection) -> list[str]:
        return sorted(connection.execute(select(self._tables.dirty.c.entity_name).distinct()).scalars())

    def _contents(self, connection: Connection, refs: Sequence[Ref]) -> dict[Ref, Content | None]:
        """The contents of marked rows. A row whose content cannot be made keeps its mark, and is logged and skipped by
        this process."""
        failed: dict[Ref, InvalidRecord] = {}
        contents = self._pending.read_each(connection, refs, failed)
        self._unreadable.update(failed)
        for error in failed.values():
            log.warning("catch_up: %s", error)
        return contents

    def _tables_of(self, mapped: Mapped) -> dict[Table, set[str]]:
        """The tables of a class and those that inherit it, each with the entities that its rows may belong to."""
        found: dict[Table, set[str]] = {}
        for mapper in mapped.owner.self_and_descendants:
            inner = self._mappings.of(mapper.class_)
            for table in mapper.tables:
                if inner is not None and isinstance(table, Table):
                    found.setdefault(table, set()).add(inner.entity)
        return found


def key_columns(mapped: Mapped, table: Table) -> list[tuple[Any, str]]:
    """A table's own primary key columns, with the kinds of the class's. Raises InvalidInput."""
    columns = list(table.primary_key.columns)
    kinds = [column.kind for column in mapped.identity.columns]
    if len(columns) != len(kinds):
        raise InvalidInput(f"{table} cannot be tracked: it has no primary key that names its {mapped.entity}")
    return list(zip(columns, kinds, strict=True))
