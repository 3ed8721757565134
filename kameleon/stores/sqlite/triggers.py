"""Triggers that mark rows, in SQLite. Imports `errors`.

REPLACE deletes the rows that collide with a new one without their DELETE triggers (unless recursive_triggers is on), so
triggers before an INSERT or UPDATE mark those: the rows that have its values of a unique index.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table

from ...errors import InvalidInput
from ..tables import quoted_text, schema_of
from ..values import row_id, row_tenant
from .keys import SQLiteKeys

CREATE = """
    CREATE {kind}TRIGGER {name} {moment} {event} ON {table} FOR EACH ROW
    BEGIN
      {marks}
    END
"""
MARK = "INSERT INTO kdb_dirty (tenant, entity_name, record_id) VALUES ({tenant}, {entity}, {id});"
MARK_REPLACED = (
    "INSERT INTO kdb_dirty (tenant, entity_name, record_id) SELECT {tenant}, {entity}, {id} FROM {table} AS there "
    "WHERE {same}"
)
EVENTS = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}
REPLACING = ("INSERT", "UPDATE")
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
    _keys: SQLiteKeys

    def set(
        self,
        connection: Connection,
        table: Table,
        key: Sequence[tuple[Any, str]],
        entities: Sequence[str],
        tenant: tuple[Any, str] | None = None,
    ) -> None:
        schema = schema_of(table, connection)
        if entities:
            id_of = partial(row_id, self._keys.id_text, connection.dialect, key)
            tenant_of = partial(row_tenant, self._keys.id_text, connection.dialect, tenant)
            create(connection, table, schema, entities, id_of, tenant_of)
        else:
            drop(connection, table, schema)

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        return "REPLACE" in prefixes.upper() or replaces(table)

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        return replaced(connection, table, schema_of(table, connection), key)


def create(
    connection: Connection,
    table: Table,
    schema: str | None,
    entities: Sequence[str],
    id_of: Callable[[str], str],
    tenant_of: Callable[[str], str],
) -> None:
    """`id_of` and `tenant_of` render the id and the tenant of a row, OLD, NEW or another name, as SQL."""
    drop(connection, table, schema)
    _check_is_in_main(connection, table, schema)
    for event, rows in EVENTS.items():
        marks = [
            MARK.format(tenant=tenant_of(row), entity=quoted_text(entity), id=id_of(row))
            for row in rows
            for entity in entities
        ]
        _create(connection, table, schema, "AFTER", event, marks)
    for event in REPLACING:
        marks = [
            MARK_REPLACED.format(
                tenant=tenant_of("there"),
                entity=quoted_text(entity),
                id=id_of("there"),
                table=_quoted(connection, table),
                same=same,
            )
            for same in _collisions(connection, table, schema)
            for entity in entities
        ]
        others = f" AND {id_of('there')} <> {id_of('OLD')};" if event == "UPDATE" else ";"
        if marks:
            _create(connection, table, schema, "BEFORE", event, [mark + others for mark in marks])


def drop(connection: Connection, table: Table, schema: str | None) -> None:
    for moment, event in [*(("AFTER", event) for event in EVENTS), *(("BEFORE", event) for event in REPLACING)]:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_name(connection, table, schema, moment, event)}")


@contextmanager
def replaced(
    connection: Connection, table: Table, schema: str | None, names: Sequence[str]
) -> Iterator[Callable[[], list[tuple[Any, ...]]]]:
    """Yields a function that returns these columns' values of the rows that REPLACE deletes inside, by temporary
    triggers of this connection."""
    columns = ", ".join(map(connection.dialect.identifier_preparer.quote, names))
    place = _qualified(connection, table, schema)
    quote = connection.dialect.identifier_preparer.quote
    kept = quote(f"kdb_replaced_{table.name}")
    triggers = {event: quote(f"kdb_replaced_{table.name}_{event.lower()}") for event in REPLACING}
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
    for column in table.columns:
        chosen += [value for name, value in column.dialect_options["sqlite"].items() if name.startswith("on_conflict")]
    return any(str(value).upper() == "REPLACE" for value in chosen)


def _create(
    connection: Connection, table: Table, schema: str | None, moment: str, event: str, marks: Sequence[str]
) -> None:
    connection.exec_driver_sql(
        CREATE.format(
            kind="",
            name=_name(connection, table, schema, moment, event),
            moment=moment,
            event=event,
            table=_quoted(connection, table),
            marks="\n      ".join(marks),
        )
    )


def _check_is_in_main(connection: Connection, table: Table, schema: str | None) -> None:
    """A trigger can write to tables of its own database alone. Raises InvalidInput."""
    master = f"{_quoted_schema(connection, schema)}.sqlite_master"
    if schema and not connection.exec_driver_sql(f"SELECT 1 FROM {master} WHERE name = 'kdb_dirty'").first():
        raise InvalidInput(
            f"{schema}.{table.name} is in an attached database, whose triggers cannot write to this index. "
            "Open that file with an engine of its own"
        )


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


def _name(connection: Connection, table: Table, schema: str | None, moment: str, event: str) -> str:
    before = "replaced_" if moment == "BEFORE" else ""
    name = connection.dialect.identifier_preparer.quote(f"kdb_track_{table.name}_{before}{event.lower()}")
    return f"{_quoted_schema(connection, schema)}.{name}"
