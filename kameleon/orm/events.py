"""Events of attached sessions and of their connections: flushes, statements, savepoints, commits.

The queue belongs to the database's transaction, not to the session: it is kept by connection and follows the
connection's own savepoints, rollback and commit. So a session that joined an outer transaction, in whichever mode, has
its index rows in that transaction, and two sessions on one connection have one queue.

A commit goes: render and embed what is not flushed yet, holding no lock; flush; write. What comes after that (objects
of a later listener, a transaction committed outside any session) is written as it comes, or when the connection
commits.
"""

import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import ColumnElement, Connection, Engine, Table, event, inspect, true
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, Session, scoped_session, sessionmaker

from ..errors import InvalidInput, InvalidRecord, seen
from ..indexing.ahead import embed_ahead
from ..indexing.index import Index
from ..indexing.writer import Indexing, check_indexing
from ..search.syntax import parse
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import IndexReport, Ref, ids_by_entity
from . import statements
from .binds import Binds
from .columns import ClassFields
from .criteria import as_condition, with_words
from .identity import primary_key
from .mapping import Mapped, Mappings, has_table, mapper_of, of_same_keys
from .pending import DROP, LOAD, Change, Put, Queue, Slice
from .tracking import Tracking

if TYPE_CHECKING:
    from ..indexing.embedded import Ahead

INFO = "kameleon_indexing"
IDS_A_SLICE = 100  # ids that one statement changed are kept as one text from so many on
RECORDS_A_BATCH = 2_000  # contents of so many records are read, embedded and written at a time

T = TypeVar("T")


class AttachedSession(Session):
    """What `attach` makes of a session class: its `bulk_…` methods fire no event, so they are overridden."""

    kameleon: "tuple[Sessions, ...]" = ()

    def bulk_save_objects(
        self,
        objects: Iterable[object],
        return_defaults: bool = False,
        update_changed_only: bool = True,
        preserve_order: bool = True,
    ) -> None:
        options = {
            "return_defaults": return_defaults,
            "update_changed_only": update_changed_only,
            "preserve_order": preserve_order,
        }
        statements.bulk_save(self, list(objects), super().bulk_save_objects, options)

    def bulk_insert_mappings(
        self,
        mapper: Any,
        mappings: Iterable[dict[str, Any]],
        return_defaults: bool = False,
        render_nulls: bool = False,
    ) -> None:
        options = {"return_defaults": return_defaults, "render_nulls": render_nulls}
        statements.bulk_insert(self, inspect(mapper), list(mappings), super().bulk_insert_mappings, options)

    def bulk_update_mappings(self, mapper: Any, mappings: Iterable[dict[str, Any]]) -> None:
        statements.bulk_update(self, inspect(mapper), list(mappings), super().bulk_update_mappings)


