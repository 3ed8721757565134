"""SQLAlchemy's events of attached sessions and their connections: each listener translates one and calls what writes.
Imports `sqlalchemy_internals` and `indexing`.

A commit embeds what is not flushed yet, holding no lock; flushes; writes. What changes after that (objects of a later
listener, a transaction committed outside any session) is written at once, or when the connection commits.
"""

from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import ORMExecuteState, Session

from ..indexing.index import Index
from ..sqlalchemy_internals import deleted_objects, root_engine
from . import statements
from .binds import Binds
from .capture import Capture
from .commits import Commits
from .pending import Pending


class Listeners:
    def __init__(self, index: Index, binds: Binds, pending: Pending, commits: Commits, capture: Capture) -> None:
        self._index = index
        self._binds = binds
        self._pending = pending
        self._commits = commits
        self._capture = capture
        self._engines: WeakSet[Engine] = WeakSet()
        self.listen_to_engine(index.application_engine)

    def listen_to_class(self, cls: type[Session]) -> None:
        for name in ("after_begin", "before_flush", "after_flush", "after_flush_postexec", "before_commit"):
            event.listen(cls, name, getattr(self, f"_{name}"))
        event.listen(cls, "after_commit", self._after_commit)
        event.listen(cls, "after_soft_rollback", self._after_rollback)
        event.listen(cls, "do_orm_execute", self._do_orm_execute)

    def listen_to_engine(self, engine: Engine) -> None:
        """Events of an engine are also those of the engines that its `execution_options` made, but not the other
        way."""
        root = root_engine(engine)
        if event.contains(root, "commit", self._commit):
            return
        for name in ("savepoint", "rollback_savepoint", "release_savepoint", "rollback", "commit"):
            event.listen(root, name, getattr(self, f"_{name}"))
        event.listen(root, "prepare_twophase", self._commit)
        event.listen(root, "commit_twophase", self._commit_twophase)
        event.listen(root, "rollback_twophase", self._rollback)

    # sessions

    def _after_begin(self, session: Session, _transaction: Any, connection: Connection) -> None:
        if not self._binds.serves(connection.engine):
            return
        if connection.engine not in self._engines:
            self._engines.add(connection.engine)
            self.listen_to_engine(connection.engine)
            self._index.services.notices.report(
                "savepoints", self._index.store.connections.savepoint_problem(connection)
            )
        self._commits.begin(session, connection)

    def _before_flush(self, session: Session, _context: Any, _instances: Any) -> None:
        self._capture.before_flush(session)

    def _after_flush(self, session: Session, context: Any) -> None:
        self._capture.after_flush(session, deleted_objects(context))

    def _after_flush_postexec(self, session: Session, _context: Any) -> None:
        self._commits.write_late(session)

    def _do_orm_execute(self, state: ORMExecuteState) -> Any:
        if state.is_insert or state.is_update or state.is_delete:
            return statements.execute(self._capture, self._binds, state)
        return None

    def _before_commit(self, session: Session) -> None:
        """Also fired when a savepoint is released, which commits nothing."""
        if not session.in_nested_transaction():
            self._commits.commit(session)

    def _after_commit(self, session: Session) -> None:
        self._commits.end(session)
        self._commits.maintain(session)

    def _after_rollback(self, session: Session, _previous: Any) -> None:
        self._commits.end(session)

    # connections

    def _savepoint(self, connection: Connection, _name: str | None) -> None:
        if (changes := self._pending.existing(connection)) is not None:
            changes.open_savepoint()

    def _rollback_savepoint(self, connection: Connection, _name: str, _context: Any) -> None:
        if (changes := self._pending.existing(connection)) is not None:
            changes.roll_back(connection.get_nested_transaction())

    def _release_savepoint(self, connection: Connection, _name: str, _context: Any) -> None:
        if (changes := self._pending.existing(connection)) is not None:
            changes.release(connection.get_nested_transaction())

    def _rollback(self, connection: Connection, *_: Any) -> None:
        self._pending.end(connection)

    def _commit(self, connection: Connection, *_: Any) -> None:
        """Write what no session's commit has written. SQLAlchemy treats a commit that raises as done: it would return
        the connection to the pool inside the transaction."""
        try:
            self._pending.write(connection)
        except BaseException:  # whatever ends the write, the transaction is not to be committed
            connection.dialect.do_rollback(connection.connection)
            raise
        finally:
            self._pending.end(connection)

    def _commit_twophase(self, connection: Connection, _xid: Any, is_prepared: bool) -> None:
        if not is_prepared:
            self._commit(connection)
