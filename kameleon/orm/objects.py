"""Loads the mapped objects of hits through the caller's session. Imports `values`, `errors` and `content`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ExecutableOption

from ..content import check_tenant
from ..errors import InvalidInput, seen
from ..values import SearchResult, SearchResults
from .mapping import KeyRowsOf, Mapped
from .registry import Mappings

Options = Sequence[ExecutableOption]
Objects = Mapping[str, tuple[Any, str | None]]


class Loading:
    """Of one search. `load` is True, loader options of the one class that is searched, or those of each class."""

    def __init__(
        self, mappings: Mappings, key_rows: KeyRowsOf, session: Session | None, searched: Sequence[object], load: Any
    ) -> None:
        """Raises InvalidInput."""
        if session is None:
            raise InvalidInput(
                "load= loads objects through a session of yours: search(..., session=session, load=True)"
            )
        self._mappings = mappings
        self._key_rows = key_rows
        self._session = session
        classes = dict.fromkeys(one for one in searched if isinstance(one, type))
        self._options = options_by_class(load, list(classes))
        self._is_any = load is True and len(classes) < max(1, len(searched))
        self._classes: dict[str, type] = {}
        for cls in self._options:
            mapped = mappings.searchable(cls)
            self._classes |= dict.fromkeys(mappings.entities(mapped), cls)

    def load(self, found: SearchResults) -> SearchResults:
        """Give the hits their objects, with one statement for each class; those whose row the session does not find
        are left out."""
        by_class: dict[type, list[SearchResult]] = {}
        for hit in found:
            cls = self._class_of(hit)
            if cls is not None:
                by_class.setdefault(cls, []).append(hit)
        objects = {cls: self._objects(cls, hits) for cls, hits in by_class.items()}
        found.has_objects = True
        self._replace(found, {id(hit): objects[cls] for cls, hits in by_class.items() for hit in hits})
        return found

    def _class_of(self, hit: SearchResult) -> type | None:
        """The class that is selected for a hit: the one that was searched, or that of the entity; None for a stored
        record, and for one whose class is not to be loaded."""
        if hit.data is not None:
            return None
        if hit.entity not in self._classes and self._is_any:
            mapped = self._mappings.named(hit.entity)
            if mapped is not None:
                self._classes[hit.entity] = mapped.owner.class_
        return self._classes.get(hit.entity)

    def _objects(self, cls: type, hits: Iterable[SearchResult]) -> Objects:
        """The objects of hits by their ids; of a class with tenants each with its own."""
        mapped = self._mappings.searchable(cls)
        ids = list(dict.fromkeys(hit.id for hit in hits))
        column = mapped.tenant_column(cls)
        statement = mapped.ranked(select(cls) if column is None else select(cls, column), cls, ids, self._key_rows)
        rows = self._session.execute(statement.options(*self._options.get(cls, ()))).unique()
        return {id_of(mapped, obj): (obj, check_tenant(tenant[0]) if tenant else None) for obj, *tenant in rows}

    @staticmethod
    def _replace(found: SearchResults, objects: Mapping[int, Objects]) -> None:
        loaded = {id(hit): with_object(hit, objects.get(id(hit))) for hit in found}
        gone = sum(each is None for each in loaded.values())
        found.groups = {
            entity: [each for hit in hits if (each := loaded[id(hit)]) is not None]
            for entity, hits in found.groups.items()
        }
        found[:] = [each for hit in found if (each := loaded[id(hit)]) is not None]
        if gone:
            note = f"left out, because the session finds no row of theirs: {gone} of the page's hits"
            found.plan = replace(found.plan, note="; ".join(filter(None, (found.plan.note, note))))


def with_object(hit: SearchResult, objects: Objects | None) -> SearchResult | None:
    """The hit with its object, as it is where none is loaded; None where its row is gone, or another tenant's now."""
    if objects is None:
        return hit
    obj, tenant = objects.get(hit.id, (None, None))
    is_there = obj is not None and tenant in (None, hit.tenant)
    return replace(hit, object=obj) if is_there else None


def options_by_class(load: Any, classes: Sequence[type]) -> dict[type, Options]:
    """The loader options of each class that is to be loaded. Raises InvalidInput."""
    if load is True:
        return dict.fromkeys(classes, ())
    if isinstance(load, Mapping):
        for cls in load:
            if not isinstance(cls, type) or (classes and cls not in classes):
                names = ", ".join(one.__name__ for one in classes) or "mapped classes"
                raise InvalidInput(f"load= names {seen(getattr(cls, '__name__', cls))}, and searched are {names}")
        return {cls: checked(options) for cls, options in load.items()}
    options = checked(load)
    if len(classes) != 1:
        raise InvalidInput(
            "loader options are those of one class: name it with entity=, or give load={Article: [...], Product: []}"
        )
    return {classes[0]: options}


def checked(options: Any) -> Options:
    """Raises InvalidInput for what are no loader options."""
    is_list = isinstance(options, list | tuple)
    if not is_list or not all(isinstance(option, ExecutableOption) for option in options):
        raise InvalidInput(
            f"load= is True, a list of loader options such as [selectinload(Article.author)], or those of each class, "
            f"{{Article: [...]}}; not {seen(options)}"
        )
    return list(options)


def id_of(mapped: Mapped, obj: Any) -> str:
    """The id of a loaded object, by its key in the database."""
    return mapped.identity.id_of(inspect(obj).identity)
