"""Finds the connections of a session that lead to an engine's database. Imports `errors`, `forking`, `urls`, `database`
and `stores`."""

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, update
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Mapper, Session

from ..database import is_same_place
from ..errors import InvalidInput
from ..forking import watch
from ..stores.tables import schema_map
from ..urls import shown
from .mapping import Mapped


class Binds:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._served: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()

    def serves(self, engine: Engine) -> bool:
        """Whether an engine has this database: the same pool, or the same place."""
        if engine not in self._served:
            is_same = engine.pool is self._engine.pool or is_same_place(engine.url, self._engine.url)
            self._served[engine] = is_same and schema_map(engine) == schema_map(self._engine)
            if self._served[engine] and engine.dialect.name == "sqlite":
                watch(engine)
        return self._served[engine]

    def bind(self, session: Session, mapped: Mapped) -> Engine | Connection | None:
        """The bind that a class's rows are written to, None if another attached engine indexes them. Raises
        InvalidInput if none does."""
        bind = session.get_bind(mapped.mapper, clause=mapped.write)
        if self.serves(bind.engine):
            return bind
        if not any(other.binds.serves(bind.engine) for other in getattr(session, "kameleon", ())):
            raise InvalidInput(
                f"{mapped.entity} is bound to {shown(bind.engine.url)}{_translated(bind.engine)}, and no SearchEngine "
                "of that database is attached to this session: SearchEngine(engine).attach(...) for each"
            )
        return None

    def connection(self, session: Session, mapped: Mapped) -> Connection | None:
        """The connection that a class's rows are written on, None if another attached engine indexes them."""
        if self.bind(session, mapped) is None:
            return None
        return self.checked(session.connection(bind_arguments={"mapper": mapped.mapper, "clause": mapped.write}))

    def connection_to(self, session: Session, mapper: Mapper[Any]) -> Connection | None:
        """The connection that a mapper's statements are run on, None if that is another database's."""
        arguments: dict[str, Any] = {"mapper": mapper, "clause": update(mapper.class_)}
        is_own = self.serves(session.get_bind(**arguments).engine)
        return session.connection(bind_arguments=arguments) if is_own else None

    def own_connection(self, session: Session) -> Connection:
        """The session's connection to this database, whichever classes it has. Raises InvalidInput."""
        try:
            connection = session.connection()
        except UnboundExecutionError:
            connection = session.connection(bind_arguments={"bind": self._engine})
        if not self.serves(connection.engine):
            raise InvalidInput(
                f"this session is bound to {shown(connection.engine.url)}, the index to another database"
            )
        return self.checked(connection)

    def checked(self, connection: Connection) -> Connection:
        """Records of two schemas would have the same ids. Raises InvalidInput."""
        if (found := schema_map(connection)) != (own := schema_map(self._engine)):
            raise InvalidInput(
                f"this session writes with schema_translate_map={found!r}, the index is of {own!r}: "
                "SearchEngine(engine.execution_options(schema_translate_map=...)).attach(...) for each"
            )
        return connection


def _translated(engine: Engine) -> str:
    return f" with schema_translate_map={schemas!r}" if (schemas := schema_map(engine)) else ""
