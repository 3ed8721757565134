"""Follows foreign keys from a table to the rows that it references, and to those that reference it. Imports
`errors`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, inspect

from ...errors import InvalidInput, seen

SUFFIXES = ("_id", "_ID", "_Id", "Id", "ID", "_uuid", "_pk", "_key")
"""What a column's name has beyond that of what it references. Chosen, not measured."""

TableName = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key, from `columns` of a table to `referred` ones of the other; where it `is_reverse` those of the
    first table are the referred ones."""

    schema: str | None
    table: str
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    is_reverse: bool = False


class Links:
    """The foreign keys of a connection's database, read as far as paths need them."""

    def __init__(self, connection: Connection) -> None:
        self._inspector = inspect(connection)
        self._of_schema: dict[str | None, dict[TableName, list[Any]]] = {}

    def follow(self, schema: str | None, table: str, columns: Iterable[str], name: str) -> Link:
        """The foreign key that goes by this name. Raises InvalidInput."""
        forward = list(self._forward(schema, table))
        found = named(forward, table, columns)
        if name not in found:
            found = named([*forward, *self._reverse(schema, table)], table, columns)
        if name not in found:
            known = ", ".join(sorted({link: name for name, link in reversed(found.items())}.values())) or "none"
            raise InvalidInput(
                f"{table} has no foreign key {seen(name, 80)} to another table, and none to it is from a table of that "
                f"name. There are: {known}"
            )
        return found[name]

    def _forward(self, schema: str | None, table: str) -> Iterator[Link]:
        for key in self._inspector.get_foreign_keys(table, schema=schema):
            columns, referred = tuple(key["constrained_columns"]), tuple(key["referred_columns"])
            if self._inspector.has_table(key["referred_table"], schema=key["referred_schema"]):
                yield Link(key["referred_schema"], key["referred_table"], columns, referred)

    def _reverse(self, schema: str | None, table: str) -> Iterator[Link]:
        """Those of the tables of the same schema."""
        if schema not in self._of_schema:
            self._of_schema[schema] = self._inspector.get_multi_foreign_keys(schema=schema)
        for (_, other), keys in sorted(self._of_schema[schema].items(), key=lambda item: item[0][1]):
            for key in keys:
                if (key["referred_schema"], key["referred_table"]) == (schema, table):
                    columns, referred = tuple(key["constrained_columns"]), tuple(key["referred_columns"])
                    yield Link(schema, other, columns, referred, is_reverse=True)


def named(links: Sequence[Link], table: str, columns: Iterable[str]) -> dict[str, Link]:
    """The foreign keys of a table by the names of paths, the shortest first: that of the column without "_id", that of
    the other table where one key alone has it, and "other_by_column". Columns of the table keep their names."""
    taken, found = set(columns), dict[str, Link]()
    for choose in (by_column, by_table, by_both):
        names = [(name, link) for link in links if (name := choose(link, table)) and name not in taken | found.keys()]
        counts = {name: sum(name == other for other, _ in names) for name, _ in names}
        found |= {name: link for name, link in names if counts[name] == 1}
    return found


def by_column(link: Link, table: str) -> str | None:
    if link.is_reverse or len(link.columns) != 1:
        return None
    (column,) = link.columns
    return next((stem for suffix in SUFFIXES if (stem := column.removesuffix(suffix)) and stem != column), column)


def by_table(link: Link, table: str) -> str | None:
    return link.table if link.is_reverse or link.table != table else None


def by_both(link: Link, table: str) -> str | None:
    is_own = link.table == table and link.is_reverse
    return f"{link.table}_{'of' if is_own else 'by'}_{'_'.join(link.columns)}"
