"""Finds the searchable classes of one database, and which records depend on objects of a class. Imports `errors`,
`forking` and `indexing`."""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import RLock
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import Dialect, inspect
from sqlalchemy.orm import Mapper

from ..errors import InvalidInput, seen
from ..forking import per_process
from ..indexing.classes import Definition
from .attributes import relationships
from .declaration import (
    ATTRIBUTE,
    declared_mappers,
    entity_of,
    has_table,
    mapper_of,
    of_same_keys,
    owner_of,
    qualified_name,
    version,
)
from .mapping import Mapped

UNRESOLVED = object()


@dataclass(frozen=True, slots=True)
class Dependent:
    """Records of `mapped` depend on objects of a class over the first `depth` relationships of `path`."""

    mapped: Mapped
    path: tuple[Any, ...]
    depth: int


class Mappings:
    """The searchable classes of one database, each resolved at its first use.

    Threads share it: what is resolved is read without a lock, from dictionaries that are replaced as a whole when a
    class was declared since; resolving holds the lock.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._mapped: dict[type, Mapped | None] = {}
        self._dependents: dict[type, tuple[Dependent, ...]] = {}
        self._owners: WeakValueDictionary[str, type] = WeakValueDictionary()
        self._by_entity: dict[str, Mapped] = {}
        self._made: dict[str, type] = {}
        self._compared: dict[str, object] = {}
        self._version: object = None
        self._boosted: tuple[object, frozenset[str]] = (None, frozenset())

    @per_process
    def _lock(self) -> RLock:
        return RLock()

    def add(self, entity: str, cls: type) -> None:
        """Add the class that was made of a table; it is of this database alone. A declared class of the same entity and
        table is used in its place."""
        with self._lock:
            self._made = {**self._made, entity: cls}
            self._forget(entity)

    def discard(self, entity: str) -> None:
        """Forget the class that was made of a table."""
        with self._lock:
            self._made = {name: cls for name, cls in self._made.items() if name != entity}
            self._forget(entity)

    def _forget(self, entity: str) -> None:
        self._owners.pop(entity, None)
        self._by_entity = {name: mapped for name, mapped in self._by_entity.items() if name != entity}
        self._version = None

    def of(self, cls: type) -> Mapped | None:
        """A class's mapping, None if it is not searchable. Raises InvalidInput where it cannot be."""
        if self._version is version() and (found := self._mapped.get(cls, UNRESOLVED)) is not UNRESOLVED:
            return found  # type: ignore[return-value]
        mapper = mapper_of(cls)  # configures the mappers, under SQLAlchemy's own lock
        with self._lock:
            self._refresh()
            if cls not in self._mapped:
                self._mapped[cls] = self._resolve(cls, mapper)
            return self._mapped[cls]

    def entities(self, mapped: Mapped) -> tuple[str, ...]:
        """Those of a class's rows, its subclasses' with the same keys among them."""
        inner = (self.of(mapper.class_) for mapper in of_same_keys(mapped.mapper))
        return tuple(dict.fromkeys(each.entity for each in inner if each is not None))

    def of_entity(self, entity: str) -> Mapped:
        return self._by_entity[entity]

    def definition(self, entity: str) -> Definition | None:
        """That of an entity that is a class which is resolved already."""
        mapped = self._by_entity.get(entity)
        return None if mapped is None else mapped.definition

    def tenanted(self, entities: Iterable[str]) -> set[str]:
        """Those of the entities that are classes with tenants."""
        return {name for name in entities if (mapped := self._by_entity.get(name)) and mapped.has_tenants}

    def searchable(self, cls: type) -> Mapped:
        """A class's mapping. Raises InvalidInput for a class that is not searchable."""
        mapped = self.of(cls) if isinstance(cls, type) else None
        if mapped is None:
            names = ", ".join(self.names()) or "none"
            raise InvalidInput(
                f"{seen(getattr(cls, '__name__', cls), 80)} is not searchable. Searchable: {names}. "
                "Declare it: @searchable(fields=[...])"
            )
        return mapped

    def names(self) -> list[str]:
        """The entities of every searchable class of this process that is mapped, of other databases, too."""
        return sorted(self._mappers_by_entity())

    def boosted(self) -> frozenset[str]:
        """The entities, of those that `names` has, whose classes are declared with boosts."""
        found_for, found = self._boosted
        if found_for is not (current := version()):
            mappers = self._mappers_by_entity().items()
            found = frozenset(n for n, of_name in mappers if any(getattr(m.class_, ATTRIBUTE).boosts for m in of_name))
            self._boosted = current, found
        return found

    def named(self, entity: str) -> Mapped | None:
        """The class of an entity that is resolved already, or is the only one of that name in this process."""
        found = self._by_entity.get(entity)
        if found is not None and not self._may_be_replaced(entity, found):
            self.of(found.owner.class_)  # it may have been declared again
        else:
            mappers = self._mappers_by_entity().get(entity, ())
            owners = {owner_of(mapper, getattr(mapper.class_, ATTRIBUTE)) for mapper in mappers}
            if len(owners) == 1:
                self.of(owners.pop().class_)
        return self._by_entity.get(entity)

    def _may_be_replaced(self, entity: str, found: Mapped) -> bool:
        """Whether classes were declared since a class that was made was last looked for."""
        if self._made.get(entity) is not found.owner.class_ or self._compared.get(entity) is version():
            return False
        self._compared[entity] = version()
        return True

    def all(self) -> list[Mapped]:
        """One an entity, by name, of the classes that `named` finds."""
        return [mapped for name in self.names() if (mapped := self.named(name)) is not None]

    def dependents(self, cls: type) -> tuple[Dependent, ...]:
        """The searchable classes whose content is made of this class's objects, too."""
        if self._version is not version() or (found := self._dependents.get(cls)) is None:
            mapper: Mapper[Any] = inspect(cls)
            with self._lock:
                self._refresh()
                found = self._dependents[cls] = tuple(
                    Dependent(mapped, path, depth)
                    for mapped in self._depending(mapper)
                    for path in mapped.paths
                    for depth, link in enumerate(path, 1)
                    if mapper.isa(link.mapper)
                )
        return found

    def _depending(self, mapper: Mapper[Any]) -> list[Mapped]:
        """One an entity, by name, of the classes that depend on objects of this one. Others are not resolved: they may
        belong to another database, and have the same names."""
        found: set[str] = set()
        for other in (mapper for of_name in self._mappers_by_entity().values() for mapper in of_name):
            paths = (relationships(other, path) for path in getattr(other.class_, ATTRIBUTE).depends_on)
            leads_here = any(mapper.isa(link.mapper) for path in paths for link in path)
            if leads_here and (mapped := self.of(other.class_)):
                found.add(mapped.entity)
        return [self._by_entity[name] for name in sorted(found)]

    def _refresh(self) -> None:
        if self._version is not (current := version()):
            self._mapped, self._dependents = {}, {}
            self._version = current

    def _resolve(self, cls: type, mapper: Mapper[Any] | None) -> Mapped | None:
        declaration = getattr(cls, ATTRIBUTE, None)
        if declaration is None or mapper is None or not has_table(mapper):
            return None
        owner = owner_of(mapper, declaration)
        mapped = Mapped(mapper, owner, declaration, self._dialect)
        self._own(mapped)
        if mapper is owner:
            self._by_entity[mapped.entity] = mapped
        elif mapped.entity not in self._by_entity:
            self.of(owner.class_)
        return mapped

    def _own(self, mapped: Mapped) -> None:
        """Note the class as that of its entity. Raises InvalidInput where another is."""
        cls, made, other = mapped.owner.class_, self._made.get(mapped.entity), self._owners.get(mapped.entity)
        if made is not None and made is other and _is_of_table(mapped.owner, inspect(made)):
            other = None
        is_former = mapped.declaration.of_table is not None and made is not cls
        if not is_former and other in (None, cls):
            self._owners[mapped.entity] = cls
            return
        if mapped.declaration.of_table is not None:
            raise InvalidInput(
                f"this class of the table {mapped.entity} was made before it was removed, defined otherwise or "
                f"declared as a class: search.table({mapped.entity!r}) returns the present one"
            )
        raise InvalidInput(
            f"two searchable classes are named {mapped.entity!r}: {qualified_name(other or cls)} and "
            f"{qualified_name(cls)}. Give one another name: @searchable(..., name='…')"
        )

    def _mappers_by_entity(self) -> dict[str, list[Mapper[Any]]]:
        found: dict[str, list[Mapper[Any]]] = {}
        for mapper in declared_mappers():
            found.setdefault(entity_of(mapper, getattr(mapper.class_, ATTRIBUTE)), []).append(mapper)
        for entity, cls in self._made.items():
            made: Mapper[Any] = inspect(cls)
            of_table = [mapper for mapper in found.get(entity, ()) if _is_of_table(mapper, made)]
            found[entity] = of_table or [made]
        return found


def _is_of_table(declared: Mapper[Any], made: Mapper[Any]) -> bool:
    """Whether a class is of the table that the other was made of: the name, and each column of the class. A schema that
    is not given is the connection's own."""
    first, second = declared.local_table, made.local_table
    same = getattr(first, "name", None) == getattr(second, "name", None)
    same = same and (getattr(first, "schema", None) or None) == (getattr(second, "schema", None) or None)
    return same and {column.name for column in first.c} <= {column.name for column in second.c}
