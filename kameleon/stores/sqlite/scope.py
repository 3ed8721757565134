"""Scopes in SQLite: conditions on `kdb_search AS s`, and the ids in them where they are few. Imports this package
alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from sqlalchemy import Connection, text

from ..filters import condition
from ..values import Key, Scope, bound
from . import statements as sql
from .rows import as_json
from .where import comparison, holding

LOOKED_AT, SAMPLED = 500, 200
"""Records of the best ones that a search reads; records of a sample. Chosen, not measured."""
LEAST_IDS, IDS_OVER = 100, 4
"""Ids are read up to a multiple of what they are estimated at: the estimate is of a sample. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class ResolvedScope:
    """A scope, read once a query: its `ids` where they are few, else `where` (a condition on `s`, "1" for every record)
    alone."""

    where: str
    binds: Mapping[str, Any]
    ids: Sequence[int] | None = None

    @property
    def is_all(self) -> bool:
        return self.where == "1"


@dataclass(eq=False)
class SQLiteScopes:
    """`phrase_sql` renders whether a record has a phrase, `rows` counts the records of the whole index."""

    _phrase_sql: Callable[[str, dict[str, Any]], str]
    _rows: Callable[[Connection], int]

    def resolve(self, connection: Connection, scope: Scope) -> ResolvedScope:
        """Reads the ids if they are `few`: to look these up costs as much as to read as many of the best records as
        have enough of them in the scope."""
        where, binds = self.sql(scope)
        resolved = ResolvedScope(where, binds)
        if resolved.is_all:
            return resolved
        rows = self._rows(connection)
        few = isqrt(LOOKED_AT * rows)
        if rows > few and self._estimate(connection, resolved) > few:
            return resolved
        select, inner = sql.IN_SCOPE.format(scope=where), binds
        if scope.filter is not None and scope == Scope(scope.entities, scope.filter):
            inner = {f"entity{n}": name for n, name in enumerate(scope.entities)}
            entities = f"kdb_records.entity_name IN ({', '.join(f':{name}' for name in inner)}) AND " if inner else ""
            select = sql.FILTERED.format(scope=entities + holding(scope.filter, inner))
        statement, values = bound(text(sql.UP_TO.format(select=select)), inner)
        most = max(few, LEAST_IDS) * IDS_OVER
        ids = json.loads(connection.scalar(statement, {**values, "most": most + 1}))
        return replace(resolved, ids=ids) if len(ids) <= most else resolved

    def _estimate(self, connection: Connection, resolved: ResolvedScope) -> int:
        """Estimates by a sample how many records are in the scope."""
        last = connection.scalar(sql.LAST_KEY) or 0
        sample = range(1, last + 1, max(1, last // SAMPLED))
        return len(self.within(connection, resolved, sample)) * last // max(1, len(sample))

    def within(self, connection: Connection, resolved: ResolvedScope, keys: Sequence[Key]) -> Sequence[int]:
        """Returns those of `keys` that are in the scope."""
        statement, binds = bound(text(sql.WHICH_IN_SCOPE.format(scope=resolved.where)), resolved.binds)
        return connection.execute(statement, {**binds, "ids": as_json(keys)}).scalars().all()

    def sql(self, scope: Scope) -> tuple[str, dict[str, Any]]:
        """Renders a condition on `s`, "1" for every record."""
        binds: dict[str, Any] = {f"entity{n}": name for n, name in enumerate(scope.entities)}
        conditions = []
        if scope.entities:
            conditions.append(f"s.entity_name IN ({', '.join(f':{name}' for name in binds)})")
        if scope.filter is not None:
            conditions.append(
                "EXISTS (SELECT 1 FROM kdb_records WHERE kdb_records.entity_name = s.entity_name "
                f"AND kdb_records.id = s.record_id AND {condition(scope.filter, binds, comparison)})"
            )
        if scope.among is not None:
            conditions.append(f"s.record_id IN ({scope.among.sql})")
            binds |= scope.among.binds
        if scope.without is not None:
            conditions.append("NOT (s.entity_name = :without_entity AND s.record_id = :without_id)")
            binds |= {"without_entity": scope.without.entity, "without_id": scope.without.id}
        for wanted, phrases in (("", scope.phrases), ("NOT ", scope.excluded)):
            rendered = (self._phrase_sql(phrase, binds) for phrase in phrases)
            conditions += [f"{wanted}({has_phrase})" for has_phrase in rendered if has_phrase]
        return " AND ".join(conditions) or "1", binds
