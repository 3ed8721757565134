"""Sets triggers on the tables of searchable classes, and indexes the rows that they mark in `kdb_dirty`, whatever wrote
them. Imports `values`, `errors`, `telemetry`, `content`, `stores` and `indexing`.

A mark states that a row changed, not how: its content is read when the mark is worked off, by `sync` or a worker. Marks
of rows that a session's own commit writes to the index are deleted by that commit.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, Table, select

from ..content import Content
from ..errors import InvalidInput, InvalidRecord
from ..indexing.ahead import embed_ahead
from ..indexing.classes import command_of
from ..indexing.index import Index
from ..stores.claims import Mark, claim_marks, release_marks
from ..stores.marking import Trigger, digest_of
from ..stores.refs import ids_by_entity
from ..telemetry import operation
from ..telemetry.measures import TAKEN, TASK, WORK
from ..values import IndexReport, Ref
from .dependencies import Dependencies
from .mapping import Mapped
from .marks import Made, Marks
from .pending import Pending
from .reflection.definition import held
from .registry import Mappings
from .unindexed import is_here

log = logging.getLogger("kameleon.sessions")


class Tracking:
    def __init__(self, index: Index, mappings: Mappings, pending: Pending, marks: Marks) -> None:
        self._index = index
        self._tables = index.tables
        self._mappings = mappings
        self._pending = pending
        self._marks = marks
        self._triggers = index.store.triggers
        self._dependencies = Dependencies(index.store.keys, index.engine.dialect)
        self._unreadable: set[Ref] = set()

    def track(self, cls: type, connection: Connection | None = None) -> None:
        """Set the triggers, where they are not as they should be; what changed before is for `doctor` to find. Raises
        InvalidInput."""
        mapped = self._mappings.searchable(cls)
        if connection is None:
            self._index.committed(partial(self._set, mapped=mapped))
            return
        with self._index.transaction(connection) as conn:
            self._set(conn, mapped)

    def untrack(self, cls: type) -> None:
        """Drop the triggers, and the marks that are left. Raises InvalidInput."""
        mapped = self._mappings.searchable(cls)
        self._index.committed(partial(self.drop, entity=mapped.entity))

    def drop(self, connection: Connection, entity: str) -> None:
        """Drop the triggers of an entity, whose class need not be here, and the marks that are left."""
        made = self._marks.made(connection).get(entity, Made())
        self._triggers.drop(connection, list(made.triggers))
        self._marks.set_untracked(connection, entity)

    def may_track(self, connection: Connection, cls: type) -> bool:
        """Whether triggers can be on all tables of a class."""
        tables = self._tables_of(self._mappings.searchable(cls))
        return not any(self._triggers.refusal(connection, table) for table in tables)

    def _set(self, connection: Connection, mapped: Mapped) -> None:
        for table in self._tables_of(mapped):
            if refusal := self._triggers.refusal(connection, table):
                command = command_of(mapped.entity, is_table=mapped.declaration.of_table is not None)
                raise InvalidInput(
                    f"{table} {refusal}, so no triggers can mark its rows. {command} indexes them when they changed"
                )
        wanted = self._wanted(connection, mapped)
        plan = plan_of(wanted)
        made = self._marks.made(connection).get(mapped.entity, Made())
        if made.plan == plan and not made.missing(self._triggers.present(connection, list(made.triggers))):
            return
        self._triggers.drop(connection, list({**made.triggers, **{one.name: () for one in wanted}}))
        for trigger in wanted:
            self._triggers.make(connection, trigger)
        present = self._triggers.present(connection, [one.name for one in wanted])
        triggers = {one.name: (one.table, present[one.name]) for one in wanted}
        self._marks.set_tracked(connection, self._entities_of(mapped), Made(plan, triggers))

    def problems(self, connection: Connection) -> dict[str, str]:
        """Why triggers are to be set again, by entity."""
        made = self._marks.made(connection)
        problems = {entity: self._problem(connection, entity, of_entity) for entity, of_entity in made.items()}
        return {entity: problem for entity, problem in problems.items() if problem}

    def _problem(self, connection: Connection, entity: str, made: Made) -> str:
        if missing := made.missing(self._triggers.present(connection, list(made.triggers))):
            return f"the triggers of {', '.join(missing)} are missing or were changed"
        mapped = self._mappings.named(entity)
        if mapped is None or not is_here(connection, mapped):
            return ""
        with suppress(InvalidInput):  # of a class that cannot be tracked any more: `track` raises it
            is_current = plan_of(self._wanted(connection, mapped)) == made.plan
            return "" if is_current else "its triggers are of an older definition"
        return ""

    def _wanted(self, connection: Connection, mapped: Mapped) -> list[Trigger]:
        return self._triggers.plan(connection, self._dependencies.markings(mapped, self._tables_of(mapped)))

    def _entities_of(self, mapped: Mapped) -> list[str]:
        """Those of its rows, its own first."""
        inner = [entity for entities in self._tables_of(mapped).values() for entity in entities]
        return list(dict.fromkeys([mapped.entity, *sorted(inner)]))

    def catch_up(
        self, limit: int, worker: str, lease: timedelta, *, takes_over: bool, upto: int | None = None
    ) -> IndexReport | None:
        """Index the rows of up to `limit` marks, claimed until the lease ends, as they are now; None if none is due."""
        claim = partial(self._claim, limit=limit, worker=worker, lease=lease, takes_over=takes_over, upto=upto)
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
                left = self._without_removed(connection, contents)
                for entity, ids in ids_by_entity(left).items():
                    self._mappings.of_entity(entity).lock(self._index.store.connections, connection, ids)
                changes = self._pending.changes(connection)
                for ref in left:
                    changes.read_later(ref)
                return self._pending.write(connection, ahead, "sync")

        report = self._index.retried(attempt)
        self._release(worker, [mark for mark in marks if mark.ref not in contents])
        return report

    def _without_removed(self, connection: Connection, refs: Iterable[Ref]) -> list[Ref]:
        """The records but those of tables that were removed since they were claimed."""
        by_entity = ids_by_entity(refs)
        of_tables = {name for name in by_entity if self._mappings.of_entity(name).declaration.of_table is not None}
        removed = of_tables - held(self._index, connection, of_tables)
        return [Ref(entity, id_) for entity, ids in by_entity.items() if entity not in removed for id_ in ids]

    def _claim(
        self,
        connection: Connection,
        *,
        limit: int,
        worker: str,
        lease: timedelta,
        takes_over: bool,
        upto: int | None = None,
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
            upto=upto,
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

    def _tables_of(self, mapped: Mapped) -> dict[Table, dict[str, Mapped]]:
        """The tables of a class and those that inherit it, each with the classes that its rows may belong to, by
        entity."""
        found: dict[Table, dict[str, Mapped]] = {}
        for mapper in mapped.owner.self_and_descendants:
            inner = self._mappings.of(mapper.class_)
            for table in mapper.tables:
                if inner is not None and isinstance(table, Table):
                    found.setdefault(table, {})[inner.entity] = self._mappings.of_entity(inner.entity)
        return found


def plan_of(triggers: Sequence[Trigger]) -> str:
    return digest_of(*(statement for trigger in triggers for statement in trigger.statements))
