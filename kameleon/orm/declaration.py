"""Declares mapped classes searchable, and finds the entity of each among the classes that inherit it. Imports `boosts`,
`errors` and `content`.

The entity of a class is the class that declares it; subclasses are of the same entity unless they declare another. A
class with concrete inheritance has keys of its own, so it is an entity of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import ColumnElement, Select, Subquery, event, inspect
from sqlalchemy.orm import Mapper, QueryableAttribute
from sqlalchemy.orm.exc import UnmappedClassError

from ..boosts import Boost, Boosts, read_boosts
from ..content import Field, SearchFields, check_entity, field_options
from ..errors import InvalidInput, seen

ATTRIBUTE = "__searchable__"

T = TypeVar("T", bound=type)
TenantOf = str | ColumnElement[Any] | Callable[[Any], Any]

declared: "WeakSet[type]" = WeakSet()
_version = object()


@dataclass(frozen=True, slots=True, eq=False)
class OfTable:
    """How rows are read of a class that was made of a table: `options` load the columns that a content is made of; rows
    that `has_key` leaves out have no id; those that do not meet the `condition` are no records."""

    options: tuple[Any, ...]
    has_key: tuple[ColumnElement[bool], ...]
    condition: ColumnElement[bool] | None


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """The arguments of `searchable`: `fields` by their options; `content` returns the text where it is not the fields'
    own. `tenant` is an attribute's name, a column of the table, or returns an object's. `of_table` is that of a class
    that was made of a table, None of a declared one."""

    fields: Mapping[str, Field]
    content: Callable[[Any], str | None] | None = None
    when: Callable[[Any], bool] | None = None
    depends_on: tuple[str, ...] = ()
    name: str | None = None
    tenant: TenantOf | None = None
    boosts: tuple[Boost, ...] = ()
    of_table: OfTable | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether rows may be kept out of the index."""
        return self.when is not None or self.is_read_later

    @property
    def is_read_later(self) -> bool:
        """Whether SQL alone shows if a row is a record."""
        return self.of_table is not None and self.of_table.condition is not None

    def keyed(self, statement: Select[Any]) -> Select[Any]:
        """The statement without rows that have no id, which a declared class does not have."""
        return statement.where(*self.of_table.has_key) if self.of_table else statement


def searchable(
    *,
    fields: SearchFields | None = None,
    content: Callable[[Any], str | None] | None = None,
    when: Callable[[Any], bool] | None = None,
    depends_on: Iterable[str] = (),
    name: str | None = None,
    tenant: TenantOf | QueryableAttribute[Any] | None = None,
    boost: Boosts = (),
) -> Callable[[T], T]:
    """Declare a mapped class searchable.

    `fields` are attributes whose text is the record's content, one a line. As a mapping they have weights, or all
    options of a `kameleon.Field`: {"title": 2, "body": Field(html=True), "code": Field(index="keyword")}; a word of
    weight 2 counts for keywords as if the text had it twice (whole numbers from 1 to 10). `content(object)` gives the
    text instead; `fields` beside it name the attributes it is made of, so that a change of others costs nothing.
    `when(object)` False keeps a record out of the index. `depends_on` names relationships ("author", "author.company")
    whose objects' texts are part of the content. `name` is the entity's, the class's own by default.

    `tenant` divides the records: an attribute ("org_id"), a column, or a function of the object, of a text, a whole
    number, a UUID or an Enum; None is the tenant "". A search names its tenants then, and a record moves with its own.

    `boost` are the boosts (`kameleon.boosts`) of every search that gives none of its own; the condition of one may be a
    function of the class: when(lambda cls: cls.stock > 0).

    Raises InvalidInput for what cannot be: at once, or, where the class is not mapped yet, when it is first used.
    """
    if isinstance(fields, str) or isinstance(depends_on, str):
        raise InvalidInput("fields and depends_on are lists of names")
    options = _checked_fields(fields or (), content)
    declaration = Declaration(options, content, when, tuple(depends_on), name, _checked(tenant), read_boosts(boost))
    return partial(_declare, declaration)


def _declare(declaration: Declaration, cls: T) -> T:
    if declaration.name is not None:
        check_entity(declaration.name)
    if mapper_of(cls) is not None:
        check_names(cls, declaration)
    setattr(cls, ATTRIBUTE, declaration)
    declared.add(cls)
    _renew_version()
    return cls


def _checked_fields(fields: SearchFields, content: object) -> dict[str, Field]:
    """Raises InvalidInput where nothing defines the text, or an option has no effect."""
    options = field_options(fields)
    if content is not None and any(field.html or field.index != "both" for field in options.values()):
        raise InvalidInput("content= makes the text, so that html and index of a field have no effect: leave them out")
    if not options and content is None:
        raise InvalidInput("searchable(fields=['title', 'body']) or searchable(content=...): one defines the text")
    return options


def _checked(tenant: object) -> TenantOf | None:
    """Raises InvalidInput for what cannot give a tenant."""
    if isinstance(tenant, QueryableAttribute):
        return str(tenant.key)
    if tenant is None or (isinstance(tenant, str) and tenant) or isinstance(tenant, ColumnElement) or callable(tenant):
        return tenant
    raise InvalidInput(f"tenant is an attribute's name, a column or a function of the object, not {seen(tenant)}")


def check_names(cls: type, declaration: Declaration) -> None:
    """Raises InvalidInput for attributes that a mapped class does not have; those of a mixin are not final."""
    names = [*declaration.fields, *(path.partition(".")[0] for path in declaration.depends_on)]
    names += [declaration.tenant] if isinstance(declaration.tenant, str) else []
    if unknown := next((name for name in names if not hasattr(cls, name)), None):
        raise InvalidInput(f"{cls.__name__} has no attribute {unknown!r}. It has: {', '.join(_attributes(cls))}")


def _attributes(cls: type) -> list[str]:
    table = getattr(cls, "__table__", None)
    columns = list(table.columns.keys()) if table is not None else []
    return sorted({*columns, *(n for n in vars(cls) if not n.startswith("_"))} - {"metadata", "registry"})


@event.listens_for(Mapper, "after_configured")
def _renew_version() -> None:
    """A class was declared, or one that inherits a declaration may have been mapped."""
    global _version
    _version = object()


def version() -> object:
    """Another object each time that classes may have become searchable."""
    return _version


def entity_of(mapper: Mapper[Any], declaration: Declaration) -> str:
    return declaration.name or str(owner_of(mapper, declaration).class_.__name__)


def declared_mappers() -> Iterator[Mapper[Any]]:
    """The mappers of every searchable class of this process."""
    for cls in list(declared):
        for inner in _with_subclasses(cls):
            if (mapper := mapper_of(inner)) is not None and has_table(mapper):
                yield mapper


def _with_subclasses(cls: type) -> Iterator[type]:
    yield cls
    subclasses: list[type] = cls.__subclasses__()
    for inner in subclasses:
        yield from _with_subclasses(inner)


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


def owner_of(mapper: Mapper[Any], declaration: Declaration | None) -> Mapper[Any]:
    """The mapper whose class made the declaration, or is the first with keys of its own."""
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


def qualified_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
