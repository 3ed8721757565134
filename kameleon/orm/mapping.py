"""A searchable class of one database: the keys of its records, their content, and when that may have changed. Imports
`values`, `errors`, `content`, `stores` and `indexing`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from enum import Enum as PythonEnum
from typing import Any

from sqlalchemy import ClauseElement, Column, Connection, Dialect, Select, and_, false, inspect, select, update
from sqlalchemy.orm import InstanceState, Mapper, Session, aliased
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import PassiveFlag

from ..content import Content, check_entity, check_tenant, compose, items_of, normalize
from ..errors import InvalidInput, InvalidRecord
from ..indexing.classes import Definition
from ..stores.database_protocols import Connections
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import Ref
from .attributes import (
    attribute_names,
    column_attributes,
    defaulted,
    is_literal,
    loading,
    relationships,
    tenant_attribute,
    tenant_getter,
    watched,
    watched_columns,
)
from .declaration import ATTRIBUTE, Declaration, check_names, entity_of, of_same_keys, owner_of
from .identity import Identity, is_among, key_attributes, key_names, text_kind

KEYS_A_STATEMENT = 500
"""Bounds the primary keys in one condition. Chosen, not measured."""

KeyRowsOf = Callable[[Sequence[tuple[Any, str]], Sequence[Sequence[Any]]], Any]


class Mapped:
    """A mapped class that is searchable: it renders its objects' content, and loads it by record id."""

    def __init__(self, mapper: Mapper[Any], owner: Mapper[Any], declaration: Declaration, dialect: Dialect) -> None:
        self.mapper = mapper
        self.owner = owner
        self.declaration = declaration
        self.entity = check_entity(entity_of(mapper, declaration))
        self.identity = Identity(mapper.primary_key, dialect)
        check_names(mapper.class_, declaration)
        self.key_names = key_names(mapper)
        table: Any = owner.local_table
        self.write = update(table)  # the clause by which a session chooses the engine that it writes to
        if field := next((field for field in declaration.fields if field in mapper.relationships), None):
            raise InvalidInput(
                f"{mapper.class_.__name__}.{field} is a relationship: make its text with content=, "
                f"and name it in depends_on=[{field!r}]"
            )
        self._options = list(declaration.fields.values())
        names = attribute_names(mapper, declaration)
        self.columns = [name for field in names for name in column_attributes(mapper, field)]
        self._tenant = tenant_getter(mapper, declaration)
        self.has_tenants = self._tenant is not None
        self.paths = [relationships(mapper, path) for path in declaration.depends_on]
        links = [path[0] for path in self.paths]
        self.watched = watched(mapper, declaration, links)
        self._watched_columns = watched_columns(mapper, self.watched)
        self.defaulted = defaulted(mapper, declaration)
        self._links = [
            (link.key, [mapper.get_property_by_column(c).key for c in link.local_columns if not c.primary_key])
            for link in links
        ]
        self.is_literal = is_literal(mapper, declaration)
        self.has_weights = any(field.weight > 1 for field in self._options)

    @property
    def definition(self) -> Definition:
        """What the contents of its records depend on, as JSON has it; of functions whether there are any."""
        declared = self.declaration
        return {
            "fields": [
                {"name": name, "weight": int(field.weight), "index": field.index, "html": field.html}
                for name, field in declared.fields.items()
            ],
            "content": declared.content is not None,
            "when": declared.is_conditional,
            "tenant": tenant_attribute(self.mapper, declared) or declared.tenant is not None,
        }

    def ref(self, key: Sequence[Any]) -> Ref:
        return Ref(self.entity, self.identity.id_of(key))

    def key_of(self, obj: Any) -> Sequence[Any]:
        """The object's current primary key."""
        values = vars(obj)
        if all(name in values for name in self.key_names):
            return tuple(values[name] for name in self.key_names)
        return self.mapper.primary_key_from_instance(obj)

    def ref_of(self, obj: Any) -> Ref:
        return self.ref(self.key_of(obj))

    def content_of(self, obj: Any) -> Content | None:
        """Render an object's content; None if it is to be kept out of the index. Raises InvalidRecord."""
        declared = self.declaration
        try:
            if declared.when is not None and not declared.when(obj):
                return None
            values = [getattr(obj, field) for field in declared.fields]
            made: Any = declared.content(obj) if declared.content is not None else None
        except MemoryError:
            raise
        except Exception as error:  # the application's own code, which may raise anything
            raise InvalidRecord(
                f"the content of {self.entity} {self.key_of(obj)} could not be made: {type(error).__name__}: {error}"
            ) from error
        fields = [[value] if type(value) is str and value else items_of(plain(value)) for value in values]
        if not isinstance(made, str | None):
            raise InvalidRecord(f"content of {self.entity} returns a text, not {type(made).__name__}")
        text, emphasis, gaps, _, extent = compose(list(zip(fields, self._options, strict=True)))
        if declared.content is not None:
            text, gaps = made or "", ()
        tenant = self.tenant_of(obj)
        try:
            return Content(normalize(text), normalize(emphasis), gaps, tenant, extent)
        except InvalidRecord as error:
            raise InvalidRecord(f"{self.entity} {self.key_of(obj)}: {error}") from error

    def tenant_column(self, cls: type) -> Any:
        """The column of a mapped class that is the tenant; None for one without, and where it is made in Python."""
        name = tenant_attribute(self.mapper, self.declaration)
        return getattr(cls, name) if name and name in self.mapper.column_attrs else None

    def tenant_part(self, table: Any, dialect: Dialect) -> tuple[Any, str] | None:
        """The (column, kind) of a table that is the tenant, where SQL can make it."""
        name = tenant_attribute(self.mapper, self.declaration)
        columns = self.mapper.column_attrs[name].columns if name and name in self.mapper.column_attrs else []
        column = next((each for each in columns if isinstance(each, Column) and each.table is table), None)
        kind = None if column is None else text_kind(column, dialect)
        return None if kind is None else (column, kind)

    def tenant_of(self, obj: Any) -> str:
        """An object's tenant, "" of a class without. Raises InvalidRecord."""
        if self._tenant is None:
            return ""
        what = f"the tenant of {self.entity} {self.key_of(obj)}"
        try:
            tenant = self._tenant(obj)
        except MemoryError:
            raise
        except Exception as error:  # the application's own code, which may raise anything
            raise InvalidRecord(f"{what} could not be read: {type(error).__name__}: {error}") from error
        try:
            return check_tenant(tenant)
        except InvalidRecord as error:
            raise InvalidRecord(f"{what}: {error}") from error

    def is_changed(self, obj: Any, session: Session) -> bool:
        """Whether the content of an object of `session.dirty` may have changed since it was loaded or flushed."""
        if self.watched is None:
            return session.is_modified(obj)
        state: InstanceState[Any] = inspect(obj)
        return any(
            get_history(obj, name, PassiveFlag.PASSIVE_NO_INITIALIZE).has_changes()
            for name in self.watched & state.committed_state.keys()
        )

    def depends_on(self, assigned: Set[str] | None) -> bool:
        """Whether a statement that sets these database columns (None: any) may change a content."""
        return self._watched_columns is None or assigned is None or not self._watched_columns.isdisjoint(assigned)

    def is_expired(self, obj: Any) -> bool:
        """Whether a field of its content has to be read from the database again."""
        values = vars(obj)
        return any(name not in values for name in self.columns)

    def is_complete(self, obj: Any) -> bool:
        """Whether a new object's content is already the one that it will have once defaults have been filled in."""
        if self.declaration.is_read_later:
            return False
        values = vars(obj)
        is_filled = all(name in values for name in self.defaulted) and not self._has_expression(values)
        return is_filled and not any(
            link not in values and any(values.get(name) is not None for name in names) for link, names in self._links
        )

    def has_new_content(self, obj: Any, session: Session) -> bool:
        """Whether an edited object's content may have changed, and can be rendered without a query."""
        is_changed = not self.declaration.is_read_later and self.is_changed(obj, session) and not self.is_expired(obj)
        return is_changed and not self._has_expression(vars(obj))

    def _has_expression(self, values: Mapping[str, Any]) -> bool:
        return any(isinstance(values.get(name), ClauseElement) for name in self.columns)

    def load(self, connection: Connection, ids: Sequence[str]) -> Mapping[str, Content | None]:
        """Read the content of these ids' rows from the database; None for a row that is missing or kept out."""
        found: dict[str, Content | None] = dict.fromkeys(ids)
        for keys in parts(self.keys_of(ids), KEYS_A_STATEMENT):
            for obj in objects(connection, self.among(self.rows(), keys)):
                if self.is_of(type(obj)):
                    found[self.ref_of(obj).id] = self.content_of(obj)
        return found

    def without_row(self, connection: Connection, ids: Iterable[str]) -> list[str]:
        """The ids, of these, that no row of the table has."""
        missing = dict.fromkeys(ids)
        for keys in parts(self.keys_of(missing), KEYS_A_STATEMENT):
            for key in connection.execute(self.among(select(*key_attributes(self.mapper)), keys)):
                missing.pop(self.identity.id_of(key), None)
        return list(missing)

    def rows(self) -> Select[Any]:
        """A query of its objects in the order of their keys, with the related objects that they depend on."""
        of_table = self.declaration.of_table
        related = [] if of_table else [option for path in self.paths if (option := loading(path)) is not None]
        options = of_table.options if of_table else related
        return self.meeting(select(self.owner.class_).options(*options).order_by(*key_attributes(self.owner)))

    def meeting(self, statement: Select[Any]) -> Select[Any]:
        """The statement, for the rows that are records as far as SQL shows it."""
        of_table = self.declaration.of_table
        statement = self.declaration.keyed(statement)
        return statement if of_table is None or of_table.condition is None else statement.where(of_table.condition)

    def is_of(self, cls: type) -> bool:
        """Whether objects of the class belong to this entity."""
        return owner_of(inspect(cls), getattr(cls, ATTRIBUTE, None)) is self.owner

    def among(self, statement: Select[Any], keys: Sequence[Sequence[Any]]) -> Select[Any]:
        """The statement, for rows of these primary keys."""
        return statement.where(is_among(key_attributes(self.mapper), keys))

    def id_columns(self, cls: type) -> list[tuple[Any, str]]:
        """The (column, kind) parts of the primary key, of which SQL makes an id."""
        return [(getattr(cls, name), one.kind) for name, one in zip(self.key_names, self.identity.columns, strict=True)]

    def of_ids(self, statement: Select[Any], ids: Sequence[str]) -> Select[Any]:
        """The statement, for rows of these ids."""
        keys = self.keys_of(ids)
        return self.among(statement, keys) if keys else statement.where(false())

    def ranked(self, statement: Select[Any], cls: type, ids: Sequence[str], key_rows: KeyRowsOf) -> Select[Any]:
        """The statement, for rows of these ids in their order; `key_rows` is the store's."""
        keys = self.keys_of(ids)
        if not keys:
            return statement.where(false())
        hits = key_rows(self.id_columns(cls), keys)
        matches = (own == key for own, key in zip(key_attributes(self.mapper), hits.columns, strict=True))
        return self.without_concrete(statement, cls).join(hits.table, and_(*matches)).order_by(hits.place)

    def without_concrete(self, statement: Select[Any], cls: type) -> Select[Any]:
        """The statement without the rows of concrete subclasses, whose keys in a polymorphic union are their own."""
        mapper: Mapper[Any] = inspect(cls)
        kinds = mapper.polymorphic_on
        if kinds is None or not any(inner.concrete for inner in mapper.with_polymorphic_mappers if inner is not mapper):
            return statement
        return statement.where(kinds.in_([inner.polymorphic_identity for inner in of_same_keys(mapper)]))

    def keys_of(self, ids: Iterable[str]) -> list[tuple[Any, ...]]:
        """The primary keys of ids, without ids that this table cannot have."""
        return [key for id_ in ids if (key := self.identity.key_of(id_)) is not None]

    def dependent_ids(
        self, connection: Connection, path: Sequence[Any], depth: int, keys: Sequence[Sequence[Any]]
    ) -> Iterator[list[str]]:
        """The ids, in parts, of records that depend on an object of these keys over `depth` relationships of `path`."""
        statement, target = self.joined(path, depth)
        attributes = key_attributes(path[depth - 1].mapper, target)
        for part in parts(keys, KEYS_A_STATEMENT):
            found = connection.execute(statement.where(is_among(attributes, part)).distinct())
            for rows in found.partitions(IDS_A_STATEMENT):
                yield [self.identity.id_of(row) for row in rows]

    def lock_related(self, connection: Connection, ids: Sequence[str]) -> None:
        """Lock the rows that these records depend on until the transaction ends."""
        for path in self.paths:
            for depth, link in enumerate(path, 1):
                statement, target = self.joined(path, depth)
                locking = statement.order_by(*key_attributes(link.mapper, target)).with_for_update(read=True, of=target)
                for keys in parts(self.keys_of(ids), KEYS_A_STATEMENT):
                    connection.execute(self.among(locking, keys)).all()

    def lock(self, connections: Connections, connection: Connection, ids: Sequence[str]) -> None:
        """Lock the rows of records until the transaction ends, where the connection's role may: nothing else keeps
        another transaction, which moves one that the index does not have yet, from adding it under a second tenant."""
        if not self.has_tenants or not connections.may_lock(connection, self.mapper.tables):
            return
        columns = key_attributes(self.mapper)
        for keys in parts(self.keys_of(ids), KEYS_A_STATEMENT):
            connection.execute(self.among(select(*columns).order_by(*columns).with_for_update(read=True), keys)).all()

    def joined(self, path: Sequence[Any], depth: int) -> tuple[Select[Any], Any]:
        """A query of records' keys, joined over `depth` relationships, and the alias of the last."""
        cls = self.mapper.class_
        statement = select(*key_attributes(self.mapper)).select_from(cls)
        target: Any = cls
        for link in path[:depth]:
            nearer, target = target, aliased(link.entity)
            statement = statement.join(target, getattr(nearer, link.key))
        return statement, target


def objects(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    """Load mapped objects from the database in a session of their own, which leaves the transaction as it is."""
    with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
        yield from session.scalars(statement).unique()


def plain(value: Any) -> Any:
    """An attribute's value as a type that `items_of` takes."""
    if value is None or isinstance(value, str | int | float | Mapping):
        return value.value if isinstance(value, PythonEnum) else value
    if isinstance(value, PythonEnum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, bytes | bytearray | memoryview):
        return None
    if isinstance(value, Set):
        return sorted(str(plain(item)) for item in value)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return value
