"""What makes a mapped class searchable: its declaration, and what that means for an object and for a row.

The entity of a class is the class that declares it; subclasses are of the same entity unless they declare anew. A class
with concrete inheritance has keys of its own, so it is an entity of its own.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum as PythonEnum
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from sqlalchemy import (
    ClauseElement,
    Column,
    Connection,
    Dialect,
    Enum,
    Integer,
    Select,
    String,
    Subquery,
    TypeDecorator,
    and_,
    event,
    false,
    inspect,
    select,
    update,
)
from sqlalchemy.orm import InstanceState, Load, Mapper, Session, aliased
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import PassiveFlag
from sqlalchemy.orm.exc import UnmappedClassError

from ..content import check_entity, emphasized, field_weights, normalize, text_of
from ..errors import InvalidInput, InvalidRecord
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import Ref
from .identity import Identity, is_among, key_attributes, key_names
from .pending import Put

KEYS_A_STATEMENT = 500
ATTRIBUTE = "__searchable__"
QUERIED = ("dynamic", "write_only")

T = TypeVar("T", bound=type)
KeyRowsOf = Callable[[Sequence[tuple[Any, str]], Sequence[Sequence[Any]]], Any]

declared: "WeakSet[type]" = WeakSet()
_declarations = itertools.count()
_newest = 0


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """`fields` by weight. `content` gives the text where it is not the fields' own."""

    fields: Mapping[str, int]
    content: Callable[[Any], str | None] | None
    when: Callable[[Any], bool] | None
    depends_on: tuple[str, ...]
    name: str | None


def searchable(
    *,
    fields: Iterable[str] | Mapping[str, float] | None = None,
    content: Callable[[Any], str | None] | None = None,
    when: Callable[[Any], bool] | None = None,
    depends_on: Iterable[str] = (),
    name: str | None = None,
) -> Callable[[T], T]:
    """Declare a mapped class searchable.

    `fields` are attributes whose text is the record's content, one a line. As a mapping they have weights: a word of
    weight 2 counts for keywords as if it stood there twice (whole numbers from 1 to 10). `content(object)` gives the
    text instead; `fields` beside it name the attributes it is made of, so that a change of others costs nothing.
    `when(object)` False keeps a record out of the index. `depends_on` names relationships ("author", "author.company")
    whose objects' texts are part of the content. `name` is the entity's, the class's own by default.

    Raises InvalidInput for what cannot be: at once, or, where the class is not mapped yet, when it is first used.
    """
    if isinstance(fields, str) or isinstance(depends_on, str):
        raise InvalidInput("fields and depends_on are lists of names")
    weights = field_weights(fields or ())
    if not weights and content is None:
        raise InvalidInput("searchable(fields=['title', 'body']) or searchable(content=...): one says what the text is")
    declaration = Declaration(weights, content, when, tuple(depends_on), name)

    def declare(cls: T) -> T:
        if name is not None:
            check_entity(name)
        if mapper_of(cls) is not None:
            _check_names(cls, declaration)
        setattr(cls, ATTRIBUTE, declaration)
        declared.add(cls)
        _forget_what_was_known()
        return cls

    return declare


def _check_names(cls: type, declaration: Declaration) -> None:
    """Of a mapped class: what a mixin, or one that is mapped later, will have is not known before."""
    names = [*declaration.fields, *(path.partition(".")[0] for path in declaration.depends_on)]
    if unknown := next((name for name in names if not hasattr(cls, name)), None):
        raise InvalidInput(f"{cls.__name__} has no attribute {unknown!r}. It has: {', '.join(_attributes(cls))}")


def _attributes(cls: type) -> list[str]:
    table = getattr(cls, "__table__", None)
    columns = list(table.columns.keys()) if table is not None else []
    return sorted({*columns, *(n for n in vars(cls) if not n.startswith("_"))} - {"metadata", "registry"})


