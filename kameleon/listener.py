"""Hears sessions flush, execute and commit, and the transactions of their connections; the only room that listens.

The queue belongs to the database's transaction, not to the session: it is kept by connection and follows the
connection's own savepoints, rollback and commit. So a session that joined an outer transaction, in whichever mode, has
its index rows in that transaction, and two sessions on one connection have one queue.

A commit goes: render and embed what is not flushed yet, holding no lock; flush; write. What comes after that (objects
of a later listener, a transaction committed outside any session) is written as it comes, or when the connection
commits.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import ColumnElement, Connection, Engine, event, inspect, true
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, Session, scoped_session, sessionmaker

from . import statements
from .errors import InvalidInput
from .mapping import Mapped, Mappings
from .queue import LOAD, Put, Queue
from .search.criteria import as_condition, schema_map
from .search.writing import Indexing, check_indexing
from .tracking import Tracking
from .values import IndexReport, Ref

if TYPE_CHECKING:
    from .search.engine import SearchEngine
    from .search.writing import Ahead

INFO = "kameleon_indexing"

T = TypeVar("T")


class AttachedSession(Session):
    """What `attach` makes of a session class: its `bulk_…` methods fire no event, so they are heard here."""

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
    """One engine's ear. `search` writes what is heard."""

    def __init__(self, search: "SearchEngine") -> None:
        self.search = search
        self.mappings = Mappings(search.engine.dialect)
        self._queues: WeakKeyDictionary[Connection, Queue] = WeakKeyDictionary()
        self._indexing: WeakKeyDictionary[Connection, Indexing] = WeakKeyDictionary()
        self._connections: WeakKeyDictionary[Session, WeakSet[Connection]] = WeakKeyDictionary()
        self._touched: WeakKeyDictionary[Session, dict[int, Any]] = WeakKeyDictionary()
        self._written: WeakSet[Session] = WeakSet()
        self._begun_before: WeakSet[Engine] = WeakSet()
        self._engines: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()
        self._heard: WeakSet[Engine] = WeakSet()
        self.tracking = Tracking(self)
        self._listen_to(search.engine)

    # attaching

    def attach(self, target: T, indexing: Indexing | None = None) -> T:
        if indexing is not None:
            check_indexing(indexing)
        if isinstance(target, scoped_session) or type(target).__name__ == "async_scoped_session":
            self._check_unused(target)
            self.attach(target.session_factory, indexing)  # type: ignore[attr-defined]
        elif isinstance(target, sessionmaker):
            target.class_ = self._attached(target.class_, indexing)
        elif type(target).__name__ == "async_sessionmaker":
            maker: Any = target
            made = self._attached(maker.kw.get("sync_session_class") or maker.class_.sync_session_class, indexing)
            maker.configure(sync_session_class=made)
        elif isinstance(target, type) and issubclass(target, Session):
            return self._attached(target, indexing)  # type: ignore[return-value]
        else:
            raise InvalidInput(
                "attach takes a sessionmaker, async_sessionmaker, scoped_session or a Session class, "
                f"not {target!r:.80}"
            )
        return target

    def _check_unused(self, target: Any) -> None:
        if target.registry.has() and self not in getattr(_sync(target()), "kameleon", ()):
            raise InvalidInput(
                f"this {type(target).__name__} has a session open that would not be heard: "
                "attach it before its first use, or call its .remove() first"
            )

    def _attached(self, cls: type[Session], indexing: Indexing | None) -> type[Session]:
        known: tuple[Sessions, ...] = getattr(cls, "kameleon", ())
        if self in known:
            return cls
        bases = (cls,) if issubclass(cls, AttachedSession) else (AttachedSession, cls)
        made = type(cls.__name__, bases, {"__module__": cls.__module__, "kameleon": (*known, self)})
        if indexing is not None:
            made.kameleon_indexing = indexing  # type: ignore[attr-defined]
        for name in ("after_begin", "before_flush", "after_flush", "after_flush_postexec", "before_commit"):
            event.listen(made, name, getattr(self, name))
        for name in ("after_commit", "after_soft_rollback"):
            event.listen(made, name, self._ended)
        event.listen(made, "do_orm_execute", self.do_orm_execute)
        return made

    def _listen_to(self, engine: Engine) -> None:
        """Events of an engine reach those that its `execution_options` made, and not the other way."""
        while (inner := getattr(engine, "_proxied", None)) is not None:
            engine = inner
        if engine in self._heard:
            return
        for name in ("savepoint", "rollback_savepoint", "release_savepoint", "rollback", "commit"):
            event.listen(engine, name, getattr(self, f"_{name}"))
        event.listen(engine, "prepare_twophase", self._commit)
        event.listen(engine, "rollback_twophase", self._rollback)
        self._heard.add(engine)

    # what changed

    def before_flush(self, session: Session, _context: Any, _instances: Any) -> None:
        """What the flush will hide: assigned expressions, which it reads back, and what rows pointed at before."""
        self._touched[session] = {
            id(obj): obj
            for obj in session.dirty
            if (mapped := self.mappings.of(type(obj))) and mapped.is_changed(obj, session)
        }
        self._hear_dependents(session, [*session.dirty, *session.deleted])

    def after_flush(self, session: Session, _context: Any) -> None:
        touched = self._touched.pop(session, {})
        gone, changed = list(session.deleted), list(session.new)
        changed += [obj for obj in session.dirty if id(obj) in touched or self._is_changed(obj, session)]
        for obj, mapped, queue in self._mine(session, gone):
            queue.drop(mapped.ref(state_of(obj).identity or ()))
        for obj, mapped, queue in self._mine(session, changed):
            self._queue_object(obj, mapped, queue)
        self._hear_dependents(session, [*session.new, *session.dirty])

    def after_flush_postexec(self, session: Session, _context: Any) -> None:
        if session in self._written:
            self.write(session)

    def do_orm_execute(self, state: ORMExecuteState) -> Any:
        if state.is_insert or state.is_update or state.is_delete:
            return statements.execute(self, state)
        return None

    def is_heard(self, mapper: Mapper[Any]) -> bool:
        """Whether rows of the class, or of one that inherits it, are or belong to records."""
        classes = [inner.class_ for inner in mapper.self_and_descendants]
        return any(self.mappings.of(cls) is not None or self.mappings.dependents(cls) for cls in classes)

    def take_turn(self, session: Session, mapper: Mapper[Any]) -> None:
        """Before a statement's rows are read: on SQLite what reads first may not write when another wrote meanwhile."""
        bind = session.get_bind(mapper)
        if self.serves(bind.engine):
            self.search.take_turn(session.connection(bind_arguments={"mapper": mapper}))

    def must_follow(self, session: Session, mapper: Mapper[Any]) -> bool:
        """Whether a statement's rows are to be heard of once more, when it has run."""
        return session in self._written or any(
            self.mappings.dependents(inner.class_) for inner in mapper.self_and_descendants
        )

    def hear_rows(self, session: Session, mapper: Mapper[Any], keys: Sequence[Sequence[Any]]) -> None:
        """Rows of these primary keys change: which entity each is of, and what it says, is read at the commit."""
        whole = [key for key in keys if None not in key]
        for inner in mapper.self_and_descendants:
            mapped = self.mappings.of(inner.class_)
            if mapped is not None and (connection := self.connection(session, mapped)) is not None:
                queue = self.queue(connection)
                for key in whole:
                    queue.load(mapped.ref(key))
            self.hear_dependents(session, inner.class_, whole)
        if session in self._written:
            self.write(session)

    def _is_changed(self, obj: Any, session: Session) -> bool:
        mapped = self.mappings.of(type(obj))
        return mapped is not None and mapped.is_changed(obj, session)

    def _queue_object(self, obj: Any, mapped: Mapped, queue: Queue) -> None:
        """A new object says what its row does. Another's row may have been changed by others since it was loaded."""
        ref = mapped.ref_of(obj)
        before = state_of(obj).identity
        if before is not None and (old := mapped.ref(before)) != ref:
            queue.drop(old)
        if before is not None or mapped.is_expired(obj):
            queue.load(ref)
        elif (put := mapped.said(obj)) is None:
            queue.drop(ref)
        else:
            queue.put(ref, *put)

    def _mine(self, session: Session, objects: Iterable[Any]) -> Iterator[tuple[Any, Mapped, Queue]]:
        """The searchable ones whose database is this engine's, each with the queue of its connection."""
        homes: dict[type, tuple[Mapped, Queue] | None] = {}
        for obj in objects:
            cls = type(obj)
            if cls not in homes:
                mapped = self.mappings.of(cls)
                homes[cls] = None
                if mapped is not None and (connection := self.connection(session, mapped)) is not None:
                    homes[cls] = mapped, self.queue(connection)
            if home := homes[cls]:
                yield obj, *home

    def _hear_dependents(self, session: Session, objects: Iterable[Any]) -> None:
        """Records whose content is made of these objects, too, as the database links them now."""
        keys: dict[type, list[tuple[Any, ...]]] = {}
        for obj in objects:
            if self.mappings.dependents(type(obj)) and (session.is_modified(obj) or obj in session.deleted):
                keys.setdefault(type(obj), []).append(tuple(key_of(obj)))
        for cls, found in keys.items():
            self.hear_dependents(session, cls, found)

    def hear_dependents(self, session: Session, cls: type, keys: Sequence[Sequence[Any]]) -> None:
        whole = [key for key in keys if None not in key]
        for dependent in self.mappings.dependents(cls):
            mapped = dependent.mapped
            if whole and (connection := self.connection(session, mapped)) is not None:
                self.search.take_turn(connection)
                queue = self.queue(connection)
                for ref in mapped.owners(connection, dependent.path, dependent.depth, whole):
                    queue.load(ref)

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

    def _ended(self, session: Session, *_: Any) -> None:
        self._written.discard(session)

    def _embed_ahead(self, session: Session) -> "Ahead | None":
        """What the pending objects say, embedded before they are flushed."""
        self._indexing_of(session)
        connection = self._begun(session)
        known: dict[Ref, Put] = {}
        if connection is not None and (queue := self._queues.get(connection)):
            self._load(connection, queue)
            known.update((ref, put) for ref, put in queue.pending().items() if isinstance(put, Put))
        new: list[str] = []
        bind: Engine | Connection | None = connection
        for obj, mapped in self._served(session, session.new):
            if mapped.is_complete(obj) and (put := mapped.said(obj)):
                bind = bind or session.get_bind(mapped.mapper)
                new.append(put.content)
        for obj, mapped in self._served(session, session.dirty):
            if mapped.is_changed(obj, session) and not mapped.is_expired(obj) and (put := mapped.said(obj)):
                bind = bind or session.get_bind(mapped.mapper)
                known[mapped.ref_of(obj)] = put
        if bind is None or not (known or new):
            return None
        joined = bind if isinstance(bind, Connection) and bind.in_transaction() else None
        return self.search.embed_ahead(
            known, new, connection=joined, indexing=self._indexing_of(session), is_async=bind.dialect.is_async
        )

    def _served(self, session: Session, objects: Iterable[Any]) -> Iterator[tuple[Any, Mapped]]:
        homes: dict[type, Mapped | None] = {}
        for obj in objects:
            cls = type(obj)
            if cls not in homes:
                mapped = self.mappings.of(cls)
                homes[cls] = mapped if mapped and self.is_mine(session, mapped) else None
            if home := homes[cls]:
                yield obj, home

    def write(self, session: Session, ahead: "Ahead | None" = None) -> None:
        for connection in list(self._connections.get(session, ())):
            self.write_queue(connection, ahead, self._indexing_of(session))

    def write_queue(
        self, connection: Connection, ahead: "Ahead | None" = None, indexing: Indexing | None = None
    ) -> IndexReport:
        queue = self._queues.get(connection)
        report = IndexReport()
        if queue is None:
            return report
        self._load(connection, queue)
        pending = queue.pending()
        if pending:
            puts = {ref: put for ref, put in pending.items() if isinstance(put, Put)}
            drops = [ref for ref in pending if ref not in puts]
            indexing = indexing or self.search.indexing
            report = self.search.write_changes(connection, puts, drops, ahead=ahead, indexing=indexing)
            self.tracking.forget(connection, pending)
            queue.settle(pending)
        return report

    def _load(self, connection: Connection, queue: Queue) -> None:
        """What statements changed is read back, an entity at a time."""
        wanted: dict[str, list[str]] = {}
        for ref, change in queue.pending().items():
            if change is LOAD:
                wanted.setdefault(ref.entity, []).append(ref.id)
        for entity, ids in wanted.items():
            for id_, put in self.mappings.of_entity(entity).load(connection, ids):
                if put is None:
                    queue.drop(Ref(entity, id_))
                else:
                    queue.put(Ref(entity, id_), *put)

    def _indexing_of(self, session: Session) -> Indexing:
        chosen = session.info.get(INFO) or getattr(session, "kameleon_indexing", None) or self.search.indexing
        return check_indexing(chosen)

    # asking

    def searchable(self, cls: type) -> Mapped:
        """Raises InvalidInput for a class that is not searchable."""
        mapped = self.mappings.of(cls)
        if mapped is None:
            known = ", ".join(self.mappings.names()) or "none"
            raise InvalidInput(
                f"{getattr(cls, '__name__', cls)!r:.80} is not searchable. Searchable: {known}. "
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
                names.append(one.__name__)
                continue
            inner = (self.mappings.of(m.class_) for m in mapped.mapper.self_and_descendants)
            names += dict.fromkeys(m.entity for m in inner if m is not None)
            if where is not None or mapped.mapper is not mapped.owner:
                narrow.append((mapped, one))
        if not narrow and not isinstance(where, ColumnElement):
            return names, None
        if len(asked) != 1 or not narrow:
            raise InvalidInput(
                "a condition on a mapped class, or a class that shares another's entity, is searched alone: "
                "search(query, entity=Article, where=Article.status == 'open')"
            )
        ((mapped, cls),) = narrow
        return names, (mapped, cls, true() if where is None else as_condition(where, cls))

    # connections

    def queue(self, connection: Connection) -> Queue:
        if connection not in self._queues:
            self._queues[connection] = Queue()
        return self._queues[connection]

    def queue_of(self, session: Session) -> Queue:
        """For what a session is told by hand. Raises InvalidInput for one that is not attached."""
        if hasattr(session, "sync_session"):
            raise InvalidInput(
                "an AsyncSession is told inside its greenlet: "
                "await session.run_sync(lambda s: search.index_record(..., session=s))"
            )
        if self not in getattr(session, "kameleon", ()):
            raise InvalidInput(
                f"session= is one of an attached factory, not {session!r:.80}: "
                "Session = search.attach(sessionmaker(engine))"
            )
        connection = session.connection()
        if not self.serves(connection.engine):
            raise InvalidInput(f"this session is bound to {connection.engine.url!r}, the index to another database")
        return self.queue(connection)

    def connection(self, session: Session, mapped: Mapped) -> Connection | None:
        """The connection that a class's rows go through, None if another attached engine indexes them."""
        if not self.is_mine(session, mapped):
            return None
        return self._checked(session.connection(bind_arguments={"mapper": mapped.mapper}))

    def _checked(self, connection: Connection) -> Connection:
        """Records of two schemas would have the same ids. Raises InvalidInput."""
        if (found := schema_map(connection)) != (ours := schema_map(self.search.engine)):
            raise InvalidInput(
                f"this session writes with schema_translate_map={found!r}, the index is of {ours!r}: "
                "SearchEngine(engine.execution_options(schema_translate_map=...)).attach(...) for each"
            )
        return connection

    def is_mine(self, session: Session, mapped: Mapped) -> bool:
        """Raises InvalidInput if no engine attached to the session indexes the class's database."""
        bind = session.get_bind(mapped.mapper)
        if self.serves(bind.engine):
            return True
        if not any(other.serves(bind.engine) for other in getattr(session, "kameleon", ())):
            raise InvalidInput(
                f"{mapped.entity} is bound to {bind.engine.url!r}{_translated(bind.engine)}, and no SearchEngine of "
                "that database is attached to this session: SearchEngine(engine).attach(...) for each"
            )
        return False

    def serves(self, engine: Engine) -> bool:
        """Whether an engine's database is ours: the same pool, or the same place."""
        if (known := self._engines.get(engine)) is not None:
            return known
        ours = self.search.engine
        return schema_map(engine) == schema_map(ours) and (engine.pool is ours.pool or self.is_same_place(engine))

    def is_same_place(self, engine: Engine) -> bool:
        ours, theirs = self.search.engine.url, engine.url
        if ours.get_backend_name() != theirs.get_backend_name() or theirs.database in (None, "", ":memory:"):
            return False
        return (ours.host, ours.port, ours.database) == (theirs.host, theirs.port, theirs.database)

    def after_begin(self, session: Session, _transaction: Any, connection: Connection) -> None:
        engine = connection.engine
        if engine not in self._engines:
            is_ours = self.serves(engine)
            if is_ours:
                self._listen_to(engine)
            self._engines[engine] = is_ours
        if self._engines[engine]:
            if engine not in self._begun_before:
                self._begun_before.add(engine)
                self.search.caveat(connection)
            self._connections.setdefault(session, WeakSet()).add(connection)

    def _begun(self, session: Session) -> Connection | None:
        """The session's connection to this database, if it has begun a transaction there."""
        begun = next((c for c in self._connections.get(session, ()) if c.in_transaction()), None)
        return None if begun is None else self._checked(begun)

    def _savepoint(self, connection: Connection, name: str | None) -> None:
        """SQLAlchemy tells of a savepoint before it numbers it, and of its end by that number."""
        if queue := self._queues.get(connection):
            number = connection._Connection__savepoint_seq + 1  # type: ignore[attr-defined]
            queue.mark(name or f"sa_savepoint_{number}")

    def _rollback_savepoint(self, connection: Connection, name: str, _context: Any) -> None:
        if queue := self._queues.get(connection):
            queue.cut(name)

    def _release_savepoint(self, connection: Connection, name: str, _context: Any) -> None:
        if queue := self._queues.get(connection):
            queue.release(name)

    def _rollback(self, connection: Connection, *_: Any) -> None:
        self._queues.pop(connection, None)

    def _commit(self, connection: Connection, *_: Any) -> None:
        """What no session's commit has written."""
        if connection in self._queues:
            self.write_queue(connection)
            self._queues.pop(connection, None)


def _translated(engine: Engine) -> str:
    return f" with schema_translate_map={schemas!r}" if (schemas := schema_map(engine)) else ""


def _sync(session: Any) -> Session:
    """What is beneath an AsyncSession, any other as it is."""
    found: Session = getattr(session, "sync_session", session)
    return found


def state_of(obj: Any) -> InstanceState[Any]:
    state: InstanceState[Any] = inspect(obj)
    return state


def key_of(obj: Any) -> Sequence[Any]:
    """An object's primary key as it is now."""
    return state_of(obj).mapper.primary_key_from_instance(obj)
