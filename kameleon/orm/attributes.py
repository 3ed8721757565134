"""Which attributes and columns of a mapper the content of its records is made of. Imports `errors`."""

import itertools
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from sqlalchemy import CHAR, NCHAR, Column, ColumnElement, Enum, Integer, String, TypeDecorator, Uuid
from sqlalchemy.orm import Load, Mapper

from ..errors import InvalidInput
from .declaration import Declaration

QUERIED = ("dynamic", "write_only")
"""Relationships that load no objects: the content queries them."""


def watched(mapper: Mapper[Any], declaration: Declaration, links: Sequence[Any]) -> frozenset[str] | None:
    """The attributes whose change may change a content; None if any attribute may."""
    if declaration.is_conditional or not declaration.fields or callable(declaration.tenant):
        return None
    fields = [column_attributes(mapper, name) for name in attribute_names(mapper, declaration)]
    if not all(fields):
        return None
    columns = [column for names in fields for name in names for column in mapper.column_attrs[name].columns]
    if not all(isinstance(column, Column) for column in columns):
        return None
    if any(c.onupdate is not None or c.server_onupdate is not None or c.computed is not None for c in columns):
        return None
    keys = [*mapper.primary_key, *(column for link in links for column in link.local_columns)]
    own = (mapper.get_property_by_column(column).key for column in keys)
    return frozenset({*itertools.chain.from_iterable(fields), *own, *(link.key for link in links)})


def tenant_attribute(mapper: Mapper[Any], declaration: Declaration) -> str | None:
    """The attribute that is the tenant, None where there is none or a function. Raises InvalidInput."""
    given = declaration.tenant
    if isinstance(given, ColumnElement):
        found = _attribute_of(mapper, given)
        if found is None:
            raise InvalidInput(f"{given} is no column of {mapper.class_.__name__}, so it cannot be its tenant")
        return found
    if not isinstance(given, str):
        return None
    if given in mapper.relationships:
        columns = " or ".join(
            sorted(mapper.get_property_by_column(c).key for c in mapper.relationships[given].local_columns)
        )
        raise InvalidInput(
            f"{mapper.class_.__name__}.{given} is a relationship: name the column that it goes by, tenant={columns!r}"
        )
    return given


def _attribute_of(mapper: Mapper[Any], column: ColumnElement[Any]) -> str | None:
    """The attribute of a column, or, of a class whose table is its own, of the column of that name."""
    attributes = [(attribute.key, each) for attribute in mapper.column_attrs for each in attribute.columns]
    name = getattr(column, "name", None)
    own = [key for key, each in attributes if each is column]
    return next(iter(own or [key for key, each in attributes if getattr(each, "name", None) == name]), None)


def tenant_getter(mapper: Mapper[Any], declaration: Declaration) -> Callable[[Any], Any] | None:
    """What returns the tenant of an object; None for a class without."""
    name = tenant_attribute(mapper, declaration)
    if name is not None:
        return lambda obj: getattr(obj, name)
    return declaration.tenant if callable(declaration.tenant) else None


def attribute_names(mapper: Mapper[Any], declaration: Declaration) -> tuple[str, ...]:
    """The attributes that a record is made of: the fields, and the tenant."""
    tenant = tenant_attribute(mapper, declaration)
    return (*declaration.fields, *([] if tenant is None else [tenant]))


def watched_columns(mapper: Mapper[Any], names: Set[str] | None) -> frozenset[str] | None:
    """The names of the database's columns behind watched attributes, and of the discriminator of subclasses."""
    kinds = [each.polymorphic_on for each in mapper.iterate_to_root() if each.polymorphic_on is not None]
    if names is None or not all(isinstance(column, Column) for column in kinds):
        return None
    attributes = [mapper.column_attrs[name] for name in names if name in mapper.column_attrs]
    columns = [column for attribute in attributes for column in attribute.columns]
    return frozenset(str(column.name) for column in [*columns, *kinds])


def column_attributes(mapper: Mapper[Any], name: str) -> tuple[str, ...]:
    """The column attributes that an attribute stands for, itself or those of a synonym or a composite; empty where
    neither is found."""
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
        attributes = column_attributes(mapper, name) if isinstance(name, str) else ()
        if attributes:
            found.update(column.name for each in attributes for column in mapper.column_attrs[each].columns)
        elif (column := getattr(name, "name", name)) in own:
            found.add(column)
        else:
            return None
    return frozenset(found)


def is_literal(mapper: Mapper[Any], declaration: Declaration) -> bool:
    """Whether a new object's content is that of its row: it is made of texts and whole numbers, as they are."""
    if declaration.content is not None or declaration.is_conditional or callable(declaration.tenant):
        return False
    tenant = tenant_attribute(mapper, declaration)
    return all(_is_literal(mapper, field, String, Integer) for field in declaration.fields) and (
        tenant is None or (_is_literal(mapper, tenant, String, Integer, Uuid) and not _is_padded(mapper, tenant))
    )


def _is_literal(mapper: Mapper[Any], name: str, *types: type) -> bool:
    return name in mapper.column_attrs and all(
        isinstance(column, Column)
        and isinstance(column.type, types)
        and not isinstance(column.type, Enum | TypeDecorator)
        and getattr(column.type, "as_uuid", True)
        for column in mapper.column_attrs[name].columns
    )


def _is_padded(mapper: Mapper[Any], name: str) -> bool:
    """PostgreSQL fills such a text up with blanks."""
    return any(isinstance(column.type, CHAR | NCHAR) for column in mapper.column_attrs[name].columns)


def defaulted(mapper: Mapper[Any], declaration: Declaration) -> tuple[str, ...]:
    """The attributes of the content that a flush may fill in."""
    return tuple(
        name
        for name in attribute_names(mapper, declaration)
        if name in mapper.column_attrs
        for column in mapper.column_attrs[name].columns
        if isinstance(column, Column)
        and not column.primary_key
        and (column.default is not None or column.server_default is not None)
    )


def relationships(mapper: Mapper[Any], path: str) -> tuple[Any, ...]:
    """The relationships of a dotted path. Raises InvalidInput."""
    links: list[Any] = []
    for name in path.split("."):
        if name not in mapper.relationships:
            names = ", ".join(sorted(mapper.relationships.keys())) or "none"
            raise InvalidInput(f"{mapper.class_.__name__}.{name} is no relationship. It has: {names}")
        links.append(mapper.relationships[name])
        mapper = links[-1].mapper
    return tuple(links)


def loading(path: Sequence[Any]) -> Any:
    """The option that loads a path's objects, up to the first relationship that loads none; None for nothing to
    load."""
    option: Any = None
    for link in itertools.takewhile(lambda link: link.lazy not in QUERIED, path):
        option = (option or Load(link.parent.class_)).selectinload(link.class_attribute)
    return option