class Sessions:
    """What the sessions attached to one engine change; `index` writes it."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.mappings = Mappings(index.engine.dialect)
        self.binds = Binds(index.application_engine)
        self._queues: WeakKeyDictionary[Connection, Queue] = WeakKeyDictionary()
        self._indexing: WeakKeyDictionary[Connection, Indexing] = WeakKeyDictionary()
        self._linked: WeakKeyDictionary[Connection, set[Ref]] = WeakKeyDictionary()
        self._connections: WeakKeyDictionary[Session, WeakSet[Connection]] = WeakKeyDictionary()
        self._touched: WeakKeyDictionary[Session, dict[int, Any]] = WeakKeyDictionary()
        self._replacing: WeakKeyDictionary[Session, ExitStack] = WeakKeyDictionary()
        self._written: WeakSet[Session] = WeakSet()
        self._begun_before: WeakSet[Engine] = WeakSet()
        self._listened_to: WeakSet[Engine] = WeakSet()
        self.tracking = Tracking(self)
        self._listen_to(index.application_engine)

    # attaching

    def attach(self, target: T, indexing: Indexing | None = None) -> T:
        if indexing is not None:
            check_indexing(indexing)
        asyncio: Any = sys.modules.get("sqlalchemy.ext.asyncio")
        if isinstance(target, scoped_session) or (asyncio and isinstance(target, asyncio.async_scoped_session)):
            self._check_unused(target)
            self.attach(target.session_factory, indexing)
        elif isinstance(target, sessionmaker):
            target.class_ = self._attached(target.class_, indexing)
        elif asyncio and isinstance(target, asyncio.async_sessionmaker):
            maker: Any = target
            made = self._attached(maker.kw.get("sync_session_class") or maker.class_.sync_session_class, indexing)
            maker.configure(sync_session_class=made)
        elif isinstance(target, type) and issubclass(target, Session):
            return self._attached(target, indexing)  # type: ignore[return-value]
        elif asyncio and isinstance(target, type) and issubclass(target, asyncio.AsyncSession):
            given: Any = target
            made = self._attached(given.sync_session_class, indexing)
            return type(given.__name__, (given,), {"sync_session_class": made})  # type: ignore[return-value]
        else:
            raise InvalidInput(
                "attach takes a sessionmaker, async_sessionmaker, scoped_session or a Session class, "
                f"not {target!r:.80}"
            )
        return target

    def _check_unused(self, target: Any) -> None:
        if target.registry.has() and self not in getattr(_sync(target()), "kameleon", ()):
            raise InvalidInput(
                f"this {type(target).__name__} has a session open whose changes would not be indexed: "
                "attach it before its first use, or call its .remove() first"
            )

    def _attached(self, cls: type[Session], indexing: Indexing | None) -> type[Session]:
        known: tuple[Sessions, ...] = getattr(cls, "kameleon", ())
        chosen = {**getattr(cls, "kameleon_indexing", {})}
        if indexing is not None:
            chosen[self] = indexing
        if self in known:
            cls.kameleon_indexing = chosen  # type: ignore[attr-defined]
            return cls
        bases = (cls,) if issubclass(cls, AttachedSession) else (AttachedSession, cls)
        own = {"__module__": cls.__module__, "kameleon": (*known, self), "kameleon_indexing": chosen}
        made = type(cls.__name__, bases, own)
        for name in ("after_begin", "before_flush", "after_flush", "after_flush_postexec", "before_commit"):
            event.listen(made, name, getattr(self, name))
        event.listen(made, "after_commit", self._committed)
        event.listen(made, "after_soft_rollback", self._ended)
        event.listen(made, "do_orm_execute", self.do_orm_execute)
        return made

    def _listen_to(self, engine: Engine) -> None:
        """Events of an engine reach those that its `execution_options` made, and not the other way."""
        while (inner := getattr(engine, "_proxied", None)) is not None:
            engine = inner
        if engine in self._listened_to:
            return
        for name in ("savepoint", "rollback_savepoint", "release_savepoint", "rollback", "commit"):
            event.listen(engine, name, getattr(self, f"_{name}"))
        event.listen(engine, "prepare_twophase", self._commit)
        event.listen(engine, "commit_twophase", self._commit_twophase)
        event.listen(engine, "rollback_twophase", self._rollback)
        self._listened_to.add(engine)

    # what changed

    def before_flush(self, session: Session, _context: Any, _instances: Any) -> None:
        """What the flush will hide: assigned expressions, which it reads back, and what rows pointed at before."""
        self._touched[session] = {
            id(obj): obj
            for obj in session.dirty
            if (mapped := self.mappings.of(type(obj))) and mapped.is_changed(obj, session)
        }
        self._acquire_write_lock(session, [*session.new, *self._touched[session].values(), *session.deleted])
        replacing = self._replacing[session] = ExitStack()
        for mapper in {state_of(obj).mapper for obj in (*session.new, *session.dirty)}:
            if self.is_indexed(mapper):
                replacing.enter_context(self.noting_replaced(session, mapper))
        self._note_dependents(session, [*session.dirty, *session.deleted])

    def _acquire_write_lock(self, session: Session, changed: Iterable[Any]) -> None:
        """As kameleon's own writers wait: the flush's first statement would wait as SQLite does, which is in vain where
        many write."""
        if not self.index.store.connections.can_lock_rows():
            for connection in {connection for _, _, connection, _ in self._mine(session, changed)}:
                self.index.acquire_write_lock(connection)

    def after_flush(self, session: Session, context: Any) -> None:
        self._replacing.pop(session).close()
        touched = self._touched.pop(session, {})
        gone = [state.obj() for state, (is_delete, is_listed) in context.states.items() if is_delete and not is_listed]
        edited = [obj for obj in session.dirty if id(obj) in touched or self._is_changed(obj, session)]
        for obj, mapped, _, queue in self._mine(session, gone):
            queue.drop(mapped.ref(state_of(obj).identity or ()))
        for obj, mapped, connection, queue in self._mine(session, [*session.new, *edited]):
            self._queue_object(obj, mapped, queue)
            if mapped.paths and self.index.store.connections.can_lock_rows():
                self._linked.setdefault(connection, set()).add(mapped.ref_of(obj))
        self._note_dependents(session, [*session.new, *session.dirty])

    def after_flush_postexec(self, session: Session, _context: Any) -> None:
        if session in self._written:
            self.write(session)

    def do_orm_execute(self, state: ORMExecuteState) -> Any:
        if state.is_insert or state.is_update or state.is_delete:
            return statements.execute(self, state)
        return None

    def is_indexed(self, mapper: Mapper[Any], assigned: frozenset[str] | None = None) -> bool:
        """Whether rows of the class, or of one that inherits it, are or belong to records; with `assigned`, whether
        setting these columns may change a content. Which columns of others a content is made of is not known."""
        for inner in of_same_keys(mapper):
            mapped = self.mappings.of(inner.class_)
            if (mapped is not None and mapped.depends_on(assigned)) or self.mappings.dependents(inner.class_):
                return True
        return False

    def begin_writing(self, session: Session, mapper: Mapper[Any]) -> None:
        """Before a statement's rows are read: on SQLite what reads first may not write when another wrote meanwhile."""
        if (connection := self.binds.connection_to(session, mapper)) is not None:
            self.index.begin_writing(connection)

    def acquire_write_lock(self, session: Session, mapper: Mapper[Any]) -> None:
        """Before a statement writes rows, as before a flush."""
        if (connection := self.binds.connection_to(session, mapper)) is not None:
            self.index.acquire_write_lock(connection)

    @contextmanager
    def noting_replaced(self, session: Session, mapper: Mapper[Any], prefixes: str = "") -> Iterator[bool]:
        """Notes the rows that what runs inside takes away beyond those that it names; whether there may be any."""
        store = self.index.store
        tables = [one for one in mapper.tables if isinstance(one, Table) and store.triggers.may_replace(one, prefixes)]
        connection = self.binds.connection_to(session, mapper) if tables else None
        if connection is None:
            yield False
            return
        with ExitStack() as stack:
            key = [[column.name for column in one.primary_key] for one in tables]
            gone = [
                stack.enter_context(store.triggers.replaced(connection, one, names))
                for one, names in zip(tables, key, strict=True)
            ]
            yield True
            for keys in gone:
                self.note_rows(session, mapper, parts(keys(), IDS_A_STATEMENT))

    def must_follow(self, session: Session, mapper: Mapper[Any]) -> bool:
        """Whether a statement's rows are to be noted once more, when it has run."""
        return session in self._written or any(self.mappings.dependents(inner.class_) for inner in of_same_keys(mapper))

    def note_rows(self, session: Session, mapper: Mapper[Any], keys: Iterable[Sequence[Sequence[Any]]]) -> None:
        """Rows of these primary keys, in parts, change: which entity each is of, and its content, is read at the
        commit."""
        for part in keys:
            whole = [key for key in part if None not in key]
            for inner in of_same_keys(mapper):
                mapped = self.mappings.of(inner.class_)
                if mapped is not None and (connection := self.binds.connection(session, mapped)) is not None:
                    load_all(self.queue(connection), mapped.entity, [mapped.identity.id_of(key) for key in whole])
                self.note_dependents(session, inner.class_, whole)
        if session in self._written:
            self.write(session)

    def _is_changed(self, obj: Any, session: Session) -> bool:
        mapped = self.mappings.of(type(obj))
        return mapped is not None and (mapped.is_changed(obj, session) or mapped.is_expired(obj))

    def _queue_object(self, obj: Any, mapped: Mapped, queue: Queue) -> None:
        """A new object says what its row does. Another's row, and what a row depends on, may have been changed by
        others since it was loaded; a row whose key has moved on may have left it to another."""
        ref = mapped.ref_of(obj)
        before = state_of(obj).identity
        if before is not None:
            queue.load(mapped.ref(before))
        if before is not None or not mapped.is_literal or mapped.is_expired(obj):
            queue.load(ref)
        elif (put := mapped.said(obj)) is None:
            queue.drop(ref)
        else:
            queue.put(ref, *put)

    def _mine(self, session: Session, objects: Iterable[Any]) -> Iterator[tuple[Any, Mapped, Connection, Queue]]:
        """The searchable ones whose database is this engine's, each with the connection of its rows and that one's
        queue."""
        homes: dict[type, tuple[Mapped, Connection, Queue] | None] = {}
        for obj in objects:
            cls = type(obj)
            if cls not in homes:
                mapped = self.mappings.of(cls)
                homes[cls] = None
                if mapped is not None and (connection := self.binds.connection(session, mapped)) is not None:
                    homes[cls] = mapped, connection, self.queue(connection)
            if home := homes[cls]:
                yield obj, *home

    def _note_dependents(self, session: Session, objects: Iterable[Any]) -> None:
        """Records whose content is made of these objects, too, as the database links them now."""
        keys: dict[type, list[tuple[Any, ...]]] = {}
        deleted = {id(obj) for obj in session.deleted}
        for obj in objects:
            if self.mappings.dependents(type(obj)) and (id(obj) in deleted or session.is_modified(obj)):
                keys.setdefault(type(obj), []).append(tuple(primary_key(obj)))
        for cls, found in keys.items():
            self.note_dependents(session, cls, found)

    def note_dependents(self, session: Session, cls: type, keys: Sequence[Sequence[Any]]) -> None:
        whole = [key for key in keys if None not in key]
        for dependent in self.mappings.dependents(cls):
            mapped = dependent.mapped
            if whole and (connection := self.binds.connection(session, mapped)) is not None:
                self.index.begin_writing(connection)
                queue = self.queue(connection)
                for ids in mapped.owners(connection, dependent.path, dependent.depth, whole):
                    load_all(queue, mapped.entity, ids)

    # committing

    def before_commit(self, session: Session) -> None:
        """Also fired when a savepoint is released: that is not the end."""
        if session.in_nested_transaction():
            return
        self._written.discard(session)
        ahead = self._embed_ahead(session)
        session.flush()
        self.write(session, ahead)
        self._written.add(session)

    def _committed(self, session: Session) -> None:
        self._ended(session)
        connections = list(self._connections.get(session, ()))
        if connections and not any(one.in_transaction() or one.dialect.is_async for one in connections):
            self.index.maintain()

    def _ended(self, session: Session, *_: Any) -> None:
        self._written.discard(session)

    def _embed_ahead(self, session: Session) -> "Ahead | None":
        """What the pending objects say, embedded before they are flushed."""
        indexing = self._indexing_of(session)
        if self.index.services.provider is None:
            return None
        connection = self._begun(session)
        known: dict[Ref, Put] = {}
        if connection is not None and (queue := self._queues.get(connection)):
            changes = queue.pending()
            known.update((ref, put) for ref, put in changes.items() if isinstance(put, Put))
            if len(wanted := loads(changes)) <= RECORDS_A_BATCH and not queue.slices():
                known.update((ref, put) for ref, put in self.read(connection, wanted).items() if put is not None)
        with session.no_autoflush:
            known.update(self._pending(session, session.dirty, is_new=False))
            new = [put.content for _, put in self._pending(session, session.new, is_new=True)]
        if not known and not new:
            return None
        bind = connection or self._bind_of(session)
        joined = bind if isinstance(bind, Connection) and bind.in_transaction() else None
        return embed_ahead(self.index, known, new, connection=joined, indexing=indexing)

    def _pending(self, session: Session, objects: Iterable[Any], *, is_new: bool) -> Iterator[tuple[Ref, Put]]:
        """What objects say that were not flushed yet, where that can be told. New ones have no key: their Ref is
        empty."""
        homes: dict[type, Mapped | None] = {}
        for obj in objects:
            cls = type(obj)
            if cls not in homes:
                mapped = self.mappings.of(cls)
                homes[cls] = mapped if mapped and self.binds.bind(session, mapped) is not None else None
            home = homes[cls]
            if home is None or not (home.is_complete(obj) if is_new else home.is_told(obj, session)):
                continue
            try:
                put = home.said(obj)
            except InvalidRecord as error:
                if isinstance(error.__cause__, InvalidRecord):
                    raise
                continue  # it may be able to, once the flush has filled in defaults
            if put is not None:
                yield Ref("", "") if is_new else home.ref_of(obj), put

    def _bind_of(self, session: Session) -> Engine | Connection | None:
        for obj in [*session.new, *session.dirty]:
            if (mapped := self.mappings.of(type(obj))) and (bind := self.binds.bind(session, mapped)) is not None:
                return bind
        return None

    def write(self, session: Session, ahead: "Ahead | None" = None) -> None:
        for connection in list(self._connections.get(session, ())):
            self.write_queue(connection, ahead, self._indexing_of(session))

    def write_queue(
        self, connection: Connection, ahead: "Ahead | None" = None, indexing: Indexing | None = None
    ) -> IndexReport:
        """Write what is pending; records that are to be read from their tables, RECORDS_A_BATCH at a time."""
        if connection not in self._queues:
            return IndexReport()
        queue = self.queue(connection)
        report = IndexReport()
        indexing = indexing or self.index.indexing
        waiting = Budget(self.index.budget_s - (ahead.seconds if ahead else 0))
        with self.index.joining(connection):
            for changes, slices in batches(queue, RECORDS_A_BATCH):
                report += self._write_batch(connection, changes, ahead, indexing, waiting)
                queue.settle(changes, slices)
        return report

    def _write_batch(
        self,
        connection: Connection,
        changes: Mapping[Ref, Change],
        ahead: "Ahead | None",
        indexing: Indexing,
        waiting: "Budget",
    ) -> IndexReport:
        self._hold(connection, changes)
        tracked = self.tracking.tracked(connection)
        marks = self.tracking.marks(connection, [ref for ref in changes if ref.entity in tracked])
        read = self.read(connection, [ref for ref in changes if changes[ref] is LOAD or ref.entity in tracked])
        known = {**changes, **{ref: put or DROP for ref, put in read.items()}}
        puts = {ref: put for ref, put in known.items() if isinstance(put, Put)}
        drops = [ref for ref in known if ref not in puts]
        with waiting:
            report = self.index.write_changes(
                connection, puts, drops, ahead=ahead, indexing=indexing, budget_s=waiting.left_s
            )
        self.tracking.forget(connection, marks)
        return report

    def _hold(self, connection: Connection, refs: Iterable[Ref]) -> None:
        """What flushed objects depend on, then the index's rows: who changes the former waits and then finds the
        latter. Always in this order, for who waits for an index row already has what it changed."""
        if not self.index.store.connections.can_lock_rows():
            return
        for entity, ids in ids_by_entity(sorted(self._linked.pop(connection, ()))).items():
            self.mappings.of_entity(entity).hold_links(connection, ids)
        self.index.hold(connection, refs)

    def read(self, connection: Connection, refs: Iterable[Ref]) -> dict[Ref, Put | None]:
        """What the rows of records say now, an entity at a time; None for what is to leave the index."""
        return {
            Ref(entity, id_): put
            for entity, ids in ids_by_entity(refs).items()
            for id_, put in self.mappings.of_entity(entity).load(connection, ids)
        }

    def _indexing_of(self, session: Session) -> Indexing:
        of_class = getattr(session, "kameleon_indexing", {}).get(self)
        return check_indexing(session.info.get(INFO) or of_class or self.index.indexing)

    # asking

    def searchable(self, cls: type) -> Mapped:
        """Raises InvalidInput for a class that is not searchable."""
        mapped = self.mappings.of(cls) if isinstance(cls, type) else None
        if mapped is None:
            known = ", ".join(self.mappings.names()) or "none"
            raise InvalidInput(
                f"{seen(getattr(cls, '__name__', cls), 80)} is not searchable. Searchable: {known}. "
                "Declare it: @searchable(fields=[...])"
            )
        return mapped

    def scope(
        self, asked: Sequence[object], where: object
    ) -> tuple[list[object], tuple[Mapped, type, ColumnElement[bool]] | None]:
        """The entities of names and classes, and, where a class or a condition narrows them, which class and how."""
        names: list[object] = []
        narrow: list[tuple[Mapped, type]] = []
        for one in asked:
            if not isinstance(one, type):
                names.append(one)
                continue
            mapped = self.mappings.of(one)
            if mapped is None:
                names.append(with_table(one).__name__)
                continue
            inner = (self.mappings.of(m.class_) for m in of_same_keys(mapped.mapper))
            names += dict.fromkeys(m.entity for m in inner if m is not None)
            if where is not None or mapped.mapper is not mapped.owner:
                narrow.append((mapped, one))
        if not narrow and (where is None or isinstance(where, Mapping)):
            return names, None
        if len(asked) != 1 or not narrow:
            raise InvalidInput(
                "a condition on a mapped class, or a class that shares another's entity, is searched alone: "
                "search(query, entity=Article, where=Article.status == 'open')"
            )
        ((mapped, cls),) = narrow
        return names, (mapped, cls, true() if where is None else as_condition(where, cls))

    def class_fields(self, asked: Sequence[object]) -> ClassFields | None:
        """The columns of the class that is searched, where it is one alone."""
        mapped = self.mappings.of(asked[0]) if len(asked) == 1 and isinstance(asked[0], type) else None
        return ClassFields(mapped, asked[0], self.index.store.keys.id_text) if mapped else None  # type: ignore[arg-type]

    def with_field_words(self, query: str, asked: Sequence[object], where: Any, fields: Collection[str]) -> Any:
        """`where`, and the conditions on columns that the query has (`field:word`)."""
        said = parse(query, fields).fields if fields else ()
        return with_words(where, asked[0], said) if said else where

    # connections

    def queue(self, connection: Connection) -> Queue:
        """The connection's, its levels those of the savepoints that are open."""
        if (queue := self._queues.get(connection)) is None:
            queue = self._queues[connection] = Queue()
        queue.bind(connection.get_nested_transaction())
        return queue

    def queue_of(self, session: Session | None) -> Queue | None:
        """What the session's transaction has to do to the index; None for a session that is not attached."""
        given = unscoped(session)
        is_attached = self in getattr(given, "kameleon", ())
        return self.queue(self.binds.own_connection(given)) if is_attached else None

    def connection_of(self, session: Session, async_name: str) -> Connection:
        """A session's own connection to this database. Raises InvalidInput."""
        given = unscoped(session)
        if hasattr(given, "sync_session"):
            raise InvalidInput(f"an AsyncSession is for coroutines: await {async_name}(..., session=session)")
        if not isinstance(given, Session):
            raise InvalidInput(f"session= is a SQLAlchemy Session, not {given!r:.80}")
        return self.binds.own_connection(given)

    async def begun(self, session: Any) -> Session:
        """The session beneath an AsyncSession, its transaction begun. Raises InvalidInput."""
        given = unscoped(session)
        if not hasattr(given, "sync_session"):
            raise InvalidInput(
                f"session= is an AsyncSession here, not {given!r:.80}. With a Session no await is needed"
            )
        await given.run_sync(self.binds.own_connection)
        inner: Session = given.sync_session
        return inner

    def after_begin(self, session: Session, _transaction: Any, connection: Connection) -> None:
        if not self.binds.serves(connection.engine):
            return
        if connection.engine not in self._begun_before:
            self._begun_before.add(connection.engine)
            self._listen_to(connection.engine)
            self.index.services.notices.report("savepoints", self.index.store.connections.savepoint_problem(connection))
        self._connections.setdefault(session, WeakSet()).add(connection)
        self._indexing[connection] = self._indexing_of(session)

    def _begun(self, session: Session) -> Connection | None:
        """The session's connection to this database, if it has begun a transaction there."""
        begun = next((c for c in self._connections.get(session, ()) if c.in_transaction()), None)
        return None if begun is None else self.binds.checked(begun)

    def _savepoint(self, connection: Connection, _name: str | None) -> None:
        if connection in self._queues:
            self.queue(connection).mark()

    def _rollback_savepoint(self, connection: Connection, _name: str, _context: Any) -> None:
        if connection in self._queues:
            self.queue(connection).cut(connection.get_nested_transaction())

    def _release_savepoint(self, connection: Connection, _name: str, _context: Any) -> None:
        if connection in self._queues:
            self.queue(connection).release(connection.get_nested_transaction())

    def _rollback(self, connection: Connection, *_: Any) -> None:
        self._queues.pop(connection, None)
        self._linked.pop(connection, None)

    def _commit(self, connection: Connection, *_: Any) -> None:
        """What no session's commit has written. SQLAlchemy takes a commit that raises for done with: it would give the
        connection back to the pool inside the transaction."""
        try:
            self.write_queue(connection, indexing=self._indexing.get(connection))
        except BaseException:
            connection.dialect.do_rollback(connection.connection)
            raise
        finally:
            self._queues.pop(connection, None)

    def _commit_twophase(self, connection: Connection, _xid: Any, is_prepared: bool) -> None:
        if not is_prepared:
            self._commit(connection)