@event.listens_for(Mapper, "after_configured")
def _forget_what_was_known() -> None:
    """A class was declared, or one that inherits a declaration may have been mapped."""
    global _newest
    _newest = next(_declarations)


class Mapped:
    """A searchable class of one database: who its objects are, what they say, and when that may have changed."""

    def __init__(self, mapper: Mapper[Any], owner: Mapper[Any], declaration: Declaration, dialect: Dialect) -> None:
        self.mapper = mapper
        self.owner = owner
        self.declaration = declaration
        self.entity = check_entity(_entity(mapper, declaration))
        self.identity = Identity(mapper.primary_key, dialect)
        _check_names(mapper.class_, declaration)
        self.key_names = key_names(mapper)
        table: Any = owner.local_table
        self.write = update(table)  # what a session that reads elsewhere than it writes is asked with
        fields = tuple(name for field in declaration.fields for name in _column_attributes(mapper, field))
        for field in declaration.fields:
            if field in mapper.relationships:
                raise InvalidInput(
                    f"{mapper.class_.__name__}.{field} is a relationship: say its text with content=, "
                    f"and name it in depends_on=[{field!r}]"
                )
        links = [_relationships(mapper, path) for path in declaration.depends_on]
        self.paths = tuple(links)
        self.watched = _watched(mapper, declaration, [path[0] for path in links])
        self._watched_columns = _watched_columns(mapper, self.watched)
        self.defaulted = _defaulted(mapper, declaration)
        self.columns = fields
        self._links = [
            (path[0].key, [mapper.get_property_by_column(c).key for c in path[0].local_columns if not c.primary_key])
            for path in links
        ]
        self.is_literal = _is_literal(mapper, declaration)
        self._has_weights = any(weight > 1 for weight in declaration.fields.values())

    def ref(self, key: Sequence[Any]) -> Ref:
        return Ref(self.entity, self.identity.id_of(key))

    def key_of(self, obj: Any) -> Sequence[Any]:
        """The primary key as the object has it now."""
        values = vars(obj)
        if all(name in values for name in self.key_names):
            return tuple(values[name] for name in self.key_names)
        return self.mapper.primary_key_from_instance(obj)

    def ref_of(self, obj: Any) -> Ref:
        return self.ref(self.key_of(obj))

    def said(self, obj: Any) -> Put | None:
        """What the object says; None if it is to be kept out of the index. Raises InvalidRecord."""
        asked = self.declaration
        try:
            if asked.when is not None and not asked.when(obj):
                return None
            values = [getattr(obj, field) for field in asked.fields]
            content: Any = asked.content(obj) if asked.content is not None else None
        except Exception as error:
            raise InvalidRecord(
                f"{self.entity} {self.key_of(obj)} cannot say what it says: {type(error).__name__}: {error}"
            ) from error
        texts = [value if type(value) is str else text_of(plain(value)) for value in values]
        if asked.content is None:
            content = "\n".join(filter(None, texts))
        elif not isinstance(content, str | None):
            raise InvalidRecord(f"content of {self.entity} gives text, not {type(content).__name__}")
        emphasis = ""
        if self._has_weights:
            emphasis = emphasized(zip(texts, asked.fields.values(), strict=True))
        try:
            return Put(normalize(content or ""), normalize(emphasis))
        except InvalidRecord as error:
            raise InvalidRecord(f"{self.entity} {self.key_of(obj)}: {error}") from error

    def is_changed(self, obj: Any, session: Session) -> bool:
        """Whether what an object of `session.dirty` says may have changed since it was loaded or flushed."""
        if self.watched is None:
            return session.is_modified(obj)
        state: InstanceState[Any] = inspect(obj)
        return any(
            get_history(obj, name, PassiveFlag.PASSIVE_NO_INITIALIZE).has_changes()
            for name in self.watched & state.committed_state.keys()
        )

    def depends_on(self, assigned: Set[str] | None) -> bool:
        """Whether a statement that sets these database columns (None: it is not known which) may change a content."""
        return self._watched_columns is None or assigned is None or not self._watched_columns.isdisjoint(assigned)

    def is_expired(self, obj: Any) -> bool:
        """Whether something that it says has to be read from the database anew."""
        values = vars(obj)
        return any(name not in values for name in self.columns)

    def is_complete(self, obj: Any) -> bool:
        """Whether a new object says already what it will say once defaults have been filled in."""
        values = vars(obj)
        is_filled = all(name in values for name in self.defaulted) and not self._has_expression(values)
        return is_filled and not any(
            link not in values and any(values.get(name) is not None for name in names) for link, names in self._links
        )

    def is_told(self, obj: Any, session: Session) -> bool:
        """Whether an edited object says something new, and has it at hand."""
        is_changed = self.is_changed(obj, session) and not self.is_expired(obj)
        return is_changed and not self._has_expression(vars(obj))

    def _has_expression(self, values: Mapping[str, Any]) -> bool:
        return any(isinstance(values.get(name), ClauseElement) for name in self.columns)

    def load(self, connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, Put | None]]:
        """What the rows of these ids say, read from the database; None for a row that is not there or kept out."""
        found: dict[str, Put | None] = dict.fromkeys(ids)
        for keys in parts(self._keys(ids), KEYS_A_STATEMENT):
            for obj in objects(connection, self.among(self.rows(), keys)):
                if self.is_of(type(obj)):
                    found[self.ref_of(obj).id] = self.said(obj)
        yield from found.items()

    def rows(self) -> Select[Any]:
        """Its objects by key, with what they depend on."""
        loading = [option for path in self.paths if (option := _loading(path)) is not None]
        return select(self.owner.class_).options(*loading).order_by(*key_attributes(self.owner))

    def is_of(self, cls: type) -> bool:
        """Whether objects of the class are of this entity."""
        return _owner(inspect(cls), getattr(cls, ATTRIBUTE, None)) is self.owner

    def among(self, statement: Select[Any], keys: Sequence[Sequence[Any]]) -> Select[Any]:
        """The statement's rows of these primary keys."""
        return statement.where(is_among(key_attributes(self.mapper), keys))

    def id_columns(self, cls: type) -> list[tuple[Any, str]]:
        """The (column, kind) parts of the primary key, of which SQL makes an id."""
        return [(getattr(cls, name), one.kind) for name, one in zip(self.key_names, self.identity.columns, strict=True)]

    def of_ids(self, statement: Select[Any], ids: Sequence[str]) -> Select[Any]:
        """The statement's rows of these ids."""
        keys = self._keys(ids)
        return self.among(statement, keys) if keys else statement.where(false())

    def ranked(self, statement: Select[Any], cls: type, ids: Sequence[str], key_rows: KeyRowsOf) -> Select[Any]:
        """The statement's rows of these ids, in their order; `key_rows` is the store's."""
        keys = self._keys(ids)
        if not keys:
            return statement.where(false())
        hits = key_rows(self.id_columns(cls), keys)
        matches = (own == key for own, key in zip(key_attributes(self.mapper), hits.columns, strict=True))
        return self.own(statement, cls).join(hits.table, and_(*matches)).order_by(hits.place)

    def own(self, statement: Select[Any], cls: type) -> Select[Any]:
        """The statement without rows of concrete subclasses, which a polymorphic union has with keys of their own."""
        mapper: Mapper[Any] = inspect(cls)
        kinds = mapper.polymorphic_on
        if kinds is None or not any(inner.concrete for inner in mapper.with_polymorphic_mappers if inner is not mapper):
            return statement
        return statement.where(kinds.in_([inner.polymorphic_identity for inner in of_same_keys(mapper)]))

    def _keys(self, ids: Iterable[str]) -> list[tuple[Any, ...]]:
        """Primary keys of ids that this table can have."""
        return [key for id_ in ids if (key := self.identity.key_of(id_)) is not None]

    def owners(
        self, connection: Connection, path: Sequence[Any], depth: int, keys: Sequence[Sequence[Any]]
    ) -> Iterator[list[str]]:
        """Slices of the ids of records that reach, over `depth` relationships of `path`, an object of these keys."""
        statement, target = self._reach(path, depth)
        attributes = key_attributes(path[depth - 1].mapper, target)
        for part in parts(keys, KEYS_A_STATEMENT):
            found = connection.execute(statement.where(is_among(attributes, part)).distinct())
            for rows in found.partitions(IDS_A_STATEMENT):
                yield [self.identity.id_of(row) for row in rows]

    def hold_links(self, connection: Connection, ids: Sequence[str]) -> None:
        """Nobody changes what these records depend on before the transaction ends."""
        for path in self.paths:
            for depth, link in enumerate(path, 1):
                statement, target = self._reach(path, depth)
                held = statement.order_by(*key_attributes(link.mapper, target)).with_for_update(read=True, of=target)
                for keys in parts(self._keys(ids), KEYS_A_STATEMENT):
                    connection.execute(self.among(held, keys)).all()

    def _reach(self, path: Sequence[Any], depth: int) -> tuple[Select[Any], Any]:
        """Keys of records, joined over relationships to what they depend on; and that."""
        cls = self.mapper.class_
        statement = select(*key_attributes(self.mapper)).select_from(cls)
        target: Any = cls
        for link in path[:depth]:
            nearer, target = target, aliased(link.entity)
            statement = statement.join(target, getattr(nearer, link.key))
        return statement, target


