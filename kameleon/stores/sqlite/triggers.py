"""Triggers that mark rows, in SQLite. Imports this package alone.

REPLACE deletes the rows that collide with a new one without their DELETE triggers (unless recursive_triggers is on), so
triggers before an INSERT or UPDATE mark those: the rows that have its values of a unique index.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Subquery, Table, column, select, text
from sqlalchemy import table as table_of

from ..marking import EVENTS, Marking, Marks, RowValue, Trigger, by_table, digest_of, trigger_name
from ..names import Names
from ..tables import schema_of

CREATE = """
    CREATE {kind}TRIGGER {name} {moment} {event} ON {table} FOR EACH ROW
    BEGIN
      {marks}
    END
"""
REPLACING = ("INSERT", "UPDATE")
KIND = "SELECT type, sql FROM {schema}.sqlite_master WHERE type IN ('table', 'view') AND name = ?"
MADE = "SELECT sql FROM {schema}.sqlite_master WHERE type = 'trigger' AND name = ?"
UNIQUE = """
    SELECT i.name, s.sql FROM pragma_index_list(:table, :schema) AS i
    LEFT JOIN {schema}.sqlite_master AS s ON s.type = 'index' AND s.name = i.name WHERE i."unique"
"""
KEYS = "SELECT name, coll FROM pragma_index_xinfo(:index, :schema) WHERE key ORDER BY seqno"
COLUMNS = "SELECT name FROM pragma_table_xinfo(:table, :schema) WHERE hidden <> 1"
QUOTES = {"'": "'", '"': '"', "`": "`", "[": "]"}


class UniqueIndex(NamedTuple):
    """`keys` are expressions of the table's columns, `where` the condition of a partial index or empty."""

    keys: Sequence[str]
    where: str


