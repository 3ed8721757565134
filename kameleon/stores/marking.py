"""What triggers put into `kdb_dirty`: the records that a change to a row concerns, as SQL. Imports `stores`."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Dialect, Select, Table
from sqlalchemy.ext.compiler import compiles

from .names import Names

EVENTS: Mapping[str, tuple[str, ...]] = {"INSERT": ("NEW",), "UPDATE": ("NEW", "OLD"), "DELETE": ("OLD",)}
"""The rows that a trigger has, by what fires it."""
NAME_SHOWN, NAME_SHOWN_IN_NAMESPACE = 16, 5
"""Characters of a table's and an entity's name in that of a trigger, which PostgreSQL bounds at 63 bytes."""

ValueOf = Callable[[Any], ColumnElement[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Marking:
    """Which records of an entity a change to a row of `table` concerns. `records` makes a query of their tenant, entity
    name and record id of the values of the row's columns. `linking` are the columns that name the records: those that
    the row named before an update are marked where one of these changed. `watched` are those whose update is marked,
    None for all. The query reads the `others`."""

    table: Table
    entity: str
    records: Callable[[ValueOf], Select[Any]]
    linking: Sequence[Any]
    watched: Sequence[Any] | None = None
    others: Sequence[Table] = ()


class Trigger(NamedTuple):
    """One to make: its name, as SQL has it, the name of its table to show, the statements that make it, and the rights
    that it needs, with the tables that they are on."""

    name: str
    table: str
    statements: tuple[str, ...]
    rights: tuple[tuple[str, str], ...] = ()


class RowValue(ColumnElement[Any]):
    """A column of a trigger's row, OLD, NEW or an alias."""

    inherit_cache = False

    def __init__(self, row: str, column: Any) -> None:
        self.row = row
        self.name = column.name
        self.type = column.type


@compiles(RowValue)
def _row_value(element: RowValue, compiler: Any, **_: Any) -> str:
    return f"{element.row}.{compiler.preparer.quote(element.name)}"


@dataclass(frozen=True)
class Marks:
    """Renders statements that put marks into the table `dirty`. `differs` renders whether a column's values in two rows
    are different ones, however their type compares them, and `changed` whether an update changed a column, which may
    be one that is not there any more. `guarded` makes a statement run only where a condition holds. `schemas`
    translates those of the tables that are read."""

    dialect: Dialect
    dirty: str
    differs: Callable[[str, str], str]
    changed: Callable[[str], str]
    guarded: Callable[[str, str], str]
    schemas: Mapping[str | None, str | None] = field(default_factory=dict)

    def statements(self, markings: Iterable[Marking], event: str) -> list[str]:
        """Those of a trigger that INSERT, UPDATE or DELETE fires."""
        return [self._of_event(marking, event, row) for marking in markings for row in EVENTS[event]]

    def _of_event(self, marking: Marking, event: str, row: str) -> str:
        statement = self.statement(marking.records(partial(RowValue, row)))
        condition = ""
        if event == "UPDATE" and row == "OLD":
            condition = self.differ(marking.linking, "OLD", "NEW")
        elif event == "UPDATE" and marking.watched is not None:
            linking = self.differ(marking.linking, "OLD", "NEW")
            condition = " OR ".join([linking, *(self.changed(column.name) for column in marking.watched)])
        return self.guarded(condition, statement) if condition else statement

    def statement(self, records: Select[Any]) -> str:
        """A row whose key is null is no record."""
        compiled = records.compile(
            dialect=self.dialect,
            schema_translate_map=dict(self.schemas) or None,
            render_schema_translate=bool(self.schemas),
            compile_kwargs={"literal_binds": True},
        )
        names = "tenant, entity_name, record_id"
        return (
            f"INSERT INTO {self.dirty} ({names}) SELECT {names} FROM ({compiled}) AS records "
            "WHERE record_id IS NOT NULL;"
        )

    def differ(self, columns: Iterable[Any], one: str, other: str) -> str:
        """Renders whether one of these columns has different values in two rows."""
        names = [self.dialect.identifier_preparer.quote(column.name) for column in columns]
        return f"({' OR '.join(self.differs(f'{one}.{name}', f'{other}.{name}') for name in names)})"


def by_table(markings: Iterable[Marking]) -> Iterator[tuple[Table, list[Marking]]]:
    found: dict[Table, list[Marking]] = {}
    for marking in markings:
        found.setdefault(marking.table, []).append(marking)
    yield from found.items()


def trigger_name(names: Names, entity: str, schema: str | None, table: str) -> str:
    """One for an entity and a table; in ASCII, so that it needs no quotes."""
    most = NAME_SHOWN if names.namespace is None else NAME_SHOWN_IN_NAMESPACE
    digest = hashlib.blake2b("\0".join((entity, schema or "", table)).encode(), digest_size=5).hexdigest()
    shown = (re.sub(r"\W", "_", name, flags=re.ASCII)[:most].lower() for name in (entity, table))
    return "_".join((names("kdb_track"), *shown, digest))


def digest_of(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()
