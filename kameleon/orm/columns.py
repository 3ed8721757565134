"""The fields of a mapped class: its columns, read from its own table. Imports `values`, `errors` and `stores`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, JSON, Connection, TextClause, func, literal_column, select, text

from ..errors import InvalidFilter
from ..stores.tables import parts
from ..stores.values import IdText, Matches, bound
from ..values import Ref
from .mapping import KEYS_A_STATEMENT, Mapped


class ClassFields:
    """`Fields` of a mapped class; `entities` are those of its rows, `id_text` is the store's. Raises
    InvalidFilter for an unknown column."""

    def __init__(self, mapped: Mapped, cls: type, entities: Collection[str], id_text: IdText) -> None:
        self._mapped = mapped
        self._cls = cls
        self._id_text = id_text
        self._entities = entities

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        key_columns = [column for column, _ in self._mapped.id_columns(self._cls)]
        wanted = self._mapped.without_concrete(
            select(*key_columns, self._column(field)).select_from(self._cls), self._cls
        )
        refs = [ref for ref in refs if ref.entity in self._entities]
        found: dict[str, Any] = {}
        for part in parts(refs, KEYS_A_STATEMENT):
            for *key, value in connection.execute(self._mapped.of_ids(wanted, [ref.id for ref in part])):
                found[self._mapped.identity.id_of(key)] = value
        return {ref: found[ref.id] for ref in refs if ref.id in found}

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[Ref, Any]:
        matching, binds = bound(*self._own(matches, "m.tenant, m.entity_name, m.record_id"))
        keys = matching.columns(*map(literal_column, ("tenant", "entity_name", "record_id"))).subquery("m")
        ids = self._id_text(self._mapped.id_columns(self._cls))
        wanted = select(keys.c.entity_name, keys.c.record_id, keys.c.tenant, self._column(field))
        joined = wanted.select_from(self._cls).join(keys, keys.c.record_id == ids)
        rows = connection.execute(self._mapped.without_concrete(joined, self._cls), binds)
        return {Ref(*ref): value for *ref, value in rows}

    def facet(self, connection: Connection, matches: Matches, field: str, limit: int) -> list[tuple[Any, int]]:
        column = self._column(field)
        matching, binds = bound(*self._own(matches))
        counted = (
            select(column, func.count())
            .select_from(self._cls)
            .where(self._id_text(self._mapped.id_columns(self._cls)).in_(matching), column.is_not(None))
            .group_by(column)
            .order_by(func.count().desc(), column)
            .limit(limit)
        )
        own = self._mapped.without_concrete(counted, self._cls)
        return [(value, count) for value, count in connection.execute(own, binds)]

    def _own(self, matches: Matches, columns: str = "m.record_id") -> tuple[TextClause, Mapping[str, Any]]:
        """The matches that are rows of the class."""
        names = {f"own{place}": name for place, name in enumerate(self._entities)}
        entities = ", ".join(f":{name}" for name in names)
        own = f"SELECT {columns} FROM ({matches.sql}) AS m WHERE m.entity_name IN ({entities})"
        return text(own), {**matches.binds, **names}

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._cls.__mapper__.column_attrs.keys())  # type: ignore[attr-defined]

    def check(self, names: Sequence[str]) -> None:
        for name in names:
            self._column(name)

    def _column(self, name: str) -> Any:
        if name not in self.names:
            raise InvalidFilter(
                f"{self._cls.__name__} has no column {name!r:.80}. Known: {', '.join(sorted(self.names))}"
            )
        column = getattr(self._cls, name)
        if isinstance(column.type, JSON | ARRAY):
            raise InvalidFilter(
                f"{self._cls.__name__}.{name} holds lists and objects, which have no order and no facets"
            )
        return column
