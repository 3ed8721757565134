"""The table entities of an index. Their package, and SQLAlchemy's ORM with it, loads where there are some. Imports
`indexing`."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from ..indexing.index import Index

if TYPE_CHECKING:
    from .reflection.declared import TableEntities

REFLECTION = "kameleon.orm.reflection.declared"


def table_entities(index: Index, connection: Connection | None = None) -> Mapping[str, type]:
    """The classes of the tables that were added to an index, by entity; what other processes add is read at most once a
    second."""
    index.tenanted(connection)
    times = index.known_entities.tables
    return _entities(index).current(times, connection) if times or _is_loaded() else {}


def declare_tables(index: Index, connection: Connection, *, again: bool = False) -> None:
    """Make the classes of tables that any process has added; `again` finds tables that were changed since."""
    added = select(index.tables.existing_tables.c.entity_name).limit(1)
    if _is_loaded() or connection.execute(added).first() is not None:
        _entities(index).declare(connection, again=again)


def problems_of_tables(index: Index) -> Mapping[str, str]:
    """Why tables that were added cannot be read any more, by entity."""
    return dict(sorted(_entities(index).problems.items())) if _is_loaded() else {}


def _is_loaded() -> bool:
    return REFLECTION in sys.modules


def _entities(index: Index) -> "TableEntities":
    from .reflection.declared import TableEntities

    return index.part(TableEntities)
