"""`Sessions`: joins what the sessions attached to one index need, and finds a caller's transaction. Imports `errors`
and `indexing`."""

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from ..errors import InvalidInput
from ..indexing.index import Index
from .binds import Binds
from .capture import Capture
from .changes import PendingChanges
from .commits import Commits
from .events import Listeners
from .marks import Marks
from .pending import Pending
from .registry import Mappings
from .tracking import Tracking


class Sessions:
    def __init__(self, index: Index) -> None:
        self.index = index
        self.mappings = Mappings(index.engine.dialect)
        index.classes.of = self.mappings.definition
        self.binds = Binds(index.application_engine)
        marks = Marks(index.tables)
        self.pending = Pending(index, self.mappings, marks)
        self.tracking = Tracking(index, self.mappings, self.pending, marks)
        self.commits = Commits(index, self.mappings, self.binds, self.pending)
        self.capture = Capture(index, self.mappings, self.binds, self.pending, self.commits)
        self.listeners = Listeners(index, self.binds, self.pending, self.commits, self.capture)

    def write(self, session: Session) -> None:
        """Write the pending changes of the session's transaction to the index now."""
        self.commits.write(session)

    def changes_of(self, session: Session | None) -> PendingChanges | None:
        """The pending changes of the session's transaction; None for a session that is not attached."""
        own = _unscoped(session)
        is_attached = self in getattr(own, "kameleon", ())
        return self.pending.changes(self.binds.own_connection(own)) if is_attached else None

    def connection_of(self, session: Session, async_name: str) -> Connection:
        """A session's own connection to this database. Raises InvalidInput."""
        own = _unscoped(session)
        if hasattr(own, "sync_session"):
            raise InvalidInput(f"an AsyncSession is for coroutines: await {async_name}(..., session=session)")
        if not isinstance(own, Session):
            raise InvalidInput(f"session= is a SQLAlchemy Session, not {own!r:.80}")
        return self.binds.own_connection(own)

    async def begun(self, session: Any) -> Session:
        """The session beneath an AsyncSession, its transaction begun. Raises InvalidInput."""
        own = _unscoped(session)
        if not hasattr(own, "sync_session"):
            raise InvalidInput(f"session= is an AsyncSession here, not {own!r:.80}. With a Session no await is needed")
        await own.run_sync(self.binds.own_connection)
        inner: Session = own.sync_session
        return inner


def _unscoped(session: Any) -> Any:
    """The session that a scoped_session has here, any other as it is."""
    return session() if hasattr(session, "registry") else session
