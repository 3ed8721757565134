"""Which records a change to a row of a table concerns: the row itself, and those that depend on it over relationships.
Imports `content`, `errors` and `stores`."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from sqlalchemy import Dialect, Select, Table, Text, and_, func, literal, select
from sqlalchemy.orm import Mapper, RelationshipProperty

from ..errors import InvalidInput
from ..stores.marking import Marking, ValueOf
from ..stores.protocols import Keys
from .identity import key_attributes, text_kind
from .mapping import Mapped


class Dependencies:
    """Of the classes of one database."""

    def __init__(self, keys: Keys, dialect: Dialect) -> None:
        self._keys = keys
        self._dialect = dialect

    def markings(self, mapped: Mapped, tables: Mapping[Table, Mapping[str, Mapped]]) -> list[Marking]:
        """For a class whose rows are in these tables, as those of the entities."""
        found: list[Marking] = []
        for table, entities in tables.items():
            tenant = self._tenant_part(table, entities.values())
            key = key_columns(mapped, table)
            found += [self._own(table, entity, key, tenant) for entity in sorted(entities)]
        inner = {entity: each for entities in tables.values() for entity, each in entities.items()}
        for entity in sorted(inner):
            for path in inner[entity].paths:
                for depth in range(1, len(path) + 1):
                    found += self._related(inner[entity], path, depth)
        return found

    def _tenant_part(self, table: Table, classes: Any) -> tuple[Any, str] | None:
        """The column of the table that is the tenant of its rows, of whichever of the classes they are."""
        found = {mapped.tenant_part(table, self._dialect) for mapped in classes}
        return found.pop() if len(found) == 1 else None

    def _own(
        self, table: Table, entity: str, key: Sequence[tuple[Any, str]], tenant: tuple[Any, str] | None
    ) -> Marking:
        def records(value_of: ValueOf) -> Select[Any]:
            id_ = self._keys.id_text([(value_of(column), kind) for column, kind in key])
            return self._selected(id_, entity, tenant and (value_of(tenant[0]), tenant[1]))

        linking = [column for column, _ in (*key, *([tenant] if tenant else []))]
        return Marking(table, entity, records, linking)

    def _selected(self, id_: Any, entity: str, tenant: tuple[Any, str] | None) -> Select[Any]:
        named: Any = literal(entity, Text)
        of: Any = func.coalesce(self._keys.id_text([tenant]), "") if tenant else literal("", Text)
        return select(of.label("tenant"), named.label("entity_name"), id_.label("record_id"))

    def _related(self, mapped: Mapped, path: Sequence[RelationshipProperty[Any]], depth: int) -> Iterator[Marking]:
        """Rows of the tables of the last of `depth` relationships, and of one between."""
        link = path[depth - 1]
        statement, target = mapped.joined(path, depth - 1)
        pairs = link.synchronize_pairs if link.secondary is not None else link.local_remote_pairs
        others = {*mapped.mapper.tables, *(table for each in path[: depth - 1] for table in tables_of(each))}
        near = [attribute(target, link.parent, local) for local, _ in pairs]
        far = [remote for _, remote in pairs]
        if isinstance(link.secondary, Table):
            yield self._marking(mapped, statement, near, far, None, others)
            inner = link.secondary_synchronize_pairs or ()
            between: Any = link.secondary.alias()
            matches = (own == between.c[column.key] for own, column in zip(near, far, strict=True))
            statement = statement.join(between, and_(*matches))
            near = [between.c[column.key] for _, column in inner]
            far = [column for column, _ in inner]
            others.add(link.secondary)
        tables = {column.table for column in far}
        if len(tables) == 1 and isinstance(next(iter(tables)), Table):
            yield self._marking(mapped, statement, near, far, watched(mapped, path, depth), others)
        yield from self._inherited(mapped, path, depth, tables, {*others, *link.mapper.tables})

    def _inherited(
        self, mapped: Mapped, path: Sequence[Any], depth: int, done: Set[Any], others: Set[Any]
    ) -> Iterator[Marking]:
        """Rows of the other tables that an object of the relationship's class is in."""
        mapper = path[depth - 1].mapper
        statement, target = mapped.joined(path, depth)
        near = key_attributes(mapper, target)
        for table in dict.fromkeys(table for each in mapper.self_and_descendants for table in each.tables):
            key = list(table.primary_key.columns) if isinstance(table, Table) else []
            if table not in done and len(key) == len(near):
                yield self._marking(mapped, statement, near, key, None, others)

    def _marking(
        self,
        mapped: Mapped,
        statement: Select[Any],
        near: Sequence[Any],
        far: Sequence[Any],
        watched: Sequence[Any] | None,
        others: Set[Any],
    ) -> Marking:
        cls = mapped.mapper.class_
        tenant = mapped.tenant_column(cls)
        kind = None if tenant is None else text_kind(tenant.property.columns[0], self._dialect)
        wanted = self._selected(
            self._keys.id_text(mapped.id_columns(cls)), mapped.entity, None if kind is None else (tenant, kind)
        )
        chosen = statement.with_only_columns(*wanted.selected_columns, maintain_column_froms=True).distinct()

        def records(value_of: ValueOf) -> Select[Any]:
            return chosen.where(*(own == value_of(column) for own, column in zip(near, far, strict=True)))

        read = [table for table in others if isinstance(table, Table)]
        return Marking(far[0].table, mapped.entity, records, far, watched, read)


def watched(mapped: Mapped, path: Sequence[RelationshipProperty[Any]], depth: int) -> Sequence[Any] | None:
    """The columns of which the content of a table entity is made; None for a class whose content is made in Python."""
    names = [link.key for link in path]
    fields = [field.rpartition(".")[::2] for field in mapped.declaration.fields if "." in field]
    if not any(prefix == ".".join(names) for prefix, _ in fields):
        return None
    table: Any = path[depth - 1].mapper.local_table
    own = [table.c[column] for prefix, column in fields if prefix == ".".join(names[:depth])]
    return [*own, *(path[depth].local_columns if depth < len(path) else ())]


def attribute(target: Any, mapper: Mapper[Any], column: Any) -> Any:
    return getattr(target, mapper.get_property_by_column(column).key)


def tables_of(link: RelationshipProperty[Any]) -> list[Any]:
    return [*link.mapper.tables, *([] if link.secondary is None else [link.secondary])]


def key_columns(mapped: Mapped, table: Table) -> list[tuple[Any, str]]:
    """The columns of a table that name its rows' records, with the kinds of the class's key. Raises InvalidInput."""
    own = [column for column in mapped.mapper.primary_key if column.table is table]
    columns = own or list(table.primary_key.columns)
    kinds = [column.kind for column in mapped.identity.columns]
    if len(columns) != len(kinds):
        raise InvalidInput(f"{table} cannot be tracked: it has no primary key that names its {mapped.entity}")
    return list(zip(columns, kinds, strict=True))
