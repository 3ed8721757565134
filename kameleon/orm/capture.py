"""Captures what a session changes as pending changes: its flushed objects, the rows of its statements, and the records
that depend on either. Imports `values`, `stores` and `indexing`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.orm import Mapper, Session

from ..indexing.index import Index
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import Ref
from .binds import Binds
from .changes import PendingChanges
from .commits import Commits
from .declaration import of_same_keys
from .identity import primary_key
from .mapping import Mapped
from .pending import Pending
from .registry import Mappings

Keys = Sequence[Sequence[Any]]


class Capture:
    def __init__(self, index: Index, mappings: Mappings, binds: Binds, pending: Pending, commits: Commits) -> None:
        self._index = index
        self._mappings = mappings
        self._binds = binds
        self._pending = pending
        self._commits = commits

    def is_indexed(self, mapper: Mapper[Any], assigned: frozenset[str] | None = None) -> bool:
        """Whether rows of the class, or of one that inherits it, are or belong to records; with `assigned`, whether
        setting these columns may change a content. The columns of related rows that a content is made of are not
        declared, so any of these counts."""
        for inner in of_same_keys(mapper):
            mapped = self._mappings.of(inner.class_)
            if (mapped is not None and mapped.depends_on(assigned)) or self._mappings.dependents(inner.class_):
                return True
        return False

    def begin_writing(self, session: Session, mapper: Mapper[Any]) -> None:
        """Before a statement's rows are read: SQLite refuses the write of a transaction that has read, once another has
        written."""
        self._on_connection(session, mapper, self._index.begin_writing)

    def acquire_write_lock(self, session: Session, mapper: Mapper[Any]) -> None:
        """Before a statement writes rows, as before a flush."""
        self._on_connection(session, mapper, self._index.acquire_write_lock)

    def _on_connection(self, session: Session, mapper: Mapper[Any], call: Callable[[Connection], None]) -> None:
        if (connection := self._binds.connection_to(session, mapper)) is not None:
            call(connection)

    # objects

    def before_flush(self, session: Session) -> None:
        """Capture what the flush will hide: which objects were modified, which rows they pointed to before."""
        state = self._commits.state(session)
        state.modified = {
            id(obj): obj
            for obj in session.dirty
            if (mapped := self._mappings.of(type(obj))) and mapped.is_changed(obj, session)
        }
        self._acquire_flush_lock(session, [*session.new, *state.modified.values(), *session.deleted])
        state.replacing = ExitStack()
        for mapper in {inspect(obj).mapper for obj in (*session.new, *session.dirty)}:
            if self.is_indexed(mapper):
                state.replacing.enter_context(self.replaced_rows(session, mapper))
        self._note_former_of_objects(session, [*session.dirty, *session.deleted])
        self._dependents_of_objects(session, [*session.dirty, *session.deleted])

    def _acquire_flush_lock(self, session: Session, changed: Iterable[Any]) -> None:
        """Wait for SQLite's write lock as kameleon's own writers do: SQLite's wait in the flush's first statement does
        not end where many write."""
        if not self._index.store.connections.can_lock_rows():
            for connection in {connection for _, _, connection, _ in self._own(session, changed)}:
                self._index.acquire_write_lock(connection)

    def after_flush(self, session: Session, deleted: Iterable[Any]) -> None:
        """`deleted` are the objects that the flush deleted, orphans included."""
        state = self._commits.state(session)
        state.replacing.close()
        modified, state.modified = state.modified, {}
        edited = [obj for obj in session.dirty if id(obj) in modified or self._is_changed(obj, session)]
        for obj, mapped, _, changes in self._own(session, deleted):
            changes.delete(mapped.ref(inspect(obj).identity or ()))
        for obj, mapped, connection, changes in self._own(session, [*session.new, *edited]):
            _capture_object(obj, mapped, changes)
            if mapped.paths and self._index.store.connections.can_lock_rows():
                self._pending.state(connection).linked.add(mapped.ref_of(obj))
        self._dependents_of_objects(session, [*session.new, *session.dirty])

    def _is_changed(self, obj: Any, session: Session) -> bool:
        mapped = self._mappings.of(type(obj))
        return mapped is not None and (mapped.is_changed(obj, session) or mapped.is_expired(obj))

    def _own(
        self, session: Session, objects: Iterable[Any]
    ) -> Iterator[tuple[Any, Mapped, Connection, PendingChanges]]:
        """The searchable objects whose rows are in this database, each with the connection and its changes."""
        by_class: dict[type, tuple[Mapped, Connection, PendingChanges] | None] = {}
        for obj in objects:
            if (cls := type(obj)) not in by_class:
                mapped = self._mappings.of(cls)
                by_class[cls] = None
                if mapped is not None and (connection := self._binds.connection(session, mapped)) is not None:
                    by_class[cls] = mapped, connection, self._pending.changes(connection)
            if own := by_class[cls]:
                yield obj, *own

    def _dependents_of_objects(self, session: Session, objects: Iterable[Any]) -> None:
        """Records whose content is made of these objects, too, as the database links them now."""
        keys: dict[type, list[Sequence[Any]]] = {}
        deleted = {id(obj) for obj in session.deleted}
        for obj in objects:
            if self._mappings.dependents(type(obj)) and (id(obj) in deleted or session.is_modified(obj)):
                keys.setdefault(type(obj), []).append(tuple(primary_key(obj)))
        for cls, found in keys.items():
            self._dependents(session, cls, found)

    # rows

    def rows(self, session: Session, mapper: Mapper[Any], keys: Iterable[Keys]) -> None:
        """Capture a change of the rows of these primary keys, given in parts. The entity and the content of each are
        read at the commit."""
        for part in keys:
            complete = [key for key in part if None not in key]
            for inner in of_same_keys(mapper):
                mapped = self._mappings.of(inner.class_)
                if mapped is not None and (connection := self._binds.connection(session, mapped)) is not None:
                    ids = [mapped.identity.id_of(key) for key in complete]
                    self._note_former(connection, mapped, ids)
                    self._pending.read_later(connection, mapped.entity, ids)
                self._dependents(session, inner.class_, complete)
        self._commits.write_late(session)

    def _dependents(self, session: Session, cls: type, keys: Keys) -> None:
        complete = [key for key in keys if None not in key]
        for dependent in self._mappings.dependents(cls):
            mapped = dependent.mapped
            if complete and (connection := self._binds.connection(session, mapped)) is not None:
                self._index.begin_writing(connection)
                for ids in mapped.dependent_ids(connection, dependent.path, dependent.depth, complete):
                    self._note_former(connection, mapped, ids)
                    self._pending.read_later(connection, mapped.entity, ids)

    # tenants

    def _note_former_of_objects(self, session: Session, objects: Iterable[Any]) -> None:
        if not self._index.store.settings.protected_by:
            return
        ids: dict[Mapped, list[str]] = {}
        connections: dict[Mapped, Connection] = {}
        for obj, mapped, connection, _ in self._own(session, objects):
            ids.setdefault(mapped, []).append(mapped.ref(inspect(obj).identity or ()).id)
            connections[mapped] = connection
        for mapped, found in ids.items():
            self._note_former(connections[mapped], mapped, found)

    def _note_former(self, connection: Connection, mapped: Mapped, ids: Sequence[str]) -> None:
        """Notes the tenants of rows that are to change, where policies may hide what the index has under them."""
        if not mapped.has_tenants or self._index.store.policies.acting_for(connection) is None:
            return
        changes = self._pending.changes(connection)
        for ref, content in self._pending.read_each(connection, [Ref(mapped.entity, id_) for id_ in ids], {}).items():
            if content is not None:
                changes.note_former(ref, content.tenant)

    def repeats(self, session: Session, mapper: Mapper[Any]) -> bool:
        """Whether a statement's rows are to be captured after it has run, too."""
        if self._commits.state(session).is_written:
            return True
        return any(self._mappings.dependents(inner.class_) for inner in of_same_keys(mapper))

    @contextmanager
    def replaced_rows(self, session: Session, mapper: Mapper[Any], prefixes: str = "") -> Iterator[bool]:
        """Capture the rows that what runs inside deletes beyond those that it names; yields whether there may be
        any."""
        triggers = self._index.store.triggers
        tables = [one for one in mapper.tables if isinstance(one, Table) and triggers.may_replace(one, prefixes)]
        connection = self._binds.connection_to(session, mapper) if tables else None
        if connection is None:
            yield False
            return
        with ExitStack() as stack:
            replaced = [
                stack.enter_context(triggers.replaced(connection, one, [column.name for column in one.primary_key]))
                for one in tables
            ]
            yield True
            for keys in replaced:
                self.rows(session, mapper, parts(keys(), IDS_A_STATEMENT))


def _capture_object(obj: Any, mapped: Mapped, changes: PendingChanges) -> None:
    """A new object's content is its row's. An existing row, and related ones, may have been changed by others since
    they were loaded; the former key of a row may belong to another row by now."""
    ref = mapped.ref_of(obj)
    before = inspect(obj).identity
    if before is not None:
        changes.read_later(mapped.ref(before))
    if before is not None or not mapped.is_literal or mapped.is_expired(obj):
        changes.read_later(ref)
    elif (content := mapped.content_of(obj)) is None:
        changes.delete(ref)
    else:
        changes.upsert(ref, *content)
