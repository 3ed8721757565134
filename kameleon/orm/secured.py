"""Finds the mapped classes whose tables have row security, which are searched through their tables. Imports `values`,
`stores` and `indexing`."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    FromClause,
    Integer,
    Select,
    SmallInteger,
    String,
    Text,
    Uuid,
    any_,
    bindparam,
    exists,
    inspect,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import Mapper

from ..indexing.index import Index
from ..stores.tables import schema_map
from ..stores.values import Among
from ..values import Ref
from .callers import sessions_of
from .criteria import compiled
from .declaration import of_same_keys
from .identity import key_attributes
from .mapping import Mapped

KEPT_S = 1.0
"""Bounds how long the tables with row security are remembered, in seconds. Chosen, not measured."""


LISTED = (Integer, BigInteger, SmallInteger, String, Text, Uuid)
"""The types of keys that one bind has many of: as one by one they would take longer than to read all rows."""


class Secured:
    """Of one index. `_tables` are the database's tables with row security, by schema and name, as they were read
    last."""

    def __init__(self, index: Index, clock: Callable[[], float] = time.monotonic) -> None:
        self._index = index
        self._clock = clock
        self._tables: Collection[tuple[str | None, str]] = ()
        self._kept_until = 0.0

    def classes(self, names: Sequence[str], connection: Connection | None) -> list[Mapped]:
        """The mapped classes of these entities, of all where none is named, whose tables have row security."""
        if not self._index.store.scopes.has_row_security or not self._read(connection):
            return []
        mappings = sessions_of(self._index).mappings
        found = (mappings.named(name) for name in names or mappings.names())
        return [mapped for mapped in found if mapped is not None and self._has(mapped)]

    def _read(self, connection: Connection | None) -> Collection[tuple[str | None, str]]:
        if self._clock() >= self._kept_until:
            with self._index.preserving(connection) as conn:
                self._tables = self._index.store.scopes.secured_tables(conn)
            self._kept_until = self._clock() + KEPT_S
        return self._tables

    def _has(self, mapped: Mapped) -> bool:
        return any(self._is_secured(inner.tables) for inner in of_same_keys(mapped.owner))

    def _is_secured(self, tables: Iterable[FromClause]) -> bool:
        schemas = schema_map(self._index.engine)
        names = ((getattr(table, "schema", None), getattr(table, "name", "")) for table in tables)
        return any((schemas.get(schema, schema), name) in self._tables for schema, name in names)

    def rows(self, mapped: Mapped, prefix: str = "among") -> Among:
        """The ids of a class's rows that the connection may read."""
        cls = mapped.owner.class_
        ids = select(self._index.store.keys.id_text(mapped.id_columns(cls))).select_from(cls)
        return self.among(mapped, ids, cls, prefix)

    def among(self, mapped: Mapped, statement: Select[Any], cls: type, prefix: str = "among") -> Among:
        """The ids that a statement selects, without rows that the connection may not read."""
        wanted = self.readable(mapped, statement, cls)
        found = compiled(wanted, self._index.engine, prefix)
        attributes = key_attributes(mapped.mapper)
        if len(attributes) > 1 or type(attributes[0].type) not in LISTED:
            return found
        keys: list[Any] = []
        listed = attributes[0] == any_(bindparam("keys", keys, type_=ARRAY(attributes[0].type)))
        return replace(found, by_ids=by_ids(mapped, compiled(wanted.where(listed), self._index.engine, prefix), keys))

    def may_read(self, connection: Connection, mapped: Mapped, ref: Ref) -> bool:
        """Whether the connection may read the row of a record."""
        cls = mapped.owner.class_
        columns = [column for column, _ in mapped.id_columns(cls)]
        wanted = self.readable(mapped, select(*columns).select_from(cls), cls)
        return connection.execute(mapped.of_ids(wanted, [ref.id])).first() is not None

    def readable(self, mapped: Mapped, statement: Select[Any], cls: type) -> Select[Any]:
        """The statement without rows of subclasses that the connection may not read in the tables of these."""
        mapper: Mapper[Any] = inspect(cls)
        for inner in of_same_keys(mapper):
            joined = [each for each in inner.iterate_to_root() if each.local_table not in mapper.tables]
            tables = {each.local_table for each in joined}
            if mapper.polymorphic_on is None or not self._is_secured(tables):
                continue
            conditions = [each.inherit_condition for each in joined if each.inherit_condition is not None]
            present = exists(select(literal(1)).select_from(*tables).where(*conditions).correlate(*mapper.tables))
            statement = statement.where(or_(mapper.polymorphic_on != inner.polymorphic_identity, present))
        return mapped.without_concrete(statement, cls)


def by_ids(mapped: Mapped, found: Among, keys: Sequence[Any]) -> Callable[[Sequence[str]], Among]:
    """What gives a compiled subquery the keys of ids, in place of `keys`."""
    name, bind = next((name, bind) for name, bind in found.binds.items() if bind.value is keys)

    def for_ids(ids: Sequence[str]) -> Among:
        listed = [key for (key,) in mapped.keys_of(ids)]
        return replace(found, binds={**found.binds, name: bindparam(name, listed, type_=bind.type)})

    return for_ids
