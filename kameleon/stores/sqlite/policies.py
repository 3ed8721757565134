"""Row-level security, which SQLite does not have. Imports `errors`."""

from collections.abc import Sequence
from typing import NoReturn

from sqlalchemy import Connection

from ...errors import StorageError
from ..values import Fault


class SQLitePolicies:
    def protect(self, connection: Connection, setting: str, workers: Sequence[str]) -> NoReturn:
        raise StorageError(
            "SQLite has neither roles nor row-level security: who may open the file reads all of it. "
            "search.for_tenant('…') keeps a caller within a tenant; where the file itself must not have another's "
            "records, give each tenant a file"
        )

    def unprotect(self, connection: Connection) -> list[str]:
        return []

    def apply_to(self, connection: Connection, table: str) -> None:
        """There is nothing to apply."""

    def acting_for(self, connection: Connection) -> None:
        """A connection writes the rows of all."""

    def faults(self, connection: Connection) -> list[Fault]:
        return []