def objects(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    """Mapped objects as the database has them now, in a session of their own that leaves the transaction as it is."""
    with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
        yield from session.scalars(statement).unique()


def _watched(mapper: Mapper[Any], declaration: Declaration, links: Sequence[Any]) -> frozenset[str] | None:
    """The attributes whose change may change a content; None if any may."""
    fields = [_column_attributes(mapper, field) for field in declaration.fields]
    if declaration.when or not fields or not all(fields):
        return None
    columns = [column for names in fields for name in names for column in mapper.column_attrs[name].columns]
    if not all(isinstance(column, Column) for column in columns):
        return None
    if any(c.onupdate is not None or c.server_onupdate is not None or c.computed is not None for c in columns):
        return None
    keys = [*mapper.primary_key, *(column for link in links for column in link.local_columns)]
    own = (mapper.get_property_by_column(column).key for column in keys)
    return frozenset({*itertools.chain.from_iterable(fields), *own, *(link.key for link in links)})


def _watched_columns(mapper: Mapper[Any], watched: Set[str] | None) -> frozenset[str] | None:
    """The names of the database's columns behind watched attributes, and of the one that tells subclasses apart."""
    kinds = [each.polymorphic_on for each in mapper.iterate_to_root() if each.polymorphic_on is not None]
    if watched is None or not all(isinstance(column, Column) for column in kinds):
        return None
    attributes = [mapper.column_attrs[name] for name in watched if name in mapper.column_attrs]
    columns = [column for attribute in attributes for column in attribute.columns]
    return frozenset(str(column.name) for column in [*columns, *kinds])


def _column_attributes(mapper: Mapper[Any], name: str) -> tuple[str, ...]:
    """The column attributes that an attribute stands for, itself or those of a synonym or a composite; empty where that
    is not known."""
    while name in mapper.synonyms:
        name = mapper.synonyms[name].name
    if name in mapper.composites:
        return tuple(prop.key for prop in mapper.composites[name].props)
    return (name,) if name in mapper.column_attrs else ()


def assigned_columns(mapper: Mapper[Any], names: Iterable[Any]) -> frozenset[str] | None:
    """The names of the database's columns that a statement sets, given as columns, or as names of attributes or
    columns; None where one of them is neither."""
    found: set[str] = set()
    own = {column.name for table in mapper.tables for column in table.c}
    for name in names:
        attributes = _column_attributes(mapper, name) if isinstance(name, str) else ()
        if attributes:
            found.update(column.name for each in attributes for column in mapper.column_attrs[each].columns)
        elif (column := getattr(name, "name", name)) in own:
            found.add(column)
        else:
            return None
    return frozenset(found)


def _is_literal(mapper: Mapper[Any], declaration: Declaration) -> bool:
    """Whether what a new object says is what its row will say: texts and whole numbers, as they are."""
    if declaration.content is not None or declaration.when is not None:
        return False
    return all(
        field in mapper.column_attrs
        and all(
            isinstance(column, Column)
            and isinstance(column.type, String | Integer)
            and not isinstance(column.type, Enum | TypeDecorator)
            for column in mapper.column_attrs[field].columns
        )
        for field in declaration.fields
    )


def _defaulted(mapper: Mapper[Any], declaration: Declaration) -> tuple[str, ...]:
    """The attributes that a flush may fill in and a text may be made of."""
    return tuple(
        name
        for name in declaration.fields
        if name in mapper.column_attrs
        for column in mapper.column_attrs[name].columns
        if isinstance(column, Column)
        and not column.primary_key
        and (column.default is not None or column.server_default is not None)
    )


def plain(value: Any) -> Any:
    """An attribute's value as `say` takes it."""
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


def _loading(path: Sequence[Any]) -> Any:
    """Loads what a path reaches, up to a relationship that is no collection of loaded objects: a content queries it."""
    loading: Any = None
    for link in itertools.takewhile(lambda link: link.lazy not in QUERIED, path):
        loading = (loading or Load(link.parent.class_)).selectinload(link.class_attribute)
    return loading


def _relationships(mapper: Mapper[Any], path: str) -> tuple[Any, ...]:
    links: list[Any] = []
    for name in path.split("."):
        if name not in mapper.relationships:
            known = ", ".join(sorted(mapper.relationships.keys())) or "none"
            raise InvalidInput(f"{mapper.class_.__name__}.{name} is no relationship. It has: {known}")
        links.append(mapper.relationships[name])
        mapper = links[-1].mapper
    return tuple(links)


@dataclass(frozen=True, slots=True)
class Dependent:
    """`mapped`'s records depend on objects of a class that they reach over `depth` relationships of `path`."""

    mapped: Mapped
    path: tuple[Any, ...]
    depth: int


class Mappings:
    """The searchable classes of one database, found as they are met."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[type, Mapped | None] = {}
        self._owners: WeakValueDictionary[str, type] = WeakValueDictionary()
        self._by_entity: dict[str, Mapped] = {}
        self._dependents: dict[type, tuple[Dependent, ...]] = {}
        self._seen = -1

    def of(self, cls: type) -> Mapped | None:
        """A class's mapping, None if it is not searchable. Raises InvalidInput where it cannot be."""
        self._refresh()
        if cls in self._known:
            return self._known[cls]
        found = self._known[cls] = self._resolve(cls)
        return found

    def of_entity(self, entity: str) -> Mapped:
        return self._by_entity[entity]

    def names(self) -> list[str]:
        """The entities of every searchable class of this process that is mapped, of other databases, too."""
        return sorted({_entity(mapper, getattr(mapper.class_, ATTRIBUTE)) for mapper in _declared_mappers()})

    def named(self, entity: str) -> Mapped | None:
        """The class of an entity that is met already, or is the only one of that name in this process."""
        self._refresh()
        if entity not in self._by_entity:
            found = [
                mapper.class_
                for mapper in _declared_mappers()
                if _entity(mapper, getattr(mapper.class_, ATTRIBUTE)) == entity
            ]
            owners = {_owner(inspect(cls), getattr(cls, ATTRIBUTE)) for cls in found}
            if len(owners) == 1:
                self.of(owners.pop().class_)
        return self._by_entity.get(entity)

    def all(self) -> list[Mapped]:
        """One an entity, by name, of the classes that `named` finds."""
        return [mapped for name in self.names() if (mapped := self.named(name)) is not None]

    def dependents(self, cls: type) -> tuple[Dependent, ...]:
        """Whose content is made of this class's objects, too."""
        self._refresh()
        if cls not in self._dependents:
            mapper: Mapper[Any] = inspect(cls)
            self._dependents[cls] = tuple(
                Dependent(mapped, path, depth)
                for mapped in self._reaching(mapper)
                for path in mapped.paths
                for depth, link in enumerate(path, 1)
                if mapper.isa(link.mapper)
            )
        return self._dependents[cls]

    def _reaching(self, mapper: Mapper[Any]) -> list[Mapped]:
        """One an entity, by name, of the classes that name objects of this one. Others are not looked at: they may be
        another database's, of the same names."""
        found: set[str] = set()
        for other in _declared_mappers():
            paths = (_relationships(other, path) for path in getattr(other.class_, ATTRIBUTE).depends_on)
            leads_here = any(mapper.isa(link.mapper) for path in paths for link in path)
            if leads_here and (mapped := self.of(other.class_)):
                found.add(mapped.entity)
        return [self._by_entity[name] for name in sorted(found)]

    def _refresh(self) -> None:
        if self._seen != _newest:
            self._known, self._dependents = {}, {}
            self._seen = _newest

    def _resolve(self, cls: type) -> Mapped | None:
        declaration = getattr(cls, ATTRIBUTE, None)
        mapper = mapper_of(cls)
        if declaration is None or mapper is None or not has_table(mapper):
            return None
        owner = _owner(mapper, declaration)
        mapped = Mapped(mapper, owner, declaration, self._dialect)
        other = self._owners.setdefault(mapped.entity, owner.class_)
        if other is not owner.class_:
            raise InvalidInput(
                f"two searchable classes are named {mapped.entity!r}: {_whole(other)} and {_whole(owner.class_)}. "
                "Give one another name: @searchable(..., name='…')"
            )
        if mapper is owner:
            self._by_entity[mapped.entity] = mapped
        elif mapped.entity not in self._by_entity:
            self.of(owner.class_)
        return mapped


def mapper_of(cls: type) -> Mapper[Any] | None:
    """A class's mapper; None where it is not mapped, or not yet, as an abstract concrete base."""
    try:
        found: Mapper[Any] | None = inspect(cls, raiseerr=False)
    except UnmappedClassError:
        return None
    return found


def has_table(mapper: Mapper[Any]) -> bool:
    """False for an abstract concrete base, whose subclasses alone have rows."""
    return not isinstance(mapper.local_table, Subquery)


def _owner(mapper: Mapper[Any], declaration: Declaration | None) -> Mapper[Any]:
    while (
        not mapper.concrete
        and mapper.inherits is not None
        and getattr(mapper.inherits.class_, ATTRIBUTE, None) is declaration
    ):
        mapper = mapper.inherits
    return mapper


def of_same_keys(mapper: Mapper[Any]) -> Iterator[Mapper[Any]]:
    """The mapper and those that inherit it, without concrete ones, whose tables have keys of their own."""
    yield mapper
    for inner in mapper.self_and_descendants:
        if inner.inherits is mapper and not inner.concrete:
            yield from of_same_keys(inner)


def _entity(mapper: Mapper[Any], declaration: Declaration) -> str:
    return declaration.name or str(_owner(mapper, declaration).class_.__name__)


def _declared_mappers() -> Iterator[Mapper[Any]]:
    """Of every searchable class of this process."""
    for cls in list(declared):
        for inner in _with_subclasses(cls):
            if (mapper := mapper_of(inner)) is not None and has_table(mapper):
                yield mapper


def _with_subclasses(cls: type) -> Iterator[type]:
    yield cls
    subclasses: list[type] = cls.__subclasses__()
    for inner in subclasses:
        yield from _with_subclasses(inner)


def _whole(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
