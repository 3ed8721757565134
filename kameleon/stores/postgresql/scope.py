"""Scopes in PostgreSQL: conditions on a table of (entity_name, record_id). Imports this package alone."""

from collections.abc import Callable, Sequence
from typing import Any

from ..filters import Filter, condition
from ..values import Scope
from .templates import Templates
from .where import comparison


class PostgreSQLScopes:
    """`phrase_sql` renders whether the content of `s` has a phrase."""

    def __init__(self, templates: Templates, phrase_sql: Callable[[str, dict[str, Any]], str]) -> None:
        self._names = templates.names
        self._phrase_sql = phrase_sql

    def sql(self, scope: Scope, alias: str) -> tuple[str, dict[str, Any]]:
        """Renders a condition on `alias`."""
        binds: dict[str, Any] = {}
        conditions = []
        if scope.entities:
            conditions.append(f"{alias}.entity_name = ANY(:scope)")
            binds["scope"] = list(scope.entities)
        if scope.filter is not None:
            conditions.append(
                f"EXISTS (SELECT 1 FROM {self._names['records']} WHERE kdb_records.entity_name = {alias}.entity_name "
                f"AND kdb_records.id = {alias}.record_id AND {condition(scope.filter, binds, comparison)})"
            )
        if scope.among is not None:
            conditions.append(f"{alias}.record_id IN ({scope.among.sql})")
            binds |= scope.among.binds
        if scope.without is not None:
            conditions.append(f"({alias}.entity_name, {alias}.record_id) <> (:without_entity, :without_id)")
            binds |= {"without_entity": scope.without.entity, "without_id": scope.without.id}
        phrases = self._phrases(scope, binds)
        if phrases and alias == "s":
            conditions.append(phrases)
        elif phrases:
            conditions.append(
                f"EXISTS (SELECT 1 FROM {self._names['search']} AS s WHERE s.entity_name = {alias}.entity_name "
                f"AND s.record_id = {alias}.record_id AND {phrases})"
            )
        return " AND ".join(conditions) or "true", binds

    def _phrases(self, scope: Scope, binds: dict[str, Any]) -> str:
        """Renders which phrases the content of `s` has, and which not."""
        return " AND ".join(
            f"{wanted}({has_phrase})"
            for wanted, phrases in (("", scope.phrases), ("NOT ", scope.excluded))
            for has_phrase in (self._phrase_sql(phrase, binds) for phrase in phrases)
            if has_phrase
        )

    def of_records(self, filter_: Filter, entities: Sequence[str], binds: dict[str, Any]) -> str:
        """Renders the same on `kdb_records`, `:scope` being bound."""
        rendered = condition(filter_, binds, comparison)
        return f"kdb_records.entity_name = ANY(:scope) AND {rendered}" if entities else rendered
