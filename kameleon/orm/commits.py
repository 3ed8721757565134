"""Writes the pending changes of a session: embeds them before its flush, and applies them before its commit. Imports
`values`, `errors`, `telemetry`, `content` and `indexing`."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from ..content import Content
from ..errors import InvalidRecord
from ..indexing.ahead import embed_ahead
from ..indexing.index import Index
from ..indexing.time_limits import run_off_loop
from ..indexing.writer import Indexing, check_indexing
from ..telemetry import Operation, operation
from ..telemetry.measures import COMMIT, database
from ..values import Ref
from .binds import Binds
from .mapping import Mapped
from .pending import RECORDS_A_BATCH, Pending, to_read
from .registry import Mappings

if TYPE_CHECKING:
    from ..indexing.embedded import Ahead

INFO = "kameleon_indexing"


class SessionState:
    """One session's: its `connections` to this database; of a flush, the objects that it `modified` and the rows that
    `replacing` notes. `is_written` from the commit's write to its end: what changes meanwhile is written at once."""

    def __init__(self) -> None:
        self.connections: WeakSet[Connection] = WeakSet()
        self.modified: dict[int, Any] = {}
        self.replacing = ExitStack()
        self.is_written = False


class Commits:
    def __init__(self, index: Index, mappings: Mappings, binds: Binds, pending: Pending) -> None:
        self._index = index
        self._mappings = mappings
        self._binds = binds
        self._pending = pending
        self._states: WeakKeyDictionary[Session, SessionState] = WeakKeyDictionary()

    def state(self, session: Session) -> SessionState:
        if (state := self._states.get(session)) is None:
            state = self._states[session] = SessionState()
        return state

    def begin(self, session: Session, connection: Connection) -> None:
        self.state(session).connections.add(connection)
        self._pending.state(connection).indexing = self.indexing(session)

    def end(self, session: Session) -> None:
        self.state(session).is_written = False

    def indexing(self, session: Session) -> Indexing:
        of_class = getattr(session, "kameleon_indexing", {}).get(self._index)
        return check_indexing(session.info.get(INFO) or of_class or self._index.indexing)

    def commit(self, session: Session) -> None:
        """Embed, holding no lock; flush; write."""
        self.end(session)
        with self._observed(session):
            ahead = self._embed_ahead(session)
            session.flush()
            self.write(session, ahead)
        self.state(session).is_written = True

    def _observed(self, session: Session) -> Operation:
        """The commit, to be entered: observed if it may change the index."""
        begun = operation()
        if begun.is_observed and self._may_change(session):
            begun.begin(COMMIT, attributes=database(self._index.engine))
        return begun

    def _may_change(self, session: Session) -> bool:
        """Whether the transaction has pending changes, or objects of mapped classes are to be flushed."""
        connections = self.state(session).connections
        if any(self._pending.existing(one) is not None for one in connections if one.in_transaction()):
            return True
        return any(self._mappings.of(type(obj)) for obj in (*session.new, *session.dirty, *session.deleted))

    def write(self, session: Session, ahead: "Ahead | None" = None) -> None:
        for connection in list(self.state(session).connections):
            self._pending.write(connection, ahead, self.indexing(session))

    def write_late(self, session: Session) -> None:
        """Write what changed after the commit's own write, as objects of a later listener do."""
        if self.state(session).is_written:
            self.write(session)

    def maintain(self, session: Session) -> None:
        """Fold and merge keywords, and evict from the cache, after a commit."""
        connections = list(self.state(session).connections)
        if connections and not any(one.in_transaction() for one in connections):
            run_off_loop(self._index.maintain)

    def _embed_ahead(self, session: Session) -> "Ahead | None":
        """Embed the contents of pending changes and of objects that are not flushed yet."""
        indexing = self.indexing(session)
        if self._index.services.provider is None:
            return None
        connection = self._begun(session)
        contents: dict[Ref, Content] = self._contents(connection) if connection is not None else {}
        with session.no_autoflush:
            contents.update(self._unflushed(session, session.dirty, is_new=False))
            new = [
                (content.tenant, content.embedded) for _, content in self._unflushed(session, session.new, is_new=True)
            ]
        if not contents and not new:
            return None
        bind = connection or self._bind_of(session)
        joined = bind if isinstance(bind, Connection) and bind.in_transaction() else None
        unique = self._mappings.tenanted({ref.entity for ref in contents})
        return embed_ahead(self._index, contents, new, connection=joined, indexing=indexing, unique=unique)

    def _begun(self, session: Session) -> Connection | None:
        """The session's connection to this database, if it has begun a transaction there."""
        begun = next((one for one in self.state(session).connections if one.in_transaction()), None)
        return None if begun is None else self._binds.checked(begun)

    def _contents(self, connection: Connection) -> dict[Ref, Content]:
        """The contents of what is pending, where they are at hand or can be read as one batch."""
        if (pending := self._pending.existing(connection)) is None:
            return {}
        changes = pending.pending()
        contents = {ref: content for ref, content in changes.items() if isinstance(content, Content)}
        if len(refs := to_read(changes)) <= RECORDS_A_BATCH and not pending.blocks():
            read = self._pending.read(connection, refs)
            contents.update((ref, content) for ref, content in read.items() if content is not None)
        return contents

    def _unflushed(self, session: Session, objects: Iterable[Any], *, is_new: bool) -> Iterator[tuple[Ref, Content]]:
        """The contents of objects that were not flushed yet, where they can be rendered. New ones have no key: their
        Ref is empty. Those whose tenant the flush is to fill in are left out."""
        by_class: dict[type, Mapped | None] = {}
        for obj in objects:
            if (cls := type(obj)) not in by_class:
                mapped = self._mappings.of(cls)
                by_class[cls] = mapped if mapped and self._binds.bind(session, mapped) is not None else None
            own = by_class[cls]
            if own is None or not (own.is_complete(obj) if is_new else own.has_new_content(obj, session)):
                continue
            try:
                content = own.content_of(obj)
            except InvalidRecord as error:
                if isinstance(error.__cause__, InvalidRecord):
                    raise
                continue  # the flush may fill in the defaults that the content needs
            if content is not None and not (is_new and own.has_tenants and not content.tenant):
                yield Ref("", "") if is_new else own.ref_of(obj), content

    def _bind_of(self, session: Session) -> Engine | Connection | None:
        for obj in [*session.new, *session.dirty]:
            if (mapped := self._mappings.of(type(obj))) and (bind := self._binds.bind(session, mapped)) is not None:
                return bind
        return None