def loads(changes: Mapping[Ref, Change]) -> list[Ref]:
    return [ref for ref, change in changes.items() if change is LOAD]


def with_table(cls: type) -> type:
    """Raises InvalidInput for an abstract concrete base."""
    mapper = mapper_of(cls)
    if mapper is not None and not has_table(mapper):
        own = ", ".join(inner.class_.__name__ for inner in mapper.self_and_descendants if has_table(inner))
        raise InvalidInput(f"{cls.__name__} has no table of its own: search entities=[{own}]")
    return cls


def load_all(queue: Queue, entity: str, ids: Sequence[str]) -> None:
    if len(ids) >= IDS_A_SLICE:
        queue.load_slice(entity, ids)
        return
    for id_ in ids:
        queue.load(Ref(entity, id_))


def batches(queue: Queue, size: int) -> Iterator[tuple[dict[Ref, Change], list[Slice]]]:
    """What is pending, and the slices that are part of it. No more than `size` records are to be read in one batch,
    unless a slice has more."""
    pending = queue.pending()
    changes: dict[Ref, Change] = {ref: change for ref, change in pending.items() if change is not LOAD}
    slices: list[Slice] = []
    read = 0
    for made, refs in _to_read(queue, loads(pending), size):
        if read and read + len(refs) > size:
            yield changes, slices
            changes, slices, read = {}, [], 0
        changes |= dict.fromkeys(refs, LOAD)
        slices += made
        read += len(refs)
    if changes or slices:
        yield changes, slices


def _to_read(queue: Queue, single: Sequence[Ref], size: int) -> Iterator[tuple[list[Slice], Sequence[Ref]]]:
    yield from (([], part) for part in parts(single, size))
    yield from (([made], queue.refs_of(made)) for made in queue.slices())


class Budget:
    """How long the batches of one commit may wait for a provider, altogether: entered while one does."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.left_s -= time.monotonic() - self._began


def unscoped(session: Any) -> Any:
    """The session that a scoped_session has here, any other as it is."""
    return session() if hasattr(session, "registry") else session


def _sync(session: Any) -> Session:
    """What is beneath an AsyncSession, any other as it is."""
    found: Session = getattr(session, "sync_session", session)
    return found


def state_of(obj: Any) -> InstanceState[Any]:
    state: InstanceState[Any] = inspect(obj)
    return state