@dataclass(eq=False)
class SQLiteTriggers:
    _names: Names

    def refusal(self, connection: Connection, table: Table) -> str:
        schema = schema_of(table, connection)
        statement = KIND.format(schema=_quoted_schema(connection, schema))
        kind, sql = connection.exec_driver_sql(statement, (table.name,)).first() or ("", "")
        if kind == "view":
            return "is a view"
        if sql and sql.upper().startswith("CREATE VIRTUAL"):
            return "is a virtual table"
        if schema and not self._is_in_main(connection, schema):
            return (
                "is in an attached database, whose triggers cannot write to this index. "
                "Open that file with an engine of its own"
            )
        return ""

    def plan(self, connection: Connection, markings: Sequence[Marking]) -> list[Trigger]:
        found: list[Trigger] = []
        for table, of_table in by_table(markings):
            schema = schema_of(table, connection)
            names = {one.schema for marking in of_table for one in (table, *marking.others)}
            schemas: dict[str | None, str | None] = dict.fromkeys(name for name in names if name)
            quote = connection.dialect.identifier_preparer.quote
            changed = partial(changed_of, quote)
            marks = Marks(connection.dialect, self._names("kdb_dirty"), differs, changed, guarded, schemas)
            name = trigger_name(self._names, of_table[0].entity, schema, table.name)
            for moment, event, statements in _statements(connection, table, schema, marks, of_table):
                qualified = f"{_quoted_schema(connection, schema)}.{name}_{moment.lower()}_{event.lower()}"
                named = {"name": qualified, "table": _quoted(connection, table)}
                lines = "\n      ".join(statements)
                sql = CREATE.format(kind="", moment=moment, event=event, marks=lines, **named)
                found.append(Trigger(qualified, table.name, (sql,)))
        return found

    def make(self, connection: Connection, trigger: Trigger) -> None:
        for statement in trigger.statements:
            connection.exec_driver_sql(statement)

    def drop(self, connection: Connection, names: Sequence[str]) -> None:
        for name in names:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")

    def present(self, connection: Connection, names: Sequence[str]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for qualified in names:
            schema, _, name = qualified.rpartition(".")
            if sql := connection.exec_driver_sql(MADE.format(schema=schema), (name,)).scalar():
                found[qualified] = digest_of(sql)
        return found

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        return "REPLACE" in prefixes.upper() or replaces(table)

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        return replaced(self._names, connection, table, schema_of(table, connection), key)

    def _is_in_main(self, connection: Connection, schema: str) -> bool:
        """A trigger can write to tables of its own database alone."""
        master = f"{_quoted_schema(connection, schema)}.sqlite_master"
        return (
            connection.exec_driver_sql(f"SELECT 1 FROM {master} WHERE name = ?", (self._names("kdb_dirty"),)).first()
            is not None
        )


def differs(one: str, other: str) -> str:
    """Whatever the order of the column."""
    return f"{one} IS NOT {other} COLLATE BINARY"


def changed_of(quote: Callable[[str], str], name: str) -> str:
    return differs(f"OLD.{quote(name)}", f"NEW.{quote(name)}")


def guarded(condition: str, statement: str) -> str:
    return f"{statement.removesuffix(';')} AND ({condition});"


def _statements(
    connection: Connection, table: Table, schema: str | None, marks: Marks, markings: Sequence[Marking]
) -> Iterator[tuple[str, str, list[str]]]:
    """The statements of each trigger, by the moment and the event that it fires at."""
    for event in EVENTS:
        yield "AFTER", event, marks.statements(markings, event)
    collisions = _collisions(connection, table, schema)
    for event in REPLACING if collisions else ():
        yield (
            "BEFORE",
            event,
            [
                marks.statement(marking.records(partial(RowValue, "there")).select_from(there))
                for same in collisions
                for marking in markings
                for there in [_replaced_rows(table, marks, marking, event, same)]
            ],
        )


def _replaced_rows(table: Table, marks: Marks, marking: Marking, event: str, same: str) -> Subquery:
    """The rows that have the values of NEW, but of an update the row itself."""
    one = table_of(table.name, *(column(each.name) for each in table.columns)).alias("one")
    key = list(table.primary_key.columns) or marking.linking
    condition = same if event == "INSERT" else f"{same} AND {marks.differ(key, 'one', 'OLD')}"
    return select(one).where(text(condition.replace(":", r"\:"))).subquery("there")


@contextmanager
def replaced(
    names: Names, connection: Connection, table: Table, schema: str | None, key: Sequence[str]
) -> Iterator[Callable[[], list[tuple[Any, ...]]]]:
    """Yields a function that returns these columns' values of the rows that REPLACE deletes inside, by temporary
    triggers of this connection."""
    columns = ", ".join(map(connection.dialect.identifier_preparer.quote, key))
    place = _qualified(connection, table, schema)
    quote = connection.dialect.identifier_preparer.quote
    kept = quote(names("kdb_replaced_") + table.name)
    triggers = {event: quote(f"{names('kdb_replaced_')}{table.name}_{event.lower()}") for event in REPLACING}
    keep = [
        f"INSERT INTO {kept} SELECT {columns} FROM {place} AS there WHERE {same};"
        for same in _collisions(connection, table, schema)
    ]
    _drop_temporary(connection, kept, triggers.values())
    connection.exec_driver_sql(f"CREATE TEMP TABLE {kept} AS SELECT {columns} FROM {place} WHERE 0")
    for event, name in triggers.items() if keep else ():
        named = {"name": name, "moment": "BEFORE", "event": event, "table": place}
        connection.exec_driver_sql(CREATE.format(kind="TEMP ", marks="\n      ".join(keep), **named))
    yield lambda: [tuple(row) for row in connection.exec_driver_sql(f"SELECT DISTINCT * FROM temp.{kept}")]
    _drop_temporary(connection, kept, triggers.values())


def _drop_temporary(connection: Connection, kept: str, triggers: Iterable[str]) -> None:
    """Drops them; where the work failed its rollback does, or the next call."""
    for name in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS temp.{name}")
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS temp.{kept}")


def replaces(table: Table) -> bool:
    """Whether a constraint of the table makes every write of a row delete those that it collides with."""
    options = [constraint.dialect_options["sqlite"] for constraint in table.constraints]
    chosen = [option.get("on_conflict") for option in options]
    for one in table.columns:
        chosen += [value for name, value in one.dialect_options["sqlite"].items() if name.startswith("on_conflict")]
    return any(str(value).upper() == "REPLACE" for value in chosen)


def _collisions(connection: Connection, table: Table, schema: str | None) -> list[str]:
    """Renders for each unique index which rows have the values of NEW."""
    quote = connection.dialect.identifier_preparer.quote
    binds = {"table": table.name, "schema": schema or "main"}
    columns = [quote(name) for (name,) in connection.exec_driver_sql(COLUMNS, binds)]
    new = f"(SELECT {', '.join(f'NEW.{name} AS {name}' for name in columns)})"
    return [
        " AND ".join(
            [
                *(f"({key}) = (SELECT {key} FROM {new})" for key in index.keys),
                *([f"({index.where})"] if index.where else []),
            ]
        )
        for index in _unique_indexes(connection, table, schema)
    ]


def _unique_indexes(connection: Connection, table: Table, schema: str | None) -> Iterator[UniqueIndex]:
    """A primary key's, too, unless it is the rowid: an UPDATE may move a row onto another."""
    quote = connection.dialect.identifier_preparer.quote
    names = {"table": table.name, "schema": schema or "main"}
    statement = UNIQUE.format(schema=_quoted_schema(connection, schema))
    for name, sql in connection.exec_driver_sql(statement, names).all():
        if sql:
            yield parsed(sql)
        else:
            keys = connection.exec_driver_sql(KEYS, {"index": name, "schema": schema or "main"}).all()
            yield UniqueIndex([f"{quote(column)} COLLATE {quote(order)}" for column, order in keys], "")


def parsed(sql: str) -> UniqueIndex:
    """The keys and the condition of a CREATE INDEX statement as SQLite keeps it."""
    opened, depth, start, end = -1, 0, 0, len(sql)
    keys: list[str] = []
    for place, character in _outside_quotes(sql):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "(" and opened < 0:
            opened = start = place + 1
        elif depth == (0 if character == ")" else 1) and character in ",)":
            keys.append(_without_order(sql[start:place]))
            start = place + 1
        if opened >= 0 and not depth:
            end = place + 1
            break
    return UniqueIndex(keys, sql[end:].strip()[len("WHERE") :].strip())


def _outside_quotes(sql: str) -> Iterator[tuple[int, str]]:
    closing = ""
    for place, character in enumerate(sql):
        if closing:
            closing = "" if character == closing else closing
        elif character in QUOTES:
            closing = QUOTES[character]
        else:
            yield place, character


def _without_order(key: str) -> str:
    first, _, last = key.strip().rpartition(" ")
    return first if last.upper() in ("ASC", "DESC") else key.strip()


def _quoted(connection: Connection, table: Table) -> str:
    name: str = connection.dialect.identifier_preparer.quote(table.name)
    return name


def _quoted_schema(connection: Connection, schema: str | None) -> str:
    name: str = connection.dialect.identifier_preparer.quote(schema or "main")
    return name


def _qualified(connection: Connection, table: Table, schema: str | None) -> str:
    return f"{_quoted_schema(connection, schema)}.{_quoted(connection, table)}"
