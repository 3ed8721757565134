"""The pool of a SQLite database in memory, which is gone with its connection: one, that threads take in turn. Imports
`errors`.

The private methods of SQLAlchemy that this takes are `Pool._do_return_conn`, which every pool has, and
`_ConnectionFairy._checkout_existing`, by which SQLAlchemy's `SingletonThreadPool` gives a thread its connection again.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from threading import get_ident
from typing import Any
from weakref import ref

from sqlalchemy import QueuePool
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection

from .errors import InvalidInput

ONE = "a database in memory has a single connection"


class ConnectionInUse(PoolTimeout):
    pass


@dataclass(eq=False)
class Holding:
    """Who has the connection, until it is given back."""

    connection: "ref[PoolProxiedConnection]"
    thread: int
    is_held: bool = True


_held: ContextVar[tuple[Holding, ...]] = ContextVar("kameleon_held", default=())
"""What this context took and has not given back; `asyncio.to_thread` and tasks begin with a copy."""


class OneConnection(QueuePool):
    """A thread waits until another has given the connection back, but never for itself: nor does what it, or a
    coroutine, called on another thread by `asyncio.to_thread`. While no transaction is open, the thread that has it is
    given it again."""

    def __init__(self, creator: Any, pool_size: int = 1, max_overflow: int = 0, **options: Any) -> None:
        if (pool_size, max_overflow) != (1, 0):
            raise InvalidInput(
                f"{ONE}, and another would lead to another database: give create_engine neither "
                f"pool_size={pool_size} nor max_overflow={max_overflow}, or the URL of a file"
            )
        super().__init__(creator, pool_size=1, max_overflow=0, **options)
        self._holding: Holding | None = None

    def connect(self) -> PoolProxiedConnection:
        holding = self._holding
        if holding is not None and self._is_here(holding):
            if self.is_in_use_here():
                raise ConnectionInUse(
                    f"{ONE}, which this thread, or what called it, is using: pass connection= or session=, or give it "
                    "back first"
                )
            if holding.thread == get_ident() and (connection := holding.connection()) is not None:
                again: PoolProxiedConnection = connection._checkout_existing()
                return again
        try:
            taken = super().connect()
        except PoolTimeout as error:
            raise ConnectionInUse(
                f"{ONE}, which others kept for {self.timeout():g} s. End transactions before work that takes long, or "
                "open a file, which many read at once"
            ) from error
        self._holding = Holding(ref(taken), get_ident())
        _held.set((*(other for other in _held.get() if other.is_held), self._holding))
        return taken

    def is_in_use_here(self) -> bool:
        """Whether to wait for the connection would be to wait for who waits."""
        holding = self._holding
        if holding is None or not self._is_here(holding):
            return False
        connection = holding.connection()
        driver: Any = connection and connection.dbapi_connection
        return holding.thread != get_ident() or (driver is not None and driver.in_transaction)

    @staticmethod
    def _is_here(holding: Holding) -> bool:
        return holding.is_held and (holding.thread == get_ident() or holding in _held.get())

    def _do_return_conn(self, record: Any) -> None:
        if self._holding is not None:
            self._holding.is_held, self._holding = False, None
        super()._do_return_conn(record)
